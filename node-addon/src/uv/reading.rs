#![allow(unsafe_code, clippy::multiple_unsafe_ops_per_block)] // libuv is C.
//! Looks at what comes on a pipe of Node's before libuv reads it. Node ends the process when a descriptor comes with it that is no socket
//! and no pipe.
//!
//! Between the look and the read more may come, so libuv gets no more room than what was looked at needs.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;
use std::ptr;
use std::sync::OnceLock;

use cluster_core::Coming;
use napi::Env;

use super::{Handle, Libuv, libuv, loop_of};

/// `uv_handle_type` of a pipe, the same since libuv 1.0.
const UV_NAMED_PIPE: c_int = 7;

pub(super) type OnWalk = unsafe extern "C" fn(*mut Handle, *mut c_void);
pub(super) type OnAlloc = unsafe extern "C" fn(*mut Handle, usize, *mut Buffer);
pub(super) type OnRead = unsafe extern "C" fn(*mut Handle, isize, *const Buffer);

/// `uv_buf_t`.
#[repr(C)]
pub(super) struct Buffer {
    _base: *mut c_void,
    len: usize,
}

/// Node's own callbacks of a pipe that it reads. All pipes have the same.
static READING: OnceLock<(OnAlloc, OnRead)> = OnceLock::new();

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static LAST: Cell<Coming> = const { Cell::new(Coming::End) };
}

struct Search {
    uv: &'static Libuv,
    number: c_int,
    pipe: *mut Handle,
}

/// Has a pipe of this environment's loop looked at before each read. Where libuv cannot be found it stays as it is.
pub(crate) fn look_before_reading(env: &Env, number: c_int) -> napi::Result<()> {
    let Some(uv) = libuv() else { return Ok(()) };
    let mut search = Search { uv, number, pipe: ptr::null_mut() };
    // SAFETY: the loop is this thread's, and the search outlives the call.
    unsafe { (uv.walk)(loop_of(env)?, on_walk, ptr::from_mut(&mut search).cast()) };
    let pipe = search.pipe;
    if pipe.is_null() {
        return Ok(());
    }
    // SAFETY: a pipe is so many bytes long, and libuv keeps its callbacks in them, where ours appear now. What was there before are
    // functions of these types, because Node reads the pipe.
    unsafe {
        let words =
            || std::slice::from_raw_parts(pipe.cast(), (uv.handle_size)(UV_NAMED_PIPE) / size_of::<usize>()).to_vec();
        let before: Vec<*mut c_void> = words();
        (uv.read_stop)(pipe);
        (uv.read_start)(pipe, on_alloc, on_read);
        let theirs = |own: *mut c_void| {
            words().iter().position(|word| *word == own).map(|place| before[place]).filter(|word| !word.is_null())
        };
        if let (Some(alloc), Some(read)) = (theirs(on_alloc as *mut c_void), theirs(on_read as *mut c_void)) {
            READING.get_or_init(|| {
                (std::mem::transmute::<*mut c_void, OnAlloc>(alloc), std::mem::transmute::<*mut c_void, OnRead>(read))
            });
        }
    }
    Ok(())
}

unsafe extern "C" fn on_walk(handle: *mut Handle, search: *mut c_void) {
    // SAFETY: libuv shows handles that are open, and gives back the pointer to our own search.
    unsafe {
        let search = &mut *search.cast::<Search>();
        let mut number = -1;
        let is_pipe = (search.uv.handle_get_type)(handle) == UV_NAMED_PIPE;
        if is_pipe && (search.uv.fileno)(handle, &mut number) == 0 && number == search.number {
            search.pipe = handle;
        }
    }
}

/// Gives libuv room for what was looked at and no more, or none: it calls `on_read` with ENOBUFS then, and reads nothing.
unsafe extern "C" fn on_alloc(pipe: *mut Handle, suggested: usize, buffer: *mut Buffer) {
    let Some((uv, (alloc, _))) = libuv().zip(READING.get()) else { return };
    let mut number = -1;
    // SAFETY: libuv reads this pipe now, so its descriptor is open; the buffer is libuv's own variable.
    unsafe {
        (uv.fileno)(pipe, &mut number);
        let coming = SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(suggested, 0);
            cluster_core::coming(BorrowedFd::borrow_raw(number), scratch)
        });
        LAST.set(coming);
        if matches!(coming, Coming::Bytes(_) | Coming::End) {
            alloc(pipe, suggested, buffer);
        }
        if let Coming::Bytes(length) = coming {
            (*buffer).len = (*buffer).len.min(length);
        }
    }
}

unsafe extern "C" fn on_read(pipe: *mut Handle, length: isize, buffer: *const Buffer) {
    let is_nothing = length == -(libc::ENOBUFS as isize) && LAST.get() == Coming::Nothing;
    if let Some((_, read)) = READING.get().filter(|_| !is_nothing) {
        // SAFETY: libuv's own arguments.
        unsafe { read(pipe, length, buffer) };
    }
}

/// What came last on a pipe that is looked at could not be read.
pub(crate) fn came_unfit() -> bool {
    LAST.get() == Coming::Unfit
}
