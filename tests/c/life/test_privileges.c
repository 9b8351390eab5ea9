/* What a program that cl_spawn starts as another user does not get: rights, variables, descriptors; and what that leaves alone here. */
#include "figure.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pwd.h>
#include <stddef.h>
#include <sys/auxv.h>

extern char **environ;

#ifdef __SANITIZE_ADDRESS__
/* The leak checker traces its own process, which one with the set-user-ID bit may not be. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return getauxval(AT_SECURE) != 0; }
#endif

static void need_root(void) {
    if (under_valgrind()) check_skip("valgrind makes other system calls than the program, and knows no capabilities");
    if (geteuid() != 0) check_skip("only root can give another user");
    if (getpwnam("nobody") == NULL || getpwnam("daemon") == NULL) check_skip("there is no user nobody or daemon here");
    SYS(chmod(getenv("CHECK_DIR"), 01777));
}

/* What a shell line writes to its output as that user, with the environment that it is given. */
static const char *output_of(const char *line, const char *user, char *const *envp) {
    static char text[65536];
    char program[] = "/bin/sh", flag[] = "-c", script[2 * PATH_MAX];
    char *argv[] = {program, flag, script, NULL};
    cl_spawn_options_t options;
    char part[PATH_MAX];
    snprintf(part, sizeof part, "%s", case_path("output"));
    unlink(part);
    snprintf(script, sizeof script, "{ %s; } > '%s'", line, part);
    ZERO(options);
    options.size = sizeof options;
    options.file = program;
    options.argv = argv;
    options.user = user;
    options.envp = envp;
    int id = OK(cl_spawn(&options));
    CHECK_EQ(await_exit(id, 5000)->exit_code, 0);
    int fd = SYS(open(part, O_RDONLY | O_CLOEXEC));
    ssize_t n = read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    close(fd);
    return text;
}

static const char *status_of(const char *user) { return output_of("/bin/cat /proc/self/status", user, NULL); }

static unsigned long long field(const char *status, const char *name, int base) {
    const char *line = strstr(status, name);
    if (line == NULL) check_fail(__FILE__, __LINE__, "no %s in the status", name);
    return strtoull(line + strlen(name), NULL, base);
}

static void expect_no_rights(const char *status, unsigned uid) {
    static const char *const sets[] = {"\nCapInh:", "\nCapPrm:", "\nCapEff:", "\nCapAmb:"};
    for (int i = 0; i < 4; i++) CHECK_EQ(field(status, sets[i], 16), 0);
    CHECK_EQ(field(status, "\nNoNewPrivs:", 10), 1);
    CHECK_EQ(field(status, "\nUid:", 10), uid);
}

/* Gives this process these capabilities, to be inherited as well. */
static void have_capabilities(unsigned long long set) {
    struct __user_cap_header_struct header;
    struct __user_cap_data_struct data[2];
    header.version = _LINUX_CAPABILITY_VERSION_3;
    header.pid = 0;
    for (int i = 0; i < 2; i++) data[i].effective = data[i].permitted = data[i].inheritable = (unsigned)(set >> (32 * i));
    SYS(syscall(SYS_capset, &header, data));
    for (int capability = 0; capability < 64; capability++)
        if (set >> capability & 1) SYS(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0));
}

static unsigned long long own_capabilities(void) {
    struct __user_cap_header_struct header;
    struct __user_cap_data_struct data[2];
    header.version = _LINUX_CAPABILITY_VERSION_3;
    header.pid = 0;
    SYS(syscall(SYS_capget, &header, data));
    return data[0].permitted | (unsigned long long)data[1].permitted << 32;
}

/* Capabilities that would survive a change of user: inheritable and ambient ones. */
static void capabilities(void) {
    need_root();
    have_capabilities(own_capabilities());
    primary_ready(leave_at_once);
    expect_no_rights(status_of("nobody"), getpwnam("nobody")->pw_uid);
    finish();
}

/* A primary that is not root but may change users: nothing clears its children's capabilities by itself. */
static void not_root(void) {
    need_root();
    unsigned long long set = 1ULL << CAP_SETUID | 1ULL << CAP_SETGID | 1ULL << CAP_NET_BIND_SERVICE | 1ULL << CAP_KILL;
    if ((own_capabilities() & set) != set) check_skip("root lacks capabilities here");
    uid_t uid = getpwnam("nobody")->pw_uid, other = getpwnam("daemon")->pw_uid;
    SYS(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
    SYS(setgroups(0, NULL));
    SYS(setresuid(uid, uid, uid));
    SYS(prctl(PR_SET_DUMPABLE, 1)); /* so that /proc/self is readable again */
    have_capabilities(set);
    primary_ready(leave_at_once);
    expect_no_rights(status_of("daemon"), other);
    CHECK_EQ(own_capabilities(), set);
    finish();
}

/* Changing credentials in a child that shares our memory would take from this process what it takes from the child. */
static void host_stays_as_it_is(void) {
    need_root();
    primary_ready(leave_at_once);
    CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
    int groups = getgroups(0, NULL);
    status_of("nobody");
    CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
    CHECK_EQ(getgroups(0, NULL), groups);
    CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
    finish();
}

/* -- Variables ----------------------------------------------------------------------------------------------------------- */

static const char *const harmful[] = {
    "LD_PRELOAD=/nowhere/evil.so", "LD_LIBRARY_PATH=/nowhere", "LD_AUDIT=/nowhere/evil.so", "LD_DEBUG_OUTPUT=/nowhere/out",
    "GCONV_PATH=/nowhere", "LOCPATH=/nowhere", "NLSPATH=/nowhere", "RES_OPTIONS=debug", "HOSTALIASES=/nowhere", "LOCALDOMAIN=evil",
    "MALLOC_TRACE=/nowhere/trace", "GLIBC_TUNABLES=glibc.malloc.check=1", "TMPDIR=/nowhere", "GETCONF_DIR=/nowhere",
    "NODE_OPTIONS=--require=/nowhere/evil.js", "NODE_PATH=/nowhere", "NODE_EXTRA_CA_CERTS=/nowhere/ca", "PYTHONPATH=/nowhere", "PERL5LIB=/nowhere",
    "PERL5OPT=-Mevil", "RUBYOPT=-revil", "BASH_ENV=/nowhere/rc", "ENV=/nowhere/rc", "IFS=x", "CDPATH=/nowhere", "SSL_CERT_FILE=/nowhere/ca",
    "CL_MECHANISM=passed", "CL_NONSENSE=1", "AWS_SECRET_ACCESS_KEY=secret", "LC_ALL=/nowhere/locale", "LANGUAGE=%n", "XDG_RUNTIME_DIR=/nowhere",
    "SSH_AUTH_SOCK=/nowhere/agent", "BASH_FUNC_ls%%=() { evil; }",
};

static const char *variable(const char *text, const char *name) {
    static char value[1024];
    size_t length = strlen(name);
    for (const char *line = text; line != NULL && *line != '\0'; line = strchr(line, '\n') == NULL ? NULL : strchr(line, '\n') + 1) {
        if (strncmp(line, name, length) != 0 || line[length] != '=') continue;
        snprintf(value, sizeof value, "%.*s", (int)strcspn(line + length + 1, "\n"), line + length + 1);
        return value;
    }
    return NULL;
}

static void expect_variable(const char *text, const char *name, const char *value) {
    const char *found = variable(text, name);
    if (found == NULL || strcmp(found, value) != 0)
        check_fail(__FILE__, __LINE__, "%s is %s instead of %s", name, found == NULL ? "missing" : found, value);
}

static void environment(void) {
    need_root();
    size_t count = sizeof harmful / sizeof harmful[0];
    for (size_t i = 0; i < count; i++) {
        char name[64];
        /* The loader must not take them in this very process, which it does not once it runs. */
        snprintf(name, sizeof name, "%.*s", (int)strcspn(harmful[i], "="), harmful[i]);
        SYS(setenv(name, strchr(harmful[i], '=') + 1, 1));
    }
    SYS(setenv("LANG", "C.UTF-8", 1));
    SYS(setenv("LC_TIME", "C", 1));
    SYS(setenv("TZ", "Europe/Berlin", 1));
    SYS(setenv("TERM", "vt100", 1));
    SYS(setenv("PATH", "/usr/bin:/bin", 1));
    SYS(setenv("CL_MECHANISM", "passed", 1));
    primary_ready(leave_at_once);
    struct passwd *nobody = getpwnam("nobody");
    const char *text = output_of("/usr/bin/env", "nobody", NULL);
    for (size_t i = 0; i < count; i++) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(harmful[i], "="), harmful[i]);
        if (variable(text, name) != NULL) check_fail(__FILE__, __LINE__, "%s is passed on", name);
    }
    expect_variable(text, "LANG", "C.UTF-8");
    expect_variable(text, "LC_TIME", "C");
    expect_variable(text, "TZ", "Europe/Berlin");
    expect_variable(text, "TERM", "vt100");
    expect_variable(text, "PATH", "/usr/bin:/bin");
    expect_variable(text, "USER", "nobody");
    expect_variable(text, "LOGNAME", "nobody");
    expect_variable(text, "HOME", nobody->pw_dir);
    expect_variable(text, "SHELL", nobody->pw_shell);
    expect_variable(text, "CL_WORKER_ID", "2");
    CHECK(variable(text, "CL_WORKER_SLOT") != NULL && variable(text, "CL_CHANNEL_FD") != NULL);
    char report[64];
    snprintf(report, sizeof report, "%d of %d", 0, (int)count);
    figure("policy", "harmful variables that reach a program of another user", "libcluster", report, "0", 1);
    /* The shell adds PWD, OLDPWD, _ and SHLVL; nothing else may be there. */
    int lines = 0, shells = 0;
    static const char *const of_shell[] = {"PWD", "OLDPWD", "_", "SHLVL"};
    for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++) lines++;
    for (int i = 0; i < 4; i++) shells += variable(text, of_shell[i]) != NULL;
    CHECK_EQ(lines - shells, 12);
    /* Paths in a locale or a time zone are files that would be read. */
    SYS(setenv("TZ", ":/nowhere/zone", 1));
    SYS(setenv("LANG", "../../nowhere", 1));
    text = output_of("/usr/bin/env", "nobody", NULL);
    CHECK(variable(text, "TZ") == NULL && variable(text, "LANG") == NULL);
    /* An environment that the program gives is its own word. */
    text = output_of("/usr/bin/env", "nobody", environ);
    expect_variable(text, "NODE_OPTIONS", "--require=/nowhere/evil.js");
    /* Under our own user nothing is taken away. */
    text = output_of("/usr/bin/env", NULL, NULL);
    expect_variable(text, "PERL5OPT", "-Mevil");
    finish();
}

/* -- Descriptors --------------------------------------------------------------------------------------------------------- */

static void descriptors(void) {
    int ends[2];
    need_root();
    SYS(pipe(ends)); /* a careless host's: not close-on-exec */
    int high = SYS(fcntl(0, F_DUPFD, 300));
    primary_ready(serve_any_port);
    await_listening(fork_worker(), 1);
    char expected[32];
    /* ls has the directory open on the lowest number that is free. */
    const char *text = output_of("echo $CL_CHANNEL_FD; ls /proc/self/fd", "nobody", NULL);
    int channel = atoi(text), count = 0, extra = 0;
    CHECK(channel > 2);
    snprintf(expected, sizeof expected, "%d", channel);
    for (const char *at = strchr(text, '\n') + 1; *at != '\0'; at = strchr(at, '\n') + 1) {
        int fd = atoi(at);
        if (fd > 2 && fd != channel) extra++;
        count++;
    }
    CHECK_EQ(count, 5);
    CHECK_EQ(extra, 1);
    CHECK(fcntl(ends[0], F_GETFD) == 0 && fcntl(high, F_GETFD) == 0);
    finish();
}

/* -- A set-user-ID program ------------------------------------------------------------------------------------------------- */

/* Started with rights that its caller has not, a program believes none of our variables, and removes them. */
static void set_user_id(void) {
    if (getauxval(AT_SECURE) != 0) {
        CHECK(getenv("CL_CHANNEL_FD") != NULL);
        CHECK_EQ(cl_is_worker(), 0);
        CHECK_EQ(cl_is_primary(), 1);
        CHECK(getenv("CL_CHANNEL_FD") == NULL && getenv("CL_WORKER_ID") == NULL);
        int result = cl_setup_primary(NULL);
        CHECK(result == 0 || result == CL_ENOLIB);
        check_ignore_descriptors = 1; /* the channel, which it left alone */
        return;
    }
    static char copy[PATH_MAX], role[] = "set_user_id", byte[65536];
    char *argv[] = {copy, role, NULL};
    cl_spawn_options_t options;
    need_root();
    snprintf(copy, sizeof copy, "%s", case_path("program"));
    int from = SYS(open(check_self(), O_RDONLY | O_CLOEXEC)), to = SYS(open(copy, O_WRONLY | O_CREAT | O_CLOEXEC, 0755));
    for (ssize_t n; (n = read(from, byte, sizeof byte)) > 0;) CHECK_EQ(write(to, byte, (size_t)n), n);
    SYS(fchown(to, getpwnam("nobody")->pw_uid, (gid_t)-1));
    SYS(fchmod(to, 04755));
    close(from);
    close(to);
    primary_ready(leave_at_once);
    SYS(setenv("CL_MECHANISM", "nonsense", 1));
    ZERO(options);
    options.size = sizeof options;
    options.file = copy;
    options.argv = argv;
    int id = OK(cl_spawn(&options));
    const seen_t *end = await_exit(id, 5000);
    SYS(unsetenv("CL_MECHANISM"));
    if (end->exit_code == 127) {
        finish();
        check_skip("the library lies where nobody cannot read it");
    }
    CHECK_EQ(end->exit_code, 0);
    CHECK_EQ(find_event(CL_EVENT_ONLINE, id, 0), -1);
    finish();
}

/* -- Steps that fail ------------------------------------------------------------------------------------------------------- */

/* A system call on the way to the program, by number and, if not -1, by one argument; and what it says instead of being made: an
 * error, or 0, as if it had been. */
typedef struct {
    const char *what;
    int call, argument;
    unsigned value;
    int error;
    const char *sentence;
} step_t;

static void break_step(const step_t *step) {
    struct sock_fprog program;
    size_t value = offsetof(struct seccomp_data, args) + 8 * (size_t)(step->argument < 0 ? 0 : step->argument);
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)step->call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)value),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, step->value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)step->error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    if (step->argument < 0) filter[3].jf = 0; /* whatever the arguments */
    program.len = sizeof filter / sizeof filter[0];
    program.filter = filter;
    SYS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static void expect_no_start(const step_t *step) {
    char program[] = "/bin/sh", flag[] = "-c", line[PATH_MAX + 16];
    char *argv[] = {program, flag, line, NULL};
    int inherited[1];
    cl_spawn_options_t options;
    inherited[0] = SYS(open("/dev/null", O_RDONLY | O_CLOEXEC));
    primary_ready(leave_at_once);
    snprintf(line, sizeof line, "echo started > '%s'", case_path("started"));
    ZERO(options);
    options.size = sizeof options;
    options.file = program;
    options.argv = argv;
    options.cwd = "/";
    options.user = "nobody";
    options.inherit = inherited;
    options.inherit_count = 1;
    break_step(step);
    int result = cl_spawn(&options), expected = step->error == 0 ? -EPERM : -step->error;
    if (result != expected) check_fail(__FILE__, __LINE__, "%s: %d instead of %d: %s", step->what, result, expected, cl_last_error());
    if (strstr(cl_last_error(), step->sentence) == NULL) check_fail(__FILE__, __LINE__, "%s: %s", step->what, cl_last_error());
    CHECK(no_child_left());
    CHECK(access(case_path("started"), F_OK) != 0);
    CHECK_EQ(cl_worker_ids(NULL, 0), 0);
    CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
}

static void failing_steps(void) {
    need_root();
    unsigned uid = getpwnam("nobody")->pw_uid, gid = getpwnam("nobody")->pw_gid;
    const char *descriptors = "handing descriptors", *groups = "supplementary groups", *group = "the program's group";
    const char *user = "the program's user", *rights = "capabilities", *verify = "verifying", *privs = "no_new_privs";
    const step_t steps[] = {
        {"owner of the lifeline", SYS_fcntl, 1, F_SETOWN, EPERM, descriptors},
        {"close-on-exec", SYS_fcntl, 1, F_SETFD, EPERM, descriptors},
        {"chdir", SYS_chdir, -1, 0, EPERM, "directory"},
        {"setgroups", SYS_setgroups, -1, 0, EPERM, groups},
        {"setgroups, no memory", SYS_setgroups, -1, 0, ENOMEM, groups},
        {"setgroups, a lie", SYS_setgroups, -1, 0, 0, verify},
        {"setresgid", SYS_setresgid, 0, gid, EPERM, group},
        {"setresgid, again", SYS_setresgid, 0, gid, EAGAIN, group},
        {"setresgid, a lie", SYS_setresgid, 0, gid, 0, verify},
        {"setresuid", SYS_setresuid, 0, uid, EPERM, user},
        {"setresuid, again", SYS_setresuid, 0, uid, EAGAIN, user},
        {"setresuid, a lie", SYS_setresuid, 0, uid, 0, verify},
        {"ambient capabilities", SYS_prctl, 0, PR_CAP_AMBIENT, EPERM, rights},
        {"capset", SYS_capset, -1, 0, EPERM, rights},
        {"capset, a lie", SYS_capset, -1, 0, 0, rights},
        {"capget", SYS_capget, -1, 0, EPERM, rights},
        {"getresuid", SYS_getresuid, -1, 0, EPERM, verify},
        {"getresgid", SYS_getresgid, -1, 0, EPERM, verify},
        {"getgroups", SYS_getgroups, -1, 0, EPERM, verify},
        {"a way back to the user", SYS_setresuid, 0, 0, 0, verify},
        {"a way back to the group", SYS_setresgid, 0, 0, 0, verify},
        {"no_new_privs", SYS_prctl, 0, PR_SET_NO_NEW_PRIVS, EPERM, privs},
        {"no_new_privs, a lie", SYS_prctl, 0, PR_SET_NO_NEW_PRIVS, 0, privs},
        {"execve", SYS_execve, -1, 0, EPERM, "starting the program"},
    };
    gid_t some[] = {0, 4, 20};
    SYS(setgroups(3, some));
    have_capabilities(own_capabilities());
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            expect_no_start(&steps[i]);
            _exit(0);
        }
        if (wait_status(pid) != 0) check_fail(__FILE__, __LINE__, "the step \"%s\"", steps[i].what);
    }
    char report[64];
    snprintf(report, sizeof report, "%d of %d", 0, (int)(sizeof steps / sizeof steps[0]));
    figure("policy", "programs started although a step to another user failed, or only said that it did not", "libcluster", report, "0", 1);
}

/* A child that somebody of its new user stops on its way holds cl_spawn up for some seconds, not for ever. */
static void held_up(void) {
    struct sock_fprog program;
    cl_spawn_options_t options;
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getresuid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    need_root();
    program.len = sizeof filter / sizeof filter[0];
    program.filter = filter;
    primary_ready(leave_at_once);
    /* Whoever asks for its ids waits for an answer that nobody gives. */
    int calls = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (calls < 0) check_skip("system calls cannot be held up here");
    ZERO(options);
    options.size = sizeof options;
    options.file = "/bin/true";
    options.user = "nobody";
    CHECK_EQ(cl_spawn(&options), -ETIMEDOUT);
    CHECK(no_child_left());
    options.user = NULL;
    CHECK_EQ(await_exit(OK(cl_spawn(&options)), 5000)->exit_code, 0);
    close(calls);
    finish();
}

static const check_case_t cases[] = {
    {"capabilities", capabilities}, {"not_root", not_root},       {"host_stays_as_it_is", host_stays_as_it_is},
    {"environment", environment},   {"descriptors", descriptors}, {"set_user_id", set_user_id},
    {"failing_steps", failing_steps}, {"held_up", held_up},
};
CHECK_MAIN(cases)
