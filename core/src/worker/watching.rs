//! An epoll of the program's that tells when a listener has something to say.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use super::source::Source;
use crate::error::{Context, Error, Result};
use crate::sys::lock;
use crate::sys::poll::Poll;

#[derive(Default)]
pub(super) struct Watching(Mutex<Option<Arc<Poll>>>);

impl Watching {
    /// Enters what `source` consists of. `data`: what the epoll tells.
    pub(super) fn begin(&self, source: &Source, epoll: BorrowedFd, data: u64) -> Result<()> {
        let mut watching = lock(&self.0);
        if watching.is_some() {
            return Err(Error::new(
                -libc::EEXIST,
                "the listener is watched already; end that first (cl_listener_unwatch)",
            ));
        }
        let poll = Arc::new(Poll::of_program(epoll).context("duplicating an epoll")?);
        source.watch(&poll, data).context("epoll_ctl")?;
        *watching = Some(poll);
        Ok(())
    }

    /// Takes it out again. False: it was not there.
    pub(super) fn end(&self, source: &Source) -> bool {
        let Some(poll) = lock(&self.0).take() else { return false };
        source.unwatch(&poll);
        true
    }
}
