/* -- The line of those who wait at a socket that all have, as in core/src/worker/line.rs and core/src/tally.rs ----- */

/* From here on only this thread changes the place in the line. 0: another does, and `patient` is 0. */
CL__FN int cl__hold_line(struct cl__listener *listener, int patient) {
    while (__atomic_exchange_n(&listener->lining, 1, __ATOMIC_ACQUIRE)) {
        if (!patient) return 0;
        sched_yield();
    }
    return 1;
}
CL__FN void cl__let_line(struct cl__listener *listener) { __atomic_store_n(&listener->lining, 0, __ATOMIC_RELEASE); }

/* The descriptor of the socket that has the entry, or the one that has not. */
CL__FN int cl__in_line(struct cl__listener *listener, int is_other) {
    return is_other ? listener->other : listener->socket;
}

/* 0: it waits in this epoll from here on, at the end of the line, and nowhere else. Otherwise, with errno, it waits where
 * it did. */
CL__FN int cl__enter_line(struct cl__listener *listener, int epoll, unsigned long long data) {
    const unsigned events = EPOLLIN | EPOLLEXCLUSIVE;
    (void)cl__hold_line(listener, 1);
    int before = listener->line, had = cl__in_line(listener, listener->is_other);
    if (before >= 0) epoll_ctl(before, EPOLL_CTL_DEL, had, NULL);
    int failed = cl__watch_with(epoll, listener->socket, events, data), why = errno;
    if (!failed) {
        listener->is_other = 0;
        listener->line_data = data;
        cl__set(&listener->line, epoll);
    } else if (before >= 0 && cl__watch_with(before, had, events, listener->line_data)) {
        cl__set(&listener->line, -1);
    }
    cl__let_line(listener);
    errno = why;
    return failed;
}

CL__FN void cl__leave_line(struct cl__listener *listener) {
    (void)cl__hold_line(listener, 1);
    if (listener->line >= 0) epoll_ctl(listener->line, EPOLL_CTL_DEL, cl__in_line(listener, listener->is_other), NULL);
    cl__set(&listener->line, -1);
    cl__let_line(listener);
}

/* To the end of the line, in this order: an entry that is deleted takes a wake-up for another thread with it, and one that
 * is added looks whether somebody waits. */
CL__FN void cl__go_behind(struct cl__listener *listener) {
    if (listener->other < 0 || !cl__hold_line(listener, 0)) return; /* another thread does the same */
    int next = cl__in_line(listener, !listener->is_other), now = cl__in_line(listener, listener->is_other);
    if (listener->line >= 0) {
        epoll_ctl(listener->line, EPOLL_CTL_DEL, now, NULL);
        if (!cl__watch_with(listener->line, next, EPOLLIN | EPOLLEXCLUSIVE, listener->line_data) || errno == EEXIST)
            listener->is_other = !listener->is_other;
        else
            (void)cl__watch_with(listener->line, now, EPOLLIN | EPOLLEXCLUSIVE, listener->line_data);
    }
    cl__let_line(listener);
}

/* Counts a connection that was taken. True: by that this worker has had its part, and others come first now. One that has
 * fallen far behind, as it was stopped, has no more than 1024 made up for. */
CL__FN int cl__has_had_its_part(struct cl__listener *listener) {
#if __GCC_ATOMIC_LLONG_LOCK_FREE == 2
    unsigned long long *taken = (unsigned long long *)(void *)listener->page;
    unsigned *parts = (unsigned *)(void *)(listener->page + 64), *round = parts + 1;
    unsigned now = __atomic_load_n(round, __ATOMIC_ACQUIRE);
    if (__atomic_exchange_n(&listener->round, now, __ATOMIC_RELAXED) != now)
        __atomic_store_n(&listener->took, 0, __ATOMIC_RELAXED);
    unsigned long long all = __atomic_add_fetch(taken, 1, __ATOMIC_RELAXED);
    unsigned long long own = __atomic_add_fetch(&listener->took, 1, __ATOMIC_RELAXED);
    unsigned shares = __atomic_load_n(parts, __ATOMIC_RELAXED);
    if (shares == 0) shares = 1;
    unsigned long long mean = all / shares;
    if (mean > 1024 && own < mean - 1024) __atomic_store_n(&listener->took, mean - 1024, __ATOMIC_RELAXED);
    return own >= mean + (all % shares != 0);
#else
    (void)listener;
    return 0;
#endif
}

/* After a call that ended in this result. Who was asked to leave is not woken any more. Who is short of descriptors may
 * have been the only one to be woken, so it wakes the others. */
CL__FN void cl__stand_back(struct cl__listener *listener, int result) {
    if (result == -ESHUTDOWN) cl__leave_line(listener);
    if (result != -EMFILE && result != -ENFILE && !cl__is_short_of_memory(-result)) return;
    cl__go_behind(listener);
    if (cl__get(&listener->line) >= 0) shutdown(listener->socket, SHUT_WR); /* of one that listens it only wakes who waits */
}

/* What the grant of a listener in rotation has brought is put to use. A program that waits by itself may wait for our
 * epoll in one of its own. There an exclusive entry would wake everybody, so it comes in line by cl_listener_watch only. */
CL__FN int cl__take_part(struct cl__listener *listener) {
    if (listener->page == NULL) return cl__say(-ENOMEM, "the page of an address cannot be mapped");
    listener->other = fcntl(listener->socket, CL__F_DUPFD_CLOEXEC, 3);
    if (listener->other < 0) return cl__os("duplicating a listening socket");
    if (listener->flags & CL_LISTEN_NONBLOCK) return 0;
    if (cl__enter_line(listener, listener->fd, cl__data_of(listener->socket))) return cl__os("epoll");
    /* Without a primary the next call says so. */
    (void)cl__frame(CL__SEAT, 0, &listener->number, sizeof listener->number, NULL, 0);
    return 0;
}
