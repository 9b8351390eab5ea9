/* -- The primary's death ------------------------------------------------------------------------------------------- */

CL__FN ino_t cl__pipe_inode(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 && (found.st_mode & CL__S_IFMT) == CL__S_IFIFO ? found.st_ino : 0;
}

/* When the primary dies, whoever polls sees end of file and our calls return -EPIPE. A worker that does neither is
 * ended within a second: a handler or a busy loop must not keep an orphan alive. */
CL__FN void *cl__watch(void *unused) {
    (void)unused;
    while (cl__wait(cl__this()->primary, POLLIN, -1, -1) < 1) poll(NULL, 0, 100);
    /* closefrom(3) in the program closes this descriptor too, and its number may mean anything by now. */
    if (cl__pipe_inode(cl__this()->primary) != cl__this()->pipe) return NULL;
    if (cl__this()->pipe == 0 && cl__os_syscall(SYS_pidfd_send_signal, cl__this()->primary, 0, NULL, 0) < 0 &&
        (errno == EBADF || errno == EINVAL))
        return NULL; /* signal 0 only checks that it is a pidfd */
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
