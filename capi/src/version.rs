//! Which version of the library is running.

use std::ffi::{c_char, c_uint};

use crate::errno_table::c;

/// The version of the library that is running, such as "0.1.0".
///
/// @return static text. Compare with CL_VERSION, which is the version this header belongs to.
///
/// Threads: any. After fork(2): allowed. Signals: async-signal-safe. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_version() -> *const c_char {
    const { c(concat!(env!("CARGO_PKG_VERSION"), "\0")) }.as_ptr()
}

/// The version of the library that is running, as a number.
///
/// @return major << 16 | minor << 8 | patch. Compare with CL_VERSION_NUMBER.
///
/// Threads: any. After fork(2): allowed. Signals: async-signal-safe. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_version_number() -> c_uint {
    const fn number(text: &str) -> c_uint {
        match c_uint::from_str_radix(text, 10) {
            Ok(number) => number,
            Err(_) => 0,
        }
    }
    const NUMBER: c_uint = number(env!("CARGO_PKG_VERSION_MAJOR")) << 16
        | number(env!("CARGO_PKG_VERSION_MINOR")) << 8
        | number(env!("CARGO_PKG_VERSION_PATCH"));
    NUMBER
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn the_version_number_is_the_version() {
        let number = cl_version_number();
        let text = format!("{}.{}.{}", number >> 16, number >> 8 & 0xff, number & 0xff);
        // SAFETY: static NUL-terminated text.
        assert_eq!(unsafe { CStr::from_ptr(cl_version()) }.to_str().unwrap(), text);
    }
}
