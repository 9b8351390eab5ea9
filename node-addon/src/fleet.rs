//! What JavaScript asks for when workers are to be replaced.

use std::time::Duration;

use cluster_core::{Due, RecycleOptions, ReloadOptions, When};
use napi_derive::napi;

/// A worker that is to be made, to take another's place.
#[napi]
pub struct DueWorker(pub(crate) Due);

#[napi]
impl DueWorker {
    /// The slot that it is for.
    #[napi(getter)]
    pub fn slot(&self) -> u32 {
        self.0.slot()
    }

    /// It is made beside whoever has the slot's place.
    #[napi(getter)]
    pub fn beside(&self) -> bool {
        self.0.is_beside()
    }

    /// By whose recipe it is to be made.
    #[napi(getter)]
    pub fn generation(&self) -> u32 {
        self.0.generation()
    }
}

/// How workers are to be replaced. JavaScript has checked the values; what is left out is the default.
#[napi(object)]
pub struct ReloadWanted {
    /// How many at a time.
    pub parallel: Option<u32>,
    /// How many more processes than slots.
    pub extra: Option<u32>,
    /// Milliseconds to become ready; 0: any time.
    pub ready_timeout: Option<u32>,
    /// Milliseconds to live after that.
    pub min_ready: Option<u32>,
    /// `queue` or `refuse`, where another runs.
    pub busy: Option<String>,
    /// It may listen on less.
    pub allow_fewer: Option<bool>,
    /// What has been replaced stays.
    pub no_rollback: Option<bool>,
}

impl ReloadWanted {
    pub(crate) fn options(&self) -> ReloadOptions {
        let mut options = ReloadOptions::default();
        let milliseconds = |ms: u32| Duration::from_millis(ms.into());
        options.parallel = self.parallel.map_or(options.parallel, |parallel| parallel as usize);
        options.extra = self.extra.map(|extra| extra as usize);
        if let Some(ms) = self.ready_timeout {
            options.ready_timeout = (ms > 0).then(|| milliseconds(ms));
        }
        options.min_ready = self.min_ready.map_or(options.min_ready, milliseconds);
        options.when = match self.busy.as_deref() {
            Some("queue") => When::Later,
            Some("refuse") => When::Idle,
            _ => When::AtOnce,
        };
        options.allow_fewer = self.allow_fewer.unwrap_or(false);
        options.no_rollback = self.no_rollback.unwrap_or(false);
        options
    }
}

/// After how much a worker is to be replaced. What is left out is no reason.
#[napi(object)]
pub struct RecycleWanted {
    /// Bytes of memory that it has for itself.
    pub memory: Option<f64>,
    /// Connections that it has taken.
    pub connections: Option<f64>,
    /// Requests that it has counted.
    pub requests: Option<f64>,
    /// Milliseconds since it was started.
    pub age: Option<f64>,
    /// By so many percent its limits are higher, at most.
    pub jitter: Option<u32>,
    /// How many at a time.
    pub at_a_time: Option<u32>,
}

impl RecycleWanted {
    pub(crate) fn options(&self) -> RecycleOptions {
        let mut options = RecycleOptions::default();
        let count = |value: Option<f64>| value.map(|value| value as u64);
        options.memory = count(self.memory);
        options.connections = count(self.connections);
        options.requests = count(self.requests);
        options.age = self.age.map(|ms| Duration::from_millis(ms as u64));
        options.jitter_percent = self.jitter.unwrap_or(options.jitter_percent);
        options.at_a_time = self.at_a_time.map_or(options.at_a_time, |at_a_time| at_a_time as usize);
        options
    }
}

/// A reload with workers that are made as others were.
#[napi(object)]
pub struct Rollback {
    /// Its own.
    pub generation: u32,
    /// Theirs.
    pub like: u32,
}
