//! Codes as text.

use std::ffi::{CStr, c_char, c_int, c_uint};

use cluster_core::{ENOLIB, EPANIC, ETHREADS, EVERSION};

use crate::errno_table::look_up;
use crate::guard::guard_text;
use crate::last_error;

fn own(code: c_int) -> Option<(&'static CStr, &'static CStr)> {
    Some(match code {
        ENOLIB => (c"CL_ENOLIB", c"libcluster.so.0 was not found at run time"),
        ETHREADS => (c"CL_ETHREADS", c"cl_fork needs a process with one thread"),
        EVERSION => (c"CL_EVERSION", c"primary and worker speak different versions of the protocol"),
        EPANIC => (c"CL_EPANIC", c"a defect inside libcluster"),
        _ => return None,
    })
}

fn known(code: c_int) -> Option<(&'static CStr, &'static CStr)> {
    match code {
        0 => Some((c"OK", c"Success")),
        -4095..=-1 => look_up(-code),
        _ => own(code),
    }
}

/// What a code means.
///
/// @param code  what a function returned: -errno or a CL_E* code; any other int is allowed.
/// @return static text, never NULL; "Unknown error" for a code that is none.
///
/// Threads: any. After fork(2): allowed. Signals: async-signal-safe. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_strerror(code: c_int) -> *const c_char {
    guard_text(|| known(code).map_or(c"Unknown error", |(_, text)| text).as_ptr())
}

/// The name of a code, such as "EADDRINUSE" or "CL_ENOLIB".
///
/// @param code  as for cl_strerror().
/// @return static text, never NULL; "UNKNOWN" for a code that is none.
///
/// Threads: any. After fork(2): allowed. Signals: async-signal-safe. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_err_name(code: c_int) -> *const c_char {
    guard_text(|| known(code).map_or(c"UNKNOWN", |(name, _)| name).as_ptr())
}

/// What was wrong with this thread's last failed call, in one sentence for a person.
///
/// @return text that stays valid until this thread's next failed call; "" if none has failed. Never NULL.
///
/// Threads: each has its own. After fork(2): allowed. Signals: not to be called in a handler; what a handler calls and fails counts
/// as its thread's last failed call. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_last_error() -> *const c_char {
    guard_text(last_error::last)
}

/// The version of the library that is running, such as "0.1.0".
///
/// @return static text. Compare with CL_VERSION, which is the version this header belongs to.
///
/// Threads: any. After fork(2): allowed. Signals: async-signal-safe. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };
    VERSION.as_ptr()
}

/// The version of the library that is running, as a number.
///
/// @return major << 16 | minor << 8 | patch. Compare with CL_VERSION_NUMBER.
///
/// Threads: any. After fork(2): allowed. Signals: async-signal-safe. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_version_number() -> c_uint {
    const fn number(text: &str) -> c_uint {
        let bytes = text.as_bytes();
        let mut value = 0;
        let mut index = 0;
        while index < bytes.len() {
            value = value * 10 + (bytes[index] - b'0') as c_uint;
            index += 1;
        }
        value
    }
    const NUMBER: c_uint = number(env!("CARGO_PKG_VERSION_MAJOR")) << 16
        | number(env!("CARGO_PKG_VERSION_MINOR")) << 8
        | number(env!("CARGO_PKG_VERSION_PATCH"));
    NUMBER
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: *const c_char) -> &'static str {
        // SAFETY: the functions return static NUL-terminated text.
        unsafe { CStr::from_ptr(text) }.to_str().unwrap()
    }

    #[test]
    fn every_int_has_a_text() {
        assert_eq!(string(cl_err_name(-libc::EADDRINUSE)), "EADDRINUSE");
        assert_eq!(string(cl_strerror(-libc::EPIPE)), "Broken pipe");
        assert_eq!(string(cl_err_name(ENOLIB)), "CL_ENOLIB");
        for code in [i32::MIN, -5000, -4095, 1, i32::MAX] {
            assert_eq!(string(cl_err_name(code)), "UNKNOWN");
            assert_eq!(string(cl_strerror(code)), "Unknown error");
        }
    }

    #[test]
    fn the_version_number_is_the_version() {
        let number = cl_version_number();
        let text = format!("{}.{}.{}", number >> 16, number >> 8 & 0xff, number & 0xff);
        assert_eq!(string(cl_version()), text);
    }
}
