/* While a name is looked up for one thread, which may take as long as a name server likes, the primary serves. And a process that could
 * not be made into a worker is not left behind. */
#include "filter.h"
#include "primary.h"
#include <netdb.h>
#include <pthread.h>
#include <pwd.h>

static int looking, may_go_on;

/* This program's own, in place of the C library's. Nobody is known to either. */
static void look(void) {
    __atomic_store_n(&looking, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&may_go_on, __ATOMIC_SEQ_CST)) nap(2);
}

#ifndef __cplusplus
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    (void)name;
    (void)service;
    (void)hints;
    (void)found;
    look();
    return EAI_NONAME;
}

int getpwnam_r(const char *name, struct passwd *entry, char *buffer, size_t length, struct passwd **found) {
    (void)name;
    (void)entry;
    (void)buffer;
    (void)length;
    look();
    *found = NULL;
    return 0;
}
#endif

static void *set_up(void *result) {
    char rule[] = "a-name-for-which-somebody-is-asked:80";
    const char *rules[2];
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    rules[0] = rule;
    rules[1] = NULL;
    settings.listen_allow = rules;
    *(int *)result = cl_setup_primary(&settings);
    return NULL;
}

static void *spawn_as_somebody(void *result) {
    cl_spawn_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.user = "a-user-for-whom-somebody-is-asked";
    *(int *)result = cl_spawn(&options);
    return NULL;
}

static void meanwhile(void *(*asks)(void *)) {
    pthread_t thread;
    int result = 0;
    primary_ready(serve_any_port);
    int id = fork_worker(), port = await_listening(id, 1);
    CHECK_EQ(pthread_create(&thread, NULL, asks, &result), 0);
    WAIT_UNTIL(__atomic_load_n(&looking, __ATOMIC_SEQ_CST), 5000);
    for (int i = 0; i < 10; i++) CHECK_EQ(ask(port), id);
    CHECK_EQ(cl_worker_ids(NULL, 0), 1);
    __atomic_store_n(&may_go_on, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(result, -EINVAL);
    CHECK_EQ(ask(port), id);
    finish();
}

static void listen_rules(void) { meanwhile(set_up); }
static void users(void) { meanwhile(spawn_as_somebody); }

/* The wait for a child that changes its user fails: it is ended and reaped. */
static void poll_fails(void) {
    cl_spawn_options_t options;
    char *argv[3], sleep_[] = "sleep", long_[] = "100", user[16];
    if (under_valgrind()) check_skip("valgrind polls, too");
    OK(cl_is_primary());
    OK(cl_poll_fd());
    check_baseline = count_descriptors();
    snprintf(user, sizeof user, "%d", (int)geteuid());
    argv[0] = sleep_;
    argv[1] = long_;
    argv[2] = NULL;
    ZERO(options);
    options.size = sizeof options;
    options.file = "sleep";
    options.argv = argv;
    options.group = user; /* by number: nobody is asked */
#ifdef SYS_poll
    refuse_call(SYS_poll, EACCES);
#endif
    refuse_call(SYS_ppoll, EACCES);
    CHECK_EQ(cl_spawn(&options), -EACCES);
    CHECK(no_child_left());
    CHECK(strstr(cl_last_error(), "change its user") != NULL);
    CHECK_EQ(cl_worker_ids(NULL, 0), 0);
}

static const check_case_t cases[] = {{"listen_rules", listen_rules}, {"users", users}, {"poll_fails", poll_fails}};
CHECK_MAIN(cases)
