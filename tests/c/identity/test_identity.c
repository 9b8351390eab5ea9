/* Who am I: alone, as a worker of both kinds, as a grandchild, and with an environment that lies. */
#include "frame.h"
#include "primary.h"

static void expect_plain(void) {
    CHECK_EQ(cl_is_primary(), 1);
    CHECK_EQ(cl_is_worker(), 0);
    CHECK_EQ(cl_worker_id(), 0);
    CHECK_EQ(cl_worker_slot(), -1);
    CHECK(getenv("CL_WORKER_ID") == NULL);
    CHECK(getenv("CL_WORKER_SLOT") == NULL);
    CHECK(getenv("CL_CHANNEL_FD") == NULL);
}

static void alone(void) { expect_plain(); }

/* -- Workers ----------------------------------------------------------------------------------------------------- */

static int describe_worker(void) {
    char text[128];
    CHECK_EQ(cl_is_primary(), 0);
    CHECK_EQ(cl_is_worker(), 1);
    CHECK(getenv("CL_WORKER_ID") == NULL);
    CHECK(getenv("CL_WORKER_SLOT") == NULL);
    CHECK(getenv("CL_CHANNEL_FD") == NULL);
    int n = snprintf(text, sizeof text, "%d %d %d", cl_worker_id(), cl_worker_slot(), (int)getpid());
    OK(cl_send(text, (size_t)n));
    while (cl_receive(text, sizeof text, -1) != -ESHUTDOWN) {}
    CHECK_EQ(cl_worker_id() > 0, 1); /* still known after leaving began */
    return 0;
}

static void three_workers(int spawned) {
    int ids[3];
    primary_ready(describe_worker);
    for (int i = 0; i < 3; i++) {
        char wanted[128];
        ids[i] = spawned ? spawn_worker() : fork_worker();
        /* Ids grow by one; the first was used by the warm-up. */
        CHECK_EQ(ids[i], i + 2);
        CHECK_EQ(slot_of(ids[i]), i);
        PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, ids[i], 0) >= 0, 5000);
        snprintf(wanted, sizeof wanted, "%d %d %d", ids[i], i, pid_of(ids[i]));
        CHECK(strcmp(seen[find_event(CL_EVENT_MESSAGE, ids[i], 0)].data, wanted) == 0);
    }
    int listed[8];
    CHECK_EQ(cl_worker_ids(listed, 8), 3);
    for (int i = 0; i < 3; i++) CHECK(listed[0] == ids[i] || listed[1] == ids[i] || listed[2] == ids[i]);
    expect_plain();
    finish();
    for (int i = 0; i < 3; i++) CHECK_EQ(await_exit(ids[i], 1)->exit_code, 0);
}

static void forked_workers(void) { three_workers(0); }

static void spawned_workers(void) {
    if (worker_side()) {
        describe_worker();
        return;
    }
    three_workers(1);
}

/* -- What a worker starts is no worker -------------------------------------------------------------------------- */

static void grandchild(void) {
    if (count_descriptors() != 3) list_descriptors();
    CHECK_EQ(count_descriptors(), 3);
    expect_plain();
}

static void start_grandchild(void) { WAIT_SUCCESS(start_role("_grandchild", -1)); }
IN_WORKERS(start_grandchild)

/* A worker copies its own environment to a child, together with the very channel. The HELLO is gone, a message for
 * the worker waits in it: neither may make the child a worker, nor may the child take the message. */
static void copied(void) {
    int fd = atoi(getenv("CL_CHANNEL_FD"));
    struct stat before, after;
    SYS(fstat(fd, &before));
    expect_plain();
    SYS(fstat(fd, &after));
    CHECK_EQ(before.st_ino, after.st_ino);
}

static void copy_environment(void) {
    char number[16], text[64];
    if (!worker_side()) {
        primary_ready(leave_at_once);
        int id = spawn_worker();
        OK(cl_worker_send(id, "for the worker", 14));
        CHECK_EQ(await_exit(id, 10000)->exit_code, 0);
        finish();
        return;
    }
    CHECK_EQ(readable_within(cl_channel_fd(), 5000), 1);
    int copy = SYS(dup(cl_channel_fd()));
    snprintf(number, sizeof number, "%d", copy);
    setenv("CL_CHANNEL_FD", number, 1);
    snprintf(number, sizeof number, "%d", cl_worker_id());
    setenv("CL_WORKER_ID", number, 1);
    snprintf(number, sizeof number, "%d", cl_worker_slot());
    setenv("CL_WORKER_SLOT", number, 1);
    WAIT_SUCCESS(start_role("_copied", -1));
    close(copy);
    CHECK_EQ(cl_receive(text, sizeof text, 5000), 14);
    CHECK(memcmp(text, "for the worker", 14) == 0);
}

/* -- Forged environments ----------------------------------------------------------------------------------------- */

enum { HELLO_LENGTH = 40 };

static void put_hello(unsigned char *frame, const char *magic, unsigned id, unsigned slot) {
    unsigned short type = 1;
    unsigned version = 1, pid = (unsigned)getpid();
    memset(frame, 0, HELLO_LENGTH);
    memcpy(frame, &type, 2);
    memcpy(frame + 8, magic, 8);
    memcpy(frame + 16, &version, 4);
    memcpy(frame + 20, &id, 4);
    memcpy(frame + 24, &slot, 4);
    memcpy(frame + 28, &pid, 4);
    memset(frame + 32, 7, 8);
}

/* Descriptors travel with the packet, so that a look at it that installs them shows in the count. */
static void send_with_descriptors(int fd, const void *data, size_t length) {
    static const int passed[3] = {0, 1, 2};
    OK(send_packet(fd, data, length, passed, 3));
}

/* Runs in the child: believes nothing and touches nothing. */
static void forged(void) {
    const char *text = getenv("CL_CHANNEL_FD");
    int fd = text != NULL ? atoi(text) : -1;
    int before = count_descriptors();
    int flags = fcntl(fd, F_GETFD), status = fcntl(fd, F_GETFL);
    expect_plain();
    CHECK_EQ(count_descriptors(), before);
    CHECK_EQ(fcntl(fd, F_GETFD), flags);
    CHECK_EQ(fcntl(fd, F_GETFL), status);
    CHECK_EQ(cl_send("x", 1), -EPERM);
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    close(connect4(bound_port(listener)));
    close(OK(cl_accept(listener, NULL, NULL)));
    OK(cl_close(listener));
    check_baseline = before;
}

static void expect_forged(const char *id, const char *slot, const char *channel) {
    if (id != NULL) setenv("CL_WORKER_ID", id, 1);
    if (slot != NULL) setenv("CL_WORKER_SLOT", slot, 1);
    if (channel != NULL) setenv("CL_CHANNEL_FD", channel, 1);
    WAIT_SUCCESS(start_role("_forged", -1));
    unsetenv("CL_WORKER_ID");
    unsetenv("CL_WORKER_SLOT");
    unsetenv("CL_CHANNEL_FD");
}

static void expect_forged_fd(int fd) {
    char number[16];
    snprintf(number, sizeof number, "%d", fd);
    expect_forged("1", "0", number);
}

static void forged_numbers(void) {
    static const char *const channels[] = {"999", "-1", "", "x", "3x", " 3", "99999999999999999999", "4294967299", "0x3"};
    static const char *const ids[] = {"0", "-1", "", "x", "99999999999999999999"};
    for (size_t i = 0; i < sizeof channels / sizeof channels[0]; i++) expect_forged("1", "0", channels[i]);
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) expect_forged(ids[i], ids[i], "999");
    expect_forged("1", NULL, NULL);
    expect_forged(NULL, "0", NULL);
    expect_forged(NULL, NULL, "0");
    expect_forged("1", "0", NULL);
}

static void forged_files(void) {
    int ends[2];
    SYS(pipe(ends));
    expect_forged_fd(ends[0]);
    expect_forged_fd(ends[1]);
    CHECK_EQ(readable_within(ends[0], 0), 0);
    close(ends[0]);
    close(ends[1]);
    int file = SYS(open(case_path("file"), O_RDWR | O_CREAT, 0600));
    expect_forged_fd(file);
    CHECK_EQ(lseek(file, 0, SEEK_END), 0);
    close(file);
    int listener = plain_listener(0);
    SYS(fcntl(listener, F_SETFD, 0));
    expect_forged_fd(listener);
    close(listener);
    expect_forged_fd(0);
}

/* A socket pair with one packet waiting, or none: nothing is written into it, nothing taken out of it. */
static void forged_pair(int type, const void *packet, size_t length, int descriptors) {
    unsigned char found[256];
    int pair[2];
    SYS(socketpair(AF_UNIX, type, 0, pair));
    SYS(fcntl(pair[1], F_SETFD, FD_CLOEXEC));
    if (packet != NULL && descriptors) send_with_descriptors(pair[1], packet, length);
    else if (packet != NULL) CHECK_EQ(send(pair[1], packet, length, 0), (long long)length);
    expect_forged_fd(pair[0]);
    CHECK_EQ(readable_within(pair[1], 0), 0);
    ssize_t n = recv(pair[0], found, sizeof found, MSG_DONTWAIT);
    if (packet == NULL) {
        CHECK(n == -1 && errno == EAGAIN);
    } else {
        CHECK_EQ(n, length);
        CHECK(memcmp(found, packet, length) == 0);
    }
    close(pair[0]);
    close(pair[1]);
}

static void forged_pairs(void) {
    unsigned char hello[HELLO_LENGTH];
    put_hello(hello, "libclust", 1, 0);
    forged_pair(SOCK_STREAM, hello, sizeof hello, 1);
    forged_pair(SOCK_DGRAM, hello, sizeof hello, 1);
    forged_pair(SOCK_SEQPACKET, NULL, 0, 0);
    forged_pair(SOCK_SEQPACKET, "", 0, 0);
    forged_pair(SOCK_SEQPACKET, "x", 1, 1);
    forged_pair(SOCK_SEQPACKET, "something else, longer than any hello that may ever be", 54, 1);
    forged_pair(SOCK_SEQPACKET, hello, HELLO_LENGTH - 1, 1);
    forged_pair(SOCK_SEQPACKET, hello, 8, 1);
    put_hello(hello, "libclusX", 1, 0);
    forged_pair(SOCK_SEQPACKET, hello, sizeof hello, 1);
    put_hello(hello, "libclust", 2, 0);
    forged_pair(SOCK_SEQPACKET, hello, sizeof hello, 1);
    put_hello(hello, "libclust", 1, 1);
    forged_pair(SOCK_SEQPACKET, hello, sizeof hello, 1);
    put_hello(hello, "libclust", 1, 0);
    hello[0] = 8;
    forged_pair(SOCK_SEQPACKET, hello, sizeof hello, 1);
}

/* The pair's other end is gone already. */
static void forged_closed_peer(void) {
    int pair[2];
    SYS(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    close(pair[1]);
    expect_forged_fd(pair[0]);
    close(pair[0]);
}

static const check_case_t cases[] = {
    {"alone", alone},
    {"forked_workers", forked_workers},
    {"spawned_workers", spawned_workers},
    {"_grandchild", grandchild},
    WORKER_CASES(start_grandchild),
    {"_copied", copied},
    {"copy_environment", copy_environment},
    {"_forged", forged},
    {"forged_numbers", forged_numbers},
    {"forged_files", forged_files},
    {"forged_pairs", forged_pairs},
    {"forged_closed_peer", forged_closed_peer},
};
CHECK_MAIN(cases)
