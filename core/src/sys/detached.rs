#![allow(unsafe_code)] // pthread_create(3): a std thread would allocate, and with it take an arena in every worker.
//! Small detached threads of the library, which run none of the program's code.

use nix::errno::Errno;

use super::Sys;

// Room for a few system calls; the rest is for a sanitizer's frames.
const STACK_BYTES: usize = 64 * 1024;

/// What such a thread runs.
pub(crate) type Routine = extern "C" fn(*mut libc::c_void) -> *mut libc::c_void;

/// Starts a detached thread with the smallest stack. It blocks every signal, so the program's handlers never run on it. EAGAIN where
/// there are too many threads or too little memory.
pub(crate) fn start(routine: Routine, argument: *mut libc::c_void) -> Sys<()> {
    // SAFETY: sigset_t is plain data.
    let mut every: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: fills a set of our own.
    unsafe { libc::sigfillset(&mut every) };
    // SAFETY: pthread_attr_t is plain data until pthread_attr_init.
    let mut attributes: libc::pthread_attr_t = unsafe { std::mem::zeroed() };
    // SAFETY: initialises attributes of our own.
    unsafe { libc::pthread_attr_init(&mut attributes) };
    // SAFETY: initialised above.
    unsafe { libc::pthread_attr_setstacksize(&mut attributes, STACK_BYTES) };
    // SAFETY: initialised above.
    unsafe { libc::pthread_attr_setdetachstate(&mut attributes, libc::PTHREAD_CREATE_DETACHED) };
    // SAFETY: both sets are ours; a new thread inherits the blocked signals.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &every, &mut before) };
    let mut thread: libc::pthread_t = 0;
    // SAFETY: the caller's routine takes the caller's argument.
    let number = unsafe { libc::pthread_create(&mut thread, &attributes, routine, argument) };
    // SAFETY: puts back the mask found above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    // SAFETY: initialised above and not used any more.
    unsafe { libc::pthread_attr_destroy(&mut attributes) };
    if number == 0 { Ok(()) } else { Err(Errno::from_raw(number)) }
}
