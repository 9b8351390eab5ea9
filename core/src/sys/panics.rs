//! Panics on purpose: for the test that sees what becomes of one behind each function of the C interface (tests/rigs/panics).

/// The n-th point that this thread passes from now on panics; 0: none does. Returns how many points were left of what was
/// asked for before: 0 says that it has panicked, or was not asked for.
#[cfg(feature = "panic-injection")]
pub fn panic_at(point: u32) -> u32 {
    LEFT.replace((point, super::pid::own_pid())).0
}

#[cfg(feature = "panic-injection")]
thread_local! {
    /// How many points are left, in which process: a child that shares this memory until it becomes a program passes some, too.
    static LEFT: std::cell::Cell<(u32, super::pid::Pid)> = const { std::cell::Cell::new((0, 0)) };
}

/// A place where a panic may be wanted.
#[cfg(feature = "panic-injection")]
pub fn point() {
    let (left, pid) = LEFT.get();
    if left > 0 && pid == super::pid::own_pid() {
        LEFT.set((left - 1, pid));
        assert!(left > 1, "on purpose");
    }
}

/// Nothing, without the feature.
#[cfg(not(feature = "panic-injection"))]
#[inline(always)]
pub(crate) fn point() {}
