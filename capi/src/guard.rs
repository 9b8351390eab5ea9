#![allow(clippy::multiple_unsafe_ops_per_block)] // A pointer's step and its use are one thought.
//! What every entry point runs in: panics become a code, errors leave a sentence, errno stays as it was.

use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use cluster_core::{EPANIC, Error, Result};

use crate::last_error::{remember, remember_bare};

/// A place where tests/rigs/panics may want a panic.
pub(crate) fn point() {
    #[cfg(feature = "panic-injection")]
    cluster_core::panics::point();
}

/// While it lives, pthread_cancel(3) of this thread waits. Many of the system calls behind a function are cancellation points, and what
/// a cancelled thread does (it unwinds, past everything that catches) would end the process here, or leave a lock held.
struct Uncancelled(c_int);

impl Uncancelled {
    const DISABLE: c_int = 1;

    fn begin() -> Self {
        let mut before = 0;
        // SAFETY: an int of our own; async-signal-safe in glibc.
        unsafe { pthread_setcancelstate(Self::DISABLE, &mut before) };
        Self(before)
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        let mut ours = 0;
        // SAFETY: puts back what was found.
        unsafe { pthread_setcancelstate(self.0, &mut ours) };
    }
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

/// The same for one that may be called in a signal handler: it takes no memory and no lock, if its body does not.
pub(crate) fn guard_in_handler(body: impl FnOnce() -> Result<c_int>) -> c_int {
    run(body, remember_bare)
}

fn run(body: impl FnOnce() -> Result<c_int>, remember: fn(&str)) -> c_int {
    // SAFETY: errno is this thread's own.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    let _uncancelled = Uncancelled::begin();
    let body = || {
        point();
        body()
    };
    let code = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => {
            remember(error.sentence());
            error.code()
        }
        Err(_) => {
            remember("a defect inside libcluster was caught; please report it with the message on standard error");
            EPANIC
        }
    };
    // SAFETY: as above.
    unsafe { *errno = before };
    code
}

pub(crate) fn invalid(sentence: &'static str) -> Error {
    Error::new(-libc::EINVAL, sentence)
}

/// Text from C, which may not be NULL.
///
/// # Safety
/// `text` is NULL or points to a NUL-terminated string that lives for `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &'static str) -> Result<&'a str> {
    if text.is_null() {
        return Err(Error::new(-libc::EINVAL, format!("{what} is NULL")));
    }
    // SAFETY: not NULL, and a string by this function's contract.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| Error::new(-libc::EINVAL, format!("{what} is not UTF-8")))
}

/// Bytes from C.
///
/// # Safety
/// `data` points to `length` readable bytes, or is NULL and `length` is 0.
pub(crate) unsafe fn bytes<'a>(data: *const std::ffi::c_void, length: usize) -> Result<&'a [u8]> {
    if length == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(invalid("the data is NULL and the length is not 0"));
    }
    if length > cluster_core::MESSAGE_MAX {
        return Err(Error::new(
            -libc::EMSGSIZE,
            format!("the message has {length} bytes; at most {} fit", cluster_core::MESSAGE_MAX),
        ));
    }
    // SAFETY: not NULL, and `length` bytes long by this function's contract.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), length) })
}

/// A struct from C that begins with its size: an older caller's is shorter, and what it lacks is zero; a newer caller's
/// is longer, and may not ask for anything we do not know.
///
/// # Safety
/// `given` is not NULL and points to a readable size_t that tells how many readable bytes begin there. `T` is a
/// `repr(C)` struct for which all-zero is a valid value.
pub(crate) unsafe fn sized<T: Copy>(given: *const T, least: usize, name: &str) -> Result<T> {
    // SAFETY: every such struct begins with its size.
    let size = unsafe { given.cast::<usize>().read_unaligned() };
    check_size(size, least, name)?;
    let known = size_of::<T>();
    // No struct ends in the middle of a pointer, and half a pointer is not to be followed.
    let given_bytes = if size < known { size - size % align_of::<T>() } else { known };
    // SAFETY: all-zero is a valid T.
    let mut ours: T = unsafe { std::mem::zeroed() };
    // SAFETY: both sides have at least so many bytes, and ours is a local.
    unsafe { std::ptr::copy_nonoverlapping(given.cast::<u8>(), (&raw mut ours).cast::<u8>(), given_bytes) };
    for offset in known..size {
        // SAFETY: offset < size, and the caller says that so many bytes are there.
        if unsafe { given.cast::<u8>().add(offset).read() } != 0 {
            return Err(Error::new(
                -libc::E2BIG,
                format!("{name} is of a later version and sets a field that this library does not know"),
            ));
        }
    }
    Ok(ours)
}

/// The greatest size that a struct may claim; more is surely not a size.
const SIZE_MAX: usize = 4096;

pub(crate) fn check_size(size: usize, least: usize, name: &str) -> Result<()> {
    if size < least || size > SIZE_MAX {
        return Err(Error::new(-libc::EINVAL, format!("the size of {name} is {size}; set it to sizeof ({name})")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_code_and_errno_stays() {
        // SAFETY: errno is this thread's own.
        unsafe { *libc::__errno_location() = 42 };
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        assert_eq!(guard(|| panic!("on purpose")), EPANIC);
        std::panic::set_hook(hook);
        // SAFETY: as above.
        assert_eq!(unsafe { *libc::__errno_location() }, 42);
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(C)]
    struct Two {
        size: usize,
        first: i32,
        second: i32,
    }

    #[test]
    fn a_struct_is_read_by_its_size() {
        let read = |size, second| {
            let longer = (Two { size, first: 1, second }, 0_u64);
            // SAFETY: `longer` has at least the bytes that the sizes below claim.
            unsafe { sized(&raw const longer.0, 12, "two") }
        };
        assert_eq!(read(12, 2).unwrap().second, 0, "an older caller has no second field");
        assert_eq!(read(15, 2).unwrap().second, 0, "a field that the size cuts is not there");
        assert_eq!(read(16, 2).unwrap().second, 2);
        assert_eq!(read(24, 2).unwrap().second, 2, "a newer caller whose new field is zero");
        assert_eq!(read(0, 2).unwrap_err().code(), -libc::EINVAL);
        assert_eq!(read(8, 2).unwrap_err().code(), -libc::EINVAL);
        assert_eq!(read(usize::MAX, 2).unwrap_err().code(), -libc::EINVAL);
        let longer = (Two { size: 24, first: 1, second: 2 }, 1_u64);
        // SAFETY: `longer` has 24 bytes.
        assert_eq!(unsafe { sized(&raw const longer.0, 12, "two") }.unwrap_err().code(), -libc::E2BIG);
    }
}
