//! What has come on Node's own channels to its workers.

use napi::{Env, Result};
use napi_derive::napi;

use crate::uv;

/// How many descriptors a process has sent on one of Node's channels that nobody has asked for, and that stay open until the channel
/// is closed: more than one in a message, or such as Node makes no handle of. `channel`: the number of its descriptor.
#[napi]
pub fn unclaimed_descriptors(env: Env, channel: i32) -> Result<i32> {
    uv::unclaimed_descriptors(&env, channel)
}
