/* The driver behind `make demo`: real HTTP connections at http_hello and its 4 workers, one of which is killed.
 *
 * build:  cc -o demo demo.c                       (it talks only HTTP and needs no library)
 * run:    ./demo ./http_hello [connections]       (6000; HOLD=1 in the environment leaves the server up afterwards)
 * expect: a progress line, a table of who served how much, and "demo: passed": every connection was answered, but for
 *         at most the one in the killed worker's hand; a replacement took the slot; the others shared evenly.
 *         Otherwise "demo: FAILED: ..." and exit status 1.
 */
#include "demo_server.h"

enum {
    AT_ONCE = 32, /* connections in flight */
    ANSWER_MS = 5000,
    REPLACE_MS = 10000,
    TRAFFIC_MS = 60000,
};

struct client {
    int fd; /* -1: free */
    long number;
    long long since;
    size_t sent, have;
    char answer[512];
};

static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

static struct client clients[AT_ONCE];
static long made, answered, lost, lost_in_hand, target;
static char first_loss[160];

static void lose(struct client *client, const char *why) {
    /* A SIGKILL takes with it the connection that its worker was serving; nobody can save that one. */
    int in_hand = killed.at > 0 && client->number <= killed.at;
    lost++;
    lost_in_hand += in_hand;
    if (first_loss[0] == '\0' || (!in_hand && lost - lost_in_hand == 1))
        snprintf(first_loss, sizeof first_loss, "connection %ld: %s", client->number, why);
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
}

static void begin(struct client *client) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = inet_addr(server.address);
    address.sin_port = htons((unsigned short)server.port);

    client->number = ++made;
    client->since = now_ms();
    client->sent = client->have = 0;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        fail("socket: %s", strerror(errno));
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        lose(client, strerror(errno));
}

/* Whether the answer is complete; then *id, *slot and *pid tell who gave it. */
static int complete(const struct client *client, int *id, int *slot, int *pid) {
    const char *body = strstr(client->answer, "\r\n\r\n");
    const char *length = strstr(client->answer, "Content-Length: ");
    if (body == NULL || length == NULL || strncmp(client->answer, "HTTP/1.1 200 ", 13) != 0)
        return 0;
    body += 4;
    size_t wanted = strtoul(length + 16, NULL, 10);
    return wanted > 0 && client->have - (size_t)(body - client->answer) >= wanted &&
           sscanf(body, "hello from worker %d, slot %d, pid %d", id, slot, pid) == 3;
}

static void advance(struct client *client) {
    if (client->sent < sizeof request - 1) {
        ssize_t sent = send(client->fd, request + client->sent, sizeof request - 1 - client->sent, MSG_NOSIGNAL);
        if (sent >= 0)
            client->sent += (size_t)sent;
        else if (errno != EAGAIN && errno != EINTR)
            lose(client, strerror(errno));
        return;
    }

    ssize_t got = recv(client->fd, client->answer + client->have, sizeof client->answer - 1 - client->have, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        lose(client, got < 0 ? strerror(errno) : "closed before the answer was complete");
        return;
    }
    client->have += (size_t)got;
    client->answer[client->have] = '\0';

    int id, slot, pid;
    if (!complete(client, &id, &slot, &pid))
        return;
    struct worker *worker = worker_of(id);
    worker->slot = slot;
    worker->pid = pid;
    worker->served++;
    answered++;
    close(client->fd);
    client->fd = -1;
}

/* SIGKILL to one of the workers that have served, while connections are under way. */
static void kill_one(void) {
    for (int i = worker_count / 2; i < worker_count; i++) {
        struct worker *worker = &workers[i];
        if (worker->served == 0 || kill(worker->pid, SIGKILL) < 0)
            continue;
        killed.id = worker->id;
        killed.slot = worker->slot;
        killed.at = made;
        killed.when = now_ms();
        return;
    }
}

static void show_progress(int done) {
    static int live = -1; /* a terminal: one line that changes */
    static long long shown;
    static long tenth = 1;
    if (live < 0)
        live = isatty(1);
    long percent = (answered + lost) * 100 / target;
    char text[160], note[64] = "";
    if (killed.replacement != 0)
        snprintf(note, sizeof note, "  killed %d, replaced by %d", killed.id, killed.replacement);
    else if (killed.at > 0)
        snprintf(note, sizeof note, "  killed %d", killed.id);
    snprintf(text, sizeof text, "%3ld %%  made %ld, answered %ld, lost %ld%s", percent, made, answered, lost, note);

    if (live) {
        if (!done && now_ms() - shown < 40)
            return;
        shown = now_ms();
        printf("\r%-78s%s", text, done ? "\n" : "");
        fflush(stdout);
    } else if (percent >= tenth * 10) {
        puts(text);
        fflush(stdout);
        tenth = percent / 10 + 1;
    }
}

/* One turn of the loop over the server's output and all clients. */
static void turn(void) {
    struct pollfd ready[AT_ONCE + 1];
    ready[AT_ONCE].fd = server.output;
    ready[AT_ONCE].events = POLLIN;
    for (int i = 0; i < AT_ONCE; i++) {
        if (clients[i].fd < 0 && made < target)
            begin(&clients[i]);
        ready[i].fd = clients[i].fd; /* poll passes over what is negative */
        ready[i].events = clients[i].sent < sizeof request - 1 ? POLLOUT : POLLIN;
    }
    int count = poll(ready, AT_ONCE + 1, 100);
    if (count < 0)
        return; /* EINTR */
    if (ready[AT_ONCE].revents != 0 && !hear_server())
        fail("the server has ended in the middle. %s", server.said);
    for (int i = 0; i < AT_ONCE; i++) {
        if (clients[i].fd < 0)
            continue;
        if (ready[i].revents != 0)
            advance(&clients[i]);
        else if (now_ms() - clients[i].since > ANSWER_MS)
            lose(&clients[i], "no answer in time");
    }
}

static void drive(long connections) {
    long long deadline = now_ms() + TRAFFIC_MS;
    int replaced = 0;
    target = connections;
    for (int i = 0; i < AT_ONCE; i++)
        clients[i].fd = -1;

    while (answered + lost < target) {
        if (interrupted)
            fail("interrupted");
        if (now_ms() > deadline)
            fail("not done after %d s: %ld connections made, %ld answered, %ld lost", TRAFFIC_MS / 1000, made, answered,
                 lost);
        turn();
        if (killed.at == 0 && answered >= connections / 3)
            kill_one();
        if (killed.at > 0 && killed.replacement == 0 && now_ms() - killed.when > REPLACE_MS)
            fail("worker %d was killed and not replaced within %d s", killed.id, REPLACE_MS / 1000);
        /* The traffic goes on until the replacement has had its share of it. */
        if (killed.at > 0 && !replaced && target < made + connections / 3)
            target = made + connections / 3;
        replaced = killed.replacement != 0;
        show_progress(answered + lost >= target);
    }
}

static int by_slot(const void *left, const void *right) {
    const struct worker *a = (const struct worker *)left, *b = (const struct worker *)right;
    return a->slot != b->slot ? a->slot - b->slot : a->id - b->id;
}

/* Prints the table and the totals. Returns what is wrong, or NULL. */
static const char *report(void) {
    long most = 0, least_whole = -1, most_whole = 0;
    int replacement_slot = -1;
    long replacement_served = 0;
    qsort(workers, (size_t)worker_count, sizeof workers[0], by_slot);
    for (int i = 0; i < worker_count; i++)
        most = workers[i].served > most ? workers[i].served : most;

    printf("\n  slot  worker      pid   served\n");
    for (int i = 0; i < worker_count; i++) {
        const struct worker *worker = &workers[i];
        char note[64] = "";
        if (worker->id == killed.id) {
            snprintf(note, sizeof note, "killed at connection %ld", killed.at);
        } else if (worker->id == killed.replacement) {
            snprintf(note, sizeof note, "took its place after %lld ms", killed.replaced_after);
            replacement_slot = worker->slot;
            replacement_served = worker->served;
        } else {
            least_whole = least_whole < 0 || worker->served < least_whole ? worker->served : least_whole;
            most_whole = worker->served > most_whole ? worker->served : most_whole;
        }
        int width = most > 0 ? (int)(worker->served * 40 / most) : 0;
        printf("  %4d  %6d  %7d  %7ld  %.*s %s\n", worker->slot, worker->id, worker->pid, worker->served, width,
               "########################################", note);
    }

    printf("\n  connections made       %7ld\n  answered               %7ld\n  lost                   %7ld%s\n", made,
           answered, lost, lost > 0 && lost == lost_in_hand ? "  (in the killed worker's hand)" : "");
    printf("  spread                 %7ld  (most minus least, of the workers that were there all the time)\n",
           most_whole - least_whole);
    if (first_loss[0] != '\0')
        printf("  first loss             %s\n", first_loss);
    printf("\n");
    fflush(stdout);

    if (lost > lost_in_hand || lost_in_hand > 1)
        return "connections were lost that nobody had in hand";
    if (killed.at == 0)
        return "no worker could be killed";
    if (replacement_served == 0)
        return "the replacement served nobody";
    if (replacement_slot != killed.slot)
        return "the replacement is not in the killed worker's slot";
    if (worker_count != WORKERS + 1)
        return "other workers came or went";
    /* Turns are even. A worker that the machine leaves without a CPU is passed over, fairly. */
    if (least_whole * 4 < most_whole)
        return "one worker served less than a quarter of what another did";
    return NULL;
}

static void hold(void) {
    printf("The server stays up: http://%s:%d/    Ctrl-C ends it.\n", server.address, server.port);
    fflush(stdout);
    while (!interrupted) {
        struct pollfd output = {server.output, POLLIN, 0};
        if (poll(&output, 1, 200) > 0 && !hear_server())
            fail("the server has ended. %s", server.said);
    }
    printf("\n");
}

int main(int argc, char **argv) {
    long connections = argc > 2 ? atol(argv[2]) : 6000;
    if (argc < 2 || connections < 300) {
        fprintf(stderr, "usage: demo PATH-OF-http_hello [CONNECTIONS, at least 300]\n");
        return 2;
    }
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    start_server(argv[1]);
    await_server(argv[1]);
    printf("%d workers serve http://%s:%d/, %d connections at a time; one worker is killed on the way\n", WORKERS,
           server.address, server.port, AT_ONCE);
    drive(connections);
    const char *wrong = report();
    if (wrong != NULL)
        fail("%s", wrong);

    const char *held = getenv("HOLD");
    if (held != NULL && held[0] != '\0' && strcmp(held, "0") != 0)
        hold();
    if (!stop_server())
        fail("the server did not end as it should when asked to");
    printf("demo: passed\n");
    return 0;
}
