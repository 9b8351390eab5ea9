/* -- What a process has once --------------------------------------------------------------------------------------- */

enum { CL__FREE = 0, CL__OPEN, CL__CLOSING };               /* a place in the table of listeners */
/* How connections come. BOUND: from a socket of this process, not the primary's; SHARED: from one that all have, or the
 * slot's own, and from a mailbox. */
enum { CL__BOUND = 1, CL__PASSED, CL__SHARED, CL__DATAGRAM };
enum {
    CL__HELLO = 1, CL__ONLINE, CL__LISTEN, CL__CLOSE, CL__MESSAGE, CL__LOAD, CL__DISCONNECT, CL__GRANT, CL__CONNECTION,
    CL__NOP, CL__STOP, CL__UNSEAT = 14, CL__RETURNS, CL__HANDBACK, CL__SETSOCKOPT, CL__SEAT, CL__BEGIN
};
enum { CL__PROTOCOL = 1, CL__LISTENERS = 256 };
/* In the number of ONLINE: this worker hands connections back; it accepts in rotation; it sets socket options later. In
 * a grant's kind: the primary accepts the latter; the socket that all have is to be left alone until BEGIN. Without
 * 64-bit atomics there is no counting in a page that others have. */
#if __GCC_ATOMIC_LLONG_LOCK_FREE == 2
enum { CL__OFFERS_ROTATION = 2 };
#else
enum { CL__OFFERS_ROTATION = 0 };
#endif
enum { CL__OFFERS_HAND_BACK = 1, CL__OFFERS_OPTIONS = 4, CL__SETTABLE = 0x100, CL__WAITS = 0x200 };

struct cl__listener {
    int state;     /* CL__OPEN makes the rest valid */
    int users;     /* threads inside a call about it; the closer waits until it is the only one */
    int receiving; /* threads that receive from the mailbox and have not acted on it yet */
    int own;       /* the socket is the slot's own (mechanism kernel) */
    int accepts;   /* calls of cl_accept */
    int empty;     /* so many more calls expect to find nothing, and wait before they look */
    int shortages; /* how many in a row found descriptors or memory short */
    int stopped;   /* STOP was received */
    int plenty, half, asked, asked_since; /* see cl__room */
    int shut;      /* BOUND: when its door was shut, in ms and never 0; 0: it is open */
    int kind, fd, mailbox, socket;
    int wake;      /* eventfd by which cl_close wakes waiting threads; -1: nobody waits */
    int index;
    unsigned flags, number; /* number: the primary's name for it */
    int granted;            /* by the primary, which has to be told of its end */
    int settable;           /* the primary sets socket options for it */
    int watched;            /* the program's epoll that tells of it, by a descriptor of our own; -1: none */
    int line;               /* where it waits in line at a socket that all have: an epoll; -1: it does not */
    int place, fallen;      /* where it would; the kernel was short of memory for its entry */
    int seated;             /* the primary was told that it waits in line */
    int waits;              /* BEGIN is to come before it does */
    int lining;             /* a thread changes its place in the line */
    unsigned round;         /* the round of the page in which it took `took` connections */
    unsigned long long line_data, took; /* line_data: what the epoll tells of the socket */
    unsigned char *page;    /* of the address, where all accept in rotation; else NULL */
    char *text;             /* the address, for "the same address twice" */
    char *file;             /* the socket file to remove, if it is still this inode */
    dev_t device;
    ino_t inode;
    socklen_t name_length;
    struct sockaddr_storage name;
};

struct cl__process {
    unsigned char *member;     /* a page that reads 1 here, and 0 in a copy made by fork(2); NULL: not begun */
    int unwiped;               /* this process's pid, where a filter keeps the kernel from wiping that page; else 0 */
    int worker_id, slot;       /* worker_id 0: this process is no worker */
    int stray;                 /* started as a worker, but has no channel (2: has lost it by exec): may start none */
    int unjoined;              /* the code of what keeps this worker from its primary; 0: nothing */
    const char *step;          /* what was being done then */
    char why[200];             /* the sentence of that, ready for signal handlers */
    int channel, grants, lifeline, primary; /* primary: its pidfd, or a pipe that hangs up at its death */
    unsigned char *board;      /* this worker's page of the scoreboard; NULL: there is none */
    ino_t pipe;                /* the inode where `primary` is a pipe; 0: it is a pidfd */
    int self, sender;          /* for held signals: this process, and the primary (0: in an outer pid namespace) */
    int outside;               /* a held signal has come from an outer pid namespace */
    int gone, leaving;         /* the primary is gone; it asked this worker to disconnect */
    int dead;                  /* its process has ended; `gone` may also mean that it has done with this worker */
    int news;                  /* what cl_channel_fd returned; 0: nothing yet */
    int returns;               /* where connections are handed back; 0: not known yet */
    unsigned version, asked;   /* the primary's version of the protocol; the number of the last question */
    pthread_mutex_t begin, asking, reading, table, watching;
    struct cl__listener listeners[CL__LISTENERS];
    int places;                /* of `listeners` that were ever used */
    struct cl__library library;
};
CL__ONE(struct cl__process cl__own); /* all zero, as is PTHREAD_MUTEX_INITIALIZER on Linux */
CL__ONE(struct cl__process *cl__agreed);

CL__FN int cl__get(int *from) { return __atomic_load_n(from, __ATOMIC_SEQ_CST); }
CL__FN void cl__set(int *to, int value) { __atomic_store_n(to, value, __ATOMIC_SEQ_CST); }
CL__FN void cl__add(int *to, int value) { __atomic_add_fetch(to, value, __ATOMIC_SEQ_CST); }
