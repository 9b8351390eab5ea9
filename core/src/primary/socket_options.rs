//! Socket options that a worker sets on an address that is open: judged as those of a listen, and set on every socket of the address.

use std::time::Instant;

use super::Primary;
use crate::error::{Error, Result};
use crate::options::{self, SocketOption};
use crate::wire::{Answer, Malformed};

/// Units of its allowance that a worker spends on one, beside one for each socket of the address.
pub(super) const UNITS_OF_AN_OPTION: usize = 8;

impl Primary {
    /// Sets an option for a worker, and answers it.
    pub(super) fn set_socket_option(
        &mut self,
        worker: u32,
        number: u32,
        listener: u32,
        option: &SocketOption,
    ) -> std::result::Result<(), Malformed> {
        match self.registry.get(worker) {
            Some(entry) if !entry.sets_options => {
                return Err(Malformed("a socket option, which it did not say that it would"));
            }
            Some(entry) if !entry.listeners.contains_key(&listener) => {
                return Err(Malformed("a socket option of a listener that is not its own"));
            }
            Some(entry) if !entry.ended => {}
            // Nobody is there to whom it would be of use.
            _ => return Ok(()),
        }
        match self.option_set(worker, listener, option) {
            Ok(()) => self.say(worker, &Answer::Done { number }),
            Err(error) => self.refuse(worker, number, &error),
        }
    }

    fn option_set(&mut self, worker: u32, listener: u32, option: &SocketOption) -> Result<()> {
        let entry = self.registry.get(worker).ok_or_else(Error::shutdown)?;
        if entry.was_asked_to_leave() || self.stopping {
            return Err(Error::shutdown());
        }
        options::judge(option)?;
        let handle = self.handles.of_listener(listener).ok_or_else(Error::shutdown)?;
        let sockets = handle.set_option(option)?;
        if let Some(entry) = self.registry.get_mut(worker) {
            entry.allowance.take(sockets, Instant::now());
        }
        Ok(())
    }
}
