//! What a worker asks of its primary, one question at a time, and the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;

use super::listener::{ListenOptions, Listener};
use super::messages::Channel;
use super::primary_gone;
use super::source::Grant;
use crate::address::{ADDRESS_MAX, Address};
use crate::bind::ListenFlags;
use crate::error::{Context, Error, Result};
use crate::options::{self, SocketOption};
use crate::sys::poll::wait_readable;
use crate::sys::{cmsg, lock, patiently};
use crate::wire::{Answer, FromWorker};

#[derive(Default)]
pub(super) struct Questions {
    /// The number of the last question. Locked until the answer is there, so that each answer finds its asker.
    last: Mutex<u32>,
    /// The indexes in use of each address.
    open: Mutex<BTreeMap<String, BTreeSet<u32>>>,
}

impl Questions {
    /// Asks for a share of an address, whose host must be numeric.
    pub(super) fn listen(&self, channel: &Arc<Channel>, address: &Address, wanted: &ListenOptions) -> Result<Listener> {
        let text = address.to_string();
        options::check_count(&wanted.options)?;
        let whole = options::before(&text, &wanted.options);
        if whole.len() > ADDRESS_MAX {
            return Err(Error::invalid(format!(
                "the address and its options have {} bytes; at most {ADDRESS_MAX} are possible",
                whole.len()
            )));
        }
        let index = self.claim_index(&text, address.is_port_zero(), wanted.index)?;
        let mut last = lock(&self.last);
        *last = last.wrapping_add(1);
        let (flags, backlog) = (wanted.flags.bits(), wanted.backlog);
        let question = FromWorker::Listen { number: *last, flags, backlog, index, address: &whole };
        let listened = channel
            .tell(&question.encode(), b"")
            .and_then(|()| await_grant(channel, *last, &text, index, wanted.flags));
        drop(last);
        listened.inspect_err(|_| self.release_index(&text, index))
    }

    fn claim_index(&self, text: &str, port_zero: bool, wanted: u32) -> Result<u32> {
        let mut open = lock(&self.open);
        let used = open.entry(text.to_owned()).or_default();
        let index = match (port_zero, wanted) {
            (false, _) => 0,
            (true, 0) => (1..).find(|index| !used.contains(index)).unwrap_or(u32::MAX),
            (true, wanted) => wanted,
        };
        if used.insert(index) {
            Ok(index)
        } else {
            Err(Error::new(-libc::EADDRINUSE, format!("this worker listens on {text} already")))
        }
    }

    fn release_index(&self, text: &str, index: u32) {
        let mut open = lock(&self.open);
        if let Some(used) = open.get_mut(text) {
            used.remove(&index);
            if used.is_empty() {
                open.remove(text);
            }
        }
    }

    /// Takes the grant of a listener that the primary's program asked for on this worker's behalf.
    pub(super) fn take_grant(&self, channel: &Arc<Channel>, listener: u32) -> Result<Listener> {
        let _held = lock(&self.last);
        await_grant(channel, listener, "", 0, ListenFlags::NONBLOCK)
    }

    /// Asks for a socket option to be set on a listener's address.
    pub(super) fn set_option(
        &self,
        channel: &Channel,
        (listener, its_number): (&Listener, u32),
        option: &SocketOption,
    ) -> Result<()> {
        if channel.leaving().is_asked() {
            return Err(Error::shutdown());
        }
        let mut last = lock(&self.last);
        *last = last.wrapping_add(1);
        {
            // After the close the number would name a listener that this worker does not have, which is an offence.
            let _before_close = channel.hold_close();
            listener.check_not_closed()?;
            let SocketOption { level, name, value } = option;
            let (number, level, name) = (*last, *level, *name);
            let question = FromWorker::SetOption { number, listener: its_number, level, name, value };
            channel.tell(&question.encode(), b"")?;
        }
        await_answer(channel, *last, |answer, _| match answer {
            Answer::Done { .. } => Ok(()),
            Answer::Grant { listener, .. } => {
                give_back(channel, listener);
                Err(Error::new(-libc::EPROTO, "the primary's answer to a socket option is none"))
            }
            Answer::Refusal { code, sentence, .. } => Err(Error::new(code, sentence.to_owned())),
        })
    }

    /// Gives a listener's share back.
    pub(super) fn close(&self, channel: &Channel, listener: &Listener) {
        let _last_word = channel.hold_close();
        listener.finish();
        if let Some(share) = listener.share() {
            give_back(channel, share.listener);
            self.release_index(&share.address, share.index);
        }
    }
}

fn give_back(channel: &Channel, listener: u32) {
    // Fails only without a primary, and then nobody is there to tell.
    let _ = channel.tell(&FromWorker::Close { listener }.encode(), b"");
}

/// Waits for the grant with this number. The caller has `last` locked.
fn await_grant(channel: &Arc<Channel>, asked: u32, text: &str, index: u32, flags: ListenFlags) -> Result<Listener> {
    await_answer(channel, asked, |answer, received| {
        let Answer::Grant { listener, mechanism, datagram, settable, waits, name, .. } = answer else {
            return Err(Error::new(-libc::EPROTO, "the primary's answer to a listen is none"));
        };
        let fds = [received.take_fd(0), received.take_fd(1), received.take_fd(2)];
        let made = match received.fds_lost {
            true => Err(Error::os("receiving the descriptors of a listener", Errno::EMFILE)),
            false => {
                let grant = Grant { listener, mechanism, datagram, settable, waits_for_begin: waits, name, fds };
                Listener::granted(grant, channel, (text, index), flags)
            }
        };
        // A share that cannot be used goes back.
        let made = made.inspect_err(|_| give_back(channel, listener))?;
        // Without a primary the next call says so.
        let _ = made.tell_place();
        Ok(made)
    })
}

/// Waits for the answer with this number and passes it to `look`, unless it is a refusal. The caller has `last` locked.
fn await_answer<T>(
    channel: &Channel,
    asked: u32,
    look: impl FnOnce(Answer, &mut cmsg::Received) -> Result<T>,
) -> Result<T> {
    let leaving = channel.leaving();
    let grants = leaving.grants();
    loop {
        // Peek first, which is safe because only this thread receives here: the request to leave must stay in the socket, and
        // no answer behind it is a grant.
        wait_readable(&[grants], None).context("poll of the grants socket")?;
        if leaving.is_asked() {
            return Err(Error::shutdown());
        }
        let mut buffer = [0; 1024];
        // An answer left in the socket would be read as one that nobody waits for.
        let mut received = match patiently(|| cmsg::receive(grants, &mut buffer, 3, libc::MSG_CMSG_CLOEXEC)) {
            Err(Errno::EAGAIN) => continue,
            outcome => outcome.context("receiving a grant")?,
        };
        if received.length == 0 {
            return Err(primary_gone::seen());
        }
        let answer = Answer::decode(&buffer[..received.length])
            .map_err(|malformed| Error::new(-libc::EPROTO, format!("the primary sent {}", malformed.0)))?;
        match answer {
            Answer::Refusal { number, code, sentence } if number == asked => {
                return Err(match sentence {
                    "" => Error::new(code, "the primary refused it and did not say why"),
                    sentence => Error::new(code, sentence.to_owned()),
                });
            }
            answer if answer.number() == asked => return look(answer, &mut received),
            // Its asker has given up.
            Answer::Grant { listener, .. } => give_back(channel, listener),
            Answer::Done { .. } | Answer::Refusal { .. } => {}
        }
    }
}
