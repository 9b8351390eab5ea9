/* -- The table of listeners ---------------------------------------------------------------------------------------- */

/* Gives back what a listener has, and its place in the table. `table` is locked. */
CL__FN void cl__dispose(struct cl__listener *listener) {
    struct stat found;
    int file = listener->file != NULL ? cl__high(open(listener->file, __O_PATH | __O_NOFOLLOW | __O_CLOEXEC)) : -1;
    if (file >= 0 && fstat(file, &found) == 0 && found.st_dev == listener->device && found.st_ino == listener->inode)
        unlink(listener->file);
    cl__close_fd(file);
    if (listener->fd != listener->mailbox && listener->fd != listener->socket) cl__close_fd(listener->fd);
    cl__close_fd(listener->mailbox);
    cl__close_fd(listener->socket);
    cl__close_fd(listener->wake);
    if (listener->page != NULL) munmap(listener->page, 4096);
    listener->page = NULL;
    free(listener->file);
    free(listener->text);
    listener->file = listener->text = NULL;
    cl__set(&listener->state, CL__FREE);
}

CL__FN int cl__is_open(const char *text, int index) {
    int found = 0;
    pthread_mutex_lock(&cl__this()->table);
    for (int i = 0; i < cl__this()->places && !found; i++) {
        struct cl__listener *other = &cl__this()->listeners[i];
        found = other->text != NULL && other->index == index && strcmp(other->text, text) == 0;
    }
    pthread_mutex_unlock(&cl__this()->table);
    return found;
}

/* `share`: of an address of the primary's. `asking` is locked, so a free place stays free. */
CL__FN int cl__open_listener(struct cl__address *at, const cl_listen_options_t *options, int share) {
    struct cl__listener *listener = cl__this()->listeners;
    int code = 0, index = share ? 0 : -1;
    while (listener < cl__this()->listeners + CL__LISTENERS && cl__get(&listener->state) != CL__FREE) listener++;
    if (listener == cl__this()->listeners + CL__LISTENERS)
        return cl__fail(-EMFILE, "%d listeners are open; more are not possible", CL__LISTENERS);
    if (share && at->port == 0) {
        index = options->index > 0 ? options->index : 1;
        while (options->index == 0 && cl__is_open(at->text, index)) index++;
    }
    if (share && cl__is_open(at->text, index))
        return cl__fail(-EADDRINUSE, "this worker listens on %s already", at->text);
    char *text = (char *)malloc(strlen(at->text) + 1);
    if (text == NULL) return cl__say(-ENOMEM, "no memory is left");
    strcpy(text, at->text);
    cl__set(&listener->fd, -1);
    listener->mailbox = listener->socket = listener->wake = listener->line = listener->place = listener->watched = -1;
    listener->fallen = listener->seated = listener->waits = listener->stopped = listener->shut = 0;
    listener->own = listener->accepts = listener->empty = listener->shortages = 0;
    listener->plenty = listener->half = listener->asked = listener->asked_since = 0;
    listener->index = index;
    listener->flags = options->flags;
    listener->granted = listener->settable = 0;
    if (!(options->flags & CL_LISTEN_NONBLOCK) && !at->datagram) {
        listener->wake = cl__high(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        if (listener->wake < 0) code = cl__os("eventfd");
    }
    if (code == 0) code = share ? cl__ask(at, options, listener) : cl__listen_alone(at, options, listener);
    if (code < 0 && listener->granted)
        (void)cl__frame(CL__CLOSE, 0, &listener->number, sizeof listener->number, NULL, 0);
    pthread_mutex_lock(&cl__this()->table);
    listener->text = text;
    if (code == 0) {
        int place = (int)(listener - cl__this()->listeners);
        if (place >= cl__this()->places) cl__set(&cl__this()->places, place + 1);
        cl__set(&listener->state, CL__OPEN);
        /* If the primary died meanwhile, the watch did not find this listener. */
        if (cl__get(&cl__this()->gone)) cl__end_share(listener);
        code = listener->fd;
    } else {
        cl__dispose(listener);
    }
    pthread_mutex_unlock(&cl__this()->table);
    return code;
}

CL__FN int cl__listen_with(const cl_listen_options_t *given) {
    cl_listen_options_t options;
    struct cl__address at;
    int code = cl__enter();
    if (code < 0) return code;
    if (given == NULL) return cl__say(-EINVAL, "the options are NULL");
    if (given->size < offsetof(cl_listen_options_t, address) + sizeof given->address || given->size > 4096)
        return cl__say(-EINVAL, "the size of the options is not set; write sizeof(cl_listen_options_t) into it");
    /* A newer program's struct is longer than the one known here. GCC 12 warns of its end (-Warray-bounds) where it sees
     * how long the program's is, so it is not to see that. */
    const char *bytes = (const char *)given;
    __asm__("" : "+r"(bytes));
    for (size_t i = sizeof options; i < given->size; i++)
        if (bytes[i] != 0) return cl__say(-E2BIG, "this version does not know all of the options");
    memset(&options, 0, sizeof options);
    memcpy(&options, given, given->size < sizeof options ? given->size : sizeof options);
    if (options.address == NULL) options.address = ":0";
    if (options.flags & ~63u) return cl__fail(-EINVAL, "the listen flags %#x hold unknown bits", options.flags);
    if (options.index < 0) return cl__say(-EINVAL, "the index is negative");
    if (options.option_count > 32)
        return cl__fail(-EINVAL, "there are %zu options; at most 32 are possible", options.option_count);
    if (options.option_count > 0 && options.options == NULL) return cl__say(-EINVAL, "the socket options are NULL");
    for (size_t i = 0; i < options.option_count; i++)
        if ((code = cl__check_value(options.options[i].value, options.options[i].length)) < 0) return code;
    if ((code = cl__parse(&at, options.address)) < 0) return code;
    if (cl__this()->worker_id != 0 && ((code = cl__enter_worker()) < 0 || (code = cl__leaving()) < 0)) return code;
    pthread_mutex_lock(&cl__this()->asking);
    code = cl__open_listener(&at, &options, cl__this()->worker_id != 0 &&
                                                !(options.flags & (CL_LISTEN_EXCLUSIVE | CL_LISTEN_REUSEPORT)));
    pthread_mutex_unlock(&cl__this()->asking);
    return code;
}
