/* -- Shares of the primary's addresses ----------------------------------------------------------------------------- */

/* Options and address as one text: a line for each option, then the address. */
CL__FN int cl__write_options(char *text, size_t room, const char *address, const cl_listen_options_t *options) {
    size_t length = 0, need = strlen(address) + 1;
    for (size_t i = 0; i < options->option_count; i++) {
        const cl_socket_option_t *one = &options->options[i];
        if (length + 32 + 2 * one->length + need > room)
            return cl__fail(-EINVAL, "the address and its options have more bytes than the %d that are possible", (int)room - 1);
        length += (size_t)snprintf(text + length, room - length, "%d %d ", one->level, one->name);
        for (socklen_t byte = 0; byte < one->length; byte++)
            length += (size_t)snprintf(text + length, room - length, "%02x", ((const unsigned char *)one->value)[byte]);
        text[length++] = '\n';
    }
    memcpy(text + length, address, need);
    return 0;
}

/* Waits for the answer to the question just sent; its length, or a code with the primary's sentence. `code`: what
 * sending it returned. `asking` is locked, so the next answer is to this question. */
CL__FN int cl__await_answer(int code, unsigned char *answer, int room, int *fds) {
    for (;;) {
        if (code == 0) code = cl__leaving();
        if (code < 0) return code;
        if (code == 0) {
            cl__wait(cl__this()->grants, POLLIN, -1, -1);
            continue;
        }
        int n = cl__packet(cl__this()->grants, answer, (size_t)room - 1, NULL, 0, fds, 3, MSG_CMSG_CLOEXEC);
        if (n < 0) return cl__fail(n, "the primary's answer: %s", cl_strerror(n));
        if (n >= 12 && cl__type(answer, n) == CL__GRANT && cl__number(answer + 4) == cl__this()->asked) {
            answer[n] = '\0';
            if ((code = (int)cl__number(answer + 8)) >= 0) return n;
        }
        for (int i = 0; i < 3; i++) cl__close_fd(fds[i]);
        if (code < 0) return cl__fail(code, "%s", n > 12 ? (char *)answer + 12 : cl_strerror(code));
        code = 0;
    }
}

/* Asks the primary for a share and waits for the answer. */
CL__FN int cl__ask(struct cl__address *at, const cl_listen_options_t *options, struct cl__listener *listener) {
    unsigned asked[3] = {options->flags, (unsigned)options->backlog, (unsigned)listener->index};
    unsigned char grant[544];
    int n, fds[3];
    char text[sizeof at->text];
    int code = cl__write_options(text, sizeof text, at->text, options);
    if (code < 0) return code;
    code = cl__frame(CL__LISTEN, ++cl__this()->asked, asked, sizeof asked, text, strlen(text));
    n = cl__await_answer(code, grant, sizeof grant, fds);
    if (n < 0) return n;
    listener->mailbox = fds[0];
    listener->socket = fds[1];
    listener->page = cl__map(fds[2]);
    if (n < 24 || n > 24 + (int)sizeof listener->name) return cl__say(-EPROTO, "the primary's answer makes no sense");
    listener->number = cl__number(grant + 12);
    listener->granted = 1;
    int passed = cl__number(grant + 16) == CL_MECHANISM_PASSED, turns = cl__number(grant + 16) == CL_MECHANISM_ROTATION;
    if (fds[0] < 0 || (!passed && fds[1] < 0) || (turns && fds[2] < 0))
        return cl__say(-EMFILE, "no descriptor was left for what the primary sent");
    if (turns && listener->page == NULL) { /* nobody could say whose turn it is: the mailbox alone serves it */
        cl__close_fd(listener->socket);
        listener->socket = -1;
        passed = 1;
    }
    listener->name_length = (socklen_t)(n - 24);
    memcpy(&listener->name, grant + 24, (size_t)n - 24);
    listener->own = cl__number(grant + 16) == CL_MECHANISM_KERNEL;
    listener->settable = (cl__number(grant + 20) & CL__SETTABLE) != 0;
    unsigned kind = cl__number(grant + 20) & ~(unsigned)(CL__SETTABLE | CL__WAITS);
    listener->kind = passed ? CL__PASSED : kind == 2 ? CL__DATAGRAM : CL__SHARED;
    cl__set(&listener->waits, (cl__number(grant + 20) & CL__WAITS) != 0);
    cl__set(&listener->fd, passed ? fds[0] : fds[1]);
    /* A datagram socket blocks or not for everybody who has it, so it is left as it is. */
    if (listener->kind != CL__SHARED) return 0;
    fcntl(fds[1], F_SETFL, fcntl(fds[1], F_GETFL) | O_NONBLOCK);
    /* One descriptor to poll for mailbox and socket. For a connection the kernel wakes one worker, not all. */
    cl__set(&listener->fd, cl__high(epoll_create1(EPOLL_CLOEXEC)));
    if (cl__watch_for(listener->fd, fds[0], EPOLLIN) || cl__watch_for(listener->fd, listener->wake, EPOLLIN))
        return cl__os("epoll");
    if (turns) return cl__take_part(listener);
    if (listener->own) return cl__watch_for(listener->fd, fds[1], EPOLLIN | EPOLLEXCLUSIVE) ? cl__os("epoll") : 0;
    return cl__enter_line(listener, listener->fd, cl__data_of(fds[1])) ? cl__os("epoll") : 0;
}
