//! The load of the figures that need no event loop: a ring of open connections, a queue that waits, one probe at a time.
//!
//! Every connection is closed by a reset once the server has closed it, so that no TIME_WAIT uses up the ports.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::linger;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, bind, connect, recv, send, setsockopt, socket, sockopt,
};

use crate::error::{Result, fail, failed};

/// How long a server may leave a connection without an answer before the measurement is given up.
const PATIENCE_MS: u16 = 20_000;

/// How often is looked whether a queue is served; well below the time that a queue takes.
const LOOK_EVERY: Duration = Duration::from_micros(100);

/// What is asked of a server.
pub struct Target {
    pub ports: Vec<u16>,
    /// What is sent first; an empty one means that the server closes by itself.
    pub request: &'static [u8],
    /// Connections come from a thousand addresses of the loopback network, for a server that looks at them.
    pub many_clients: bool,
}

pub const HTTP: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A connection under way; on loopback it usually is made when this returns.
pub fn open(port: u16) -> nix::Result<OwnedFd> {
    open_from(None, port)
}

fn open_from(address: Option<SockaddrIn>, port: u16) -> nix::Result<OwnedFd> {
    open_between(address, SockaddrIn::new(127, 0, 0, 1, port))
}

/// The same from an address of our own, and to any.
pub fn open_between(address: Option<SockaddrIn>, to: SockaddrIn) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    setsockopt(&fd, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
    if let Some(address) = address {
        bind(fd.as_raw_fd(), &address)?;
    }
    match connect(fd.as_raw_fd(), &to) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
        Err(errno) => Err(errno),
    }
}

fn wait_for(fd: &OwnedFd, what: PollFlags) -> Result<()> {
    let mut polled = [PollFd::new(fd.as_fd(), what)];
    match poll(&mut polled, PATIENCE_MS) {
        Ok(0) => fail(format!("a connection without an answer for {} s", PATIENCE_MS / 1000)),
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(failed("poll")(errno)),
    }
}

/// Waits until a connection is made or has failed.
pub fn await_made(fd: &OwnedFd) -> Result<()> {
    wait_for(fd, PollFlags::POLLOUT)
}

/// Waits for the first bytes that come, and takes them: an answer that is smaller than any packet.
pub fn await_answer(fd: &OwnedFd) -> Result<()> {
    let mut bytes = [0; 1024];
    loop {
        match recv(fd.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            Ok(0) => return fail("a connection was ended that should have stayed"),
            Ok(_) => return Ok(()),
            Err(Errno::EAGAIN | Errno::EINTR) => wait_for(fd, PollFlags::POLLIN)?,
            Err(errno) => return Err(failed("a connection that was not served")(errno)),
        }
    }
}

/// Reads what there is; says whether the server has closed.
fn is_ended(fd: &OwnedFd) -> Result<bool> {
    let mut bytes = [0; 1024];
    loop {
        match recv(fd.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            Ok(0) => return Ok(true),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(false),
            Err(errno) => return Err(failed("a connection that was not served")(errno)),
        }
    }
}

impl Target {
    /// A connection to one of the server's addresses, and its request.
    fn begin(&self, which: usize) -> Result<OwnedFd> {
        let client = (which % 1000) as u16;
        let address =
            self.many_clients.then(|| SockaddrIn::new(127, 1, (client / 250) as u8, (client % 250) as u8 + 1, 0));
        let fd = open_from(address, self.ports[which % self.ports.len()]).map_err(failed("connect"))?;
        if !self.request.is_empty() {
            while let Err(errno) = send(fd.as_raw_fd(), self.request, MsgFlags::MSG_NOSIGNAL) {
                if errno != Errno::EAGAIN {
                    return Err(failed("send")(errno));
                }
                wait_for(&fd, PollFlags::POLLOUT)?;
            }
        }
        Ok(fd)
    }

    /// Waits until the server has closed, so that every connection counted was served.
    fn end(&self, fd: &OwnedFd) -> Result<()> {
        while !is_ended(fd)? {
            wait_for(fd, PollFlags::POLLIN)?;
        }
        Ok(())
    }

    /// Makes connections with so many open at a time. `between` is called before each and may disturb the server.
    pub fn ring(&self, connections: usize, outstanding: usize, mut between: impl FnMut(usize)) -> Result<()> {
        let mut open: Vec<OwnedFd> = Vec::with_capacity(outstanding);
        for i in 0..connections {
            between(i);
            if i < outstanding {
                open.push(self.begin(i)?);
            } else {
                let place = &mut open[i % outstanding];
                self.end(place)?;
                *place = self.begin(i)?;
            }
        }
        for i in 0..open.len() {
            self.end(&open[(connections + i) % open.len()])?;
        }
        Ok(())
    }

    /// Connections that nobody has served yet.
    pub fn queue(&self, connections: usize) -> Result<Vec<OwnedFd>> {
        (0..connections).map(|i| self.begin(i)).collect()
    }

    /// Waits until all of them are served. They stay open until they are dropped. It looks at them every now and then and
    /// waits for none: a client that every close woke would take from the server the time that is to be measured.
    pub fn await_all(&self, queue: &[OwnedFd]) -> Result<()> {
        let mut deadline = Instant::now() + Duration::from_millis(PATIENCE_MS.into());
        let mut served = 0;
        while served < queue.len() {
            let before = served;
            while served < queue.len() && is_ended(&queue[served])? {
                served += 1;
            }
            if served > before {
                deadline = Instant::now() + Duration::from_millis(PATIENCE_MS.into());
            } else if Instant::now() > deadline {
                return fail(format!("{} of {} connections are not served", queue.len() - served, queue.len()));
            }
            if served < queue.len() {
                std::thread::sleep(LOOK_EVERY);
            }
        }
        Ok(())
    }

    /// Microseconds from the call of connect to the server's first packet, one connection after the other.
    pub fn probe(&self, probes: usize, gap: Duration) -> Result<Vec<f64>> {
        let mut taken = Vec::with_capacity(probes);
        for i in 0..probes {
            let begin = Instant::now();
            let fd = self.begin(i)?;
            let mut byte = [0];
            while let Err(errno) = recv(fd.as_raw_fd(), &mut byte, MsgFlags::empty()) {
                if errno != Errno::EAGAIN {
                    return Err(failed("a connection that was not served")(errno));
                }
                wait_for(&fd, PollFlags::POLLIN)?;
            }
            taken.push(begin.elapsed().as_secs_f64() * 1e6);
            self.end(&fd)?;
            drop(fd);
            std::thread::sleep(gap);
        }
        Ok(taken)
    }
}
