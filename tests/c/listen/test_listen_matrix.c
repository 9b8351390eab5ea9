/* A hostile worker under another user asks for everything it can think of. What it may have is worked out here once more, from how
 * each request was made up, and after each grant the kernel is asked what is really bound. */
#include "figure.h"
#include "nobody.h"
#include <ftw.h>

/* -- What is asked for --------------------------------------------------------------------------------------------------- */

enum { REFUSED, GRANTED, NOT_GRANTED /* the kernel or the text is in the way, or the policy */ };

typedef struct {
    char address[512];
    int expected;
} request_t;

static request_t requests[2000];
static int request_count;

static void request(int expected, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(requests[request_count].address, sizeof requests[0].address, format, arguments);
    va_end(arguments);
    requests[request_count++].expected = expected;
}

enum { ALL, ZERO4, ONE4, TWO4, TEN4, ALL6, ONE6, OTHER6, MAPPED_ONE4, MAPPED_ZERO4 };

static void network_requests(void) {
    static const struct { const char *text; int host; } hosts[] = {
        {"", ALL}, {"*", ALL}, {"0.0.0.0", ZERO4}, {"127.0.0.1", ONE4}, {"127.0.0.2", TWO4}, {"10.0.0.1", TEN4}, {"[::]", ALL6},
        {"[0:0::0]", ALL6}, {"[::1]", ONE6}, {"[0:0:0:0:0:0:0:1]", ONE6}, {"[::1%lo]", ONE6}, {"[::127.0.0.1]", OTHER6},
        {"[fe80::1%lo]", OTHER6}, {"[::ffff:127.0.0.1]", MAPPED_ONE4}, {"[::ffff:7f00:1]", MAPPED_ONE4}, {"[::ffff:0.0.0.0]", MAPPED_ZERO4},
    };
    static const int ports[] = {0, 1, 22, 80, 443, 6999, 7000, 7005, 7009, 7010, 7100, 7200, 7300, 7400, 7401, 7402, 8080, 65535};
    for (size_t h = 0; h < sizeof hosts / sizeof hosts[0]; h++)
        for (size_t p = 0; p < sizeof ports / sizeof ports[0]; p++)
            for (int datagram = 0; datagram < 2; datagram++) {
                int host = hosts[h].host, port = ports[p], expected = REFUSED;
                int one = host == ONE4 || host == MAPPED_ONE4;
                if (!datagram && ((one && port >= 7000 && port <= 7009) || (host == ALL && port == 7100) || port == 7200 ||
                                  (host == ONE6 && (port == 7400 || port == 7401)) || (host == TWO4 && port == 0)))
                    expected = GRANTED;
                if (datagram && one && port == 7300) expected = GRANTED;
                /* Allowed, but not to be had: not an address of this machine. */
                if (expected == GRANTED && (host == TEN4 || host == OTHER6)) expected = NOT_GRANTED;
                request(expected, "%s%s:%d", datagram ? "udp:" : "", hosts[h].text, port);
            }
}

static void path_requests(void) {
    static const struct { const char *path; int expected; } paths[] = {
        {"allowed/a", GRANTED}, {"allowed/sub/b", GRANTED}, {"allowed/sub/deep/c", GRANTED}, {"allowed/..d", GRANTED}, {"allowed/sticky/e", GRANTED},
        {"single/only", GRANTED}, {"single/other", REFUSED}, {"single/only2", REFUSED}, {"outside/f", REFUSED}, {"allowedx/g", REFUSED}, {"h", REFUSED},
        {"allowed/link/i", REFUSED}, {"allowed/inner/j", REFUSED}, {"allowed/up/k", REFUSED}, {"allowed/root/tmp/l", REFUSED}, {"allowed/open/m", REFUSED},
        {"allowed/theirs/n", REFUSED}, {"allowed/sub/proc/o", REFUSED}, {"allowed/dangling", NOT_GRANTED}, {"allowed/pointer", NOT_GRANTED},
        {"allowed/missing/p", NOT_GRANTED}, {"allowed/%2e%2e/q", NOT_GRANTED}, {"allowed/.../r", NOT_GRANTED}, {"allowed/file", NOT_GRANTED},
        {"allowed/file/s", REFUSED},
    };
    const char *root = getenv("CHECK_DIR");
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        const char *path = paths[i].path, *name = strrchr(path, '/') == NULL ? path : strrchr(path, '/') + 1;
        int expected = paths[i].expected, folder = (int)(name - path);
        request(expected, "unix:%s/%s", root, path);
        request(expected, "unix:/%s//%.*s/%s", root, folder, path, name);
        request(expected, "unix:/.%s/./%.*s./%s", root, folder, path, name);
        request(REFUSED, "unix:%s/%s/", root, path);
        request(REFUSED, "unix:%s/%s/.", root, path);
        request(REFUSED, "unix:%s/%.*s../%.*s%s", root, folder, path, folder, path, name);
        request(REFUSED, "unix:%s/allowed/../%s", root, path);
        request(REFUSED, "unix:%s/allowed/sub/../../%s", root, path);
        request(REFUSED, "unix:%s", path);
    }
    request(REFUSED, "unix:/etc/cluster-matrix");
    request(REFUSED, "unix:/tmp/cluster-matrix");
    request(REFUSED, "unix:/proc/self/cwd/cluster-matrix");
    request(REFUSED, "unix:/proc/1/root/tmp/cluster-matrix");
    request(REFUSED, "unix:/");
    request(REFUSED, "unix://");
    request(REFUSED, "unix:/..");
    request(NOT_GRANTED, "unix:%s/allowed/%0250d", root, 1);
    request(GRANTED, "unix:%s/allowed/%060d", root, 1);
}

static void other_requests(void) {
    static const char *const names[] = {"matrix-app2", "matrix-ap", "MATRIX-APP", " matrix-app", "matrix-app ", "/matrix-app", "@matrix-app"};
    static const char *const nonsense[] = {
        "", ":", "unix:", "unix:@", "fd:", "fd:-1", "fd:x", "fd:99999999999", "127.0.0.1", "127.0.0.1:", "127.0.0.1:-1", "127.0.0.1:70000", "127.0.0.1:7000-7009",
        "127.0.0.1:*", "::1:7400", "[::1]7400", "[::1%]:7400", "[127.0.0.1]:7000", "localhost:7000", "127.1:7000", "0x7f.0.0.1:7000", "2130706433:7000",
        "127.0.0.1:7000 ", " 127.0.0.1:7000", "tcp:127.0.0.1:7000", "udp:unix:@matrix-app", "udp:fd:60", "UNIX:@matrix-app", "127.0.0.1:07000x",
    };
    request(GRANTED, "unix:@matrix-app");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) request(REFUSED, "unix:@%s", names[i]);
    for (int fd = 0; fd < 64; fd++) request(fd == 60 ? GRANTED : REFUSED, "fd:%d", fd);
    for (size_t i = 0; i < sizeof nonsense / sizeof nonsense[0]; i++) request(NOT_GRANTED, "%s", nonsense[i]);
}

static void make_requests(void) {
    network_requests();
    path_requests();
    other_requests();
    CHECK(request_count > 500);
}

/* -- What is bound --------------------------------------------------------------------------------------------------------- */

static char escaped[256];

/* A socket that listens, or takes datagrams, by the kernel's list. */
static int may_be_bound(const char *host, unsigned port, int version, int datagram) {
    static const char one4[] = "0100007F", two4[] = "0200007F", all6[] = "00000000000000000000000000000000", one6[] = "00000000000000000000000001000000";
    /* An IPv4 address on an IPv6 socket stands in the other list, written as IPv6. */
    if (version == 6 && strncmp(host, "0000000000000000FFFF0000", 24) == 0) return may_be_bound(host + 24, port, 4, datagram);
    if (datagram) return version == 4 && port == 7300 && strcmp(host, one4) == 0;
    if (port == 7200) return 1;
    if (version == 4) return (strcmp(host, one4) == 0 && port >= 7000 && port <= 7009) || (strcmp(host, two4) == 0 && port >= 1024) || port == 7999;
    return (strcmp(host, all6) == 0 && port == 7100) || (strcmp(host, one6) == 0 && (port == 7400 || port == 7401));
}

static void look_at_network(const char *list, int version, int datagram) {
    char line[512], host[64];
    FILE *file = fopen(list, "re");
    if (file == NULL) return; /* no IPv6 here */
    while (fgets(line, sizeof line, file) != NULL) {
        unsigned port, state;
        if (sscanf(line, " %*d: %63[0-9A-F]:%x %*[0-9A-F]:%*x %x", host, &port, &state) != 3) continue;
        if (!datagram && state != 10) continue; /* TCP_LISTEN */
        if (!may_be_bound(host, port, version, datagram)) snprintf(escaped, sizeof escaped, "%s: %.100s:%u", list, host, port);
    }
    fclose(file);
}

static void look_at_names(void) {
    char line[512];
    FILE *file = fopen("/proc/net/unix", "re");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
        char *name = strchr(line, '@');
        if (name != NULL && strcmp(name, "@matrix-app\n") != 0) snprintf(escaped, sizeof escaped, "/proc/net/unix: %.100s", name);
    }
    fclose(file);
}

static int look_at_file(const char *path, const struct stat *status, int type, struct FTW *where) {
    const char *inside = path + strlen(getenv("CHECK_DIR"));
    (void)type;
    (void)where;
    if (S_ISSOCK(status->st_mode) && strncmp(inside, "/allowed/", 9) != 0 && strcmp(inside, "/single/only") != 0 && strcmp(inside, "/outside/stale") != 0)
        snprintf(escaped, sizeof escaped, "socket file %.200s", path);
    if (S_ISSOCK(status->st_mode) && (strstr(inside, "/open/") || strstr(inside, "/theirs/"))) snprintf(escaped, sizeof escaped, "socket file %.200s", path);
    return 0;
}

static void look_for_escapes(void) {
    static const char *const places[] = {"/etc/cluster-matrix", "/tmp/cluster-matrix", "/cluster-matrix"};
    look_at_network("/proc/net/tcp", 4, 0);
    look_at_network("/proc/net/tcp6", 6, 0);
    look_at_network("/proc/net/udp", 4, 1);
    look_at_network("/proc/net/udp6", 6, 1);
    look_at_names();
    nftw(getenv("CHECK_DIR"), look_at_file, 16, FTW_PHYS);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (access(places[i], F_OK) == 0) snprintf(escaped, sizeof escaped, "socket file %s", places[i]);
}

/* -- The worker, by hand ----------------------------------------------------------------------------------------------------- */

static int ask_for(unsigned number, const char *address) {
    int code = ask_to_listen(number, address, 0);
    /* To read the kernel's lists takes a while. What is bound and should not be is not given up by a later refusal. */
    if (code == 0 || number % 16 == 0) look_for_escapes();
    if (code == 0) close_granted();
    return code;
}

static void ask_for_all(int declared) {
    int granted = 0;
    make_requests();
    greet();
    for (int i = 0; i < request_count; i++) {
        const char *address = requests[i].address;
        if (address[0] == '\0') continue; /* an empty text is an offence, not a request */
        int code = ask_for((unsigned)i + 1, address), expected = requests[i].expected;
        granted += code == 0;
        if (escaped[0] != '\0') check_fail(__FILE__, __LINE__, "escape: %s, after %s", escaped, address);
        if (!declared && expected == GRANTED) expected = REFUSED;
        if (code == 0 ? expected != GRANTED : expected == GRANTED) check_fail(__FILE__, __LINE__, "%s: %d", address, code);
        if (expected == REFUSED && code != -EACCES) check_fail(__FILE__, __LINE__, "%s: %d", address, code);
    }
    look_for_escapes();
    if (escaped[0] != '\0') check_fail(__FILE__, __LINE__, "escape: %s", escaped);
    CHECK(declared ? granted > 30 : granted == 0);
    int report = SYS(open(case_path("report"), O_WRONLY | O_CLOEXEC));
    dprintf(report, "%d requests, %d granted, 0 escapes", request_count - 1, granted);
    close(report);
}

/* -- The primary ------------------------------------------------------------------------------------------------------------- */

static void lead_to(const char *target, const char *name) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s%s", target[0] == '/' || target[0] == '.' ? "" : getenv("CHECK_DIR"), target);
    SYS(symlink(path, case_path(name)));
}

static void make_place(void) {
    static const char *const folders[] = {"allowed", "allowed/sub", "allowed/sub/deep", "allowed/sticky", "allowed/open", "allowed/theirs",
                                          "allowedx", "single", "outside"};
    struct passwd *nobody = getpwnam("nobody");
    char target[PATH_MAX];
    SYS(chmod(getenv("CHECK_DIR"), 0755));
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) SYS(mkdir(case_path(folders[i]), 0755));
    SYS(chmod(case_path("allowed/sticky"), 01777));
    SYS(chmod(case_path("allowed/open"), 0777));
    SYS(chown(case_path("allowed/theirs"), nobody->pw_uid, nobody->pw_gid));
    snprintf(target, sizeof target, "%s/outside", getenv("CHECK_DIR"));
    lead_to(target, "allowed/link");
    lead_to("./sub", "allowed/inner");
    lead_to("..", "allowed/up");
    lead_to("/", "allowed/root");
    lead_to("/proc/self/root/tmp", "allowed/sub/proc");
    snprintf(target, sizeof target, "%s/outside/nowhere", getenv("CHECK_DIR"));
    lead_to(target, "allowed/dangling");
    snprintf(target, sizeof target, "%s/outside/stale", getenv("CHECK_DIR"));
    lead_to(target, "allowed/pointer");
    struct sockaddr_un name = address_unix(target);
    int dead = SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    SYS(bind(dead, (struct sockaddr *)&name, sizeof name));
    close(dead);
    close(SYS(open(case_path("allowed/file"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)));
    int report = SYS(open(case_path("report"), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
    SYS(fchmod(report, 0666));
    close(report);
}

static void matrix(const char *role, int declared) {
    static char below[PATH_MAX], single[PATH_MAX], report[128];
    cl_settings_t settings;
    if (under_valgrind()) check_skip("valgrind's own files are closed to the other user");
    if (geteuid() != 0 || getpwnam("nobody") == NULL) check_skip("only root can give another user");
    make_place();
    snprintf(below, sizeof below, "unix:%s/allowed/", getenv("CHECK_DIR"));
    snprintf(single, sizeof single, "unix:%s/single/only", getenv("CHECK_DIR"));
    const char *allow[] = {"127.0.0.1:7000-7009", ":7100", "*:7200", "udp:127.0.0.1:7300", "[::1]:7400-7401", "127.0.0.2:0", below, single,
                           "unix:@matrix-app", "fd:60", NULL};
    ZERO(settings);
    settings.size = sizeof settings;
    if (declared) settings.listen_allow = allow;
    OK(cl_setup_primary(&settings));
    /* Sockets of the program's own, of which one is declared. */
    int one = plain_listener(7999);
    SYS(dup3(one, 60, O_CLOEXEC));
    SYS(dup3(one, 61, O_CLOEXEC));
    close(one);
    primary_ready(leave_at_once);
    long long begin = now_ms();
    int id = spawn_as_nobody(role);
    const seen_t *end = await_exit(id, 20000);
    CHECK_EQ(end->exit_code, 0);
    /* Told, but not as often as it happened. */
    int told = count_other_warnings(id);
    CHECK(told >= 1 && told <= 2 + (now_ms() - begin) / 1000);
    int fd = SYS(open(case_path("report"), O_RDONLY | O_CLOEXEC));
    CHECK(read(fd, report, sizeof report - 1) > 0);
    close(fd);
    figure("policy", declared ? "listens of a worker under another user, with rules" : "listens of a worker under another user, nothing declared",
           contender_of(CL_SCHED_RR), report, "0 escapes", 1);
    finish();
}

static void with_rules(void) {
    if (getenv("CL_CHANNEL_FD") != NULL) ask_for_all(1);
    else matrix("with_rules", 1);
}

static void without_rules(void) {
    if (getenv("CL_CHANNEL_FD") != NULL) ask_for_all(0);
    else matrix("without_rules", 0);
}

static const check_case_t cases[] = {{"with_rules", with_rules}, {"without_rules", without_rules}};
CHECK_MAIN(cases)
