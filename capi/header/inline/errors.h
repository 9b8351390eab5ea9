/* -- Errors -------------------------------------------------------------------------------------------------------- */

struct cl__error {
    const char *sentence; /* of this thread's last failed call; NULL: none has failed */
    int in_library;       /* that call was the library's, which has the sentence */
};
/* In an object loaded by dlopen(3), a thread-local variable is made with malloc when a thread first touches it, which a
 * signal handler may not do. These two words are placed with the program's own instead. */
extern __thread struct cl__error cl__error __attribute__((weak, visibility("hidden"), tls_model("initial-exec")));
__thread struct cl__error cl__error;
CL__ONE(__thread char cl__error_text[640]);

/* Every failure leaves through one of these two. The first costs two stores: for what is common in accepting. */
CL__FN int cl__say(int code, const char *sentence) {
    cl__error.sentence = sentence;
    cl__error.in_library = 0;
    return code;
}

__attribute__((format(printf, 2, 3))) CL__FN int cl__fail(int code, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(cl__error_text, sizeof cl__error_text, format, list);
    va_end(list);
    return cl__say(code, cl__error_text);
}

CL__FN const char *cl_strerror(int code) {
    const char *text = NULL;
    if (code == 0) return "Success";
    if (code == CL_ENOLIB) return "libcluster.so.0 was not found at run time";
    if (code == CL_ETHREADS) return "cl_fork needs a process with one thread";
    if (code == CL_EVERSION) return "primary and worker speak different versions of the protocol";
    if (code == CL_EPANIC) return "a defect inside libcluster";
    if (code < 0 && code > -4096)
        text = cl__weak_errno_text ? cl__weak_errno_text(-code) : code > -134 ? strerror(-code) : NULL;
    return text != NULL ? text : "Unknown error";
}

/* A system call has failed. */
CL__FN int cl__os(const char *what) {
    int code = -errno;
    return cl__fail(code, "%s: %s", what, cl_strerror(code));
}

CL__FN const char *cl_err_name(int code) {
    const char *name = NULL;
    switch (code) {
#define CL__N(name) case name: return #name;
#define CL__E(name) case -name: return #name;
    CL__N(CL_ENOLIB) CL__N(CL_ETHREADS) CL__N(CL_EVERSION) CL__N(CL_EPANIC) CL__E(EPERM) CL__E(ENOENT) CL__E(ESRCH)
    CL__E(E2BIG) CL__E(EBADF) CL__E(ECHILD) CL__E(EAGAIN) CL__E(ENOMEM) CL__E(EACCES) CL__E(EBUSY) CL__E(EINVAL)
    CL__E(ENFILE) CL__E(EMFILE) CL__E(EPIPE) CL__E(ENOTSOCK) CL__E(EMSGSIZE) CL__E(EOPNOTSUPP) CL__E(EADDRINUSE)
    CL__E(EADDRNOTAVAIL) CL__E(ENOTCONN) CL__E(ESHUTDOWN) CL__E(ETIMEDOUT)
#undef CL__N
#undef CL__E
    default: break;
    }
    if (code < 0 && code > -4096 && cl__weak_errno_name) name = cl__weak_errno_name(-code);
    return name != NULL ? name : code == 0 ? "OK" : "UNKNOWN";
}

CL__FN const char *cl_version(void) { return CL_VERSION; }
CL__FN unsigned cl_version_number(void) { return CL_VERSION_NUMBER; }

/* No call changes errno. pthread_cancel(3) of the thread waits until the call returns, because a cancelled thread would
 * unwind past everything that gives back what the call holds. */
struct cl__kept {
    int error, cancel;
};
CL__FN struct cl__kept cl__keep(void) {
    struct cl__kept kept = {errno, 0};
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &kept.cancel);
    return kept;
}
CL__FN int cl__put_back(struct cl__kept kept, int result) {
    pthread_setcancelstate(kept.cancel, NULL);
    errno = kept.error;
    return result;
}
