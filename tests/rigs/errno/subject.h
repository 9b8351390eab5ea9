/* A subject (subject.c) seen from outside: who its processes are, and clients for it. */
#ifndef SUBJECT_H
#define SUBJECT_H

#include "../../c/net.h"

enum { WORKERS_MOST = 4, TOGETHER = 8 };

typedef struct {
    pid_t primary;
    int reports; /* what it says */
    int port, mechanism, count; /* of workers */
    pid_t workers[WORKERS_MOST]; /* by the order in which they listened; 0: ended, and not replaced yet */
    int ends;               /* workers that have ended */
    char rest[512];         /* a line that has not come whole */
    size_t length;
} cluster_t;

static inline void heard(cluster_t *cluster, const char *line) {
    int id, pid, port, mechanism;
    if (sscanf(line, "L %d %d %d %d", &id, &pid, &port, &mechanism) == 4) {
        cluster->port = port;
        cluster->mechanism = mechanism;
        for (int i = 0; i < cluster->count; i++)
            if (cluster->workers[i] == 0) {
                cluster->workers[i] = pid;
                return;
            }
    } else if (sscanf(line, "X %d %d", &id, &pid) == 2) {
        cluster->ends++;
        for (int i = 0; i < cluster->count; i++)
            if (cluster->workers[i] == pid) cluster->workers[i] = 0;
    }
}

/* Takes in what the subject has said so far. */
static inline void listen_to(cluster_t *cluster) {
    for (;;) {
        ssize_t n = recv(cluster->reports, cluster->rest + cluster->length, sizeof cluster->rest - 1 - cluster->length, MSG_DONTWAIT);
        if (n <= 0) return;
        cluster->length += (size_t)n;
        cluster->rest[cluster->length] = '\0';
        char *line = cluster->rest, *end;
        while ((end = strchr(line, '\n')) != NULL) {
            *end = '\0';
            heard(cluster, line);
            line = end + 1;
        }
        cluster->length = strlen(line);
        memmove(cluster->rest, line, cluster->length + 1);
    }
}

static inline int complete(cluster_t *cluster) {
    listen_to(cluster);
    for (int i = 0; i < cluster->count; i++)
        if (cluster->workers[i] == 0) return 0;
    return 1;
}

/* Whether the condition comes true in time. */
#define WITHIN(condition, ms) __extension__({                                                       \
    long long within_ = now_ms() + (ms);                                                            \
    int came_;                                                                                      \
    while (!(came_ = (condition)) && now_ms() < within_) nap(2);                                    \
    came_;                                                                                          \
})

static inline int count_in(const char *format, pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, format, (int)pid);
    DIR *folder = opendir(path);
    int count = 0;
    for (struct dirent *entry = folder != NULL ? readdir(folder) : NULL; entry != NULL; entry = readdir(folder))
        count += entry->d_name[0] != '.';
    if (folder != NULL) closedir(folder);
    return count;
}

static inline int descriptors_of(pid_t pid) { return count_in("/proc/%d/fd", pid); }

static inline int children_of(pid_t pid) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    FILE *file = fopen(path, "re");
    size_t n = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
    int count = 0;
    if (file != NULL) fclose(file);
    for (size_t i = 0; i < n; i++) count += text[i] == ' ';
    return count;
}

/* Milliseconds of a processor that a process has had. */
static inline long long processor_of(pid_t pid) {
    char path[64];
    unsigned long long ran = 0;
    snprintf(path, sizeof path, "/proc/%d/schedstat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL || fscanf(file, "%llu", &ran) != 1) ran = 0;
    if (file != NULL) fclose(file);
    return (long long)(ran / 1000000);
}

/* With so small a table that the kernel's count of descriptors in flight, which has the same limit, is soon reached. */
static inline void become_user(uid_t user) {
    struct rlimit limit = {128, 128};
    SYS(setrlimit(RLIMIT_NOFILE, &limit));
    SYS(setresgid(user, user, user));
    SYS(setresuid(user, user, user));
    SYS(prctl(PR_SET_PDEATHSIG, SIGKILL)); /* which the change of user has undone */
}

/* Starts a subject with so many workers and waits until they listen. `user` 0: as who this is. */
static inline cluster_t start_cluster(const char *program, const char *made_by, int workers, const char *way, uid_t user) {
    cluster_t cluster;
    int ends[2], none = strcmp(way, "none") == 0;
    char count[8];
    ZERO(cluster);
    cluster.count = workers;
    snprintf(count, sizeof count, "%d", workers);
    SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    cluster.primary = SYS(fork());
    if (cluster.primary == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (user != 0) become_user(user);
        SYS(setenv("CL_MECHANISM", none ? "passed" : way, 1));
        dup2(ends[1], 1);
        execl(program, program, made_by, none ? "none" : "rr", count, (char *)NULL);
        _exit(126);
    }
    close(ends[1]);
    cluster.reports = ends[0];
    if (!WITHIN(complete(&cluster), 8000)) check_fail(__FILE__, __LINE__, "the subject's workers do not listen");
    return cluster;
}

/* Ends it, in order if it is well. What it exited with; a signal is negative. */
static inline int end_cluster(cluster_t *cluster, int in_order) {
    int status = 0;
    kill(cluster->primary, in_order ? SIGTERM : SIGKILL);
    if (!gone_within(cluster->primary, 8000)) kill(cluster->primary, SIGKILL);
    status = wait_status(cluster->primary);
    close(cluster->reports);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Puts a descriptor in flight; 0 or -errno. */
static inline int send_descriptor(int socket, int fd) {
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    char byte = 0;
    struct iovec part = {&byte, 1};
    struct msghdr message;
    ZERO(control);
    ZERO(message);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

/* -- Clients ------------------------------------------------------------------------------------------------------- */

typedef struct {
    int answered, hung, broken, refused;
    int pid;                /* who answered last */
    int by[WORKERS_MOST];  /* answers of each slot */
    int code, others; /* what the last failure that a worker told of was; failures of another code than that */
    long long slowest_ms;
} tally_t;

static inline int try_send(int port, char letter) {
    int fd = try_connect4(port);
    if (fd >= 0 && send(fd, &letter, 1, MSG_NOSIGNAL) != 1) {
        close(fd);
        return -EPIPE;
    }
    return fd;
}

static inline void take_answer(tally_t *tally, int fd, long long since, int limit_ms) {
    char text[64];
    int slot, pid, code;
    long long left = since + limit_ms - now_ms();
    if (!readable_within(fd, left > 0 ? (int)left : 0)) {
        tally->hung++;
    } else if (receive_line(fd, text, sizeof text) <= 0 || sscanf(text, "%d %d %d", &slot, &pid, &code) != 3) {
        tally->broken++;
    } else {
        tally->answered++;
        tally->pid = pid;
        if (slot >= 0 && slot < WORKERS_MOST) tally->by[slot]++;
        if (code != 0 && tally->code != 0 && tally->code != code) tally->others++;
        if (code != 0) tally->code = code;
        if (now_ms() - since > tally->slowest_ms) tally->slowest_ms = now_ms() - since;
    }
    close(fd);
}

/* Clients for each letter, `together` at a time; each waits at most so long. */
static inline tally_t drive(const cluster_t *cluster, const char *letters, int together, int limit_ms) {
    tally_t tally;
    int clients[TOGETHER];
    ZERO(tally);
    while (*letters != '\0') {
        int count = 0;
        long long since = now_ms();
        for (; count < together && *letters != '\0'; count++) clients[count] = try_send(cluster->port, *letters++);
        for (int i = 0; i < count; i++) {
            if (clients[i] >= 0) take_answer(&tally, clients[i], since, limit_ms);
            else tally.refused++;
        }
    }
    return tally;
}

static inline int is_whole(const tally_t *tally) { return tally->hung == 0 && tally->broken == 0 && tally->refused == 0; }

/* All of so many are answered, by each worker as many. In rotation one that had less has more for a while. */
static inline int is_even(const cluster_t *cluster, int clients) {
    int slack = cluster->mechanism == CL_MECHANISM_ROTATION ? clients : 1;
    if (slack > 1) clients *= 3;
    tally_t all;
    ZERO(all);
    for (int i = 0; i < clients; i++) {
        tally_t one = drive(cluster, "p", 1, 4000);
        if (!is_whole(&one)) return 0;
        for (int slot = 0; slot < cluster->count; slot++) all.by[slot] += one.by[slot];
    }
    int least = INT_MAX, most = 0;
    for (int slot = 0; slot < cluster->count; slot++) {
        if (all.by[slot] < least) least = all.by[slot];
        if (all.by[slot] > most) most = all.by[slot];
    }
    return most - least <= slack;
}

#endif
