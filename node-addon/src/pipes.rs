//! What comes on Node's own channels to its workers.

use napi::{Env, Result};
use napi_derive::napi;

use crate::uv;

/// Looks at what comes on one of Node's channels before Node reads it. A worker could end this process otherwise: Node does not expect
/// files. `channel`: the number of its descriptor.
#[napi]
pub fn look_before_reading(env: Env, channel: i32) -> Result<()> {
    uv::look_before_reading(&env, channel)
}

/// Whether the channel that has ended at this moment did so because of descriptors that Node cannot read.
#[napi]
pub fn came_unfit() -> bool {
    uv::came_unfit()
}

/// Closes what was sent on a channel and will not be read, without waiting for it.
#[napi]
pub fn discard_unread(channel: i32) {
    cluster_core::discard_unread(channel);
}

/// Lets a worker attach no descriptors to its output, where the kernel can refuse them. `socket`: the number of this process's end.
#[napi]
pub fn refuse_descriptors(socket: i32) {
    cluster_core::refuse_descriptors(socket);
}
