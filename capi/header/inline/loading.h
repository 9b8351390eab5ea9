/* -- The primary's side -------------------------------------------------------------------------------------------- */

CL__FN int cl__symbol(void *library, const char *name, void *to) {
    void *symbol = cl__weak_dlsym(library, name);
    memcpy(to, &symbol, sizeof symbol); /* ISO C converts no object's address to a function's */
    return symbol != NULL ? 0 : cl__fail(CL_ENOLIB, "the libcluster.so.0 that was found has no %s", name);
}

/* 0: from here on calls go to this library. */
CL__FN int cl__use_library(void *library) {
    struct cl__library found;
    int code = 0;
    memset(&found, 0, sizeof found);
#define CL__SYMBOL(name, parameters, ...) if (code == 0) code = cl__symbol(library, "cl_" #name, &found.name);
    CL__SYMBOL(version_number, , )
    if (code == 0 && found.version_number() >> 8 != cl_version_number() >> 8)
        code = cl__fail(CL_ENOLIB, "the libcluster.so.0 that was found is version %u.%u; this program was built for %s",
                        found.version_number() >> 16, found.version_number() >> 8 & 255, cl_version());
    CL__SYMBOL(last_error, , )
    CL__SYMBOL(serve, , )
    CL__STARTING_FUNCTIONS(CL__SYMBOL)
    CL__PRIMARY_FUNCTIONS(CL__SYMBOL)
    CL__STOP_FUNCTION(CL__SYMBOL)
    CL__EITHER_FUNCTIONS(CL__SYMBOL)
    CL__FIRST_LISTENER_FUNCTIONS(CL__SYMBOL)
#undef CL__SYMBOL
#define CL__SYMBOL(name, parameters, ...) if (code == 0 && cl__symbol(library, "cl_" #name, &found.name) < 0) cl__say(0, NULL);
    CL__LATER_LISTENER_FUNCTIONS(CL__SYMBOL)
    CL__LATER_PRIMARY_FUNCTIONS(CL__SYMBOL)
    CL__LATER_EITHER_FUNCTIONS(CL__SYMBOL)
#undef CL__SYMBOL
    if (code < 0) return code;
    cl__this()->library = found;
    __atomic_store_n(&cl__this()->library.loaded, 1, __ATOMIC_RELEASE);
    return 0;
}

CL__FN int cl__load_library(void) {
    if (!cl__weak_dlopen || !cl__weak_dlsym) return cl__say(CL_ENOLIB, "this program cannot load libraries; link -ldl");
    void *library = cl__weak_dlopen("libcluster.so.0", RTLD_NOW);
    if (library != NULL) return cl__use_library(library);
    const char *why = cl__weak_dlerror ? cl__weak_dlerror() : NULL;
    return cl__fail(CL_ENOLIB, "a primary needs libcluster.so.0: %s", why != NULL ? why : "it was not found");
}

/* Whether a call goes to the library. It does so, too, if the library was in the process before anything began here:
 * others have it, and it knows what this process is. One that cannot be used is as good as none. */
CL__FN int cl__in_library(void) {
    if (cl__loaded()) return 1;
    if (__atomic_load_n(&cl__this()->member, __ATOMIC_ACQUIRE) != NULL) return 0;
    struct cl__kept kept = cl__keep();
    void *library = cl__library_here();
    if (library != NULL && cl__weak_dlsym) {
        cl__agree();
        pthread_mutex_lock(&cl__this()->begin);
        if (!cl__loaded() && cl__this()->member == NULL && cl__use_library(library) < 0) cl__say(0, NULL);
        pthread_mutex_unlock(&cl__this()->begin);
    }
    return cl__put_back(kept, cl__loaded());
}

/* 0: the call may go to the library. */
CL__FN int cl__need_library(void) {
    if (cl__in_library()) return 0;
    int code = cl__enter();
    if (code == 0 && cl__this()->worker_id != 0) code = cl__say(-EPERM, "only a primary can do this");
    if (code == 0) {
        pthread_mutex_lock(&cl__this()->begin);
        if (!cl__loaded() && (code = cl__load_library()) < 0) cl__set(&cl__this()->library.missing, 1);
        pthread_mutex_unlock(&cl__this()->begin);
    }
    return code;
}

/* The same for what starts workers. The library cannot know what the environment said, which is cleaned by then. */
CL__FN int cl__may_start(void) {
    int code = cl__in_library() ? 0 : cl__enter(); /* the library knows its own forks */
    if (code == 0 && cl__this()->stray == 2)
        return cl__say(-ENOTCONN, "this process was started as a worker, but has run another program since, which exec(3) took the "
                                  "channel from; let a child of the worker run that program, or call exec(3) before the first cl_ "
                                  "call. It may start no workers, as each of these would do the same");
    if (code == 0 && cl__this()->stray)
        return cl__say(-ENOTCONN, "this process was started as a worker (CL_WORKER_ID is set), but has no channel to its primary; "
                                  "closefrom(3) at the start of main, or a wrapper that closes descriptors, does this: call "
                                  "cl_is_worker() before it, or keep the descriptor that CL_CHANNEL_FD names. It may start no "
                                  "workers, as each of these would do the same");
    return code < 0 ? code : cl__need_library();
}
