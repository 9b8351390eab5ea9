/* -- What a process has once --------------------------------------------------------------------------------------- */

enum { CL__FREE = 0, CL__OPEN, CL__CLOSING };               /* a place in the table of listeners */
enum { CL__OWN = 1, CL__PASSED, CL__SHARED, CL__DATAGRAM }; /* how connections come */
enum {
    CL__HELLO = 1, CL__ONLINE, CL__LISTEN, CL__CLOSE, CL__MESSAGE, CL__LOAD, CL__DISCONNECT, CL__GRANT, CL__CONNECTION,
    CL__NOP, CL__STOP, CL__SETSOCKOPT = 17
};
enum { CL__PROTOCOL = 1, CL__LISTENERS = 256 };
/* In the number of ONLINE: it sets socket options later. In a grant's kind: the primary takes them. */
enum { CL__OFFERS_OPTIONS = 4, CL__SETTABLE = 0x100 };

struct cl__listener {
    int state;     /* CL__OPEN makes the rest valid */
    int users;     /* threads inside a call about it; it is closed when the closer is the only one */
    int receiving; /* threads between a receive from the mailbox and having acted on it */
    int own;       /* the socket is this worker's alone, not shared with others */
    int accepts;   /* calls of cl_accept */
    int shortages; /* how many of them in a row found descriptors or memory short */
    int stopped;   /* STOP was received */
    int shut;      /* when the door of a socket of the worker's own was shut, in ms and not 0; 0: it is open */
    int kind, fd, mailbox, socket;
    int wake;      /* eventfd by which cl_close wakes the threads that wait; -1: nobody may wait */
    int index;
    unsigned flags, number; /* number: the primary's name for it */
    int granted;            /* the primary knows it, and has to be told of its end */
    int settable;           /* and sets socket options for it */
    char *text;             /* the address, for "the same address twice" */
    char *file;             /* the socket file to remove, if it still is this inode */
    dev_t device;
    ino_t inode;
    socklen_t name_length;
    struct sockaddr_storage name;
};

struct cl__process {
    unsigned char *member;     /* a page that reads 1 here, and 0 in a copy made by fork(2); NULL: not begun */
    int unwiped;               /* a filter keeps the kernel from wiping it there: this process's number; else 0 */
    int worker_id, slot;       /* worker_id 0: this process is no worker */
    int stray;                 /* it was started as one, and has no channel that proves it (2: any more): it starts none itself */
    int unjoined;              /* the code of what keeps this worker from its primary; 0: nothing */
    const char *step;          /* and what was being done then */
    char why[200];             /* the sentence of that, ready for signal handlers */
    int channel, grants, lifeline, primary; /* primary: its pidfd, or a pipe that hangs up at its death */
    unsigned char *board;      /* this worker's page of the scoreboard; NULL: there is none */
    ino_t pipe;                /* then that pipe's inode; 0: a pidfd */
    int self, sender, outside; /* of the signals that it holds: this process, the primary (0: in an outer pid namespace), whether one
                                * came from there */
    int gone, leaving;         /* the primary is gone; it asked this worker to disconnect */
    int news;                  /* what cl_channel_fd gave; 0: nothing yet */
    unsigned version, asked;   /* the primary's version of the protocol; the number of the last question */
    pthread_mutex_t begin, asking, reading, table;
    struct cl__listener listeners[CL__LISTENERS];
    int places;                /* of `listeners` that were ever used */
};
CL__ONE struct cl__process cl__process; /* all zero, which on Linux is also what PTHREAD_MUTEX_INITIALIZER is */

CL__FN int cl__get(int *from) { return __atomic_load_n(from, __ATOMIC_SEQ_CST); }
CL__FN void cl__set(int *to, int value) { __atomic_store_n(to, value, __ATOMIC_SEQ_CST); }
CL__FN void cl__add(int *to, int value) { __atomic_add_fetch(to, value, __ATOMIC_SEQ_CST); }

/* What the page says: this is the process that made it. */
CL__FN int cl__is_member(unsigned char *page) {
    if (!__atomic_load_n(page, __ATOMIC_RELAXED)) return 0;
    return cl__process.unwiped == 0 || cl__process.unwiped == (int)getpid();
}
