/* -- Packets ------------------------------------------------------------------------------------------------------- */

/* Receives one packet, without blocking, into `head` and then `body`; its length or -errno. `fds` gets the descriptors
 * it brought, -1 for each that it did not. The control buffer has exactly that room, so none can be left over. */
CL__FN int cl__packet_at_once(int socket, void *head, size_t head_length, void *body, size_t body_length, int *fds,
                              int room, int flags) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } control;
    struct iovec parts[2] = {{head, head_length}, {body, body_length}};
    struct msghdr message;
    ssize_t n;
    do {
        memset(&message, 0, sizeof message);
        message.msg_iov = parts;
        message.msg_iovlen = 2;
        message.msg_control = room > 0 ? control.bytes : NULL;
        message.msg_controllen = room > 0 ? CMSG_LEN((size_t)room * sizeof(int)) : 0;
        n = recvmsg(socket, &message, flags | MSG_DONTWAIT);
        /* ECONNRESET comes once if the primary died with something of ours unread; what it sent still waits. */
    } while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    for (int i = 0; i < room; i++) fds[i] = -1;
    if (n < 0) return -errno;
    struct cmsghdr *header = fds != NULL ? CMSG_FIRSTHDR(&message) : NULL;
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
        memcpy(fds, CMSG_DATA(header), header->cmsg_len - CMSG_LEN(0));
    for (int i = 0; i < room; i++) fds[i] = cl__high_connection(fds[i], flags & MSG_CMSG_CLOEXEC);
    return (int)n;
}

/* The same, tried for a quarter of a second while memory is short: a packet left there could be taken for another. */
CL__FN int cl__packet(int socket, void *head, size_t head_length, void *body, size_t body_length, int *fds, int room,
                      int flags) {
    for (int failures = 0;; failures++) {
        int n = cl__packet_at_once(socket, head, head_length, body, body_length, fds, room, flags);
        if (!cl__is_short_of_memory(-n) || failures == 8) return n;
        cl__pause(failures);
    }
}

CL__FN unsigned cl__number(const unsigned char *at) {
    unsigned value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* The type of a frame of n bytes; 0: it is no frame. Type and zero are 16 bits each, in the host's order. */
CL__FN int cl__type(const unsigned char *frame, int n) {
    unsigned short type = 0;
    if (n >= 8) memcpy(&type, frame, sizeof type);
    return type;
}

CL__FN ino_t cl__pipe_inode(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 && (found.st_mode & CL__S_IFMT) == CL__S_IFIFO ? found.st_ino : 0;
}

/* 1: the primary's process has ended; waits for that. 0: not within that time; -1: that will never be known. */
CL__FN int cl__await_death(int timeout_ms) {
    int n = cl__wait(cl__this()->primary, POLLIN, -1, timeout_ms);
    if (n < 1) return 0;
    /* closefrom(3) in the program closes this descriptor too, and its number may mean anything by now. */
    if (cl__pipe_inode(cl__this()->primary) != cl__this()->pipe) return -1;
    if (cl__this()->pipe == 0 && cl__os_syscall(SYS_pidfd_send_signal, cl__this()->primary, 0, NULL, 0) < 0 &&
        (errno == EBADF || errno == EINVAL))
        return -1; /* signal 0 only checks that it is a pidfd */
    cl__set(&cl__this()->dead, 1);
    return 1;
}

/* A child of this process would keep the address open. Others have a listening socket, too, so it is shut down only when
 * the primary is dead. A socket of the program's (fd:N) is left as it is. */
CL__FN void cl__end_share(struct cl__listener *listener) {
    if (listener->mailbox < 0) return;
    shutdown(listener->mailbox, SHUT_RD);
    if (listener->kind == CL__SHARED && (listener->own || cl__get(&cl__this()->dead)) &&
        (listener->text == NULL || strncmp(listener->text, "fd:", 3) != 0))
        shutdown(listener->socket, SHUT_RD);
}

/* Not left to the watch thread alone: this process may end before that runs, and a child of it go on. Takes no lock,
 * like cl__hold: the caller may be a signal handler. */
CL__FN void cl__end_shares(void) {
    for (int i = 0; i < cl__get(&cl__this()->places); i++) {
        struct cl__listener *listener = &cl__this()->listeners[i];
        if (cl__get(&listener->state) != CL__OPEN) continue;
        cl__add(&listener->users, 1);
        if (cl__get(&listener->state) == CL__OPEN) cl__end_share(listener);
        cl__add(&listener->users, -1);
    }
}

/* Once one call has returned this, all do. A dying process's sockets are closed a moment before it has ended. */
CL__FN int cl__primary_gone(void) {
    int first = !cl__get(&cl__this()->gone);
    cl__set(&cl__this()->gone, 1);
    if (first && !cl__get(&cl__this()->dead)) (void)cl__await_death(100);
    cl__end_shares();
    return cl__say(-EPIPE, "the primary is gone");
}
CL__FN int cl__asked_to_leave(void) { return cl__say(-ESHUTDOWN, "this worker was asked to disconnect"); }

/* Sends one frame to the primary, waiting for room. Async-signal-safe. */
CL__FN int cl__frame(int type, unsigned number, const void *first, size_t first_length, const void *second,
                     size_t second_length) {
    unsigned short kind[2] = {(unsigned short)type, 0};
    struct iovec parts[4] = {{kind, 4}, {&number, 4}, {NULL, first_length}, {NULL, second_length}};
    memcpy(&parts[2].iov_base, &first, sizeof first); /* sendmsg(2) does not write there */
    memcpy(&parts[3].iov_base, &second, sizeof second);
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = parts;
    message.msg_iovlen = 4;
    for (int failures = 0;; failures++) {
        if (cl__get(&cl__this()->gone)) return cl__primary_gone();
        if (sendmsg(cl__this()->channel, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return 0;
        if (errno == EPIPE || errno == ECONNRESET) return cl__primary_gone();
        if (errno == EAGAIN) cl__wait(cl__this()->channel, POLLOUT, cl__this()->primary, -1);
        else if (cl__is_short_of_memory(errno)) cl__pause(failures);
        else if (errno != EINTR)
            return cl__say(-errno, "the channel to the primary cannot be used; was its descriptor closed in this process, by "
                                   "closefrom(3) or a close(2) too many?");
    }
}
