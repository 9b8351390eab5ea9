#![allow(unsafe_code)] // Options of several types are read and written as bytes.
//! How a listening socket was made, to restore it after another process that has it changed it.

use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET};

use super::{Sys, check, descriptor, socket};

/// Not in the libc crate. SO_BINDTOIFINDEX of Linux 5.1, SO_BUF_LOCK of 5.14, IPV6_MINHOPCOUNT.
const BIND_TO_INTERFACE: i32 = 62;
const BUFFER_LOCK: i32 = 72;
const IPV6_MIN_HOPS: i32 = 73;

/// Options that decide whether connections come, how long that takes, and what they inherit. Those that the kernel or the family does not
/// have are left out.
const OPTIONS: [(i32, i32); 29] = [
    (SOL_SOCKET, libc::SO_REUSEPORT),
    (SOL_SOCKET, BIND_TO_INTERFACE),
    (SOL_SOCKET, libc::SO_LINGER),
    (SOL_SOCKET, libc::SO_RCVTIMEO),
    (SOL_SOCKET, libc::SO_SNDTIMEO),
    (SOL_SOCKET, libc::SO_RCVLOWAT),
    (SOL_SOCKET, libc::SO_KEEPALIVE),
    (SOL_SOCKET, libc::SO_OOBINLINE),
    (SOL_SOCKET, libc::SO_PRIORITY),
    (SOL_SOCKET, libc::SO_MARK),
    (SOL_SOCKET, libc::SO_MAX_PACING_RATE),
    (IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (IPPROTO_TCP, libc::TCP_SYNCNT),
    (IPPROTO_TCP, libc::TCP_NODELAY),
    (IPPROTO_TCP, libc::TCP_CORK),
    (IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (IPPROTO_TCP, libc::TCP_KEEPCNT),
    (IPPROTO_TCP, libc::TCP_FASTOPEN),
    (IPPROTO_TCP, libc::TCP_MAXSEG),
    (IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (IPPROTO_TCP, libc::TCP_WINDOW_CLAMP),
    (IPPROTO_IP, libc::IP_TTL),
    (IPPROTO_IP, libc::IP_TOS),
    (IPPROTO_IP, libc::IP_MINTTL),
    (IPPROTO_IP, libc::IP_TRANSPARENT),
    (IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
    (IPPROTO_IPV6, libc::IPV6_TCLASS),
    (IPPROTO_IPV6, IPV6_MIN_HOPS),
];

/// The longest of these is a `struct timeval`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Value {
    bytes: [u8; 16],
    length: libc::socklen_t,
}

pub(crate) struct Condition {
    options: [Option<Value>; OPTIONS.len()],
    /// Receiving and sending, and whether somebody has set them.
    buffers: [Option<Value>; 2],
    buffer_lock: Option<Value>,
    /// How many connections may wait; only TCP tells.
    room: Option<u32>,
}

const BUFFERS: [i32; 2] = [libc::SO_RCVBUF, libc::SO_SNDBUF];

impl Condition {
    /// `None` for a socket that does not listen. `ours`: nobody else may set its options.
    pub(crate) fn of(socket: BorrowedFd, ours: bool) -> Option<Self> {
        let listens = socket::nature(socket).is_ok_and(|nature| nature.listening);
        listens.then(|| Self::read(socket, ours))
    }

    /// The same of a socket that need not listen.
    fn read(socket: BorrowedFd, ours: bool) -> Self {
        let get = |level, name| if ours { get(socket, level, name) } else { None };
        Self {
            options: OPTIONS.map(|(level, name)| get(level, name)),
            buffers: BUFFERS.map(|name| get(SOL_SOCKET, name)),
            buffer_lock: get(SOL_SOCKET, BUFFER_LOCK),
            room: socket::listening_room(socket).ok().flatten(),
        }
    }

    /// Takes over what setting an option changes, also in other options (IP_TOS sets the priority). `set` acts on `replica`, which nobody
    /// else has: at the socket itself another process could change more at the same moment, which would then count as ours.
    pub(crate) fn follow(&mut self, replica: BorrowedFd, set: impl FnOnce() -> Sys<()>) -> Sys<()> {
        let before = Self::read(replica, true);
        set()?;
        let after = Self::read(replica, true);
        let was = before.options.iter().chain(&before.buffers).chain([&before.buffer_lock]);
        let is = after.options.iter().chain(&after.buffers).chain([&after.buffer_lock]);
        let ours = self.options.iter_mut().chain(&mut self.buffers).chain([&mut self.buffer_lock]);
        for (kept, (was, is)) in ours.zip(was.zip(is)) {
            if was != is {
                *kept = *is;
            }
        }
        Ok(())
    }

    /// Restores it. Returns what had been done to it.
    pub(crate) fn repair(&self, socket: BorrowedFd) -> Option<&'static str> {
        let mut found = None;
        for (wanted, (level, name)) in self.options.iter().zip(OPTIONS) {
            if let Some(wanted) = wanted
                && get(socket, level, name).as_ref() != Some(wanted)
            {
                let _ = set(socket, level, name, wanted);
                found = Some("changed the options of");
            }
        }
        for (wanted, name) in self.buffers.iter().zip(BUFFERS) {
            if let Some(wanted) = wanted
                && get(socket, SOL_SOCKET, name).as_ref() != Some(wanted)
            {
                // The kernel doubles what is asked.
                let bytes = i32::from_ne_bytes([wanted.bytes[0], wanted.bytes[1], wanted.bytes[2], wanted.bytes[3]]);
                let _ = set(socket, SOL_SOCKET, name, &Value::of(bytes / 2));
                let _ = self.buffer_lock.map(|lock| set(socket, SOL_SOCKET, BUFFER_LOCK, &lock));
                found = Some("changed the buffers of");
            }
        }
        if descriptor::is_nonblocking(socket) == Ok(false) {
            let _ = descriptor::set_nonblocking(socket);
            found = Some("made accept wait at");
        }
        let listens = socket::nature(socket).is_ok_and(|nature| nature.listening);
        if !listens || socket::listening_room(socket).ok().flatten() != self.room {
            let _ = socket::listen(socket, self.room.map_or(libc::SOMAXCONN, |room| room as i32));
            found = Some(if listens { "changed the backlog of" } else { "shut down" });
        }
        found
    }
}

impl Value {
    fn of(number: i32) -> Self {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_ne_bytes());
        Self { bytes, length: 4 }
    }
}

fn get(socket: BorrowedFd, level: i32, name: i32) -> Option<Value> {
    let mut value = Value { bytes: [0; 16], length: 16 };
    // SAFETY: the kernel writes at most `length` bytes, for which there is room.
    let outcome = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, value.bytes.as_mut_ptr().cast(), &mut value.length)
    };
    check(outcome).ok().map(|_| value)
}

fn set(socket: BorrowedFd, level: i32, name: i32, value: &Value) -> Sys<()> {
    // SAFETY: pointer and length describe initialised bytes; the length is the kernel's own or that of an int.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.bytes.as_ptr().cast(), value.length) })
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::fd::AsFd;

    use super::*;
    use crate::address::Address;
    use crate::bind::{self, ListenFlags, Shape};

    #[test]
    fn what_somebody_did_to_a_socket_is_undone() {
        let shape = Shape { backlog: 33, ..Shape::default() };
        let address = Address::parse("127.0.0.1:0").unwrap();
        let bound = bind::open(&address, None, &shape, ListenFlags::default()).unwrap();
        let (one, at) = (bound.socket.as_fd(), bound.name.to_inet().unwrap());
        let condition = Condition::of(one, true).unwrap();
        let all = || {
            let options = OPTIONS.map(|(level, name)| get(one, level, name).map(|value| value.bytes));
            let buffers = BUFFERS.map(|name| get(one, SOL_SOCKET, name).map(|value| value.bytes));
            (options, buffers, socket::listening_room(one), descriptor::is_nonblocking(one))
        };
        let before = all();
        assert_eq!(condition.repair(one), None);
        let int = |level, name, number| set(one, level, name, &Value::of(number)).unwrap();
        let harm: [(&str, &dyn Fn()); 6] = [
            ("options", &|| int(SOL_SOCKET, libc::SO_KEEPALIVE, 1)),
            ("options", &|| int(IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 30)),
            ("buffers", &|| BUFFERS.iter().for_each(|name| int(SOL_SOCKET, *name, 5000))),
            ("wait", &|| descriptor::make_blocking(one).unwrap()),
            ("backlog", &|| socket::listen(one, 1).unwrap()),
            ("shut down", &|| socket::stop_listening(one)),
        ];
        for (kind, harm) in harm {
            harm();
            assert!(all() != before, "{kind}");
            assert!(condition.repair(one).is_some_and(|told| told.contains(kind)), "{kind}");
            assert!(all() == before, "{kind}");
            assert_eq!(condition.repair(one), None, "once is enough");
            assert!(TcpStream::connect(at).is_ok(), "{kind}: it listens where it did");
        }
    }
}
