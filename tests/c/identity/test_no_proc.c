/* Without /proc, as in a bare chroot: what can work works, and what needs it says so. */
#include "primary.h"
#include <sys/mount.h>
#include <sys/un.h>

static void take_proc_away(void) {
    if (unshare(CLONE_NEWNS) != 0) check_skip("a mount namespace of its own is not allowed here");
    SYS(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
    if (mount("none", "/proc", "tmpfs", MS_RDONLY, "size=4k") != 0) check_skip("nothing can be mounted here");
    CHECK(access("/proc/self", F_OK) != 0);
    check_ignore_descriptors = 1;
}

static int serve_file(void) {
    int connection, listener = cl_listen(getenv("NO_PROC_ADDRESS"), 0);
    if (listener < 0) dprintf(2, "worker: %s\n", cl_last_error());
    if (listener < 0) return 1;
    while ((connection = cl_accept(listener, NULL, NULL)) >= 0) answer(connection);
    return connection == -ESHUTDOWN ? 0 : 1;
}

static int serve_file_for(void *unused) {
    (void)unused;
    return serve_file();
}

static void expect_service(int stale) {
    const char *path = case_path("server.sock");
    char address[200];
    if (!worker_side()) take_proc_away();
    snprintf(address, sizeof address, "unix:%s", path);
    setenv("NO_PROC_ADDRESS", address, 1);
    if (worker_side()) exit(serve_file());
    if (stale) {
        struct sockaddr_un name = address_unix(path);
        int dead = SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        SYS(bind(dead, (struct sockaddr *)&name, sizeof name));
        close(dead);
    }
    OK(cl_on_event(remember_event, NULL));
    worker_main = serve_file;
    int forked = fork_worker(), spawned = spawn_worker();
    await_listening(forked, 1);
    await_listening(spawned, 1);
    for (int i = 0; i < 4; i++) {
        int client = try_connect_unix(path);
        CHECK(client >= 0);
        int by = answered_by(client);
        CHECK(by == forked || by == spawned);
    }
    finish();
}

static void forked_and_spawned(void) { expect_service(0); }
static void dead_file(void) { expect_service(1); }

/* The whole of it: serve, a client, a stop by signal. */
static void serves(void) {
    char address[64];
    int port = free_port(), client = -1;
    char text[64];
    take_proc_away();
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    setenv("NO_PROC_ADDRESS", address, 1);
    pid_t primary = fork();
    if (primary == 0) _exit(cl_serve(2, serve_file_for, NULL));
    WAIT_UNTIL((client = try_connect4(port)) >= 0, 8000);
    CHECK(receive_all(client, text, sizeof text) > 0);
    close(client);
    SYS(kill(primary, SIGTERM));
    CHECK_EQ(wait_status(primary), 0);
}

static const check_case_t cases[] = {
    {"forked_and_spawned", forked_and_spawned}, {"dead_file", dead_file}, {"serves", serves}};
CHECK_MAIN(cases)
