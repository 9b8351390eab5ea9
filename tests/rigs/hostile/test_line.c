/* What a worker does in the line of those who accept in rotation, and to the page by which they count: it stands there and does not
 * accept, is stopped or dies when it was woken, counts what it likes. The siblings go on to be served. */
#include "rig.h"
#include <pthread.h>
#include <sys/epoll.h>

static share_t share;

/* Into the line. With EPOLLET it is told once of each who comes, and sleeps in between as if it had nothing to do. */
static int stand(unsigned how) {
    struct epoll_event event;
    int epoll = SYS(epoll_create1(EPOLL_CLOEXEC));
    ZERO(event);
    event.events = EPOLLIN | EPOLLEXCLUSIVE | how;
    SYS(epoll_ctl(epoll, EPOLL_CTL_ADD, share.socket, &event));
    return epoll;
}

static void take_share(void) {
    greet();
    share = join_siblings();
    CHECK_EQ(share.mechanism, CL_MECHANISM_ROTATION);
}

static void sleep_in(int epoll) {
    struct epoll_event event;
    done();
    while (!over()) (void)epoll_wait(epoll, &event, 1, 10000);
    _exit(0);
}

static void never_accepts(void) {
    take_share();
    int epoll = stand(EPOLLET);
    say_number(SEAT, share.listener);
    sleep_in(epoll);
}

/* Nobody was told that it stands there. */
static void says_nothing(void) {
    take_share();
    sleep_in(stand(EPOLLET));
}

static void *counting(void *page) {
    unsigned long long *taken = (unsigned long long *)page;
    for (;;) {
        __atomic_add_fetch(taken, 1, __ATOMIC_RELAXED);
        nap(1);
    }
    return NULL;
}

static unsigned char *map_page(void) {
    unsigned char *page = (unsigned char *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, share.page, 0);
    CHECK(page != MAP_FAILED);
    return page;
}

/* The same, while connections are always being taken, as the page says. */
static void never_accepts_and_counts(void) {
    pthread_t thread;
    take_share();
    CHECK_EQ(pthread_create(&thread, NULL, counting, map_page()), 0);
    int epoll = stand(EPOLLET);
    say_number(SEAT, share.listener);
    sleep_in(epoll);
}

/* It is in line and does something else. */
static void is_elsewhere(void) {
    take_share();
    (void)stand(0);
    say_number(SEAT, share.listener);
}

/* It is told all the time, and does not accept. */
static void spins(void) {
    struct epoll_event event;
    take_share();
    int epoll = stand(0);
    say_number(SEAT, share.listener);
    ATTACK (void)epoll_wait(epoll, &event, 1, 10);
}

static void says_so_beside_it(void) {
    take_share();
    say_number(SEAT, share.listener);
}

static void until_woken(void) {
    struct epoll_event event;
    take_share();
    int epoll = stand(0);
    say_number(SEAT, share.listener);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 10000), 1);
}

static void is_stopped_when_woken(void) {
    until_woken();
    SYS(kill(getpid(), SIGSTOP));
}

static void dies_when_woken(void) {
    until_woken();
    _exit(0);
}

/* It keeps its place and what it takes to itself. */
static void takes_all_that_it_can(void) {
    struct epoll_event event;
    take_share();
    int epoll = stand(0);
    say_number(SEAT, share.listener);
    ATTACK {
        (void)epoll_wait(epoll, &event, 1, 10);
        swallow(&share);
    }
}

/* Any value in all that is there, and a file that is not the worker's to resize. */
static void the_page(void) {
    static const unsigned long long odd[] = {0, 1, 1ULL << 31, 0xffffffff, 1ULL << 32, 1ULL << 63, ~0ULL};
    take_share();
    CHECK(ftruncate(share.page, 0) != 0 && ftruncate(share.page, 1 << 20) != 0);
    CHECK(fallocate(share.page, 0, 0, 1 << 20) != 0);
    CHECK(fcntl(share.page, F_ADD_SEALS, F_SEAL_WRITE) != 0);
    unsigned char *page = map_page();
    unsigned seed = 1;
    ATTACK {
        for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
            for (size_t j = 0; j < sizeof odd / sizeof odd[0]; j++) {
                memcpy(page, &odd[i], 8);
                memcpy(page + 64, &odd[j], 8);
                sched_yield();
            }
        for (int i = 0; i < 4096; i++) page[i] = (unsigned char)((seed = seed * 1103515245U + 12345U) >> 16);
        fallocate(share.page, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
        madvise(page, 4096, MADV_REMOVE);
        swallow(&share);
    }
    memset(page, 0xff, 4096);
    fchmod(share.page, 0);
}

/* The line is woken again and again though nobody comes. */
static void rouses(void) {
    take_share();
    ATTACK {
        for (int i = 0; i < 64; i++) shutdown(share.socket, SHUT_WR);
        sched_yield();
    }
}

/* The worker is gone; a child of its stands in line in its stead, and accepts nothing. */
static void leaves_a_child_in_line(void) {
    take_share();
    say_number(SEAT, share.listener);
    if (SYS(fork()) == 0) {
        struct epoll_event event;
        int epoll = stand(EPOLLET);
        done();
        for (long long end = now_ms() + 5000 * check_slow(); !over() && now_ms() < end;) (void)epoll_wait(epoll, &event, 1, 500);
        _exit(0);
    }
    _exit(0);
}

static const attack_t attacks[] = {
    {"is elsewhere", is_elsewhere, LIVES, 0, 0},
    {"spins", spins, LIVES, 0, 0},
    {"says so beside it", says_so_beside_it, LIVES, 0, 0},
    {"takes all that it can", takes_all_that_it_can, LIVES, 0, 0},
    {"the page", the_page, LIVES, 0, 0},
    {"rouses", rouses, LIVES, 0, 0},
    {"is stopped when woken", is_stopped_when_woken, STOPS, 0, LOSES_A_WAKE_UP},
    {"dies when woken", dies_when_woken, EXITS, 0, 0},
    {"never accepts", never_accepts, LIVES, 0, LOSES_A_WAKE_UP},
    {"never accepts and counts", never_accepts_and_counts, LIVES, 0, LOSES_A_WAKE_UP},
    {"says nothing", says_nothing, LIVES, 0, LOSES_A_WAKE_UP},
    {"leaves a child in line", leaves_a_child_in_line, EXITS, 0, LOSES_A_WAKE_UP | STAYS_BEHIND},
};

HOSTILE_CASE(rotation, "rotation", attacks, "in line")
HOSTILE_ROLE(attacks)

/* Wake-ups are lost all the time. Once the primary has seen that it looks more often than in audits. */
static void for_long(void) {
    begin_rig("rotation");
    start_hostile("never accepts");
    for (long long end = now_ms() + 4000 * check_slow(); now_ms() < end;) rig_turn(5);
    long answered = atomic_load(&book->answered);
    for (long long end = now_ms() + 2000; now_ms() < end;) rig_turn(5);
    answered = atomic_load(&book->answered) - answered;
    /* Each waits for 24 ms at most. */
    if (answered < 2000 / 24 * CLIENTS / 3 / check_slow()) check_fail(__FILE__, __LINE__, "%ld answers in 2 s", answered);
    expect_service("never accepts");
    end_rig();
}

static const check_case_t cases[] = {{"rotation", rotation}, {"for_long", for_long}, {"_hostile", hostile_role}};
CHECK_MAIN(cases)
