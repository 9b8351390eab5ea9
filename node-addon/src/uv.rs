#![allow(unsafe_code, clippy::multiple_unsafe_ops_per_block)] // libuv and Node-API are C.
//! Watches a descriptor, and the turns, of Node's event loop, through Node's own libuv.
//!
//! dlsym(3) finds the functions in the running program, so that no header of libuv and no layout is needed: `uv_handle_size` tells
//! how much memory a handle needs, and the first member of every handle is `data`, which is ours (libuv's documented promise,
//! uv_handle_t). Every Node from 20 to 26 exports all of them.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::{OnceLock, Weak};

use cluster_core::Worker;
use napi::bindgen_prelude::{Function, JsValue, Object};
use napi::{Env, sys};

use crate::herd::Herd;
use crate::lines::Lines;
use crate::loop_sockets::LoopSockets;
use crate::watch::Watched;

pub(crate) mod line;
mod reading;

use reading::{OnAlloc, OnRead, OnWalk};
pub(crate) use reading::{came_unfit, look_before_reading};

/// `uv_handle_type` of a poll handle, the same since libuv 1.0.
const UV_POLL: c_int = 8;
/// `uv_handle_type` of a prepare handle.
const UV_PREPARE: c_int = 9;
/// `UV_READABLE`.
const READABLE: c_int = 1;

type Handle = c_void;

type OnReady = unsafe extern "C" fn(*mut Handle, c_int, c_int);
type OnHandle = unsafe extern "C" fn(*mut Handle);

/// Declares libuv's functions and looks them up.
macro_rules! libuv {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        struct Libuv {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Libuv {
            fn find() -> Option<Self> {
                // SAFETY: the names are NUL-terminated, RTLD_DEFAULT searches what is loaded, and these are libuv's functions
                // of these names, whose types are part of its stable ABI.
                unsafe {
                    $(
                        let name = concat!("uv_", stringify!($name), "\0");
                        let found = NonNull::new(libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr().cast()))?;
                        let $name = std::mem::transmute::<
                            *mut c_void,
                            unsafe extern "C" fn($($argument),*) $(-> $result)?,
                        >(found.as_ptr());
                    )*
                    Some(Self { $($name,)* })
                }
            }
        }
    };
}

libuv! {
    poll_init: fn(*mut c_void, *mut Handle, c_int) -> c_int;
    poll_start: fn(*mut Handle, c_int, OnReady) -> c_int;
    poll_stop: fn(*mut Handle) -> c_int;
    prepare_init: fn(*mut c_void, *mut Handle) -> c_int;
    prepare_start: fn(*mut Handle, OnHandle) -> c_int;
    timer_init: fn(*mut c_void, *mut Handle) -> c_int;
    timer_start: fn(*mut Handle, OnHandle, u64, u64) -> c_int;
    close: fn(*mut Handle, OnHandle);
    unref: fn(*mut Handle);
    backend_fd: fn(*const c_void) -> c_int;
    now: fn(*const c_void) -> u64;
    handle_size: fn(c_int) -> usize;
    walk: fn(*mut c_void, OnWalk, *mut c_void);
    handle_get_type: fn(*const Handle) -> c_int;
    fileno: fn(*const Handle, *mut c_int) -> c_int;
    read_start: fn(*mut Handle, OnAlloc, OnRead) -> c_int;
    read_stop: fn(*mut Handle) -> c_int;
}

fn libuv() -> Option<&'static Libuv> {
    static FOUND: OnceLock<Option<Libuv>> = OnceLock::new();
    FOUND.get_or_init(Libuv::find).as_ref()
}

/// What the `data` of a handle of ours points to. Lives until libuv has closed the handle.
struct Attached {
    uv: &'static Libuv,
    layout: Layout,
    env: sys::napi_env,
    cleanup: sys::napi_async_cleanup_hook_handle,
    closing: bool,
    purpose: Purpose,
}

/// What the handle is there for.
enum Purpose {
    /// `turn` is called while a descriptor is readable. The descriptor stays open for as long as libuv may look at it.
    Readable { turn: sys::napi_ref, _watched: Watched },
    /// Something is done in each turn of the loop.
    Turns {
        worker: Weak<Worker>,
        sockets: Rc<LoopSockets>,
        lines: Rc<Lines>,
        herd: Rc<Herd>,
        event_loop: *const c_void,
    },
    /// The loop is to turn.
    Alarm,
}

/// The address of a handle's `data`.
fn data_of(handle: *mut Handle) -> *mut *mut Attached {
    handle.cast()
}

fn loop_of(env: &Env) -> napi::Result<*mut c_void> {
    let mut event_loop = ptr::null_mut();
    // SAFETY: on the thread of this environment, with a pointer to a variable of ours.
    let told = unsafe { sys::napi_get_uv_event_loop(env.raw(), &mut event_loop) };
    napi::check_status!(told, "no event loop").map(|()| event_loop.cast())
}

/// Makes a handle of a type with libuv's `init`. It does not keep the loop alive, and it is closed when the environment ends. An
/// error is libuv's.
fn open(
    env: &Env,
    uv: &'static Libuv,
    kind: c_int,
    purpose: Purpose,
    init: impl FnOnce(*mut Handle) -> c_int,
) -> Result<*mut Handle, c_int> {
    // SAFETY: any number may be asked for. For an unknown type libuv gives a size that no layout can have.
    let size = unsafe { (uv.handle_size)(kind) }.max(size_of::<*mut c_void>());
    let layout = Layout::from_size_align(size, align_of::<libc::max_align_t>()).map_err(|_| -libc::ENOMEM)?;
    // SAFETY: the layout is not empty.
    let handle = unsafe { alloc_zeroed(layout) }.cast::<Handle>();
    // libuv initializes the handle, except for `data`, which is ours.
    let status = if handle.is_null() { -libc::ENOMEM } else { init(handle) };
    if status != 0 {
        if !handle.is_null() {
            // SAFETY: nobody else has seen the memory.
            unsafe { dealloc(handle.cast(), layout) };
        }
        return Err(status);
    }
    let attached = Attached { uv, layout, env: env.raw(), cleanup: ptr::null_mut(), closing: false, purpose };
    // SAFETY: the handle is initialized, and both live until `on_closed`.
    unsafe {
        let attached = Box::into_raw(Box::new(attached));
        *data_of(handle) = attached;
        (uv.unref)(handle);
        sys::napi_add_async_cleanup_hook(env.raw(), Some(on_teardown), handle, &mut (*attached).cleanup);
    }
    Ok(handle)
}

fn close(handle: *mut Handle) {
    // SAFETY: the handle is initialized, and `data` is valid until `on_closed`, which runs in a later phase of the loop.
    unsafe {
        let attached = *data_of(handle);
        if !(*attached).closing {
            (*attached).closing = true;
            // This stops the handle, too.
            ((*attached).uv.close)(handle, on_closed);
        }
    }
}

/// The environment ends (a worker thread was terminated, for instance), and waits until the handle is closed.
unsafe extern "C" fn on_teardown(_hook: sys::napi_async_cleanup_hook_handle, handle: *mut c_void) {
    close(handle);
}

/// libuv has let go of the handle.
unsafe extern "C" fn on_closed(handle: *mut Handle) {
    // SAFETY: called once for a handle of ours, after which nobody uses it; the environment still exists, because its
    // teardown waits for the cleanup hook.
    unsafe {
        let attached = Box::from_raw(*data_of(handle));
        if let Purpose::Readable { turn, .. } = attached.purpose {
            sys::napi_delete_reference(attached.env, turn);
        }
        if !attached.cleanup.is_null() {
            sys::napi_remove_async_cleanup_hook(attached.cleanup);
        }
        dealloc(handle.cast(), attached.layout);
    }
}

/// A descriptor that the event loop watches, without being kept alive by it. Made, used and closed on the loop's thread, before the
/// environment ends; there is no JavaScript afterwards that could use it.
pub(crate) struct Watch {
    handle: *mut Handle,
    uv: &'static Libuv,
}

impl Watch {
    /// Calls `turn` while the descriptor is readable, once in each turn of the loop, so that what came of the call before
    /// is looked at in between. What `turn` throws is an uncaught exception that stops nobody else. `None` where the
    /// program has no libuv that could be found.
    pub(crate) fn start(env: &Env, watched: &Watched, turn: &Function<(), ()>) -> Option<napi::Result<Self>> {
        libuv().map(|uv| Self::start_with(uv, env, watched, turn))
    }

    fn start_with(uv: &'static Libuv, env: &Env, watched: &Watched, turn: &Function<(), ()>) -> napi::Result<Self> {
        let event_loop = loop_of(env)?;
        let mut reference = ptr::null_mut();
        // SAFETY: on the thread of this environment, with a pointer to a variable of ours.
        let made = unsafe { sys::napi_create_reference(env.raw(), turn.raw(), 1, &mut reference) };
        napi::check_status!(made, "no reference")?;
        let number = watched.as_fd().as_raw_fd();
        let purpose = Purpose::Readable { turn: reference, _watched: Watched::clone(watched) };
        // SAFETY: the loop is this thread's, the memory as large as libuv wants it.
        let init = |handle| unsafe { (uv.poll_init)(event_loop, handle, number) };
        let handle = open(env, uv, UV_POLL, purpose, init).map_err(|status| {
            // SAFETY: nobody else has seen the reference.
            unsafe { sys::napi_delete_reference(env.raw(), reference) };
            napi::Error::from_reason(format!("the event loop cannot watch descriptor {number} (errno {})", -status))
        })?;
        let watch = Self { handle, uv };
        watch.resume();
        Ok(watch)
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
        close(self.handle);
    }
}

/// libuv stops a handle whose descriptor shows EPOLLERR, and passes a negative status. Neither kind of descriptor does that: a channel
/// is watched through an epoll instance, and nobody sends on the worker's end of a mailbox, so nothing unread can become an error.
unsafe extern "C" fn on_readable(handle: *mut Handle, _status: c_int, _events: c_int) {
    // SAFETY: on the loop's thread; the handle and its data live until `on_closed`, which cannot run before we return.
    unsafe {
        let attached = *data_of(handle);
        let env = (*attached).env;
        let mut scope = ptr::null_mut();
        if sys::napi_open_handle_scope(env, &mut scope) != sys::Status::napi_ok {
            return;
        }
        if let Purpose::Readable { turn, .. } = (*attached).purpose
            && !(*attached).closing
        {
            take_turn(env, turn);
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

/// Shows the primary a sign of life of the worker in each turn of the event loop, without JavaScript. Does not keep the
/// loop alive. Where libuv cannot be found there is no such sign.
pub(crate) fn beat_in_each_turn(
    env: &Env,
    worker: Weak<Worker>,
    sockets: &Rc<LoopSockets>,
    lines: &Rc<Lines>,
    herd: &Rc<Herd>,
) {
    let Some(uv) = libuv() else { return };
    let Ok(event_loop) = loop_of(env) else { return };
    let (kept, known, all) = (Rc::clone(sockets), Rc::clone(lines), Rc::clone(herd));
    let purpose = Purpose::Turns { worker, sockets: kept, lines: known, herd: all, event_loop };
    // SAFETY: the loop is this thread's, the memory as large as libuv wants it.
    let init = |handle| unsafe { (uv.prepare_init)(event_loop, handle) };
    if let Ok(handle) = open(env, uv, UV_PREPARE, purpose, init) {
        // SAFETY: the loop exists, and the handle is initialized.
        unsafe {
            sockets.begin((uv.backend_fd)(event_loop));
            lines.begin((uv.backend_fd)(event_loop));
            herd.begin((uv.backend_fd)(event_loop));
            (uv.prepare_start)(handle, on_turn);
        }
    }
}

unsafe extern "C" fn on_turn(handle: *mut Handle) {
    // SAFETY: the data lives until `on_closed`.
    let attached = unsafe { &**data_of(handle) };
    if let Purpose::Turns { worker, sockets, lines, herd, event_loop } = &attached.purpose
        && let Some(worker) = worker.upgrade()
    {
        worker.beat();
        // SAFETY: the loop outlives its handles; its clock is a variable of its own.
        let now = unsafe { (attached.uv.now)(*event_loop) };
        sockets.turn(&worker, now);
        lines.turn(&worker, now);
        herd.turn();
    }
}

/// A net.Server whose limit is looked at from the loop, so that nothing about the object shows it.
pub(crate) struct Server {
    env: sys::napi_env,
    reference: sys::napi_ref,
}

impl Server {
    pub(crate) fn new(env: &Env, object: &Object) -> napi::Result<Self> {
        let mut reference = ptr::null_mut();
        // SAFETY: on the thread of this environment, with a pointer to a variable of ours.
        let made = unsafe { sys::napi_create_reference(env.raw(), object.raw(), 1, &mut reference) };
        napi::check_status!(made, "no reference").map(|()| Self { env: env.raw(), reference })
    }

    /// Whether the program has set maxConnections. May call the program: the property can be a getter.
    pub(crate) fn is_limited(&self) -> bool {
        let (mut scope, mut object, mut value, mut kind) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), 0);
        // SAFETY: on the thread of the environment, which is alive; the pointers are to our own variables.
        unsafe {
            if sys::napi_open_handle_scope(self.env, &mut scope) != sys::Status::napi_ok {
                return false;
            }
            let found = sys::napi_get_reference_value(self.env, self.reference, &mut object) == sys::Status::napi_ok
                && sys::napi_get_named_property(self.env, object, c"maxConnections".as_ptr(), &mut value)
                    == sys::Status::napi_ok
                && sys::napi_typeof(self.env, value, &mut kind) == sys::Status::napi_ok;
            if !found {
                // What a getter throws concerns those who ask it for the limit.
                sys::napi_get_and_clear_last_exception(self.env, &mut value);
            }
            sys::napi_close_handle_scope(self.env, scope);
            found && kind != sys::ValueType::napi_undefined && kind != sys::ValueType::napi_null
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and everything here is dropped on the environment's thread before its end.
        unsafe { sys::napi_delete_reference(self.env, self.reference) };
    }
}

/// Takes a descriptor out of the loop's epoll behind libuv's back: libuv's own way is to stop listening, which Node lets
/// nobody do. libuv does not mind that the descriptor is missing when it removes it itself.
pub(crate) fn forget_descriptor(backend: c_int, descriptor: c_int) {
    // SAFETY: epoll_ctl(2) with integers; the event is not used for a removal.
    unsafe { libc::epoll_ctl(backend, libc::EPOLL_CTL_DEL, descriptor, ptr::null_mut()) };
}

/// Whether this process has a descriptor of this number.
pub(crate) fn is_descriptor(number: c_int) -> bool {
    // SAFETY: fcntl(2) with integers; of a number that is none it is an error.
    unsafe { libc::fcntl(number, libc::F_GETFD) != -1 }
}

/// Gives back what the process has freed; see `give_back_memory`.
pub(crate) fn give_back_memory() {
    // SAFETY: glibc's own function, which may be called at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
