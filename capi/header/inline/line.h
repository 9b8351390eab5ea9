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

/* 0: its entry is in the epoll `place`, or still is, as it could not be deleted. `lining` is held. */
CL__FN int cl__stand(struct cl__listener *listener) {
    int failed = cl__watch_with(listener->place, listener->socket, EPOLLIN | EPOLLEXCLUSIVE, listener->line_data);
    if (failed && errno == EEXIST) failed = 0;
    cl__set(&listener->fallen, failed != 0);
    cl__set(&listener->line, failed ? -1 : listener->place);
    return failed;
}

/* 0: it waits in this epoll from here on, at the end of the line, and nowhere else. Otherwise, with errno, it waits where
 * it did. */
CL__FN int cl__enter_line(struct cl__listener *listener, int epoll, unsigned long long data) {
    (void)cl__hold_line(listener, 1);
    int before = listener->place;
    unsigned long long told = listener->line_data;
    if (before >= 0) epoll_ctl(before, EPOLL_CTL_DEL, listener->socket, NULL);
    listener->place = epoll;
    listener->line_data = data;
    if (cl__get(&listener->waits)) {
        cl__let_line(listener);
        return 0;
    }
    int failed = cl__stand(listener), why = errno;
    if (failed) {
        cl__set(&listener->fallen, 0);
        listener->place = before;
        listener->line_data = told;
        if (before >= 0) (void)cl__stand(listener);
    }
    cl__let_line(listener);
    errno = why;
    return failed;
}

CL__FN void cl__leave_line(struct cl__listener *listener) {
    (void)cl__hold_line(listener, 1);
    if (listener->place >= 0) epoll_ctl(listener->place, EPOLL_CTL_DEL, listener->socket, NULL);
    listener->place = -1;
    cl__set(&listener->line, -1);
    cl__set(&listener->fallen, 0);
    cl__let_line(listener);
}

/* The primary learns whether it accepts in rotation, if that is something new. While `fallen` or in line only a thread
 * that uses the listener calls this, so no close comes before. */
CL__FN int cl__tell_place(struct cl__listener *listener) {
    int within = cl__get(&listener->line) >= 0;
    if (listener->page == NULL || __atomic_exchange_n(&listener->seated, within, __ATOMIC_SEQ_CST) == within) return 0;
    return cl__frame(within ? CL__SEAT : CL__UNSEAT, 0, &listener->number, sizeof listener->number, NULL, 0);
}

/* The primary has said that this worker has turns from here on: it enters where it was to. */
CL__FN void cl__begin_turns(struct cl__listener *listener) {
    (void)cl__hold_line(listener, 1);
    int waited = __atomic_exchange_n(&listener->waits, 0, __ATOMIC_SEQ_CST);
    if (waited && listener->place >= 0) (void)cl__stand(listener);
    cl__let_line(listener);
    if (waited) (void)cl__tell_place(listener); /* without a primary the next call says so */
}

/* 1: it has fallen out of the line, and there is memory now, so it stands there again. */
CL__FN int cl__come_back(struct cl__listener *listener) {
    (void)cl__hold_line(listener, 1);
    int back = listener->place >= 0 && listener->line < 0 && !cl__get(&listener->waits) && cl__stand(listener) == 0;
    cl__let_line(listener);
    return back;
}

/* To the end of the line, in this order: an entry that is deleted takes a wake-up for another thread with it, and one that
 * is added looks whether somebody waits. */
CL__FN void cl__go_behind(struct cl__listener *listener) {
    if (listener->page == NULL || !cl__hold_line(listener, 0)) return; /* another thread does the same */
    if (listener->line >= 0) {
        epoll_ctl(listener->line, EPOLL_CTL_DEL, listener->socket, NULL);
        if (cl__stand(listener)) (void)cl__stand(listener);
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
    if (result == -ESHUTDOWN) {
        cl__leave_line(listener);
        cl__set(&listener->seated, 0); /* the primary does not count on it any more */
    }
    if (result != -EMFILE && result != -ENFILE && !cl__is_short_of_memory(-result)) return;
    cl__go_behind(listener);
    if (cl__get(&listener->line) >= 0) shutdown(listener->socket, SHUT_WR); /* of one that listens it only wakes who waits */
}

/* What the grant of a listener in rotation has brought is put to use. A program that waits by itself may wait for our
 * epoll in one of its own. There an exclusive entry would wake everybody, so it comes in line by cl_listener_watch only. */
CL__FN int cl__take_part(struct cl__listener *listener) {
    if (listener->flags & CL_LISTEN_NONBLOCK) return 0;
    if (cl__enter_line(listener, listener->fd, cl__data_of(listener->socket))) return cl__os("epoll");
    (void)cl__tell_place(listener); /* without a primary the next call says so */
    return 0;
}
