/* cl_spawn with a user and a group: all ids and groups changed, none of the old rights left. */
#include "nobody.h"

static const char *status_of_spawned(const char *user, const char *group) {
    static char text[8192];
    cl_spawn_options_t options;
    char program[] = "/bin/sh", flag[] = "-c";
    char line[] = "/bin/cat /proc/self/status > \"$CHECK_DIR/status.part\" && mv \"$CHECK_DIR/status.part\" \"$CHECK_DIR/status\"";
    char *argv[] = {program, flag, line, NULL};
    ZERO(options);
    options.size = sizeof options;
    options.file = program;
    options.argv = argv;
    options.envp = environ;
    options.user = user;
    options.group = group;
    unlink(case_path("status"));
    int id = OK(cl_spawn(&options));
    CHECK_EQ(await_exit(id, 5000)->exit_code, 0);
    int fd = SYS(open(case_path("status"), O_RDONLY | O_CLOEXEC));
    ssize_t n = read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    close(fd);
    return text;
}

/* Real, effective, saved and file system id are all this one. */
static void expect_ids(const char *status, const char *field, unsigned id) {
    unsigned found[4];
    const char *line = strstr(status, field);
    CHECK(line != NULL);
    CHECK_EQ(sscanf(line + strlen(field), "%u %u %u %u", &found[0], &found[1], &found[2], &found[3]), 4);
    for (int i = 0; i < 4; i++) CHECK_EQ(found[i], id);
}

static void expect_groups(const char *status, const char *user, gid_t main_group) {
    gid_t groups[64];
    int count = 64, found = 0;
    if (user != NULL) CHECK(getgrouplist(user, main_group, groups, &count) >= 0);
    else count = 0;
    const char *line = strstr(status, "\nGroups:");
    CHECK(line != NULL);
    line += 8;
    for (;;) {
        unsigned group = 0;
        int length = 0, known = 0;
        if (sscanf(line, " %u%n", &group, &length) != 1 || memchr(line, '\n', (size_t)length) != NULL) break;
        for (int i = 0; i < count; i++) known = known || groups[i] == group;
        if (!known && group != main_group) check_fail(__FILE__, __LINE__, "group %u is left", group);
        line += length;
        found++;
    }
    CHECK(found <= count + 1);
}

static void expect_no_rights(const char *status) {
    static const char *const sets[] = {"\nCapEff:", "\nCapPrm:", "\nCapInh:", "\nCapAmb:"};
    for (int i = 0; i < 4; i++) {
        unsigned long long rights = 1;
        const char *line = strstr(status, sets[i]);
        CHECK(line != NULL && sscanf(line + 8, "%llx", &rights) == 1);
        CHECK_EQ(rights, 0);
    }
}

static void need_root(void) {
    if (geteuid() != 0) check_skip("only root can give another user");
    if (getpwnam("nobody") == NULL || getpwnam("daemon") == NULL) check_skip("there is no user nobody or daemon here");
    /* Rights and groups that must not survive. */
    gid_t groups[] = {0, 4, 20};
    SYS(setgroups(3, groups));
    SYS(chmod(getenv("CHECK_DIR"), 01777));
    primary_ready(leave_at_once);
}

static void by_name(void) {
    need_root();
    struct passwd *user = getpwnam("nobody");
    uid_t uid = user->pw_uid;
    gid_t gid = user->pw_gid;
    const char *status = status_of_spawned("nobody", NULL);
    expect_ids(status, "\nUid:", uid);
    expect_ids(status, "\nGid:", gid);
    expect_groups(status, "nobody", gid);
    expect_no_rights(status);
    CHECK_EQ(geteuid(), 0);
    finish();
}

static void by_number(void) {
    char number[16];
    need_root();
    uid_t uid = getpwnam("daemon")->pw_uid;
    gid_t gid = getpwnam("daemon")->pw_gid;
    snprintf(number, sizeof number, "%u", (unsigned)uid);
    const char *status = status_of_spawned(number, NULL);
    expect_ids(status, "\nUid:", uid);
    expect_ids(status, "\nGid:", gid);
    expect_groups(status, "daemon", gid);
    expect_no_rights(status);
    finish();
}

/* A number without a name has no groups but the one given. */
static void number_without_name(void) {
    need_root();
    const char *status = status_of_spawned("54321", "54322");
    expect_ids(status, "\nUid:", 54321);
    expect_ids(status, "\nGid:", 54322);
    expect_groups(status, NULL, 54322);
    expect_no_rights(status);
    finish();
}

static void with_group(void) {
    need_root();
    gid_t gid = getpwnam("daemon")->pw_gid;
    const char *status = status_of_spawned("nobody", "daemon");
    expect_ids(status, "\nUid:", getpwnam("nobody")->pw_uid);
    expect_ids(status, "\nGid:", gid);
    expect_groups(status, "nobody", gid);
    expect_no_rights(status);
    finish();
}

static void group_alone(void) {
    need_root();
    gid_t gid = getpwnam("daemon")->pw_gid;
    const char *status = status_of_spawned(NULL, "daemon");
    expect_ids(status, "\nUid:", 0);
    expect_ids(status, "\nGid:", gid);
    finish();
}

/* Who may not become another user is told so, and starts nothing. */
static void not_allowed(void) {
    cl_spawn_options_t options;
    if (under_valgrind()) check_skip("valgrind makes a fork of every vfork, so that no child can tell what failed");
    need_root();
    SYS(setgroups(0, NULL));
    SYS(setresgid(65534, 65534, 65534));
    SYS(setresuid(65534, 65534, 65534));
    SYS(prctl(PR_SET_DUMPABLE, 1)); /* so that /proc/self is readable again */
    ZERO(options);
    options.size = sizeof options;
    options.file = "/bin/true";
    options.user = "root";
    CHECK_EQ(cl_spawn(&options), -EPERM);
    options.user = "daemon";
    CHECK_EQ(cl_spawn(&options), -EPERM);
    options.user = NULL;
    options.group = "root";
    CHECK_EQ(cl_spawn(&options), -EPERM);
    CHECK(no_child_left());
    options.group = NULL;
    CHECK_EQ(await_exit(OK(cl_spawn(&options)), 5000)->exit_code, 0);
    finish();
}

static int answer_as_nobody(void) {
    CHECK(geteuid() != 0);
    return serve_any_port();
}

/* A worker under another user is a full worker: it is handed connections, and ends with its primary's word. */
static void serves(void) {
    if (worker_side()) exit(answer_as_nobody());
    if (under_valgrind()) check_skip("valgrind's own files are closed to the other user");
    need_root();
    const char *allow[] = {"127.0.0.1:0", NULL};
    allow_only(allow);
    int id = spawn_as_nobody("serves");
    PUMP_UNTIL(find_event(CL_EVENT_LISTENING, id, 0) >= 0 || find_event(CL_EVENT_EXIT, id, 0) >= 0, 5000);
    if (find_event(CL_EVENT_EXIT, id, 0) >= 0 && seen[find_event(CL_EVENT_EXIT, id, 0)].exit_code == 127) {
        finish();
        check_skip("the library lies where nobody cannot read it");
    }
    int port = await_listening(id, 1);
    for (int i = 0; i < 10; i++) CHECK_EQ(ask(port), id);
    OK(cl_worker_disconnect(id));
    CHECK_EQ(await_exit(id, 5000)->exit_code, 0);
    /* and by force, which needs the right to signal another user's process */
    id = spawn_as_nobody("serves");
    await_listening(id, 1);
    OK(cl_worker_kill(id, SIGKILL));
    CHECK_EQ(await_exit(id, 3000)->signal, SIGKILL);
    finish();
}

static const check_case_t cases[] = {
    {"by_name", by_name},         {"by_number", by_number},     {"number_without_name", number_without_name},
    {"with_group", with_group},   {"group_alone", group_alone}, {"not_allowed", not_allowed}, {"serves", serves},
};
CHECK_MAIN(cases)
