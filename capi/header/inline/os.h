#define CL__FN static inline
#define CL__ONE(...) \
    extern __VA_ARGS__ __attribute__((weak, visibility("hidden"))); \
    __VA_ARGS__

/* -- What the C library hides -----------------------------------------------------------------------------------------
 * Under -std=c99, and in part without _GNU_SOURCE, glibc hides names that are needed here, and headers that the program
 * has included already may have fixed that choice. So they are declared once more: functions under names of our own for
 * the same symbols, constants by value. The program needs no feature macro. */

#if defined(SIG_SETMASK) && defined(MAP_ANONYMOUS) && defined(SO_REUSEPORT)
#define CL__VISIBLE
#elif defined(__alpha__) || defined(__hppa__) || defined(__mips__) || defined(__sparc__)
#error "cluster.h: on this architecture CL_HEADER_ONLY needs _GNU_SOURCE, defined before the first #include"
#endif
enum {
    CL__AI_NUMERICHOST = 4, CL__AI_NUMERICSERV = 0x400, CL__CLOCK_MONOTONIC = 1, CL__F_DUPFD_CLOEXEC = 1030,
    CL__F_GET_SEALS = 1034, CL__F_SEAL_SHRINK = 2, CL__LOCK_EX_NB = 2 | 4, CL__MADV_WIPEONFORK = 18,
    CL__RTLD_NOLOAD = 4, CL__S_IFIFO = 0010000, CL__S_IFMT = 0170000, CL__S_IFSOCK = 0140000,
#ifdef CL__VISIBLE
    CL__MAP_ANONYMOUS = MAP_ANONYMOUS, CL__SIG_SETMASK = SIG_SETMASK, CL__SO_REUSEPORT = SO_REUSEPORT
#else
    CL__MAP_ANONYMOUS = 0x20, CL__SIG_SETMASK = 2, CL__SO_REUSEPORT = 15
#endif
};
struct cl__addrinfo {
    int flags, family, type, protocol;
    socklen_t length;
    struct sockaddr *address;
    char *canonical;
    struct cl__addrinfo *next;
};
extern int cl__os_accept4(int, struct sockaddr *, socklen_t *, int) __asm__("accept4");
extern int cl__os_clock_gettime(int, long *) __asm__("clock_gettime");
extern void cl__os_freeaddrinfo(struct cl__addrinfo *) __asm__("freeaddrinfo");
extern const char *cl__os_gai_strerror(int) __asm__("gai_strerror");
extern int cl__os_getaddrinfo(const char *, const char *, const struct cl__addrinfo *, struct cl__addrinfo **)
    __asm__("getaddrinfo");
extern int cl__os_fchmod(int, mode_t) __asm__("fchmod");
extern int cl__os_madvise(void *, size_t, int) __asm__("madvise");
extern int cl__os_sigfillset(sigset_t *) __asm__("sigfillset");
extern int cl__os_sigaddset(sigset_t *, int) __asm__("sigaddset");
extern int cl__os_sigaction(int, const void *, void *) __asm__("sigaction");
extern int cl__os_sigprocmask(int, const sigset_t *, sigset_t *) __asm__("sigprocmask");
extern long cl__os_syscall(long, ...) __asm__("syscall");
extern int cl__os_dl_iterate_phdr(int (*)(void *, size_t, void *), void *) __asm__("dl_iterate_phdr");
extern int cl__os_unsetenv(const char *) __asm__("unsetenv");
extern int cl__os_setenv(const char *, const char *, int) __asm__("setenv");

/* Before glibc 2.34 these live in libraries of their own. The references are weak, so that nobody has to link -ldl or
 * -lpthread; without them they are NULL. The last two came with glibc 2.32. */
#define CL__WEAKLY(name) __attribute__((weakref(name)))
static void *cl__weak_dlopen(const char *, int) CL__WEAKLY("dlopen");
static void *cl__weak_dlsym(void *, const char *) CL__WEAKLY("dlsym");
static char *cl__weak_dlerror(void) CL__WEAKLY("dlerror");
static int cl__weak_stacksize(pthread_attr_t *, size_t) CL__WEAKLY("pthread_attr_setstacksize");
static int cl__weak_thread(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) CL__WEAKLY("pthread_create");
static const char *cl__weak_errno_name(int) CL__WEAKLY("strerrorname_np");
static const char *cl__weak_errno_text(int) CL__WEAKLY("strerrordesc_np");
