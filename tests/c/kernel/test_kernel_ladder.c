/* Which mechanism an address gets: kernel where this process may, else another, and what is said where it is forced. */
#include "kernel.h"
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

/* -- Processes that may less ---------------------------------------------------------------------------------------- */

/* For good: a program that root starts would have them again, so out of the bounding set as well. */
static void drop_capabilities(void) {
    static const int dropped[] = {CAP_BPF, CAP_SYS_ADMIN};
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    SYS(syscall(SYS_capget, &header, data));
    for (int i = 0; i < 2; i++) {
        unsigned bit = 1U << dropped[i] % 32;
        if (geteuid() == 0) SYS(prctl(PR_CAPBSET_DROP, dropped[i], 0, 0, 0));
        data[dropped[i] / 32].effective &= ~bit;
        data[dropped[i] / 32].permitted &= ~bit;
        data[dropped[i] / 32].inheritable &= ~bit;
    }
    SYS(syscall(SYS_capset, &header, data));
    CHECK(!may_use_bpf());
}

/* bpf(2) fails with this errno from now on. */
static void refuse_bpf(int with) {
    struct sock_filter filter[] = {
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr)},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_bpf},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | (unsigned)with},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
    };
    struct sock_fprog program = {4, filter};
    SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SYS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
    CHECK(!may_use_bpf());
}

static void become_nobody(void) {
    if (geteuid() != 0) check_skip("only root can become another user");
    if (under_valgrind()) check_skip("valgrind's own files are closed to the other user");
    SYS(setresgid(65534, 65534, 65534));
    SYS(setresuid(65534, 65534, 65534));
    CHECK(!may_use_bpf());
}

static void may_less_by_capabilities(void) { drop_capabilities(); }
static void may_less_by_user(void) { become_nobody(); }
static void may_less_by_eperm(void) { refuse_bpf(EPERM); }
static void may_less_by_enosys(void) { refuse_bpf(ENOSYS); }

/* -- Without the privilege ------------------------------------------------------------------------------------------ */

static int serve_two(void) {
    int other = OK(cl_listen("127.0.0.1:0", 0));
    int result = serve_any_port();
    OK(cl_close(other));
    return result;
}

static void use_auto(int policy) {
    cl_settings_t settings;
    unsetenv("CL_MECHANISM");
    ZERO(settings);
    settings.size = sizeof settings;
    settings.policy = policy;
    OK(cl_setup_primary(&settings));
}

static void expect_mechanism(int mechanism) {
    for (int i = 0; i < seen_count; i++)
        if (seen[i].type == CL_EVENT_LISTENING) CHECK_EQ(seen[i].mechanism, mechanism);
}

/* Each client has its worker all the same, and the program is told once why it is not the kernel that sees to it. */
static void automatic(void (*may_less)(void), const char *because) {
    int ids[4];
    use_auto(CL_SCHED_SOURCE_HASH);
    may_less();
    primary_ready(serve_two);
    for (int i = 0; i < 4; i++) ids[i] = fork_worker();
    for (int i = 0; i < 4; i++) await_listening(ids[i], 2);
    expect_mechanism(CL_MECHANISM_PASSED);
    int port = await_listening(ids[0], 2), first = ask(port);
    for (int i = 0; i < 20; i++) CHECK_EQ(ask(port), first);
    CHECK_EQ(count_events(CL_EVENT_NOTICE, 0), 1);
    CHECK_EQ(count_events(CL_EVENT_WARNING, 0), 0);
    const seen_t *notice = &seen[find_event(CL_EVENT_NOTICE, 0, 0)];
    CHECK_EQ(notice->worker_id, 0);
    CHECK(notice->length > 20);
    /* What the harness keeps of it is its beginning. */
    if (strstr(notice->data, because) == NULL) check_fail(__FILE__, __LINE__, "the notice is: %s", notice->data);
    finish();
}

/* Turns take no privilege, and nothing is to be said. */
static void in_turn(void (*may_less)(void)) {
    int ids[4], counts[4] = {0, 0, 0, 0};
    use_auto(CL_SCHED_RR);
    may_less();
    primary_ready(serve_two);
    for (int i = 0; i < 4; i++) ids[i] = fork_worker();
    for (int i = 0; i < 4; i++) await_listening(ids[i], 2);
    expect_mechanism(CL_MECHANISM_ROTATION);
    int port = await_listening(ids[0], 2);
    for (int i = 0; i < 200; i++) {
        int id = ask(port);
        for (int j = 0; j < 4; j++) counts[j] += ids[j] == id;
    }
    for (int i = 0; i < 4; i++) CHECK(counts[i] > 40 && counts[i] < 60);
    CHECK_EQ(count_events(CL_EVENT_NOTICE, 0), 0);
    finish();
}

static void in_turn_without_capability(void) { in_turn(may_less_by_capabilities); }
static void in_turn_as_nobody(void) { in_turn(may_less_by_user); }
static void in_turn_eperm(void) { in_turn(may_less_by_eperm); }

static int listen_as_a_loop(void) {
    int listener = OK(listen_flags("127.0.0.1:0", CL_LISTEN_NONBLOCK));
    char text[8];
    while (cl_receive(text, sizeof text, -1) != -ESHUTDOWN) {}
    OK(cl_close(listener));
    return 0;
}

/* A program that waits by itself, and may never say where, gets what does not depend on it. */
static void event_loop(void) {
    int may = may_use_bpf();
    use_auto(CL_SCHED_RR);
    primary_ready(listen_as_a_loop);
    await_listening(fork_worker(), 1);
    expect_mechanism(may ? CL_MECHANISM_KERNEL : CL_MECHANISM_ROTATION);
    CHECK_EQ(count_events(CL_EVENT_NOTICE, 0), 0);
    finish();
}

static void event_loop_without_capability(void) {
    may_less_by_capabilities();
    event_loop();
}

static void auto_without_capability(void) { automatic(may_less_by_capabilities, "CAP_BPF"); }
static void auto_as_nobody(void) { automatic(may_less_by_user, "CAP_BPF"); }
static void auto_eperm(void) { automatic(may_less_by_eperm, "CAP_BPF"); }
static void auto_enosys(void) { automatic(may_less_by_enosys, "this kernel lacks"); }

static int set_mechanism(int mechanism) {
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.mechanism = mechanism;
    return cl_setup_primary(&settings);
}

static void expect_sentence(const char *word) {
    const char *sentence = cl_last_error();
    if (sentence == NULL || strstr(sentence, word) == NULL) check_fail(__FILE__, __LINE__, "it does not say %s", word);
}

/* Forced by a setting: the program learns at once, and may still do without. */
static void by_setting(void (*may_less)(void), int wanted, const char *word) {
    unsetenv("CL_MECHANISM");
    may_less();
    OK(cl_on_event(remember_event, NULL));
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(set_mechanism(CL_MECHANISM_KERNEL), wanted);
        expect_sentence(word);
    }
    OK(set_mechanism(CL_MECHANISM_PASSED));
    primary_ready(serve_any_port);
    int one = fork_worker();
    CHECK_EQ(ask(await_listening(one, 1)), one);
    CHECK_EQ(seen[find_event(CL_EVENT_LISTENING, one, 0)].mechanism, CL_MECHANISM_PASSED);
    CHECK_EQ(count_events(CL_EVENT_NOTICE, 0), 0);
    finish();
}

static void setting_without_capability(void) { by_setting(may_less_by_capabilities, -EPERM, "CAP_BPF"); }
static void setting_as_nobody(void) { by_setting(may_less_by_user, -EPERM, "CAP_BPF"); }
static void setting_enosys(void) { by_setting(may_less_by_enosys, -ENOSYS, "Linux 5.14"); }

/* Forced by the environment: nobody asked for a check ahead, so whoever listens learns of it. */
static int refused_listen(void) {
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(cl_listen("127.0.0.1:0", 0), -EPERM);
        expect_sentence("CAP_BPF");
    }
    /* For which it does not exist at all, it is not missed. */
    OK(cl_close(OK(cl_listen("unix:@check-kernel-ladder", 0))));
    return 7;
}

static void by_environment(int spawned) {
    if (spawned && worker_side()) exit(refused_listen());
    use_mechanism("kernel");
    drop_capabilities();
    primary_ready(refused_listen);
    int id = spawned ? spawn_worker() : fork_worker();
    CHECK_EQ(await_exit(id, 5000)->exit_code, 7);
    CHECK_EQ(count_events(CL_EVENT_LISTENING, id), 1);
    CHECK_EQ(count_events(CL_EVENT_NOTICE, 0), 0);
    finish();
}

static void environment_forked(void) { by_environment(0); }
static void environment_spawned(void) { by_environment(1); }

static void environment_nonsense(void) {
    static const char *const words[] = {"nonsense", "KERNEL", "2", " kernel"};
    for (int i = 0; i < 4; i++) {
        use_mechanism(words[i]);
        CHECK_EQ(set_mechanism(CL_MECHANISM_AUTO), -EINVAL);
        expect_sentence("CL_MECHANISM");
        CHECK_EQ(cl_fork(), -EINVAL);
    }
    use_mechanism("passed");
    primary_ready(serve_any_port);
    int id = fork_worker();
    CHECK_EQ(ask(await_listening(id, 1)), id);
    finish();
}

/* -- With the privilege, and given up afterwards ---------------------------------------------------------------------- */

static int serve_four_and_try_a_fifth(void) {
    int listeners[4];
    for (int i = 0; i < 4; i++) listeners[i] = OK(cl_listen("127.0.0.1:0", 0));
    CHECK_EQ(cl_listen("127.0.0.1:0", 0), -EPERM);
    expect_sentence("CAP_BPF");
    /* The others end with the process: an address that nobody is left at would be closed, and with it what was ready. */
    return serve_listener(listeners[0]);
}

static void given_up(void (*may_less)(void)) {
    cl_settings_t settings;
    if (!may_use_bpf()) check_skip("bpf(2) is not allowed here: it takes CAP_BPF");
    unsetenv("CL_MECHANISM");
    ZERO(settings);
    settings.size = sizeof settings;
    settings.mechanism = CL_MECHANISM_KERNEL;
    settings.respawn = CL_RESPAWN_ON_FAILURE;
    settings.restart_min_ms = 1;
    OK(cl_setup_primary(&settings));
    may_less();
    primary_ready(serve_four_and_try_a_fifth);
    check_ignore_descriptors = 1; /* what was made ready is used up */
    int one = fork_worker(), two = fork_worker();
    for (int i = 1; i <= 4; i++) CHECK_EQ(await_listening(one, i), await_listening(two, i));
    OK(cl_worker_kill(one, SIGKILL));
    PUMP_UNTIL(count_events(CL_EVENT_LISTENING, 0) == 12, 5000);
    int third = seen[find_event(CL_EVENT_LISTENING, 0, 11)].worker_id;
    CHECK(third != one && third != two);
    for (int i = 0; i < seen_count; i++)
        if (seen[i].type == CL_EVENT_LISTENING) CHECK_EQ(seen[i].mechanism, CL_MECHANISM_KERNEL);
    int port = await_listening(two, 1), counts[2] = {0, 0};
    for (int i = 0; i < 100; i++) {
        int id = ask(port);
        counts[0] += id == two;
        counts[1] += id == third;
    }
    CHECK_EQ(counts[0], 50);
    CHECK_EQ(counts[1], 50);
    CHECK_EQ(count_events(CL_EVENT_NOTICE, 0), 0);
    finish();
}

static void capability_given_up(void) { given_up(may_less_by_capabilities); }
static void user_changed(void) { given_up(may_less_by_user); }

/* The address stays while its only worker is replaced, again and again. */
static void given_up_and_reopened(void) {
    if (!may_use_bpf()) check_skip("bpf(2) is not allowed here: it takes CAP_BPF");
    unsetenv("CL_MECHANISM");
    OK(set_mechanism(CL_MECHANISM_KERNEL));
    drop_capabilities();
    primary_ready(serve_any_port);
    for (int round = 0; round < 10; round++) {
        int id = fork_worker(), port = await_listening(id, 1);
        CHECK_EQ(seen[find_event(CL_EVENT_LISTENING, id, 0)].mechanism, CL_MECHANISM_KERNEL);
        for (int i = 0; i < 5; i++) CHECK_EQ(ask(port), id);
        cl_worker_info_t info;
        ZERO(info);
        info.size = sizeof info;
        OK(cl_worker_info(id, &info));
        CHECK_EQ(info.delivered, 5);
        OK(cl_worker_disconnect(id));
        CHECK_EQ(await_exit(id, 3000)->exit_code, 0);
    }
    CHECK_EQ(count_events(CL_EVENT_NOTICE, 0), 0);
    finish();
    check_ignore_descriptors = 1; /* one that was ready is given back with the rest */
}

static int open_and_close_often(void) {
    for (int i = 0; i < 12; i++) OK(cl_close(OK(cl_listen("127.0.0.1:0", 0))));
    return serve_any_port();
}

/* What was made ready for an address serves the next one when the address is closed. */
static void given_up_and_closed_often(void) {
    if (!may_use_bpf()) check_skip("bpf(2) is not allowed here: it takes CAP_BPF");
    unsetenv("CL_MECHANISM");
    OK(set_mechanism(CL_MECHANISM_KERNEL));
    drop_capabilities();
    primary_ready(open_and_close_often);
    int id = fork_worker(), port = await_listening(id, 13);
    for (int i = 0; i < seen_count; i++)
        if (seen[i].type == CL_EVENT_LISTENING) CHECK_EQ(seen[i].mechanism, CL_MECHANISM_KERNEL);
    for (int i = 0; i < 20; i++) CHECK_EQ(ask(port), id);
    cl_worker_info_t info;
    ZERO(info);
    info.size = sizeof info;
    OK(cl_worker_info(id, &info));
    CHECK_EQ(info.delivered, 20);
    CHECK_EQ(count_events(CL_EVENT_NOTICE, 0), 0);
    finish();
    check_ignore_descriptors = 1; /* one that was ready is given back with the rest */
}

/* The kind that the policy needs is ready, too. */
static int serve_one_of_four(void) {
    int listeners[4];
    for (int i = 0; i < 4; i++) listeners[i] = OK(cl_listen("127.0.0.1:0", 0));
    return serve_listener(listeners[0]);
}

static void source_hash_given_up(void) {
    if (!may_use_bpf()) check_skip("bpf(2) is not allowed here: it takes CAP_BPF");
    unsetenv("CL_MECHANISM");
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.mechanism = CL_MECHANISM_KERNEL;
    settings.policy = CL_SCHED_RR; /* changed before anybody listens, which makes the other kind ready */
    OK(cl_setup_primary(&settings));
    settings.policy = CL_SCHED_SOURCE_HASH;
    OK(cl_setup_primary(&settings));
    drop_capabilities();
    primary_ready(serve_one_of_four);
    check_ignore_descriptors = 1; /* what was made ready is used up */
    int one = fork_worker(), two = fork_worker();
    int port = await_listening(one, 4);
    await_listening(two, 4);
    port = await_listening(one, 1);
    for (int i = 0; i < seen_count; i++)
        if (seen[i].type == CL_EVENT_LISTENING) CHECK_EQ(seen[i].mechanism, CL_MECHANISM_KERNEL);
    int owner = ask(port);
    for (int i = 0; i < 20; i++) CHECK_EQ(ask(port), owner);
    CHECK_EQ(count_events(CL_EVENT_NOTICE, 0), 0);
    finish();
}

/* Before Linux 5.19 every bpf(2) is EPERM for a process that gave up CAP_BPF, unless kernel.unprivileged_bpf_disabled is 0; here by a
 * filter. The program in the kernel must not choose for a group whose entrance it does not know: that drops every SYN. */
static void table_closed_before(int policy) {
    if (!may_use_bpf()) check_skip("bpf(2) is not allowed here: it takes CAP_BPF");
    unsetenv("CL_MECHANISM");
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.mechanism = CL_MECHANISM_KERNEL;
    settings.policy = policy;
    OK(cl_setup_primary(&settings));
    refuse_bpf(EPERM);
    primary_ready(serve_any_port);
    int one = fork_worker(), two = fork_worker();
    int port = await_listening(one, 1), had[2] = {0, 0};
    await_listening(two, 1);
    for (int i = 0; i < 20; i++) {
        int id = ask(port);
        had[0] += id == one;
        had[1] += id == two;
    }
    CHECK_EQ(had[0] + had[1], 20);
    if (policy == CL_SCHED_RR) CHECK_EQ(had[0], 10);
    CHECK_EQ(seen[find_event(CL_EVENT_LISTENING, one, 0)].mechanism, CL_MECHANISM_PASSED);
    CHECK_EQ(count_events(CL_EVENT_NOTICE, 0), 1);
    CHECK(strstr(seen[find_event(CL_EVENT_NOTICE, 0, 0)].data, "passed on by the primary") != NULL);
    finish();
    check_ignore_descriptors = 1; /* one that was ready is given back with the rest */
}

static void table_closed(void) { table_closed_before(CL_SCHED_RR); }
static void table_closed_source_hash(void) { table_closed_before(CL_SCHED_SOURCE_HASH); }

/* The same when the address is open already: a replacement has no socket of its own, and the entrance is there for it. */
static void table_closed_later(void) {
    begin_kernel();
    primary_ready(serve_address);
    crew_t crew = hire(2, 0);
    refuse_bpf(EPERM);
    int third = fork_worker();
    await_listening(third, 1);
    CHECK_EQ(seen[find_event(CL_EVENT_LISTENING, third, 0)].mechanism, CL_MECHANISM_PASSED);
    int had = 0;
    for (int i = 0; i < 30; i++) had += ask(crew.port) == third;
    CHECK_EQ(had, 10);
    for (int i = 0; i < 2; i++) OK(cl_worker_kill(crew.ids[i], SIGKILL));
    for (int i = 0; i < 2; i++) await_exit(crew.ids[i], 3000);
    for (int i = 0; i < 10; i++) CHECK_EQ(ask(crew.port), third);
    finish();
}

/* -- Nothing stays in the kernel ------------------------------------------------------------------------------------- */

/* The numbers of the maps and programs that this process has open. */
static int own_objects(unsigned *maps, int *programs) {
    int count = 0;
    *programs = 0;
    for (int fd = 0; fd < 256; fd++) {
        char name[64], text[1024];
        snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
        int info = open(name, O_RDONLY | O_CLOEXEC);
        if (info < 0) continue;
        ssize_t n = read(info, text, sizeof text - 1);
        close(info);
        text[n > 0 ? n : 0] = '\0';
        const char *at = strstr(text, "map_id:");
        if (at != NULL && count < 16) maps[count++] = (unsigned)atoi(at + 7);
        *programs += strstr(text, "prog_id:") != NULL;
    }
    return count;
}

static int map_exists(unsigned id) {
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.map_id = id;
    long fd = syscall(SYS_bpf, BPF_MAP_GET_FD_BY_ID, &attributes, sizeof attributes);
    if (fd < 0) CHECK_EQ(errno, ENOENT);
    if (fd >= 0) close((int)fd);
    return fd >= 0;
}

/* A program holds its maps, so where these are gone it is, too. */
static void await_gone(const unsigned *maps, int count) {
    for (int i = 0; i < count; i++) WAIT_UNTIL(!map_exists(maps[i]), 5000);
}

static int find_own(unsigned *maps) {
    int programs, count = own_objects(maps, &programs);
    if (geteuid() != 0 || count == 0) {
        finish();
        check_skip("this kernel does not show the maps that a process has");
    }
    for (int i = 0; i < count; i++) CHECK(map_exists(maps[i]));
    return count;
}

static void objects_end_with_the_address(void) {
    unsigned maps[16];
    begin_kernel();
    primary_ready(serve_address);
    crew_t crew = hire(3, 0);
    drive(&crew, 12, 1, 4);
    int count = find_own(maps);
    finish();
    await_gone(maps, count);
}

/* Tells its parent what it has, and is killed. */
static void _killed(void) {
    unsigned maps[16];
    begin_kernel();
    primary_ready(serve_address);
    crew_t crew = hire(3, 0);
    drive(&crew, 12, 1, 4);
    int count = find_own(maps);
    CHECK_EQ(write(1, maps, (size_t)count * sizeof *maps), (ssize_t)((size_t)count * sizeof *maps));
    kill(getpid(), SIGKILL);
}

static void objects_end_with_the_primary(void) {
    unsigned maps[16];
    int ends[2];
    begin_kernel();
    SYS(pipe2(ends, O_CLOEXEC));
    pid_t pid = SYS(start_role("_killed", ends[1]));
    close(ends[1]);
    int status = wait_status(pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHECK_SKIPPED) _exit(CHECK_SKIPPED);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    ssize_t n = read(ends[0], maps, sizeof maps);
    close(ends[0]);
    CHECK(n > 0);
    await_gone(maps, (int)((size_t)n / sizeof *maps));
}

static const check_case_t cases[] = {
    {"auto_without_capability", auto_without_capability},
    {"auto_as_nobody", auto_as_nobody},
    {"auto_eperm", auto_eperm},
    {"auto_enosys", auto_enosys},
    {"in_turn_without_capability", in_turn_without_capability},
    {"in_turn_as_nobody", in_turn_as_nobody},
    {"in_turn_eperm", in_turn_eperm},
    {"event_loop", event_loop},
    {"event_loop_without_capability", event_loop_without_capability},
    {"setting_without_capability", setting_without_capability},
    {"setting_as_nobody", setting_as_nobody},
    {"setting_enosys", setting_enosys},
    {"environment_forked", environment_forked},
    {"environment_spawned", environment_spawned},
    {"environment_nonsense", environment_nonsense},
    {"capability_given_up", capability_given_up},
    {"user_changed", user_changed},
    {"given_up_and_reopened", given_up_and_reopened},
    {"given_up_and_closed_often", given_up_and_closed_often},
    {"source_hash_given_up", source_hash_given_up},
    {"table_closed", table_closed},
    {"table_closed_source_hash", table_closed_source_hash},
    {"table_closed_later", table_closed_later},
    {"objects_end_with_the_address", objects_end_with_the_address},
    {"_killed", _killed},
    {"objects_end_with_the_primary", objects_end_with_the_primary},
};
CHECK_MAIN(cases)
