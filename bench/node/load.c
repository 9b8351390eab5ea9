/*
 * The load of the Node benchmark: HTTP requests over loopback from one thread, and a ledger with an outcome for each.
 *
 * usage: load PORT [name=value ...]
 *   warm=1 seconds=2    what is done before the measured window, and the window
 *   connections=64      open at once
 *   requests=1          on each connection, the last with Connection: close; 0: no last one
 *   rate=0              connections opened per second whatever the answers do; 0: the next one when one has ended
 *   every=0 path=/      every Nth request asks for this path, the others for /
 *   hang=4              seconds without a byte, FIN or RST after which a request is given up
 *   pids=1,2            processes whose CPU time in the window is wanted
 * Prints the line {"window":true} when the window begins and, when the last request has its outcome, one line of
 * results. It asks for nothing new after the window, and it fails if the ledger does not add up. A request on a
 * connection that was used before and is closed without a byte of an answer is asked again once, on a new connection,
 * as HTTP lets clients do (RFC 9110, 9.2.2): a server may close an idle connection at any time. "again" says how often.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum outcome { OK, REFUSED, RESET, CUT, STATUS, HUNG, STALLED, OUTCOMES };
static const char *const outcome_names[OUTCOMES] = {"ok", "refused", "reset", "cut", "status", "hung", "stalled"};

enum state { FREE, CONNECTING, ASKED, ENDING };

struct connection {
    int fd;
    enum state state;
    int asked;                /* requests on this connection */
    int last;                 /* the server closes after this answer */
    double begun, progress;   /* of the request that is out */
    size_t got, need;         /* bytes of its answer; need is 0 until the head is complete */
    const char *request;
    char answer[2048];
};

static struct {
    double warm, seconds, rate, hang;
    int port, connections, requests, every;
    const char *path;
} options = {.warm = 1, .seconds = 2, .hang = 4, .connections = 64, .requests = 1, .path = "/"};

static struct connection *connections;
static int *free_slots, free_count, epoll;
static char requests_text[2][2][128]; /* [special path][last on its connection] */

static double clock_now, window_begin, window_end, pause_until;
static int in_window, stopping;
static unsigned long begun, window_ok, unclosed, late, opened, again, outcomes[OUTCOMES];
static unsigned *latencies;             /* microseconds, of the requests begun since the window began */
static size_t latency_count, latency_room;

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

/* -- The ledger --------------------------------------------------------------------------------------------------- */

static void note(struct connection *c, enum outcome outcome) {
    outcomes[outcome]++;
    if (outcome != OK) return;
    if (in_window) window_ok++;
    if (window_begin == 0 || c->begun < window_begin) return;
    if (latency_count == latency_room) {
        latency_room = latency_room ? latency_room * 2 : 1 << 16;
        latencies = realloc(latencies, latency_room * sizeof *latencies);
        if (!latencies) fail("memory");
    }
    latencies[latency_count++] = (unsigned)((clock_now - c->begun) * 1e6);
}

static int compare(const void *a, const void *b) {
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return (x > y) - (x < y);
}

/* utime + stime cover all threads of a process, those that have ended too. */
static double cpu_seconds(char *pids) {
    double total = 0;
    char path[64], line[1024], *list = strdup(pids), *rest = list, *pid;
    while ((pid = strsep(&rest, ","))) {
        unsigned long user, kernel;
        char *after;
        FILE *file;
        if (!*pid) continue;
        snprintf(path, sizeof path, "/proc/%s/stat", pid);
        file = fopen(path, "re");
        if (!file || !fgets(line, sizeof line, file)) fail(path);
        fclose(file);
        after = strrchr(line, ')');
        if (!after || sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel) != 2) {
            fail(path);
        }
        total += (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
    }
    free(list);
    return total;
}

/* -- Connections -------------------------------------------------------------------------------------------------- */

/* Closing with a reset leaves no TIME_WAIT behind that the next round would pay for; the server is done by then. */
static void finish(struct connection *c) {
    struct linger linger = {1, 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(c->fd);
    c->state = FREE;
    free_slots[free_count++] = (int)(c - connections);
}

static void give_up(struct connection *c, enum outcome outcome) {
    note(c, outcome);
    finish(c);
}

static void watch(struct connection *c, int operation, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll, operation, c->fd, &event)) fail("epoll_ctl");
}

static void begin(struct connection *c) {
    int special = options.every && begun % (unsigned)options.every == 0;
    begun++;
    c->asked++;
    c->last = options.requests && c->asked >= options.requests;
    c->request = requests_text[special][c->last];
    c->begun = c->progress = clock_now = now();
    c->got = c->need = 0;
}

static void lost(struct connection *c, enum outcome outcome);

/* The request is far smaller than any send buffer: it goes out whole or not at all. */
static void ask(struct connection *c) {
    ssize_t sent = send(c->fd, c->request, strlen(c->request), MSG_NOSIGNAL);
    if (sent > 0) {
        if (c->state == CONNECTING) watch(c, EPOLL_CTL_MOD, EPOLLIN);
        c->state = ASKED;
    } else if (c->state != CONNECTING || (errno != EAGAIN && errno != ENOTCONN)) {
        lost(c, errno == ECONNREFUSED ? REFUSED : RESET);
        pause_until = clock_now + 0.001;
    }
}

static void reach_server(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int one = 1;
    address.sin_port = htons((unsigned short)options.port);
    opened++;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->state = CONNECTING;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) {
        int refused = errno == ECONNREFUSED;
        if (!refused && errno != ECONNRESET) fail("connect");
        give_up(c, refused ? REFUSED : RESET);
        pause_until = clock_now + 0.001;
        return;
    }
    watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
    ask(c);
}

static void open_connection(void) {
    struct connection *c = &connections[free_slots[--free_count]];
    c->asked = 0;
    begin(c);
    reach_server(c);
}

static void lost(struct connection *c, enum outcome outcome) {
    if (c->asked == 1 || c->got) {
        give_up(c, outcome);
        return;
    }
    again++;
    close(c->fd);
    c->asked = 1;
    c->last = options.requests == 1;
    c->progress = clock_now;
    reach_server(c);
}

/* 1: the answer is whole; 0: not yet; -1: it is none that this server gives. */
static int parse(struct connection *c) {
    if (!c->need) {
        char *end, *length;
        c->answer[c->got] = 0;
        end = strstr(c->answer, "\r\n\r\n");
        if (!end) return c->got + 1 < sizeof c->answer ? 0 : -1;
        length = strcasestr(c->answer, "\r\nContent-Length:");
        if (strncmp(c->answer, "HTTP/1.1 200 ", 13) || !length || length > end) return -1;
        c->need = (size_t)(end + 4 - c->answer) + strtoul(length + 17, NULL, 10);
        if (c->need >= sizeof c->answer) return -1;
        length = strcasestr(c->answer, "\r\nConnection: close\r\n");
        if (length && length <= end) c->last = 1;
    }
    return c->got < c->need ? 0 : c->got == c->need ? 1 : -1;
}

static void readable(struct connection *c) {
    ssize_t got = recv(c->fd, c->answer + c->got, sizeof c->answer - 1 - c->got, 0);
    int whole;
    if (got < 0 && errno == EAGAIN) return;
    if (c->state == ENDING) {
        finish(c);
        return;
    }
    if (got <= 0) {
        lost(c, got == 0 ? CUT : errno == ECONNREFUSED ? REFUSED : RESET);
        return;
    }
    c->progress = clock_now = now();
    c->got += (size_t)got;
    whole = parse(c);
    if (whole < 0) give_up(c, STATUS);
    if (whole <= 0) return;
    note(c, OK);
    if (c->last) {
        c->state = ENDING;
        c->got = 0;
    } else if (stopping) {
        finish(c);
    } else {
        begin(c);
        ask(c);
    }
}

static void sweep(void) {
    for (int i = 0; i < options.connections; i++) {
        struct connection *c = &connections[i];
        if (c->state == FREE || clock_now - c->progress < options.hang) continue;
        if (c->state == ENDING) {
            unclosed++;
            finish(c);
        } else {
            give_up(c, c->got ? STALLED : HUNG);
        }
    }
}

/* -- The run ------------------------------------------------------------------------------------------------------ */

static void open_what_is_due(double *next_open) {
    if (stopping || clock_now < pause_until) return;
    if (!options.rate) {
        while (free_count && clock_now >= pause_until) open_connection();
        return;
    }
    for (; clock_now >= *next_open; *next_open += 1 / options.rate) {
        if (free_count) open_connection();
        else late++;
    }
}

static void option(char *text) {
    char *value = strchr(text, '=');
    if (!value) errno = EINVAL, fail(text);
    *value++ = 0;
    if (!strcmp(text, "warm")) options.warm = atof(value);
    else if (!strcmp(text, "seconds")) options.seconds = atof(value);
    else if (!strcmp(text, "rate")) options.rate = atof(value);
    else if (!strcmp(text, "hang")) options.hang = atof(value);
    else if (!strcmp(text, "connections")) options.connections = atoi(value);
    else if (!strcmp(text, "requests")) options.requests = atoi(value);
    else if (!strcmp(text, "every")) options.every = atoi(value);
    else if (!strcmp(text, "path")) options.path = value;
    else errno = EINVAL, fail(text);
}

int main(int count, char **arguments) {
    struct epoll_event events[256];
    char *pids = "";
    double cpu = 0, start, next_open, last_sweep = 0;
    unsigned long sum = 0;
    if (count < 2) errno = EINVAL, fail("usage: load PORT [name=value ...]");
    options.port = atoi(arguments[1]);
    for (int i = 2; i < count; i++) {
        if (!strncmp(arguments[i], "pids=", 5)) pids = arguments[i] + 5;
        else option(arguments[i]);
    }
    signal(SIGPIPE, SIG_IGN);
    for (int special = 0; special < 2; special++) {
        for (int last = 0; last < 2; last++) {
            snprintf(requests_text[special][last], sizeof requests_text[0][0],
                     "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: %s\r\n\r\n", special ? options.path : "/",
                     last ? "close" : "keep-alive");
        }
    }
    connections = calloc((size_t)options.connections, sizeof *connections);
    free_slots = calloc((size_t)options.connections, sizeof *free_slots);
    if (!connections || !free_slots) fail("memory");
    for (int i = options.connections; i > 0; i--) free_slots[free_count++] = i - 1;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) fail("epoll");

    clock_now = start = next_open = now();
    while (!stopping || free_count < options.connections) {
        int ready;
        open_what_is_due(&next_open);
        ready = epoll_wait(epoll, events, 256, options.rate || clock_now < pause_until ? 1 : 10);
        if (ready < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->state == CONNECTING && !(events[i].events & (EPOLLERR | EPOLLHUP))) ask(c);
            else readable(c);
        }
        clock_now = now();
        if (!window_begin && clock_now >= start + options.warm) {
            cpu = cpu_seconds(pids);
            clock_now = window_begin = now();
            in_window = 1;
            puts("{\"window\":true}");
            fflush(stdout);
        } else if (in_window && clock_now >= window_begin + options.seconds) {
            window_end = clock_now;
            cpu = cpu_seconds(pids) - cpu;
            in_window = 0;
            stopping = 1;
        }
        if (clock_now - last_sweep > 0.05) sweep(), last_sweep = clock_now;
    }

    for (int i = 0; i < OUTCOMES; i++) sum += outcomes[i];
    if (sum != begun) {
        fprintf(stderr, "load: %lu requests begun, but %lu outcomes\n", begun, sum);
        return 1;
    }
    qsort(latencies, latency_count, sizeof *latencies, compare);
    printf("{\"seconds\":%.6f,\"answered\":%lu,\"cpu\":%.3f,\"begun\":%lu,\"opened\":%lu",
           window_end - window_begin, window_ok, cpu, begun, opened);
    printf(",\"unclosed\":%lu,\"late\":%lu,\"again\":%lu", unclosed, late, again);
    for (int i = 0; i < OUTCOMES; i++) printf(",\"%s\":%lu", outcome_names[i], outcomes[i]);
    if (latency_count) {
        printf(",\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f", latencies[latency_count / 2] / 1e3,
               latencies[latency_count * 99 / 100] / 1e3, latencies[latency_count - 1] / 1e3);
    }
    puts("}");
    return 0;
}
