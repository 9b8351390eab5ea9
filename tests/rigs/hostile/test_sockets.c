/* What a worker does to the sockets and files that it was given and that the primary has, too: the shared listening socket or
 * the one of its slot, the mailbox, the channel and what came with it. The siblings go on to be served, with the mechanisms none and
 * rotation as soon as the primary has looked, which it does once a second. */
#include "rig.h"
#include <linux/bpf.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>

#ifndef SO_DETACH_REUSEPORT_BPF
#define SO_DETACH_REUSEPORT_BPF 68
#endif
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

static int set(int fd, int level, int name, int value) { return setsockopt(fd, level, name, &value, sizeof value); }

/* With the mechanism none nobody can tell who it was, so it lives and may do it again; it does it once. */
static share_t share_of_siblings(void) {
    greet();
    return join_siblings();
}

static void *taking(void *argument) {
    const share_t *share = (const share_t *)argument;
    for (;;) {
        int fd = accept4(share->socket, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            atomic_fetch_add(&book->taken, 1);
            close(fd);
        } else nap(1);
    }
    return NULL;
}

static void shuts_both(void) {
    share_t share = share_of_siblings();
    if (share.socket >= 0) SYS(shutdown(share.socket, SHUT_RDWR));
    shutdown(share.mailbox, SHUT_RDWR);
    shutdown(grants, SHUT_RDWR);
}

static void shuts_mailbox_rd(void) { shutdown(share_of_siblings().mailbox, SHUT_RD); }
static void shuts_mailbox_wr(void) { shutdown(share_of_siblings().mailbox, SHUT_WR); }

static void shuts_channel_rd(void) {
    share_of_siblings();
    SYS(shutdown(channel, SHUT_RD));
    for (int i = 0; i < 50; i++) say_number(LOAD, 1);
}

static void shuts_channel_wr(void) {
    share_of_siblings();
    SYS(shutdown(channel, SHUT_WR));
}

/* Out of the state in which it listens, into another, and back. */
static void disconnects_it(void) {
    struct sockaddr nobody;
    share_t share = share_of_siblings();
    ZERO(nobody);
    nobody.sa_family = AF_UNSPEC;
    connect(share.mailbox, &nobody, sizeof nobody);
    connect(channel, &nobody, sizeof nobody);
    if (share.socket >= 0) SYS(connect(share.socket, &nobody, sizeof nobody));
}

static void listens_again(void) {
    share_t share = share_of_siblings();
    if (share.socket < 0) return;
    for (int i = 0; i < 100; i++) {
        shutdown(share.socket, SHUT_RDWR);
        listen(share.socket, 100);
    }
}

static void backlog_of_none(void) {
    share_t share = share_of_siblings();
    if (share.socket >= 0) SYS(listen(share.socket, 0));
}

/* A child of one that has gone makes its slot's socket listen again, and takes from it. */
static void listens_after_death(void) {
    share_t share = share_of_siblings();
    if (share.socket >= 0 && fork() == 0) {
        while (!over()) {
            if (!is_shared(&share)) listen(share.socket, 100);
            swallow(&share);
            nap(1);
        }
        _exit(0);
    }
    _exit(0);
}

static void options(void) {
    struct linger at_once = {1, 0};
    struct timeval moment = {0, 1};
    share_t share = share_of_siblings();
    int all[4] = {channel, grants, share.mailbox, share.socket};
    for (int i = 0; i < 4; i++) {
        if (all[i] < 0) continue;
        set(all[i], SOL_SOCKET, SO_SNDBUF, 1);
        set(all[i], SOL_SOCKET, SO_RCVBUF, 1);
        set(all[i], SOL_SOCKET, SO_RCVLOWAT, 1 << 20);
        setsockopt(all[i], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        setsockopt(all[i], SOL_SOCKET, SO_RCVTIMEO, &moment, sizeof moment);
        setsockopt(all[i], SOL_SOCKET, SO_SNDTIMEO, &moment, sizeof moment);
    }
}

/* Clients that say nothing first are not shown to anybody who accepts. */
static void defers(void) {
    share_t share = share_of_siblings();
    if (share.socket >= 0) SYS(set(share.socket, IPPROTO_TCP, TCP_DEFER_ACCEPT, 1));
}

/* Packets that came over a router are dropped, which here are all. */
static void drops_what_has_travelled(void) {
    share_t share = share_of_siblings();
    if (share.socket >= 0) SYS(set(share.socket, IPPROTO_IP, 21 /* IP_MINTTL */, 255));
}

static void reads_as_another(void) {
    share_t share = share_of_siblings();
    int all[3] = {channel, grants, share.mailbox};
    for (int i = 0; i < 3; i++) {
        set(all[i], SOL_SOCKET, SO_PASSCRED, 1);
        set(all[i], SOL_SOCKET, SO_PASSPIDFD, 1);
        set(all[i], SOL_SOCKET, SO_PASSSEC, 1);
        set(all[i], SOL_SOCKET, SO_PEEK_OFF, 4);
    }
}

static void signals_for_everything(void) {
    share_t share = share_of_siblings();
    int all[4] = {channel, grants, share.mailbox, share.socket};
    signal(SIGIO, SIG_IGN);
    for (int i = 0; i < 4; i++) {
        if (all[i] < 0) continue;
        fcntl(all[i], F_SETOWN, getpid());
        fcntl(all[i], F_SETFL, fcntl(all[i], F_GETFL) | O_ASYNC);
    }
}

static void filters(void) {
    struct sock_filter none[] = {{BPF_RET | BPF_K, 0, 0, 0}};
    struct sock_fprog program = {1, none};
    share_t share = share_of_siblings();
    int all[4] = {channel, grants, share.mailbox, share.socket};
    for (int i = 0; i < 4; i++) {
        if (all[i] < 0) continue;
        int refused = setsockopt(all[i], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
        if (i == 3) CHECK(refused != 0 && errno == EPERM);
        setsockopt(all[i], SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program);
        set(all[i], SOL_SOCKET, SO_DETACH_FILTER, 0);
    }
}

/* The kernel's program is taken off all the time; the group is dealt out by chance, among the siblings too. */
static void detaches(void) {
    share_t share = share_of_siblings();
    ATTACK {
        if (share.socket >= 0) set(share.socket, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0);
        swallow(&share);
        sched_yield();
    }
}

/* A socket that listens alone beside a group is found before the group, and then all clients are its own. */
static void steals(void) {
    share_t share = share_of_siblings();
    int lo = (int)if_nametoindex("lo");
    if (share.socket < 0) return;
    set(share.socket, SOL_SOCKET, 62 /* SO_BINDTOIFINDEX */, lo);
    SYS(set(share.socket, SOL_SOCKET, SO_REUSEPORT, 0));
    if (is_shared(&share)) return;
    for (;;) {
        swallow(&share);
        nap(1);
    }
}

/* Whoever accepts shall wait, and find nothing. One thread takes the flag off, one takes what comes, and the worker stands
 * still by turns, so that the primary has a reason to accept in its stead. */
static void *flipping(void *argument) {
    int fd = ((const share_t *)argument)->socket, flags = fcntl(fd, F_GETFL);
    for (unsigned i = 0;; i++) {
        fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
        if (i % 256 == 0) sched_yield();
    }
    return NULL;
}

static void *taking_now_and_then(void *argument) {
    const share_t *share = (const share_t *)argument;
    for (;;) {
        nap(25);
        if (readable_within(share->mailbox, 0)) recv(share->mailbox, &(char){0}, 1, MSG_PEEK | MSG_DONTWAIT);
        int fd = accept4(share->socket, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) continue;
        atomic_fetch_add(&book->taken, 1);
        close(fd);
    }
    return NULL;
}

static void flips(void) {
    static share_t share;
    pthread_t threads[2];
    share = share_of_siblings();
    if (share.socket < 0) _exit(0);
    CHECK_EQ(pthread_create(&threads[0], NULL, flipping, &share), 0);
    CHECK_EQ(pthread_create(&threads[1], NULL, taking_now_and_then, &share), 0);
    ATTACK nap(10);
    _exit(0);
}

static void makes_accept_wait(void) {
    share_t share = share_of_siblings();
    int all[4] = {channel, grants, share.mailbox, share.socket};
    for (int i = 0; i < 4; i++)
        if (all[i] >= 0) fcntl(all[i], F_SETFL, fcntl(all[i], F_GETFL) & ~O_NONBLOCK);
}

/* It waits in accept itself, where it may, and takes all it can. */
static void waits_in_accept(void) {
    static share_t share;
    pthread_t threads[4];
    share = share_of_siblings();
    if (share.socket < 0) return;
    fcntl(share.socket, F_SETFL, fcntl(share.socket, F_GETFL) & ~O_NONBLOCK);
    for (int i = 0; i < 4; i++) CHECK_EQ(pthread_create(&threads[i], NULL, taking, &share), 0);
}

/* A page that is not the worker's to resize, full of nonsense. */
static void the_board(void) {
    greet();
    share_t share = join_siblings();
    CHECK(ftruncate(board_file, 0) != 0 && ftruncate(board_file, 1 << 20) != 0);
    CHECK(fallocate(board_file, 0, 0, 1 << 20) != 0);
    unsigned char *page = (unsigned char *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, board_file, 0);
    CHECK(page != MAP_FAILED);
    unsigned seed = 1;
    ATTACK {
        for (int i = 0; i < 4096; i++) page[i] = (unsigned char)((seed = seed * 1103515245U + 12345U) >> 16);
        fallocate(board_file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
        madvise(page, 4096, MADV_REMOVE);
        swallow(&share);
    }
    void *moved = mremap(page, 4096, 1 << 20, MREMAP_MAYMOVE);
    if (moved != MAP_FAILED) munmap(moved, 1 << 20);
    fchmod(board_file, 0);
}

/* The lifeline and the pidfd: nothing that is done to them comes back. */
static void the_lifeline(void) {
    char path[64];
    greet();
    join_siblings();
    snprintf(path, sizeof path, "/proc/self/fd/%d", lifeline);
    signal(SIGKILL, SIG_IGN);
    fcntl(lifeline, F_SETSIG, SIGIO);
    signal(SIGIO, SIG_IGN);
    int writer = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (writer >= 0)
        for (int i = 0; i < 100; i++)
            if (write(writer, path, sizeof path) < 0) break;
    fcntl(lifeline, F_SETPIPE_SZ, 4096);
    fcntl(primary_pidfd, F_SETFL, O_NONBLOCK | O_ASYNC);
    set(primary_pidfd, SOL_SOCKET, SO_SNDBUF, 1);
    CHECK(ioctl(primary_pidfd, 0, 0) != 0);
}

static const attack_t attacks[] = {
    {"shuts mailbox rd", shuts_mailbox_rd, LIVES, 0, 0},
    {"shuts mailbox wr", shuts_mailbox_wr, LIVES, 0, 0},
    {"shuts channel rd", shuts_channel_rd, LIVES, 0, 0},
    {"shuts channel wr", shuts_channel_wr, LIVES, 0, 0},
    {"reads as another", reads_as_another, LIVES, 0, 0},
    {"signals for everything", signals_for_everything, LIVES, 0, 0},
    {"filters", filters, LIVES, 0, 0},
    {"makes accept wait", makes_accept_wait, LIVES, 1, HITS_ALL},
    {"waits in accept", waits_in_accept, LIVES, 1, HITS_ALL},
    {"flips", flips, EXITS, 1, HITS_ALL},
    {"shuts all", shuts_both, LIVES, 1, HITS_ALL},
    {"disconnects it", disconnects_it, LIVES, 1, HITS_ALL},
    {"listens again", listens_again, LIVES, 1, HITS_ALL},
    {"backlog of none", backlog_of_none, LIVES, 1, HITS_ALL | HITS_ITS_TURNS},
    {"listens after death", listens_after_death, EXITS, 1, HITS_ALL},
    {"options", options, LIVES, 1, HITS_ALL},
    {"defers", defers, LIVES, 1, HITS_ALL | HITS_ITS_TURNS},
    {"drops what has travelled", drops_what_has_travelled, LIVES, 1, HITS_ALL | HITS_ITS_TURNS},
    {"detaches", detaches, LIVES, 1, 0},
    {"steals", steals, EITHER, 1, 0},
    {"the board", the_board, LIVES, 0, 0},
    {"the lifeline", the_lifeline, LIVES, 0, 0},
};

HOSTILE_MAIN(attacks, "sockets and files", {"_hostile", hostile_role})
