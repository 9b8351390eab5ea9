//! Setting a socket option on an address that is open.

use super::{Listener, Worker, check_primary, lock};
use crate::error::{Error, Result};
use crate::options::{self, SocketOption};
use crate::wire::{Answer, FromWorker};

impl Worker {
    /// Sets a socket option of a listener's address; see [`Listener::set_option`].
    pub fn set_option(&self, listener: &Listener, option: &SocketOption) -> Result<()> {
        let Some(settable) = listener.settable() else { return listener.set_own_option(option) };
        options::check_value(option)?;
        self.check_version()?;
        check_primary()?;
        let listener_id = settable?;
        if self.leaving.is_asked() {
            return Err(Error::shutdown());
        }
        let mut last = lock(&self.listens);
        *last = last.wrapping_add(1);
        let number = *last;
        {
            // Behind the close this would be about a listener that is not this worker's own, which is an offence.
            let _before_close = lock(&self.closing);
            listener.check_not_closed()?;
            let SocketOption { level, name, value } = option;
            let (level, name) = (*level, *name);
            self.tell(&FromWorker::SetOption { number, listener: listener_id, level, name, value }.encode())?;
        }
        self.await_answer(number, |answer, _| match answer {
            Answer::Done { .. } => Ok(()),
            Answer::Grant { listener, .. } => {
                let _ = self.tell(&FromWorker::Close { listener }.encode());
                Err(Error::new(-libc::EPROTO, "the primary's answer to a socket option is none"))
            }
            Answer::Refusal { code, sentence, .. } => Err(Error::new(code, sentence.to_owned())),
        })
    }
}

impl Listener {
    /// What the primary calls it, if it is a share of the primary's; an error if that sets no options later.
    fn settable(&self) -> Option<Result<u32>> {
        let share = self.share()?;
        Some(match share.settable {
            true => Ok(share.listener),
            false => Err(Error::new(
                -libc::EOPNOTSUPP,
                "the primary is of an older version, which sets socket options at most when an address is opened; use the \
                 same libcluster in both, or set them on each connection",
            )),
        })
    }
}
