/*
 * A primary that lets the library replace its workers (cl_reload, cl_scale, cl_recycle), and its workers (worker.h). Commands, events
 * and environment are those of tests/rigs/faults/README.md.
 */
#define _GNU_SOURCE
#include "worker.h"
#include <stdarg.h>
#include <sys/mman.h>

enum { UNAVAILABLE = 77, ALLOWED_MS = 3000 };

/* Where workers listen, too, so that there is something to leave out. No client comes there. */
#define SECOND "127.0.0.2"

/* What becomes of workers that are made from here on; a child of fork(2) has it from its primary, a program from its environment. */
static char fate[16] = "good";
static int stopping, spawns;

static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

/* As JSON takes it. */
static const char *told(const cl_event_t *event) {
    static char text[512];
    size_t length = event->data && event->length < sizeof text - 1 ? event->length : 0;
    for (size_t i = 0; i < length; i++) {
        char letter = ((const char *)event->data)[i];
        text[i] = letter == '"' || letter == '\\' || (unsigned char)letter < ' ' ? '?' : letter;
    }
    text[length] = 0;
    return text;
}

static cl_worker_info_t info_of(int id) {
    cl_worker_info_t info;
    memset(&info, 0, sizeof info);
    info.size = sizeof info;
    if (cl_worker_info(id, &info) < 0) info.slot = info.generation = -1;
    return info;
}

static void on_event(const cl_event_t *event, void *unused) {
    static const char *const mechanisms[] = {"auto", "passed", "kernel", "shared", "rotation"};
    static const char *const phases[] = {"", "checking", "rolling", "done", "refused", "rolled-back", "superseded"};
    (void)unused;
    switch (event->type) {
    case CL_EVENT_FORK:
        say("{\"event\":\"fork\",\"id\":%d,\"pid\":%d,\"slot\":%d,\"generation\":%d}", event->worker_id, event->pid,
            info_of(event->worker_id).slot, info_of(event->worker_id).generation);
        break;
    case CL_EVENT_LISTENING:
        if (strcmp(event->address, SECOND) == 0) break;
        say("{\"event\":\"listening\",\"id\":%d,\"pid\":%d,\"port\":%d,\"mechanism\":\"%s\"}", event->worker_id, event->pid,
            event->port, mechanisms[event->mechanism <= 4 ? event->mechanism : 0]);
        break;
    case CL_EVENT_EXIT:
        say("{\"event\":\"exit\",\"id\":%d,\"pid\":%d,\"code\":%d,\"signal\":%d}", event->worker_id, event->pid, event->exit_code,
            event->signal);
        break;
    case CL_EVENT_RELOAD:
        say("{\"event\":\"reload\",\"generation\":%d,\"phase\":\"%s\",\"text\":\"%s\"}", event->generation,
            phases[event->phase <= 6 ? event->phase : 0], told(event));
        break;
    case CL_EVENT_RECYCLE:
        say("{\"event\":\"recycled\",\"id\":%d}", event->worker_id);
        break;
    case CL_EVENT_WARNING:
        say("{\"event\":\"warning\",\"text\":\"%s\"}", told(event));
        break;
    }
}

static int recycle(const char *by, unsigned long long limit) {
    cl_recycle_options_t options;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.at_a_time = 2;
    if (!strcmp(by, "memory")) options.rss_bytes = limit << 10;
    else if (!strcmp(by, "requests")) options.requests = limit;
    else if (!strcmp(by, "connections")) options.connections = limit;
    else if (!strcmp(by, "age")) options.age_s = (int)limit;
    return cl_recycle(&options);
}

/* This program, with a fate. */
static cl_spawn_options_t program(void) {
    static char *environment[512], told_fate[32];
    cl_spawn_options_t options;
    size_t count = 0;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    snprintf(told_fate, sizeof told_fate, "FAULTS_FATE=%s", fate);
    for (char **variable = environ; *variable && count < 510; variable++)
        if (strncmp(*variable, "FAULTS_FATE=", 12) != 0) environment[count++] = *variable;
    environment[count++] = told_fate;
    environment[count] = NULL;
    options.envp = environment;
    return options;
}

static int reload(int parallel, int min_ready_ms, int ready_timeout_ms, unsigned flags) {
    cl_spawn_options_t anew = program();
    cl_reload_options_t options;
    memset(&options, 0, sizeof options);
    options.program = spawns ? &anew : NULL;
    options.flags = flags;
    options.size = sizeof options;
    options.parallel = parallel;
    options.min_ready_ms = min_ready_ms;
    options.ready_timeout_ms = ready_timeout_ms;
    return cl_reload(&options);
}

static void obey(const char *line) {
    int numbers[3] = {0, 0, 0}, code = 0;
    unsigned long long limit;
    unsigned flags = 0;
    char word[16];
    if (sscanf(line, "reload %d %d %d %15s %u", &numbers[0], &numbers[1], &numbers[2], word, &flags) >= 4) {
        memcpy(fate, word, sizeof fate);
        code = reload(numbers[0], numbers[1], numbers[2], flags);
    } else if (sscanf(line, "scale %d", &numbers[0]) == 1) {
        code = cl_scale(numbers[0]);
    } else if (sscanf(line, "recycle %15s %llu", word, &limit) == 2) {
        code = recycle(word, limit);
    } else if (sscanf(line, "restart %d", &numbers[0]) == 1) {
        code = cl_worker_restart(numbers[0]);
    } else if (!strncmp(line, "stop", 4)) {
        stopping = 1;
        cl_stop(LINGER_MS + 2000);
    }
    say("{\"event\":\"asked\",\"code\":%d}", code);
}

static void read_commands(void) {
    static char kept[4096];
    static size_t length;
    ssize_t count = read(STDIN_FILENO, kept + length, sizeof kept - 1 - length);
    if (count < 0) return;
    if (count == 0) {
        int ids[256], all = cl_worker_ids(ids, 256);
        stopping = 1;
        for (int i = 0; i < all && i < 256; i++) cl_worker_kill(ids[i], SIGKILL);
        cl_stop(0);
        return;
    }
    length += (size_t)count;
    kept[length] = 0;
    for (char *end; (end = strchr(kept, '\n'));) {
        *end = 0;
        obey(kept);
        length -= (size_t)(end + 1 - kept);
        memmove(kept, end + 1, length + 1);
    }
}

static int lead(void) {
    struct pollfd polled[2] = {{.fd = cl_poll_fd(), .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    for (int i = option("FAULTS_WORKERS", 4); i > 0; i--) {
        cl_spawn_options_t first = program();
        int id = spawns ? cl_spawn(&first) : cl_fork();
        if (id == 0) return 0;
        if (id < 0) exit(1);
    }
    for (;;) {
        if (stopping && cl_worker_ids(NULL, 0) == 0) exit(0);
        if (poll(polled, stopping ? 1 : 2, stopping ? 10 : -1) > 0 && !stopping && polled[1].revents) read_commands();
        if (cl_step(0) < 0 && !stopping) exit(1);
        /* The library forks as a reload asks for it. */
        if (cl_is_worker()) return 0;
    }
}

/* It reads nothing that is said to it, and ends by a signal only. */
static int hang(void) {
    for (;;) pause();
    return 0;
}

static int live(void) {
    cl_listen_options_t second = {.size = sizeof second, .address = SECOND ":0"};
    if (!strcmp(fate, "exits")) return 7;
    if (!strcmp(fate, "crashes")) raise(SIGKILL);
    if (!strcmp(fate, "hangs")) return hang();
    if (!strcmp(fate, "late") && cl_worker_slot() != 0) return 9;
    if (strcmp(fate, "less") != 0) {
        int code = cl_listen_with(&second);
        if (code < 0 && code != -ESHUTDOWN && code != -EPIPE) return 8;
    }
    if (strcmp(fate, "unready") != 0) cl_ready();
    return serve();
}

int main(void) {
    const char *policy = getenv("FAULTS_POLICY"), *mechanism = getenv("FAULTS_MECHANISM");
    int code;
    cl_settings_t settings = {.size = sizeof settings, .stop_deadline_ms = ALLOWED_MS, .respawn = CL_RESPAWN_ALWAYS,
                              .restart_min_ms = 20, .restart_max_ms = 200, .flags = CL_MANUAL_READY};
    settings.policy = policy && !strcmp(policy, "none")   ? CL_SCHED_NONE
                      : policy && !strcmp(policy, "hash") ? CL_SCHED_SOURCE_HASH
                                                          : CL_SCHED_RR;
    settings.mechanism = !mechanism ? CL_MECHANISM_AUTO : !strcmp(mechanism, "kernel") ? CL_MECHANISM_KERNEL
                         : !strcmp(mechanism, "passed")                                ? CL_MECHANISM_PASSED
                         : !strcmp(mechanism, "rotation")                              ? CL_MECHANISM_ROTATION
                                                                                       : CL_MECHANISM_AUTO;
    if (!getenv("FAULTS_CLAIMS")) {
        fprintf(stderr, "this is started by the fault rig, see tests/rigs/faults/README.md\n");
        return 2;
    }
    spawns = option("FAULTS_SPAWN", 0);
    if (cl_is_worker()) {
        snprintf(fate, sizeof fate, "%s", getenv("FAULTS_FATE") ? getenv("FAULTS_FATE") : "good");
        return live();
    }
    if ((code = cl_setup_primary(&settings)) < 0 || (code = cl_on_event(on_event, NULL)) < 0) {
        int refused = code == -EPERM || code == -ENOSYS || code == -EINVAL;
        say("{\"event\":\"%s\",\"text\":\"%s\"}", refused ? "unavailable" : "warning", cl_err_name(code));
        return refused ? UNAVAILABLE : 1;
    }
    return lead() ? 1 : live();
}
