#![allow(unsafe_code, clippy::multiple_unsafe_ops_per_block)] // libuv and Node-API are C.
//! Watching a descriptor, and the turns, of the event loop of the Node that loaded us, through its own libuv.
//!
//! The functions are found with dlsym(3) in the running program, whose build is not known to us: no libuv header, no
//! layout. `uv_handle_size` tells how much memory a handle needs, and the first member of every handle is `data`, which
//! is ours (libuv's documented promise, uv_handle_t). All of them are exported by every Node from 20 to 26.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{self, NonNull};
use std::sync::{Arc, OnceLock, Weak};

use cluster_core::Worker;
use napi::bindgen_prelude::{Function, JsValue};
use napi::{Env, sys};

use crate::seat::Seats;
use crate::watch::Watched;

/// `uv_handle_type` of a poll handle, the same since libuv 1.0.
const UV_POLL: c_int = 8;
/// `uv_handle_type` of a prepare handle.
const UV_PREPARE: c_int = 9;
/// `UV_READABLE`.
const READABLE: c_int = 1;

type Handle = c_void;

type OnReady = unsafe extern "C" fn(*mut Handle, c_int, c_int);
type OnTurn = unsafe extern "C" fn(*mut Handle);
type OnClosed = unsafe extern "C" fn(*mut Handle);
type PollInit = unsafe extern "C" fn(*mut c_void, *mut Handle, c_int) -> c_int;
type PollStart = unsafe extern "C" fn(*mut Handle, c_int, OnReady) -> c_int;
type PollStop = unsafe extern "C" fn(*mut Handle) -> c_int;
type PrepareInit = unsafe extern "C" fn(*mut c_void, *mut Handle) -> c_int;
type PrepareStart = unsafe extern "C" fn(*mut Handle, OnTurn) -> c_int;
type Close = unsafe extern "C" fn(*mut Handle, OnClosed);
type BackendFd = unsafe extern "C" fn(*const c_void) -> c_int;
type Now = unsafe extern "C" fn(*const c_void) -> u64;
type Unref = unsafe extern "C" fn(*mut Handle);
type HandleSize = unsafe extern "C" fn(c_int) -> usize;

struct Libuv {
    poll_init: PollInit,
    poll_start: PollStart,
    poll_stop: PollStop,
    prepare_init: PrepareInit,
    prepare_start: PrepareStart,
    close: Close,
    unref: Unref,
    backend_fd: BackendFd,
    now: Now,
    size: usize,
    prepare_size: usize,
}

fn libuv() -> Option<&'static Libuv> {
    static FOUND: OnceLock<Option<Libuv>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let find = |name: &CStr| {
                // SAFETY: the name is NUL-terminated; RTLD_DEFAULT searches what is loaded.
                NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr().cast::<c_char>()) })
            };
            let handle_size = find(c"uv_handle_size")?.as_ptr();
            // SAFETY: these are libuv's functions of these names, whose types are part of its stable ABI.
            unsafe {
                let handle_size = std::mem::transmute::<*mut c_void, HandleSize>(handle_size);
                Some(Libuv {
                    poll_init: std::mem::transmute::<*mut c_void, PollInit>(find(c"uv_poll_init")?.as_ptr()),
                    poll_start: std::mem::transmute::<*mut c_void, PollStart>(find(c"uv_poll_start")?.as_ptr()),
                    poll_stop: std::mem::transmute::<*mut c_void, PollStop>(find(c"uv_poll_stop")?.as_ptr()),
                    prepare_init: std::mem::transmute::<*mut c_void, PrepareInit>(find(c"uv_prepare_init")?.as_ptr()),
                    prepare_start: std::mem::transmute::<*mut c_void, PrepareStart>(
                        find(c"uv_prepare_start")?.as_ptr(),
                    ),
                    close: std::mem::transmute::<*mut c_void, Close>(find(c"uv_close")?.as_ptr()),
                    unref: std::mem::transmute::<*mut c_void, Unref>(find(c"uv_unref")?.as_ptr()),
                    backend_fd: std::mem::transmute::<*mut c_void, BackendFd>(find(c"uv_backend_fd")?.as_ptr()),
                    now: std::mem::transmute::<*mut c_void, Now>(find(c"uv_now")?.as_ptr()),
                    size: handle_size(UV_POLL),
                    prepare_size: handle_size(UV_PREPARE),
                })
            }
        })
        .as_ref()
        .filter(|uv| uv.size.min(uv.prepare_size) >= size_of::<*mut c_void>())
}

/// What a poll handle's `data` points to. Lives until libuv has closed the handle.
struct Attached {
    env: sys::napi_env,
    turn: sys::napi_ref,
    cleanup: sys::napi_async_cleanup_hook_handle,
    /// Stays open for as long as libuv may look at it.
    _watched: Watched,
    closing: bool,
}

/// A descriptor that the event loop watches; it does not keep the loop alive. Made, used and closed on the loop's thread,
/// before the environment ends: there is no JavaScript afterwards that could do anything with it.
pub(crate) struct Watch {
    handle: *mut Handle,
    uv: &'static Libuv,
}

fn layout(size: usize) -> Option<Layout> {
    Layout::from_size_align(size, align_of::<libc::max_align_t>()).ok()
}

/// The address of a handle's `data`.
fn data_of(handle: *mut Handle) -> *mut *mut Attached {
    handle.cast()
}

impl Watch {
    /// Calls `turn` while the descriptor is readable, once in each turn of the loop, so that what came of the call before
    /// is looked at in between. What `turn` throws is an uncaught exception that stops nobody else. `None` where the
    /// program has no libuv that could be found.
    pub(crate) fn start(env: &Env, watched: &Watched, turn: &Function<(), ()>) -> Option<napi::Result<Self>> {
        let uv = libuv()?;
        let layout = layout(uv.size)?;
        let mut event_loop = ptr::null_mut();
        let mut reference = ptr::null_mut();
        // SAFETY: on the thread of this environment, with pointers to our own variables.
        let told = unsafe {
            napi::check_status!(sys::napi_get_uv_event_loop(env.raw(), &mut event_loop), "no event loop").and_then(
                |()| {
                    let made = sys::napi_create_reference(env.raw(), turn.raw(), 1, &mut reference);
                    napi::check_status!(made, "no reference")
                },
            )
        };
        if let Err(error) = told {
            return Some(Err(error));
        }
        let number = watched.as_fd().as_raw_fd();
        let attached = Box::new(Attached {
            env: env.raw(),
            turn: reference,
            cleanup: ptr::null_mut(),
            _watched: Watched::clone(watched),
            closing: false,
        });
        // SAFETY: the layout is not empty. libuv initializes the handle, except for `data`, which is ours.
        let (handle, status) = unsafe {
            let handle = alloc_zeroed(layout).cast::<Handle>();
            (handle, if handle.is_null() { -libc::ENOMEM } else { (uv.poll_init)(event_loop.cast(), handle, number) })
        };
        if status != 0 {
            // SAFETY: nobody else has seen the reference or the memory.
            unsafe {
                sys::napi_delete_reference(env.raw(), reference);
                if !handle.is_null() {
                    dealloc(handle.cast(), layout);
                }
            }
            let text = format!("the event loop cannot watch descriptor {number} (errno {})", -status);
            return Some(Err(napi::Error::from_reason(text)));
        }
        let attached = Box::into_raw(attached);
        // SAFETY: the handle is initialized, and both live until `on_closed`.
        unsafe {
            *data_of(handle) = attached;
            (uv.unref)(handle);
            sys::napi_add_async_cleanup_hook(env.raw(), Some(on_teardown), handle, &mut (*attached).cleanup);
        }
        let watch = Self { handle, uv };
        watch.resume();
        Some(Ok(watch))
    }

    /// Looks at the descriptor (again).
    pub(crate) fn resume(&self) {
        // SAFETY: the handle is initialized, and only closing consumes us.
        unsafe { (self.uv.poll_start)(self.handle, READABLE, on_readable) };
    }

    /// Does not look at it until `resume`.
    pub(crate) fn pause(&self) {
        // SAFETY: as above; stopping twice is allowed.
        unsafe { (self.uv.poll_stop)(self.handle) };
    }

    /// Stops for good.
    pub(crate) fn close(self) {
        close(self.handle, self.uv);
    }
}

fn close(handle: *mut Handle, uv: &Libuv) {
    // SAFETY: the handle is initialized, and `data` is valid until `on_closed`, which runs in a later phase of the loop.
    unsafe {
        let attached = *data_of(handle);
        if !(*attached).closing {
            (*attached).closing = true;
            (uv.poll_stop)(handle);
            (uv.close)(handle, on_closed);
        }
    }
}

/// libuv has let go of the handle.
unsafe extern "C" fn on_closed(handle: *mut Handle) {
    // SAFETY: called once for a handle of ours, after which nobody uses it; the environment still exists, because its
    // teardown waits for the cleanup hook.
    unsafe {
        let attached = Box::from_raw(*data_of(handle));
        sys::napi_delete_reference(attached.env, attached.turn);
        if !attached.cleanup.is_null() {
            sys::napi_remove_async_cleanup_hook(attached.cleanup);
        }
        if let Some(layout) = libuv().and_then(|uv| layout(uv.size)) {
            dealloc(handle.cast(), layout);
        }
    }
}

/// The environment ends (a worker thread was terminated, for instance), and waits until the handle is closed.
unsafe extern "C" fn on_teardown(_hook: sys::napi_async_cleanup_hook_handle, handle: *mut c_void) {
    if let Some(uv) = libuv() {
        close(handle, uv);
    }
}

unsafe extern "C" fn on_readable(handle: *mut Handle, _status: c_int, _events: c_int) {
    // SAFETY: on the loop's thread; the handle and its data live until `on_closed`, which cannot run before we return.
    unsafe {
        let attached = *data_of(handle);
        let env = (*attached).env;
        let mut scope = ptr::null_mut();
        if sys::napi_open_handle_scope(env, &mut scope) != sys::Status::napi_ok {
            return;
        }
        if !(*attached).closing {
            take_turn(env, (*attached).turn);
        }
        sys::napi_close_handle_scope(env, scope);
    }
}

/// One call of `turn`, as a callback of its own: ticks and microtasks run behind it.
unsafe fn take_turn(env: sys::napi_env, turn: sys::napi_ref) {
    // SAFETY: the environment is alive and a handle scope is open; the pointers are to our own variables.
    unsafe {
        let mut function = ptr::null_mut();
        let mut receiver = ptr::null_mut();
        let mut result = ptr::null_mut();
        if sys::napi_get_reference_value(env, turn, &mut function) != sys::Status::napi_ok
            // A new one each time: it is the async resource of the callback, in which contexts are kept.
            || sys::napi_create_object(env, &mut receiver) != sys::Status::napi_ok
        {
            return;
        }
        let called = sys::napi_make_callback(env, ptr::null_mut(), receiver, function, 0, ptr::null(), &mut result);
        if called == sys::Status::napi_pending_exception {
            let mut error = ptr::null_mut();
            if sys::napi_get_and_clear_last_exception(env, &mut error) == sys::Status::napi_ok {
                sys::napi_fatal_exception(env, error);
            }
        }
    }
}

/// What the `data` of a handle for turns points to.
struct Beating {
    worker: Weak<Worker>,
    seats: Arc<Seats>,
    event_loop: *const c_void,
    cleanup: sys::napi_async_cleanup_hook_handle,
}

/// Shows the primary a sign of life of the worker in each turn of the event loop, without JavaScript. Does not keep the
/// loop alive. Where libuv cannot be found there is no such sign.
pub(crate) fn beat_in_each_turn(env: &Env, worker: Weak<Worker>, seats: Arc<Seats>) {
    let Some(uv) = libuv() else { return };
    let Some(layout) = layout(uv.prepare_size) else { return };
    let mut event_loop = ptr::null_mut();
    // SAFETY: on the thread of this environment; the layout is not empty. libuv initializes the handle, except for `data`,
    // which is ours; it and the handle live until `on_beating_closed`.
    unsafe {
        if sys::napi_get_uv_event_loop(env.raw(), &mut event_loop) != sys::Status::napi_ok {
            return;
        }
        let handle = alloc_zeroed(layout).cast::<Handle>();
        if handle.is_null() || (uv.prepare_init)(event_loop.cast(), handle) != 0 {
            if !handle.is_null() {
                dealloc(handle.cast(), layout);
            }
            return;
        }
        seats.begin((uv.backend_fd)(event_loop.cast()));
        let beating =
            Box::into_raw(Box::new(Beating { worker, seats, event_loop: event_loop.cast(), cleanup: ptr::null_mut() }));
        *handle.cast::<*mut Beating>() = beating;
        (uv.unref)(handle);
        sys::napi_add_async_cleanup_hook(env.raw(), Some(on_beating_teardown), handle, &mut (*beating).cleanup);
        (uv.prepare_start)(handle, on_turn);
    }
}

unsafe extern "C" fn on_turn(handle: *mut Handle) {
    // SAFETY: the data lives until `on_beating_closed`.
    let beating = unsafe { &**handle.cast::<*mut Beating>() };
    if let Some(worker) = beating.worker.upgrade() {
        worker.beat();
        // SAFETY: the loop outlives its handles; its clock is a variable of its own.
        let now = libuv().map_or(0, |uv| unsafe { (uv.now)(beating.event_loop) });
        beating.seats.turn(&worker, now);
    }
}

/// The loop is not told of a descriptor any more, whatever libuv thinks: its own way would be to stop listening, which no
/// Node lets anybody do. libuv minds no descriptor that is missing when it removes it itself.
pub(crate) fn forget_descriptor(backend: c_int, descriptor: c_int) {
    // SAFETY: epoll_ctl(2) with integers; the event is not used for a removal.
    unsafe { libc::epoll_ctl(backend, libc::EPOLL_CTL_DEL, descriptor, ptr::null_mut()) };
}

/// Whether this process has a descriptor of this number.
pub(crate) fn is_descriptor(number: c_int) -> bool {
    // SAFETY: fcntl(2) with integers; of a number that is none it is an error.
    unsafe { libc::fcntl(number, libc::F_GETFD) != -1 }
}

unsafe extern "C" fn on_beating_teardown(_hook: sys::napi_async_cleanup_hook_handle, handle: *mut c_void) {
    if let Some(uv) = libuv() {
        // SAFETY: called once, for an initialized handle; closing stops it.
        unsafe { (uv.close)(handle, on_beating_closed) };
    }
}

unsafe extern "C" fn on_beating_closed(handle: *mut Handle) {
    // SAFETY: called once for a handle of ours, after which nobody uses it.
    unsafe {
        let beating = Box::from_raw(*handle.cast::<*mut Beating>());
        if !beating.cleanup.is_null() {
            sys::napi_remove_async_cleanup_hook(beating.cleanup);
        }
        if let Some(layout) = libuv().and_then(|uv| layout(uv.prepare_size)) {
            dealloc(handle.cast(), layout);
        }
    }
}
