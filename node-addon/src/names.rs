//! The names of policies and mechanisms: for the environment, the command line, the settings and `stats`.

use cluster_core::{MechanismKind, Policy};
use napi_derive::napi;

const POLICIES: [(&str, Policy); 4] = [
    ("rr", Policy::RoundRobin),
    ("none", Policy::None),
    ("least-loaded", Policy::LeastLoaded),
    ("source-hash", Policy::SourceHash),
];

/// As `Mechanism::from_name` reads them.
const MECHANISMS: [&str; 3] = ["auto", "passed", "kernel"];

/// The policies: name and number. Node's own policies have Node's numbers.
#[napi]
pub fn policies() -> Vec<(&'static str, u32)> {
    POLICIES.map(|(name, policy)| (name, policy as u32)).into()
}

/// The mechanisms that can be asked for.
#[napi]
pub fn mechanisms() -> Vec<&'static str> {
    MECHANISMS.into()
}

/// Node refuses unknown numbers, so it does not matter what they become here.
pub(crate) fn policy_of(number: u32) -> Policy {
    POLICIES.iter().find(|(_, policy)| *policy as u32 == number).map_or_else(Policy::default, |(_, policy)| *policy)
}

pub(crate) fn name_of_policy(policy: Policy) -> &'static str {
    POLICIES.iter().find(|(_, known)| *known == policy).map_or("rr", |(name, _)| name)
}

pub(crate) fn name_of_mechanism(kind: MechanismKind) -> &'static str {
    match kind {
        MechanismKind::Passed => "passed",
        MechanismKind::Kernel => "kernel",
        _ => "shared",
    }
}
