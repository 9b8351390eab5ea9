/* To be preloaded: every third close(2) says EINTR or EIO, as the kernel may, and has closed all the same. Whoever closes again is
 * found: a descriptor that is not open ends the process with a sentence. What calls close from within the C library is not seen. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Other programs that a test starts are none of our business. */
static int is_watched(void) {
    static int known;
    if (known == 0)
        known = strncmp(program_invocation_short_name, "test_", 5) == 0 ||
                strncmp(program_invocation_short_name, "subject", 7) == 0 ? 1 : -1;
    return known > 0;
}

int close(int fd) {
    static int count;
    long result = syscall(SYS_close, fd);
    if (!is_watched()) return (int)result;
    if (result < 0 && errno == EBADF && fd >= 0) {
        dprintf(2, "check failed: close(%d), which is not open\n", fd);
        abort();
    }
    int turn = __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
    if (result == 0 && turn % 3 == 0) {
        errno = turn % 2 == 0 ? EINTR : EIO;
        return -1;
    }
    return (int)result;
}
