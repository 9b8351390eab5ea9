//! What every entry point runs in: a panic becomes a code, an error leaves its sentence, errno stays as it was.

use std::ffi::{c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use cluster_core::{EPANIC, Result};

use crate::last_error::{remember, remember_bare};

/// A place where tests/rigs/panics can inject a panic.
pub(crate) fn point() {
    #[cfg(feature = "panic-injection")]
    cluster_core::panics::point();
}

/// While it lives, pthread_cancel(3) of this thread waits; its drop restores errno. Many system calls are cancellation
/// points, and a cancelled thread unwinds past all that catches: it would end the process or leave a lock held.
struct Kept {
    errno: c_int,
    cancel: c_int,
}

impl Kept {
    const DISABLE: c_int = 1;

    fn new() -> Self {
        // SAFETY: this thread's own.
        let mut kept = Self { errno: unsafe { *errno() }, cancel: 0 };
        // SAFETY: an int of our own; async-signal-safe in glibc.
        unsafe { pthread_setcancelstate(Self::DISABLE, &mut kept.cancel) };
        kept
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: puts back what was found.
        unsafe { pthread_setcancelstate(self.cancel, &mut 0) };
        // SAFETY: this thread's own.
        unsafe { *errno() = self.errno };
    }
}

fn errno() -> *mut c_int {
    // SAFETY: cannot fail.
    unsafe { libc::__errno_location() }
}

// The libc crate lacks it.
unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

/// Runs the body of an entry point that returns text and cannot fail.
pub(crate) fn guard_text(body: impl FnOnce() -> *const c_char) -> *const c_char {
    catch_unwind(AssertUnwindSafe(|| {
        point();
        body()
    }))
    .unwrap_or(c"a defect inside libcluster".as_ptr())
}

/// Runs the body of an entry point.
pub(crate) fn guard(body: impl FnOnce() -> Result<c_int>) -> c_int {
    run(body, remember)
}

/// The same for one that may be called in a signal handler: it takes no memory and no lock unless its body does.
pub(crate) fn guard_in_handler(body: impl FnOnce() -> Result<c_int>) -> c_int {
    run(body, remember_bare)
}

fn run(body: impl FnOnce() -> Result<c_int>, remember: fn(&str)) -> c_int {
    let _kept = Kept::new();
    let body = || {
        point();
        body()
    };
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => {
            remember(error.sentence());
            error.code()
        }
        Err(_) => {
            remember("a defect inside libcluster was caught; please report it with the message on standard error");
            EPANIC
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_code_and_errno_stays() {
        // SAFETY: this thread's own.
        unsafe { *errno() = 42 };
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        assert_eq!(guard(|| panic!("on purpose")), EPANIC);
        std::panic::set_hook(hook);
        // SAFETY: as above.
        assert_eq!(unsafe { *errno() }, 42);
    }
}
