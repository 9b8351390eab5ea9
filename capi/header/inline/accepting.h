/* -- Accepting ----------------------------------------------------------------------------------------------------- */

/* The listener of that number, counted in `users`; NULL: none of ours. It needs no lock: a place in the table is never
 * freed, and whoever closes it waits for those inside. */
CL__FN struct cl__listener *cl__hold(int fd) {
    unsigned char *page = __atomic_load_n(&cl__this()->member, __ATOMIC_ACQUIRE);
    if (page == NULL || !cl__is_member(page) || fd < 0) return NULL;
    for (int i = 0; i < cl__get(&cl__this()->places); i++) {
        struct cl__listener *listener = &cl__this()->listeners[i];
        if (cl__get(&listener->fd) != fd || cl__get(&listener->state) != CL__OPEN) continue;
        cl__add(&listener->users, 1);
        if (cl__get(&listener->state) == CL__OPEN && cl__get(&listener->fd) == fd) return listener;
        cl__add(&listener->users, -1);
    }
    return NULL;
}

CL__FN int cl__no_listener(int fd) {
    int code = cl__enter();
    return code < 0 ? code : cl__fail(-EBADF, "descriptor %d is no listener", fd);
}

/* As accept(2) does: as much as there is room for, and the length of the whole. */
CL__FN void cl__give_name(struct sockaddr *to, socklen_t *room, const void *name, socklen_t length) {
    memcpy(to, name, length < *room ? length : *room);
    *room = length;
}

/* accept4(2), going on after errors of a single connection (there under "Error handling"). */
CL__FN int cl__accept_socket(int socket, struct sockaddr *peer, socklen_t *length, int flags) {
    socklen_t room = length != NULL ? *length : 0;
    /* No client can cause so many in a row; after that it is time to look at something else. */
    for (int failures = 0; failures < 16; failures++) {
        int fd = cl__os_accept4(socket, peer, length, flags);
        if (fd >= 0) return cl__high_connection(fd, flags & SOCK_CLOEXEC);
        if (length != NULL) *length = room;
        switch (errno) {
        case EAGAIN: return -EAGAIN;
        case EINTR: case ECONNABORTED: case EPERM: case EPROTO: case ENOPROTOOPT: break;
        case ENETDOWN: case ENETUNREACH: case EHOSTDOWN: case EHOSTUNREACH: case ENONET: case ETIMEDOUT: break;
        case EOPNOTSUPP: break;
        default: return cl__os("accept");
        }
    }
    cl__pause(5);
    return -EAGAIN;
}

/* At most 20 ms ago. 0: never. */
CL__FN int cl__is_recent(int time, int now) {
    return time != 0 && (((unsigned)now - (unsigned)time) & 0x7fffffff) < 20;
}

/* Where the upper half of the numbers begins, if there are 1024 and none of some in that half is in use; 0: perhaps. */
CL__FN int cl__upper_half(void) {
    unsigned long limits[2] = {0, 0};
    if (cl__os_syscall(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE */, NULL, limits) != 0 || sizeof(long) < 8) return 0;
    int limit = limits[0] > 0x7fffffff ? 0x7fffffff : (int)limits[0], half = limit / 2;
    if (limit < 1024) return 0;
    for (int i = 0; i < 8; i++)
        if (fcntl(limit - 1 - (limit - half - 1) / 7 * i, F_GETFD) >= 0) return 0;
    return half;
}

/* Whether a descriptor is free: a receive into a full table succeeds and loses the connection. Whoever receives many in
 * a short time asks once for those of 20 ms, while the table is nowhere near its limit (core/src/sys/room.rs). */
CL__FN int cl__room(struct cl__listener *listener) {
    int now = (int)(cl__now_ms() & 0x7fffffff);
    if (cl__is_recent(cl__get(&listener->plenty), now)) return 0;
    int fd = fcntl(listener->mailbox, CL__F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return cl__os("a place for a connection");
    close(fd);
    if (!cl__is_recent(cl__get(&listener->asked_since), now)) {
        cl__set(&listener->asked_since, now);
        cl__set(&listener->asked, 0);
    }
    int asked = cl__get(&listener->asked) + 1;
    cl__set(&listener->asked, asked);
    int half = asked >= 8 ? cl__upper_half() : 0;
    if (fd < half) cl__set(&listener->half, half);
    cl__set(&listener->plenty, fd < half ? now : 0);
    return 0;
}

/* Takes the next connection out of a mailbox; -EAGAIN: it is empty. Only one: what is received dies with us. */
CL__FN int cl__take(struct cl__listener *listener, struct sockaddr *peer, socklen_t *length, int flags) {
    unsigned char parcel[8 + sizeof(struct sockaddr_storage)];
    int n, type, fd, how = flags & SOCK_CLOEXEC ? MSG_CMSG_CLOEXEC : 0;
    for (;;) {
        if (cl__get(&listener->stopped)) return cl__asked_to_leave();
        if ((n = cl__room(listener)) < 0) return n;
        cl__add(&listener->receiving, 1);
        n = cl__packet_at_once(listener->mailbox, parcel, sizeof parcel, NULL, 0, &fd, 1, how);
        type = cl__type(parcel, n);
        if (type == CL__STOP) {
            cl__set(&listener->stopped, 1);
            shutdown(listener->mailbox, SHUT_RD); /* one thread takes the STOP; end of file wakes the others */
        }
        cl__add(&listener->receiving, -1);
        if (type == CL__BEGIN) cl__begin_turns(listener);
        if (type == CL__CONNECTION && fd >= 0) {
            if (fd >= cl__get(&listener->half)) cl__set(&listener->plenty, 0);
            if (flags & SOCK_NONBLOCK) fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
            if (peer != NULL && n > 8) cl__give_name(peer, length, parcel + 8, (socklen_t)n - 8);
            else if (peer != NULL) getpeername(fd, peer, length);
            return fd;
        }
        cl__close_fd(fd);
        if (type == CL__CONNECTION)
            return cl__say(-EMFILE, "a connection was lost: another thread took the last descriptor at that moment");
        if (n == -EAGAIN) return cl__get(&cl__this()->gone) ? cl__primary_gone() : -EAGAIN;
        if (n < 0) return cl__fail(n, "the mailbox: %s", cl_strerror(n));
        if (n > 0) continue;
        /* End of file: behind a STOP, or because the primary is gone. Another thread may have taken the STOP and not
         * said so yet. It did so before us, so it is enough to wait for those inside. */
        while (cl__get(&listener->receiving) != 0) sched_yield();
        if (!cl__get(&listener->stopped)) return cl__primary_gone();
    }
}

/* This worker was asked to leave. Whoever comes to a socket that it bound itself is refused from here on; who had come
 * can still be accepted. Returns whether handshakes that had begun may still end, for 0.2 s. (In a SO_REUSEPORT group
 * others still get in while one socket of the group is open: the kernel chooses among all.) */
CL__FN int cl__shut_door(struct cl__listener *listener) {
    int nowhere = 0x7fffffff, now = (int)(cl__now_ms() & 0x7fffffff) | 1;
    if (listener->text != NULL && strncmp(listener->text, "fd:", 3) == 0) return 0;
    if (listener->name.ss_family == AF_UNIX) {
        if (cl__get(&listener->shut) == 0) shutdown(listener->socket, SHUT_RD);
        cl__set(&listener->shut, 1);
        return 0;
    }
    if (cl__get(&listener->shut) == 0) {
        setsockopt(listener->socket, SOL_SOCKET, 62 /* SO_BINDTOIFINDEX */, &nowhere, sizeof nowhere);
        cl__set(&listener->shut, now);
    }
    return (((unsigned)now - (unsigned)cl__get(&listener->shut)) & 0x7fffffff) < 200;
}

/* Waits for a reason to try again (0), or returns why there is none. `woken`: the shared socket was the reason. */
CL__FN int cl__wait_for_connection(struct cl__listener *listener, int *woken) {
    /* No STOP comes to a socket that the worker bound itself, so it looks for the request. */
    int bound = listener->kind == CL__BOUND && cl__this()->worker_id != 0, code = bound ? cl__leaving() : 0;
    int first = code == -ESHUTDOWN && cl__get(&listener->shut) == 0;
    if (code == -ESHUTDOWN && !(listener->flags & CL_LISTEN_NONBLOCK) && (cl__shut_door(listener) || first)) {
        cl__wait(listener->fd, POLLIN, listener->wake, 20);
        return cl__get(&listener->state) == CL__OPEN ? 0 : cl__say(-EBADF, "the listener was closed meanwhile");
    }
    if (code < 0) return code;
    if (listener->flags & CL_LISTEN_NONBLOCK) return cl__say(-EAGAIN, "no connection waits");
    cl__show(0);
    if (listener->kind == CL__SHARED) {
        struct epoll_event events[3]; /* poll(2) would wake all workers, despite EPOLLEXCLUSIVE */
        int n = epoll_wait(listener->fd, events, 3, -1);
        for (*woken = 0; n > 0; n--) *woken |= events[n - 1].data.fd == listener->socket;
    } else {
        struct pollfd fds[3] = {{listener->fd, POLLIN, 0}, {listener->wake, POLLIN, 0},
                                {bound ? cl__this()->grants : -1, POLLIN, 0}};
        cl__poll(fds, 3, -1);
    }
    return cl__get(&listener->state) == CL__OPEN ? 0 : cl__say(-EBADF, "the listener was closed meanwhile");
}

/* Looking in vain costs system calls. A program that is faster than its clients finds nothing at each call, so after one
 * that did the next ones wait first. */
CL__FN int cl__expects_nothing(struct cl__listener *listener) {
    int left = cl__get(&listener->empty);
    if (left <= 0 || (listener->flags & CL_LISTEN_NONBLOCK) || cl__get(&listener->watched) >= 0) return 0;
    cl__set(&listener->empty, left - 1);
    return 1;
}

CL__FN int cl__accept_any(struct cl__listener *listener, struct sockaddr *peer, socklen_t *length, int flags) {
    char any;
    int result = 0, woken = 0;
    /* The slot's own socket is tried first, and the mailbox now and then; so in rotation until the STOP. */
    int look = (!listener->own && (listener->page == NULL || cl__get(&listener->stopped))) ||
               __atomic_fetch_add(&listener->accepts, 1, __ATOMIC_RELAXED) % 16 == 0;
    if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC))
        return cl__fail(-EINVAL, "the accept flags %#x hold unknown bits", (unsigned)flags);
    if (peer != NULL && length == NULL) return cl__say(-EINVAL, "the peer's address needs a length");
    if (listener->kind == CL__DATAGRAM)
        return cl__say(-EOPNOTSUPP, "a datagram socket has no connections; receive from the descriptor itself");
    if (peer == NULL) length = NULL;
    /* A socket that is never empty must not hide that this worker is to leave. */
    if (listener->kind == CL__BOUND && cl__this()->worker_id != 0 && cl__leaving() == -ESHUTDOWN)
        (void)cl__shut_door(listener);
    if (cl__get(&listener->fallen) && cl__come_back(listener)) (void)cl__tell_place(listener);
    if (cl__expects_nothing(listener)) {
        result = cl__wait_for_connection(listener, &woken);
        look = 1;
    }
    while (result == 0) {
        /* In rotation and outside of the line there is only the mailbox, and before BEGIN. */
        int alone = listener->kind == CL__PASSED || (listener->page != NULL && cl__get(&listener->line) < 0) ||
                    cl__get(&listener->waits);
        result = -EAGAIN;
        /* The mailbox comes first, except before a connection that this thread alone was woken for: if it left on a
         * STOP instead, nobody else would know that a connection waits. */
        if (alone || (listener->kind == CL__SHARED && !woken && look &&
            (cl__get(&listener->stopped) || recv(listener->mailbox, &any, 1, MSG_PEEK | MSG_DONTWAIT) >= 0)))
            result = cl__take(listener, peer, length, flags);
        if (result >= 0) __atomic_store_n(&listener->accepts, 0, __ATOMIC_RELAXED); /* more may be there, from before */
        if (result == -EAGAIN && !alone) {
            result = cl__accept_socket(listener->socket, peer, length, flags);
            if (listener->page != NULL && result >= 0 && cl__has_had_its_part(listener)) cl__go_behind(listener);
            if (listener->kind == CL__SHARED && result == -EAGAIN) cl__set(&listener->empty, 8);
        }
        if (listener->own && (result == -ESHUTDOWN || result == -EINVAL)) {
            /* What waits in the slot's own socket is this worker's even behind a STOP. EINVAL: the primary has taken
             * the socket away, because this worker is no member any more. */
            if (result == -ESHUTDOWN) result = cl__accept_socket(listener->socket, peer, length, flags);
            if (result == -EINVAL && cl__get(&cl__this()->gone) && !cl__get(&listener->stopped))
                return cl__primary_gone(); /* it was shut down here, as others may have it */
            if (result == -EAGAIN || result == -EINVAL) result = cl__asked_to_leave();
        }
        if (result == -EINVAL && listener->kind == CL__SHARED && cl__get(&listener->state) == CL__OPEN) {
            /* Another worker has shut the shared socket down; the primary repairs that within a second. */
            struct pollfd mailbox = {listener->mailbox, POLLIN, 0};
            if (listener->flags & CL_LISTEN_NONBLOCK) return cl__say(-EAGAIN, "no connection waits");
            poll(&mailbox, 1, 20);
            woken = 0;
            look = 1;
            result = 0;
            continue;
        }
        if (result != -EAGAIN) break;
        result = look ? cl__wait_for_connection(listener, &woken) : 0;
        look = 1;
    }
    if (listener->kind == CL__SHARED && !listener->own) cl__stand_back(listener, result);
    if (cl__get(&listener->fallen)) (void)cl__tell_place(listener); /* without a primary the next call says so */
    return result;
}

CL__FN int cl__accept4(struct cl__listener *listener, int fd, struct sockaddr *peer, socklen_t *length, int flags) {
    int result = cl__accept_any(listener, peer, length, flags);
    (void)fd;
    /* Where descriptors or memory are short, the connection stays where it is. A program that simply tries again must
     * not spin: from the second consecutive failure the call pauses before it returns. */
    if (result == -EMFILE || result == -ENFILE || cl__is_short_of_memory(-result)) {
        int before = cl__get(&listener->shortages);
        cl__set(&listener->shortages, before < 7 ? before + 1 : 7);
        if (before > 0 && !(listener->flags & CL_LISTEN_NONBLOCK)) cl__pause(before + 1);
    } else if (cl__get(&listener->shortages) != 0) {
        cl__set(&listener->shortages, 0);
    }
    cl__show(result >= 0 && listener->granted);
    return result;
}
