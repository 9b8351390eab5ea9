/* The world of a host program, as far as a library could change it behind the program's back. */
#ifndef WORLD_H
#define WORLD_H

#include "../../c/primary.h"
#include <locale.h>
#include <sys/time.h>

typedef struct {
    struct sigaction actions[65];
    sigset_t mask;
    stack_t signal_stack;
    mode_t umask;
    char folder[PATH_MAX], name[32], locale[64];
    char **environment;
    unsigned long environment_sum;
    struct stat standard[3];
    int standard_flags[3], standard_status[3];
    struct itimerval timers[3];
    struct rlimit limits[RLIM_NLIMITS];
    int priority, subreaper, death_signal, dumpable, no_new_privileges, threads;
} world_t;

extern char **environ;

static inline int count_threads(void) {
    int count = 0;
    DIR *folder = opendir("/proc/self/task");
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

static inline void look_at_world(world_t *world) {
    memset(world, 0, sizeof *world);
    for (int number = 1; number < 65; number++) (void)sigaction(number, NULL, &world->actions[number]);
    SYS(sigprocmask(SIG_SETMASK, NULL, &world->mask));
    SYS(sigaltstack(NULL, &world->signal_stack));
    umask(world->umask = umask(077));
    CHECK(getcwd(world->folder, sizeof world->folder) != NULL);
    SYS(prctl(PR_GET_NAME, world->name));
    snprintf(world->locale, sizeof world->locale, "%s", setlocale(LC_ALL, NULL));
    world->environment = environ;
    for (char **entry = environ; *entry != NULL; entry++)
        for (char *at = *entry; *at != '\0'; at++) world->environment_sum = world->environment_sum * 31 + (unsigned char)*at;
    for (int fd = 0; fd < 3; fd++) {
        SYS(fstat(fd, &world->standard[fd]));
        world->standard_flags[fd] = fcntl(fd, F_GETFD);
        world->standard_status[fd] = fcntl(fd, F_GETFL);
    }
    for (int which = 0; which < 3; which++) SYS(getitimer((__itimer_which_t)which, &world->timers[which]));
    for (int which = 0; which < RLIM_NLIMITS; which++) SYS(getrlimit((__rlimit_resource_t)which, &world->limits[which]));
    world->priority = getpriority(PRIO_PROCESS, 0);
    SYS(prctl(PR_GET_CHILD_SUBREAPER, &world->subreaper));
    SYS(prctl(PR_GET_PDEATHSIG, &world->death_signal));
    world->dumpable = SYS(prctl(PR_GET_DUMPABLE));
    world->no_new_privileges = SYS(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    world->threads = count_threads();
}

/* How many dispositions differ; each difference is named unless it may be. */
static inline int expect_world(const world_t *was, int stop_signals_may_differ) {
    world_t is;
    int differing = 0;
    look_at_world(&is);
    for (int number = 1; number < 65; number++) {
        const struct sigaction *before = &was->actions[number], *now = &is.actions[number];
        if (before->sa_handler == now->sa_handler && plain_flags(before) == plain_flags(now) &&
            memcmp(&before->sa_mask, &now->sa_mask, 8) == 0)
            continue;
        differing++;
        if (!stop_signals_may_differ || (number != SIGTERM && number != SIGINT))
            check_fail(__FILE__, __LINE__, "the disposition of signal %d has changed", number);
    }
    for (int number = 1; number < 65; number++) CHECK_EQ(sigismember(&is.mask, number), sigismember(&was->mask, number));
    CHECK_EQ(is.signal_stack.ss_flags, was->signal_stack.ss_flags);
    CHECK(is.signal_stack.ss_sp == was->signal_stack.ss_sp);
    CHECK_EQ(is.umask, was->umask);
    CHECK(strcmp(is.folder, was->folder) == 0);
    CHECK(strcmp(is.name, was->name) == 0);
    CHECK(strcmp(is.locale, was->locale) == 0);
    CHECK(is.environment == was->environment);
    CHECK_EQ(is.environment_sum, was->environment_sum);
    for (int fd = 0; fd < 3; fd++) {
        CHECK_EQ(is.standard[fd].st_ino, was->standard[fd].st_ino);
        CHECK_EQ(is.standard_flags[fd], was->standard_flags[fd]);
        CHECK_EQ(is.standard_status[fd], was->standard_status[fd]);
        /* Nothing was printed: what all processes of a case say goes to one file. */
        if (S_ISREG(is.standard[fd].st_mode)) CHECK_EQ(is.standard[fd].st_size, was->standard[fd].st_size);
    }
    CHECK(memcmp(is.timers, was->timers, sizeof is.timers) == 0);
    CHECK(memcmp(is.limits, was->limits, sizeof is.limits) == 0);
    CHECK_EQ(is.priority, was->priority);
    CHECK_EQ(is.subreaper, was->subreaper);
    CHECK_EQ(is.death_signal, was->death_signal);
    CHECK_EQ(is.dumpable, was->dumpable);
    CHECK_EQ(is.no_new_privileges, was->no_new_privileges);
    CHECK_EQ(is.threads, was->threads);
    return differing;
}

#endif
