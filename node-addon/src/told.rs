//! What JavaScript and the engine of a primary tell each other.

use cluster_core::{Event, Granted, ListenFlags, ListenRule, Outcome, Phase, Wanted};
use napi::Result;
use napi_derive::napi;

use crate::listener::SockName;
use crate::refusal;

/// JavaScript's own flag, beside those of `ListenFlags`.
const PAD_ABSTRACT: u32 = 1 << 16;

/// A place for a worker that Node is about to start.
#[napi(object)]
pub struct Place {
    /// The engine's id of the worker.
    pub id: u32,
    /// The slot.
    pub slot: u32,
    /// The worker's channel, which it must inherit. JavaScript closes it afterwards.
    pub fd: i32,
}

/// What workers may listen on.
#[napi(object)]
pub struct Allow {
    /// In the engine's words; without them, anything.
    pub rules: Option<Vec<String>>,
    /// How many addresses; 0: any number.
    pub most: u32,
}

impl Allow {
    pub(crate) fn parsed(self) -> Result<(Option<Vec<ListenRule>>, u32)> {
        let rules = self.rules.map(|rules| rules.iter().map(|rule| ListenRule::parse(rule)).collect());
        Ok((rules.transpose().map_err(refusal)?, self.most))
    }
}

/// What a worker asked for, in the engine's words.
#[napi(object)]
pub struct Query {
    /// The address.
    pub address: String,
    /// For port 0: which of the shared ports, from 1.
    pub index: u32,
    /// How many connections may wait; 0: Node's default.
    pub backlog: i32,
    /// Those of `ListenFlags`, and `PAD_ABSTRACT`.
    pub flags: u32,
    /// TLS ticket keys that the server has made, in hexadecimal digits.
    pub keys: Option<String>,
}

impl Query {
    pub(crate) fn wanted(&self) -> cluster_core::Result<Wanted<'_>> {
        let Self { ref address, index, backlog, flags, .. } = *self;
        let flags_of_engine = ListenFlags::from_bits(flags & !PAD_ABSTRACT)?;
        Ok(Wanted { address, index, backlog, flags: flags_of_engine, pad_abstract: flags & PAD_ABSTRACT != 0 })
    }
}

/// The answer to a query.
#[napi(object)]
#[derive(Default)]
pub struct Answer {
    /// 0, or a negative errno value.
    pub errno: i32,
    /// Why it was refused, in a sentence.
    pub reason: Option<String>,
    /// Names the address, even after the listener is closed.
    pub handle: u32,
    /// Names the listener.
    pub listener: u32,
    /// Where it is bound; not for unix sockets.
    pub sockname: Option<SockName>,
    /// The TLS ticket keys of the address, if the query had some.
    pub keys: Option<String>,
}

impl Answer {
    pub(crate) fn granted(granted: &Granted) -> Self {
        let Granted { handle, listener, name, .. } = *granted;
        Self { handle, listener, sockname: SockName::of(name), ..Self::default() }
    }

    pub(crate) fn refused(error: &cluster_core::Error) -> Self {
        Self { errno: error.code(), reason: Some(error.sentence().to_owned()), ..Self::default() }
    }
}

/// An address that a worker listens on.
#[napi(object)]
pub struct Listening {
    /// The engine's id of the worker.
    pub id: u32,
    /// The host, or the text of a unix address.
    pub address: String,
    /// Not for unix sockets.
    pub port: Option<u16>,
}

/// A worker that is to leave.
#[napi(object)]
pub struct Leaving {
    /// The engine's id of the worker.
    pub id: u32,
    /// It has had long enough for that, and is to be ended.
    pub at_once: bool,
}

/// A worker, and its generation.
#[napi(object)]
pub struct OfGeneration {
    /// The engine's id of the worker.
    pub id: u32,
    /// The generation.
    pub generation: u32,
}

/// How far a reload is.
#[napi(object)]
pub struct Reload {
    /// Its generation.
    pub generation: u32,
    /// `checking`, `rolling`, `done`, `refused`, `rolled-back` or `superseded`.
    pub phase: String,
    /// How many slots have a worker of it.
    pub replaced: u32,
    /// Why it has ended otherwise than well.
    pub reason: String,
}

/// Something that the program may want to know: one of these is set.
#[napi(object)]
#[derive(Default)]
pub struct News {
    /// A sentence about a worker that broke the rules, or about the engine itself.
    pub warning: Option<String>,
    /// The warning is about a worker.
    pub about_worker: bool,
    /// A sentence that is no cause for worry. `Stats` keeps it.
    pub notice: Option<String>,
    /// A worker has a share of an address.
    pub listening: Option<Listening>,
    /// A worker is to be made; `takeDue` says which.
    pub due: bool,
    /// A worker is to be asked to leave.
    pub leaving: Option<Leaving>,
    /// A worker is ready.
    pub ready: Option<OfGeneration>,
    /// A reload has come to another phase.
    pub reload: Option<Reload>,
    /// The engine's id of a worker that has taken its slot's place, beside which it was made.
    pub swapped: Option<u32>,
    /// A worker has taken the place of one that had done enough.
    pub recycled: Option<OfGeneration>,
}

fn name_of_phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Checking => "checking",
        Phase::Rolling => "rolling",
        Phase::Ended(Outcome::Done) => "done",
        Phase::Ended(Outcome::Refused) => "refused",
        Phase::Ended(Outcome::RolledBack) => "rolled-back",
        Phase::Ended(Outcome::Superseded) => "superseded",
    }
}

impl News {
    pub(crate) fn of(event: Event) -> Option<Self> {
        match event {
            Event::Warning { worker, text } => {
                let who = worker.map_or(String::new(), |worker| format!("worker {}: ", worker.id));
                let about_worker = worker.is_some();
                Some(Self { warning: Some(format!("{who}{text}")), about_worker, ..Self::default() })
            }
            Event::Notice { text } => Some(Self { notice: Some(text), ..Self::default() }),
            Event::Leave { worker, at_once } => {
                Some(Self { leaving: Some(Leaving { id: worker.id, at_once }), ..Self::default() })
            }
            Event::Ready { worker, generation } => {
                Some(Self { ready: Some(OfGeneration { id: worker.id, generation }), ..Self::default() })
            }
            Event::Swapped { worker } => Some(Self { swapped: Some(worker.id), ..Self::default() }),
            Event::Recycled { worker, generation } => {
                Some(Self { recycled: Some(OfGeneration { id: worker.id, generation }), ..Self::default() })
            }
            Event::Reload { generation, phase, replaced, reason } => {
                let (phase, replaced) = (name_of_phase(phase).to_owned(), replaced as u32);
                Some(Self { reload: Some(Reload { generation, phase, replaced, reason }), ..Self::default() })
            }
            Event::Listening { worker, address, port, .. } => {
                Some(Self { listening: Some(Listening { id: worker.id, address, port }), ..Self::default() })
            }
            _ => None,
        }
    }
}
