//! What a worker says to its primary and hears from it: messages, load, the wish to leave.

use std::ffi::{c_int, c_longlong, c_uint, c_void};
use std::os::fd::AsRawFd;
use std::time::Duration;

use cluster_core::{Counter, Error, process};

use crate::constants::{CL_COUNT_ACTIVE, CL_COUNT_ERRORS, CL_COUNT_REQUESTS};
use crate::convert::{bytes, invalid};
use crate::guard::{guard, guard_in_handler};

const FOR_WORKERS: &str =
    "this process is no worker; a primary uses cl_worker_send() and gets messages as CL_EVENT_MESSAGE";

/// Sends the primary a message, which it gets as CL_EVENT_MESSAGE. Waits while the primary does not read. So that no
/// worker keeps it from its connections, the primary reads 16,000 small messages of one worker in a second (each 4096
/// bytes count as another), and as many more at once of one that was silent for a second.
///
/// @param data    the bytes; copied. May be NULL if length is 0.
/// @param length  bytes, 0 to CL_MESSAGE_MAX.
/// @return 0; -EMSGSIZE: too long; -EPIPE: the primary is gone; -EINVAL: NULL; -EPERM: this process is no worker.
///
/// Threads: any; messages of one thread arrive in order. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
///
/// # Safety
/// `data` has `length` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_send(data: *const c_void, length: usize) -> c_int {
    guard(|| {
        let worker = process::require_worker(FOR_WORKERS)?;
        // SAFETY: passed on to the caller.
        worker.send(unsafe { bytes(data, length) }?)?;
        Ok(0)
    })
}

/// Takes the next message from the primary.
///
/// @param buffer      where it goes. May be NULL if capacity is 0.
/// @param capacity    how many bytes fit; CL_MESSAGE_MAX are always enough.
/// @param timeout_ms  milliseconds to wait; 0: not at all; less than 0: as long as it takes.
/// @return its length, >= 0.
///         -EAGAIN: none is there and timeout_ms is 0; -ETIMEDOUT: none came; -EMSGSIZE: the next is longer than
///         capacity, and is kept; -ESHUTDOWN: this worker was asked to disconnect and no message is left; -EPIPE: the
///         primary is gone; -EINVAL: NULL; -EPERM: this process is no worker.
///
/// Threads: any; each message goes to one of them. After fork(2): -ECHILD. Signals: not in a handler; interrupted waits
/// go on. Since 0.1.
///
/// # Safety
/// `buffer` has `capacity` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_receive(buffer: *mut c_void, capacity: usize, timeout_ms: c_int) -> c_int {
    guard(|| {
        let worker = process::require_worker(FOR_WORKERS)?;
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        let length = if capacity == 0 {
            worker.receive(&mut [], timeout)?
        } else {
            if buffer.is_null() {
                return Err(invalid("the buffer is NULL and its capacity is not 0"));
            }
            let capacity = capacity.min(cluster_core::MESSAGE_MAX);
            // SAFETY: not NULL, and the caller has at least that many writable bytes.
            let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), capacity) };
            worker.receive(buffer, timeout)?
        };
        Ok(c_int::try_from(length).unwrap_or(c_int::MAX))
    })
}

/// A descriptor that is readable when cl_receive() has something to say; for good once that returns -ESHUTDOWN.
///
/// @return a descriptor >= 0 for poll(2) or epoll(7), the library's: do not close or read it. -EPERM: no worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_channel_fd() -> c_int {
    guard(|| Ok(process::require_worker(FOR_WORKERS)?.channel()?.as_raw_fd()))
}

/// In a worker: asks the primary to be disconnected. The worker gets no more connections and drains what waits for it,
/// and then cl_accept() returns -ESHUTDOWN. In the primary: cl_worker_disconnect() for every worker.
///
/// @return 0, without waiting for the end; -EPIPE: the primary is gone.
///
/// Threads: any. After fork(2): -ECHILD. Signals: in a worker it may be called in a handler once any other cl_ function
/// has been called before; it takes no memory and no lock, whatever it returns. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_disconnect() -> c_int {
    guard_in_handler(|| {
        match process::worker_in_handler()? {
            Some(worker) => worker.disconnect()?,
            None => process::with_primary(|primary| primary.disconnect_all())?,
        }
        Ok(0)
    })
}

/// Tells the primary this worker's present load, for CL_SCHED_LEAST_LOADED and cl_worker_info(). Costs no system call:
/// the load is written into memory that the primary reads when it next decides something. It does not wake a primary
/// that sleeps, nor notice one that is gone. A worker that has no memory for that (RLIMIT_AS, a system call filter)
/// sends the load instead, and then waits while the primary does not read.
///
/// @param load  any unit that is the same in all workers; the newest counts. Best one in which a connection is about 1
///              (open connections, requests in progress), because connections given since are counted as 1 each, for a
///              second at most. Report it at each change, or every 10 ms.
/// @return 0; -EPIPE: it had to be sent, and the primary is gone; -EPERM: this process is no worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: in a worker it may be called in a handler once any other cl_ function
/// has been called before; it takes no memory and no lock, whatever it returns. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_set_load(load: c_uint) -> c_int {
    guard_in_handler(|| {
        process::worker_in_handler()?.ok_or_else(|| Error::new(-libc::EPERM, FOR_WORKERS))?.set_load(load)?;
        Ok(0)
    })
}

/// Says that this worker may take another's place, where CL_MANUAL_READY is set; see cl_reload(). More calls have no effect.
///
/// @return 0, also in a process that is no worker; -ENOMEM: there was no memory for the page by which it would say so, and with
///         CL_MANUAL_READY it takes nobody's place; -EPIPE: the primary is gone.
///
/// Threads: any. After fork(2): -ECHILD. Signals: in a worker it may be called in a handler once any other cl_ function
/// has been called before; it takes no memory and no lock, whatever it returns. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_ready() -> c_int {
    guard_in_handler(|| process::worker_in_handler()?.map_or(Ok(()), |worker| worker.ready()).map(|()| 0))
}

/// Counts what this worker does, for cl_worker_info(). No system call.
///
/// @param counter  CL_COUNT_*
/// @param by       how many more; fewer only for CL_COUNT_ACTIVE.
/// @return 0, also in a process that is no worker; -EINVAL: no such counter, or one that may not fall.
///
/// Threads: any. After fork(2): -ECHILD. Signals: in a worker it may be called in a handler once any other cl_ function
/// has been called before; it takes no memory and no lock, whatever it returns. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_count(counter: c_int, by: c_longlong) -> c_int {
    guard_in_handler(|| {
        let counter = match counter {
            CL_COUNT_REQUESTS => Counter::Requests,
            CL_COUNT_ERRORS => Counter::Errors,
            CL_COUNT_ACTIVE => Counter::Active,
            _ => return Err(Error::new(-libc::EINVAL, "there is no such counter")),
        };
        if by < 0 && counter != Counter::Active {
            return Err(Error::new(-libc::EINVAL, "only CL_COUNT_ACTIVE may fall"));
        }
        if let Some(worker) = process::worker_in_handler()? {
            worker.count(counter, by);
        }
        Ok(0)
    })
}

/// Counts one more request of this worker, and the time that it took. No system call.
///
/// @param microseconds  from its beginning to its answer.
/// @return 0, also in a process that is no worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: in a worker it may be called in a handler once any other cl_ function
/// has been called before; it takes no memory and no lock, whatever it returns. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_took(microseconds: c_uint) -> c_int {
    guard_in_handler(|| {
        if let Some(worker) = process::worker_in_handler()? {
            worker.took(microseconds);
        }
        Ok(0)
    })
}
