/*
 * cluster.h - several worker processes serve one port.
 *
 * One primary process owns the listening sockets. A worker that listens asks the primary for its share of an address
 * and gets connections from it. A worker that dies or hangs costs only the connection in its hand.
 *
 *     static int serve(void *address) {
 *         int listener = cl_listen(address, 0);
 *         for (int fd; (fd = cl_accept(listener, NULL, NULL)) >= 0; close(fd))
 *             send(fd, "hello\n", 6, MSG_NOSIGNAL);
 *         return 0;
 *     }
 *     int main(void) { return cl_serve(4, serve, "127.0.0.1:8080"); }
 *
 * Link with -lcluster. Or define CL_HEADER_ONLY before the #include: then this file is all a worker needs, and the
 * primary's functions are looked up in libcluster.so.0 when one is first called.
 *
 * Conventions. A result >= 0 is success: a descriptor, an id, a count. A result < 0 is -errno or a CL_E* code below
 * -4095, and cl_last_error() has the sentence for it. No call changes errno. A pointer may be NULL only where its
 * description says so. Structs that may grow begin with their size, and a zeroed field always means the default:
 * { .size = sizeof x } is a valid value of each. After fork(2), as opposed to cl_fork(), every call in the child
 * returns -ECHILD and touches nothing. pthread_cancel(3) of a thread inside a call takes effect when the call has
 * returned. The library waits for no child but its own. It prints nothing but the report of a defect (CL_EPANIC). It
 * installs no signal handler unless it is asked to: by CL_HANDLE_SIGNALS in the primary, by CL_WORKER_SIGNALS in
 * workers, by cl_serve() in both.
 *
 * Linux 5.10 or newer. Licence: MIT or Apache-2.0, as you like.
 *
 * This file is generated; the comments are written in the crate cluster-capi.
 */
#ifndef CLUSTER_H
#define CLUSTER_H

#ifndef __linux__
#error "cluster.h: libcluster needs Linux 5.10 or newer"
#endif

#include <stddef.h>
#include <sys/socket.h>

@VERSION_DEFINES@

#if defined(__GNUC__)
#define CL_API __attribute__((visibility("default")))
#else
#define CL_API
#endif

