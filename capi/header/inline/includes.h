/*
 * Header-only mode: with CL_HEADER_ONLY, what follows is compiled in place of the declarations above. It is the
 * worker's side of docs/protocol.md, the sockets of a process that is no worker, and a loader that finds the primary's
 * side in libcluster.so.0 on first use. There is nothing to link.
 *
 * Every function is static inline. What a process has once (its channel, its listeners) is defined weak, so that the
 * linker keeps one of each however many translation units include this. A program and the plugins that it loads with
 * dlopen(3) use one of these together, if they were built with the same version of this file.
 *
 * Once the process has loaded the library, for this code or before its first call for somebody else, every call goes
 * there, except for listeners that this code opened. A worker that this code serves never loads the library.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
