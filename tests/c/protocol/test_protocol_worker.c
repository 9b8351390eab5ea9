/* The library as a worker under a primary made by hand: what it sends and what it makes of what it gets. */
#include "primary_by_hand.h"
#include <pthread.h>

/* -- One whole life ------------------------------------------------------------------------------------------------ */

static void live(void) {
    char text[64];
    cl_listen_options_t options;
    check_ignore_descriptors = 1;
    CHECK_EQ(cl_is_worker(), 1);
    CHECK_EQ(cl_worker_id(), 5);
    CHECK_EQ(cl_worker_slot(), 2);
    ZERO(options);
    options.size = sizeof options;
    options.address = "[::1]:0";
    options.backlog = 99;
    options.flags = CL_LISTEN_IPV6ONLY | CL_LISTEN_NONBLOCK;
    int listener = OK(cl_listen_with(&options));
    CHECK_EQ(bound_port(listener), 4711);
    CHECK_EQ(cl_accept(listener, NULL, NULL), -EAGAIN);
    OK(cl_send("listening", 9));
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    CHECK_EQ(readable_within(listener, 5000), 1);
    int connection;
    while ((connection = cl_accept(listener, (struct sockaddr *)&peer, &length)) == -EAGAIN) nap(1); /* that was the NOP */
    answer(OK(connection));
    CHECK_EQ(length, sizeof peer);
    CHECK_EQ(ntohs(peer.sin_port), 4712);
    options.address = "unix:/no/where";
    options.flags = CL_LISTEN_READABLE_ALL | CL_LISTEN_WRITABLE_ALL;
    CHECK_EQ(cl_listen_with(&options), -EADDRINUSE);
    CHECK(strcmp(cl_last_error(), "somebody lives there") == 0);
    CHECK_EQ(cl_receive(text, sizeof text, 5000), 2);
    CHECK(memcmp(text, "hi", 2) == 0);
    CHECK_EQ(cl_receive(text, sizeof text, 5000), 0);
    OK(cl_set_load(17));
    OK(cl_close(listener));
    int second = OK(cl_listen("127.0.0.1:0", 0));
    CHECK_EQ(cl_accept(second, NULL, NULL), -ESHUTDOWN);
    CHECK_EQ(cl_receive(text, sizeof text, 5000), -ESHUTDOWN);
    OK(cl_close(second));
}

static void expect_listen(const frame_t *frame, unsigned flags, int backlog, unsigned index, const char *address) {
    CHECK_EQ(frame->type, LISTEN);
    CHECK_EQ(frame->fd_count, 0);
    CHECK_EQ(frame->body_length, 12 + strlen(address));
    CHECK_EQ(get_u32(frame->body) & ~(unsigned)CL_LISTEN_NONBLOCK, flags);
    CHECK_EQ((int)get_u32(frame->body + 4), backlog);
    CHECK_EQ(get_u32(frame->body + 8), index);
    CHECK(memcmp(frame->body + 12, address, strlen(address)) == 0);
}

/* What a grant's kind says: 0x100 is that socket options may be set later. */
static unsigned grant_kind = 1;

/* Grants a mailbox under the listener's number; our end of it. */
static int grant(const hand_t *self, unsigned number, unsigned listener) {
    unsigned char body[16 + sizeof(struct sockaddr_in)];
    struct sockaddr_in name = address4(4711);
    int mailbox[2];
    SYS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, mailbox));
    memset(body, 0, sizeof body);
    put_u32(body + 4, listener);
    put_u32(body + 8, 1);
    put_u32(body + 12, grant_kind);
    memcpy(body + 16, &name, sizeof name);
    CHECK_EQ(send_frame(self->grants, GRANT, number, body, sizeof body, &mailbox[1], 1), 0);
    close(mailbox[1]);
    return mailbox[0];
}

static void whole_life(void) {
    hand_t self = start_worker("_live", 1);
    struct sockaddr_in peer = address4(4712);
    char text[64];
    expect_online(&self);
    const frame_t *frame = receive_frame(self.channel, 5000);
    expect_listen(frame, CL_LISTEN_IPV6ONLY, 99, 1, "[::1]:0");
    unsigned number = frame->number;
    int mailbox = grant(&self, number, 31);
    frame = expect_frame(self.channel, MESSAGE, 9);
    CHECK(memcmp(frame->body, "listening", 9) == 0);
    /* A NOP is nobody; the connection behind it is taken, with the peer's address that comes along. */
    CHECK_EQ(send_frame(mailbox, NOP, 0, NULL, 0, NULL, 0), 0);
    int pair[2];
    SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    CHECK_EQ(send_frame(mailbox, CONNECTION, 0, &peer, sizeof peer, &pair[1], 1), 0);
    close(pair[1]);
    CHECK_EQ(readable_within(pair[0], 5000), 1);
    CHECK(receive_all(pair[0], text, sizeof text) > 0);
    CHECK_EQ(atoi(text), 5);
    close(pair[0]);
    /* An error with a sentence. */
    frame = receive_frame(self.channel, 5000);
    expect_listen(frame, CL_LISTEN_READABLE_ALL | CL_LISTEN_WRITABLE_ALL, 99, 0, "unix:/no/where");
    CHECK(frame->number != number);
    number = frame->number;
    unsigned char body[64];
    put_u32(body, (unsigned)-EADDRINUSE);
    memcpy(body + 4, "somebody lives there", 20);
    CHECK_EQ(send_frame(self.grants, GRANT, number, body, 24, NULL, 0), 0);
    CHECK_EQ(send_frame(self.channel, MESSAGE, 0, "hi", 2, NULL, 0), 0);
    CHECK_EQ(send_frame(self.channel, MESSAGE, 0, NULL, 0, NULL, 0), 0);
    frame = expect_frame(self.channel, LOAD, 4);
    CHECK_EQ(get_u32(frame->body), 17);
    frame = expect_frame(self.channel, CLOSE, 4);
    CHECK_EQ(get_u32(frame->body), 31);
    close(mailbox);
    frame = receive_frame(self.channel, 5000);
    expect_listen(frame, 0, frame->body_length >= 12 ? (int)get_u32(frame->body + 4) : 0, 1, "127.0.0.1:0");
    mailbox = grant(&self, frame->number, 32);
    CHECK_EQ(send_frame(self.grants, DISCONNECT, 0, NULL, 0, NULL, 0), 0);
    CHECK_EQ(send_frame(self.channel, DISCONNECT, 0, NULL, 0, NULL, 0), 0);
    CHECK_EQ(send_frame(mailbox, STOP, 0, NULL, 0, NULL, 0), 0);
    frame = expect_frame(self.channel, CLOSE, 4);
    CHECK_EQ(get_u32(frame->body), 32);
    end_worker(&self);
    close(mailbox);
}

/* -- The scoreboard --------------------------------------------------------------------------------------------------- */

static const unsigned long long *counts;
static const unsigned *loads;

/* Counted are the calls of accept that return or begin to wait, and the connections. */
static void play(void) {
    cl_listen_options_t options;
    char text[8];
    check_ignore_descriptors = 1;
    CHECK_EQ(cl_is_worker(), 1);
    ZERO(options);
    options.size = sizeof options;
    options.address = "127.0.0.1:0";
    options.flags = CL_LISTEN_NONBLOCK;
    int listener = OK(cl_listen_with(&options));
    for (int i = 0; i < 3; i++) CHECK_EQ(cl_accept(listener, NULL, NULL), -EAGAIN);
    OK(cl_set_load(9));
    OK(cl_set_load(9));
    OK(cl_send("looked", 6));
    CHECK_EQ(cl_receive(text, sizeof text, 5000), 2);
    int waits = OK(cl_listen("127.0.0.2:0", 0));
    close(OK(cl_accept(waits, NULL, NULL)));
    OK(cl_send("took", 4));
    CHECK_EQ(cl_receive(text, sizeof text, 5000), 2);
}

static void pass_a_page(int seals) {
    board_of_worker = SYS(memfd_create("board", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    SYS(ftruncate(board_of_worker, 4096));
    SYS(fcntl(board_of_worker, F_ADD_SEALS, seals));
    const char *board = (const char *)mmap(NULL, 4096, PROT_READ, MAP_SHARED, board_of_worker, 0);
    CHECK(board != MAP_FAILED);
    counts = (const unsigned long long *)(const void *)board;
    loads = (const unsigned *)(const void *)(board + 80);
}

#define SHARED(place) __atomic_load_n(&(place), __ATOMIC_ACQUIRE)

static void scoreboard(void) {
    pass_a_page(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    hand_t self = start_worker("_play", 1);
    int pair[2];
    expect_online(&self);
    int first = grant(&self, expect_frame(self.channel, LISTEN, (size_t)-1)->number, 1);
    expect_frame(self.channel, MESSAGE, 6); /* and no LOAD */
    CHECK_EQ(SHARED(counts[8]), 0);
    CHECK_EQ(SHARED(counts[9]), 3);
    CHECK_EQ(SHARED(loads[0]), 9);
    CHECK_EQ(SHARED(loads[1]), 2);
    CHECK_EQ(send_frame(self.channel, MESSAGE, 0, "go", 2, NULL, 0), 0);
    int second = grant(&self, expect_frame(self.channel, LISTEN, (size_t)-1)->number, 2);
    WAIT_UNTIL(SHARED(counts[9]) == 4, 5000); /* it waits */
    SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    CHECK_EQ(send_frame(second, CONNECTION, 0, NULL, 0, &pair[1], 1), 0);
    expect_frame(self.channel, MESSAGE, 4);
    CHECK_EQ(SHARED(counts[8]), 1);
    CHECK_EQ(SHARED(counts[9]), 5);
    CHECK_EQ(SHARED(counts[0]), 0); /* the primary's */
    CHECK_EQ(send_frame(self.channel, MESSAGE, 0, "go", 2, NULL, 0), 0);
    end_worker(&self);
    close(pair[0]);
    close(pair[1]);
    close(first);
    close(second);
    close(board_of_worker);
}

/* A page that could be taken from under it, a worker does without. */
static void scoreboard_that_may_shrink(void) {
    pass_a_page(F_SEAL_GROW);
    hand_t self = start_worker("_play", 1);
    expect_online(&self);
    int mailbox = grant(&self, expect_frame(self.channel, LISTEN, (size_t)-1)->number, 1);
    for (int i = 0; i < 2; i++) CHECK_EQ(get_u32(expect_frame(self.channel, LOAD, 4)->body), 9);
    expect_frame(self.channel, MESSAGE, 6);
    for (int i = 0; i < 512; i++) CHECK_EQ(SHARED(counts[i]), 0);
    SYS(kill(self.pid, SIGKILL));
    wait_status(self.pid);
    close(self.channel);
    close(self.grants);
    close(self.lifeline);
    close(mailbox);
    close(board_of_worker);
}

/* -- Socket options later ------------------------------------------------------------------------------------------- */

static void set_later(void) {
    int one = 1;
    check_ignore_descriptors = 1;
    CHECK_EQ(cl_is_worker(), 1);
    /* A primary of version 0.1 knows no such thing, and is not asked. */
    int old = OK(cl_listen("127.0.0.1:0", 0));
    CHECK_EQ(cl_setsockopt(old, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), -EOPNOTSUPP);
    CHECK(strstr(cl_last_error(), "older version") != NULL);
    int listener = OK(cl_listen("127.0.0.2:0", 0));
    OK(cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    CHECK_EQ(cl_setsockopt(listener, -1, -2, "abc", 0), -EACCES);
    CHECK(strcmp(cl_last_error(), "not that one") == 0);
    CHECK_EQ(cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), -EACCES); /* without a sentence */
    CHECK(strlen(cl_last_error()) > 5);
    CHECK_EQ(cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), -EPROTO);
    OK(cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    CHECK_EQ(cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), -ESHUTDOWN);
    CHECK_EQ(cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), -ESHUTDOWN);
    OK(cl_close(listener));
}

static unsigned expect_option(const hand_t *self, int level, int name, size_t length) {
    const frame_t *frame;
    do frame = receive_frame(self->channel, 5000);
    while (frame->type == CLOSE); /* what it could not use */
    CHECK_EQ(frame->type, SETSOCKOPT);
    CHECK_EQ(frame->fd_count, 0);
    CHECK_EQ(frame->body_length, 12 + length);
    CHECK_EQ(get_u32(frame->body), 32);
    CHECK_EQ((int)get_u32(frame->body + 4), level);
    CHECK_EQ((int)get_u32(frame->body + 8), name);
    if (length == 4) CHECK_EQ(get_u32(frame->body + 12), 1);
    return frame->number;
}

static void say_outcome(const hand_t *self, unsigned number, int code, const char *sentence) {
    unsigned char body[64];
    put_u32(body, (unsigned)code);
    memcpy(body + 4, sentence, strlen(sentence));
    CHECK_EQ(send_frame(self->grants, GRANT, number, body, 4 + strlen(sentence), NULL, 0), 0);
}

static void options_later(void) {
    hand_t self = start_worker("_set_later", 1);
    expect_online(&self);
    int old = grant(&self, expect_frame(self.channel, LISTEN, (size_t)-1)->number, 31);
    grant_kind = 0x101;
    unsigned before = expect_frame(self.channel, LISTEN, (size_t)-1)->number;
    int mailbox = grant(&self, before, 32);
    unsigned number = expect_option(&self, IPPROTO_TCP, TCP_NODELAY, 4);
    CHECK(number != before);
    say_outcome(&self, number + 1000, -EACCES, "to nobody");
    say_outcome(&self, number + 1000, 0, "");
    close(grant(&self, number + 1000, 33));
    say_outcome(&self, number, 0, "");
    say_outcome(&self, expect_option(&self, -1, -2, 0), -EACCES, "not that one");
    say_outcome(&self, expect_option(&self, IPPROTO_TCP, TCP_NODELAY, 4), -EACCES, "");
    /* A share that nobody asked for is no answer to that. */
    close(grant(&self, expect_option(&self, IPPROTO_TCP, TCP_NODELAY, 4), 34));
    say_outcome(&self, expect_option(&self, IPPROTO_TCP, TCP_NODELAY, 4), 0, "");
    expect_option(&self, IPPROTO_TCP, TCP_NODELAY, 4);
    CHECK_EQ(send_frame(self.grants, DISCONNECT, 0, NULL, 0, NULL, 0), 0);
    const frame_t *frame = expect_frame(self.channel, CLOSE, 4);
    CHECK_EQ(get_u32(frame->body), 32);
    end_worker(&self);
    close(old);
    close(mailbox);
    grant_kind = 1;
}

/* -- A listener that is closed while an option is being set on it ----------------------------------------------------- */

enum { ROUNDS = 8 };
static int closed_meanwhile, asleep_soon;

static void *set_one(void *unused) {
    int one = 1;
    (void)unused;
    __atomic_store_n(&asleep_soon, (int)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    int code = cl_setsockopt(closed_meanwhile, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (code != -EBADF) OK(code);
    return NULL;
}

static void *close_it(void *unused) {
    (void)unused;
    __atomic_store_n(&asleep_soon, (int)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    OK(cl_close(closed_meanwhile));
    return NULL;
}

static int is_asleep(int thread) {
    char name[64], text[512] = "", *end;
    snprintf(name, sizeof name, "/proc/self/task/%d/stat", thread);
    int fd = thread > 0 ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    return n > 0 && (end = strrchr(text, ')')) != NULL && end[2] == 'S';
}

static void start_and_await(pthread_t *thread, void *(*body)(void *)) {
    __atomic_store_n(&asleep_soon, 0, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_create(thread, NULL, body, NULL), 0);
    WAIT_UNTIL(is_asleep(__atomic_load_n(&asleep_soon, __ATOMIC_SEQ_CST)), 5000);
}

/* While the channel is full neither can say its word. */
static void close_while_setting(void) {
    int channel = atoi(getenv("CL_CHANNEL_FD")), ready = atoi(getenv("CHECK_READY"));
    unsigned char packet[8] = {MESSAGE, 0, 0, 0, 0, 0, 0, 0};
    pthread_t threads[2];
    check_ignore_descriptors = 1;
    CHECK_EQ(cl_is_worker(), 1);
    for (int round = 0; round < ROUNDS; round++) {
        closed_meanwhile = OK(cl_listen("127.0.0.1:0", 0));
        while (send(channel, packet, sizeof packet, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {}
        start_and_await(&threads[0], set_one);
        start_and_await(&threads[1], close_it);
        CHECK_EQ(write(ready, "", 1), 1);
        for (int i = 0; i < 2; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
}

/* What is said of it comes before the close or not at all: behind it, it would be an offence. */
static void closed_while_set(void) {
    int ready[2], closed = 0, rounds = 0, mailbox = -1;
    char number[16], one;
    SYS(pipe(ready));
    snprintf(number, sizeof number, "%d", ready[1]);
    setenv("CHECK_READY", number, 1);
    SYS(fcntl(ready[0], F_SETFD, FD_CLOEXEC));
    hand_t self = start_worker("_close_while_setting", 1);
    close(ready[1]);
    expect_online(&self);
    grant_kind = 0x101;
    for (;;) {
        const frame_t *frame = receive_frame(self.channel, 10000);
        if (frame->length == 0) break;
        if (frame->type == LISTEN) {
            closed = 0;
            close(mailbox);
            mailbox = grant(&self, frame->number, 40);
            CHECK(readable_within(ready[0], 10000));
            CHECK_EQ(read(ready[0], &one, 1), 1);
        } else if (frame->type == SETSOCKOPT) {
            if (closed) check_fail(__FILE__, __LINE__, "an option of a listener that is closed");
            say_outcome(&self, frame->number, 0, "");
        } else if (frame->type == CLOSE) {
            closed = 1;
            rounds++;
        }
    }
    CHECK_EQ(rounds, ROUNDS);
    end_worker(&self);
    close(mailbox);
    close(ready[0]);
    grant_kind = 1;
}

/* -- Another version ------------------------------------------------------------------------------------------------ */

static void newer(void) {
    char text[8];
    check_ignore_descriptors = 1;
    CHECK_EQ(cl_is_worker(), 1);
    CHECK_EQ(cl_worker_id(), 5);
    for (int i = 0; i < 3; i++) CHECK_EQ(cl_listen("127.0.0.1:0", 0), CL_EVERSION);
    CHECK(strlen(cl_last_error()) > 10);
    CHECK(cl_send("x", 1) < 0);
    CHECK(cl_receive(text, sizeof text, 0) < 0);
}

static void other_version(void) {
    unsigned versions[] = {2, 0, 4000000000U};
    for (int i = 0; i < 3; i++) {
        hand_t self = start_worker("_newer", versions[i]);
        expect_online(&self); /* it says which it speaks, so that the primary can name both */
        end_worker(&self);
    }
}

/* -- A primary that ends, or grants badly ------------------------------------------------------------------------------ */

/* End of file in the channel alone, with the process still there, means the same as its death. */
static void left_alone(void) {
    char text[8];
    check_ignore_descriptors = 1;
    CHECK_EQ(cl_is_worker(), 1);
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    OK(cl_send("ready", 5));
    CHECK_EQ(cl_accept(listener, NULL, NULL), -EPIPE);
    CHECK_EQ(cl_receive(text, sizeof text, -1), -EPIPE);
    CHECK_EQ(cl_send("x", 1), -EPIPE);
    CHECK_EQ(cl_listen("127.0.0.2:0", 0), -EPIPE);
    int one = 1;
    CHECK_EQ(cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), -EPIPE);
}

static void channel_ends(void) {
    hand_t self = start_worker("_left_alone", 1);
    grant_kind = 0x101;
    expect_online(&self);
    int mailbox = grant(&self, receive_frame(self.channel, 5000)->number, 1);
    expect_frame(self.channel, MESSAGE, 5);
    close(self.channel);
    close(mailbox);
    close(self.grants);
    CHECK_EQ(gone_within(self.pid, 3000), 1);
    int status = wait_status(self.pid);
    /* It may have been quick enough to see all of it, or was ended by its own watch a moment later. */
    CHECK(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL);
    close(self.lifeline);
}

/* An answer to nobody's question, an answer without its descriptor: no crash, no hang, an error at most. */
static void odd_grants(void) {
    check_ignore_descriptors = 1;
    CHECK_EQ(cl_is_worker(), 1);
    CHECK(cl_listen("127.0.0.1:0", 0) < 0);
    CHECK(cl_listen("127.0.0.2:0", 0) < 0);
    int listener = OK(cl_listen("127.0.0.3:0", 0));
    CHECK_EQ(bound_port(listener), 4711);
}

static void answers_that_do_not_fit(void) {
    hand_t self = start_worker("_odd_grants", 1);
    unsigned char body[16];
    expect_online(&self);
    unsigned number = receive_frame(self.channel, 5000)->number;
    close(grant(&self, number + 77, 9)); /* not asked for */
    memset(body, 0, sizeof body);
    put_u32(body + 4, 10);
    put_u32(body + 8, 1);
    put_u32(body + 12, 1);
    CHECK_EQ(send_frame(self.grants, GRANT, number, body, sizeof body, NULL, 0), 0); /* without a mailbox */
    const frame_t *frame;
    do frame = receive_frame(self.channel, 5000);
    while (frame->type == CLOSE); /* it may give back what it could not use */
    CHECK_EQ(frame->type, LISTEN);
    put_u32(body, (unsigned)-EACCES);
    CHECK_EQ(send_frame(self.grants, GRANT, frame->number, body, 4, NULL, 0), 0); /* without a sentence */
    do frame = receive_frame(self.channel, 5000);
    while (frame->type == CLOSE);
    CHECK_EQ(frame->type, LISTEN);
    int mailbox = grant(&self, frame->number, 11);
    end_worker(&self);
    close(mailbox);
}

static const check_case_t cases[] = {
    {"whole_life", whole_life},       {"_live", live},
    {"scoreboard", scoreboard},       {"_play", play},
    {"options_later", options_later}, {"_set_later", set_later},
    {"closed_while_set", closed_while_set}, {"_close_while_setting", close_while_setting},
    {"scoreboard_that_may_shrink", scoreboard_that_may_shrink},
    {"other_version", other_version}, {"_newer", newer},
    {"channel_ends", channel_ends},   {"_left_alone", left_alone},
    {"answers_that_do_not_fit", answers_that_do_not_fit}, {"_odd_grants", odd_grants},
};
CHECK_MAIN(cases)
