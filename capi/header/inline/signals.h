/* -- A group's signals, as in core/src/sys/worker_signals.rs, which says why --------------------------------------- */

#if defined(SO_PEERCRED)
#define CL__SO_PEERCRED SO_PEERCRED
#elif defined(__powerpc__)
#define CL__SO_PEERCRED 21
#else
#define CL__SO_PEERCRED 17
#endif

/* glibc's struct sigaction, which it hides under -std=c99. */
struct cl__action {
#if defined(__mips__)
    int flags;
    void (*handler)(int, void *, void *);
    sigset_t mask;
#elif defined(__s390x__)
    void (*handler)(int, void *, void *);
    int reserved, flags;
    void (*restorer)(void);
    sigset_t mask;
#else
    void (*handler)(int, void *, void *);
    sigset_t mask;
    int flags;
    void (*restorer)(void);
#endif
    int room[4];
};
enum { CL__SIGHUP = 1, CL__SA_FLAGS = 0x10000000 | 0x08000000 | 4 }; /* SA_RESTART, SA_ONSTACK, SA_SIGINFO */
#if defined(__mips__)
#define CL__SIG_UNBLOCK 2
#else
#define CL__SIG_UNBLOCK 1
#endif

CL__FN int cl__held(int index) { return index == 0 ? SIGTERM : index == 1 ? SIGINT : CL__SIGHUP; }

/* Asks the primary to be disconnected; 0: there is no channel. Async-signal-safe, and leaves last errors alone. */
CL__FN int cl__ask_to_leave(void) {
    unsigned short frame[4] = {CL__DISCONNECT, 0, 0, 0};
    const unsigned by_signal = 1;
    memcpy(frame + 2, &by_signal, sizeof by_signal);
    for (;;) {
        if (send(cl__this()->channel, frame, sizeof frame, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return 1;
        if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) return 1;
        if (errno == EAGAIN) cl__wait(cl__this()->channel, POLLOUT, -1, -1);
        else if (cl__is_short_of_memory(errno)) cl__pause(4);
        else if (errno != EINTR) return 0;
    }
}

CL__FN void cl__on_signal(int number, void *info, void *context) {
    int kept = errno, code = ((int *)info)[2], sender = ((int *)info)[sizeof(void *) == 8 ? 4 : 3];
    int sent = code == 0 || code == -1 || code == -6; /* SI_USER, SI_QUEUE, SI_TKILL */
    (void)context;
    int primary = cl__get(&cl__this()->sender);
    sent = sent && sender == primary && (primary != 0 || __atomic_exchange_n(&cl__this()->outside, 1, __ATOMIC_SEQ_CST));
    if (getpid() != cl__get(&cl__this()->self) || sent || !cl__ask_to_leave()) {
        sigset_t only;
        struct cl__action action;
        memset(&action, 0, sizeof action); /* SIG_DFL */
        memset(&only, 0, sizeof only);
        cl__os_sigaddset(&only, number);
        cl__os_sigaction(number, &action, NULL);
        raise(number);
        cl__os_sigprocmask(CL__SIG_UNBLOCK, &only, NULL);
    }
    errno = kept;
}

CL__FN void cl__hold_signals(void) {
    int primary[3] = {0, 0, 0}; /* struct ucred */
    socklen_t length = sizeof primary;
    struct cl__action action;
    sigset_t ours;
    if (getsockopt(cl__this()->channel, SOL_SOCKET, CL__SO_PEERCRED, primary, &length) != 0) return;
    cl__set(&cl__this()->sender, primary[0]);
    cl__set(&cl__this()->self, (int)getpid());
    memset(&ours, 0, sizeof ours);
    for (int i = 0; i < 3; i++) {
        memset(&action, 0, sizeof action);
        if (cl__os_sigaction(cl__held(i), NULL, &action) != 0 || action.handler != NULL) continue;
        memset(&action, 0, sizeof action);
        action.handler = cl__on_signal;
        action.flags = CL__SA_FLAGS;
        for (int j = 0; j < 3; j++) cl__os_sigaddset(&action.mask, cl__held(j));
        if (cl__os_sigaction(cl__held(i), &action, NULL) == 0) cl__os_sigaddset(&ours, cl__held(i));
    }
    cl__os_sigprocmask(CL__SIG_UNBLOCK, &ours, NULL);
}
