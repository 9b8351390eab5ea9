/* -- Messages ------------------------------------------------------------------------------------------------------ */

CL__FN int cl__send(const void *data, size_t length) {
    int code = cl__enter_worker();
    if (code < 0) return code;
    if (data == NULL && length > 0) return cl__say(-EINVAL, "the message is NULL");
    if (length > CL_MESSAGE_MAX) return cl__fail(-EMSGSIZE, "a message has at most %d bytes", CL_MESSAGE_MAX);
    return cl__frame(CL__MESSAGE, 0, data, length, NULL, 0);
}

/* -ESHUTDOWN once the primary has asked this worker to disconnect, -EPIPE once it is gone; otherwise whether an answer
 * waits. The request comes on the channel, between the messages, and on the grants socket. There nobody takes it, so it
 * stays readable for every thread. */
CL__FN int cl__leaving(void) {
    unsigned char head[8];
    if (cl__get(&cl__this()->leaving)) return cl__asked_to_leave();
    int n = cl__packet(cl__this()->grants, head, sizeof head, NULL, 0, NULL, 0, MSG_PEEK);
    if (n == 0) return cl__primary_gone();
    if (cl__type(head, n) != CL__DISCONNECT && cl__type(head, n) != CL__RETURNS) return n > 0;
    cl__set(&cl__this()->leaving, 1);
    return cl__asked_to_leave();
}

/* Takes the next message out of the channel: its frame's length, 0: none, or a code. One that does not fit stays. */
CL__FN int cl__next_message(void *buffer, size_t capacity) {
    unsigned char head[8];
    int n, type;
    pthread_mutex_lock(&cl__this()->reading);
    for (;;) {
        n = cl__packet(cl__this()->channel, head, sizeof head, NULL, 0, NULL, 0, MSG_PEEK | MSG_TRUNC);
        type = cl__type(head, n);
        if (n <= 0 || type == CL__MESSAGE) break;
        recv(cl__this()->channel, head, sizeof head, MSG_DONTWAIT);
        if (type == CL__DISCONNECT) cl__set(&cl__this()->leaving, 1);
    }
    if (n == 0) n = cl__primary_gone();
    else if (n == -EAGAIN) n = 0;
    else if (n < 0) cl__fail(n, "the channel to the primary: %s", cl_strerror(n));
    else if ((size_t)n - 8 > capacity) n = cl__fail(-EMSGSIZE, "the next message has %d bytes; it is kept", n - 8);
    else n = cl__packet(cl__this()->channel, head, sizeof head, buffer, capacity, NULL, 0, 0);
    pthread_mutex_unlock(&cl__this()->reading);
    return n;
}

CL__FN long long cl__now_ms(void) {
    long now[2] = {0, 0};
    cl__os_clock_gettime(CL__CLOCK_MONOTONIC, now);
    return now[0] * 1000LL + now[1] / 1000000;
}

CL__FN int cl__receive(void *buffer, size_t capacity, int timeout_ms) {
    int code = cl__enter_worker(), left = -1;
    if (code < 0) return code;
    if (buffer == NULL && capacity > 0) return cl__say(-EINVAL, "the buffer is NULL");
    long long deadline = timeout_ms > 0 ? cl__now_ms() + timeout_ms : 0;
    for (;;) {
        int n = cl__next_message(buffer, capacity);
        if (n != 0) return n < 0 ? n : n - 8;
        if ((code = cl__leaving()) < 0) return code;
        if (timeout_ms == 0) return cl__say(-EAGAIN, "no message waits");
        if (timeout_ms > 0) left = (int)(deadline - cl__now_ms());
        if (timeout_ms > 0 && left <= 0) return cl__say(-ETIMEDOUT, "no message came in time");
        cl__wait(cl__this()->channel, POLLIN, cl__this()->grants, left);
    }
}

/* What our own epolls tell of a descriptor. */
CL__FN unsigned long long cl__data_of(int fd) {
    epoll_data_t data;
    memset(&data, 0, sizeof data);
    data.fd = fd;
    return data.u64;
}

/* 0: from here on `epoll` tells `data` of a descriptor. */
CL__FN int cl__watch_with(int epoll, int fd, unsigned events, unsigned long long data) {
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = events;
    event.data.u64 = data;
    return epoll < 0 || (fd >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0);
}
CL__FN int cl__watch_for(int epoll, int fd, unsigned events) { return cl__watch_with(epoll, fd, events, cl__data_of(fd)); }

/* Both sockets in one descriptor: it stays readable when the request to leave was taken out of the channel. */
CL__FN int cl__channel_fd(void) {
    int code = cl__enter_worker(), epoll = -1;
    if (code < 0) return code;
    pthread_mutex_lock(&cl__this()->reading);
    if (cl__this()->news == 0) {
        epoll = cl__high(epoll_create1(EPOLL_CLOEXEC));
        if (cl__watch_for(epoll, cl__this()->channel, EPOLLIN) || cl__watch_for(epoll, cl__this()->grants, EPOLLIN)) {
            code = cl__os("epoll");
            cl__close_fd(epoll);
        } else {
            cl__this()->news = epoll;
        }
    }
    pthread_mutex_unlock(&cl__this()->reading);
    return code < 0 ? code : cl__this()->news;
}

CL__FN int cl__set_load(unsigned load) {
    int code = cl__enter_worker();
    if (code < 0) return code;
    if (cl__this()->board == NULL) return cl__frame(CL__LOAD, 0, &load, sizeof load, NULL, 0);
    unsigned *told = (unsigned *)(void *)(cl__this()->board + 80), *times = told + 1;
    __atomic_store_n(told, load, __ATOMIC_RELAXED);
    __atomic_fetch_add(times, 1, __ATOMIC_RELEASE);
    return 0;
}

/* A frame that every primary knows follows: one that sleeps looks at the page then. */
CL__FN int cl__ready(void) {
    int code = cl__enter();
    if (code < 0 || cl__this()->worker_id == 0 || (code = cl__enter_worker()) < 0) return code;
    if (cl__this()->board == NULL)
        return cl__say(-ENOMEM, "there was no memory for this worker's page of the scoreboard, by which it says so");
    __atomic_store_n((unsigned *)(void *)(cl__this()->board + 88), 1, __ATOMIC_RELEASE);
    unsigned load = __atomic_load_n((unsigned *)(void *)(cl__this()->board + 80), __ATOMIC_RELAXED);
    return cl__frame(CL__LOAD, 0, &load, sizeof load, NULL, 0);
}

/* Where the program counts on this worker's page. Requests and errors are counts of 64 bits at 128 and 136; those that
 * are under way stand at 144, and how long the others took at 192, by the power of two of their microseconds. */
CL__FN int cl__count(int counter, long long by) {
    int code = cl__enter();
    if (code < 0) return code;
    if (counter < CL_COUNT_REQUESTS || counter > CL_COUNT_ACTIVE) return cl__fail(-EINVAL, "there is no counter %d", counter);
    if (counter != CL_COUNT_ACTIVE && by < 0) return cl__say(-EINVAL, "only CL_COUNT_ACTIVE may fall");
    if (cl__this()->worker_id == 0 || (code = cl__enter_worker()) < 0) return code;
#if __GCC_ATOMIC_LLONG_LOCK_FREE == 2
    unsigned char *board = cl__board();
    if (board == NULL) return 0;
    if (counter == CL_COUNT_ACTIVE)
        __atomic_fetch_add((unsigned *)(void *)(board + 144), (unsigned)by, __ATOMIC_RELAXED);
    else
        __atomic_fetch_add((unsigned long long *)(void *)(board + 128) + (counter - 1), (unsigned long long)by, __ATOMIC_RELAXED);
#endif
    return 0;
}

CL__FN int cl__took(unsigned microseconds) {
    int code = cl__count(CL_COUNT_REQUESTS, 1), bucket = 0;
    if (code < 0) return code;
    while (bucket < 23 && microseconds >> bucket > 1) bucket++;
    unsigned char *board = cl__board();
    if (board != NULL) __atomic_fetch_add((unsigned *)(void *)(board + 192) + bucket, 1, __ATOMIC_RELAXED);
    return 0;
}

CL__FN int cl__disconnect(void) {
    int code = cl__enter();
    /* A primary has workers only through the library. */
    if (code < 0 || cl__this()->worker_id == 0) return code;
    code = cl__enter_worker();
    return code < 0 ? code : cl__frame(CL__DISCONNECT, 0, NULL, 0, NULL, 0);
}
