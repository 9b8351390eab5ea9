//! The files that a program's workers inherit: the ones that were meant when it was first started, also for those that replace it. By
//! then the program may have closed its own, and the number may mean anything, a descriptor of ours too.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use crate::error::{Context, Error, Result};
use crate::sys::{attached, descriptor};

/// Copies of the program's descriptors, for as long as a worker may have to be made with them: the other end of a pipe sees no end of
/// file before.
pub(crate) struct Inheritance {
    numbers: Vec<RawFd>,
    copies: Mutex<Option<Vec<OwnedFd>>>,
}

impl Inheritance {
    pub(crate) fn new(numbers: &[RawFd]) -> Result<Self> {
        // All of them are open now, so that no copy gets the number of another.
        let copy = |fd: &RawFd| {
            descriptor::duplicate_number(*fd).context(format_args!("descriptor {fd}, which the program is to inherit"))
        };
        let copies = numbers.iter().map(copy).collect::<Result<_>>()?;
        Ok(Self { numbers: numbers.to_vec(), copies: Mutex::new(Some(copies)) })
    }

    /// The numbers that they have in the program.
    pub(crate) fn numbers(&self) -> &[RawFd] {
        &self.numbers
    }

    /// Ours and theirs, for the length of a call.
    pub(crate) fn with_pairs<T>(&self, use_them: impl FnOnce(Vec<(RawFd, RawFd)>) -> Result<T>) -> Result<T> {
        let copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        match &*copies {
            Some(copies) => use_them(copies.iter().map(AsRawFd::as_raw_fd).zip(self.numbers.iter().copied()).collect()),
            None if self.numbers.is_empty() => use_them(Vec::new()),
            None => Err(Error::new(
                -libc::EBADF,
                "the descriptors that it is to inherit were not kept, as workers were not to be replaced when it was started; set \
                 respawn before cl_spawn",
            )),
        }
    }

    /// No worker is to be made with them any more.
    pub(crate) fn let_go(&self) {
        attached::close_files(self.copies.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default());
    }
}
