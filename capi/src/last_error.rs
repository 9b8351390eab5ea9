//! The sentence of each thread's last failed call.
//!
//! A function that may be called in a signal handler leaves its sentence without memory and without a lock. In a shared
//! object loaded by dlopen(3), a thread-local variable is made with malloc(3) when a thread first touches it. So each
//! thread's place is behind a key of pthread_key_create(3), which can be asked without making anything; a handler in a
//! thread that has no place uses one of some that all threads share.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use crate::guard::guard_text;

/// How much of a sentence is kept without memory, in bytes with its NUL; the rest is cut off.
const ROOM: usize = 512;

/// Text that is always NUL-terminated, even when a handler interrupts its writer: the last byte is never written.
struct Bare([AtomicU8; ROOM]);

impl Bare {
    const fn new() -> Self {
        Self([const { AtomicU8::new(0) }; ROOM])
    }

    fn write(&self, sentence: &str) {
        let end = (0..=sentence.len().min(ROOM - 1)).rev().find(|at| sentence.is_char_boundary(*at)).unwrap_or(0);
        let bytes = sentence.as_bytes()[..end].iter().map(|byte| if *byte == 0 { b' ' } else { *byte });
        for (place, byte) in self.0.iter().zip(bytes.chain([0])) {
            place.store(byte, Ordering::Relaxed);
        }
    }

    fn copy(&self, from: &Self) {
        for (to, from) in self.0.iter().zip(&from.0) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    fn as_ptr(&self) -> *const c_char {
        self.0.as_ptr().cast()
    }
}

/// A thread's own place.
struct Place {
    text: RefCell<CString>,
    bare: Bare,
    /// The last failed call was one that a handler may make.
    is_bare: AtomicBool,
}

/// For threads without a place.
struct Shared {
    /// The thread whose sentence it is, or 0.
    by: AtomicUsize,
    text: Bare,
}

/// More threads at a time than this are not likely to fail without a place, before they ask why.
const SHARED_PLACES: usize = 32;
static SHARED: [Shared; SHARED_PLACES] =
    [const { Shared { by: AtomicUsize::new(0), text: Bare::new() } }; SHARED_PLACES];

fn shared_of(thread: usize) -> Option<&'static Shared> {
    SHARED.iter().find(|shared| shared.by.load(Ordering::Relaxed) == thread)
}

/// The same, taken if there is none: from nobody, or else from another thread, which may have ended.
fn take_shared(thread: usize) -> &'static Shared {
    let take = |shared: &&Shared| shared.by.compare_exchange(0, thread, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    // Threads' numbers are addresses of pages.
    let of_another = || &SHARED[(thread >> 12) % SHARED_PLACES];
    let shared = shared_of(thread).or_else(|| SHARED.iter().find(take)).unwrap_or_else(of_another);
    shared.by.store(thread, Ordering::Relaxed);
    shared
}

/// `None`: the process already has as many keys as there can be, so no thread gets a place.
static KEY: OnceLock<Option<libc::pthread_key_t>> = OnceLock::new();

extern "C" fn forget(place: *mut c_void) {
    // SAFETY: made by Box::into_raw in `own`; its thread is ending, and the key has no value any more.
    drop(unsafe { Box::from_raw(place.cast::<Place>()) });
}

fn key() -> Option<libc::pthread_key_t> {
    *KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: writes a key of our own.
        (unsafe { libc::pthread_key_create(&mut key, Some(forget)) } == 0).then_some(key)
    })
}

/// The calling thread's place. It lives as long as the thread, and nobody keeps it beyond a call.
fn place_of(key: libc::pthread_key_t) -> Option<&'static Place> {
    // SAFETY: a key that was made and is never deleted. As in glibc, async-signal-safe.
    let place = unsafe { libc::pthread_getspecific(key) }.cast::<Place>();
    // SAFETY: NULL, or made in `own` and freed when this thread has ended.
    unsafe { place.as_ref() }
}

fn this_thread() -> usize {
    // SAFETY: cannot fail.
    unsafe { libc::pthread_self() as usize }
}

/// The same, made if there is none; `None` if that fails.
fn own() -> Option<&'static Place> {
    let key = key()?;
    if let Some(known) = place_of(key) {
        return Some(known);
    }
    let place = Place { text: RefCell::default(), bare: Bare::new(), is_bare: AtomicBool::new(false) };
    let place = Box::into_raw(Box::new(place)).cast::<c_void>();
    // SAFETY: the key is valid; the value is freed by `forget`.
    if unsafe { libc::pthread_setspecific(key, place) } != 0 {
        forget(place);
        return None;
    }
    place_of(key)
}

/// Keeps the sentence of this thread's failed call.
pub(crate) fn remember(sentence: &str) {
    let text = CString::new(sentence.replace('\0', " ")).unwrap_or_default();
    let Some(place) = own() else { return remember_bare(sentence) };
    // A handler that interrupts this never touches the field.
    let _before = place.text.replace(text);
    place.is_bare.store(false, Ordering::Relaxed);
}

/// The same for a call that a signal handler may make. Async-signal-safe.
pub(crate) fn remember_bare(sentence: &str) {
    let Some(place) = KEY.get().copied().flatten().and_then(place_of) else {
        take_shared(this_thread()).text.write(sentence);
        return;
    };
    place.bare.write(sentence);
    place.is_bare.store(true, Ordering::Relaxed);
}

/// What was wrong with this thread's last failed call, in one sentence for a person.
///
/// @return text that stays valid until this thread's next failed call; "" if none has failed. Never NULL.
///
/// Threads: each has its own. After fork(2): allowed. Signals: not in a handler; what fails in a handler counts for its
/// thread. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_last_error() -> *const c_char {
    guard_text(last)
}

/// The sentence; "" if there is none.
fn last() -> *const c_char {
    let shared = shared_of(this_thread());
    let Some(place) = own() else { return shared.map_or(c"".as_ptr(), |shared| shared.text.as_ptr()) };
    let text = place.text.borrow().as_ptr();
    if let Some(shared) = shared {
        // Left by this thread before it had a place; a later failure replaces it.
        let is_last = place.text.borrow().is_empty() && !place.is_bare.load(Ordering::Relaxed);
        if is_last {
            place.bare.copy(&shared.text);
        }
        // Another thread may have taken it by now.
        let was_own = shared.by.compare_exchange(this_thread(), 0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_last && was_own {
            place.is_bare.store(true, Ordering::Relaxed);
        }
    }
    if place.is_bare.load(Ordering::Relaxed) { place.bare.as_ptr() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_without_a_place_do_not_take_each_others_sentence() {
        let all = std::sync::Barrier::new(16);
        std::thread::scope(|scope| {
            for number in 0..16 {
                let all = &all;
                scope.spawn(move || {
                    let sentence = format!("the sentence of {number}");
                    all.wait();
                    remember_bare(&sentence);
                    all.wait();
                    let told = |text: &Bare| {
                        let bytes = text.0.iter().map(|byte| byte.load(Ordering::Relaxed));
                        bytes.take_while(|byte| *byte != 0).collect::<Vec<u8>>()
                    };
                    let shared = shared_of(this_thread()).expect("a place that is shared");
                    assert_eq!(told(&shared.text), sentence.as_bytes());
                    assert_eq!(last(), own().expect("a place").bare.as_ptr());
                    assert_eq!(told(&own().expect("a place").bare), sentence.as_bytes());
                    assert!(shared_of(this_thread()).is_none(), "whoever has asked needs none any more");
                });
            }
        });
    }
}
