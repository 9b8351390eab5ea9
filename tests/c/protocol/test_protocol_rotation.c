/* The mechanism rotation by hand: a worker that takes part as docs/protocol.md says, one that does not, and a primary. */
#include "primary_by_hand.h"
#include "rotation.h"
#include "worker_by_hand.h"

/* -- A worker by hand ------------------------------------------------------------------------------------------------- */

static int epoll, mailbox, sockets[2], entered;
static unsigned listener, own, own_round;
static unsigned char *page;

static void watch(int fd, unsigned events, int told) {
    struct epoll_event event;
    ZERO(event);
    event.events = events;
    event.data.fd = told;
    SYS(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

static void say_of_listener(int type, unsigned of) {
    unsigned char number[4];
    put_u32(number, of);
    CHECK_EQ(send_frame(channel, type, 0, number, 4, NULL, 0), 0);
}

/* Its grant; the mechanism. */
static int take_part_of_grant(void) {
    const frame_t *frame = expect_frame(grants, GRANT, 16 + sizeof(struct sockaddr_in));
    CHECK_EQ(get_u32(frame->body), 0);
    listener = get_u32(frame->body + 4);
    CHECK_EQ(get_u32(frame->body + 12), 1);
    mailbox = frame->fds[0];
    int mechanism = (int)get_u32(frame->body + 8);
    CHECK_EQ(frame->fd_count, mechanism == CL_MECHANISM_ROTATION ? 3 : 1);
    if (frame->fd_count < 3) return mechanism;
    struct stat status;
    SYS(fstat(frame->fds[2], &status));
    CHECK_EQ(status.st_size, 4096);
    CHECK(SYS(fcntl(frame->fds[2], F_GET_SEALS)) & F_SEAL_SHRINK);
    page = (unsigned char *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, frame->fds[2], 0);
    CHECK(page != MAP_FAILED);
    close(frame->fds[2]);
    sockets[0] = frame->fds[1];
    sockets[1] = SYS(dup(sockets[0]));
    CHECK(fcntl(sockets[0], F_GETFL) & O_NONBLOCK);
    return mechanism;
}

static void listen_by_hand(unsigned offers) {
    take_hello();
    offered = offers;
    say_online(1);
    send_listen(1, 0, 64, 1, "127.0.0.1:0");
}

static void count_one(void) {
    unsigned long long *taken = (unsigned long long *)(void *)page;
    unsigned parts = __atomic_load_n((unsigned *)(void *)(page + 64), __ATOMIC_RELAXED);
    unsigned round = __atomic_load_n((unsigned *)(void *)(page + 68), __ATOMIC_ACQUIRE);
    if (round != own_round) own = 0;
    own_round = round;
    own++;
    if ((unsigned long long)own * parts < __atomic_add_fetch(taken, 1, __ATOMIC_RELAXED)) return;
    SYS(epoll_ctl(epoll, EPOLL_CTL_DEL, sockets[entered], NULL));
    watch(sockets[!entered], EPOLLIN | EPOLLEXCLUSIVE, 1);
    entered = !entered;
}

static void answer_by_hand(int connection) {
    send_text(connection, getenv("CL_WORKER_ID"));
    close(connection);
}

/* Takes what is in the mailbox; true: the stop. */
static int look_into_mailbox(void) {
    const frame_t *frame = receive_frame(mailbox, 1000);
    if (frame->type == CONNECTION) answer_by_hand(frame->fds[0]);
    else CHECK(frame->type == STOP || frame->type == NOP);
    return frame->type == STOP;
}

static void begin_line(void) {
    epoll = new_epoll();
    watch(mailbox, EPOLLIN, 0);
    watch(sockets[entered], EPOLLIN | EPOLLEXCLUSIVE, 1);
    say_of_listener(SEAT, listener);
    say_of_listener(SEAT, listener); /* once more is nothing new */
}

static void serve_by_hand(void) {
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(epoll, &event, 1, 10000) != 1) continue;
        if (event.data.fd == 0) {
            if (look_into_mailbox()) _exit(0);
            continue;
        }
        int connection = accept4(sockets[0], NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0) continue;
        count_one();
        answer_by_hand(connection);
    }
}

static void takes_part(void) {
    listen_by_hand(2);
    CHECK_EQ(take_part_of_grant(), CL_MECHANISM_ROTATION);
    begin_line();
    serve_by_hand();
}

/* It knows of nothing, as one of version 0.1, or has not said yet where it waits. */
static void serve_mailbox(void) {
    while (!look_into_mailbox()) (void)readable_within(mailbox, 60000);
    _exit(0);
}
static void stands_beside(void) {
    listen_by_hand(0);
    CHECK_EQ(take_part_of_grant(), CL_MECHANISM_PASSED);
    if (readable_within(mailbox, 60000)) serve_mailbox();
}
static void does_not_say(void) {
    listen_by_hand(2);
    CHECK_EQ(take_part_of_grant(), CL_MECHANISM_ROTATION);
    if (readable_within(mailbox, 60000)) serve_mailbox();
}

static int start_by_hand(const char *name) {
    static char program[] = "test", role[64];
    char *argv[] = {program, role, NULL};
    cl_spawn_options_t options;
    snprintf(role, sizeof role, "%s", name);
    ZERO(options);
    options.size = sizeof options;
    options.argv = argv;
    return OK(cl_spawn(&options));
}

/* All together have even turns. */
static void together(void) {
    int ids[WORKERS], port = 0, connections = check_slow() > 1 ? 400 : 2000;
    use_mechanism("rotation");
    primary_ready(serve_any_port);
    ids[0] = fork_worker();
    await_listening(ids[0], 1);
    ids[1] = start_by_hand("_takes_part");
    ids[2] = start_by_hand("_stands_beside");
    ids[3] = start_by_hand("_does_not_say");
    for (int i = 0; i < WORKERS; i++) port = await_listening(ids[i], 1);
    CHECK_EQ(seen[find_event(CL_EVENT_LISTENING, ids[2], 0)].mechanism, CL_MECHANISM_PASSED);
    pump_for(50);
    clients_t clients = drive(port, connections, 1, ids);
    for (int i = 0; i < WORKERS; i++)
        if (clients.counts[i] < connections / WORKERS * 9 / 10)
            check_fail(__FILE__, __LINE__, "of %d they had %d, %d, %d and %d", connections, clients.counts[0], clients.counts[1],
                       clients.counts[2], clients.counts[3]);
    for (int i = 1; i < WORKERS; i++) OK(cl_worker_disconnect(ids[i]));
    for (int i = 1; i < WORKERS; i++) CHECK_EQ(await_exit(ids[i], 3000)->exit_code, 0);
    CHECK_EQ(ask(port), ids[0]);
    CHECK_EQ(count_other_warnings(0), 0);
    finish();
}

/* It leaves the line and comes back, as often as it likes. */
static void comes_and_goes(void) {
    char text[8];
    listen_by_hand(2);
    CHECK_EQ(take_part_of_grant(), CL_MECHANISM_ROTATION);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(receive_frame(mailbox, 5000)->type, CONNECTION); /* left to the end of this process */
        begin_line();
        snprintf(text, sizeof text, "in %d", i);
        CHECK_EQ(send_frame(channel, MESSAGE, 0, text, strlen(text), NULL, 0), 0);
        struct epoll_event event;
        CHECK_EQ(epoll_wait(epoll, &event, 1, 5000), 1);
        CHECK_EQ(event.data.fd, 1);
        SYS(accept4(sockets[0], NULL, NULL, SOCK_CLOEXEC));
        SYS(epoll_ctl(epoll, EPOLL_CTL_DEL, sockets[entered], NULL));
        say_of_listener(UNSEAT, listener);
        say_of_listener(UNSEAT, listener);
        close(epoll);
    }
    say_of_listener(CLOSE, listener);
    _exit(0);
}

static void seat_and_unseat(void) {
    int clients[6];
    use_mechanism("rotation");
    primary_ready(serve_any_port);
    int id = start_by_hand("_comes_and_goes");
    int port = await_listening(id, 1);
    for (int i = 0; i < 3; i++) {
        clients[2 * i] = connect4(port);
        PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, id, i) >= 0, 5000);
        pump_for(20);
        clients[2 * i + 1] = connect4(port);
    }
    CHECK_EQ(await_exit(id, 5000)->exit_code, 0);
    for (int i = 0; i < 6; i++) close(clients[i]);
    CHECK_EQ(count_other_warnings(0), 0);
    finish();
}

/* Who may not say it. */
static void offend_by_seat(void) {
    int kind = atoi(getenv("OFFENCE"));
    listen_by_hand(kind == 0 ? 0 : 2);
    (void)take_part_of_grant();
    switch (kind) {
    case 2: say_of_listener(SEAT, 4711); break;
    case 3:
        say_of_listener(CLOSE, listener);
        say_of_listener(SEAT, listener);
        break;
    default: say_of_listener(SEAT, listener); break; /* 0: it did not offer it; 1: it was granted another mechanism */
    }
    for (;;) pause();
}

static void offences_of(const char *mechanism, const char *kinds) {
    use_mechanism(mechanism);
    primary_ready(serve_any_port);
    for (; *kinds != '\0'; kinds++) {
        const char kind[2] = {*kinds, '\0'};
        setenv("OFFENCE", kind, 1);
        int sibling = fork_worker();
        int port = await_listening(sibling, 1);
        int id = start_by_hand("_offend_by_seat");
        CHECK_EQ(await_exit(id, 5000)->signal, SIGKILL);
        CHECK_EQ(count_other_warnings(id), 1);
        CHECK_EQ(ask(port), sibling);
        OK(cl_worker_kill(sibling, SIGKILL));
        await_exit(sibling, 3000);
    }
    finish();
}

static void offences(void) { offences_of("rotation", "023"); }
static void offence_in_passed(void) { offences_of("passed", "1"); }

/* -- A primary by hand ------------------------------------------------------------------------------------------------ */

/* Grants it, or what should be that: without a page, or with one that may shrink. */
typedef struct {
    int mailbox, socket, port;
    unsigned char *page;
} granted_t;
enum { WHOLE, WITHOUT_PAGE, MAY_SHRINK };

static granted_t grant_rotation(const hand_t *self, int how) {
    unsigned char body[16 + sizeof(struct sockaddr_in)];
    granted_t granted;
    int pair[2], file = SYS(memfd_create("tally", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    SYS(ftruncate(file, 4096));
    SYS(fcntl(file, F_ADD_SEALS, how == MAY_SHRINK ? F_SEAL_GROW : F_SEAL_SHRINK | F_SEAL_GROW));
    granted.page = (unsigned char *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK(granted.page != MAP_FAILED);
    put_u32(granted.page + 64, 2);
    granted.socket = plain_listener(0);
    granted.port = system_port(granted.socket);
    SYS(fcntl(granted.socket, F_SETFL, O_NONBLOCK));
    struct sockaddr_in name = address4(granted.port);
    SYS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
    granted.mailbox = pair[0];
    memset(body, 0, sizeof body);
    put_u32(body + 4, 31);
    put_u32(body + 8, CL_MECHANISM_ROTATION);
    put_u32(body + 12, 1);
    memcpy(body + 16, &name, sizeof name);
    unsigned number = expect_frame(self->channel, LISTEN, (size_t)-1)->number;
    int fds[3] = {pair[1], granted.socket, file};
    CHECK_EQ(send_frame(self->grants, GRANT, number, body, sizeof body, fds, how == WITHOUT_PAGE ? 2 : 3), 0);
    close(pair[1]);
    close(file);
    return granted;
}

static void end_grant(const granted_t *granted) {
    close(granted->mailbox);
    close(granted->socket);
    munmap(granted->page, 4096);
}

static void expect_of_listener(const hand_t *self, int type) {
    CHECK_EQ(get_u32(expect_frame(self->channel, type, 4)->body), 31);
}

/* What the worker does with its entry is counted, and may be refused: its epoll_ctl(2) is ours, also where the library calls it. */
typedef struct {
    int entries, refused;
} entries_t;
static entries_t *entries;

static void open_entries(void) {
    int fd = SYS(open(case_path("entries"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    SYS(ftruncate(fd, sizeof *entries));
    entries = (entries_t *)mmap(NULL, sizeof *entries, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(entries != MAP_FAILED);
    close(fd);
}

int epoll_ctl(int on, int what, int fd, struct epoll_event *event) {
    int is_entry = entries != NULL && what == EPOLL_CTL_ADD && (event->events & EPOLLEXCLUSIVE);
    if (is_entry && __atomic_load_n(&entries->refused, __ATOMIC_SEQ_CST)) {
        errno = ENOMEM;
        return -1;
    }
    if (is_entry) __atomic_add_fetch(&entries->entries, 1, __ATOMIC_SEQ_CST);
    return (int)syscall(SYS_epoll_ctl, on, what, fd, event);
}

static void serves_until_stop(void) {
    check_ignore_descriptors = 1;
    open_entries();
    CHECK_EQ(serve_listener(OK(cl_listen("127.0.0.1:0", 0))), 0);
}

/* Comes to its socket when so many were taken; whether it went to the end of the line by that. */
static int goes_behind(const hand_t *self, const granted_t *granted, unsigned long long taken) {
    char text[64];
    int before = __atomic_load_n(&entries->entries, __ATOMIC_SEQ_CST);
    CHECK(before > 0 && self->pid > 0);
    __atomic_store_n((unsigned long long *)(void *)granted->page, taken, __ATOMIC_SEQ_CST);
    int client = connect4(granted->port);
    CHECK(receive_all(client, text, sizeof text) > 0);
    close(client);
    return __atomic_load_n(&entries->entries, __ATOMIC_SEQ_CST) - before;
}

/* It counts what it accepted from the socket, and not what was in its mailbox. */
static void counts(void) {
    char text[64];
    int pair[2];
    open_entries();
    hand_t self = start_worker("_serves_until_stop", 1);
    expect_online(&self);
    granted_t granted = grant_rotation(&self, WHOLE);
    expect_of_listener(&self, SEAT);
    unsigned long long *taken = (unsigned long long *)(void *)granted.page;
    for (unsigned long long i = 1; i <= 40; i++) {
        int client = connect4(granted.port);
        CHECK(receive_all(client, text, sizeof text) > 0);
        close(client);
        CHECK_EQ(__atomic_load_n(taken, __ATOMIC_SEQ_CST), i);
        if (i % 8 == 0) __atomic_add_fetch((unsigned *)(void *)(granted.page + 68), 1, __ATOMIC_SEQ_CST);
    }
    SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    CHECK_EQ(send_frame(granted.mailbox, CONNECTION, 0, NULL, 0, &pair[1], 1), 0);
    close(pair[1]);
    CHECK(receive_all(pair[0], text, sizeof text) > 0);
    close(pair[0]);
    CHECK_EQ(__atomic_load_n(taken, __ATOMIC_SEQ_CST), 40);
    /* A new round; half of what is taken is its part. */
    __atomic_add_fetch((unsigned *)(void *)(granted.page + 68), 1, __ATOMIC_SEQ_CST);
    CHECK_EQ(goes_behind(&self, &granted, 0), 1);
    CHECK_EQ(goes_behind(&self, &granted, 3), 1);
    CHECK_EQ(goes_behind(&self, &granted, 6), 0);
    CHECK_EQ(goes_behind(&self, &granted, 8), 0);
    CHECK_EQ(goes_behind(&self, &granted, 9), 1);
    /* Not more than 1,024 are made up for. */
    CHECK_EQ(goes_behind(&self, &granted, 99999), 0);
    CHECK_EQ(goes_behind(&self, &granted, 97954), 0);
    CHECK_EQ(goes_behind(&self, &granted, 97955), 1);
    /* Whatever stands there. */
    memset(granted.page, 0xff, 4096);
    int client = connect4(granted.port);
    CHECK(receive_all(client, text, sizeof text) > 0);
    close(client);
    memset(granted.page, 0, 4096);
    client = connect4(granted.port);
    CHECK(receive_all(client, text, sizeof text) > 0);
    close(client);
    CHECK_EQ(send_frame(granted.mailbox, STOP, 0, NULL, 0, NULL, 0), 0);
    expect_of_listener(&self, CLOSE);
    end_worker(&self);
    end_grant(&granted);
}

static void watches_until_stop(void) {
    check_ignore_descriptors = 1;
    open_entries();
    int epoll = new_epoll();
    CHECK_EQ(serve_by(watched_listener("127.0.0.1:0", epoll), epoll), 0);
}

/* A connection by the mailbox; or one that comes to the socket, which has been begun. */
static void is_answered(const granted_t *granted, int client) {
    char text[64];
    int pair[2] = {client, -1};
    if (client < 0) {
        SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
        CHECK_EQ(send_frame(granted->mailbox, CONNECTION, 0, NULL, 0, &pair[1], 1), 0);
        close(pair[1]);
    }
    CHECK(readable_within(pair[0], 5000));
    CHECK(receive_all(pair[0], text, sizeof text) > 0);
    close(pair[0]);
}

/* The kernel has no memory for the entry by which it stands in line: it says that it does not any more, is served by its mailbox, and
 * comes back. */
static void falls_out(const char *role) {
    open_entries();
    hand_t self = start_worker(role, 1);
    expect_online(&self);
    granted_t granted = grant_rotation(&self, WHOLE);
    expect_of_listener(&self, SEAT);
    for (int i = 0; i < 3; i++) {
        is_answered(&granted, connect4(granted.port));
        __atomic_store_n(&entries->refused, 1, __ATOMIC_SEQ_CST);
        is_answered(&granted, connect4(granted.port));
        expect_of_listener(&self, UNSEAT);
        int client = connect4(granted.port);
        for (int j = 0; j < 3; j++) is_answered(&granted, -1);
        CHECK_EQ(readable_within(client, 50), 0);
        __atomic_store_n(&entries->refused, 0, __ATOMIC_SEQ_CST);
        is_answered(&granted, -1);
        expect_of_listener(&self, SEAT);
        is_answered(&granted, client);
    }
    __atomic_store_n(&entries->refused, 1, __ATOMIC_SEQ_CST);
    is_answered(&granted, connect4(granted.port));
    expect_of_listener(&self, UNSEAT);
    CHECK_EQ(send_frame(granted.mailbox, STOP, 0, NULL, 0, NULL, 0), 0);
    expect_of_listener(&self, CLOSE);
    end_worker(&self);
    end_grant(&granted);
}

static void falls_out_of_accept(void) { falls_out("_serves_until_stop"); }
static void falls_out_of_watch(void) { falls_out("_watches_until_stop"); }

static void watches_by_order(void) {
    char text[8];
    check_ignore_descriptors = 1;
    int loop = new_epoll(), made = OK(listen_flags("127.0.0.1:0", CL_LISTEN_NONBLOCK));
    OK(cl_send("made", 4));
    for (int i = 0; i < 3; i++) {
        OK(cl_receive(text, sizeof text, 5000));
        OK(cl_listener_watch(made, loop, TOLD));
        CHECK_EQ(cl_listener_watch(made, loop, TOLD), -EEXIST);
        OK(cl_receive(text, sizeof text, 5000));
        OK(cl_listener_unwatch(made));
        CHECK_EQ(cl_listener_unwatch(made), -ENOENT);
    }
    OK(cl_listener_watch(made, loop, TOLD));
    OK(cl_close(made));
}

/* What says that it stands in line is said once it does, and not for what was never watched. */
static void says_so(void) {
    hand_t self = start_worker("_watches_by_order", 1);
    expect_online(&self);
    granted_t granted = grant_rotation(&self, WHOLE);
    expect_frame(self.channel, MESSAGE, 4); /* no SEAT before */
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(send_frame(self.channel, MESSAGE, 0, "in", 2, NULL, 0), 0);
        expect_of_listener(&self, SEAT);
        CHECK_EQ(send_frame(self.channel, MESSAGE, 0, "out", 3, NULL, 0), 0);
        expect_of_listener(&self, UNSEAT);
    }
    expect_of_listener(&self, SEAT);
    expect_of_listener(&self, CLOSE);
    end_worker(&self);
    end_grant(&granted);
}

static void is_refused(void) {
    check_ignore_descriptors = 1;
    CHECK(cl_listen("127.0.0.1:0", 0) < 0);
    CHECK(cl_last_error()[0] != '\0');
}

static void odd_grants(void) {
    hand_t self = start_worker("_is_refused", 1);
    expect_online(&self);
    granted_t granted = grant_rotation(&self, WITHOUT_PAGE);
    expect_of_listener(&self, CLOSE);
    end_worker(&self);
    end_grant(&granted);
    /* What may shrink is not touched: the mailbox alone serves it. */
    self = start_worker("_serves_until_stop", 1);
    expect_online(&self);
    granted = grant_rotation(&self, MAY_SHRINK);
    for (int i = 0; i < 3; i++) is_answered(&granted, -1);
    int client = connect4(granted.port);
    CHECK_EQ(readable_within(client, 50), 0);
    close(client);
    CHECK_EQ(send_frame(granted.mailbox, STOP, 0, NULL, 0, NULL, 0), 0);
    expect_of_listener(&self, CLOSE);
    end_worker(&self);
    end_grant(&granted);
}

static const check_case_t cases[] = {
    {"together", together}, {"_takes_part", takes_part}, {"_stands_beside", stands_beside}, {"_does_not_say", does_not_say},
    {"seat_and_unseat", seat_and_unseat}, {"_comes_and_goes", comes_and_goes},
    {"offences", offences}, {"offence_in_passed", offence_in_passed}, {"_offend_by_seat", offend_by_seat},
    {"counts", counts}, {"_serves_until_stop", serves_until_stop},
    {"falls_out_of_accept", falls_out_of_accept}, {"falls_out_of_watch", falls_out_of_watch}, {"_watches_until_stop", watches_until_stop},
    {"says_so", says_so}, {"_watches_by_order", watches_by_order},
    {"odd_grants", odd_grants}, {"_is_refused", is_refused},
};
CHECK_MAIN(cases)
