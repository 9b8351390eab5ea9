/*
 * A link between two networks, in user space: every packet takes DELAY ms each way, and so many of a thousand are lost. What is
 * lost is decided by the seed and the packet's number in its direction.
 *
 *   link SEED DELAY_MS LOST_OF_1000
 *
 * The near end (10.99.0.1, and 10.99.0.11 to 14) is in the network in which it was started, the far one (10.99.0.2) in a new one, which is that of this
 * process as soon as it prints a line. Ends at the end of its standard input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MTU = 1500, ROOM = 8192, UNAVAILABLE = 77 };

struct packet {
    uint64_t due;
    int length;
    char bytes[MTU];
};

struct direction {
    int from, to;
    uint64_t chance;
    size_t first, count;
    struct packet *packets;             /* a ring */
    long carried, lost;
};

static void need(int outcome, const char *what) {
    if (outcome >= 0) return;
    printf("%s: %s\n", what, strerror(errno));
    fflush(stdout);
    exit(UNAVAILABLE);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* As in src/random.rs. */
static uint64_t next(uint64_t *state) {
    uint64_t mixed = *state += 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
}

static void raise_device(const char *name, const char *address) {
    struct ifreq request;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in in = {.sin_family = AF_INET};
    need(fd, "socket");
    memset(&request, 0, sizeof request);
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    if (address) {
        inet_pton(AF_INET, address, &in.sin_addr);
        memcpy(&request.ifr_addr, &in, sizeof in);
        need(ioctl(fd, SIOCSIFADDR, &request), "SIOCSIFADDR");
        inet_pton(AF_INET, "255.255.255.0", &in.sin_addr);
        memcpy(&request.ifr_netmask, &in, sizeof in);
        need(ioctl(fd, SIOCSIFNETMASK, &request), "SIOCSIFNETMASK");
    }
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    need(ioctl(fd, SIOCSIFFLAGS, &request), "SIOCSIFFLAGS");
    close(fd);
}

/* Clients of several addresses. */
static void add_addresses(void) {
    char name[16], address[32];
    for (int i = 1; i <= 4; i++) {
        snprintf(name, sizeof name, "link:%d", i);
        snprintf(address, sizeof address, "10.99.0.%d", 10 + i);
        raise_device(name, address);
    }
}

/* Nothing is to be lost but what the seed says. */
static void lengthen_queue(void) {
    struct ifreq request;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memset(&request, 0, sizeof request);
    strcpy(request.ifr_name, "link");
    request.ifr_qlen = ROOM;
    need(ioctl(fd, SIOCSIFTXQLEN, &request), "SIOCSIFTXQLEN");
    close(fd);
}

static int end_of_link(const char *address) {
    struct ifreq request;
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    need(fd, "/dev/net/tun");
    memset(&request, 0, sizeof request);
    strcpy(request.ifr_name, "link");
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    need(ioctl(fd, TUNSETIFF, &request), "TUNSETIFF");
    raise_device("link", address);
    lengthen_queue();
    return fd;
}

/* Takes in what has come. */
static void take(struct direction *way, uint64_t delay, uint64_t lost_of_1000) {
    while (way->count < ROOM) {
        struct packet *packet = &way->packets[(way->first + way->count) % ROOM];
        ssize_t length = read(way->from, packet->bytes, sizeof packet->bytes);
        if (length <= 0) return;
        if (packet->bytes[0] >> 4 != 4) continue; /* what IPv6 says by itself counts for nothing */
        if (next(&way->chance) % 1000 < lost_of_1000) {
            way->lost++;
            continue;
        }
        packet->length = (int)length;
        packet->due = now_ns() + delay;
        way->count++;
        way->carried++;
    }
}

/* Hands out what is due; when the next one is. */
static uint64_t give(struct direction *way, uint64_t now) {
    while (way->count > 0) {
        struct packet *packet = &way->packets[way->first];
        if (packet->due > now) return packet->due;
        if (write(way->to, packet->bytes, (size_t)packet->length) < 0 && errno == EAGAIN) return now + 1000000;
        way->first = (way->first + 1) % ROOM;
        way->count--;
    }
    return UINT64_MAX;
}

int main(int count, char **words) {
    if (count != 4) return 2;
    uint64_t seed = strtoull(words[1], NULL, 10), delay = strtoull(words[2], NULL, 10) * 1000000u;
    uint64_t lost_of_1000 = strtoull(words[3], NULL, 10);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* Else a busy machine would lengthen the delay. Where it is not allowed, it does. */
    setpriority(PRIO_PROCESS, 0, -20);
    int near = end_of_link("10.99.0.1");
    add_addresses();
    need(unshare(CLONE_NEWNET), "a network of its own");
    raise_device("lo", NULL);
    int far = end_of_link("10.99.0.2");
    struct direction ways[2] = {{.from = near, .to = far, .chance = seed}, {.from = far, .to = near, .chance = ~seed}};
    for (int i = 0; i < 2; i++)
        if (!(ways[i].packets = calloc(ROOM, sizeof(struct packet)))) return 1;
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct pollfd polled[3] = {{.fd = near, .events = POLLIN}, {.fd = far, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
        uint64_t now = now_ns(), due = UINT64_MAX;
        for (int i = 0; i < 2; i++) {
            uint64_t of_way = give(&ways[i], now);
            if (of_way < due) due = of_way;
        }
        struct timespec wait = {.tv_sec = 1};
        if (due != UINT64_MAX) {
            wait.tv_sec = 0;
            wait.tv_nsec = due > now ? (long)(due - now) : 0;
            if (wait.tv_nsec > 999999999) wait.tv_nsec = 999999999;
        }
        if (ppoll(polled, 3, &wait, NULL) < 0 && errno != EINTR) return 1;
        for (int i = 0; i < 2; i++) take(&ways[i], delay, lost_of_1000);
        if (polled[2].revents) break;
    }
    printf("%ld packets carried, %ld lost\n", ways[0].carried + ways[1].carried, ways[0].lost + ways[1].lost);
    return 0;
}
