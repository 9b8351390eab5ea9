//! Tells the program what happens.

use std::ffi::{CString, c_int, c_void};
use std::sync::{Mutex, PoisonError};

use cluster_core::{Event, ExitStatus, Outcome, Phase, WorkerRef, process};

use crate::constants::*;
use crate::convert::number;
use crate::guard::guard;
use crate::structs::{cl_event_fn, cl_event_t};

/// The program's callback; the pointer is only given back to it.
#[derive(Clone, Copy)]
struct Callback(cl_event_fn, *mut c_void);

// SAFETY: the pointer is never dereferenced here; cl_on_event() says which threads get it back.
unsafe impl Send for Callback {}

static CALLBACK: Mutex<Callback> = Mutex::new(Callback(None, std::ptr::null_mut()));

/// Names the function that is told what happens; it replaces the previous one.
///
/// @param callback  called by the thread that is in cl_step(), cl_run() or cl_serve(), in the order of events and with
///                  no lock held: it may call any cl_ function but those three. NULL: none.
/// @param user      given to it.
/// @return 0; -EPERM: in a worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_on_event(callback: cl_event_fn, user: *mut c_void) -> c_int {
    guard(|| {
        process::with_primary(|_| Ok(()))?;
        *CALLBACK.lock().unwrap_or_else(PoisonError::into_inner) = Callback(callback, user);
        Ok(0)
    })
}

/// Hands an event to the program's callback, if there is one.
pub(crate) fn tell(event: Event) {
    let Callback(callback, user) = *CALLBACK.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(callback) = callback else { return };
    let mut text: Option<CString> = None;
    let told = translate(&event, &mut text);
    // SAFETY: the program said that the function can be called with this pointer; the event lives until it returns.
    unsafe { callback(&told, user) };
}

fn number_of(phase: Phase) -> c_int {
    match phase {
        Phase::Checking => CL_RELOAD_CHECKING,
        Phase::Rolling => CL_RELOAD_ROLLING,
        Phase::Ended(Outcome::Done) => CL_RELOAD_DONE,
        Phase::Ended(Outcome::Refused) => CL_RELOAD_REFUSED,
        Phase::Ended(Outcome::RolledBack) => CL_RELOAD_ROLLED_BACK,
        Phase::Ended(Outcome::Superseded) => CL_RELOAD_SUPERSEDED,
    }
}

fn translate(event: &Event, text: &mut Option<CString>) -> cl_event_t {
    // SAFETY: integers and pointers, for which zero and NULL are values.
    let mut told: cl_event_t = unsafe { std::mem::zeroed() };
    told.size = size_of::<cl_event_t>();
    let about = |told: &mut cl_event_t, r#type, worker: &WorkerRef| {
        told.r#type = r#type;
        told.worker_id = number(worker.id);
        told.pid = worker.pid;
    };
    match event {
        Event::Fork(worker) => about(&mut told, CL_EVENT_FORK, worker),
        Event::Online(worker) => about(&mut told, CL_EVENT_ONLINE, worker),
        Event::Listening { worker, address, port, mechanism } => {
            about(&mut told, CL_EVENT_LISTENING, worker);
            told.address = text.insert(CString::new(address.as_str()).unwrap_or_default()).as_ptr();
            told.port = port.map_or(-1, c_int::from);
            told.mechanism = *mechanism as c_int;
        }
        Event::Message { worker, data } => {
            about(&mut told, CL_EVENT_MESSAGE, worker);
            (told.data, told.length) = (data.as_ptr().cast(), data.len());
        }
        Event::Disconnect(worker) => about(&mut told, CL_EVENT_DISCONNECT, worker),
        Event::Exit { worker, status } => {
            about(&mut told, CL_EVENT_EXIT, worker);
            (told.exit_code, told.signal) = match status {
                ExitStatus::Code(code) => (*code, 0),
                ExitStatus::Signal(signal) => (-1, *signal),
                ExitStatus::Unknown => (-1, 0),
            };
        }
        Event::Notice { text } => {
            told.r#type = CL_EVENT_NOTICE;
            (told.data, told.length) = (text.as_ptr().cast(), text.len());
        }
        Event::Warning { worker, text } => {
            told.r#type = CL_EVENT_WARNING;
            worker.iter().for_each(|worker| about(&mut told, CL_EVENT_WARNING, worker));
            (told.data, told.length) = (text.as_ptr().cast(), text.len());
        }
        Event::Ready { worker, generation } => {
            about(&mut told, CL_EVENT_READY, worker);
            told.generation = number(*generation);
        }
        Event::Reload { generation, phase, reason, .. } => {
            told.r#type = CL_EVENT_RELOAD;
            (told.generation, told.phase) = (number(*generation), number_of(*phase));
            if !reason.is_empty() {
                (told.data, told.length) = (reason.as_ptr().cast(), reason.len());
            }
        }
        Event::Recycled { worker, generation } => {
            about(&mut told, CL_EVENT_RECYCLE, worker);
            told.generation = number(*generation);
        }
        // The engine and this crate are of one build; a new event is added to both.
        _ => {}
    }
    told
}
