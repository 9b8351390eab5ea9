//! A worker's end of everything, in the hands of a test: it says what it is told to, in any order, and its descriptors are
//! plain sockets of this process.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::Shutdown;

use crate::primary::{Enrolled, Primary};
use crate::sys::memory::SharedPage;
use crate::sys::sockaddr::SockAddr;
use crate::sys::{Sys, cmsg, descriptor, socket};
use crate::tally::Part;
use crate::wire::{
    self, Answer, FromPrimary, FromWorker, OFFERS_HAND_BACK, OFFERS_OPTIONS, OFFERS_ROTATION, Parcel, VERSION,
};

/// A share that was granted, as its worker has it.
pub(super) struct Share {
    pub(super) listener: u32,
    /// What it is to whoever asked for it.
    pub(super) key: String,
    pub(super) name: SockAddr,
    pub(super) mailbox: OwnedFd,
    /// What it accepts from beside the mailbox.
    pub(super) socket: Option<OwnedFd>,
    /// In rotation: what it takes is counted, and it may stand in line.
    pub(super) part: Option<Part>,
    /// It is to leave the socket alone until it is told to begin.
    waits: Cell<bool>,
    /// The epoll in which it does.
    place: RefCell<Option<Epoll>>,
}

/// What was read from the grants socket.
pub(super) enum Read {
    Granted {
        number: u32,
        listener: u32,
    },
    /// An option is set.
    Done,
    Refused {
        number: u32,
        code: i32,
    },
    Leave,
    Nothing,
}

/// What a look into a mailbox brought.
pub(super) enum Taken {
    Connection(OwnedFd),
    Control,
    /// It has turns from here on.
    Begin,
    Stop,
    Nothing,
}

pub(super) struct Puppet {
    pub(super) id: u32,
    pub(super) nonce: u64,
    /// `None` once it has closed its end.
    pub(super) channel: Option<OwnedFd>,
    pub(super) grants: Option<OwnedFd>,
    /// Lifeline, the primary's pidfd, scoreboard.
    _others: [Option<OwnedFd>; 3],
    pub(super) board: Option<SharedPage>,
    pub(super) shares: Vec<Share>,
    /// It offers to accept in rotation.
    pub(super) rotates: bool,
    /// It offers to hand connections back.
    pub(super) hands_back: bool,
    /// Where it may.
    pub(super) returns: Option<OwnedFd>,
    numbers: u32,
    buffer: Vec<u8>,
}

impl Puppet {
    /// Takes a place in the primary, and its hello.
    pub(super) fn enroll(primary: &mut Primary) -> Option<Self> {
        primary.enroll().ok().map(Self::at)
    }

    /// The same with a place that it was given.
    pub(super) fn at(place: Enrolled) -> Self {
        let mut buffer = vec![0; wire::FRAME_MAX];
        let mut received =
            cmsg::receive(place.channel.as_fd(), &mut buffer, cmsg::MAX_FDS, libc::MSG_CMSG_CLOEXEC).expect("a hello");
        let Ok(FromPrimary::Hello(hello)) = FromPrimary::decode(&buffer[..received.length]) else {
            panic!("a channel that does not begin with a hello");
        };
        assert_eq!((hello.version, hello.worker_id, hello.slot), (VERSION, place.id, place.slot));
        let grants = received.take_fd(0).map(elsewhere);
        let others = [1, 2, 3].map(|index| received.take_fd(index).map(elsewhere));
        let board = others[2].as_ref().and_then(|file| SharedPage::of(file.as_fd()).ok());
        assert!(grants.is_some() && others[0].is_some() && others[1].is_some());
        Self {
            id: place.id,
            nonce: hello.nonce,
            channel: Some(elsewhere(place.channel)),
            grants,
            _others: others,
            board,
            shares: Vec::new(),
            rotates: false,
            hands_back: false,
            returns: None,
            numbers: 0,
            buffer,
        }
    }

    /// Sends any bytes. ENOTCONN when its end is closed; EAGAIN when the primary has not read for long.
    pub(super) fn send(&self, bytes: &[u8], fds: &[BorrowedFd]) -> Sys<()> {
        let channel = self.channel.as_ref().ok_or(Errno::ENOTCONN)?;
        cmsg::send(channel.as_fd(), [bytes, b""], fds)
    }

    pub(super) fn say(&self, frame: FromWorker) -> Sys<()> {
        self.send(&frame.encode(), &[])
    }

    pub(super) fn greeting(&self) -> FromWorker<'static> {
        let offer = |is_made: bool, offer: u32| if is_made { offer } else { 0 };
        let offers = OFFERS_OPTIONS | offer(self.rotates, OFFERS_ROTATION) | offer(self.hands_back, OFFERS_HAND_BACK);
        FromWorker::Online { offers, version: VERSION, nonce: self.nonce, pid: 1 }
    }

    /// Asks for a share; returns the number of its answer.
    pub(super) fn ask(&mut self, address: &str, index: u32, flags: u32) -> Sys<u32> {
        self.numbers += 1;
        let number = self.numbers;
        self.say(FromWorker::Listen { number, flags, backlog: 512, index, address }).map(|()| number)
    }

    /// The next answer of the primary's, if one is there.
    pub(super) fn read(&mut self) -> Read {
        let Some(grants) = &self.grants else { return Read::Nothing };
        let Ok(mut received) = cmsg::receive(grants.as_fd(), &mut self.buffer, 3, libc::MSG_CMSG_CLOEXEC) else {
            return Read::Nothing;
        };
        if received.length == 0 {
            return Read::Nothing;
        }
        let bytes = &self.buffer[..received.length];
        if bytes == wire::RETURNS {
            self.returns = Some(elsewhere(received.take_fd(0).expect("a socket")));
            return Read::Leave;
        }
        if let Ok(FromPrimary::Disconnect) = FromPrimary::decode(bytes) {
            return Read::Leave;
        }
        match Answer::decode(bytes).expect("an answer") {
            Answer::Refusal { number, code, .. } => Read::Refused { number, code },
            Answer::Done { .. } => Read::Done,
            Answer::Grant { number, listener, name, waits, .. } => {
                let mailbox = elsewhere(received.take_fd(0).expect("a mailbox"));
                let socket = received.take_fd(1).map(elsewhere);
                let part = received.take_fd(2).map(|page| Part::of(page.as_fd()).expect("a page"));
                let place = RefCell::new(None);
                let (key, waits) = (String::new(), Cell::new(waits));
                self.shares.push(Share { listener, key, name, mailbox, socket, part, waits, place });
                Read::Granted { number, listener }
            }
        }
    }

    /// A frame of the primary's on the channel. False when there is none.
    pub(super) fn listen_to(&mut self) -> bool {
        let Some(channel) = &self.channel else { return false };
        match cmsg::receive(channel.as_fd(), &mut self.buffer, 0, 0) {
            Ok(received) if received.length > 0 => {
                FromPrimary::decode(&self.buffer[..received.length]).expect("a frame");
                true
            }
            _ => false,
        }
    }
}

impl Share {
    /// It has the socket that all have.
    pub(super) fn is_common(&self) -> bool {
        self.part.is_some()
    }

    /// And may accept from it in its turn.
    pub(super) fn may_stand(&self) -> bool {
        self.is_common() && !self.waits_for_begin()
    }

    /// And is to leave that alone for now.
    pub(super) fn waits_for_begin(&self) -> bool {
        self.waits.get()
    }

    pub(super) fn stands(&self) -> bool {
        self.place.borrow().is_some()
    }

    /// Stands at the end of the line from here on.
    pub(super) fn stand(&self) {
        self.step_out();
        let Some(socket) = self.socket.as_ref().filter(|_| self.may_stand()) else { return };
        let made = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("an epoll");
        let epoll = Epoll(elsewhere(made.0));
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
        epoll.add(socket, EpollEvent::new(flags, 0)).expect("an entry");
        *self.place.borrow_mut() = Some(epoll);
    }

    /// Does not any more.
    pub(super) fn step_out(&self) {
        // Others have the socket, so the entry would be there for as long as the epoll.
        drop(self.place.borrow_mut().take());
    }

    /// What is next in the mailbox.
    pub(super) fn take(&self) -> Taken {
        let mut buffer = [0; wire::PARCEL_MAX];
        match cmsg::receive(self.mailbox.as_fd(), &mut buffer, 1, libc::MSG_CMSG_CLOEXEC) {
            Ok(mut received) if received.length > 0 => match Parcel::decode(&buffer[..received.length]) {
                Ok(Parcel::Connection(_)) => Taken::Connection(received.take_fd(0).expect("a connection")),
                Ok(Parcel::Nop) => Taken::Control,
                Ok(Parcel::Begin) => {
                    self.waits.set(false);
                    Taken::Begin
                }
                Ok(Parcel::Stop) => Taken::Stop,
                Err(malformed) => panic!("a mailbox held {malformed:?}"),
            },
            _ => Taken::Nothing,
        }
    }

    /// Accepts from the socket beside the mailbox, in rotation as one that may be out of turn.
    pub(super) fn accept(&self) -> Option<OwnedFd> {
        let accepted = self.accept_uncounted()?;
        if self.part.as_ref().is_some_and(|part| part.took(1)) && self.stands() {
            self.stand();
        }
        Some(accepted)
    }

    fn accept_uncounted(&self) -> Option<OwnedFd> {
        socket::accept_alone(self.socket.as_ref()?.as_fd(), libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK).ok()
    }

    /// How much waits in both: a byte for each of a parcel's, and a whole one's for each connection in the socket.
    #[cfg(test)]
    pub(super) fn waits(&self) -> usize {
        // What waits in a socket that all have is nobody's.
        let own = self.socket.as_ref().filter(|_| !self.is_common());
        let socket = own.map(|socket| socket::listening_backlog(socket.as_fd()));
        let queued = socket.and_then(|backlog| backlog.ok().flatten()).unwrap_or(0) as usize;
        socket::waiting_here(self.mailbox.as_fd()).unwrap_or(0) + queued * wire::PARCEL_MAX
    }

    /// How many datagrams wait in the socket beside the mailbox; they are taken.
    pub(super) fn hear(&self) -> usize {
        self.socket.as_ref().map_or(0, |socket| datagrams(socket.as_fd()))
    }

    pub(super) fn shut_down(&self, socket: bool, how: Shutdown) {
        let fd = if socket { self.socket.as_ref() } else { Some(&self.mailbox) };
        if let Some(fd) = fd {
            let _ = nix::sys::socket::shutdown(fd.as_raw_fd(), how);
        }
    }
}

/// Takes what a socket has received.
pub(super) fn datagrams(socket: BorrowedFd) -> usize {
    use nix::sys::socket::{MsgFlags, recv};
    std::iter::from_fn(|| recv(socket.as_raw_fd(), &mut [0; 16], MsgFlags::MSG_DONTWAIT).ok()).count()
}

/// A descriptor that in truth another process would have: its number is not one of those that the primary has for itself.
pub(super) fn elsewhere(fd: OwnedFd) -> OwnedFd {
    const FIRST: i32 = 256;
    match fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(FIRST)) {
        Ok(number) => descriptor::adopt_number(number),
        Err(_) => fd,
    }
}

/// A client of an address, whose end leaves no trace in the kernel (SO_LINGER 0).
pub(super) fn connect(name: &SockAddr) -> Option<OwnedFd> {
    let client = socket::open(name.family(), false).ok()?;
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(&client, nix::sys::socket::sockopt::Linger, &linger).ok()?;
    // A full backlog must not hold the test.
    descriptor::make_nonblocking(client.as_fd()).ok()?;
    match socket::connect(client.as_fd(), name) {
        Ok(()) | Err(Errno::EINPROGRESS) => Some(elsewhere(client)),
        Err(_) => None,
    }
}

/// How many descriptors this thread has open; in a process of one thread, all.
pub(super) fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/thread-self/fd").expect("/proc").count()
}
