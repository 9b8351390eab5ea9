//! The TLS ticket keys of each address, so that a session which one worker began can be resumed in another.

use std::collections::HashMap;

use cluster_core::Primary;

/// By the engine's number of the address.
#[derive(Default)]
pub(crate) struct Keys(HashMap<u32, String>);

impl Keys {
    /// The keys of an address: those that its first worker gave. A worker that gives none gets none.
    pub(crate) fn share(&mut self, handle: u32, own: Option<String>) -> Option<String> {
        own.map(|own| self.0.entry(handle).or_insert(own).clone())
    }

    /// Forgets those of addresses that are closed.
    pub(crate) fn prune(&mut self, primary: &Primary) {
        self.0.retain(|handle, _| primary.is_open(*handle));
    }
}
