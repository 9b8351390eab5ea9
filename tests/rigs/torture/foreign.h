/* Descriptors of the program's own that are handed to every function as if they were listeners. None of them is the
 * library's to close, read, write or change. */
#ifndef FOREIGN_H
#define FOREIGN_H

#include "../../c/net.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

enum { FOREIGN_MOST = 24 };

typedef struct {
    const char *what;
    int fd, flags, status, pending, listening;
    struct stat file;
    off_t offset;
} foreign_t;

static foreign_t foreign[FOREIGN_MOST];
static int foreign_count;

/* What can be seen of a descriptor without changing it. */
static foreign_t look_at(const char *what, int fd) {
    foreign_t seen;
    socklen_t length = sizeof seen.listening;
    ZERO(seen);
    seen.what = what;
    seen.fd = fd;
    seen.flags = fcntl(fd, F_GETFD);
    seen.status = fcntl(fd, F_GETFL);
    SYS(fstat(fd, &seen.file));
    seen.offset = lseek(fd, 0, SEEK_CUR);
    if (ioctl(fd, FIONREAD, &seen.pending) != 0) seen.pending = -1;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &seen.listening, &length) != 0) seen.listening = -1;
    return seen;
}

static void keep(const char *what, int fd) {
    CHECK(foreign_count < FOREIGN_MOST);
    foreign[foreign_count++] = look_at(what, SYS(fd));
}

static int foreign_listener, foreign_epoll;

static void open_foreign(void) {
    int ends[2];
    struct sockaddr_in any = address4(0);
    foreign_count = 0;
    int file = memfd_create("foreign", MFD_CLOEXEC);
    CHECK_EQ(write(file, "0123456789", 10), 10);
    SYS(lseek(file, 3, SEEK_SET));
    keep("file", file);
    keep("/dev/null", open("/dev/null", O_RDONLY | O_CLOEXEC));
    keep("directory", open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    SYS(pipe2(ends, O_CLOEXEC));
    CHECK_EQ(write(ends[1], "pipe", 4), 4);
    keep("pipe, reading", ends[0]);
    keep("pipe, writing", ends[1]);
    static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
    for (int i = 0; i < 3; i++) {
        SYS(socketpair(AF_UNIX, types[i] | SOCK_CLOEXEC, 0, ends));
        CHECK_EQ(send(ends[1], "packet", 6, 0), 6);
        keep("pair, one end", ends[0]);
        keep("pair, other end", ends[1]);
    }
    foreign_listener = plain_listener(0);
    /* The one thing that cl_listen("fd:N") does to what it is given, see there. */
    SYS(fcntl(foreign_listener, F_SETFL, fcntl(foreign_listener, F_GETFL) | O_NONBLOCK));
    keep("listening socket", foreign_listener);
    int client = connect4(system_port(foreign_listener));
    keep("client", client);
    CHECK_EQ(readable_within(foreign_listener, 5000), 1);
    keep("server", accept4(foreign_listener, NULL, NULL, SOCK_CLOEXEC));
    int datagrams = SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    SYS(bind(datagrams, (struct sockaddr *)&any, sizeof any));
    keep("datagram socket", datagrams);
    keep("new socket", socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    foreign_epoll = SYS(epoll_create1(EPOLL_CLOEXEC));
    keep("epoll", foreign_epoll);
    keep("eventfd", eventfd(5, EFD_CLOEXEC | EFD_NONBLOCK));
}

static void expect_foreign_untouched(void) {
    for (int i = 0; i < foreign_count; i++) {
        const foreign_t *was = &foreign[i];
        foreign_t is;
        if (fcntl(was->fd, F_GETFD) < 0) check_fail(__FILE__, __LINE__, "the %s %d was closed", was->what, was->fd);
        is = look_at(was->what, was->fd);
        if (is.flags != was->flags || is.status != was->status || is.offset != was->offset ||
            is.pending != was->pending || is.listening != was->listening || is.file.st_ino != was->file.st_ino ||
            is.file.st_dev != was->file.st_dev || is.file.st_size != was->file.st_size)
            check_fail(__FILE__, __LINE__, "the %s %d was changed: flags %#x %#x, offset %ld, pending %d, listening %d", was->what,
                       was->fd, (unsigned)is.flags, (unsigned)is.status, (long)is.offset, is.pending, is.listening);
        if (strcmp(was->what, "eventfd") == 0) {
            unsigned long long value = 0;
            CHECK_EQ(read(was->fd, &value, sizeof value), sizeof value);
            CHECK_EQ(value, 5);
        }
    }
}

static void close_foreign(void) {
    for (int i = 0; i < foreign_count; i++) SYS(close(foreign[i].fd));
    foreign_count = 0;
}

#endif
