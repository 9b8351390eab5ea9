//! Turns C's values into the engine's and back.
#![allow(clippy::multiple_unsafe_ops_per_block)] // A pointer's step and its use are one thought.

use std::borrow::Cow;
use std::ffi::{CStr, OsString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStringExt;

use cluster_core::{Error, MESSAGE_MAX, Result};

pub(crate) fn number(value: u32) -> c_int {
    c_int::try_from(value).unwrap_or(c_int::MAX)
}

pub(crate) fn invalid(sentence: impl Into<Cow<'static, str>>) -> Error {
    Error::new(-libc::EINVAL, sentence)
}

/// Text from C, which may not be NULL.
///
/// # Safety
/// `text` is NULL or points to a NUL-terminated string that lives for `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &'static str) -> Result<&'a str> {
    if text.is_null() {
        return Err(invalid(format!("{what} is NULL")));
    }
    // SAFETY: not NULL, and a string by this function's contract.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| invalid(format!("{what} is not UTF-8")))
}

/// Bytes from C.
///
/// # Safety
/// `data` points to `length` readable bytes, or is NULL and `length` is 0.
pub(crate) unsafe fn bytes<'a>(data: *const c_void, length: usize) -> Result<&'a [u8]> {
    if length == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(invalid("the data is NULL and the length is not 0"));
    }
    if length > MESSAGE_MAX {
        return Err(Error::new(-libc::EMSGSIZE, format!("the message has {length} bytes; at most {MESSAGE_MAX} fit")));
    }
    // SAFETY: not NULL, and `length` bytes long by this function's contract.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), length) })
}

/// A list of strings from C; `None` for NULL.
///
/// # Safety
/// `list` is NULL or points to strings with NULL behind the last.
pub(crate) unsafe fn list(list: *const *mut c_char) -> Option<Vec<OsString>> {
    if list.is_null() {
        return None;
    }
    let mut entries = Vec::new();
    loop {
        // SAFETY: entries.len() is at most the index of the NULL at the end.
        let entry = unsafe { *list.add(entries.len()) };
        if entry.is_null() {
            return Some(entries);
        }
        // SAFETY: a string by this function's contract.
        let bytes = unsafe { CStr::from_ptr(entry) }.to_bytes().to_vec();
        entries.push(OsString::from_vec(bytes));
    }
}

/// A struct from C that begins with its size. An older one lacks fields, which are zero then; what a newer one has
/// besides must be zero.
///
/// # Safety
/// `given` is not NULL and points to a readable size_t that tells how many readable bytes begin there. `T` is a
/// `repr(C)` struct for which all-zero is a valid value.
pub(crate) unsafe fn sized<T: Copy>(given: *const T, least: usize, name: &str) -> Result<T> {
    // SAFETY: every such struct begins with its size.
    let size = unsafe { given.cast::<usize>().read_unaligned() };
    check_size(size, least, name)?;
    let known = size_of::<T>();
    // SAFETY: the caller says that so many bytes are there.
    let given = unsafe { std::slice::from_raw_parts(given.cast::<u8>(), size) };
    if given.iter().skip(known).any(|byte| *byte != 0) {
        let sentence = format!("{name} is of a later version and sets a field that this library does not know");
        return Err(Error::new(-libc::E2BIG, sentence));
    }
    // A size that ends within a pointer would leave half of it.
    let length = if size < known { size - size % align_of::<T>() } else { known };
    // SAFETY: all-zero is a valid T.
    let mut ours: T = unsafe { std::mem::zeroed() };
    // SAFETY: both sides have at least so many bytes, and ours is a local.
    unsafe { std::ptr::copy_nonoverlapping(given.as_ptr(), (&raw mut ours).cast::<u8>(), length) };
    Ok(ours)
}

/// The greatest size that a struct may claim; anything above is garbage.
const SIZE_MAX: usize = 4096;

pub(crate) fn check_size(size: usize, least: usize, name: &str) -> Result<()> {
    if size < least || size > SIZE_MAX {
        return Err(invalid(format!("the size of {name} is {size}; set it to sizeof ({name})")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
