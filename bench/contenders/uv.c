/*
 * How libuv hands connections over, and node:cluster with it: the parent's loop accepts and writes each connection to the next
 * worker's pipe (uv_write2), the worker's loop reads the pipe and closes what came.
 */
#define _GNU_SOURCE
#include "board.h"
#include <uv.h>

enum { PIPE_IN_WORKER = 3 };

struct passed {
    uv_write_t write;
    uv_tcp_t connection;
};

static uv_pipe_t pipes[SLOTS];
static int next, slot;

static void check(int code, const char *what) {
    if (code < 0) fail_as(1, what, uv_strerror(code));
}

static void free_handle(uv_handle_t *handle) { free(handle); }
static void free_passed(uv_handle_t *handle) { free(handle->data); }

static void written(uv_write_t *write, int status) {
    struct passed *passed = (struct passed *)write->data;
    check(status, "uv_write2");
    uv_close((uv_handle_t *)&passed->connection, free_passed);
}

static void on_connection(uv_stream_t *listener, int status) {
    struct passed *passed = (struct passed *)malloc(sizeof *passed);
    uv_buf_t byte = uv_buf_init((char *)"c", 1);
    check(status, "a connection");
    if (!passed) fail("malloc");
    uv_tcp_init(listener->loop, &passed->connection);
    passed->connection.data = passed->write.data = passed;
    check(uv_accept(listener, (uv_stream_t *)&passed->connection), "uv_accept");
    check(uv_write2(&passed->write, (uv_stream_t *)&pipes[next], &byte, 1, (uv_stream_t *)&passed->connection, written), "uv_write2");
    next = (next + 1) % workers;
}

static void alloc(uv_handle_t *handle, size_t wanted, uv_buf_t *buffer) {
    static char bytes[65536];
    (void)handle, (void)wanted;
    *buffer = uv_buf_init(bytes, sizeof bytes);
}

static void on_pipe(uv_stream_t *stream, ssize_t got, const uv_buf_t *buffer) {
    (void)buffer;
    if (got < 0) _exit(0);
    while (uv_pipe_pending_count((uv_pipe_t *)stream) > 0) {
        uv_tcp_t *connection = (uv_tcp_t *)malloc(sizeof *connection);
        if (!connection) fail("malloc");
        uv_tcp_init(stream->loop, connection);
        check(uv_accept(stream, (uv_stream_t *)connection), "uv_accept");
        if (answer) {
            uv_buf_t byte = uv_buf_init((char *)"x", 1);
            uv_try_write((uv_stream_t *)connection, &byte, 1);
        }
        board->slots[slot].served++;
        uv_close((uv_handle_t *)connection, free_handle);
    }
    /* What was closed has left already: uv_close() closes a TCP socket at once. */
    compute_if_wanted();
}

static void ended(uv_process_t *process, int64_t code, int signal) { (void)process, (void)code, (void)signal; }

static void start_worker(uv_loop_t *loop, int which, int argc, char **argv) {
    static uv_process_t processes[SLOTS];
    char word[32], *words[16];
    uv_stdio_container_t stdio[PIPE_IN_WORKER + 1] = {{.flags = UV_IGNORE}, {.flags = UV_INHERIT_FD, .data = {.fd = 1}},
                                                     {.flags = UV_INHERIT_FD, .data = {.fd = 2}}};
    int count = 0;
    for (int i = 0; i < argc && count < 14; i++) words[count++] = argv[i];
    snprintf(word, sizeof word, "slot=%d", which);
    words[count++] = word;
    words[count] = NULL;
    uv_pipe_init(loop, &pipes[which], 1);
    stdio[PIPE_IN_WORKER].flags = (uv_stdio_flags)(UV_CREATE_PIPE | UV_READABLE_PIPE | UV_WRITABLE_PIPE);
    stdio[PIPE_IN_WORKER].data.stream = (uv_stream_t *)&pipes[which];
    uv_process_options_t options = {.exit_cb = ended, .file = "/proc/self/exe", .args = words, .stdio_count = PIPE_IN_WORKER + 1, .stdio = stdio};
    check(uv_spawn(loop, &processes[which], &options), "uv_spawn");
}

int main(int argc, char **argv) {
    uv_loop_t *loop = uv_default_loop();
    begin(argc, argv);
    slot = option(argc, argv, "slot", -1);
    if (slot >= 0) {
        uv_pipe_init(loop, &pipes[slot], 1);
        check(uv_pipe_open(&pipes[slot], PIPE_IN_WORKER), "uv_pipe_open");
        check(uv_read_start((uv_stream_t *)&pipes[slot], alloc, on_pipe), "uv_read_start");
        listening();
        return uv_run(loop, UV_RUN_DEFAULT);
    }
    uv_tcp_t listener;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int length = sizeof address;
    uv_tcp_init(loop, &listener);
    check(uv_tcp_bind(&listener, (struct sockaddr *)&address, 0), "uv_tcp_bind");
    for (int i = 0; i < workers; i++) start_worker(loop, i, argc, argv);
    check(uv_listen((uv_stream_t *)&listener, BACKLOG, on_connection), "uv_listen");
    check(uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &length), "uv_tcp_getsockname");
    board->ports[0] = ntohs(address.sin_port);
    return uv_run(loop, UV_RUN_DEFAULT);
}
