//! One worker in hand, looked up once, with everything that it may touch. What it has said is done here.

use std::time::Instant;

use super::event::Event;
use super::ground::Ground;
use super::listen::{self, Addresses, Asker, Leave, Request};
use super::talk::{Asked, Judged, Reader, Said, UNREAD_ANSWERS};
use super::workers::{Entry, Granted, WorkerState};
use crate::bind;
use crate::error::{EVERSION, Error, Result};
use crate::options::{self, SocketOption};
use crate::settings::{Mechanism, MechanismKind};
use crate::wire::{Answer, Malformed, VERSION};

pub(super) struct Session<'a> {
    pub(super) worker: &'a mut Entry,
    pub(super) addresses: &'a mut Addresses,
    pub(super) reader: &'a mut Reader,
    pub(super) ground: Ground<'a>,
    /// The program's choice, or else the environment's.
    pub(super) mechanism: Mechanism,
    /// How many there are.
    pub(super) workers: usize,
    pub(super) stopping: bool,
    /// There is nobody to hand connections back to.
    pub(super) takes_none_back: bool,
    /// Whether a worker that leaves is replaced, only the program knows.
    pub(super) program_replaces: bool,
}

/// What takes more than this worker.
pub(super) enum Next {
    Nothing,
    Leave,
    LeaveSoon,
    /// A closing address is in the way of what it asked for.
    MakeWay(u32, Asked),
}

/// Why a worker did not get an address.
pub(super) enum Denied {
    /// For this reason, which the program was told already, or not.
    Refused { error: Error, told: bool },
    /// Another has to be closed first.
    InTheWay(u32),
    /// The grant could not be sent.
    Unsent(Error),
}

impl From<Error> for Denied {
    fn from(error: Error) -> Self {
        Denied::Refused { error, told: false }
    }
}

/// Whether a worker is granted what it joins, and under which number.
#[derive(Clone, Copy)]
pub(super) enum Grant {
    Asked(u32),
    /// The program asked in its stead; the number is the listener's.
    Unasked,
    /// The program holds the listener.
    None,
}

impl Session<'_> {
    /// Does what a worker has said.
    pub(super) fn heard(&mut self, said: Said) -> Judged<Next> {
        let own = |worker: &Entry, listener: u32, offence| match worker.listeners.get(&listener) {
            Some(address) => Ok(*address),
            None => Err(Malformed(offence)),
        };
        match said {
            Said::Online => {
                self.worker.come_to(WorkerState::Online);
                self.ground.news.push(Event::Online(self.worker.reference()));
            }
            Said::OtherVersion(version) => {
                let text = format!(
                    "it speaks version {version} of the protocol and this primary version {VERSION}; it was ended"
                );
                self.worker.note_refused(&Error::new(EVERSION, text.clone()));
                self.kill(text);
            }
            // Nobody is there any more to whom an address would be of use.
            Said::Listen(_) if self.worker.ended => {}
            Said::Listen(asked) => return self.listen(asked, Instant::now() + listen::LONGEST),
            Said::Close { listener } => {
                own(self.worker, listener, "the close of a listener that is not its own")?;
                self.close_listener(listener);
            }
            Said::Pause { listener, paused } => {
                let address = own(self.worker, listener, "a pause of a listener that is not its own")?;
                if let Some(handle) = self.addresses.touch(address) {
                    handle.pause_member(listener, paused, self.ground.poll);
                }
            }
            Said::Unseat { listener } => {
                let address = own(self.worker, listener, "something about a listener that is not its own")?;
                if let Some(handle) = self.addresses.touch(address) {
                    handle.give_up_own_socket(listener, self.ground.poll);
                }
            }
            Said::Seat { listener } => {
                let address = own(self.worker, listener, "something about a listener that is not its own")?;
                if !self.addresses.touch(address).is_none_or(|handle| handle.stand_in_line(listener)) {
                    return Err(Malformed("that it accepts in rotation where it was not granted that"));
                }
            }
            Said::SetOption { number, listener, option } => {
                let address = own(self.worker, listener, "a socket option of a listener that is not its own")?;
                self.set_option(number, address, &option)?;
            }
            Said::Message(data) => self.ground.news.push(Event::Message { worker: self.worker.reference(), data }),
            Said::Load(load) => self.worker.board.tell_load(load),
            Said::Leave => return Ok(Next::Leave),
            Said::Signalled => return Ok(Next::LeaveSoon),
        }
        Ok(Next::Nothing)
    }

    /// Answers a listen, now or a little later; that until then at most.
    pub(super) fn listen(&mut self, asked: Asked, until: Instant) -> Judged<Next> {
        let joined = Request::ask(&asked, self.worker)
            .map_err(Denied::from)
            .and_then(|request| self.join(&request, Grant::Asked(asked.number)));
        match joined {
            Ok(_) => self.worker.link.check_reads_answers().map(|()| Next::Nothing),
            Err(Denied::InTheWay(address)) => Ok(Next::MakeWay(address, asked)),
            Err(Denied::Unsent(error)) if error.is(libc::EAGAIN) => Err(UNREAD_ANSWERS),
            Err(Denied::Unsent(error)) => self.refuse(asked.number, &error),
            Err(Denied::Refused { error, .. })
                if bind::is_locked(&error)
                    && Instant::now() < until
                    && !self.addresses.has_postponed(self.worker.id) =>
            {
                self.addresses.postpone((self.worker.id, asked, until), self.ground.clock);
                Ok(Next::Nothing)
            }
            Err(Denied::Refused { error, told }) => {
                let error = bind::unless_locked(error);
                self.note_refused(&asked.address, told, &error);
                self.refuse(asked.number, &error)
            }
        }
    }

    /// Brings the worker to an address: permit, open, join, grant.
    pub(super) fn join(&mut self, request: &Request, grant: Grant) -> std::result::Result<Granted, Denied> {
        request.check(self.worker, self.stopping)?;
        let at = (&request.address, request.index);
        let permit = self.addresses.permit(self.worker, at, &mut self.ground);
        let permit = permit.map_err(|error| Denied::Refused { error, told: true })?;
        self.addresses.spare_descriptors(permit.open, self.worker, self.ground.poll)?;
        let is_new = permit.open.is_none();
        let address = match permit.open {
            Some(address) => {
                self.addresses.find_again(address, permit.place, &mut self.ground);
                address
            }
            None => match self.addresses.in_the_way(&permit.key) {
                Some(address) => return Err(Denied::InTheWay(address)),
                None => {
                    let may_share = self.worker.may_share_sockets() && request.own_socket;
                    let asker = Asker { wanted: self.mechanism, may_share, workers: self.workers };
                    self.addresses.open(permit, request, asker, &mut self.ground)?
                }
            },
        };
        let mut place = self.addresses.place(address)?;
        let listener = match place.join(self.worker, request.own_socket, &mut self.ground) {
            Ok(listener) => listener,
            Err(error) if is_new => {
                self.addresses.close(address, self.ground.poll);
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        };
        let granted = Granted { handle: address, listener, is_new, name: place.handle.name };
        let number = match grant {
            Grant::Asked(number) => {
                if is_new && place.handle.mechanism() == MechanismKind::Kernel {
                    self.worker.link.charge_choice();
                }
                number
            }
            Grant::Unasked => listener,
            Grant::None => return Ok(granted),
        };
        if let Some((grant, fds, event)) = place.grant(listener, number, self.worker) {
            if let Err(error) = self.worker.link.grant(&grant, &fds, &mut self.ground) {
                self.close_listener(listener);
                return Err(Denied::Unsent(error));
            }
            self.worker.come_to(WorkerState::Listening);
            self.ground.news.push(event);
        }
        Ok(granted)
    }

    /// A listen was refused, which the worker's program may well keep to itself.
    fn note_refused(&mut self, address: &str, told: bool, error: &Error) {
        if self.worker.was_asked_to_leave() || error.is(libc::ESHUTDOWN) {
            return;
        }
        self.worker.note_refused(error);
        if !told {
            self.ground.news.cannot_listen(self.worker.reference(), address, error);
        }
    }

    fn refuse(&mut self, number: u32, why: &Error) -> Judged<Next> {
        self.worker.link.refuse(number, why, &mut self.ground).map(|()| Next::Nothing)
    }

    /// Sets an option on every socket of an address, judged as those of a listen.
    fn set_option(&mut self, number: u32, address: u32, option: &SocketOption) -> Judged<()> {
        if self.worker.ended {
            // Nobody is there to whom it would be of use.
            return Ok(());
        }
        match self.option_set(address, option) {
            Ok(sockets) => {
                self.worker.link.charge(sockets);
                self.worker.link.answer(&Answer::Done { number }, &mut self.ground)
            }
            Err(error) => self.refuse(number, &error).map(drop),
        }
    }

    fn option_set(&mut self, address: u32, option: &SocketOption) -> Result<usize> {
        if self.worker.was_asked_to_leave() || self.stopping {
            return Err(Error::shutdown());
        }
        options::judge(option)?;
        self.addresses.get_mut(address).ok_or_else(Error::shutdown)?.set_option(option)
    }

    /// Closes a listener that the worker has. The last to close an address gives it up, unless it was told to leave and we are to put
    /// another in its place.
    pub(super) fn close_listener(&mut self, listener: u32) {
        let for_good = !self.worker.is_leaving() || self.stopping;
        self.leave(listener, for_good, true);
    }

    /// `in_order`: the worker was asked to leave, or wants to.
    fn leave(&mut self, listener: u32, for_good: bool, in_order: bool) {
        let how = Leave { for_good, with_the_told: in_order && self.program_replaces, in_order };
        self.addresses.leave(self.worker, listener, how, &mut self.ground);
    }

    /// The worker's end of the channel is closed, or it is not spoken with any more; its process may live on. What waits for it goes
    /// to others.
    pub(super) fn cut_off(&mut self) {
        if !self.worker.link.close(self.ground.poll) {
            return;
        }
        let in_order = self.worker.was_asked_to_leave();
        self.worker.state = WorkerState::Disconnected;
        self.ground.news.push(Event::Disconnect(self.worker.reference()));
        let own = |listener: &&u32| !self.worker.relayed.contains(listener);
        let listeners: Vec<u32> = self.worker.listeners.keys().filter(own).copied().collect();
        listeners.into_iter().for_each(|listener| self.leave(listener, false, in_order));
    }

    /// The worker's process has ended: what is held in its stead ends, too, of which the end of the channel says nothing.
    pub(super) fn leave_all(&mut self) {
        let in_order = self.worker.was_asked_to_leave();
        self.cut_off();
        let listeners: Vec<u32> = self.worker.listeners.keys().copied().collect();
        listeners.into_iter().for_each(|listener| self.leave(listener, false, in_order));
    }

    /// Ends a worker that broke the rules; nobody else is affected.
    pub(super) fn punish(&mut self, offence: Malformed) {
        self.end(&format!("it sent {}", offence.0));
    }

    /// Ends a worker, and says for what.
    pub(super) fn end(&mut self, offence: &str) {
        self.kill(format!("{offence} and was ended"));
    }

    fn kill(&mut self, why: String) {
        let _ = self.worker.process.signal(libc::SIGKILL);
        self.close_returns();
        self.ground.news.warn(Some(self.worker.reference()), why);
        self.cut_off();
    }
}
