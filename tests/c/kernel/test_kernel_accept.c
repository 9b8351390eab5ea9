/* The mechanism kernel from inside a worker: loops of its own, threads, closing, and descriptors that are short. */
#include "kernel.h"
#include <pthread.h>
#include <sys/epoll.h>

/* -- A loop of the program's own ------------------------------------------------------------------------------------ */

static int listen_nonblocking(void) {
    cl_listen_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.address = served_address;
    options.flags = CL_LISTEN_NONBLOCK;
    return OK(cl_listen_with(&options));
}

/* Edge-triggered it takes until there is nothing; level-triggered one at a time, and asks in vain now and then. */
static int serve_by_epoll(int edge) {
    struct epoll_event event;
    int listener = listen_nonblocking(), poll_fd = SYS(epoll_create1(EPOLL_CLOEXEC));
    ZERO(event);
    event.events = EPOLLIN;
    if (edge) event.events |= EPOLLET;
    SYS(epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event));
    for (;;) {
        int n = epoll_wait(poll_fd, &event, 1, -1);
        CHECK(n > 0 || errno == EINTR);
        for (;;) {
            int connection = cl_accept(listener, NULL, NULL);
            if (connection == -ESHUTDOWN) {
                close(poll_fd);
                OK(cl_close(listener));
                return 0;
            }
            if (connection == -EAGAIN) break;
            answer(OK(connection));
            if (!edge) break;
        }
    }
}

static int serve_by_level(void) { return serve_by_epoll(0); }
static int serve_by_edge(void) { return serve_by_epoll(1); }

static void own_loop(int (*serve)(void), int spawned) {
    begin_kernel();
    primary_ready(serve);
    crew_t crew = hire(3, spawned);
    drive(&crew, 900, 1, 4);
    drive(&crew, 3000, 30, 4);
    expect_spread(&crew, 1);
    /* Also what comes by its mailbox: behind a neighbour that stands still. */
    OK(cl_worker_kill(crew.ids[1], SIGSTOP));
    memset(crew.had, 0, sizeof crew.had);
    for (int i = 0; i < 5; i++) drive(&crew, 60, 30, 4);
    CHECK_EQ(crew.had[1], 0);
    OK(cl_worker_kill(crew.ids[1], SIGCONT));
    for (int i = 0; i < 3; i++) OK(cl_worker_disconnect(crew.ids[i]));
    for (int i = 0; i < 3; i++) CHECK_EQ(await_exit(crew.ids[i], 5000)->exit_code, 0);
    for (int i = 0; i < 3; i++) CHECK_EQ(await_exit(crew.ids[i], 1)->signal, 0);
    finish();
}

static void level_forked(void) { own_loop(serve_by_level, 0); }
static void edge_forked(void) { own_loop(serve_by_edge, 0); }
static void level_spawned(void) {
    if (worker_side()) exit(serve_by_level());
    own_loop(serve_by_level, 1);
}
static void edge_spawned(void) {
    if (worker_side()) exit(serve_by_edge());
    own_loop(serve_by_edge, 1);
}

/* -- Threads -------------------------------------------------------------------------------------------------------- */

enum { THREADS = 5 };

static int threads_listener, threads_wanted;

static void *accept_in_thread(void *unused) {
    (void)unused;
    for (;;) {
        int connection = cl_accept(threads_listener, NULL, NULL);
        if (connection == threads_wanted) return NULL;
        answer(OK(connection));
    }
}

static void begin_threads(pthread_t *threads, int wanted) {
    threads_wanted = wanted;
    for (int i = 0; i < THREADS; i++) CHECK_EQ(pthread_create(&threads[i], NULL, accept_in_thread, NULL), 0);
}

static void end_threads(const pthread_t *threads) {
    for (int i = 0; i < THREADS; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

/* First until it closes the listener while all of them wait in it, then, at a new one, until they are told to leave. */
static int serve_by_threads(void) {
    pthread_t threads[THREADS];
    char text[16];
    for (int round = 0; round < 3; round++) {
        threads_listener = OK(cl_listen(served_address, 0));
        begin_threads(threads, -EBADF);
        OK(cl_receive(text, sizeof text, -1));
        OK(cl_close(threads_listener));
        end_threads(threads);
        OK(cl_send("closed", 6));
    }
    threads_listener = OK(cl_listen(served_address, 0));
    begin_threads(threads, -ESHUTDOWN);
    end_threads(threads);
    OK(cl_close(threads_listener));
    return 0;
}

static void by_threads(int spawned) {
    begin_kernel();
    primary_ready(serve_by_threads);
    char text[32];
    snprintf(text, sizeof text, "127.0.0.1:%d", free_port());
    serve_at(text);
    snprintf(served_address, sizeof served_address, "%s", text);
    crew_t crew = hire(1, spawned);
    worker_main = serve_address;
    crew_t other = hire(1, 0);
    crew.ids[crew.count++] = other.ids[0];
    for (int round = 0; round < 3; round++) {
        memset(crew.had, 0, sizeof crew.had);
        drive(&crew, 1000, 10, 4);
        expect_spread(&crew, 1);
        int clients[40];
        OK(cl_worker_send(crew.ids[0], "close", 5));
        for (int i = 0; i < 40; i++) clients[i] = connect4(crew.port);
        for (int i = 0; i < 40; i++) note(&crew, answered_by(clients[i]));
        PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, crew.ids[0]) == round + 1, 3000);
        await_listening(crew.ids[0], round + 2);
    }
    memset(crew.had, 0, sizeof crew.had);
    drive(&crew, 200, 10, 4);
    expect_spread(&crew, 1);
    OK(cl_worker_disconnect(crew.ids[0]));
    const seen_t *end = await_exit(crew.ids[0], 5000);
    CHECK_EQ(end->exit_code, 0);
    CHECK_EQ(end->signal, 0);
    finish();
}

static void threads_forked(void) { by_threads(0); }
static void threads_spawned(void) {
    if (worker_side()) {
        snprintf(served_address, sizeof served_address, "%s", getenv("CHECK_ADDRESS"));
        exit(serve_by_threads());
    }
    by_threads(1);
}

/* -- Descriptors that are short ------------------------------------------------------------------------------------- */

static int filler[256], filled;

/* Fills the table of this process up to a limit that is not far, but leaves the primary's reserve (64) to be freed. */
static void fill_table(void) {
    struct rlimit limit;
    SYS(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = 192;
    SYS(setrlimit(RLIMIT_NOFILE, &limit));
    for (int fd; (fd = fcntl(0, F_DUPFD_CLOEXEC, 3)) >= 0;) filler[filled++] = fd;
    CHECK_EQ(errno, EMFILE);
}

static void free_some(int how_many) {
    while (how_many-- > 0 && filled > 0) close(filler[--filled]);
}

/* Listens when it is told to, until that succeeds, and says what came of it. */
static int listen_when_told(void) {
    char text[16];
    for (;;) {
        if (cl_receive(text, sizeof text, -1) < 0) return 0;
        int listener = cl_listen(getenv("CHECK_ADDRESS"), 0);
        int n = snprintf(text, sizeof text, "%d", listener < 0 ? listener : 0);
        OK(cl_send(text, (size_t)n));
        if (listener >= 0) return serve_listener(listener);
        CHECK_EQ(listener, -EMFILE);
    }
}

static int tell_to_listen(int id) {
    int before = count_events(CL_EVENT_MESSAGE, id);
    OK(cl_worker_send(id, "listen", 6));
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) > before, 5000);
    return atoi(seen[find_event(CL_EVENT_MESSAGE, id, before)].data);
}

/* The primary has so many descriptors left when a worker joins: it gets a share or an error, and nobody loses his. */
static void primary_is_short(void) {
    char text[32];
    if (worker_side()) exit(listen_when_told());
    if (under_valgrind()) check_skip("valgrind only plays RLIMIT_NOFILE: it closes what the kernel gave beyond");
    begin_kernel();
    primary_ready(listen_when_told);
    int refused = 0, shared = 0;
    crew_t crew;
    ZERO(crew);
    crew.count = 2;
    for (int left = 58; left < 76; left++) {
        snprintf(text, sizeof text, "127.0.0.1:%d", free_port()); /* of which no slot has a socket yet */
        serve_at(text);
        for (int i = 0; i < 2; i++) crew.ids[i] = spawn_worker();
        if (left % 2 == 0) CHECK_EQ(tell_to_listen(crew.ids[0]), 0);
        PUMP_UNTIL(find_event(CL_EVENT_ONLINE, crew.ids[1], 0) >= 0, 5000);
        fill_table();
        free_some(left);
        int result = tell_to_listen(crew.ids[1]);
        refused += result == -EMFILE;
        shared += result == 0;
        free_some(256);
        if (result != 0) CHECK_EQ(tell_to_listen(crew.ids[1]), 0);
        if (left % 2 != 0) CHECK_EQ(tell_to_listen(crew.ids[0]), 0);
        crew.port = await_listening(crew.ids[0], 1);
        CHECK_EQ(await_listening(crew.ids[1], 1), crew.port);
        memset(crew.had, 0, sizeof crew.had);
        drive(&crew, 40, 1, 4);
        expect_spread(&crew, 0);
        for (int i = 0; i < 2; i++) OK(cl_worker_disconnect(crew.ids[i]));
        for (int i = 0; i < 2; i++) CHECK_EQ(await_exit(crew.ids[i], 5000)->exit_code, 0);
    }
    CHECK(refused > 0 && shared > 0);
    CHECK_EQ(count_other_warnings(0), 0);
    finish();
}

/* Has none left from the first message to the second, and asks on and on. */
static int full_when_told(void) {
    char text[16];
    int listener = listen_nonblocking(), channel = OK(cl_channel_fd()), full = 0, refused = 0;
    for (;;) {
        int which = await_either(listener, channel);
        if ((which & 2) != 0 && cl_receive(text, sizeof text, 0) > 0) {
            full = !full;
            if (full) fill_table();
            else free_some(256);
            int n = snprintf(text, sizeof text, "%d", refused);
            OK(cl_send(text, (size_t)n));
        }
        int connection = (which & 1) != 0 ? cl_accept(listener, NULL, NULL) : -EAGAIN;
        if (connection == -ESHUTDOWN) return 0;
        if (full && connection == -EMFILE) refused++;
        if (connection == -EMFILE) nap(1);
        else if (connection != -EAGAIN) answer(OK(connection));
    }
}

static int toggle(int id) {
    int before = count_events(CL_EVENT_MESSAGE, id);
    OK(cl_worker_send(id, "now", 3));
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) > before, 3000);
    return atoi(seen[find_event(CL_EVENT_MESSAGE, id, before)].data);
}

/* What a worker has no descriptors for, others serve, and it itself once it has some. */
static void worker_is_short(void) {
    if (under_valgrind()) check_skip("valgrind only plays RLIMIT_NOFILE: it closes what the kernel gave beyond");
    begin_kernel();
    primary_ready(full_when_told);
    crew_t crew = hire(3, 0);
    toggle(crew.ids[1]);
    drive(&crew, 300, 30, 4);
    CHECK_EQ(crew.had[1], 0);
    CHECK(toggle(crew.ids[1]) > 0);
    memset(crew.had, 0, sizeof crew.had);
    for (long long end = now_ms() + 4000LL * check_slow(); crew.had[1] == 0 && now_ms() < end;) drive(&crew, 1, 1, 4);
    memset(crew.had, 0, sizeof crew.had);
    drive(&crew, 300, 3, 4);
    expect_spread(&crew, 1);
    finish();
}

static void all_are_short(void) {
    int clients[60];
    if (under_valgrind()) check_skip("valgrind only plays RLIMIT_NOFILE: it closes what the kernel gave beyond");
    begin_kernel();
    primary_ready(full_when_told);
    crew_t crew = hire(2, 0);
    for (int i = 0; i < 2; i++) toggle(crew.ids[i]);
    for (int i = 0; i < 60; i++) clients[i] = connect4(crew.port);
    pump_for(300);
    for (int i = 0; i < 60; i++) CHECK_EQ(readable_within(clients[i], 0), 0);
    toggle(crew.ids[0]);
    for (int i = 0; i < 60; i++) CHECK_EQ(answered_by(clients[i]), crew.ids[0]);
    toggle(crew.ids[1]);
    finish();
}

static const check_case_t cases[] = {
    {"level_forked", level_forked},
    {"edge_forked", edge_forked},
    {"level_spawned", level_spawned},
    {"edge_spawned", edge_spawned},
    {"threads_forked", threads_forked},
    {"threads_spawned", threads_spawned},
    {"primary_is_short", primary_is_short},
    {"worker_is_short", worker_is_short},
    {"all_are_short", all_are_short},
};
CHECK_MAIN(cases)
