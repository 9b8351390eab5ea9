/* -- A listener's name, options and end ---------------------------------------------------------------------------- */

CL__FN int cl__getsockname(struct cl__listener *listener, int fd, struct sockaddr *name, socklen_t *length) {
    (void)fd;
    if (name == NULL || length == NULL) return cl__say(-EINVAL, "the name or its length is NULL");
    cl__give_name(name, length, &listener->name, listener->name_length);
    return 0;
}

/* Has the primary set it on all sockets of the address. Whoever closes the listener waits for this call: behind the
 * close it would be about a listener that is not this worker's. */
CL__FN int cl__ask_to_set(struct cl__listener *listener, int level, int name, const void *value, socklen_t length) {
    unsigned asked[3] = {listener->number, (unsigned)level, (unsigned)name};
    unsigned char answer[544];
    int fds[3], n;
    int code = cl__get(&listener->state) == CL__OPEN ? 0 : cl__say(-EBADF, "the listener was closed meanwhile");
    if (code == 0 && (code = cl__leaving()) > 0) code = 0;
    if (code == 0) code = cl__frame(CL__SETSOCKOPT, ++cl__this()->asked, asked, sizeof asked, value, length);
    if ((n = cl__await_answer(code, answer, sizeof answer, fds)) < 0) return n;
    for (int i = 0; i < 3; i++) cl__close_fd(fds[i]);
    return n == 12 ? 0 : cl__say(-EPROTO, "the primary's answer makes no sense");
}

CL__FN int cl__setsockopt(struct cl__listener *listener, int fd, int level, int name, const void *value,
                          socklen_t length) {
    (void)fd;
    int code = cl__check_value(value, length);
    if (code < 0) return code;
    if (listener->granted) {
        if (!listener->settable)
            return cl__say(-EOPNOTSUPP, "the primary is of an older version, which sets socket options at most when an "
                                        "address is opened; use the same libcluster in both, or set them on each "
                                        "connection");
        pthread_mutex_lock(&cl__this()->asking);
        code = cl__ask_to_set(listener, level, name, value, length);
        pthread_mutex_unlock(&cl__this()->asking);
        return code;
    }
    if (strncmp(listener->text, "fd:", 3) == 0)
        return cl__of_another(listener->text);
    if (setsockopt(listener->socket, level, name, value, length) == 0) return 0;
    return cl__fail(-errno, "setsockopt of the option %d of level %d: %s", name, level, cl_strerror(-errno));
}

CL__FN int cl__close(struct cl__listener *listener, int fd) {
    int open = CL__OPEN;
    if (!__atomic_compare_exchange_n(&listener->state, &open, CL__CLOSING, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return cl__no_listener(fd);
    cl__ring(listener->wake);
    while (cl__get(&listener->users) != 1) poll(NULL, 0, 1);
    if (listener->watched >= 0) cl__end_watch(listener);
    /* What waits in the mailbox goes to other workers: the primary holds a copy of it. */
    if (listener->granted) (void)cl__frame(CL__CLOSE, 0, &listener->number, sizeof listener->number, NULL, 0);
    pthread_mutex_lock(&cl__this()->table);
    cl__dispose(listener);
    pthread_mutex_unlock(&cl__this()->table);
    return 0;
}
