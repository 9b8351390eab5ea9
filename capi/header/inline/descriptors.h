/* -- Descriptors, and waiting for them ----------------------------------------------------------------------------- */

CL__FN void cl__close_fd(int fd) {
    if (fd >= 0) close(fd); /* not again after EINTR: another thread may have the number by then */
}

CL__FN void cl__ring(int eventfd) {
    unsigned long long one = 1;
    if (eventfd >= 0 && write(eventfd, &one, sizeof one) < 0) return; /* full, so readable already */
}

/* Sleeps for 1, 2, 4 ... 100 ms: no readiness tells when what is short comes back. */
CL__FN void cl__pause(int failures) {
    long time[2] = {0, 1000000L * (failures < 7 ? 1 << failures : 100)};
    cl__os_syscall(SYS_nanosleep, time, NULL);
}
CL__FN int cl__is_short_of_memory(int code) { return code == ENOMEM || code == ENOBUFS; }

/* poll(2), with a pause where memory is short, so that a caller who waits again does not spin. */
CL__FN int cl__poll(struct pollfd *fds, int count, int timeout_ms) {
    int ready = poll(fds, (nfds_t)count, timeout_ms);
    if (ready < 0 && cl__is_short_of_memory(errno)) cl__pause(4);
    return ready;
}

/* Waits for `events` on the first, or until the second is readable; -1: none. May return early. */
CL__FN int cl__wait(int first, int events, int second, int timeout_ms) {
    struct pollfd fds[2] = {{first, (short)events, 0}, {second, POLLIN, 0}};
    return cl__poll(fds, 2, timeout_ms);
}

/* No descriptor of ours stays on 0, 1 or 2: a program that was started with these closed writes its messages there, or
 * calls dup2(2). If it cannot be moved, a descriptor of ours is closed, with errno set, and a connection stays. `flag`:
 * FD_CLOEXEC or 0. */
CL__FN int cl__moved(int fd, int flag) {
    return fcntl(fd, flag ? CL__F_DUPFD_CLOEXEC : F_DUPFD, 3);
}
CL__FN int cl__high(int fd) {
    if (fd < 0 || fd > 2) return fd;
    int moved = cl__moved(fd, FD_CLOEXEC), kept = errno;
    close(fd);
    errno = kept;
    return moved;
}
CL__FN int cl__high_connection(int fd, int flag) {
    int moved = fd < 0 || fd > 2 ? -1 : cl__moved(fd, flag);
    if (moved < 0) return fd;
    close(fd);
    return moved;
}
