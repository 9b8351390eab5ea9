/* How can several processes serve one port, when bind(2) gives a port to one process only?
 *
 * First the plain way: a second process that binds the port gets EADDRINUSE. Then the same through libcluster: both
 * workers listen on one port and both answer. Then the reason, as the kernel shows it: there is one listening socket,
 * and of all the processes only the primary has it open. The workers never had the port; they are handed connections.
 *
 * build:  cc -o same_port same_port.c -lcluster
 * run:    ./same_port
 * expect: "process B (pid ...): bind: Address already in use" in the first part; in the second, answers by worker 1 and
 *         worker 2 in turn, one line of /proc/net/tcp, and its inode "in /proc/<pid>/fd of" the primary alone.
 */
#define _DEFAULT_SOURCE
#include <arpa/inet.h>
#include <cluster.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKERS = 2, VISITS = 4 };

static struct sockaddr_in local(int port) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((unsigned short)port);
    return address;
}

/* socket, bind, listen. Returns the descriptor or -errno. */
static int plain_listen(int port) {
    struct sockaddr_in address = local(port);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0)
        return -errno;
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 16) < 0) {
        int code = -errno;
        close(listener);
        return code;
    }
    return listener;
}

static int port_of(int listener) {
    struct sockaddr_in address = local(0);
    socklen_t length = sizeof address;
    if (getsockname(listener, (struct sockaddr *)&address, &length) < 0)
        return -1;
    return ntohs(address.sin_port);
}

/* Returns 0 when the second process was refused, as it should be. */
static int without_libcluster(void) {
    printf("1. Two processes bind one port\n");
    int listener = plain_listen(0);
    int port = listener < 0 ? -1 : port_of(listener);
    if (port < 0) {
        perror("same_port");
        return 1;
    }
    printf("   process A (pid %d): bind 127.0.0.1:%d: ok\n", (int)getpid(), port);

    pid_t child = fork();
    if (child == 0) {
        close(listener); /* what fork gave it does not count: this process wants the port for itself */
        int second = plain_listen(port);
        printf("   process B (pid %d): bind: %s\n", (int)getpid(), second < 0 ? strerror(-second) : "ok");
        exit(second == -EADDRINUSE ? 0 : 1);
    }
    int status = -1;
    if (child > 0)
        waitpid(child, &status, 0);
    close(listener);
    return status != 0;
}

static int worker_main(const char *address) {
    int listener = cl_listen(address, 0), connection;
    if (listener < 0) {
        fprintf(stderr, "worker %d: %s\n", cl_worker_id(), cl_last_error());
        return 1;
    }
    while ((connection = cl_accept(listener, NULL, NULL)) >= 0) {
        char answer[64];
        int length = snprintf(answer, sizeof answer, "worker %d (pid %d)", cl_worker_id(), (int)getpid());
        send(connection, answer, (size_t)length, MSG_NOSIGNAL);
        close(connection);
    }
    return connection == -ESHUTDOWN ? 0 : 1;
}

struct scene {
    int listening, port, ended;
};

static void on_event(const cl_event_t *event, void *user) {
    struct scene *scene = (struct scene *)user;
    if (event->type == CL_EVENT_LISTENING) {
        printf("   worker %d (pid %d): listen 127.0.0.1:%d: ok\n", event->worker_id, event->pid, event->port);
        scene->listening++;
        scene->port = event->port;
    }
    if (event->type == CL_EVENT_EXIT)
        scene->ended++;
}

/* Connects and prints who answers. The kernel completes the connection by itself, so that connect does not wait for
 * anybody; then this process is client and primary at once, in one poll loop. Returns 0 if there was an answer. */
static int visit(int port) {
    struct sockaddr_in address = local(port);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client < 0 || connect(client, (struct sockaddr *)&address, sizeof address) < 0) {
        perror("same_port: connect");
        return 1;
    }

    char answer[64];
    ssize_t length = -1;
    struct pollfd ready[2] = {{client, POLLIN, 0}, {cl_poll_fd(), POLLIN, 0}};
    while (length < 0 && poll(ready, 2, 5000) > 0) {
        if (ready[1].revents != 0 && cl_step(0) < 0)
            break;
        if (ready[0].revents != 0)
            length = recv(client, answer, sizeof answer - 1, 0);
    }
    close(client);
    if (length <= 0) {
        printf("   connect 127.0.0.1:%d: no answer\n", port);
        return 1;
    }
    answer[length] = '\0';
    printf("   connect 127.0.0.1:%d: answered by %s\n", port, answer);
    return 0;
}

/* Prints the listening sockets that /proc/net/tcp has for the port. Returns how many; *inode is the last one's. */
static int listening_sockets(int port, unsigned long *inode) {
    char line[256];
    int sockets = 0;
    FILE *table = fopen("/proc/net/tcp", "r");
    while (table != NULL && fgets(line, sizeof line, table) != NULL) {
        unsigned at = 0, state = 0;
        unsigned long number = 0;
        if (sscanf(line, "%*d: %*8x:%x %*8x:%*x %x %*s %*s %*s %*u %*u %lu", &at, &state, &number) != 3)
            continue;
        if ((int)at == port && state == 0x0A) { /* TCP_LISTEN */
            printf("   %s", line);
            *inode = number;
            sockets++;
        }
    }
    if (table != NULL)
        fclose(table);
    return sockets;
}

static int has_open(int pid, unsigned long inode) {
    char path[300], wanted[40], target[64];
    snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *descriptors = opendir(path);
    int found = 0;
    for (struct dirent *entry; descriptors != NULL && (entry = readdir(descriptors)) != NULL;) {
        snprintf(path, sizeof path, "/proc/%d/fd/%s", pid, entry->d_name);
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = '\0';
        found |= strcmp(target, wanted) == 0;
    }
    if (descriptors != NULL)
        closedir(descriptors);
    return found;
}

/* Returns 0 when there is one listening socket and only the primary has it. */
static int who_owns(int port) {
    unsigned long inode = 0;
    printf("   /proc/net/tcp, listening on port %d (hexadecimal %04X):\n", port, (unsigned)port);
    int sockets = listening_sockets(port, &inode);
    printf("   listening sockets: %d; socket:[%lu] is in /proc/<pid>/fd of\n", sockets, inode);

    int mine = has_open((int)getpid(), inode), theirs = 0;
    printf("     primary  (pid %d): %s\n", (int)getpid(), mine ? "yes" : "no");
    int ids[WORKERS];
    int count = cl_worker_ids(ids, WORKERS);
    for (int i = 0; i < count && i < WORKERS; i++) {
        cl_worker_info_t info = {.size = sizeof info};
        if (cl_worker_info(ids[i], &info) < 0)
            continue;
        int has = has_open(info.pid, inode);
        printf("     worker %d (pid %d): %s\n", ids[i], info.pid, has ? "yes" : "no");
        theirs += has;
    }
    return !(sockets == 1 && mine && theirs == 0);
}

static int with_libcluster(void) {
    printf("2. Two workers listen on one port, through libcluster\n");
    struct scene scene = {0, 0, 0};
    /* This is about connections that are passed. Where the kernel itself deals them out, each worker has a socket. */
    cl_settings_t settings = {.size = sizeof settings, .mechanism = CL_MECHANISM_PASSED};
    int code = cl_setup_primary(&settings);
    if (code >= 0)
        code = cl_on_event(on_event, &scene);
    for (int i = 0; code >= 0 && i < WORKERS; i++) {
        code = cl_fork();
        if (code == 0)
            exit(worker_main("127.0.0.1:0"));
    }
    while (code >= 0 && scene.listening < WORKERS && scene.ended == 0)
        code = cl_step(-1);
    if (code < 0) {
        fprintf(stderr, "same_port: %s\n", cl_last_error());
        return 1;
    }

    int wrong = scene.listening < WORKERS;
    for (int i = 0; !wrong && i < VISITS; i++)
        wrong = visit(scene.port);
    if (!wrong)
        wrong = who_owns(scene.port);

    cl_disconnect();
    return cl_run() < 0 || wrong; /* until both workers are gone */
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0); /* nothing unwritten is in the buffer that a fork copies */
    int first = without_libcluster();
    int second = with_libcluster();
    return first || second;
}
