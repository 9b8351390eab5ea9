/* Unix stream sockets: modes, stale and live files, long and relative paths, abstract names, and who unlinks. */
#include "primary.h"
#include <stddef.h>

static void path(void) {
    struct sockaddr_un name;
    socklen_t length = sizeof name;
    const char *place = case_path("socket");
    int listener = OK(cl_listen(unix_address(place), 0));
    ZERO(name);
    OK(cl_getsockname(listener, (struct sockaddr *)&name, &length));
    CHECK_EQ(name.sun_family, AF_UNIX);
    CHECK(strcmp(name.sun_path, place) == 0);
    for (int i = 0; i < 3; i++) served(listener, try_connect_unix(place));
    OK(cl_close(listener));
    if (cl_is_worker() != 1) CHECK(access(place, F_OK) != 0);
}
IN_WORKERS(path)

static int mode_of(const char *place) {
    struct stat status;
    SYS(lstat(place, &status));
    CHECK(S_ISSOCK(status.st_mode));
    return (int)(status.st_mode & 0777);
}

/* Modes come from the flags, never wider than asked, whatever the umask, which stays as it was. */
static void modes(void) {
    static const mode_t masks[] = {022, 0, 077};
    for (int i = 0; i < 3; i++) {
        umask(masks[i]);
        const char *place = case_path("mode");
        int listener = OK(listen_flags(unix_address(place), 0));
        CHECK_EQ(mode_of(place) & S_IWOTH, 0);
        OK(cl_close(listener));
        listener = OK(listen_flags(unix_address(place), CL_LISTEN_WRITABLE_ALL));
        CHECK_EQ(mode_of(place) & 0222, 0222);
        OK(cl_close(listener));
        listener = OK(listen_flags(unix_address(place), CL_LISTEN_READABLE_ALL));
        CHECK_EQ(mode_of(place) & 0444, 0444);
        CHECK_EQ(mode_of(place) & S_IWOTH, 0);
        OK(cl_close(listener));
        listener = OK(listen_flags(unix_address(place), CL_LISTEN_READABLE_ALL | CL_LISTEN_WRITABLE_ALL));
        CHECK_EQ(mode_of(place) & 0666, 0666);
        OK(cl_close(listener));
        CHECK_EQ(umask(022), masks[i]);
    }
}

static int bound_unix(const char *place, int type) {
    struct sockaddr_un name = address_unix(place);
    int fd = SYS(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    SYS(bind(fd, (struct sockaddr *)&name, sizeof name));
    return fd;
}

static void stale(void) {
    const char *place = case_path("stale");
    int dead = bound_unix(place, SOCK_STREAM);
    SYS(listen(dead, 1));
    close(dead);
    int listener = OK(cl_listen(unix_address(place), 0));
    served(listener, try_connect_unix(place));
    OK(cl_close(listener));
}
IN_WORKERS(stale)

/* Somebody lives there, busy or deaf or of another kind: he stays, and so does anything that is no socket. */
static void live(void) {
    const char *place = case_path("live"), *target = case_path("target");
    struct stat before, after;
    char text[8];
    int one = bound_unix(place, SOCK_STREAM);
    SYS(listen(one, 0));
    SYS(stat(place, &before));
    CHECK_EQ(cl_listen(unix_address(place), 0), -EADDRINUSE);
    CHECK(strlen(cl_last_error()) > 10);
    /* Now its backlog is full, where a connect that waits would wait for ever. */
    struct sockaddr_un name = address_unix(place);
    int clients[16], count = 0;
    for (;;) {
        clients[count] = SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        if (connect(clients[count++], (struct sockaddr *)&name, sizeof name) != 0 || count == 16) break;
    }
    CHECK_EQ(cl_listen(unix_address(place), 0), -EADDRINUSE);
    SYS(stat(place, &after));
    CHECK_EQ(before.st_ino, after.st_ino);
    while (count > 0) close(clients[--count]);
    close(one);
    SYS(unlink(place));

    one = bound_unix(place, SOCK_DGRAM);
    CHECK_EQ(cl_listen(unix_address(place), 0), -EADDRINUSE);
    CHECK_EQ(access(place, F_OK), 0);
    close(one);
    SYS(unlink(place));
    one = bound_unix(place, SOCK_SEQPACKET);
    SYS(listen(one, 4));
    CHECK_EQ(cl_listen(unix_address(place), 0), -EADDRINUSE);
    CHECK_EQ(access(place, F_OK), 0);
    close(one);
    SYS(unlink(place));

    int file = SYS(open(place, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    CHECK_EQ(write(file, "mine", 4), 4);
    CHECK_EQ(cl_listen(unix_address(place), 0), -EADDRINUSE);
    CHECK_EQ(pread(file, text, sizeof text, 0), 4);
    SYS(stat(place, &before));
    CHECK_EQ(before.st_nlink, 1);
    close(file);
    /* A symbolic link is not followed, neither to a file nor to a stale socket. */
    SYS(rename(place, target));
    SYS(symlink(target, place));
    CHECK_EQ(cl_listen(unix_address(place), 0), -EADDRINUSE);
    CHECK_EQ(access(target, F_OK), 0);
    SYS(unlink(target));
    close(bound_unix(target, SOCK_STREAM));
    CHECK_EQ(cl_listen(unix_address(place), 0), -EADDRINUSE);
    CHECK_EQ(access(target, F_OK), 0);
    SYS(unlink(place));
    SYS(unlink(target));
    SYS(mkdir(place, 0700));
    CHECK_EQ(cl_listen(unix_address(place), 0), -EADDRINUSE);
    SYS(rmdir(place));
    OK(cl_close(OK(cl_listen(unix_address(place), 0))));
}
IN_WORKERS(live)

/* bind(2) says ENOENT, Node says EACCES. */
static void no_folder(void) {
    int result = cl_listen(unix_address(case_path("missing/socket")), 0);
    CHECK(result == -ENOENT || result == -EACCES);
    CHECK(strstr(cl_last_error(), "missing/socket") != NULL);
}
IN_WORKERS(no_folder)

/* Longer than the 107 bytes of a sockaddr_un: bound and reached through its folder. */
static void long_path(void) {
    char place[PATH_MAX], link[PATH_MAX], cwd[PATH_MAX], again[PATH_MAX];
    struct stat status;
    CHECK(getcwd(cwd, sizeof cwd) != NULL);
    snprintf(place, sizeof place, "%s", case_path("one-quite-long-folder-name-that-says-nothing"));
    for (int depth = 0; depth < 6; depth++) {
        if (mkdir(place, 0700) != 0) CHECK_EQ(errno, EEXIST);
        strcat(place, "/another-folder-with-a-name-of-some-length");
    }
    if (mkdir(place, 0700) != 0) CHECK_EQ(errno, EEXIST);
    int folder = SYS(open(place, O_PATH | O_DIRECTORY | O_CLOEXEC));
    strcat(place, "/socket");
    CHECK(strlen(place) > 200);
    int listener = OK(cl_listen(unix_address(place), 0));
    SYS(stat(place, &status));
    CHECK(S_ISSOCK(status.st_mode));
    snprintf(link, sizeof link, "/proc/self/fd/%d/socket", folder);
    served(listener, try_connect_unix(link));
    OK(cl_close(listener));
    CHECK(getcwd(again, sizeof again) != NULL);
    CHECK(strcmp(cwd, again) == 0);
    if (cl_is_worker() != 1) CHECK(access(place, F_OK) != 0);
    close(folder);
}
IN_WORKERS(long_path)

/* A relative path is the asking process's, also when that stands elsewhere than its primary. */
static void relative(void) {
    SYS(mkdir(case_path("elsewhere"), 0700));
    SYS(chdir(case_path("elsewhere")));
    int listener = OK(cl_listen("unix:socket", 0));
    CHECK_EQ(access(case_path("elsewhere/socket"), F_OK), 0);
    served(listener, try_connect_unix(case_path("elsewhere/socket")));
    OK(cl_close(listener));
}
IN_WORKERS(relative)

static void abstract(void) {
    char address[64];
    struct sockaddr_un name;
    ZERO(name);
    name.sun_family = AF_UNIX;
    int n = snprintf(address, sizeof address, "unix:@libcluster-test-%d", (int)getpid());
    memcpy(name.sun_path + 1, address + 6, (size_t)n - 6);
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n - 6);
    int listener = OK(cl_listen(address, 0));
    for (int i = 0; i < 3; i++) served(listener, try_connect(AF_UNIX, &name, length));
    OK(cl_close(listener));
    if (cl_is_worker() != 1) CHECK_EQ(try_connect(AF_UNIX, &name, length), -ECONNREFUSED);
}
IN_WORKERS(abstract)

/* -- Several workers: the file belongs to the handle, so to the primary ----------------------------------------- */

static int serve_path(void) { return serve_listener(OK(cl_listen(unix_address(case_path("shared")), 0))); }

static void unlinked_at_the_end(void) {
    const char *place = case_path("shared");
    use_exact_turns();
    primary_ready(serve_path);
    int one = fork_worker(), two = fork_worker();
    CHECK_EQ(await_listening(one, 1), -1);
    CHECK_EQ(await_listening(two, 1), -1);
    CHECK(strcmp(seen[find_event(CL_EVENT_LISTENING, one, 0)].address, unix_address(place)) == 0);
    CHECK(answered_by(try_connect_unix(place)) != answered_by(try_connect_unix(place)));
    /* A worker's end, by force or not, takes the file from nobody. */
    OK(cl_worker_kill(one, SIGKILL));
    await_exit(one, 3000);
    CHECK_EQ(answered_by(try_connect_unix(place)), two);
    int three = fork_worker();
    await_listening(three, 1);
    OK(cl_worker_disconnect(two));
    await_exit(two, 5000);
    CHECK_EQ(answered_by(try_connect_unix(place)), three);
    finish();
    CHECK(access(place, F_OK) != 0);
}

/* What somebody else put in the file's place in the meantime is not ours to remove. */
static void not_our_file(void) {
    const char *place = case_path("replaced");
    int listener = OK(cl_listen(unix_address(place), 0));
    SYS(unlink(place));
    int other = bound_unix(place, SOCK_STREAM);
    OK(cl_close(listener));
    CHECK_EQ(access(place, F_OK), 0);
    close(other);
}

static const check_case_t cases[] = {
    ROLE_CASES(path),      {"modes", modes},      ROLE_CASES(stale),
    ROLE_CASES(live),      ROLE_CASES(no_folder), ROLE_CASES(long_path),
    ROLE_CASES(relative),  ROLE_CASES(abstract),  {"unlinked_at_the_end", unlinked_at_the_end},
    {"not_our_file", not_our_file},
};
CHECK_MAIN(cases)
