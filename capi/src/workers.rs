//! What the primary knows of its workers, and does to one.

use std::ffi::{c_int, c_uint, c_ulonglong, c_void};
use std::mem::offset_of;

use cluster_core::{Error, Primary, Result, Usage, process};

use crate::convert::{bytes, check_size, invalid, number};
use crate::guard::guard;
use crate::structs::cl_worker_info_t;

/// Lists the running workers in the order of their ids.
///
/// @param ids       where they go; may be NULL if capacity is 0.
/// @param capacity  how many fit.
/// @return how many workers there are, which may be more than fit. -EINVAL: NULL; -EPERM: in a worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
///
/// # Safety
/// `ids` has room for `capacity` ints.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_worker_ids(ids: *mut c_int, capacity: usize) -> c_int {
    guard(|| {
        if ids.is_null() && capacity > 0 {
            return Err(invalid("the list is NULL and its capacity is not 0"));
        }
        let workers = process::with_primary(|primary| Ok(primary.worker_ids()))?;
        let workers: Vec<c_int> = workers.into_iter().map(number).collect();
        // SAFETY: the caller has room for `capacity` ints, and `ids` is NULL only where that is 0.
        unsafe { ids.copy_from_nonoverlapping(workers.as_ptr(), workers.len().min(capacity)) };
        Ok(c_int::try_from(workers.len()).unwrap_or(c_int::MAX))
    })
}

/// Tells what is known of a worker.
///
/// @param id    its id.
/// @param info  filled in; set info->size to sizeof *info first. Not NULL.
/// @return 0; -ESRCH: no such worker (any more); -EINVAL: NULL or a bad size; -EPERM: in a worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
///
/// # Safety
/// `info` is NULL or points to as many writable bytes as its size says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_worker_info(id: c_int, info: *mut cl_worker_info_t) -> c_int {
    guard(|| {
        if info.is_null() {
            return Err(invalid("the worker info is NULL"));
        }
        // SAFETY: not NULL; every such struct begins with its size.
        let size = unsafe { info.cast::<usize>().read_unaligned() };
        check_size(size, offset_of!(cl_worker_info_t, slot), "cl_worker_info_t")?;
        let known = process::with_primary(|primary| primary.worker_info(worker_number(id)?))?;
        // That asks the kernel, so only for those who want it, and without the primary's lock.
        let used = if size > offset_of!(cl_worker_info_t, rss_kib) { known.usage() } else { Usage::default() };
        let full = cl_worker_info_t {
            size,
            id: number(known.worker.id),
            slot: number(known.worker.slot),
            pid: known.worker.pid,
            state: known.state as c_int,
            delivered: known.delivered as c_ulonglong,
            waiting: known.waiting as c_uint,
            load: known.load as c_uint,
            generation: number(known.generation),
            ready: known.ready.into(),
            rss_kib: used.anonymous_kib,
            cpu_ms: used.processor.as_millis() as c_ulonglong,
            requests: known.counts.requests,
            errors: known.counts.errors,
            active: known.counts.active,
            late_ms: known.counts.late.as_millis() as c_uint,
            age_ms: known.age.as_millis() as c_ulonglong,
        };
        let length = size.min(size_of::<cl_worker_info_t>());
        // SAFETY: the caller has `size` writable bytes, and ours is a local of at least `length`.
        unsafe { std::ptr::copy_nonoverlapping((&raw const full).cast::<u8>(), info.cast::<u8>(), length) };
        Ok(0)
    })
}

/// Sends a worker a message, which it gets from cl_receive(). Never waits: 1 MiB is kept for one that does not read.
///
/// @param id      the worker's id.
/// @param data    the bytes; copied. May be NULL if length is 0.
/// @param length  bytes, 0 to CL_MESSAGE_MAX.
/// @return 0; -EAGAIN: 1 MiB is waiting for it; -EMSGSIZE: too long; -ESRCH: no such worker; -EPIPE: its channel is
///         closed; -EINVAL: NULL; -EPERM: in a worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
///
/// # Safety
/// `data` has `length` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_worker_send(id: c_int, data: *const c_void, length: usize) -> c_int {
    // SAFETY: passed on to the caller.
    to_worker(id, |primary, id| primary.send(id, unsafe { bytes(data, length) }?))
}

/// Asks one worker to leave: it gets no more connections, drains what waits for it, and has
/// cl_settings_t.stop_deadline_ms until SIGTERM. It is replaced if cl_settings_t.respawn says so.
///
/// @param id  the worker's id.
/// @return 0, without waiting for its end; -ESRCH: no such worker; -EPERM: in a worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_worker_disconnect(id: c_int) -> c_int {
    to_worker(id, Primary::disconnect)
}

/// Sends a signal to a worker's process, and never to another process that has got its number (pidfd_send_signal(2)).
///
/// @param id      the worker's id.
/// @param signal  the signal; 0 only checks.
/// @return 0; -ESRCH: no such worker; -EINVAL: no such signal; -EPERM: in a worker, or not allowed.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_worker_kill(id: c_int, signal: c_int) -> c_int {
    to_worker(id, |primary, id| primary.kill(id, signal))
}

pub(crate) fn worker_number(id: c_int) -> Result<u32> {
    u32::try_from(id).map_err(|_| Error::new(-libc::ESRCH, format!("there is no worker {id}")))
}

fn to_worker(id: c_int, act: impl FnOnce(&mut Primary, u32) -> Result<()>) -> c_int {
    guard(|| process::with_primary(|primary| act(primary, worker_number(id)?)).map(|()| 0))
}
