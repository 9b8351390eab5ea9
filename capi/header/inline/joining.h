/* -- Becoming a worker --------------------------------------------------------------------------------------------- */

/* A variable of the primary's as a number, or -1. Always removed: no program started from here is to believe it. */
CL__FN int cl__variable(const char *name) {
    const char *text = getenv(name);
    char *end = NULL;
    long value = text != NULL && text[0] >= '0' && text[0] <= '9' ? strtol(text, &end, 10) : -1;
    if (value < 0 || *end != '\0' || value > 0x7fffffff) value = -1;
    if (text != NULL) cl__os_unsetenv(name);
    return (int)value;
}

/* Whether a HELLO for just this worker waits in the descriptor. "Nothing there" is believed only the second time: a
 * worker that takes itself for none would start workers. */
CL__FN int cl__is_channel(int fd, int id, int slot, unsigned char *hello) {
    struct sockaddr_storage name;
    socklen_t name_length = sizeof name, type_length = sizeof(int);
    int type = 0;
    if (getsockname(fd, (struct sockaddr *)&name, &name_length) != 0 || name.ss_family != AF_UNIX) return 0;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) != 0 || type != SOCK_SEQPACKET) return 0;
    int n = cl__packet(fd, hello, 64, NULL, 0, NULL, 0, MSG_PEEK);
    if (n == -EAGAIN) n = cl__packet(fd, hello, 64, NULL, 0, NULL, 0, MSG_PEEK);
    return n == 40 && cl__type(hello, 40) == CL__HELLO && memcmp(hello + 2, "\0\0\0\0\0\0libclust", 14) == 0 &&
           cl__number(hello + 20) == (unsigned)id && cl__number(hello + 24) == (unsigned)slot;
}

/* Takes what HELLO brought and answers it. 0, or -errno and `step` says what failed; 1: another process has taken it.
 * From the HELLO on this process is a worker for good, and each of its calls says what failed here. */
CL__FN int cl__join(int fd, const unsigned char *seen) {
    unsigned char hello[64];
    int fds[4];
    unsigned online[2] = {CL__PROTOCOL, (unsigned)getpid()};
    cl__this()->step = "receiving the hello";
    int n = cl__packet(fd, hello, sizeof hello, NULL, 0, fds, 4, MSG_CMSG_CLOEXEC);
    if (n == -EAGAIN) n = cl__packet(fd, hello, sizeof hello, NULL, 0, fds, 4, MSG_CMSG_CLOEXEC);
    /* Another process may hold the channel and be as quick; only one of the two receives the HELLO. */
    if (n == -EAGAIN || (n >= 0 && (n != 40 || memcmp(seen, hello, 40) != 0))) {
        for (int i = 0; n >= 0 && i < 4; i++) cl__close_fd(fds[i]);
        return 1;
    }
    if (n < 0) return n;
    if (fds[2] < 0) {
        cl__this()->step = "receiving the hello, which came without its descriptors, as the process has too many open";
        for (int i = 0; i < 4; i++) cl__close_fd(fds[i]);
        return -EMFILE;
    }
    cl__this()->channel = fd;
    cl__this()->grants = fds[0];
    cl__this()->lifeline = fds[1];
    cl__this()->primary = fds[2];
    cl__this()->step = "making the channel close-on-exec";
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        int code = -errno;
        for (int i = 0; i < 4; i++) cl__close_fd(fds[i]);
        return code;
    }
    cl__this()->pipe = cl__pipe_inode(fds[2]);
    cl__this()->version = cl__number(hello + 16);
    if (cl__this()->version == CL__PROTOCOL) cl__this()->board = cl__map(fds[3]);
    else cl__close_fd(fds[3]);
    cl__start_watch();
    unsigned offers = (unsigned)CL__OFFERS_OPTIONS | (unsigned)CL__OFFERS_ROTATION | (unsigned)CL__OFFERS_HAND_BACK;
    (void)cl__frame(CL__ONLINE, offers, online, sizeof online, hello + 32, 8); /* with the nonce of the HELLO */
    return 0;
}

/* Becomes the worker that the environment names, if the descriptor named there proves to be its channel. Otherwise
 * nothing changes, but a process whose environment says that it was started as a worker may start none. */
CL__FN void cl__adopt(void) {
    int told = getenv("CL_WORKER_ID") != NULL || getenv("CL_WORKER_SLOT") != NULL || getenv("CL_CHANNEL_FD") != NULL;
    int id = cl__variable("CL_WORKER_ID"), slot = cl__variable("CL_WORKER_SLOT"), fd = cl__variable("CL_CHANNEL_FD");
    int holds = cl__variable("CL_WORKER_SIGNALS") == 1;
    int was = cl__variable("CL_WORKER_PROCESS");
    unsigned char seen[64];
    char own[16];
    if (getauxval(AT_SECURE)) return;
    /* A worker that has replaced its program by exec(3). A child of it has another pid. */
    if (!told && was == (int)getpid()) cl__this()->stray = 2;
    if (!told) return;
    cl__this()->stray = 1;
    if (id < 1 || slot < 0 || fd < 0 || !cl__is_channel(fd, id, slot, seen)) return;
    int code = cl__join(fd, seen);
    if (code > 0) return;
    cl__this()->stray = 0;
    snprintf(own, sizeof own, "%d", (int)getpid());
    cl__os_setenv("CL_WORKER_PROCESS", own, 1);
    if (code < 0)
        snprintf(cl__this()->why, sizeof cl__this()->why, "this worker could not join its primary: %s: %s", cl__this()->step,
                 cl_strerror(code));
    else if (cl__this()->version != CL__PROTOCOL) {
        code = CL_EVERSION;
        snprintf(cl__this()->why, sizeof cl__this()->why,
                 "the primary speaks version %u of the protocol and this worker version %d", cl__this()->version, CL__PROTOCOL);
    }
    cl__this()->unjoined = code;
    cl__this()->slot = slot;
    cl__this()->worker_id = id;
    if ((code == 0 || code == CL_EVERSION) && holds) cl__hold_signals();
}

CL__FN int cl__begin(void) {
    pthread_mutex_lock(&cl__this()->begin);
    if (cl__this()->member == NULL) {
        void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | CL__MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) {
            pthread_mutex_unlock(&cl__this()->begin);
            return cl__say(-ENOMEM, "no memory is left");
        }
        if (cl__os_madvise(page, 4096, CL__MADV_WIPEONFORK) != 0) cl__this()->unwiped = (int)getpid();
        *(unsigned char *)page = 1;
        cl__adopt();
        __atomic_store_n(&cl__this()->member, (unsigned char *)page, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&cl__this()->begin);
    return 0;
}

/* What every call does first: finds out once what this process is, and at the price of one memory read whether it still
 * is that process. getpid(2) would be a system call for each connection. */
CL__FN int cl__enter(void) {
    if (__atomic_load_n(&cl__agreed, __ATOMIC_ACQUIRE) == NULL) cl__agree();
    unsigned char *page = __atomic_load_n(&cl__this()->member, __ATOMIC_ACQUIRE);
    if (page == NULL) return cl__begin();
    if (cl__is_member(page)) return 0;
    return cl__say(-ECHILD, "this process was made by fork(2) or daemon(3) after the first cl_ call, not by cl_fork, and is no member "
                            "of the cluster; call daemon(3) before the first cl_ call, or let the service manager put the program "
                            "into the background");
}

/* The same for what only a worker can do. */
CL__FN int cl__enter_worker(void) {
    int code = cl__enter();
    if (code == 0 && cl__this()->worker_id == 0) return cl__say(-EPERM, "only a worker can do this");
    return code == 0 && cl__this()->unjoined < 0 ? cl__say(cl__this()->unjoined, cl__this()->why) : code;
}

#define CL__WHO(name, value) \
    CL__FN int cl__##name(void) { \
        int code = cl__enter(); \
        return code < 0 ? code : (value); \
    }
CL__WHO(is_primary, cl__this()->worker_id == 0)
CL__WHO(is_worker, cl__this()->worker_id != 0)
CL__WHO(worker_id, cl__this()->worker_id)
CL__WHO(worker_slot, cl__this()->worker_id != 0 ? cl__this()->slot : -1)
#undef CL__WHO
