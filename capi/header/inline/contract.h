/* -- The functions of the contract --------------------------------------------------------------------------------- */

#define CL__IF(allowed, name, parameters, ...) \
    CL__FN int cl_##name parameters { \
        struct cl__kept kept_ = cl__keep(); \
        int code_ = allowed(); \
        return cl__put_back(kept_, code_ < 0 ? code_ : cl__from_library(cl__this()->library.name(__VA_ARGS__))); \
    }
#define CL__STARTING(name, parameters, ...) CL__IF(cl__may_start, name, parameters, __VA_ARGS__)
#define CL__PRIMARY(name, parameters, ...) CL__IF(cl__need_library, name, parameters, __VA_ARGS__)
#define CL__EITHER(name, parameters, ...) \
    CL__FN int cl_##name parameters { \
        if (cl__in_library()) return cl__from_library(cl__this()->library.name(__VA_ARGS__)); \
        struct cl__kept kept_ = cl__keep(); \
        return cl__put_back(kept_, cl__##name(__VA_ARGS__)); \
    }
#define CL__FOUND(name, ...) \
    (cl__this()->library.name == NULL ? cl__say(CL_ENOLIB, "the libcluster.so.0 that was found has no cl_" #name) \
                                      : cl__from_library(cl__this()->library.name(__VA_ARGS__)))
#define CL__LATER_PRIMARY(name, parameters, ...) \
    CL__FN int cl_##name parameters { \
        struct cl__kept kept_ = cl__keep(); \
        int code_ = cl__need_library(); \
        return cl__put_back(kept_, code_ < 0 ? code_ : CL__FOUND(name, __VA_ARGS__)); \
    }
#define CL__LATER_EITHER(name, parameters, ...) \
    CL__FN int cl_##name parameters { \
        struct cl__kept kept_ = cl__keep(); \
        return cl__put_back(kept_, cl__in_library() ? CL__FOUND(name, __VA_ARGS__) : cl__##name(__VA_ARGS__)); \
    }
#define CL__OF_LISTENER(name, parameters, ...) \
    CL__FN int cl_##name parameters { \
        struct cl__kept kept_ = cl__keep(); \
        struct cl__listener *held_ = cl__hold(fd); \
        if (held_ == NULL && cl__in_library()) { \
            int late_ = CL__FOUND(name, __VA_ARGS__); \
            return cl__put_back(kept_, late_); \
        } \
        int result_ = held_ != NULL ? cl__##name(held_, __VA_ARGS__) : cl__no_listener(fd); \
        if (held_ != NULL) cl__add(&held_->users, -1); \
        return cl__put_back(kept_, result_); \
    }
CL__STARTING_FUNCTIONS(CL__STARTING)
CL__PRIMARY_FUNCTIONS(CL__PRIMARY)
CL__EITHER_FUNCTIONS(CL__EITHER)
CL__LISTENER_FUNCTIONS(CL__OF_LISTENER)
CL__LATER_PRIMARY_FUNCTIONS(CL__LATER_PRIMARY)
CL__LATER_EITHER_FUNCTIONS(CL__LATER_EITHER)

/* Async-signal-safe: it does not load the library. Without the library there is no primary to stop. */
CL__FN int cl_stop(int deadline_ms) {
    if (cl__loaded()) return cl__from_library(cl__this()->library.stop(deadline_ms));
    if (__atomic_load_n(&cl__this()->member, __ATOMIC_ACQUIRE) == NULL) return 0;
    int code = cl__enter();
    if (code < 0) return code;
    if (cl__this()->worker_id != 0) return cl__say(-EPERM, "only a primary can do this");
    return cl__get(&cl__this()->library.missing) ? cl__say(CL_ENOLIB, "a primary needs libcluster.so.0, which was not found") : 0;
}

CL__FN int cl_accept(int listener, struct sockaddr *peer, socklen_t *peer_length) {
    return cl_accept4(listener, peer, peer_length, 0);
}

CL__FN int cl_listen(const char *address, int backlog) {
    cl_listen_options_t options = {sizeof options, address, backlog, 0, 0, NULL, 0};
    return address != NULL ? cl_listen_with(&options) : cl__say(-EINVAL, "the address is NULL");
}

CL__FN int cl_serve(int workers, int (*worker_main)(void *), void *argument) {
    /* A worker that was started as a program does here what forked ones do. */
    if (!cl__in_library() && worker_main != NULL && cl_is_worker() == 1) {
        int joined = cl__enter_worker();
        /* A worker of another version learns in its own calls what it cannot do. */
        if (joined < 0 && joined != CL_EVERSION) return joined;
        cl__hold_signals();
        return worker_main(argument);
    }
    struct cl__kept kept = cl__keep();
    int code = cl__may_start();
    return cl__put_back(kept, code < 0 ? code : cl__from_library(cl__this()->library.serve(workers, worker_main, argument)));
}
