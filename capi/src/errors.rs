//! The text and the name of each code.

use std::ffi::{CStr, c_char, c_int};

use cluster_core::{ENOLIB, EPANIC, ETHREADS, EVERSION};

use crate::errno_table::look_up;
use crate::guard::guard_text;

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
/// @return static text, never NULL; "Unknown error" for what is no code.
///
/// Threads: any. After fork(2): allowed. Signals: async-signal-safe. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_strerror(code: c_int) -> *const c_char {
    guard_text(|| known(code).map_or(c"Unknown error", |(_, text)| text).as_ptr())
}

/// The name of a code, such as "EADDRINUSE" or "CL_ENOLIB".
///
/// @param code  as for cl_strerror().
/// @return static text, never NULL; "UNKNOWN" for what is no code.
///
/// Threads: any. After fork(2): allowed. Signals: async-signal-safe. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_err_name(code: c_int) -> *const c_char {
    guard_text(|| known(code).map_or(c"UNKNOWN", |(name, _)| name).as_ptr())
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
}
