/* -- An epoll of the program's that tells of a listener ------------------------------------------------------------ */

/* Takes it out. (Closing would not do: others have copies.) A socket that takes no turns is our own epoll's again. The
 * caller has `watching` locked, or is the last that uses the listener. */
CL__FN void cl__end_watch(struct cl__listener *listener) {
    int epoll = listener->watched;
    if (listener->mailbox >= 0 && listener->kind != CL__DATAGRAM) epoll_ctl(epoll, EPOLL_CTL_DEL, listener->mailbox, NULL);
    if (listener->kind == CL__SHARED && !listener->own) {
        cl__leave_line(listener);
        if (listener->page == NULL && !cl__get(&listener->stopped))
            (void)cl__enter_line(listener, listener->fd, cl__data_of(listener->socket));
    } else if (listener->socket >= 0) {
        epoll_ctl(epoll, EPOLL_CTL_DEL, listener->socket, NULL);
    }
    cl__set(&listener->watched, -1);
    cl__close_fd(epoll);
}

/* 0: this epoll tells of everything that accept has something to say of. */
CL__FN int cl__begin_watch(struct cl__listener *listener, int epoll, unsigned long long data) {
    if (listener->kind == CL__BOUND) return cl__watch_with(epoll, listener->socket, EPOLLIN | EPOLLEXCLUSIVE, data);
    if (listener->kind == CL__DATAGRAM) return cl__watch_with(epoll, listener->socket, EPOLLIN, data);
    if (cl__watch_with(epoll, listener->mailbox, EPOLLIN, data)) return -1;
    if (listener->kind == CL__PASSED) return 0;
    if (!(listener->own ? cl__watch_with(epoll, listener->socket, EPOLLIN, data) : cl__enter_line(listener, epoll, data)))
        return 0;
    int why = errno;
    epoll_ctl(epoll, EPOLL_CTL_DEL, listener->mailbox, NULL);
    errno = why;
    return -1;
}

CL__FN int cl__listener_watch(struct cl__listener *listener, int fd, int epoll_fd, unsigned long long data) {
    int code = 0, epoll = fcntl(epoll_fd, CL__F_DUPFD_CLOEXEC, 3);
    (void)fd;
    if (epoll < 0 && errno == EBADF) return cl__fail(-EBADF, "%d is no descriptor", epoll_fd);
    if (epoll < 0) return cl__os("duplicating an epoll");
    pthread_mutex_lock(&cl__this()->watching);
    if (listener->watched >= 0)
        code = cl__say(-EEXIST, "the listener is watched already; end that first (cl_listener_unwatch)");
    else if (cl__begin_watch(listener, epoll, data))
        code = cl__os("epoll_ctl");
    if (code < 0) {
        cl__close_fd(epoll);
        (void)cl__tell_place(listener); /* it may stand elsewhere than before */
    } else {
        cl__set(&listener->watched, epoll);
        __atomic_store_n(&listener->accepts, 0, __ATOMIC_RELAXED);
        code = cl__tell_place(listener);
        if (code < 0) cl__end_watch(listener);
    }
    pthread_mutex_unlock(&cl__this()->watching);
    return code;
}

CL__FN int cl__listener_unwatch(struct cl__listener *listener, int fd) {
    int code = 0;
    (void)fd;
    pthread_mutex_lock(&cl__this()->watching);
    if (listener->watched < 0)
        code = cl__say(-ENOENT, "the listener is not watched");
    else
        cl__end_watch(listener);
    if (code == 0) code = cl__tell_place(listener);
    pthread_mutex_unlock(&cl__this()->watching);
    return code;
}
