/* -- The primary's death ------------------------------------------------------------------------------------------- */

/* When the primary dies, whoever polls sees end of file and our calls return -EPIPE. A worker that does neither is
 * ended within a second: a handler or a busy loop must not keep an orphan alive. */
CL__FN void *cl__watch(void *unused) {
    (void)unused;
    int dead = 0;
    while ((dead = cl__await_death(-1)) == 0) poll(NULL, 0, 100);
    if (dead < 0) return NULL;
    cl__set(&cl__this()->gone, 1);
    cl__end_shares();
    shutdown(cl__this()->channel, SHUT_RD);
    shutdown(cl__this()->grants, SHUT_RD);
    poll(NULL, 0, 700);
    /* Connections that nobody took would stay open in a child of this process that has copies of the mailboxes. */
    for (int i = 0; i < cl__get(&cl__this()->places); i++) {
        struct cl__listener *listener = &cl__this()->listeners[i];
        char parcel[8 + sizeof(struct sockaddr_storage)];
        int fd;
        while (cl__get(&listener->state) == CL__OPEN && listener->kind != CL__BOUND &&
               cl__packet_at_once(listener->mailbox, parcel, sizeof parcel, NULL, 0, &fd, 1, MSG_CMSG_CLOEXEC) > 0)
            cl__close_fd(fd);
    }
    raise(SIGKILL);
    return NULL;
}

/* Starts the watch in an order that leaves no gap: until the thread runs, the kernel kills this worker with its
 * primary. Where no thread can be made, it stays at that. */
CL__FN void cl__start_watch(void) {
    sigset_t every, before;
    pthread_attr_t attributes;
    pthread_t thread;
    if (!cl__weak_thread || !cl__weak_stacksize || pthread_attr_init(&attributes) != 0) return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    cl__weak_stacksize(&attributes, 64 * 1024);
    /* The thread inherits the mask, so it never runs a handler of the program's. */
    cl__os_sigfillset(&every);
    cl__os_sigprocmask(CL__SIG_SETMASK, &every, &before);
    int failed = cl__weak_thread(&thread, &attributes, cl__watch, NULL);
    for (int failures = 0; failed == EAGAIN && failures < 8; failures++) {
        cl__pause(failures);
        failed = cl__weak_thread(&thread, &attributes, cl__watch, NULL);
    }
    /* The program's thread-local variables count as stack, and may need more. */
    if (failed == EINVAL && cl__weak_stacksize(&attributes, 8 * 1024 * 1024) == 0)
        failed = cl__weak_thread(&thread, &attributes, cl__watch, NULL);
    cl__os_sigprocmask(CL__SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (!failed) fcntl(cl__this()->lifeline, __F_SETSIG, SIGCONT);
}
