/* Structs that may grow: too small, of an older header, of a newer one with and without something to say. */
#include "primary.h"
#include <stddef.h>
#include <stdint.h>

typedef struct {
    cl_listen_options_t known;
    long long newer[4];
} newer_listen_t;

typedef struct {
    cl_settings_t known;
    long long newer[4];
} newer_settings_t;

typedef struct {
    cl_spawn_options_t known;
    long long newer[4];
} newer_spawn_t;

static void listen_options(void) {
    newer_listen_t options;
    ZERO(options);
    options.known.address = "127.0.0.1:0";
    CHECK_EQ(cl_listen_with(&options.known), -EINVAL);
    for (size_t size = 0; size < offsetof(cl_listen_options_t, address) + sizeof(char *); size++) {
        options.known.size = size;
        CHECK_EQ(cl_listen_with(&options.known), -EINVAL);
        CHECK(strlen(cl_last_error()) > 10);
    }
    /* What is surely no size is not followed to its end. */
    static const size_t huge[] = {4097, 1 << 20, SIZE_MAX};
    for (size_t i = 0; i < sizeof huge / sizeof huge[0]; i++) {
        options.known.size = huge[i];
        CHECK_EQ(cl_listen_with(&options.known), -EINVAL);
    }
    /* An older caller's struct ends early: what lies behind it is not read. */
    options.known.backlog = INT_MIN;
    options.known.flags = ~0U;
    options.known.index = -1;
    options.known.size = offsetof(cl_listen_options_t, backlog);
    OK(cl_close(OK(cl_listen_with(&options.known))));
    options.known.size = offsetof(cl_listen_options_t, flags);
    OK(cl_close(OK(cl_listen_with(&options.known))));
    /* A newer caller's is longer: fine while it asks for nothing unknown. */
    options.known.backlog = 0;
    options.known.flags = 0;
    options.known.index = 0;
    options.known.size = sizeof options;
    OK(cl_close(OK(cl_listen_with(&options.known))));
    ((char *)&options)[sizeof options - 1] = 1;
    CHECK_EQ(cl_listen_with(&options.known), -E2BIG);
    options.known.size = sizeof options - 1;
    OK(cl_close(OK(cl_listen_with(&options.known))));
    options.known.size = sizeof options.known;
    OK(cl_close(OK(cl_listen_with(&options.known))));

    static const unsigned unknown[] = {64, 1U << 31, 1U << 16, ~0U};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        options.known.flags = unknown[i];
        CHECK_EQ(cl_listen_with(&options.known), -EINVAL);
    }
    options.known.flags = 0;
    options.known.index = -1;
    CHECK_EQ(cl_listen_with(&options.known), -EINVAL);
    options.known.index = INT_MIN;
    CHECK_EQ(cl_listen_with(&options.known), -EINVAL);
    options.known.index = 0;
    /* A zeroed field means the default, also this one: a free port of all addresses. */
    options.known.address = NULL;
    int listener = OK(cl_listen_with(&options.known));
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    OK(cl_getsockname(listener, (struct sockaddr *)&name, &length));
    CHECK(name.ss_family == AF_INET6 || name.ss_family == AF_INET);
    OK(cl_close(listener));
}
IN_WORKERS(listen_options)

static int setup(size_t size, int policy, int mechanism, int respawn, int deadline, unsigned flags) {
    newer_settings_t settings;
    ZERO(settings);
    settings.known.size = size;
    settings.known.policy = policy;
    settings.known.mechanism = mechanism;
    settings.known.respawn = respawn;
    settings.known.stop_deadline_ms = deadline;
    settings.known.flags = flags;
    return cl_setup_primary(&settings.known);
}

static void settings(void) {
    size_t known = sizeof(cl_settings_t);
    newer_settings_t newer;
    primary_ready(leave_at_once);
    CHECK_EQ(cl_setup_primary(NULL), 0);
    CHECK_EQ(setup(0, 0, 0, 0, 0, 0), -EINVAL);
    CHECK_EQ(setup(1, 0, 0, 0, 0, 0), -EINVAL);
    CHECK_EQ(setup(known, 0, 0, 0, 0, 0), 0);
    CHECK_EQ(setup(sizeof(newer_settings_t), 0, 0, 0, 0, 0), 0);
    ZERO(newer);
    newer.known.size = sizeof newer;
    newer.newer[3] = 1;
    CHECK_EQ(cl_setup_primary(&newer.known), -E2BIG);
    static const int policies[] = {-1, 5, 99, INT_MAX, INT_MIN}, mechanisms[] = {-1, 99, INT_MAX}, respawns[] = {-1, 4, INT_MAX};
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) CHECK_EQ(setup(known, policies[i], 0, 0, 0, 0), -EINVAL);
    for (size_t i = 0; i < sizeof mechanisms / sizeof mechanisms[0]; i++) CHECK_EQ(setup(known, 0, mechanisms[i], 0, 0, 0), -EINVAL);
    for (size_t i = 0; i < sizeof respawns / sizeof respawns[0]; i++) CHECK_EQ(setup(known, 0, 0, respawns[i], 0, 0), -EINVAL);
    CHECK_EQ(setup(known, 0, 0, 0, 0, 1U << 31), -EINVAL);
    CHECK_EQ(setup(known, CL_SCHED_LEAST_LOADED, 0, 0, 0, 0), 0);
    CHECK_EQ(setup(known, CL_SCHED_SOURCE_HASH, 0, 0, 0, 0), 0);
    CHECK_EQ(setup(known, CL_SCHED_RR, CL_MECHANISM_KERNEL, 0, 0, 0), may_use_bpf() ? 0 : -EPERM);
    CHECK_EQ(setup(known, CL_SCHED_RR, CL_MECHANISM_PASSED, CL_RESPAWN_NEVER, 1000, CL_HANDLE_SIGNALS), 0);
}

/* Settings accumulate: what a later call leaves at zero stays as it was, and one that fails changes nothing. */
static void settings_accumulate(void) {
    CHECK_EQ(setup(sizeof(cl_settings_t), CL_SCHED_NONE, 0, 0, 0, 0), 0);
    CHECK_EQ(setup(sizeof(cl_settings_t), 0, 0, CL_RESPAWN_NEVER, 0, 0), 0);
    CHECK_EQ(setup(sizeof(cl_settings_t), CL_SCHED_RR, 0, 99, 0, 0), -EINVAL);
    CHECK_EQ(cl_setup_primary(NULL), 0);
    primary_ready(serve_any_port);
    int id = fork_worker();
    int port = await_listening(id, 1);
    CHECK_EQ(seen[find_event(CL_EVENT_LISTENING, id, 0)].mechanism, CL_MECHANISM_SHARED);
    CHECK_EQ(ask(port), id);
    finish();
}

static void default_is_round_robin(void) {
    primary_ready(serve_any_port);
    int id = fork_worker();
    await_listening(id, 1);
    int mechanism = seen[find_event(CL_EVENT_LISTENING, id, 0)].mechanism;
    CHECK(mechanism == CL_MECHANISM_PASSED || mechanism == CL_MECHANISM_KERNEL || mechanism == CL_MECHANISM_ROTATION);
    finish();
}

static void spawn_options(void) {
    newer_spawn_t options;
    if (worker_side()) return;
    primary_ready(leave_at_once);
    ZERO(options);
    CHECK_EQ(cl_spawn(&options.known), -EINVAL);
    options.known.size = 3;
    CHECK_EQ(cl_spawn(&options.known), -EINVAL);
    options.known.size = sizeof options;
    options.newer[0] = 1;
    CHECK_EQ(cl_spawn(&options.known), -E2BIG);
    CHECK_EQ(cl_worker_ids(NULL, 0), 0);
    /* Nothing but the size means the same as NULL, in each length. */
    options.newer[0] = 0;
    CHECK_EQ(await_exit(OK(cl_spawn(&options.known)), 5000)->exit_code, 0);
    options.known.size = sizeof options.known;
    CHECK_EQ(await_exit(OK(cl_spawn(&options.known)), 5000)->exit_code, 0);
    options.known.size = offsetof(cl_spawn_options_t, argv);
    options.known.argv = (char *const *)8; /* behind the end: not looked at */
    CHECK_EQ(await_exit(OK(cl_spawn(&options.known)), 5000)->exit_code, 0);
    /* No struct ends in the middle of a pointer: half of one is not followed. */
    options.known.size += 4;
    CHECK_EQ(await_exit(OK(cl_spawn(&options.known)), 5000)->exit_code, 0);
    finish();
}

/* The caller's size bounds what is written; longer structs get their known part. */
static void worker_info(void) {
    union {
        cl_worker_info_t info;
        unsigned char bytes[sizeof(cl_worker_info_t) + 64];
    } place;
    primary_ready(serve_any_port);
    int id = fork_worker();
    await_listening(id, 1);
    ZERO(place);
    CHECK_EQ(cl_worker_info(id, &place.info), -EINVAL);
    size_t sizes[] = {offsetof(cl_worker_info_t, slot), offsetof(cl_worker_info_t, pid), offsetof(cl_worker_info_t, delivered),
                      sizeof(cl_worker_info_t)};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        memset(&place, 0xa5, sizeof place);
        place.info.size = sizes[i];
        CHECK_EQ(cl_worker_info(id, &place.info), 0);
        CHECK_EQ(place.info.id, id);
        for (size_t at = sizes[i]; at < sizeof place; at++) CHECK_EQ(place.bytes[at], 0xa5);
    }
    CHECK_EQ(place.info.slot, 0);
    CHECK_EQ(place.info.state, CL_WORKER_LISTENING);
    CHECK_EQ(kill(place.info.pid, 0), 0);
    memset(&place, 0, sizeof place);
    place.info.size = sizeof place;
    CHECK_EQ(cl_worker_info(id, &place.info), 0);
    CHECK_EQ(place.info.id, id);
    finish();
}

static const check_case_t cases[] = {
    ROLE_CASES(listen_options),
    {"settings", settings},
    {"settings_accumulate", settings_accumulate},
    {"default_is_round_robin", default_is_round_robin},
    {"spawn_options", spawn_options},
    {"worker_info", worker_info},
};
CHECK_MAIN(cases)
