/* -- Handing connections back, as in core/src/handback.rs and core/src/worker/leaving.rs --------------------------- */

/* What was accepted at `name` has the local name `local`. */
CL__FN int cl__is_at(const void *local, const void *name) {
    static const char by_descriptor[] = "/proc/self/fd/";
    struct sockaddr_in in[2];
    struct sockaddr_in6 in6[2];
    struct sockaddr_un un[2];
    struct in6_addr any;
    memcpy(&un[0], local, sizeof un[0]);
    memcpy(&un[1], name, sizeof un[1]);
    if (un[0].sun_family != un[1].sun_family) return 0;
    if (un[0].sun_family == AF_UNIX)
        return memcmp(un[0].sun_path, un[1].sun_path, sizeof un[0].sun_path) == 0 ||
               memcmp(un[0].sun_path, by_descriptor, sizeof by_descriptor - 1) == 0;
    if (un[0].sun_family == AF_INET) {
        memcpy(&in[0], local, sizeof in[0]);
        memcpy(&in[1], name, sizeof in[1]);
        return in[0].sin_port == in[1].sin_port &&
               (in[1].sin_addr.s_addr == 0 || in[0].sin_addr.s_addr == in[1].sin_addr.s_addr);
    }
    if (un[0].sun_family != AF_INET6) return 0;
    memset(&any, 0, sizeof any);
    memcpy(&in6[0], local, sizeof in6[0]);
    memcpy(&in6[1], name, sizeof in6[1]);
    return in6[0].sin6_port == in6[1].sin6_port &&
           (memcmp(&in6[1].sin6_addr, &any, sizeof any) == 0 ||
            memcmp(&in6[0].sin6_addr, &in6[1].sin6_addr, sizeof any) == 0);
}

/* 0: it is a connection that was accepted from this listener. */
CL__FN int cl__check_returned(struct cl__listener *listener, int connection) {
    struct sockaddr_storage local, peer;
    socklen_t length = sizeof(int);
    int kind = 0, listens = 0;
    memset(&local, 0, sizeof local);
    if (getsockopt(connection, SOL_SOCKET, SO_TYPE, &kind, &length) != 0) return cl__os("the connection");
    length = sizeof(int);
    if (getsockopt(connection, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) != 0) return cl__os("the connection");
    if (listens || kind != SOCK_STREAM)
        return cl__say(-EINVAL, "it is no connection; only what was accepted from this listener can be handed back");
    length = sizeof peer;
    if (getpeername(connection, (struct sockaddr *)(void *)&peer, &length) != 0)
        return cl__say(-EINVAL, "it is not connected, or its client has gone; close it");
    length = sizeof local;
    if (getsockname(connection, (struct sockaddr *)(void *)&local, &length) != 0) return cl__os("the connection");
    if (!cl__is_at(&local, &listener->name))
        return cl__say(-EINVAL, "it is a connection of another address; only what was accepted from this listener can be handed "
                                "back");
    return 0;
}

CL__FN int cl__nobody_takes_any(void) {
    return cl__say(-EOPNOTSUPP, "the primary takes no connections back from this worker: it was not asked to leave, or nobody "
                                "else serves the address");
}

/* Where connections are handed back. A peek is enough to have it; it stays for others who want to know. */
CL__FN int cl__find_returns(void) {
    unsigned char head[8];
    int fd = -1, n, found;
    pthread_mutex_lock(&cl__this()->asking);
    found = cl__this()->returns;
    if (found == 0) {
        n = cl__packet(cl__this()->grants, head, sizeof head, NULL, 0, &fd, 1, MSG_PEEK | MSG_CMSG_CLOEXEC);
        if (cl__type(head, n) == CL__RETURNS && fd >= 0) {
            found = cl__this()->returns = fd;
        } else {
            found = cl__type(head, n) == CL__RETURNS ? -EMFILE : -EOPNOTSUPP;
            cl__close_fd(fd);
        }
    }
    pthread_mutex_unlock(&cl__this()->asking);
    if (found == -EMFILE) return cl__say(-EMFILE, "no descriptor is free for where connections are handed back");
    return found < 0 ? cl__nobody_takes_any() : found;
}

CL__FN int cl__hand_back(struct cl__listener *listener, int fd, int connection) {
    (void)fd;
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    unsigned short kind[4] = {CL__HANDBACK, 0, 0, 0};
    struct iovec parts[2] = {{kind, sizeof kind}, {&listener->number, sizeof listener->number}};
    struct msghdr message;
    ssize_t sent;
    int code = cl__check_returned(listener, connection);
    if (code < 0) return code;
    if (!listener->granted)
        return cl__say(-EOPNOTSUPP, "the listener is this process's alone, and nobody else serves its address");
    if (cl__get(&cl__this()->gone)) return cl__primary_gone();
    int to = cl__find_returns();
    if (to < 0) return to;
    memset(&control, 0, sizeof control);
    memset(&message, 0, sizeof message);
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.header), &connection, sizeof connection);
    do sent = sendmsg(to, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        close(connection);
        return 0;
    }
    if (errno == EAGAIN || errno == ETOOMANYREFS || cl__is_short_of_memory(errno))
        return cl__say(-EAGAIN, "no other worker has room for it now");
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) return cl__nobody_takes_any();
    return cl__os("handing a connection back");
}
