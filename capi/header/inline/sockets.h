/* -- Sockets that this process binds itself ------------------------------------------------------------------------ */

/* Whether a socket file is a dead server's. The probe is of another type: a live server's socket then returns
 * EPROTOTYPE, even before it listens, and gets no connection into its queue. The file is held by descriptor, so that
 * the one probed is the one looked at; a symbolic link or another kind of file stays. */
CL__FN int cl__is_stale(const char *path) {
    struct sockaddr_un un;
    struct stat found;
    int stale = 0, probe = -1, file = cl__high(open(path, __O_PATH | __O_NOFOLLOW | __O_CLOEXEC));
    if (file >= 0 && fstat(file, &found) == 0 && (found.st_mode & CL__S_IFMT) == CL__S_IFSOCK) {
        probe = cl__high(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        memset(&un, 0, sizeof un);
        un.sun_family = AF_UNIX;
        snprintf(un.sun_path, sizeof un.sun_path, "/proc/self/fd/%d", file);
        if (access(un.sun_path, F_OK) != 0) strncpy(un.sun_path, path, sizeof un.sun_path - 1); /* no /proc */
        stale = probe >= 0 && connect(probe, (struct sockaddr *)&un, sizeof un) != 0 && errno == ECONNREFUSED;
    }
    cl__close_fd(probe);
    cl__close_fd(file);
    return stale;
}

/* Binds to a path and listens; 0 or -errno. The directory is locked from the probe to listen(2), so that two servers
 * that find the same dead file cannot remove each other's new one. Anybody who can read a directory can lock it, so the
 * lock is waited for a second at most; without it no file is taken for dead. */
CL__FN int cl__bind_file(int socket, struct cl__address *at, unsigned flags, int backlog,
                         struct cl__listener *listener) {
    mode_t mode = (flags & CL_LISTEN_READABLE_ALL ? 0444 : 0) | (flags & CL_LISTEN_WRITABLE_ALL ? 0222 : 0);
    char through[64], *path = at->text + 5, *name = strrchr(path, '/');
    struct stat found;
    *name = '\0';
    int code = 0, file = -1, locked = 0, directory = cl__high(open(name == path ? "/" : path, O_RDONLY | __O_CLOEXEC));
    *name++ = '/';
    if (directory < 0) return -errno;
    if (at->length == 0) {
        /* sun_path holds 107 bytes (unix(7)); a longer path goes through the open directory. */
        struct sockaddr_un *un = (struct sockaddr_un *)&at->name;
        at->length = sizeof *un;
        if (strlen(name) > sizeof un->sun_path - 32) code = -ENAMETOOLONG;
        else snprintf(un->sun_path, sizeof un->sun_path, "/proc/self/fd/%d/%s", directory, name);
    }
    /* The file gets this mode less the umask; what the flags ask for is added below. */
    if (code == 0 && cl__os_fchmod(socket, 0755) != 0) code = -errno;
    for (int i = 0; i < 100 && !locked; i++)
        if (!(locked = flock(directory, CL__LOCK_EX_NB) == 0)) poll(NULL, 0, 10);
    if (code == 0 && bind(socket, (struct sockaddr *)&at->name, at->length) != 0) {
        code = -errno;
        if (code == -EADDRINUSE && locked && cl__is_stale(path) && unlink(path) == 0)
            code = bind(socket, (struct sockaddr *)&at->name, at->length) != 0 ? -errno : 0;
    }
    if (code == 0) {
        /* The inode is held while its mode is set, and must be a socket: what is swapped in is not touched. */
        int ours = 0;
        file = cl__high(open(path, __O_PATH | __O_NOFOLLOW | __O_CLOEXEC));
        snprintf(through, sizeof through, "/proc/self/fd/%d", file);
        if (file >= 0 && fstat(file, &found) == 0 && !(ours = (found.st_mode & CL__S_IFMT) == CL__S_IFSOCK)) errno = ENOTSOCK;
        if (!ours || (mode != 0 && chmod(through, (found.st_mode & 07777) | mode) != 0) || listen(socket, backlog) != 0)
            code = -errno;
        if (code < 0) (void)(ours && unlink(path));
        else if ((listener->file = (char *)malloc(strlen(path) + 1)) != NULL) {
            strcpy(listener->file, path);
            listener->device = found.st_dev;
            listener->inode = found.st_ino;
        }
    }
    cl__close_fd(file);
    cl__close_fd(directory); /* releases the lock */
    return code;
}

/* A copy of the socket that the program has open under this number; or -errno, with its sentence. */
CL__FN int cl__inherit(int number, struct cl__address *at) {
    int listening = 0, type = 0, copy;
    socklen_t length = sizeof(int), type_length = sizeof(int);
    if (getsockopt(number, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0)
        return cl__fail(-errno, "descriptor %d: %s", number, cl_strerror(-errno));
    struct sockaddr_in6 name; /* its port is where that of sockaddr_in is */
    socklen_t name_length = sizeof name;
    memset(&name, 0, sizeof name);
    int named = getsockopt(number, SOL_SOCKET, SO_TYPE, &type, &type_length) == 0 &&
                getsockname(number, (struct sockaddr *)&name, &name_length) == 0;
    at->datagram = named && type == SOCK_DGRAM && (name.sin6_family == AF_INET || name.sin6_family == AF_INET6);
    if (!named || (type != SOCK_STREAM && !at->datagram))
        return cl__fail(-EINVAL, "descriptor %d is a socket, but no stream socket and no udp socket", number);
    if (at->datagram && name.sin6_port == 0)
        return cl__fail(-EINVAL, "descriptor %d is a socket that is not bound; call bind(2) on it first", number);
    if (!listening && !at->datagram)
        return cl__fail(-EINVAL, "descriptor %d is a socket that does not listen; call listen(2) on it first", number);
    copy = fcntl(number, CL__F_DUPFD_CLOEXEC, 3);
    if (copy < 0) return cl__fail(-errno, "descriptor %d: %s", number, cl_strerror(-errno));
    if (!at->datagram) fcntl(copy, F_SETFL, fcntl(copy, F_GETFL) | O_NONBLOCK);
    return copy;
}

CL__FN int cl__check_value(const void *value, socklen_t length) {
    if (value == NULL) return cl__say(-EINVAL, "the value of a socket option is NULL");
    if (length <= 256) return 0;
    return cl__fail(-EINVAL, "the value of a socket option has %u bytes; at most 256 are possible", (unsigned)length);
}

CL__FN int cl__of_another(const char *address) {
    return cl__fail(-EOPNOTSUPP, "\"%s\" is another's socket, whose options are its maker's; set them before it is "
                                 "handed over", address);
}

/* Sets what accepted connections inherit, before listen(2): the size of a buffer decides what a handshake offers
 * (tcp(7)). 0, or -errno and `*failed` is the option that the kernel refused. */
CL__FN int cl__give_options(int fd, const cl_listen_options_t *options, int *failed) {
    for (*failed = 0; *failed < (int)options->option_count; ++*failed) {
        const cl_socket_option_t *one = &options->options[*failed];
        if (setsockopt(fd, one->level, one->name, one->value, one->length) != 0) return -errno;
    }
    *failed = -1;
    return 0;
}

/* A socket bound to a name, or -errno. A listening one never blocks; a datagram socket is the program's, and blocks. */
CL__FN int cl__bind(struct cl__address *at, const cl_listen_options_t *options, struct cl__listener *listener,
                    int *failed) {
    int backlog = options->backlog > 0 ? options->backlog : 511, on = 1, code = 0;
    int kind = (at->datagram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC;
    if (!at->datagram) kind |= SOCK_NONBLOCK;
    int fd = cl__high(socket(at->family, kind, 0));
    if (fd < 0) return -errno;
    if (at->family == AF_UNIX && at->text[5] != '@') {
        code = cl__give_options(fd, options, failed);
        if (code == 0) code = cl__bind_file(fd, at, options->flags, backlog, listener);
    } else {
        /* Set either way, so that the host's bindv6only setting does not decide. */
        int v6only = (options->flags & CL_LISTEN_IPV6ONLY) != 0;
        if (at->family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only);
        /* For datagrams SO_REUSEADDR would let a stranger of the same user take them over. */
        if (at->family != AF_UNIX && !at->datagram) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (options->flags & CL_LISTEN_REUSEPORT && setsockopt(fd, SOL_SOCKET, CL__SO_REUSEPORT, &on, sizeof on) != 0)
            code = -errno;
        if (code == 0 && bind(fd, (struct sockaddr *)&at->name, at->length) != 0) code = -errno;
        if (code == 0) code = cl__give_options(fd, options, failed);
        if (code == 0 && !at->datagram && listen(fd, backlog) != 0) code = -errno;
    }
    if (code == 0) return fd;
    close(fd);
    return code;
}

CL__FN int cl__listen_alone(struct cl__address *at, const cl_listen_options_t *options, struct cl__listener *listener) {
    int code, failed = -1, anywhere = at->family == AF_UNSPEC, has_file = at->family == AF_UNIX && at->text[5] != '@';
    if (options->flags & (CL_LISTEN_READABLE_ALL | CL_LISTEN_WRITABLE_ALL) && !has_file)
        return cl__fail(-EINVAL, "\"%s\" has no file that could be made readable or writable for all", at->text);
    if (at->family == -1 && options->option_count > 0)
        return cl__of_another(at->text);
    if (at->family == -1) {
        code = cl__inherit(at->inherited, at);
        if (code < 0) return code;
    } else {
        if (anywhere && (code = cl__look_up(at, "::", AF_INET6)) < 0) return code;
        code = cl__bind(at, options, listener, &failed);
        if (anywhere && !(options->flags & CL_LISTEN_IPV6ONLY) && (code == -EAFNOSUPPORT || code == -EADDRNOTAVAIL) &&
            cl__look_up(at, "0.0.0.0", AF_INET) == 0)
            code = cl__bind(at, options, listener, &failed);
        if (code < 0 && failed >= 0)
            return cl__fail(code, "setsockopt of the option %d of level %d for %s: %s", options->options[failed].name,
                            options->options[failed].level, at->text, cl_strerror(code));
        if (code < 0) return cl__fail(code, "bind %s: %s", at->text, cl_strerror(code));
    }
    listener->socket = code;
    cl__set(&listener->fd, code); /* cl__hold looks at every place that was ever used */
    listener->kind = at->datagram ? CL__DATAGRAM : CL__BOUND;
    listener->name_length = sizeof listener->name;
    getsockname(code, (struct sockaddr *)&listener->name, &listener->name_length);
    return 0;
}
