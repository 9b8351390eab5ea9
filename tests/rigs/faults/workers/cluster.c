/*
 * libcluster as the fault rig sees it: a primary with a loop of its own that takes commands, and its workers (worker.h).
 * Commands, events and environment are those of tests/rigs/faults/README.md.
 */
#define _GNU_SOURCE
#include "worker.h"
#include <stdarg.h>

enum { MEMBERS = 256, REPLACEMENTS = 64, UNAVAILABLE = 77 };

struct member {
    int id, listening, leaving;
};

struct replacement {
    int id, by, asked;              /* by: 0 once the successor is lost; then the old one stays */
};

static struct member members[MEMBERS];
static struct replacement replacements[REPLACEMENTS];
static int member_count, replacement_count, target, due, resizing, stopping;
/* How long a place stays empty, where the library is not to fill it; when that is over. */
static int gap_ms;
static uint64_t empty_until;

static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

static struct member *find(int id) {
    for (int i = 0; i < member_count; i++)
        if (members[i].id == id) return &members[i];
    return NULL;
}

static void add(int id) {
    if (find(id)) return;
    if (member_count == MEMBERS) abort();
    members[member_count++] = (struct member){.id = id};
}

static void leave(struct member *member) {
    if (member->leaving) return;
    member->leaving = 1;
    cl_worker_disconnect(member->id);
}

/* The numbers of those who were not asked to leave, and of those who were. */
static int staying(void) {
    int count = 0;
    for (int i = 0; i < member_count; i++) count += !members[i].leaving;
    return count;
}

static void forget_replacement(int i) { replacements[i] = replacements[--replacement_count]; }

static void listening(int id) {
    struct member *member = find(id);
    if (member) member->listening = 1;
    for (int i = 0; i < replacement_count; i++) {
        struct member *old = find(replacements[i].id);
        if (replacements[i].by != id || replacements[i].asked || !old) continue;
        replacements[i].asked = 1;
        leave(old);
    }
}

static void ended(const cl_event_t *event) {
    struct member *member = find(event->worker_id);
    /* Whoever did not end with 0 is replaced by the library. */
    if (!stopping && event->exit_code != 0) {
        if (gap_ms == 0) due++;
        else empty_until = now_ns() + (uint64_t)gap_ms * 1000000u;
    }
    if (member) *member = members[--member_count];
    for (int i = replacement_count; i-- > 0;) {
        if (replacements[i].id == event->worker_id) {
            say("{\"event\":\"replaced\",\"id\":%d,\"by\":%d}", replacements[i].id, replacements[i].by);
            forget_replacement(i);
        } else if (replacements[i].by == event->worker_id && !replacements[i].asked) {
            forget_replacement(i);
        }
    }
}

static void on_event(const cl_event_t *event, void *unused) {
    static const char *const mechanisms[] = {"auto", "passed", "kernel", "shared", "rotation"};
    (void)unused;
    switch (event->type) {
    case CL_EVENT_FORK:
        if (!find(event->worker_id)) due--;
        add(event->worker_id);
        say("{\"event\":\"fork\",\"id\":%d,\"pid\":%d}", event->worker_id, event->pid);
        break;
    case CL_EVENT_LISTENING:
        say("{\"event\":\"listening\",\"id\":%d,\"pid\":%d,\"port\":%d,\"mechanism\":\"%s\"}", event->worker_id, event->pid,
            event->port, mechanisms[event->mechanism <= 4 ? event->mechanism : 0]);
        listening(event->worker_id);
        break;
    case CL_EVENT_EXIT:
        say("{\"event\":\"exit\",\"id\":%d,\"pid\":%d,\"code\":%d,\"signal\":%d}", event->worker_id, event->pid, event->exit_code,
            event->signal);
        ended(event);
        break;
    case CL_EVENT_WARNING: {
        /* What the library says contains nothing that JSON would have to escape, but for what a worker may have put there. */
        char text[512];
        size_t length = event->length < sizeof text ? event->length : sizeof text;
        for (size_t i = 0; i < length; i++) {
            char letter = ((const char *)event->data)[i];
            text[i] = letter == '"' || letter == '\\' || (unsigned char)letter < ' ' ? '?' : letter;
        }
        say("{\"event\":\"warning\",\"text\":\"%.*s\"}", (int)length, text);
        break;
    }
    }
}

/* Says whether this process is still the primary. */
static int start(int count) {
    while (count-- > 0) {
        int id = cl_fork();
        if (id == 0) return 0;
        /* A shortage passes; the next turn tries again. */
        if (id < 0) return 1;
        add(id);
    }
    return 1;
}

/* As many as there are to be: an orderly leave and a lost successor are made good, what is too much leaves. */
static int balance(void) {
    int wanted = target, have = staying() + due;
    for (int i = 0; i < replacement_count; i++) wanted += !replacements[i].asked;
    if (stopping) return 1;
    if (now_ns() < empty_until) return 1;
    if (have < wanted && !start(wanted - have)) return 0;
    for (; have > wanted && staying() > 0; have--) {
        struct member *newest = NULL;
        for (int i = 0; i < member_count; i++)
            if (!members[i].leaving && (!newest || members[i].id > newest->id)) newest = &members[i];
        leave(newest);
    }
    if (resizing && member_count == target && due == 0 && staying() == target) {
        for (int i = 0; i < member_count; i++)
            if (!members[i].listening) return 1;
        say("{\"event\":\"resized\",\"workers\":%d}", target);
        resizing = 0;
    }
    return 1;
}

static int obey(char *line) {
    int number = 0;
    struct member *member;
    if (sscanf(line, "replace %d", &number) == 1) {
        if (!find(number) || replacement_count == REPLACEMENTS) return 1;
        int by = cl_fork();
        if (by == 0) return 0;
        if (by < 0) return 1;
        add(by);
        replacements[replacement_count++] = (struct replacement){.id = number, .by = by};
    } else if (sscanf(line, "disconnect %d", &number) == 1) {
        if ((member = find(number))) leave(member);
    } else if (sscanf(line, "resize %d", &number) == 1) {
        target = number;
        resizing = 1;
    } else if (!strncmp(line, "stop", 4)) {
        stopping = 1;
        cl_stop(sscanf(line, "stop %d", &number) == 1 ? number : LINGER_MS + 2000);
    }
    return 1;
}

/* The commands that are there. 0: this process is a worker now. */
static int read_commands(void) {
    static char kept[4096];
    static size_t length;
    ssize_t count = read(STDIN_FILENO, kept + length, sizeof kept - 1 - length);
    if (count < 0) return 1;
    if (count == 0) {
        stopping = 1;
        for (int i = 0; i < member_count; i++) cl_worker_kill(members[i].id, SIGKILL);
        cl_stop(0);
        return 1;
    }
    length += (size_t)count;
    kept[length] = 0;
    for (char *end; (end = strchr(kept, '\n'));) {
        char line[128];
        size_t size = (size_t)(end - kept) < sizeof line ? (size_t)(end - kept) : sizeof line - 1;
        memcpy(line, kept, size);
        line[size] = 0;
        length -= (size_t)(end + 1 - kept);
        memmove(kept, end + 1, length + 1);
        if (!obey(line)) return 0;
    }
    return 1;
}

static int lead(void) {
    struct pollfd polled[2] = {{.fd = cl_poll_fd(), .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    target = option("FAULTS_WORKERS", 4);
    for (;;) {
        if (!balance()) return 0;
        if (stopping && cl_worker_ids(NULL, 0) == 0) exit(0);
        /* A start that failed for a shortage is tried again. */
        int wait = !stopping && staying() + due < target ? 10 : 1000;
        if (poll(polled, stopping ? 1 : 2, stopping ? 10 : wait) > 0 && !stopping && polled[1].revents && !read_commands()) return 0;
        if (cl_step(0) < 0 && !stopping) exit(1);
        if (cl_is_worker()) return 0;
    }
}

int main(void) {
    const char *policy = getenv("FAULTS_POLICY"), *mechanism = getenv("FAULTS_MECHANISM");
    int code;
    gap_ms = option("FAULTS_GAP_MS", 0);
    cl_settings_t settings = {.size = sizeof settings, .stop_deadline_ms = LINGER_MS + 8000,
                              .respawn = gap_ms > 0 ? CL_RESPAWN_NEVER : CL_RESPAWN_ON_FAILURE};
    settings.policy = !policy ? CL_SCHED_RR : !strcmp(policy, "none") ? CL_SCHED_NONE
                      : !strcmp(policy, "least")                      ? CL_SCHED_LEAST_LOADED
                      : !strcmp(policy, "hash")                       ? CL_SCHED_SOURCE_HASH
                                                                      : CL_SCHED_RR;
    settings.mechanism = !mechanism ? CL_MECHANISM_AUTO : !strcmp(mechanism, "kernel") ? CL_MECHANISM_KERNEL
                         : !strcmp(mechanism, "passed")                                ? CL_MECHANISM_PASSED
                         : !strcmp(mechanism, "rotation")                              ? CL_MECHANISM_ROTATION
                                                                                       : CL_MECHANISM_AUTO;
    if (!getenv("FAULTS_CLAIMS")) {
        fprintf(stderr, "this is started by the fault rig, see tests/rigs/faults/README.md\n");
        return 2;
    }
    if ((code = cl_setup_primary(&settings)) < 0 || (code = cl_on_event(on_event, NULL)) < 0) {
        int refused = code == -EPERM || code == -ENOSYS || code == -EINVAL;
        say("{\"event\":\"%s\",\"text\":\"%s\"}", refused ? "unavailable" : "warning", cl_err_name(code));
        return refused ? UNAVAILABLE : 1;
    }
    return lead() ? 1 : serve();
}
