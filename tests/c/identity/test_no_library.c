/* Header-only without a libcluster.so.0 anywhere: sockets and identity work, the primary's functions say CL_ENOLIB. */
#include "primary.h"

#ifdef CL_HEADER_ONLY

static int never_run(void *argument) {
    (void)argument;
    return 0;
}

static int library_is_mapped(void) {
    char line[1024];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) found = found || strstr(line, "libcluster") != NULL;
    fclose(maps);
    return found;
}

static void without(void) {
    cl_settings_t settings;
    cl_worker_info_t info;
    int ids[2];
    ZERO(settings);
    settings.size = sizeof settings;
    ZERO(info);
    info.size = sizeof info;
    if (cl_setup_primary(&settings) != CL_ENOLIB) check_skip("this system has a libcluster.so.0 of its own");
    CHECK(strstr(cl_last_error(), "libcluster") != NULL);
    CHECK_EQ(cl_fork(), CL_ENOLIB);
    CHECK_EQ(cl_spawn(NULL), CL_ENOLIB);
    CHECK_EQ(cl_serve(1, never_run, NULL), CL_ENOLIB);
    CHECK_EQ(cl_run(), CL_ENOLIB);
    CHECK_EQ(cl_step(0), CL_ENOLIB);
    CHECK_EQ(cl_poll_fd(), CL_ENOLIB);
    CHECK_EQ(cl_stop(0), CL_ENOLIB);
    CHECK_EQ(cl_on_event(remember_event, NULL), CL_ENOLIB);
    CHECK_EQ(cl_worker_ids(ids, 2), CL_ENOLIB);
    CHECK_EQ(cl_worker_info(1, &info), CL_ENOLIB);
    CHECK_EQ(cl_worker_send(1, "x", 1), CL_ENOLIB);
    CHECK_EQ(cl_worker_disconnect(1), CL_ENOLIB);
    CHECK_EQ(cl_worker_kill(1, SIGTERM), CL_ENOLIB);
    /* The rest needs nobody. */
    CHECK_EQ(cl_is_primary(), 1);
    CHECK_EQ(cl_worker_slot(), -1);
    CHECK_EQ(cl_send("x", 1), -EPERM);
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    int client = connect4(bound_port(listener));
    answer(OK(cl_accept(listener, NULL, NULL)));
    close(client);
    OK(cl_close(listener));
    CHECK(strlen(cl_strerror(CL_ENOLIB)) > 0);
    CHECK(strcmp(cl_err_name(CL_ENOLIB), "CL_ENOLIB") == 0);
    CHECK(strlen(cl_version()) > 0);
}

static void nowhere(void) {
    unsetenv("LD_LIBRARY_PATH");
    WAIT_SUCCESS(start_role("_without", -1));
}

/* As a worker of a library's primary it needs no library itself, and does not load one. */
static void worker_loads_nothing(void) {
    if (worker_side()) {
        CHECK_EQ(library_is_mapped(), 0);
        serve_any_port();
        CHECK_EQ(cl_fork(), -EPERM);
        CHECK_EQ(cl_last_error()[0] != '\0', 1);
        CHECK_EQ(library_is_mapped(), 0);
        return;
    }
    primary_ready(serve_any_port);
    CHECK_EQ(library_is_mapped(), 1);
    int id = spawn_worker();
    int port = await_listening(id, 1);
    for (int i = 0; i < 5; i++) CHECK_EQ(ask(port), id);
    OK(cl_worker_disconnect(id));
    CHECK_EQ(await_exit(id, 3000)->exit_code, 0);
    finish();
}

/* A listener of before the library was needed stays what it was afterwards. */
static void loaded_later(void) {
    int cost = -count_descriptors(), listener = OK(cl_listen("127.0.0.1:0", 0));
    cost += count_descriptors();
    int port = bound_port(listener);
    CHECK_EQ(library_is_mapped(), 0);
    primary_ready(serve_any_port);
    CHECK_EQ(library_is_mapped(), 1);
    CHECK_EQ(bound_port(listener), port);
    int client = connect4(port), later = OK(cl_listen("127.0.0.1:0", 0));
    answer(OK(cl_accept(listener, NULL, NULL)));
    close(client);
    client = connect4(bound_port(later));
    answer(OK(cl_accept(later, NULL, NULL)));
    close(client);
    int id = fork_worker();
    CHECK_EQ(ask(await_listening(id, 1)), id);
    finish();
    OK(cl_close(later));
    CHECK_EQ(count_descriptors(), check_baseline);
    OK(cl_close(listener));
    CHECK_EQ(cl_accept(listener, NULL, NULL), -EBADF);
    check_baseline -= cost;
}

#else
static void nowhere(void) { check_skip("here the library is linked"); }
static void without(void) { nowhere(); }
static void worker_loads_nothing(void) { nowhere(); }
static void loaded_later(void) { nowhere(); }
#endif

static const check_case_t cases[] = {
    {"nowhere", nowhere}, {"_without", without}, {"worker_loads_nothing", worker_loads_nothing}, {"loaded_later", loaded_later},
};
CHECK_MAIN(cases)
