//! A worker's side: its channel, and taking the shares that the primary granted it.

use std::sync::Arc;

use cluster_core::Worker;
use napi::Result;
use napi_derive::napi;

use crate::listener::Listener;
use crate::refusal;

/// This process as a worker that Node's cluster started.
#[napi]
pub struct Member {
    worker: Arc<Worker>,
}

#[napi]
impl Member {
    /// Believes the environment's word that a descriptor is this worker's channel, if the descriptor proves it; `null`
    /// when it is something else, which is then left alone.
    #[napi]
    pub fn adopt(fd: i32, id: u32, slot: u32) -> Result<Option<Member>> {
        let adopted = Worker::adopt_enrolled(fd, id, slot).map_err(refusal)?;
        Ok(adopted.map(|worker| Member { worker: Arc::new(worker) }))
    }

    /// The slot.
    #[napi(getter)]
    pub fn slot(&self) -> u32 {
        self.worker.slot()
    }

    /// Takes the share that the primary named in its answer.
    #[napi]
    pub fn take(&self, listener: u32) -> Result<Listener> {
        let taken = self.worker.take_grant(listener).map_err(refusal)?;
        Ok(Listener::new(taken, Some(Arc::clone(&self.worker))))
    }
}
