//! What a primary tells its program.

use crate::fleet::{Generation, Phase};
use crate::settings::MechanismKind;
use crate::sys::child::ExitStatus;

/// The worker an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerRef {
    /// Its id, never used twice.
    pub id: u32,
    /// Its slot.
    pub slot: u32,
    /// Its process.
    pub pid: i32,
}

/// Something happened to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It was started.
    Fork(WorkerRef),
    /// It speaks.
    Online(WorkerRef),
    /// It was granted a share of an address.
    Listening {
        /// Who.
        worker: WorkerRef,
        /// The host, or the text of a unix address.
        address: String,
        /// The port; `None` for unix sockets.
        port: Option<u16>,
        /// How its connections reach it.
        mechanism: MechanismKind,
    },
    /// It sent a message.
    Message {
        /// Who.
        worker: WorkerRef,
        /// What.
        data: Vec<u8>,
    },
    /// It may take another's place: it listens, and has said that it is ready where that is asked for.
    Ready {
        /// Who.
        worker: WorkerRef,
        /// Its generation.
        generation: Generation,
    },
    /// A reload has come to another phase.
    Reload {
        /// Which.
        generation: Generation,
        /// How far it is.
        phase: Phase,
        /// How many slots have a worker of it.
        replaced: usize,
        /// Why it has ended otherwise than well; one sentence, or empty.
        reason: String,
    },
    /// The program is to ask an enrolled worker to leave; or to end it, where it has had long enough for that.
    Leave {
        /// Who.
        worker: WorkerRef,
        /// It has had long enough.
        at_once: bool,
    },
    /// An enrolled worker has taken its slot's place, beside which it was made.
    Swapped {
        /// Who.
        worker: WorkerRef,
    },
    /// A worker has taken the place of one that had done enough.
    Recycled {
        /// The new one.
        worker: WorkerRef,
        /// Its generation.
        generation: Generation,
    },
    /// Its channel is closed.
    Disconnect(WorkerRef),
    /// It ended.
    Exit {
        /// Who.
        worker: WorkerRef,
        /// How.
        status: ExitStatus,
    },
    /// Something for the log, no cause for worry; one sentence.
    Notice {
        /// The sentence.
        text: String,
    },
    /// Something that somebody should know; one sentence.
    Warning {
        /// The worker it is about, if it is about one.
        worker: Option<WorkerRef>,
        /// The sentence.
        text: String,
    },
}
