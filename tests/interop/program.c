/* The C side of the tests of several languages on one port: a primary that does what its standard input says, or a
 * worker that listens on the addresses given to it. program.rs is the same in Rust, worker.cjs the worker in Node.
 *
 *   program primary [rr | none | least-loaded | source-hash] [respawn]   takes commands, fields separated by tabs, that support.cjs knows
 *   program worker ADDRESS ...              greets each client with "<language> <id> <slot> <pid>", does what it asks,
 *                                           and sends each message of the primary back
 */
#define _POSIX_C_SOURCE 200809L
#include <cluster.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef CL_HEADER_ONLY
#define LANGUAGE "header"
#else
#define LANGUAGE "c"
#endif

enum { MOST_ADDRESSES = 8, MOST_FIELDS = 32, STOP_DEADLINE_MS = 20000 };

static int fail(const char *what) {
    fprintf(stderr, "%s: %s: %s\n", LANGUAGE, what, cl_last_error());
    return 1;
}

/* -- The worker ------------------------------------------------------------------------------------------------ */

static void write_all(int fd, const char *text) {
    for (size_t left = strlen(text); left > 0;) {
        ssize_t n = write(fd, text, left);
        if (n < 0 && errno != EINTR) return; /* a client that went away is no concern of a worker's */
        if (n > 0) text += n, left -= (size_t)n;
    }
}

static void read_line(int fd, char *line, size_t capacity) {
    size_t length = 0;
    char one;
    while (length + 1 < capacity) {
        ssize_t n = read(fd, &one, 1);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0 || one == '\n') break;
        line[length++] = one;
    }
    line[length] = '\0';
}

/* One client. "block PATH" holds this process up until somebody opens the pipe at PATH for writing. */
static void serve(int connection) {
    char line[512];
    snprintf(line, sizeof line, "%s %d %d %d\n", LANGUAGE, cl_worker_id(), cl_worker_slot(), (int)getpid());
    write_all(connection, line);
    read_line(connection, line, sizeof line);
    if (strncmp(line, "block ", 6) == 0) {
        write_all(connection, "blocked\n");
        close(open(line + 6, O_RDONLY));
    }
    /* What the client still sends is taken, so that it gets an end and no reset. */
    shutdown(connection, SHUT_WR);
    while (read(connection, line, sizeof line) > 0) {}
    close(connection);
}

/* Takes all that waits; 1 once nothing will come any more. */
static int serve_waiting(int listener) {
    for (;;) {
        int connection = cl_accept(listener, NULL, NULL);
        if (connection == -EAGAIN) return 0;
        if (connection == -ESHUTDOWN) return 1;
        if (connection < 0) exit(fail("accept"));
        serve(connection);
    }
}

/* 1 once the primary has asked this worker to leave. */
static int answer_messages(void) {
    static char message[CL_MESSAGE_MAX + 1];
    for (;;) {
        int length = cl_receive(message, CL_MESSAGE_MAX, 0);
        if (length == -EAGAIN) return 0;
        if (length == -ESHUTDOWN) return 1;
        if (length < 0) exit(fail("receive"));
        message[length] = '\0';
        if (strncmp(message, "load ", 5) == 0 && cl_set_load((unsigned)atoi(message + 5)) < 0) exit(fail("load"));
        if (cl_send(message, (size_t)length) < 0) exit(fail("send"));
    }
}

static int worker(char **addresses, int count) {
    struct pollfd fds[MOST_ADDRESSES + 1];
    int open_ones = 1;
    if (cl_is_worker() != 1) return fail("no cluster started this program");
    fds[0].fd = cl_channel_fd();
    for (int i = 1; i <= count; i++) {
        fds[i].fd = -1;
        if (i > MOST_ADDRESSES) break;
        cl_listen_options_t options;
        memset(&options, 0, sizeof options);
        options.size = sizeof options;
        options.address = addresses[i - 1];
        options.flags = CL_LISTEN_NONBLOCK;
        fds[i].fd = cl_listen_with(&options);
        if (fds[i].fd < 0) return fail(addresses[i - 1]);
        open_ones++;
    }
    while (open_ones > 0) {
        for (int i = 0; i <= count; i++) fds[i].events = POLLIN, fds[i].revents = 0;
        if (poll(fds, (nfds_t)count + 1, -1) < 0 && errno != EINTR) return 1;
        for (int i = 0; i <= count; i++) {
            if (fds[i].fd < 0 || fds[i].revents == 0) continue;
            if (!(i == 0 ? answer_messages() : serve_waiting(fds[i].fd))) continue;
            if (i > 0) cl_close(fds[i].fd);
            fds[i].fd = -1;
            open_ones--;
        }
    }
    return 0;
}

/* -- The primary ----------------------------------------------------------------------------------------------- */

static void print_bytes(const void *data, size_t length) {
    for (size_t i = 0; i < length; i++) printf("%02x", ((const unsigned char *)data)[i]);
}

static void on_event(const cl_event_t *event, void *user) {
    static const char *const names[] = {"", "fork", "online", "listening", "message", "disconnect", "exit", "warning"};
    (void)user;
    if (event->type < CL_EVENT_FORK || event->type > CL_EVENT_WARNING) return;
    printf("{\"event\":\"%s\",\"id\":%d,\"pid\":%d", names[event->type], event->worker_id, event->pid);
    if (event->type == CL_EVENT_LISTENING) printf(",\"address\":\"%s\",\"port\":%d", event->address, event->port);
    if (event->type == CL_EVENT_EXIT) printf(",\"code\":%d,\"signal\":%d", event->exit_code, event->signal);
    if (event->type == CL_EVENT_MESSAGE || event->type == CL_EVENT_WARNING) {
        printf(",\"data\":\"");
        print_bytes(event->data, event->length);
        printf("\"");
    }
    printf("}\n");
}

static int spawn(char **fields) {
    cl_spawn_options_t options;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.file = fields[0];
    options.argv = fields;
    return cl_spawn(&options);
}

static int send_hex(int id, const char *hex) {
    static unsigned char data[CL_MESSAGE_MAX];
    size_t length = 0;
    for (; hex[0] != '\0' && hex[1] != '\0' && length < sizeof data; hex += 2) {
        char digits[3] = {hex[0], hex[1], '\0'};
        data[length++] = (unsigned char)strtol(digits, NULL, 16);
    }
    return cl_worker_send(id, data, length);
}

/* Prints what became of it; `line` has its tabs still. */
static void command(char *line) {
    char *fields[MOST_FIELDS + 1] = {line};
    int count = 1, code;
    for (; count < MOST_FIELDS && (line = strchr(line, '\t')) != NULL; count++) {
        *line++ = '\0';
        fields[count] = line;
    }
    fields[count] = NULL;
    const char *name = fields[0];
    int number = count > 1 ? atoi(fields[1]) : 0;
    if (strcmp(name, "info") == 0) {
        cl_worker_info_t info;
        memset(&info, 0, sizeof info);
        info.size = sizeof info;
        code = cl_worker_info(number, &info);
        printf("{\"did\":\"info\",\"code\":%d,\"state\":%d,\"delivered\":%llu,\"waiting\":%u}\n", code, info.state,
               info.delivered, info.waiting);
        return;
    }
    if (strcmp(name, "spawn") == 0) code = spawn(fields + 1);
    else if (strcmp(name, "send") == 0) code = send_hex(number, count > 2 ? fields[2] : "");
    else if (strcmp(name, "disconnect") == 0) code = cl_worker_disconnect(number);
    else if (strcmp(name, "stop") == 0) code = cl_stop(number);
    else if (strcmp(name, "run") == 0) code = cl_run();
    else code = -ENOSYS;
    printf("{\"did\":\"%s\",\"code\":%d}\n", name, code);
}

/* The commands that have arrived whole; 0 once there will be no more. */
static int obey(void) {
    static char text[4 * CL_MESSAGE_MAX];
    static size_t length;
    char *end;
    ssize_t n = read(0, text + length, sizeof text - 1 - length);
    if (n < 0 && errno == EINTR) return 1;
    if (n <= 0) return 0;
    length += (size_t)n;
    text[length] = '\0';
    while ((end = memchr(text, '\n', length)) != NULL) {
        size_t used = (size_t)(end - text) + 1;
        *end = '\0';
        command(text);
        memmove(text, text + used, length -= used);
    }
    return 1;
}

static int policy_named(const char *name) {
    static const char *const names[] = {"", "none", "rr", "least-loaded", "source-hash"};
    for (int policy = CL_SCHED_NONE; policy <= CL_SCHED_SOURCE_HASH; policy++)
        if (strcmp(name, names[policy]) == 0) return policy;
    return -1;
}

static int primary(const char *policy, int respawn) {
    cl_settings_t settings;
    struct pollfd fds[2];
    memset(&settings, 0, sizeof settings);
    settings.size = sizeof settings;
    settings.policy = policy_named(policy);
    settings.respawn = respawn ? CL_RESPAWN_ALWAYS : CL_RESPAWN_NEVER;
    settings.flags = CL_HANDLE_SIGNALS;
    settings.stop_deadline_ms = STOP_DEADLINE_MS;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (cl_setup_primary(&settings) < 0 || cl_on_event(on_event, NULL) < 0) return fail("settings");
    fds[0].fd = 0;
    fds[1].fd = cl_poll_fd();
    if (fds[1].fd < 0) return fail("cl_poll_fd");
    printf("{\"did\":\"begin\",\"code\":0}\n");
    for (;;) {
        fds[0].events = fds[1].events = POLLIN;
        fds[0].revents = fds[1].revents = 0;
        if (poll(fds, 2, -1) < 0 && errno != EINTR) return 1;
        if (fds[1].revents != 0 && cl_step(0) < 0) return fail("cl_step");
        if (fds[0].revents != 0 && !obey()) return 0;
    }
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && strcmp(argv[1], "worker") == 0) return worker(argv + 2, argc - 2);
    if (argc > 1 && strcmp(argv[1], "primary") == 0) return primary(argc > 2 ? argv[2] : "rr", argc > 3);
    fprintf(stderr, "usage: program primary [rr | none] [respawn] | worker ADDRESS ...\n");
    return 2;
}
