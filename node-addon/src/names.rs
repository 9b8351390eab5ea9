//! The names of policies and mechanisms, for `stats`. What may be asked for is in lib/names.cjs.

use cluster_core::{MechanismKind, Policy};

const POLICIES: [(&str, Policy); 4] = [
    ("rr", Policy::RoundRobin),
    ("none", Policy::None),
    ("least-loaded", Policy::LeastLoaded),
    ("source-hash", Policy::SourceHash),
];

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
        MechanismKind::Rotation => "rotation",
        _ => "shared",
    }
}
