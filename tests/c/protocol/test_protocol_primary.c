/* The library as the primary of a worker made by hand: a whole life, and what becomes of one that breaks the rules. */
#include "primary.h"
#include "worker_by_hand.h"

static int last_listener;

static int expect_grant(unsigned number, int code) {
    const frame_t *frame = expect_frame(grants, GRANT, (size_t)-1);
    CHECK_EQ(frame->number, number);
    CHECK_EQ((int)get_u32(frame->body), code);
    if (code != 0) {
        CHECK_EQ(frame->fd_count, 0);
        CHECK(frame->body_length > 4 && frame->body_length <= 4 + 512);
        return -1;
    }
    last_listener = (int)get_u32(frame->body + 4);
    CHECK_EQ(get_u32(frame->body + 8), CL_MECHANISM_PASSED);
    CHECK_EQ(get_u32(frame->body + 12), offered & 4 ? 0x101 : 1);
    CHECK_EQ(frame->body_length, 16 + sizeof(struct sockaddr_in));
    CHECK_EQ(frame->fd_count, 1);
    return frame->fds[0];
}

/* -- A whole life ------------------------------------------------------------------------------------------------- */

static void live_by_hand(void) {
    unsigned char number[4];
    take_hello();
    say_online(1);
    send_listen(7, 0, 64, 1, "127.0.0.1:0");
    send_listen(8, 0, 64, 2, "127.0.0.1:0");
    send_listen(9, 0, 64, 1, "127.0.0.1:0");
    send_listen(10, 0, 64, 0, "192.0.2.1:9");
    send_listen(11, 0, 64, 0, "nonsense");
    int mailbox = expect_grant(7, 0), first = last_listener;
    close(expect_grant(8, 0));
    int second = last_listener;
    CHECK(first != second);
    expect_grant(9, -EADDRINUSE);
    expect_grant(10, -EADDRNOTAVAIL);
    expect_grant(11, -EINVAL);
    put_u32(number, (unsigned)second);
    CHECK_EQ(send_frame(channel, CLOSE, 0, number, 4, NULL, 0), 0);
    put_u32(number, 5);
    CHECK_EQ(send_frame(channel, LOAD, 0, number, 4, NULL, 0), 0);
    CHECK_EQ(send_frame(channel, MESSAGE, 0, "ready", 5, NULL, 0), 0);
    for (int i = 0; i < 3; i++) {
        const frame_t *frame = expect_frame(mailbox, CONNECTION, sizeof(struct sockaddr_in));
        struct sockaddr_in peer, told;
        socklen_t length = sizeof peer;
        CHECK_EQ(frame->fd_count, 1);
        memcpy(&told, frame->body, sizeof told);
        SYS(getpeername(frame->fds[0], (struct sockaddr *)&peer, &length));
        CHECK(memcmp(&told, &peer, sizeof peer) == 0);
        CHECK_EQ(fcntl(frame->fds[0], F_GETFL) & O_NONBLOCK, 0);
        char text[32];
        snprintf(text, sizeof text, "%s\n", getenv("CL_WORKER_ID"));
        send_text(frame->fds[0], text);
        close(frame->fds[0]);
    }
    const frame_t *frame = expect_frame(channel, MESSAGE, 4);
    CHECK(memcmp(frame->body, "stop", 4) == 0);
    CHECK_EQ(send_frame(channel, DISCONNECT, 0, NULL, 0, NULL, 0), 0);
    expect_frame(mailbox, STOP, 0);
    CHECK_EQ(readable_within(mailbox, 30), 0); /* what follows is for the worker to make */
    expect_frame(grants, DISCONNECT, 0);
    expect_frame(channel, DISCONNECT, 0);
    send_listen(12, 0, 64, 3, "127.0.0.1:0");
    expect_grant(12, -ESHUTDOWN);
    _exit(0);
}

static int start_role_as_worker(const char *name) {
    static char program[] = "test", role[64];
    char *argv[] = {program, role, NULL};
    cl_spawn_options_t options;
    snprintf(role, sizeof role, "%s", name);
    ZERO(options);
    options.size = sizeof options;
    options.argv = argv;
    return OK(cl_spawn(&options));
}

static void whole_life(void) {
    cl_worker_info_t info;
    use_mechanism("passed");
    primary_ready(serve_any_port);
    int id = start_role_as_worker("_live_by_hand");
    int port = await_listening(id, 1);
    await_listening(id, 2);
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == 1, 3000);
    ZERO(info);
    info.size = sizeof info;
    OK(cl_worker_info(id, &info));
    CHECK_EQ(info.load, 5);
    for (int i = 0; i < 3; i++) CHECK_EQ(ask(port), id);
    OK(cl_worker_send(id, "stop", 4));
    CHECK_EQ(await_exit(id, 5000)->exit_code, 0);
    CHECK_EQ(count_events(CL_EVENT_LISTENING, id), 2);
    CHECK_EQ(count_other_warnings(0), 0);
    finish();
}

/* -- Socket options later ------------------------------------------------------------------------------------------- */

static void ask_option(unsigned number, int listener, int level, int name, const void *value, size_t length) {
    unsigned char body[512];
    put_u32(body, (unsigned)listener);
    put_u32(body + 4, (unsigned)level);
    put_u32(body + 8, (unsigned)name);
    memcpy(body + 12, value, length);
    CHECK_EQ(send_frame(channel, SETSOCKOPT, number, body, 12 + length, NULL, 0), 0);
}

static void expect_outcome(unsigned number, int code) {
    const frame_t *frame = expect_frame(grants, GRANT, (size_t)-1);
    CHECK_EQ(frame->number, number);
    CHECK_EQ(frame->fd_count, 0);
    CHECK_EQ((int)get_u32(frame->body), code);
    if (code == 0) CHECK_EQ(frame->body_length, 4);
    else CHECK(frame->body_length > 14);
}

static void set_by_hand(void) {
    static const unsigned char zeroes[256] = {0};
    int one = 1, value = 0;
    socklen_t length = sizeof value;
    take_hello();
    offered = 0xfffffffc; /* and what nobody knows yet */
    say_online(1);
    send_listen(7, 0, 64, 1, "127.0.0.1:0");
    int mailbox = expect_grant(7, 0), listener = last_listener;
    ask_option(1, listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    ask_option(0xffffffff, listener, SOL_SOCKET, SO_LINGER, zeroes, sizeof(struct linger));
    ask_option(2, listener, IPPROTO_TCP, TCP_NODELAY, zeroes, 0);
    ask_option(3, listener, IPPROTO_TCP, TCP_NODELAY, zeroes, sizeof zeroes);
    send_listen(4, 0, 64, 0, "nonsense");
    ask_option(5, listener, IPPROTO_TCP, TCP_KEEPCNT, zeroes, 4);
    expect_outcome(1, 0);
    expect_outcome(0xffffffff, -EACCES);
    expect_outcome(2, -EINVAL);
    expect_outcome(3, -EINVAL);
    expect_outcome(4, -EINVAL);
    expect_outcome(5, -EINVAL);
    CHECK_EQ(send_frame(channel, MESSAGE, 0, "ready", 5, NULL, 0), 0);
    int connection = expect_frame(mailbox, CONNECTION, (size_t)-1)->fds[0];
    SYS(getsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &value, &length));
    CHECK_EQ(value, 1);
    send_text(connection, "5\n");
    close(connection);
    CHECK_EQ(send_frame(channel, DISCONNECT, 0, NULL, 0, NULL, 0), 0);
    expect_frame(grants, DISCONNECT, 0);
    ask_option(9, listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    expect_outcome(9, -ESHUTDOWN);
    _exit(0);
}

static void options_later(void) {
    use_mechanism("passed");
    primary_ready(serve_any_port);
    int id = start_role_as_worker("_set_by_hand");
    int port = await_listening(id, 1);
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == 1, 5000);
    CHECK_EQ(ask(port), 5);
    CHECK_EQ(await_exit(id, 5000)->exit_code, 0);
    CHECK_EQ(count_other_warnings(0), 0);
    finish();
}

/* -- The scoreboard --------------------------------------------------------------------------------------------------- */

static cl_worker_info_t info_of(int id) {
    cl_worker_info_t info;
    ZERO(info);
    info.size = sizeof info;
    OK(cl_worker_info(id, &info));
    return info;
}

/* One figure at a time, each when the primary has seen the one before. */
static void write_board_by_hand(void) {
    enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };
    struct stat found;
    take_hello();
    say_online(1);
    CHECK_EQ(fcntl(board_file, F_GET_SEALS) & SEALS, SEALS);
    SYS(fstat(board_file, &found));
    CHECK_EQ(found.st_size, 4096);
    CHECK_EQ(ftruncate(board_file, 0), -1);
    CHECK_EQ(fcntl(board_file, F_ADD_SEALS, F_SEAL_WRITE), -1);
    unsigned char *board = (unsigned char *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, board_file, 0);
    CHECK(board != MAP_FAILED);
    unsigned long long *counts = (unsigned long long *)(void *)board;
    unsigned *loads = (unsigned *)(void *)(board + 80);
    send_listen(1, 0, 64, 1, "127.0.0.1:0");
    int mailbox = expect_grant(1, 0);
    for (;;) {
        const frame_t *frame = receive_frame(channel, 20000);
        if (frame->type != MESSAGE) _exit(0);
        switch (frame->body[0]) {
        case 'd': CHECK_EQ(counts[0], 2); break; /* what was delivered stands there */
        case 't': counts[8] = 1000; break;
        case 'l': loads[0] = 77; loads[1]++; break;
        case 'f': put_u32(board, 78); send_frame(channel, LOAD, 0, board, 4, NULL, 0); break;
        case 'a': memset(board, 0xff, 4096); break;
        case 'z': memset(board, 0, 4096); break;
        case 'h': SYS(fallocate(board_file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096)); break;
        case 'u': SYS(munmap(board, 4096)); close(board_file); break;
        case 'c': send_text(expect_frame(mailbox, CONNECTION, (size_t)-1)->fds[0], "5\n"); break;
        default: _exit(9);
        }
        CHECK_EQ(send_frame(channel, MESSAGE, 0, "done", 4, NULL, 0), 0);
    }
}

/* Whatever a worker does with its page, only its own figures are wrong, and only those that are its own to tell. */
static void scoreboard(void) {
    const unsigned long long most = (1ULL << 53) - 1; /* what is believed */
    int told = 0;
    use_mechanism("passed");
    primary_ready(serve_any_port);
    int id = start_role_as_worker("_write_board_by_hand");
    int port = await_listening(id, 1);
#define DO(what)                                              \
    do {                                                      \
        OK(cl_worker_send(id, what, 1));                      \
        told++;                                               \
        PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == told, 5000); \
    } while (0)
    int first = connect4(port), second = connect4(port);
    PUMP_UNTIL(info_of(id).waiting == 2, 3000);
    CHECK_EQ(info_of(id).delivered, 2);
    DO("d");
    DO("t");
    CHECK_EQ(info_of(id).delivered, 1000);
    DO("l");
    CHECK_EQ(info_of(id).load, 77);
    DO("f"); /* the newest counts, whichever way it came */
    CHECK_EQ(info_of(id).load, 78);
    DO("a");
    CHECK_EQ(info_of(id).delivered, most);
    CHECK_EQ(info_of(id).load, 0xffffffffU);
    DO("z");
    CHECK_EQ(info_of(id).delivered, most);
    CHECK_EQ(info_of(id).load, 0);
    DO("h");
    CHECK_EQ(info_of(id).waiting, 2);
    DO("c");
    CHECK_EQ(info_of(id).waiting, 1);
    close(first);
    DO("u");
    int third = connect4(port); /* which the primary writes down on a page that nobody else has any more */
    PUMP_UNTIL(info_of(id).waiting == 2, 3000);
    int good = fork_worker();
    await_listening(good, 1);
    OK(cl_worker_kill(id, SIGKILL));
    await_exit(id, 3000);
    CHECK_EQ(answered_by(second), good);
    CHECK_EQ(answered_by(third), good);
    CHECK_EQ(info_of(good).delivered, 2);
    CHECK_EQ(count_events(CL_EVENT_WARNING, 0), 0);
    finish();
}

/* -- Offences ------------------------------------------------------------------------------------------------------ */

/* Which one, the environment says. After each the worker waits to be killed. */
static void offend(void) {
    static unsigned char bytes[70000];
    int which = atoi(getenv("CHECK_OFFENCE"));
    unsigned short type = 77;
    take_hello();
    if (which != 0 && which != 1 && which != 12) say_online(1);
    switch (which) {
    case 0: send_frame(channel, MESSAGE, 0, "x", 1, NULL, 0); break; /* before ONLINE */
    case 1: nonce[3] ^= 1; say_online(1); break;
    case 2: say_online(1); break; /* twice */
    case 3: memcpy(bytes, &type, 2); send_packet(channel, bytes, 8, NULL, 0); break;
    case 4: send_packet(channel, bytes, 8, NULL, 0); break; /* type 0 */
    case 5: send_packet(channel, "\5\0\0", 3, NULL, 0); break;
    case 6: send_packet(channel, bytes, 0, NULL, 0); break; /* looks like end of file */
    case 7: send_frame(channel, MESSAGE, 0, bytes, 65537, NULL, 0); break;
    case 8: send_frame(channel, LOAD, 0, bytes, 5, NULL, 0); break;
    case 9: send_frame(channel, LISTEN, 1, bytes, 12, NULL, 0); break; /* no address */
    case 10: send_frame(channel, GRANT, 1, bytes, 16, NULL, 0); break; /* the wrong direction */
    case 11: memset(bytes + 12, 'a', 5000); send_frame(channel, LISTEN, 1, bytes, 5012, NULL, 0); break;
    case 12: say_online(99); break;
    case 13: bytes[2] = 1; bytes[0] = MESSAGE; send_packet(channel, bytes, 12, NULL, 0); break; /* not zero */
    case 14: send_frame(channel, CLOSE, 0, bytes, 3, NULL, 0); break;
    case 15: send_frame(channel, DISCONNECT, 0, "x", 1, NULL, 0); break;
    case 16:
        memcpy(bytes + 12, "127.0.0.1:0\0xyz", 15);
        send_frame(channel, LISTEN, 1, bytes, 27, NULL, 0);
        break;
    case 17: send_frame(channel, SETSOCKOPT, 1, bytes, 12, NULL, 0); break; /* which it did not offer */
    case 18: send_frame(channel, SETSOCKOPT, 1, bytes, 11, NULL, 0); break;
    case 19: send_frame(channel, 15, 1, bytes, 12, NULL, 0); break; /* what nobody has a meaning for yet */
    case 20: send_frame(channel, 16, 1, bytes, 12, NULL, 0); break;
    default: _exit(9);
    }
    for (;;) nap(100000);
}

enum { OFFENCES = 21 };

static void offences(void) {
    use_mechanism("passed");
    primary_ready(serve_any_port);
    int good = fork_worker();
    int port = await_listening(good, 1);
    for (int which = 0; which < OFFENCES; which++) {
        char number[16];
        snprintf(number, sizeof number, "%d", which);
        setenv("CHECK_OFFENCE", number, 1);
        int id = start_role_as_worker("_offend");
        PUMP_UNTIL(find_event(CL_EVENT_EXIT, id, 0) >= 0, 5000);
        const seen_t *end = &seen[find_event(CL_EVENT_EXIT, id, 0)];
        if (end->signal != SIGKILL && !(which == 12 && end->signal == SIGTERM))
            check_fail(__FILE__, __LINE__, "offence %d: code %d, signal %d", which, end->exit_code, end->signal);
        CHECK_EQ(count_events(CL_EVENT_WARNING, id), 1);
        const seen_t *warning = &seen[find_event(CL_EVENT_WARNING, id, 0)];
        CHECK(warning->length > 10 && strlen(warning->data) > 10);
        if (which == 12) CHECK(strstr(warning->data, "99") != NULL && strchr(warning->data, '1') != NULL);
        CHECK_EQ(count_events(CL_EVENT_MESSAGE, id), 0);
        /* The neighbour has noticed nothing. */
        for (int i = 0; i < 3; i++) CHECK_EQ(ask(port), good);
    }
    CHECK_EQ(count_events(CL_EVENT_EXIT, good), 0);
    finish();
}

/* A worker may have 256 listeners and no more; one that asks on and on without reading the answers hurts nobody. */
static void listen_without_end(void) {
    char address[32];
    take_hello();
    say_online(1);
    for (unsigned n = 0; n < 257; n++) {
        snprintf(address, sizeof address, "127.0.%u.%u:0", n / 250, n % 250 + 1);
        send_listen(n, 0, 8, 1, address);
        int mailbox = expect_grant(n, n < 256 ? 0 : -EMFILE);
        if (mailbox >= 0) close(mailbox);
    }
    CHECK_EQ(send_frame(channel, MESSAGE, 0, "full", 4, NULL, 0), 0);
    /* From here on nobody reads. The primary may end this; it may also just let it wait. */
    for (unsigned n = 0; n < 3000; n++) {
        unsigned char body[64];
        memset(body, 0, sizeof body);
        memcpy(body + 12, "127.0.0.1:1", 11);
        if (send_frame(channel, LISTEN, n, body, 23, NULL, 0) != 0) break;
    }
    for (;;) nap(100000);
}

static void too_many_listeners(void) {
    use_mechanism("passed");
    primary_ready(serve_any_port);
    int good = fork_worker();
    int port = await_listening(good, 1);
    int id = start_role_as_worker("_listen_without_end");
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == 1, 8000);
    int before = count_descriptors();
    pump_for(300);
    CHECK(count_descriptors() <= before + 2);
    for (int i = 0; i < 20; i++) CHECK_EQ(ask(port), good);
    cl_worker_kill(id, SIGKILL);
    await_exit(id, 5000);
    finish();
}

/* Descriptors sent to the primary never arrive there: neither many in one message nor many messages. */
static void send_descriptors(void) {
    int fds[8] = {0, 1, 2, 0, 1, 2, 0, 1};
    take_hello();
    say_online(1);
    for (int i = 0; i < 50; i++)
        if (send_frame(channel, MESSAGE, 0, "x", 1, fds, 8) != 0) break;
    for (;;) nap(100000);
}

static void descriptors_to_the_primary(void) {
    use_mechanism("passed");
    primary_ready(serve_any_port);
    int before = count_descriptors();
    int id = start_role_as_worker("_send_descriptors");
    int most = 0;
    for (long long end = now_ms() + 500LL * check_slow(); now_ms() < end && find_event(CL_EVENT_EXIT, id, 0) < 0;) {
        turn(10);
        if (count_descriptors() > most) most = count_descriptors();
    }
    CHECK(most <= before + 6); /* what a worker costs, and none of the four hundred */
    finish();
}

/* A worker floods with messages: its neighbour's clients do not notice. */
static void flood(void) {
    static unsigned char bytes[2000];
    take_hello();
    say_online(1);
    while (send_frame(channel, MESSAGE, 0, bytes, sizeof bytes, NULL, 0) == 0) {}
    _exit(0);
}

static void flooded(void) {
    use_mechanism("passed");
    primary_ready(serve_any_port);
    int good = fork_worker();
    int port = await_listening(good, 1);
    int id = start_role_as_worker("_flood");
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) > 100, 5000);
    OK(cl_on_event(NULL, NULL));
    for (int i = 0; i < 50; i++) {
        long long start = now_ms();
        CHECK_EQ(ask(port), good);
        CHECK(now_ms() - start < 500 * check_slow());
    }
    OK(cl_on_event(remember_event, NULL));
    OK(cl_worker_kill(id, SIGKILL));
    await_exit(id, 5000);
    finish();
}

/* However much a worker has sent, one turn is for a little of it: connections do not wait for the rest. */
static void much_at_once(void) {
    take_hello();
    say_online(1);
    for (int i = 0; i < 100; i++) CHECK_EQ(send_frame(channel, MESSAGE, 0, "x", 1, NULL, 0), 0);
    for (unsigned i = 1; i <= 10; i++) send_listen(i, 0, 64, i, "127.0.0.1:0");
    for (unsigned i = 1; i <= 10; i++) close(expect_grant(i, 0));
    _exit(0);
}

static void short_turns(void) {
    use_mechanism("passed");
    primary_ready(serve_any_port);
    int id = start_role_as_worker("_much_at_once"), messages = 0, addresses = 0, most_messages = 0, most_addresses = 0;
    for (long long end = now_ms() + 5000LL * check_slow(); find_event(CL_EVENT_EXIT, id, 0) < 0;) {
        CHECK(now_ms() < end);
        turn(10);
        int more = count_events(CL_EVENT_MESSAGE, id) - messages, opened = count_events(CL_EVENT_LISTENING, id) - addresses;
        messages += more;
        addresses += opened;
        if (more > most_messages) most_messages = more;
        if (opened > most_addresses) most_addresses = opened;
    }
    CHECK_EQ(messages, 100);
    CHECK_EQ(addresses, 10);
    CHECK(most_messages <= 16);
    CHECK_EQ(most_addresses, 1);
    finish();
}

/* It sends without a pause, and makes room for what it is sent time and again. */
enum { FLOOD = 40000 };
static void flood_and_read(void) {
    char buffer[64];
    take_hello();
    say_online(1);
    SYS(fcntl(channel, F_SETFL, O_NONBLOCK));
    for (int sent = 0, tried = 0; sent < FLOOD; tried++) {
        sent += send_frame(channel, MESSAGE, 0, "x", 1, NULL, 0) == 0;
        while (tried % 64 == 0 && recv(channel, buffer, sizeof buffer, MSG_DONTWAIT) > 0) {}
    }
    for (;;) pause();
}

static int messages_counted;
static void count_messages(const cl_event_t *event, void *user) {
    (void)user;
    messages_counted += event->type == CL_EVENT_MESSAGE;
}

/* Nothing that a worker does gives it more of the primary's time than is its due. */
static void held_back(void) {
    use_mechanism("passed");
    primary_ready(serve_any_port);
    OK(cl_on_event(count_messages, NULL));
    long long begun = now_ms();
    int id = start_role_as_worker("_flood_and_read");
    for (long long end = now_ms() + 20000LL * check_slow(); messages_counted < FLOOD;) {
        CHECK(now_ms() < end);
        turn(10);
        for (int i = 0; i < 400 && cl_worker_send(id, "y", 1) == 0; i++) {}
    }
    /* 16,384 at once, and 16 in a millisecond. */
    CHECK(now_ms() - begun >= (FLOOD - 16384 - 64) / 16);
    OK(cl_on_event(remember_event, NULL));
    OK(cl_worker_kill(id, SIGKILL));
    await_exit(id, 5000);
    finish();
}

static const check_case_t cases[] = {
    {"whole_life", whole_life}, {"_live_by_hand", live_by_hand}, {"offences", offences}, {"_offend", offend},
    {"options_later", options_later}, {"_set_by_hand", set_by_hand},
    {"scoreboard", scoreboard}, {"_write_board_by_hand", write_board_by_hand},
    {"descriptors_to_the_primary", descriptors_to_the_primary}, {"_send_descriptors", send_descriptors},
    {"flooded", flooded}, {"_flood", flood},
    {"short_turns", short_turns}, {"_much_at_once", much_at_once},
    {"held_back", held_back}, {"_flood_and_read", flood_and_read},
    {"too_many_listeners", too_many_listeners}, {"_listen_without_end", listen_without_end},
};
CHECK_MAIN(cases)
