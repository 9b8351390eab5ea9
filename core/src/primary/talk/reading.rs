//! From a packet on a worker's channel to what the worker said. What a worker must not say at all ends here; what depends on its
//! listeners is for the loop to judge.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::sending::AGAIN;
use super::{Judged, Link};
use crate::options::SocketOption;
use crate::primary::clock::Timer;
use crate::primary::ground::Ground;
use crate::sys::is_short_of_memory;
use crate::sys::poll::{self, Interest, Poll};
use crate::token::Token;
use crate::wire::{FRAME_MAX, FromWorker, Malformed, OFFERS_HAND_BACK, OFFERS_OPTIONS, OFFERS_ROTATION, VERSION};

/// What a worker asks for when it listens.
pub(crate) struct Asked {
    pub(crate) number: u32,
    pub(crate) flags: u32,
    pub(crate) backlog: i32,
    pub(crate) index: u32,
    pub(crate) address: String,
}

/// What a worker has said.
pub(crate) enum Said {
    Online,
    /// It is online, and speaks this version of the protocol, not ours.
    OtherVersion(u32),
    Listen(Asked),
    Close {
        listener: u32,
    },
    /// It takes nothing for now, or again.
    Pause {
        listener: u32,
        paused: bool,
    },
    /// It does without a socket of its own.
    Unseat {
        listener: u32,
    },
    /// It accepts from the shared socket from here on.
    Seat {
        listener: u32,
    },
    SetOption {
        number: u32,
        listener: u32,
        option: SocketOption,
    },
    Message(Vec<u8>),
    Load(u32),
    /// It wants to leave.
    Leave,
    /// A signal has asked it to leave.
    Signalled,
}

/// What reading brought.
pub(crate) enum Heard {
    Nothing,
    /// Its end of the channel is closed.
    Closed,
    /// In so many bytes.
    Said(Said, usize),
    Offence(Malformed),
}

/// Reads one frame at a time, of any worker, into the same memory.
#[derive(Default)]
pub(crate) struct Reader(Vec<u8>);

impl Reader {
    pub(crate) fn next(&mut self, link: &mut Link, ground: &mut Ground) -> Heard {
        let Some(channel) = &link.channel else { return Heard::Nothing };
        self.0.resize(FRAME_MAX + 1, 0);
        match channel.receive(&mut self.0) {
            Err(Errno::EAGAIN) => Heard::Nothing,
            Err(errno) if is_short_of_memory(errno) => {
                link.rest(AGAIN, ground);
                Heard::Nothing
            }
            Err(_) => Heard::Closed,
            Ok(received) if received.fds_lost => Heard::Offence(Malformed("descriptors, which no worker may send")),
            Ok(received) if received.truncated => Heard::Offence(Malformed("a frame that is too long")),
            // An empty packet reads like end of file; only the hang-up tells them apart.
            Ok(received) if received.length == 0 => match poll::is_hung_up(channel.as_fd()) {
                true => Heard::Closed,
                false => Heard::Offence(Malformed("an empty packet")),
            },
            Ok(received) => match FromWorker::decode(&self.0[..received.length]).and_then(|frame| link.said(frame)) {
                Ok(said) => Heard::Said(said, received.length),
                Err(offence) => Heard::Offence(offence),
            },
        }
    }
}

impl Link {
    fn said(&mut self, frame: FromWorker) -> Judged<Said> {
        if !self.greeted && !matches!(frame, FromWorker::Online { .. }) {
            return Err(Malformed("something before it said that it is online"));
        }
        Ok(match frame {
            FromWorker::Online { .. } if self.greeted => return Err(Malformed("a second greeting")),
            FromWorker::Online { nonce, .. } if nonce != self.nonce => {
                return Err(Malformed("a greeting with a wrong nonce"));
            }
            FromWorker::Online { version, .. } if version != VERSION => Said::OtherVersion(version),
            FromWorker::Online { offers, .. } => {
                self.greeted = true;
                self.sets_options = offers & OFFERS_OPTIONS != 0;
                self.rotates = offers & OFFERS_ROTATION != 0;
                self.hands_back = offers & OFFERS_HAND_BACK != 0;
                Said::Online
            }
            FromWorker::Listen { number, flags, backlog, index, address } => {
                Said::Listen(Asked { number, flags, backlog, index, address: address.to_owned() })
            }
            FromWorker::Close { listener } => Said::Close { listener },
            FromWorker::Pause { listener } => Said::Pause { listener, paused: true },
            FromWorker::Resume { listener } => Said::Pause { listener, paused: false },
            FromWorker::Unseat { listener } => Said::Unseat { listener },
            FromWorker::Seat { .. } if !self.rotates => {
                return Err(Malformed("that it accepts in rotation, which it did not say that it can"));
            }
            FromWorker::Seat { listener } => Said::Seat { listener },
            FromWorker::SetOption { .. } if !self.sets_options => {
                return Err(Malformed("a socket option, which it did not say that it would"));
            }
            FromWorker::SetOption { number, listener, level, name, value } => {
                Said::SetOption { number, listener, option: SocketOption { level, name, value: value.to_vec() } }
            }
            FromWorker::Message(data) => Said::Message(data.to_vec()),
            FromWorker::Load(load) => Said::Load(load),
            FromWorker::Disconnect => Said::Leave,
            FromWorker::Signalled => Said::Signalled,
        })
    }

    /// So many units were read in a turn. Who has used all that it may take rests; else one that floods would have the primary, and
    /// with it a processor, for itself.
    pub(crate) fn has_used(&mut self, units: usize, ground: &mut Ground) {
        self.charge(units);
        if let Some(pause) = self.allowance.rest(Instant::now()) {
            self.rest(pause, ground);
        }
    }

    /// What it has sent is not to be received for now, and the channel must not announce it all the time.
    fn rest(&mut self, pause: Duration, ground: &mut Ground) {
        if let Some(channel) = &self.channel
            && !std::mem::replace(&mut self.resting, true)
        {
            let _ = ground.poll.modify(channel, Token::Channel(self.worker).pack(), Interest::None);
            ground.clock.add(Instant::now() + pause, Timer::Read(self.worker));
        }
    }

    /// The pause is over.
    pub(crate) fn end_rest(&mut self, poll: &Poll) {
        self.resting = false;
        self.watch_again(poll);
    }
}
