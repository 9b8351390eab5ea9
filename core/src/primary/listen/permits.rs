//! Whether a worker may have the address that it asks for.

use std::time::Instant;

use super::addresses::{Addresses, key};
use super::rules::{refusal, shown};
use crate::address::Address;
use crate::error::{Error, Result};
use crate::primary::ground::Ground;
use crate::primary::workers::Entry;
use crate::sys::unix_path::Place;

/// Addresses that may be open at the asking of confined workers where the settings name no number.
const CONFINED_MAX: u32 = 64;

/// An address as it is to be opened.
pub(crate) struct Permit {
    pub(crate) address: Address,
    /// For a socket file: exactly where.
    pub(crate) place: Option<Place>,
    pub(crate) key: String,
    /// It is open already, under this id.
    pub(crate) open: Option<u32>,
}

impl Addresses {
    /// Whether a worker may have an address, and what exactly is to be opened then. A refusal is told to the program.
    pub(crate) fn permit(
        &self,
        worker: &mut Entry,
        (address, index): (&Address, u32),
        ground: &mut Ground,
    ) -> Result<Permit> {
        let outcome = self.judge(worker.confined, address, index, ground.settings.listen_max);
        if let Err(error) = &outcome
            && let Some(untold) = worker.refusals.note(Instant::now())
        {
            ground.news.may_not_listen(worker.reference(), error, untold);
            // The asker may be another thread than the one that takes the events.
            ground.clock.wake();
        }
        outcome
    }

    fn judge(&self, confined: bool, address: &Address, index: u32, most: u32) -> Result<Permit> {
        let (address, place) = match &self.permits {
            Some(permits) => permits.permit(address)?,
            None if !confined => (address.clone(), None),
            None => {
                return Err(refusal(format!(
                    "this worker runs as another user than its primary, which has not declared what such workers may listen on; \
                     \"{}\" has to stand in listen_allow of the primary's settings",
                    shown(address)
                )));
            }
        };
        let most = match most {
            0 if confined => CONFINED_MAX,
            0 => u32::MAX,
            most => most,
        };
        let key = key(&address, index);
        let open = self.by_key.get(&key).copied();
        if open.is_none() && self.by_id.len() >= most as usize {
            return Err(Error::new(
                -libc::EMFILE,
                format!("{most} addresses are open for the workers, which is as many as may be (listen_max)"),
            ));
        }
        Ok(Permit { address, place, key, open })
    }
}
