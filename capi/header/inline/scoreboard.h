/* -- The scoreboard ------------------------------------------------------------------------------------------------ */

/* Maps the page of a file, and closes that; NULL: it cannot be. A file that could still shrink is not mapped: to touch
 * what is gone is SIGBUS. */
CL__FN unsigned char *cl__map(int fd) {
    struct stat found;
    void *page = MAP_FAILED;
    int seals = fd >= 0 ? fcntl(fd, CL__F_GET_SEALS) : -1;
    if (seals > 0 && (seals & CL__F_SEAL_SHRINK) && fstat(fd, &found) == 0 && found.st_size >= 4096)
        page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cl__close_fd(fd);
    return page != MAP_FAILED ? (unsigned char *)page : NULL;
}

/* This worker's page; NULL in a child made by fork(2), which counts nothing. */
CL__FN unsigned char *cl__board(void) {
    unsigned char *page = __atomic_load_n(&cl__this()->member, __ATOMIC_ACQUIRE);
    return page != NULL && cl__is_member(page) ? cl__this()->board : NULL;
}

/* Shows that this worker has looked for connections, and whether it has taken one. No system call. The beat is no
 * count: of two threads that meet here one may go unseen. */
CL__FN void cl__show(int taken) {
#if __GCC_ATOMIC_LLONG_LOCK_FREE == 2 /* elsewhere this would need a library */
    unsigned char *board = cl__board();
    if (board == NULL) return;
    unsigned long long *count = (unsigned long long *)(void *)(board + 64), *beat = count + 1;
    if (taken) __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
    __atomic_store_n(beat, __atomic_load_n(beat, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
#else
    (void)taken;
#endif
}
