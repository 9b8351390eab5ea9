#![allow(unsafe_code, clippy::multiple_unsafe_ops_per_block)] // libuv and epoll(7) are C.
//! Exclusive entries in libuv's epoll. libuv makes entries that are not, changes one only if what it waits for changes, which the kernel
//! refuses for an exclusive one, and does not mind that an entry is missing when it removes it.

use std::ffi::c_int;
use std::{io, ptr};

use napi::Env;

use super::{Handle, Libuv, Purpose, libuv, loop_of, open};

/// `uv_handle_type` of a timer, the same since libuv 1.0.
const UV_TIMER: c_int = 13;

/// Adds an exclusive entry of the kind that libuv makes for what it reads. True: it is there, or still is, as it could not be removed.
pub(crate) fn enter(backend: c_int, descriptor: c_int) -> bool {
    let exclusive = libc::EPOLLIN | libc::EPOLLEXCLUSIVE;
    add(backend, descriptor, exclusive) || io::Error::last_os_error().raw_os_error() == Some(libc::EEXIST)
}

fn add(backend: c_int, descriptor: c_int, events: c_int) -> bool {
    // libuv looks at the descriptor's number alone.
    let mut event = libc::epoll_event { events: events as u32, u64: u64::from(descriptor.unsigned_abs()) };
    // SAFETY: epoll_ctl(2) with integers and a variable of ours.
    unsafe { libc::epoll_ctl(backend, libc::EPOLL_CTL_ADD, descriptor, &mut event) == 0 }
}

/// Removes an entry. False: there was none.
pub(crate) fn leave(backend: c_int, descriptor: c_int) -> bool {
    // SAFETY: epoll_ctl(2) with integers; the event is not used for a removal.
    unsafe { libc::epoll_ctl(backend, libc::EPOLL_CTL_DEL, descriptor, ptr::null_mut()) == 0 }
}

/// Makes an entry of the loop's epoll anew, so that others who watch the descriptor need not be woken, too, while this one waits.
/// False: libuv has made none yet.
pub(crate) fn watch_exclusively(backend: c_int, descriptor: c_int) -> bool {
    leave(backend, descriptor) && (enter(backend, descriptor) || add(backend, descriptor, libc::EPOLLIN))
}

/// Wakes all who wait for a connection at a socket that listens. To any other it does nothing.
pub(crate) fn rouse(socket: c_int) {
    let (mut listens, mut size) = (0 as c_int, size_of::<c_int>() as libc::socklen_t);
    // SAFETY: getsockopt(2) and shutdown(2) with integers and pointers to our own variables.
    unsafe {
        let into = (&raw mut listens).cast();
        if libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_ACCEPTCONN, into, &mut size) == 0 && listens != 0 {
            libc::shutdown(socket, libc::SHUT_WR);
        }
    }
}

/// Ends the loop's sleep. Like a `Watch`, it is used on the loop's thread alone.
pub(crate) struct Alarm {
    handle: *mut Handle,
    uv: &'static Libuv,
}

impl Alarm {
    pub(crate) fn new(env: &Env) -> Option<Self> {
        let uv = libuv()?;
        let event_loop = loop_of(env).ok()?;
        // SAFETY: the loop is this thread's, the memory as large as libuv wants it.
        let handle = open(env, uv, UV_TIMER, Purpose::Alarm, |handle| unsafe { (uv.timer_init)(event_loop, handle) });
        Some(Self { handle: handle.ok()?, uv })
    }

    /// At the latest in so many milliseconds.
    pub(crate) fn set(&self, milliseconds: u64) {
        // SAFETY: the handle is initialized, and lives as long as the environment. libuv refuses to start one that closes.
        unsafe { (self.uv.timer_start)(self.handle, on_alarm, milliseconds, 0) };
    }
}

unsafe extern "C" fn on_alarm(_handle: *mut Handle) {}
