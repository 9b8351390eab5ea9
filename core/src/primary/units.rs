//! What a worker's frames cost of its allowance (docs/protocol.md, section 8).

use super::Primary;
use super::socket_options::UNITS_OF_AN_OPTION;
use crate::wire::FromWorker;

/// Units of one worker's allowance in one turn, so that connections do not wait for one that floods. A frame is a unit.
pub(super) const UNITS_PER_TURN: usize = 16;
/// So many bytes are another: they are copied, and a message is kept until the program has it.
const BYTES_PER_UNIT: usize = 4096;
/// What opening an address takes, and closing one. At once a worker may open as many as it may have.
const UNITS_OF_A_LISTEN: usize = 64;
const UNITS_OF_A_CLOSE: usize = 8;
/// What it takes beside where the kernel is to choose: a program that it has to check first.
pub(super) const UNITS_OF_A_CHOICE: usize = 192;
/// A table of all buckets is written anew where clients are told apart and somebody comes or goes, if only for a while. A worker may
/// have a listener in each of many such addresses.
const UNITS_OF_A_TABLE: usize = 8;

impl Primary {
    pub(super) fn units_of(&mut self, frame: &FromWorker, bytes: usize) -> usize {
        match frame {
            FromWorker::Listen { .. } => UNITS_OF_A_LISTEN,
            FromWorker::Close { .. } => UNITS_OF_A_CLOSE,
            FromWorker::SetOption { .. } => UNITS_OF_AN_OPTION,
            FromWorker::Pause { listener } | FromWorker::Resume { listener } | FromWorker::Unseat { listener } => {
                let by_client = self.handles.of_listener(*listener).is_some_and(|handle| handle.is_by_client());
                if by_client { UNITS_OF_A_TABLE } else { 1 }
            }
            _ => 1 + bytes / BYTES_PER_UNIT,
        }
    }
}
