/* The system calls of the library, and what may go wrong with each by its man page. Left out is what only a wrong argument
 * makes (EBADF, EFAULT, ENOTSOCK, EINVAL and the like) and close(2), of which see close_once.c. */
#ifndef CASES_H
#define CASES_H

/* Where: in the primary while it serves, in a worker while it serves, in both while a worker is born. */
enum { PRIMARY = 1, WORKER = 2, BIRTH = 4 };

/* The start of a program calls it too, before the library is there, and gives up. */
enum { LOADER = 8 };

typedef struct {
    const char *call;
    int where;
    const char *errors;
} disturbed_t;

static const disturbed_t disturbed[] = {
    {"accept4", PRIMARY | WORKER,
     "ECONNABORTED EMFILE ENFILE ENOBUFS ENOMEM EAGAIN EINTR EPROTO EPERM ENETDOWN ENOPROTOOPT EHOSTDOWN ENONET EHOSTUNREACH "
     "EOPNOTSUPP ENETUNREACH ETIMEDOUT"},
    {"recvmsg", PRIMARY | WORKER | BIRTH, "ENOMEM EAGAIN EINTR ENOBUFS"},
    {"sendmsg", PRIMARY, "ETOOMANYREFS ENOBUFS ENOMEM EAGAIN EINTR"},
    {"sendmsg", WORKER | BIRTH, "ENOBUFS ENOMEM EAGAIN EINTR"}, /* without a descriptor */
    {"poll", PRIMARY | WORKER | BIRTH, "ENOMEM EINTR"},
    {"epoll_wait", PRIMARY | WORKER, "EINTR"},
    {"epoll_ctl", PRIMARY | WORKER | BIRTH, "ENOMEM ENOSPC"},
    {"epoll_create1", WORKER | BIRTH, "EMFILE ENFILE ENOMEM"},
    {"fcntl", PRIMARY | WORKER, "EMFILE ENOMEM"},
    {"ioctl", PRIMARY, "ENOMEM"},
    {"read", PRIMARY | BIRTH | LOADER, "EINTR EAGAIN"},
    {"write", PRIMARY | BIRTH, "EAGAIN EINTR EIO"},
    {"getsockopt", PRIMARY, "ENOBUFS ENOMEM"},
    {"setsockopt", PRIMARY | BIRTH, "ENOMEM ENOBUFS"},
    {"socket", PRIMARY, "EMFILE ENFILE ENOBUFS ENOMEM"},
    {"bind", PRIMARY, "EADDRINUSE ENOMEM"},
    {"listen", PRIMARY | BIRTH, "EADDRINUSE"},
    {"getsockname", PRIMARY, "ENOBUFS"},
    {"shutdown", PRIMARY | WORKER, "ENOBUFS"},
    {"bpf", PRIMARY | BIRTH, "ENOMEM EAGAIN"},
    {"socketpair", PRIMARY | BIRTH, "EMFILE ENFILE ENOMEM"},
    {"pipe2", BIRTH, "EMFILE ENFILE"},
    {"memfd_create", BIRTH, "EMFILE ENFILE ENOMEM"},
    {"ftruncate", BIRTH, "EINTR"},
    {"pidfd_open", BIRTH, "EMFILE ENFILE ENOMEM"},
    {"clone", BIRTH, "EAGAIN ENOMEM"},
    {"clone3", BIRTH, "EAGAIN ENOMEM"},
    {"execve", BIRTH | LOADER, "ENOMEM EAGAIN"},
    {"waitid", BIRTH, "EINTR"},
    {"openat", PRIMARY | BIRTH | LOADER, "EMFILE ENFILE ENOMEM EINTR"},
    {"newfstatat", BIRTH | LOADER, "ENOMEM"},
    {"mmap", PRIMARY | BIRTH | LOADER, "ENOMEM"},
    {"timerfd_settime", PRIMARY, "ECANCELED"},
};

#endif
