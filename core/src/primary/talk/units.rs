//! What a worker's frames cost of its allowance (docs/protocol.md, section 8).

use super::Said;

/// Units of one worker's allowance in one turn, so that connections do not wait for one that floods. A frame is a unit.
pub(crate) const UNITS_PER_TURN: usize = 16;
/// So many bytes are another: they are copied, and a message is kept until the program has it.
const BYTES_PER_UNIT: usize = 4096;
/// What opening an address takes, and closing one. At once a worker may open as many as it may have.
const UNITS_OF_A_LISTEN: usize = 64;
const UNITS_OF_A_CLOSE: usize = 8;
/// A table of all buckets is written anew where clients are told apart and somebody comes or goes, if only for a while. A worker may
/// have a listener in each of many such addresses.
const UNITS_OF_A_TABLE: usize = 8;
/// A socket option, beside a unit for each socket of the address.
const UNITS_OF_AN_OPTION: usize = 8;

/// What a frame costs. `by_client`: the address of a listener tells clients apart.
pub(crate) fn units_of(said: &Said, bytes: usize, by_client: impl FnOnce(u32) -> bool) -> usize {
    match said {
        Said::Listen(_) => UNITS_OF_A_LISTEN,
        Said::Close { .. } => UNITS_OF_A_CLOSE,
        Said::SetOption { .. } => UNITS_OF_AN_OPTION,
        Said::Pause { listener, .. } | Said::Unseat { listener } => {
            if by_client(*listener) {
                UNITS_OF_A_TABLE
            } else {
                1
            }
        }
        _ => 1 + bytes / BYTES_PER_UNIT,
    }
}
