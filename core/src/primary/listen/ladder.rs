//! The mechanism `kernel` for an address, where it is to be had. Tried once, so that a machine that refuses is not asked for each
//! address.

use nix::errno::Errno;

use crate::bind::Shape;
use crate::error::{Error, Result};
use crate::mechanism::{Choice, Kernel, Passed, Refused, Selector, TABLE};
use crate::settings::Mechanism;
use crate::sys::Sys;
use crate::sys::sockaddr::SockAddr;

/// How many addresses are prepared for when the settings are made: the program may give up its privileges then.
const READY: usize = 4;

#[derive(Default)]
pub(crate) struct Ladder {
    ready: Vec<Selector>,
    /// Of which kind the program wants some to be ready.
    prepares: Option<Choice>,
    /// Why the kernel refused.
    refused: Option<Errno>,
    /// A sentence for the program about that, once: for its log, or, where it had forced the mechanism, as a warning.
    notice: Option<String>,
    complaint: Option<String>,
    told: bool,
}

impl Ladder {
    /// Makes ready what takes a privilege. The error says why there is no mechanism `kernel`.
    pub(crate) fn prepare(&mut self, choice: Choice) -> Result<()> {
        self.ready.retain(|selector| selector.choice() == choice);
        while self.ready.len() < READY {
            let selector = self.made(choice).map_err(refusal)?;
            self.ready.push(selector);
        }
        self.prepares = Some(choice);
        Ok(())
    }

    /// Takes that of an address that is closed for the next one: another can perhaps not be made any more.
    pub(crate) fn keep(&mut self, selector: Selector) {
        if self.prepares == Some(selector.choice()) && self.ready.len() < READY {
            self.ready.push(selector.renew());
        }
    }

    /// Gives back what was made ready.
    pub(crate) fn rest(&mut self) {
        self.ready.clear();
        self.prepares = None;
    }

    /// The mechanism for an address that `passed` listens on; `passed`, where it is not to be had.
    pub(crate) fn climb(
        &mut self,
        passed: Passed,
        name: SockAddr,
        shape: Shape,
        (choice, seed): (Choice, u32),
        wanted: Mechanism,
    ) -> Result<std::result::Result<Kernel, (Passed, String)>> {
        let (passed, forced, reason) = match self.selector(choice) {
            // The asker may ask again when there is room, and then the address gets the mechanism that it should.
            Err(errno) if is_shortage(errno) => return Err(Error::os("bpf", errno)),
            Err(errno) => (passed, (wanted == Mechanism::Kernel).then_some(errno), reason(errno)),
            Ok(selector) => {
                selector.set_seed(seed);
                match Kernel::new(passed, name, shape, selector) {
                    Ok(kernel) => return Ok(Ok(kernel)),
                    Err(Refused { passed, selector, call, errno }) => {
                        self.keep(selector);
                        if is_shortage(errno) {
                            return Err(Error::os(call, errno));
                        }
                        // It could be had when the settings were made, or the address could not have come so far: to serve it in
                        // another way is better than not at all.
                        (passed, None, reason_at(call, errno))
                    }
                }
            }
        };
        if let Some(errno) = forced {
            let refusal = refusal(errno);
            if !std::mem::replace(&mut self.told, true) {
                self.complaint = Some(refusal.sentence().to_owned());
            }
            return Err(refusal);
        }
        Ok(Err((passed, reason)))
    }

    /// The program is to know once why connections are passed on.
    pub(crate) fn note_passed(&mut self, address: &str, reason: &str) {
        if !std::mem::replace(&mut self.told, true) {
            self.notice = Some(format!("connections to {address} are passed on by the primary, because {reason}"));
        }
    }

    pub(crate) fn take_notice(&mut self) -> Option<String> {
        self.notice.take()
    }

    /// Why a forced mechanism was refused.
    pub(crate) fn take_complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    fn selector(&mut self, choice: Choice) -> Sys<Selector> {
        let fitting = self.ready.iter().rposition(|selector| selector.choice() == choice);
        match fitting.map(|index| self.ready.swap_remove(index)) {
            None => self.made(choice),
            Some(selector) => {
                // The place is filled again, if the privilege is still there; if not, what is ready is for addresses to come.
                if let Ok(another) = Selector::load(choice) {
                    self.ready.push(another);
                }
                Ok(selector)
            }
        }
    }

    fn made(&mut self, choice: Choice) -> Sys<Selector> {
        match self.refused {
            Some(errno) => Err(errno),
            None => Selector::load(choice).inspect_err(|errno| {
                if !is_shortage(*errno) {
                    self.refused = Some(*errno);
                }
            }),
        }
    }
}

/// Not about this machine or this process's privileges, but about this moment.
fn is_shortage(errno: Errno) -> bool {
    matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR)
}

fn refusal(errno: Errno) -> Error {
    Error::new(-(errno as i32), format!("{}; leave the mechanism at auto to do without it", reason(errno)))
}

/// The program in the kernel was made, and could not be put to use.
fn reason_at(call: &str, errno: Errno) -> String {
    match errno {
        Errno::EPERM | Errno::EACCES if call == TABLE => format!(
            "the mechanism \"kernel\" may not enter sockets into its table: before Linux 5.19, unless \
             kernel.unprivileged_bpf_disabled is 0, that takes the capability CAP_BPF for as long as workers come, and not only \
             at the beginning ({call}: {})",
            errno.desc()
        ),
        other => format!("the mechanism \"kernel\" failed at {call}: {}", other.desc()),
    }
}

fn reason(errno: Errno) -> String {
    match errno {
        Errno::EPERM | Errno::EACCES => format!(
            "the mechanism \"kernel\" needs the capability CAP_BPF (or CAP_SYS_ADMIN), which this process does not have \
             ({})",
            errno.desc()
        ),
        Errno::ENOSYS | Errno::EINVAL => {
            format!("this kernel lacks what the mechanism \"kernel\" needs; Linux 5.14 has it ({})", errno.desc())
        }
        other => format!("bpf(2), which the mechanism \"kernel\" needs, failed: {}", other.desc()),
    }
}
