//! Talking with one worker: what it says on its link is read, checked and returned as [`Said`]; what is said to it is sent, or kept until
//! there is room. Nothing here waits for a worker, believes one (rule R5), or knows the others.

mod allowance;
mod link;
mod reading;
mod returns;
mod sending;
mod units;

use crate::wire::Malformed;

/// An error is what a worker may not do; it is ended for that.
pub(crate) type Judged<T> = std::result::Result<T, Malformed>;

pub(crate) use link::{Link, NewLink};
pub(crate) use reading::{Asked, Heard, Reader, Said};
pub(crate) use returns::{Returned, Returns};
pub(crate) use sending::UNREAD_ANSWERS;
pub(crate) use units::{UNITS_PER_TURN, units_of};
