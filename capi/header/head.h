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

#include <stddef.h>
#include <sys/socket.h>

/* After either error the declarations follow all the same, so that the error is the only one. */
#ifndef __linux__
#error "cluster.h: libcluster needs Linux 5.10 or newer"
#undef CL_HEADER_ONLY
#elif defined(CL_HEADER_ONLY) && (!defined(__GLIBC__) || !defined(__GNUC__))
#error "cluster.h: CL_HEADER_ONLY needs Linux with glibc, and GCC or Clang; without it, link libcluster"
#undef CL_HEADER_ONLY
#endif

/* Warnings of -Weverything about what is meant here: C99's declarations and casts, in C++ too, names with two
 * underscores, which keep out of the program's way, and what padding a struct gets. */
#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wunknown-warning-option"
#pragma clang diagnostic ignored "-Wpadded"
#pragma clang diagnostic ignored "-Wdeclaration-after-statement"
#pragma clang diagnostic ignored "-Wunsafe-buffer-usage"
#pragma clang diagnostic ignored "-Wreserved-identifier"
#pragma clang diagnostic ignored "-Wreserved-macro-identifier"
#ifdef __cplusplus
#pragma clang diagnostic ignored "-Wc++98-compat-pedantic"
#pragma clang diagnostic ignored "-Wold-style-cast"
#pragma clang diagnostic ignored "-Wzero-as-null-pointer-constant"
#endif
#elif defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpadded"
#ifdef __cplusplus
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wzero-as-null-pointer-constant"
#else
#pragma GCC diagnostic ignored "-Wdeclaration-after-statement"
#endif
#endif

@VERSION_DEFINES@

#if defined(__GNUC__)
#define CL_API __attribute__((visibility("default")))
#else
#define CL_API
#endif

