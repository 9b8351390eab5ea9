//! Handing a connection back.

use std::os::fd::BorrowedFd;

use super::leaving::{Leaving, nobody_takes_any};
use super::listener::Listener;
use crate::error::{Error, Result};
use crate::handback::{Fit, fit};

impl Listener {
    /// `leaving`: of the worker whose listener it is.
    pub(super) fn hand_back_by(&self, leaving: &Leaving, connection: BorrowedFd) -> Result<()> {
        let share = self.of_connection(connection)?;
        leaving.hand_back(share, connection)
    }

    /// The same where there is no primary: why not.
    pub(crate) fn keep(&self, connection: BorrowedFd) -> Result<()> {
        self.of_connection(connection).and_then(|_| Err(nobody_takes_any()))
    }

    /// By which number the primary knows where it was accepted.
    fn of_connection(&self, connection: BorrowedFd) -> Result<u32> {
        match fit(connection, &self.name()) {
            Fit::NoSocket(errno) => return Err(Error::os("the connection", errno)),
            Fit::Unconnected => return Err(Error::invalid("it is not connected, or its client has gone; close it")),
            Fit::Other(what) => {
                return Err(Error::invalid(format!(
                    "it is {what}; only what was accepted from this listener can be handed back"
                )));
            }
            Fit::Connection(_) => {}
        }
        let alone = || {
            Error::new(-libc::EOPNOTSUPP, "the listener is this process's alone, and nobody else serves its address")
        };
        self.share().map(|share| share.listener).ok_or_else(alone)
    }
}
