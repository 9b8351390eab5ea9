//! Which addresses are open, and how a worker comes to one and goes.
//!
//! A worker comes to an address in five steps: [`ask`](Request::ask), [`permit`](Addresses::permit), [`open`](Addresses::open),
//! [`join`](joining::Place::join) and [`grant`](joining::Place::grant). It goes by [`leave`](Addresses::leave). Nothing here knows a
//! worker but the one in hand.

mod addresses;
mod closing;
mod joining;
mod ladder;
mod leaving;
mod moving;
mod opening;
mod permits;
mod postponed;
mod routes;
mod rules;
mod ways;

pub(crate) use addresses::Addresses;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use addresses::key;
pub(crate) use joining::Request;
pub(crate) use leaving::Leave;
pub(crate) use opening::Asker;
pub(crate) use postponed::LONGEST;
pub use rules::Permits;
