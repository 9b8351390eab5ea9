//! A process that was started as a worker and could not become one. It starts no workers: each would do the same.

use std::sync::OnceLock;

use cluster_core::Worker;
use napi_derive::napi;

const USUAL: &str = "a wrapper that closes descriptors or clears the environment does this, and so does a program that loads \
                     node:cluster before cluster-rs: keep both, or preload cluster-rs/register";

/// What the environment said. Kept for all threads, because the variables are removed afterwards.
static SAID: OnceLock<Option<String>> = OnceLock::new();
/// What the descriptors said.
static FOUND: OnceLock<Option<String>> = OnceLock::new();

fn sentence(checked: cluster_core::Result<()>) -> Option<String> {
    checked.err().map(|error| error.sentence().to_owned())
}

/// This process is no worker. Notes whether its environment says that it was started as one; the first call counts.
#[napi]
pub fn note_environment(id: Option<String>, slot: Option<String>, channel: Option<String>) {
    SAID.get_or_init(|| sentence(Worker::check_stray(id.as_deref(), slot.as_deref(), channel.as_deref(), USUAL)));
}

/// Why this process may start no workers, in a sentence.
#[napi]
pub fn why_no_workers() -> Option<String> {
    let said = SAID.get().cloned().flatten();
    said.or_else(|| FOUND.get_or_init(|| sentence(Worker::check_stray_channel(USUAL))).clone())
}
