/* The mechanism kernel: workers that die, stand still, leave and come, while clients connect. Nobody is lost. */
#include "kernel.h"
#include "tun.h"

/* -- Clients of another process ------------------------------------------------------------------------------------ */

enum { AT_A_TIME = 8 };

/* Connects without end, some at a time, until its standard output has nobody left to read it; what became of them. */
static void _load(void) {
    int port = atoi(getenv("CHECK_PORT")), answered = 0, failed = 0;
    const char *stop = getenv("CHECK_STOP");
    char text[96];
    while (access(stop, F_OK) != 0) {
        int clients[AT_A_TIME];
        for (int i = 0; i < AT_A_TIME; i++) clients[i] = try_connect4(port);
        for (int i = 0; i < AT_A_TIME; i++) {
            int n = clients[i] < 0 ? clients[i] : receive_all(clients[i], text, sizeof text);
            if (n > 0) answered++;
            else failed++;
            if (n <= 0 && failed <= 10) dprintf(1, "connection %d: %s\n", answered + failed, n < 0 ? strerror(-n) : "end of file");
            if (clients[i] >= 0) close(clients[i]);
        }
    }
    dprintf(1, "answered %d failed %d\n", answered, failed);
}

typedef struct {
    pid_t pid;
    int output;
} load_t;

static load_t begin_load(int port) {
    char text[16];
    int ends[2];
    load_t load;
    snprintf(text, sizeof text, "%d", port);
    SYS(setenv("CHECK_PORT", text, 1));
    SYS(setenv("CHECK_STOP", case_path("stop"), 1));
    SYS(pipe2(ends, O_CLOEXEC));
    load.pid = SYS(start_role("_load", ends[1]));
    load.output = ends[0];
    close(ends[1]);
    return load;
}

/* How many were answered; all were. */
static int end_load(load_t load) {
    char text[4096];
    size_t length = 0;
    int answered = 0, failed = -1;
    close(SYS(open(case_path("stop"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)));
    for (;;) {
        if (!pump_readable(load.output, 10000)) check_fail(__FILE__, __LINE__, "the clients do not end");
        ssize_t n = read(load.output, text + length, sizeof text - 1 - length);
        if (n <= 0) break;
        length += (size_t)n;
    }
    text[length] = '\0';
    close(load.output);
    WAIT_SUCCESS(load.pid);
    const char *last = strstr(text, "answered");
    CHECK(last != NULL && sscanf(last, "answered %d failed %d", &answered, &failed) == 2);
    if (failed != 0) check_fail(__FILE__, __LINE__, "%s", text);
    return answered;
}

/* -- Death ---------------------------------------------------------------------------------------------------------- */

/* So many wait for it alone; the primary looks away meanwhile, or it would hand them to others. */
static void queue_up(const crew_t *crew, int *clients, int how_many) {
    for (int i = 0; i < how_many; i++) clients[i] = connect4(crew->port);
}

enum { QUEUED = 200 };

static void killed_with_a_queue(void) {
    int clients[QUEUED];
    begin_kernel();
    primary_ready(serve_address);
    crew_t crew = hire(2, 0);
    pid_t pid = pid_of(crew.ids[0]);
    SYS(kill(pid, SIGSTOP));
    queue_up(&crew, clients, QUEUED);
    SYS(kill(pid, SIGKILL));
    for (int i = 0; i < QUEUED; i++) note(&crew, answered_by(clients[i]));
    CHECK_EQ(crew.had[0], 0);
    CHECK_EQ(crew.had[1], QUEUED);
    CHECK_EQ(await_exit(crew.ids[0], 3000)->signal, SIGKILL);
    CHECK_EQ(ask(crew.port), crew.ids[1]);
    finish();
}

/* The last one: its queue is there for who comes later. */
static void last_killed_with_a_queue(int respawn, int spawned) {
    int clients[QUEUED];
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.respawn = respawn ? CL_RESPAWN_ON_FAILURE : CL_RESPAWN_NEVER;
    settings.restart_min_ms = 1;
    OK(cl_setup_primary(&settings));
    primary_ready(serve_address);
    crew_t crew = hire(1, spawned);
    pid_t pid = pid_of(crew.ids[0]);
    SYS(kill(pid, SIGSTOP));
    queue_up(&crew, clients, QUEUED);
    SYS(kill(pid, SIGKILL));
    await_exit(crew.ids[0], 3000);
    pump_for(100);
    if (!respawn) {
        for (int i = 0; i < QUEUED; i++) CHECK_EQ(readable_within(clients[i], 0), 0);
        crew = hire(1, spawned);
    }
    for (int i = 0; i < QUEUED; i++) CHECK(answered_by(clients[i]) != (respawn ? crew.ids[0] : 0));
    if (respawn) CHECK(find_event(CL_EVENT_LISTENING, 0, 1) >= 0);
    finish();
}

static void last_killed_forked(void) {
    begin_kernel();
    last_killed_with_a_queue(0, 0);
}
static void last_killed_spawned(void) {
    if (worker_side()) exit(serve_address());
    begin_kernel();
    last_killed_with_a_queue(0, 1);
}
static void last_killed_respawned(void) {
    begin_kernel();
    last_killed_with_a_queue(1, 0);
}

/* One after the other dies under load with nothing in hand, and each has a replacement. */
static int serve_and_die(void) {
    int listener = cl_listen(served_address, 0);
    if (listener == -ESHUTDOWN) return 0; /* the end, before it began */
    OK(listener);
    for (int served = 0;; served++) {
        int connection = cl_accept(listener, NULL, NULL);
        if (connection == -ESHUTDOWN) return 0;
        answer(OK(connection));
        if (served == 150 + 40 * cl_worker_slot()) kill(getpid(), SIGKILL);
    }
}

static void killed_under_load(void) {
    cl_settings_t settings;
    begin_kernel();
    ZERO(settings);
    settings.size = sizeof settings;
    settings.respawn = CL_RESPAWN_ON_FAILURE;
    settings.restart_min_ms = 1;
    settings.restart_max_ms = 20;
    OK(cl_setup_primary(&settings));
    primary_ready(serve_and_die);
    crew_t crew = hire(3, 0);
    load_t load = begin_load(crew.port);
    PUMP_UNTIL(count_events(CL_EVENT_EXIT, 0) >= 12, 15000);
    CHECK(end_load(load) > 150);
    for (int i = 0; i < seen_count; i++)
        if (seen[i].type == CL_EVENT_EXIT) CHECK_EQ(seen[i].signal, SIGKILL);
    finish();
}

/* -- Standing still ------------------------------------------------------------------------------------------------- */

/* So many clients, some at a time, while one of the workers does nothing: none waits for it. */
static void without(crew_t *crew, int at, int connections) {
    memset(crew->had, 0, sizeof crew->had);
    drive(crew, connections, 20, 4);
    CHECK_EQ(crew->had[at], 0);
}

static void until_back(crew_t *crew, int at) {
    memset(crew->had, 0, sizeof crew->had);
    for (long long end = now_ms() + 4000LL * check_slow(); crew->had[at] == 0 && now_ms() < end;) drive(crew, 1, 1, 4);
    CHECK(crew->had[at] > 0);
    memset(crew->had, 0, sizeof crew->had);
    drive(crew, 400, 4, 4);
    expect_spread(crew, 1);
}

static void stopped(void) {
    begin_kernel();
    primary_ready(serve_address);
    crew_t crew = hire(4, 0);
    for (int at = 0; at < 4; at += 3) {
        OK(cl_worker_kill(crew.ids[at], SIGSTOP));
        without(&crew, at, 600);
        expect_rest(300);
        without(&crew, at, 40);
        CHECK_EQ(count_events(CL_EVENT_EXIT, 0), 0);
        OK(cl_worker_kill(crew.ids[at], SIGCONT));
        until_back(&crew, at);
    }
    finish();
}

/* Computes from one message to the next. */
static int compute_when_told(void) {
    int listener = OK(cl_listen(served_address, 0));
    int channel = OK(cl_channel_fd());
    for (;;) {
        char text[16];
        int which = await_either(listener, channel);
        if ((which & 2) != 0 && cl_receive(text, sizeof text, 0) > 0) {
            OK(cl_send("busy", 4));
            while (!readable_within(channel, 0)) {}
            (void)cl_receive(text, sizeof text, 0);
        } else if ((which & 1) != 0) {
            int connection = cl_accept(listener, NULL, NULL);
            if (connection == -ESHUTDOWN) return 0;
            answer(OK(connection));
        }
    }
}

static void computing(void) {
    begin_kernel();
    primary_ready(compute_when_told);
    crew_t crew = hire(3, 0);
    for (int at = 0; at < 3; at += 2) {
        OK(cl_worker_send(crew.ids[at], "now", 3));
        PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, crew.ids[at], 0) >= 0, 3000);
        without(&crew, at, 400);
        OK(cl_worker_send(crew.ids[at], "enough", 6));
        until_back(&crew, at);
    }
    finish();
}

/* -- Leaving and coming --------------------------------------------------------------------------------------------- */

static void leaving_under_load(int spawned) {
    begin_kernel();
    primary_ready(serve_address);
    crew_t crew = hire(3, spawned);
    load_t load = begin_load(crew.port);
    for (int round = 0; round < 9; round++) {
        int *one = &crew.ids[round % 3], leaving = *one;
        OK(cl_worker_disconnect(leaving));
        const seen_t *end = await_exit(leaving, 5000);
        CHECK_EQ(end->exit_code, 0);
        CHECK_EQ(end->signal, 0);
        *one = spawned ? spawn_worker() : fork_worker();
        await_listening(*one, 1);
        pump_for(20);
    }
    CHECK(end_load(load) > 100);
    finish();
}

static void leaving_forked(void) { leaving_under_load(0); }
static void leaving_spawned(void) {
    if (worker_side()) exit(serve_address());
    leaving_under_load(1);
}

/* From two to six and back, again and again; when it is quiet they have their turns exactly. */
static void scaling(void) {
    begin_kernel();
    primary_ready(serve_address);
    crew_t crew = hire(2, 0);
    load_t load = begin_load(crew.port);
    for (int round = 0; round < 3; round++) {
        for (; crew.count < 6; crew.count++) {
            crew.ids[crew.count] = fork_worker();
            await_listening(crew.ids[crew.count], 1);
        }
        pump_for(50);
        for (; crew.count > 2; crew.count--) OK(cl_worker_disconnect(crew.ids[crew.count - 1]));
        for (int i = 2; i < 6; i++) CHECK_EQ(await_exit(crew.ids[i], 5000)->signal, 0);
        pump_for(50);
    }
    CHECK(end_load(load) > 100);
    drive(&crew, 200, 2, 4);
    expect_spread(&crew, 1);
    finish();
}

/* -- A worker that joins and leaves without end -------------------------------------------------------------------------- */

/* The last packet of a handshake that meets a socket at the moment of its shutdown is answered with a reset. To find one that is shut
 * down too early such packets have to come at that moment, as many as there can be: so each round begins some handshakes and ends them
 * as its worker leaves, on another processor than the primary's. Fewer rounds than a worker may listen without resting (its allowance
 * is 16,384 units, and a round takes 72 of them). */
enum { ROUNDS = 150, KNOCKS = 128, LATE_MS = 50 };

/* How far the worker and the clients are, by rounds. */
static struct rounds {
    int listens, knocked, leaves, over;
} *rounds;

#define SAY(what, value) __atomic_store_n(&rounds->what, value, __ATOMIC_SEQ_CST)
#define HEAR(what) __atomic_load_n(&rounds->what, __ATOMIC_SEQ_CST)

/* This process on the n-th of the processors that it may use, if there are as many. */
static void keep_to_processor(int n) {
    cpu_set_t allowed, one;
    SYS(sched_getaffinity(0, sizeof allowed, &allowed));
    CPU_ZERO(&one);
    for (int processor = 0; processor < CPU_SETSIZE; processor++)
        if (CPU_ISSET(processor, &allowed) && n-- == 0) CPU_SET(processor, &one);
    if (CPU_COUNT(&one) == 1) SYS(sched_setaffinity(0, sizeof one, &one));
}

enum { CLOSED, KNOCKED, HALF_OPEN, OPEN };

typedef struct {
    int state;
    unsigned seq; /* the server's */
} knock_t;

/* Takes what comes to a round's clients until none of them is in a state any more, or for so long; how many were reset. */
static int until_none_is(int state, knock_t *knocks, int tun, int port, int first, int ms) {
    int resets = 0, left = 0;
    long long end = now_ms() + ms;
    for (int i = 0; i < KNOCKS; i++) left += knocks[i].state == state;
    while (left > 0 && now_ms() < end) {
        tun_packet_t packet;
        if (!tun_receive(tun, &packet)) {
            (void)readable_within(tun, 5);
            continue;
        }
        if (packet.client_port < first || packet.client_port >= first + KNOCKS) continue;
        knock_t *one = &knocks[packet.client_port - first];
        int before = one->state;
        if (before == KNOCKED && packet.flags == (TUN_SYN | TUN_ACK)) {
            one->state = HALF_OPEN;
            one->seq = packet.seq + 1;
        } else if (before == OPEN && (packet.flags & TUN_RST) != 0) {
            one->state = CLOSED;
            resets++;
        } else if (before == OPEN && packet.length > 0) {
            one->state = CLOSED;
            tun_send(tun, port, packet.client_port, TUN_RST, 1001, 0);
        }
        left -= before == state && one->state != state;
    }
    return resets;
}

static void knock(int tun, int port) {
    knock_t knocks[KNOCKS];
    int answered = 0, failed = 0;
    for (int round = 1;; round++) {
        int first = 1024 + round * KNOCKS % 60000, now = 0;
        while (HEAR(listens) != round && !HEAR(over)) nap(1);
        if (HEAR(over)) break;
        long long start = now_ms();
        for (int i = 0; i < KNOCKS; i++) {
            knocks[i].state = KNOCKED;
            tun_send(tun, port, first + i, TUN_SYN, 1000, 0);
        }
        CHECK_EQ(until_none_is(KNOCKED, knocks, tun, port, first, LATE_MS / 2), 0);
        SAY(knocked, round);
        while (HEAR(leaves) != round && !HEAR(over)) {}
        /* On a busy machine it may be too late for a handshake that is to be waited for. */
        int late = now_ms() - start >= LATE_MS;
        for (int i = 0; i < KNOCKS; i++) {
            if (knocks[i].state != HALF_OPEN) continue;
            knocks[i].state = late ? CLOSED : OPEN;
            now += !late;
            tun_send(tun, port, first + i, late ? TUN_RST : TUN_ACK, 1001, late ? 0 : knocks[i].seq);
        }
        late = now_ms() - start >= LATE_MS;
        int resets = until_none_is(OPEN, knocks, tun, port, first, 3000 * check_slow());
        for (int i = 0; i < KNOCKS; i++) resets += knocks[i].state == OPEN; /* and who was never answered */
        answered += now - resets;
        if (!late) failed += resets;
    }
    dprintf(1, "answered %d failed %d\n", answered, failed);
}

/* The second worker listens and closes, again and again, and then stays. */
static int serve_or_come_and_go(void) {
    cl_listen_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.address = served_address;
    options.flags = CL_LISTEN_NONBLOCK;
    if (cl_worker_slot() != 1) return serve_address();
    for (int round = 1; round <= ROUNDS / check_slow(); round++) {
        int listener = OK(cl_listen_with(&options));
        SAY(listens, round);
        /* What others left is given to it, too. */
        while (HEAR(knocked) != round) {
            int connection = cl_accept(listener, NULL, NULL);
            if (connection == -EAGAIN) (void)readable_within(listener, 1);
            else answer(OK(connection));
        }
        SAY(leaves, round);
        OK(cl_close(listener));
    }
    return serve_address();
}

static void comings_and_goings_reset_nobody(void) {
    load_t load;
    int ends[2];
    begin_kernel();
    int tun = tun_open();
    serve_at("10.11.0.1:0");
    rounds = (struct rounds *)mmap(NULL, sizeof *rounds, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(rounds != MAP_FAILED);
    primary_ready(serve_or_come_and_go);
    crew_t crew = hire(1, 0);
    SYS(setenv("CHECK_STOP", case_path("stop"), 1));
    SYS(pipe2(ends, O_CLOEXEC));
    load.pid = SYS(fork());
    if (load.pid == 0) {
        SYS(dup2(ends[1], 1));
        keep_to_processor(1);
        knock(tun, crew.port);
        _exit(0);
    }
    load.output = ends[0];
    close(ends[1]);
    keep_to_processor(0);
    int second = fork_worker();
    PUMP_UNTIL(count_events(CL_EVENT_LISTENING, second) == ROUNDS / check_slow() + 1, 20000);
    SAY(over, 1);
    CHECK(end_load(load) > 0);
    close(tun);
    check_baseline--;
    finish();
}

static const check_case_t cases[] = {
    {"comings_and_goings_reset_nobody", comings_and_goings_reset_nobody},
    {"_load", _load},
    {"killed_with_a_queue", killed_with_a_queue},
    {"last_killed_forked", last_killed_forked},
    {"last_killed_spawned", last_killed_spawned},
    {"last_killed_respawned", last_killed_respawned},
    {"killed_under_load", killed_under_load},
    {"stopped", stopped},
    {"computing", computing},
    {"leaving_forked", leaving_forked},
    {"leaving_spawned", leaving_spawned},
    {"scaling", scaling},
};
CHECK_MAIN(cases)
