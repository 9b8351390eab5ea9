//! A worker's side: its channel, and the shares it has of the primary's addresses.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cluster_core::{Counter, ListenFlags, ListenOptions, MESSAGE_MAX, Wanted, Worker};
use napi::bindgen_prelude::{Buffer, Either, Function};
use napi::{Env, Result};
use napi_derive::napi;

use crate::herd::Herd;
use crate::lines::Lines;
use crate::listener::Listener;
use crate::loop_sockets::LoopSockets;
use crate::told::Query;
use crate::watch::{Watch, Watched};
use crate::{refusal, uv};

/// What the channel brought.
#[napi(object)]
pub struct News {
    /// A message of the primary's program.
    pub message: Option<Buffer>,
    /// 0, or a negative errno value that says why there is none. `-ESHUTDOWN`: the primary asks this worker to leave.
    pub errno: i32,
}

/// A share, or a negative errno value that says why there is none.
type Asked = Either<Listener, i32>;

/// This process as a worker.
#[napi]
pub struct Member {
    worker: Arc<Worker>,
    sockets: Rc<LoopSockets>,
    lines: Rc<Lines>,
    herd: Rc<Herd>,
    watch: Option<Watch>,
}

#[napi]
impl Member {
    /// The pid of the primary whose worker this process is, if the descriptor proves what the environment says; otherwise 0.
    /// Nothing is read from the descriptor.
    #[napi]
    pub fn primary_of(fd: i32, id: u32, slot: u32) -> u32 {
        Worker::primary_of(fd, id, slot).unwrap_or(0)
    }

    /// Lets the programs that this process starts inherit the channel.
    #[napi]
    pub fn pass_on(fd: i32) -> Result<()> {
        Worker::pass_on(fd).map_err(refusal)
    }

    /// Takes the channel of a worker that Node's cluster started; `null` when the descriptor is something else, which is
    /// then left alone. From then on this process is ended soon after its primary, if it does not follow by itself.
    #[napi]
    pub fn adopt(env: Env, fd: i32, id: u32, slot: u32) -> Result<Option<Member>> {
        let adopted = Worker::adopt_following(fd, id, slot).map_err(refusal)?;
        Ok(adopted.map(|worker| Member::new(&env, worker)))
    }

    /// Takes the channel of a worker that any other primary started. From then on this process leaves by itself when that
    /// primary dies. `null` when the descriptor is something else, or somebody else took the place.
    #[napi]
    pub fn adopt_foreign(env: Env, fd: i32, id: u32, slot: u32) -> Result<Option<Member>> {
        let adopted = Worker::adopt_named(fd, id, slot).map_err(refusal)?;
        Ok(adopted.map(|worker| Member::new(&env, worker)))
    }

    /// Takes the share that the primary named in its answer.
    #[napi]
    pub fn take(&self, listener: u32) -> Asked {
        self.asked(self.worker.take_grant(listener))
    }

    /// libuv accepts from a listening socket that other workers have, too. One of those who wait is to be woken for a connection.
    #[napi]
    pub fn watch_shared(&self, socket: i32) {
        self.herd.add(socket);
    }

    /// A connection came from such a socket.
    #[napi]
    pub fn took_shared(&self, socket: i32) {
        self.herd.took(socket);
    }

    /// Such a socket is about to be closed.
    #[napi]
    pub fn forget_shared(&self, socket: i32) {
        self.herd.forget(socket);
    }

    /// Asks the primary for a share and waits for its answer.
    #[napi]
    pub fn listen(&self, query: Query) -> Asked {
        self.asked(query.wanted().and_then(|Wanted { address, index, backlog, flags, .. }| {
            let flags = flags | ListenFlags::NONBLOCK;
            self.worker.listen(address, ListenOptions { backlog, flags, index, options: Vec::new() })
        }))
    }

    /// Sends the primary's program a message.
    #[napi]
    pub fn send(&self, message: Buffer) -> Result<()> {
        self.worker.send(&message).map_err(refusal)
    }

    /// Tells the primary this worker's load.
    #[napi]
    pub fn set_load(&self, load: u32) {
        // Others notice that the primary is gone.
        let _ = self.worker.set_load(load);
    }

    /// This worker has answered so many more requests, so many of them with an error of its own.
    #[napi]
    pub fn count(&self, requests: u32, errors: u32) {
        self.worker.count(Counter::Requests, requests.into());
        self.worker.count(Counter::Errors, errors.into());
    }

    /// This worker was asked to leave. It ends when it has finished, even if its primary dies before.
    #[napi]
    pub fn outlive(&self) {
        self.worker.outlive();
    }

    /// Asks the primary to let this worker go.
    #[napi]
    pub fn disconnect(&self) -> Result<()> {
        self.worker.disconnect().map_err(refusal)
    }

    /// The next message, if one is there.
    #[napi]
    pub fn receive(&self) -> News {
        let mut buffer = vec![0; MESSAGE_MAX];
        match self.worker.receive(&mut buffer, Some(Duration::ZERO)) {
            // The program may keep the message, which is rarely as long as the buffer.
            Ok(length) => News { message: Some(buffer[..length].to_vec().into()), errno: 0 },
            Err(error) => News { message: None, errno: error.code() },
        }
    }

    /// This worker may take another's place, where the primary waits for that. 0, or a negative errno value.
    #[napi]
    pub fn ready(&self) -> i32 {
        self.worker.ready().map_or_else(|error| error.code(), |()| 0)
    }

    /// Calls `turn` on the event loop while `receive` may have something.
    #[napi]
    pub fn watch(&mut self, env: Env, turn: Function<(), ()>, on_a_thread: bool) -> Result<()> {
        if self.watch.is_none() {
            let watched: Watched = Arc::new(self.worker.channel().map_err(refusal)?.try_clone_to_owned()?);
            self.watch = Some(Watch::start(&env, watched, &turn, &turn, on_a_thread)?);
        }
        Ok(())
    }

    /// Ends `watch`.
    #[napi]
    pub fn unwatch(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.close();
        }
    }
}

impl Member {
    fn new(env: &Env, worker: Worker) -> Self {
        let worker = Arc::new(worker);
        let (sockets, lines, herd) = (Rc::default(), Rc::default(), Rc::default());
        uv::beat_in_each_turn(env, Arc::downgrade(&worker), &sockets, &lines, &herd);
        Self { worker, sockets, lines, herd, watch: None }
    }

    fn asked(&self, outcome: cluster_core::Result<cluster_core::Listener>) -> Asked {
        match outcome {
            Ok(listener) => {
                let share = Listener::new(listener, Some(Arc::clone(&self.worker)));
                Either::A(share.on_loop(&self.sockets, &self.lines))
            }
            Err(error) => Either::B(error.code()),
        }
    }
}
