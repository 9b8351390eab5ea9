//! Who gets the next connection. Pure: a policy sees slots and whether they are open, nothing else.

mod round_robin;

pub(crate) use round_robin::RoundRobin;

/// How connections are spread over the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Policy {
    /// Every worker accepts from the shared listening socket; the kernel decides. Not fair.
    None,
    /// Each open worker in turn.
    #[default]
    RoundRobin,
}
