/* What workers may listen on (cl_settings_t.listen_allow, listen_max): rules, refusals, and who they count for. */
#include "nobody.h"

static char directory_rule[PATH_MAX + 8];

static int set_up(const char *const *allow, int most) {
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.listen_allow = allow;
    settings.listen_max = most;
    return cl_setup_primary(&settings);
}

/* A listen in a worker that the primary refuses, with a sentence that says what to do. */
static void refused(const char *address, int code, const char *part) {
    int result = cl_listen(address, 0);
    if (result != code) check_fail(__FILE__, __LINE__, "%s: %d instead of %d", address, result, code);
    if (strstr(cl_last_error(), part) == NULL) check_fail(__FILE__, __LINE__, "%s: %s", address, cl_last_error());
}

static void bad_rules(void) {
    static const struct { const char *rule, *part; } bad[] = {
        {"8080", "no port"}, {"localhost:", "ports"}, {"localhost:2-1", "order"}, {"[::1:80", "brackets"}, {"unix:here/", "begin with /"},
        {"unix:/tmp/../etc/", ".."}, {"unix:@", "no name"}, {"fd:one", "no descriptor"}, {"[fe80::1]:80", "interface"}, {"", "no port"},
        {"no-such-host.invalid:80", "no-such-host"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *allow[] = {"127.0.0.1:*", bad[i].rule, NULL};
        CHECK_EQ(set_up(allow, 0), -EINVAL);
        if (strstr(cl_last_error(), bad[i].part) == NULL) check_fail(__FILE__, __LINE__, "%s: %s", bad[i].rule, cl_last_error());
    }
    const char *missing[] = {"unix:/no/such/directory/", NULL};
    CHECK_EQ(set_up(missing, 0), -ENOENT);
    CHECK(strstr(cl_last_error(), "/no/such/directory") != NULL);
    CHECK_EQ(set_up(NULL, -1), -EINVAL);
    /* Nothing of all that was taken: a worker of this user may still do anything. */
    primary_ready(serve_any_port);
    int id = fork_worker();
    await_listening(id, 1);
    finish();
}

/* The rules count for workers of the primary's own user as well. */
static int within_rules(void) {
    OK(cl_close(OK(cl_listen("127.0.0.1:0", 0))));
    OK(cl_close(OK(cl_listen("localhost:0", 0))));
    OK(cl_close(OK(cl_listen("unix:@listen-allow-test", 0))));
    OK(cl_close(OK(cl_listen("udp:127.0.0.1:0", 0))));
    OK(cl_close(OK(cl_listen(unix_address(case_path("here/socket")), 0))));
    WAIT_UNTIL(access(case_path("here/socket"), F_OK) != 0, 3000);
    refused("127.0.0.2:0", -EACCES, "listen_allow");
    refused("127.0.0.1:1", -EACCES, "listen_allow");
    refused(":0", -EACCES, "listen_allow");
    refused("udp:127.0.0.2:0", -EACCES, "listen_allow");
    refused("unix:@listen-allow-tes", -EACCES, "listen_allow");
    refused("fd:0", -EACCES, "listen_allow");
    refused(unix_address(case_path("socket")), -EACCES, "listen_allow");
    refused(unix_address(case_path("here/../socket")), -EACCES, "..");
    /* What it binds itself is not the primary's affair. */
    cl_listen_options_t own;
    ZERO(own);
    own.size = sizeof own;
    own.address = "127.0.0.2:0";
    own.flags = CL_LISTEN_EXCLUSIVE;
    OK(cl_close(OK(cl_listen_with(&own))));
    return 0;
}

static void declare_all_kinds(void) {
    SYS(mkdir(case_path("here"), 0700));
    snprintf(directory_rule, sizeof directory_rule, "unix:%s/", case_path("here"));
    const char *allow[] = {"127.0.0.1:0", "udp:localhost:0", "unix:@listen-allow-test", directory_rule, NULL};
    OK(set_up(allow, 0));
}

static void rules(void) {
    declare_all_kinds();
    primary_ready(within_rules);
    int id = fork_worker();
    CHECK_EQ(await_exit(id, 10000)->exit_code, 0);
    /* Eight refusals, of which one a second is told. */
    int warning = find_event(CL_EVENT_WARNING, id, 0);
    CHECK(warning >= 0);
    CHECK(strstr(seen[warning].data, "may not listen") != NULL && strstr(seen[warning].data, "127.0.0.2:0") != NULL);
    CHECK(count_events(CL_EVENT_WARNING, id) < 8);
    finish();
}

/* Nothing but what is declared, in a list that is empty. */
static int nothing_at_all(void) {
    refused("127.0.0.1:0", -EACCES, "listen_allow");
    return 0;
}

static void empty_list(void) {
    const char *none[] = {NULL};
    OK(set_up(none, 0));
    primary_ready(nothing_at_all);
    CHECK_EQ(await_exit(fork_worker(), 5000)->exit_code, 0);
    finish();
}

static int as_many_as_may_be(void) {
    int one = OK(cl_listen("127.0.0.1:0", 0)), two = OK(cl_listen("127.0.0.1:0", 0));
    refused("127.0.0.1:0", -EMFILE, "listen_max");
    OK(cl_close(one));
    /* The primary reads the close before the next listen: they come on one channel. */
    OK(cl_close(OK(cl_listen("127.0.0.1:0", 0))));
    OK(cl_close(two));
    return 0;
}

static void most(void) {
    OK(set_up(NULL, 2));
    primary_ready(as_many_as_may_be);
    CHECK_EQ(await_exit(fork_worker(), 5000)->exit_code, 0);
    finish();
}

/* Links, and directories that others may change, below a directory that was declared. */
static int below_a_directory(void) {
    char cwd[PATH_MAX];
    OK(cl_close(OK(cl_listen(unix_address(case_path("here/deep/down/socket")), 0))));
    OK(cl_close(OK(cl_listen(unix_address(case_path("here/sticky/socket")), 0))));
    refused(unix_address(case_path("here/link/socket")), -EACCES, "link");
    refused(unix_address(case_path("here/open/socket")), -EACCES, "changed by other users");
    refused(unix_address(case_path("here/deep/")), -EACCES, "names a directory");
    CHECK_EQ(cl_listen(unix_address(case_path("here/missing/socket")), 0), -ENOENT);
    /* A name that is a link, even to a socket that nobody serves, is somebody's. */
    CHECK_EQ(cl_listen(unix_address(case_path("here/pointer")), 0), -EADDRINUSE);
    CHECK_EQ(access(case_path("outside/stale"), F_OK), 0);
    /* Two spellings are one address. */
    char spelling[PATH_MAX + 16];
    int one = OK(cl_listen(unix_address(case_path("here/socket")), 0));
    snprintf(spelling, sizeof spelling, "unix:%s/./here//socket", getenv("CHECK_DIR"));
    CHECK_EQ(cl_listen(spelling, 0), -EADDRINUSE);
    CHECK(strstr(cl_last_error(), "already") != NULL);
    int client = try_connect_unix(case_path("here/socket"));
    CHECK(client >= 0);
    answer(OK(cl_accept(one, NULL, NULL)));
    close(client);
    OK(cl_close(one));
    /* Relative to a directory that is reached by its real path. */
    CHECK(getcwd(cwd, sizeof cwd) != NULL);
    SYS(chdir(case_path("real")));
    OK(cl_close(OK(cl_listen("unix:socket", 0))));
    SYS(chdir(cwd));
    return 0;
}

static int behind_the_path(void) {
    int listener = OK(cl_listen(unix_address(case_path("here/socket")), 0));
    CHECK_EQ(access(case_path("moved/socket"), F_OK), 0);
    CHECK(access(case_path("outside/socket"), F_OK) != 0);
    OK(cl_close(listener));
    WAIT_UNTIL(access(case_path("moved/socket"), F_OK) != 0, 3000);
    return 0;
}

static void directories(void) {
    char alias_rule[PATH_MAX + 8];
    struct sockaddr_un stale;
    static const char *const folders[] = {"here", "here/deep", "here/deep/down", "here/sticky", "here/open", "outside", "real"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) SYS(mkdir(case_path(folders[i]), 0700));
    SYS(chmod(case_path("here/sticky"), 01777));
    SYS(chmod(case_path("here/open"), 0777));
    char target[PATH_MAX];
    snprintf(target, sizeof target, "%s", case_path("outside"));
    SYS(symlink(target, case_path("here/link")));
    snprintf(target, sizeof target, "%s", case_path("outside/stale"));
    SYS(symlink(target, case_path("here/pointer")));
    stale = address_unix(target);
    int dead = SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    SYS(bind(dead, (struct sockaddr *)&stale, sizeof stale));
    close(dead);
    snprintf(target, sizeof target, "%s", case_path("real"));
    SYS(symlink(target, case_path("alias")));
    snprintf(directory_rule, sizeof directory_rule, "unix:%s//./", case_path("here"));
    snprintf(alias_rule, sizeof alias_rule, "unix:%s/socket", case_path("alias"));
    const char *allow[] = {directory_rule, alias_rule, NULL};
    OK(set_up(allow, 0));
    primary_ready(below_a_directory);
    CHECK_EQ(await_exit(fork_worker(), 10000)->exit_code, 0);
    /* The directory that was declared, not another that is put in its place. */
    SYS(rename(case_path("here"), case_path("moved")));
    snprintf(target, sizeof target, "%s", case_path("outside"));
    SYS(symlink(target, case_path("here")));
    worker_main = behind_the_path;
    CHECK_EQ(await_exit(fork_worker(), 5000)->exit_code, 0);
    finish();
}

/* -- A worker that cl_spawn started as another user ------------------------------------------------------------------ */

static int spawn_other(const char *role) {
    SYS(chmod(getenv("CHECK_DIR"), 0755));
    return spawn_as_nobody(role);
}

static void ended_well(int id) {
    const seen_t *end = await_exit(id, 10000);
    if (end->exit_code == 127) {
        finish();
        check_skip("the library lies where nobody cannot read it");
    }
    CHECK_EQ(end->exit_code, 0);
    CHECK_EQ(end->signal, 0);
}

/* Where nothing is declared it may have nothing, and is told what to declare. A worker of our own user may have anything. */
static void other_user(void) {
    if (worker_side()) {
        refused("127.0.0.1:0", -EACCES, "another user");
        refused(":80", -EACCES, "listen_allow");
        refused("unix:/run/cluster-test.sock", -EACCES, "listen_allow");
        refused("fd:0", -EACCES, "listen_allow");
        return;
    }
    need_nobody();
    primary_ready(serve_any_port);
    int ours = fork_worker();
    await_listening(ours, 1);
    int id = spawn_other("other_user");
    ended_well(id);
    int warning = find_event(CL_EVENT_WARNING, id, 0);
    CHECK(warning >= 0 && strstr(seen[warning].data, "another user") != NULL);
    CHECK_EQ(find_event(CL_EVENT_LISTENING, id, 0), -1);
    finish();
}

static void other_user_declared(void) {
    if (worker_side()) {
        CHECK(geteuid() != 0);
        within_rules();
        return;
    }
    need_nobody();
    declare_all_kinds();
    primary_ready(leave_at_once);
    SYS(chmod(case_path("here"), 0755));
    ended_well(spawn_other("other_user_declared"));
    finish();
}

/* 64 addresses, whatever the rules. */
static void other_user_most(void) {
    if (worker_side()) {
        int listeners[64];
        for (int i = 0; i < 64; i++) listeners[i] = OK(cl_listen("127.0.0.1:0", 0));
        refused("127.0.0.1:0", -EMFILE, "listen_max");
        for (int i = 0; i < 64; i++) OK(cl_close(listeners[i]));
        return;
    }
    need_nobody();
    const char *allow[] = {"127.0.0.1:*", NULL};
    OK(set_up(allow, 0));
    primary_ready(leave_at_once);
    ended_well(spawn_other("other_user_most"));
    finish();
}

static const check_case_t cases[] = {
    {"bad_rules", bad_rules},   {"rules", rules},           {"empty_list", empty_list},
    {"most", most},             {"directories", directories}, {"other_user", other_user},
    {"other_user_declared", other_user_declared}, {"other_user_most", other_user_most},
};
CHECK_MAIN(cases)
