//! What this process is. Once a worker, it stays one, whatever fails.

use std::sync::Arc;

use crate::env;
use crate::error::{Error, Result};
use crate::sys::worker_signals;
use crate::worker::{self, Worker};

pub(super) enum Place {
    /// No cluster started it.
    Alone,
    /// It was started as a worker and cannot prove it. It may start no workers.
    Stray(Error),
    Worker(Arc<Worker>),
    /// A worker that could not join its primary.
    Unjoined(Identity, Error),
}

/// Which worker this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub id: u32,
    /// Its slot.
    pub slot: u32,
}

impl Place {
    pub(super) fn is_worker(&self) -> bool {
        matches!(self, Place::Worker(_) | Place::Unjoined(..))
    }

    /// Why it may start no workers, if it is started as a worker and cannot prove it.
    pub(super) fn stray(&self) -> Option<Error> {
        match self {
            Place::Stray(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// What the environment says. Removes the variables.
    pub(super) fn from_environment() -> Self {
        let holds_signals = env::take_worker_signals();
        let (id, slot, channel) = match worker::channel_in_environment() {
            Ok(None) => return Place::Alone,
            Err(stray) => return Place::Stray(stray),
            Ok(Some(named)) => named,
        };
        match Worker::adopt_waiting(channel).transpose() {
            None => Place::Stray(worker::taken()),
            Some(joined) => {
                env::mark_worker();
                let place = Self::joined(Identity { id, slot }, joined);
                if let (Place::Worker(worker), true) = (&place, holds_signals) {
                    hold_signals(worker);
                }
                place
            }
        }
    }

    /// After an attempt to join.
    pub(super) fn joined(identity: Identity, joined: Result<Worker>) -> Self {
        match joined {
            Ok(worker) => Place::Worker(Arc::new(worker)),
            Err(error) => Place::Unjoined(identity, worker::unjoined(&error)),
        }
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        match self {
            Place::Alone | Place::Stray(_) => None,
            Place::Worker(worker) => Some(Identity { id: worker.id(), slot: worker.slot() }),
            Place::Unjoined(identity, _) => Some(*identity),
        }
    }

    pub(super) fn worker(&self) -> Result<Option<Arc<Worker>>> {
        match self {
            Place::Alone | Place::Stray(_) => Ok(None),
            Place::Worker(worker) => Ok(Some(Arc::clone(worker))),
            Place::Unjoined(_, error) => Err(error.clone()),
        }
    }
}

/// If this fails, the signals keep their default action.
pub(super) fn hold_signals(worker: &Worker) {
    if let Ok(held) = worker.hold_signals() {
        worker_signals::unblock(&held);
    }
}
