//! Listens and accepts.

use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_ulonglong, c_void};
use std::mem::offset_of;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use cluster_core::{AcceptFlags, Error, ListenFlags, ListenOptions, Listener, Result, SockAddr, SocketOption, process};
use libc::{sockaddr, socklen_t};

use crate::convert::{invalid, sized, text};
use crate::guard::guard;
use crate::structs::{cl_listen_options_t, cl_socket_option_t};

/// The listeners this process has open, by the number that C holds.
static LISTENERS: LazyLock<RwLock<HashMap<c_int, Arc<Listener>>>> = LazyLock::new(RwLock::default);

fn find(listener: c_int) -> Result<Arc<Listener>> {
    process::check_not_forked()?;
    let listeners = LISTENERS.read().unwrap_or_else(PoisonError::into_inner);
    listeners.get(&listener).cloned().ok_or_else(|| no_listener(listener))
}

fn no_listener(listener: c_int) -> Error {
    Error::new(-libc::EBADF, format!("{listener} is no listener of cl_listen"))
}

fn listen(address: &str, options: ListenOptions) -> Result<c_int> {
    let listener = Arc::new(process::listen(address, options)?);
    let number = listener.as_raw_fd();
    LISTENERS.write().unwrap_or_else(PoisonError::into_inner).insert(number, listener);
    Ok(number)
}

/// Listens on an address: in a worker with a share of the primary's, elsewhere with a socket that this process binds.
///
/// In a worker the primary binds when the first worker asks; its error goes to that worker and is not remembered. The
/// same address twice in one worker is -EADDRINUSE. A worker waits here for the primary's answer.
///
/// The address is one of
///
///     host:port  [v6]:port  a host name is resolved here, which may wait for a name server
///     :port                 all addresses, IPv6 and IPv4
///     unix:/path            a dead server's file is replaced, a live one's is -EADDRINUSE; paths over 107 bytes work. If a
///                           worker removes the file, the next listen or end of a worker makes it anew; where that
///                           cannot be (CL_SCHED_NONE), CL_EVENT_WARNING says that nobody can connect
///     unix:@name            an abstract socket
///     fd:N                  descriptor N of the primary; of this process if it is no worker or binds the socket itself
///                           (CL_LISTEN_EXCLUSIVE). A listening socket, which stays open and is made non-blocking for
///                           all who have it; or a bound udp socket, left as it is
///     udp:...               with one of the first three behind it: the descriptor returned is the datagram socket,
///                           for recvfrom(2) and sendto(2). Each slot has its own, and the kernel chooses by a hash of
///                           both ends; with CL_SCHED_NONE, CL_MECHANISM_PASSED or fd:N all workers have the same one
///
/// The n-th listen on port 0 of an address is the same port in every worker, and in the workers that replace them.
///
/// @param address  see above. Not NULL; not kept.
/// @param backlog  connections that the kernel keeps waiting; 0 or less: 511; at most net.core.somaxconn. The first
///                 worker to listen on an address decides.
/// @return a descriptor >= 0 that is readable when cl_accept() has something to say, for poll(2) and epoll(7). It is
///         close-on-exec; close it with cl_close() only.
///         -EINVAL: a bad address (cl_last_error() says why); -EADDRINUSE, -EACCES, -EADDRNOTAVAIL, ...: from bind(2);
///         -EACCES: not declared in cl_settings_t.listen_allow; -EMFILE: 256 listeners of this worker or
///         cl_settings_t.listen_max addresses are open, or no descriptor is free; -ESHUTDOWN: this worker was asked to
///         disconnect; -EPIPE: the primary is gone; CL_EVERSION.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler; interrupted waits go on. Since 0.1.
///
/// # Safety
/// `address` is NULL or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_listen(address: *const c_char, backlog: c_int) -> c_int {
    guard(|| {
        // SAFETY: passed on to the caller.
        let address = unsafe { text(address, "the address") }?;
        listen(address, ListenOptions { backlog, ..Default::default() })
    })
}

/// What a zeroed address means, as in Node's `listen()`.
const ANY_FREE_PORT: &str = ":0";

/// Listens as cl_listen() does, with options.
///
/// @param options  see cl_listen_options_t; not NULL; not kept.
/// @return as cl_listen(); also
///         -EINVAL: an unknown flag, a bad index or size, more than 32 socket options, one without a value or with a
///         value out of its bounds; also for any socket option if the primary is an older one, which knows none;
///         -EACCES: a socket option that workers may not set (docs/socket-options.md has the list);
///         -E2BIG: a field of a later version is set; -EOPNOTSUPP: socket options for "fd:N"; -ENOPROTOOPT, ...: from
///         setsockopt(2).
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
///
/// # Safety
/// `options` is NULL or points to as many readable bytes as its size says; its address is NULL or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_listen_with(options: *const cl_listen_options_t) -> c_int {
    guard(|| {
        if options.is_null() {
            return Err(invalid("the listen options are NULL"));
        }
        let least = offset_of!(cl_listen_options_t, backlog);
        // SAFETY: passed on to the caller; not NULL.
        let options = unsafe { sized(options, least, "cl_listen_options_t") }?;
        let address = match options.address.is_null() {
            true => ANY_FREE_PORT,
            // SAFETY: passed on to the caller.
            false => unsafe { text(options.address, "the address") }?,
        };
        let index = u32::try_from(options.index).map_err(|_| invalid("the index is negative"))?;
        let flags = ListenFlags::from_bits(options.flags)?;
        // SAFETY: passed on to the caller.
        let listed = unsafe { socket_options(options.options, options.option_count) }?;
        listen(address, ListenOptions { backlog: options.backlog, flags, index, options: listed })
    })
}

/// The most options of one listen, and the most bytes of a value.
const OPTIONS_MAX: usize = 32;
const VALUE_MAX: usize = 256;

/// # Safety
/// `given` is NULL or points to `count` readable options, each with as many readable bytes as it says.
unsafe fn socket_options(given: *const cl_socket_option_t, count: usize) -> Result<Vec<SocketOption>> {
    if count > OPTIONS_MAX {
        return Err(invalid(format!("there are {count} options; at most {OPTIONS_MAX} are possible")));
    }
    if given.is_null() {
        return if count == 0 { Ok(Vec::new()) } else { Err(invalid("the socket options are NULL")) };
    }
    // SAFETY: not NULL, and `count` long by this function's contract.
    let given = unsafe { std::slice::from_raw_parts(given, count) };
    given
        .iter()
        // SAFETY: passed on to the caller.
        .map(|one| unsafe { socket_option(one.level, one.name, one.value, one.length) })
        .collect()
}

/// # Safety
/// `value` is NULL or points to `length` readable bytes.
unsafe fn socket_option(level: c_int, name: c_int, value: *const c_void, length: socklen_t) -> Result<SocketOption> {
    let length = length as usize;
    if value.is_null() {
        return Err(invalid("the value of a socket option is NULL"));
    }
    if length > VALUE_MAX {
        return Err(invalid(format!(
            "the value of a socket option has {length} bytes; at most {VALUE_MAX} are possible"
        )));
    }
    // SAFETY: not NULL, and `length` bytes long by this function's contract.
    let value = unsafe { std::slice::from_raw_parts(value.cast::<u8>(), length) }.to_vec();
    Ok(SocketOption { level, name, value })
}

/// Takes one connection: cl_accept4() without flags.
///
/// @param listener     from cl_listen().
/// @param peer         where the peer's address goes, or NULL.
/// @param peer_length  bytes at `peer`; set to the address's length, which may be more. NULL only if `peer` is.
/// @return as cl_accept4().
///
/// Threads: any, several on one listener too; cl_close() wakes them. After fork(2): -ECHILD. Signals: not in a handler.
/// Since 0.1.
///
/// # Safety
/// `peer` is NULL or has `*peer_length` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_accept(listener: c_int, peer: *mut sockaddr, peer_length: *mut socklen_t) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { cl_accept4(listener, peer, peer_length, 0) }
}

/// Takes one connection, and waits for it unless the listener has CL_LISTEN_NONBLOCK.
///
/// The connection is this process's from the moment the kernel hands it over; until then the primary can give it to
/// another worker, should this one die or hang. The primary closes its own copy a moment after it has passed the
/// connection on. Take a connection out of an epoll set (EPOLL_CTL_DEL) before you close it: epoll(7) forgets a
/// descriptor by itself only when no other process has it open.
///
/// @param listener     from cl_listen().
/// @param peer         where the peer's address goes, or NULL.
/// @param peer_length  bytes at `peer`; set to the address's length, which may be more. NULL only if `peer` is.
/// @param flags        SOCK_NONBLOCK, SOCK_CLOEXEC (accept4(2)) or 0.
/// @return a connected socket >= 0 that the caller closes with close(2).
///         -EAGAIN: CL_LISTEN_NONBLOCK, and nothing is there;
///         -ESHUTDOWN: this worker was asked to disconnect and nothing is left for it: finish and exit;
///         -EPIPE: the primary is gone: finish within a second and exit;
///         -EMFILE, -ENFILE: no descriptor is free; -ENOMEM, -ENOBUFS: memory is short. The connection waits and the
///         program may simply call again: from the second consecutive failure, a blocking call pauses 4 to 100 ms
///         before it returns. A connection is lost only if another thread takes the last descriptor during this call;
///         -EBADF: no listener, or closed by another thread meanwhile; -EOPNOTSUPP: a udp listener; -EINVAL: a flag.
///
/// Threads: any, also several on one listener. After fork(2): -ECHILD. Signals: not in a handler; a wait that a signal
/// interrupts goes on, and -EINTR is never returned. cl_close() of the listener ends its wait. Since 0.1.
///
/// # Safety
/// `peer` is NULL or has `*peer_length` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_accept4(
    listener: c_int,
    peer: *mut sockaddr,
    peer_length: *mut socklen_t,
    flags: c_int,
) -> c_int {
    guard(|| {
        if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
            return Err(invalid("the accept flags hold more than SOCK_NONBLOCK and SOCK_CLOEXEC"));
        }
        if !peer.is_null() && peer_length.is_null() {
            return Err(invalid("the peer's length is NULL"));
        }
        let flags = AcceptFlags {
            nonblocking: flags & libc::SOCK_NONBLOCK != 0,
            close_on_exec: flags & libc::SOCK_CLOEXEC != 0,
            without_peer: peer.is_null(),
        };
        let (connection, address) = find(listener)?.accept(flags)?;
        if !peer.is_null() {
            // SAFETY: passed on to the caller; neither is NULL.
            unsafe { give(&address, peer, peer_length) };
        }
        Ok(connection.into_raw_fd())
    })
}

/// Tells the address that a listener is bound to: the real port where 0 was asked for.
///
/// @param listener     from cl_listen().
/// @param name         where the address goes; not NULL.
/// @param name_length  bytes at `name`; set to the address's length, which may be more; not NULL.
/// @return 0; -EBADF: no listener; -EINVAL: NULL.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
///
/// # Safety
/// `name` is NULL or has `*name_length` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_getsockname(listener: c_int, name: *mut sockaddr, name_length: *mut socklen_t) -> c_int {
    guard(|| {
        let listener = find(listener)?;
        if name.is_null() || name_length.is_null() {
            return Err(invalid("the name or its length is NULL"));
        }
        // SAFETY: passed on to the caller; neither is NULL.
        unsafe { give(&listener.name(), name, name_length) };
        Ok(0)
    })
}

/// Copies an address as accept(2) does: cut to the room, with its full length.
///
/// # Safety
/// `to` has `*length` writable bytes; neither is NULL.
unsafe fn give(address: &SockAddr, to: *mut sockaddr, length: *mut socklen_t) {
    let bytes = address.as_bytes();
    // SAFETY: by this function's contract.
    let length = unsafe { &mut *length };
    let copied = bytes.len().min(*length as usize);
    // SAFETY: at most `*length` bytes, which the caller has.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.cast::<u8>(), copied) };
    *length = bytes.len() as socklen_t;
}

/// Sets a socket option of a listener's address, as setsockopt(2) does on a listening socket, with every mechanism.
///
/// In a worker the primary judges the option and sets it on every socket of the address: for all workers that share it,
/// later ones included, and for as long as the address is open, whatever becomes of this worker. Connections that come
/// from now on inherit it; some of those that already wait to be accepted may not. A worker waits here for the
/// primary's answer. On a socket that this process bound itself (no worker, CL_LISTEN_EXCLUSIVE, CL_LISTEN_REUSEPORT)
/// this is setsockopt(2), and the kernel alone judges.
///
/// setsockopt(2) on the listener's descriptor does something else with each mechanism: see docs/socket-options.md. It
/// also has the bounds of the options that a worker may set, each an int: SO_KEEPALIVE, SO_RCVBUF, SO_SNDBUF;
/// TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT, TCP_MAXSEG, TCP_FASTOPEN, TCP_DEFER_ACCEPT;
/// IP_TOS; IPV6_TCLASS.
///
/// @param listener  from cl_listen().
/// @param level     SOL_SOCKET, IPPROTO_TCP, IPPROTO_IP, IPPROTO_IPV6, as for setsockopt(2).
/// @param name      the option, as for setsockopt(2).
/// @param value     its value; not NULL; not kept.
/// @param length    bytes at `value`, at most 256.
/// @return 0. On an error nothing is changed:
///         -EBADF: no listener, or closed by another thread meanwhile; -EACCES: no option that workers may set;
///         -EINVAL: NULL, a length that is not the option's, a value out of its bounds;
///         -EOPNOTSUPP: a listener on "fd:N", whose options are its maker's, or an older primary, which sets none;
///         also, as -ENOPROTOOPT and others, from setsockopt(2): a TCP option of a unix or udp socket;
///         -ESHUTDOWN: this worker was asked to disconnect; -EPIPE: the primary is gone;
///         -EMFILE, -ENFILE, -ENOMEM: the primary is short of it for the moment; CL_EVERSION.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler; interrupted waits go on. Since 0.1.
///
/// # Safety
/// `value` is NULL or points to `length` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_setsockopt(
    listener: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    guard(|| {
        let listener = find(listener)?;
        // SAFETY: passed on to the caller.
        let option = unsafe { socket_option(level, name, value, length) }?;
        listener.set_option(&option)?;
        Ok(0)
    })
}

/// Puts into an epoll of the program's what has to be watched for a listener, so that epoll_wait(2) tells when cl_accept() has
/// something to say.
///
/// A program with an event loop calls this instead of epoll_ctl(2) with the listener's descriptor. With CL_MECHANISM_ROTATION, and under
/// CL_SCHED_NONE, it makes that one worker is woken for one connection (EPOLLEXCLUSIVE); the descriptor itself, in an epoll of the
/// program's, would wake every worker for each, so that under CL_MECHANISM_ROTATION such a listener gets its connections passed on by
/// the primary until it is watched. Everywhere else it does what epoll_ctl(2) would. The events are level-triggered. cl_accept() may
/// find nothing (-EAGAIN), so the listener should have CL_LISTEN_NONBLOCK. Take one or a few connections for an event: what is left is
/// told again, and another worker may be free for it. The epoll must not be nested in another one, and not be used after fork(2).
///
/// @param listener  from cl_listen_with().
/// @param epoll_fd  from epoll_create1(2). The library keeps a duplicate until cl_listener_unwatch() or cl_close().
/// @param data      what the events have in `data.u64`. A listener may have more than one entry, all with the same data.
/// @return 0; -EBADF: no listener or no descriptor; -EEXIST: it is watched already; -EINVAL: no epoll; -EMFILE, -ENOMEM, -ENOSPC;
///         -EPIPE: the primary is gone; CL_EVERSION.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1. EPOLLEXCLUSIVE: Linux 4.5.
#[unsafe(no_mangle)]
pub extern "C" fn cl_listener_watch(listener: c_int, epoll_fd: c_int, data: c_ulonglong) -> c_int {
    guard(|| {
        find(listener)?.watch_in(epoll_fd, data)?;
        Ok(0)
    })
}

/// Takes a listener out of the program's epoll again. With CL_MECHANISM_ROTATION the primary passes its connections on from then on.
///
/// @param listener  from cl_listen().
/// @return 0; -EBADF: no listener; -ENOENT: it is not watched.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_listener_unwatch(listener: c_int) -> c_int {
    guard(|| {
        find(listener)?.unwatch_in()?;
        Ok(0)
    })
}

/// Hands an idle connection back when a worker leaves: another worker of the address gets it from cl_accept(), as if it were new.
///
/// For keep-alive connections between two requests. Call it once the worker was asked to leave (cl_accept() or cl_receive() is
/// -ESHUTDOWN), before cl_close() of the listener, and only if no byte of a next request was read: what was read would be missing
/// there. Also not where the other worker would have to know what was said before (TLS, a login, a PROXY header). Before the call,
/// take the connection out of every epoll set (EPOLL_CTL_DEL). After it, no shutdown(2), and no copy of the descriptor may be
/// used. Socket options stay as they are; O_NONBLOCK does not, as every connection arrives in blocking mode. SO_LINGER is switched off.
/// It follows the policy: under CL_SCHED_SOURCE_HASH the client's slot gets it.
///
/// @param listener    from cl_listen(): where the connection was accepted.
/// @param connection  from cl_accept(). After 0 it is closed here; after an error it is as before, and the caller's.
/// @return 0; -EAGAIN: no other worker has room now, so keep it, go on serving it, and try again in a few milliseconds;
///         -EOPNOTSUPP: nobody takes it: the worker was not asked to leave, the cluster stops, no other worker serves the address,
///         the worker runs as another user, the primary is of version 0.1 before this function, or the process is no worker;
///         -ENOTSOCK, -EBADF: no socket; -EINVAL: not a connected stream socket, or of another address; -EBADF: no listener; -EPIPE:
///         the primary is gone.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1. unix(7), SCM_RIGHTS.
#[unsafe(no_mangle)]
pub extern "C" fn cl_hand_back(listener: c_int, connection: c_int) -> c_int {
    guard(|| {
        let listener = find(listener)?;
        process::hand_back(&listener, connection)?;
        Ok(0)
    })
}

/// Closes a listener. Connections that wait for it in the primary go to other workers; threads that wait in cl_accept()
/// on it return with -EBADF. The last worker to close an address gives it up. Take the listener out of an epoll set
/// (EPOLL_CTL_DEL) first: the primary has a copy of it, so closing alone leaves it registered.
///
/// @param listener  from cl_listen(); its number is free for other uses afterwards.
/// @return 0; -EBADF: no listener.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_close(listener: c_int) -> c_int {
    guard(|| {
        process::check_not_forked()?;
        let found = LISTENERS.write().unwrap_or_else(PoisonError::into_inner).remove(&listener);
        process::close(&*found.ok_or_else(|| no_listener(listener))?)?;
        Ok(0)
    })
}
