//! An own socket to which clients come, and whose worker is this test.

use std::net::{SocketAddr, TcpStream};

use super::super::look::{PART_OF_RUNNING, Pulse};
use super::*;
use crate::sys::process::ProcessorTime;
use crate::sys::{descriptor, sockaddr, socket};

/// A worker of which one thing is known at a time.
#[derive(Default)]
struct Known {
    sign: Option<u64>,
    time: Option<ProcessorTime>,
}

impl Pulse for Known {
    fn sign_of_life(&self, _worker: u32) -> Option<u64> {
        self.sign
    }

    fn processor_time(&self, _worker: u32) -> Option<ProcessorTime> {
        self.time
    }
}

const PATIENCE: Duration = Duration::from_millis(60);

struct Rig {
    poll: Poll,
    own: OwnSocket,
    clients: Vec<TcpStream>,
    known: Known,
}

impl Rig {
    fn new(clients: usize) -> Self {
        let socket = socket::open(libc::AF_INET, false).unwrap();
        socket::bind(socket.as_fd(), &"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket::listen(socket.as_fd(), 16).unwrap();
        let at = sockaddr::local_name(socket.as_fd()).unwrap().to_inet().unwrap();
        let clients = (0..clients).map(|_| TcpStream::connect(at).unwrap()).collect();
        let mut own = OwnSocket::new(socket, 0);
        own.expect_some();
        Self { poll: Poll::new().unwrap(), own, clients, known: Known::default() }
    }

    fn look(&mut self) -> Seen {
        let look = Look {
            poll: &self.poll,
            interval: LOOK,
            elapsed: LOOK,
            in_time: true,
            patience: PATIENCE,
            part_of_running: PART_OF_RUNNING,
            calm: false,
            slack: 2,
            workers: &self.known,
        };
        self.own.look(&look, self.clients.len() as u64)
    }

    fn ran(&mut self, ran: u64, waited: u64, ready: bool) {
        let of = Duration::from_millis;
        self.known.time = Some(ProcessorTime { ran: of(ran), waited: of(waited), ready });
    }

    /// How many looks it takes until it is stuck, of so many at most.
    fn looks_until_stuck(&mut self, most: usize) -> Option<usize> {
        (1..=most).find(|_| matches!(self.look(), Seen::Stuck))
    }
}

#[test]
fn who_has_much_more_waiting_loses_half_its_turns_and_who_stands_still_all() {
    let mut rig = Rig::new(5);
    assert!(!rig.own.compare(0, 2), "nothing is known yet");
    assert!(matches!(rig.look(), Seen::Moving(_)));
    assert_eq!(rig.own.depth(), 5);
    assert!(!rig.own.compare(3, 2), "as much more is no more than the slack");
    assert_eq!(rig.own.turns(), Turns::All);
    assert!(rig.own.compare(2, 2));
    assert_eq!(rig.own.turns(), Turns::Half);
    assert!(!rig.own.compare(2, 2), "it is new only once");
    // Nothing is taken until the next look.
    assert!(matches!(rig.look(), Seen::Moving(_)));
    assert!(rig.own.compare(2, 2));
    assert_eq!(rig.own.turns(), Turns::None);
    assert!(rig.own.compare(5, 2));
    assert_eq!(rig.own.turns(), Turns::All);
}

#[test]
fn a_queue_from_which_nothing_is_taken_stands_still_after_its_patience() {
    let mut rig = Rig::new(1);
    // One look to see it, one to suspect, and three of 20 ms.
    assert_eq!(rig.looks_until_stuck(20), Some(5));
}

#[test]
fn one_that_waits_for_a_processor_does_not_stand_still() {
    let mut rig = Rig::new(1);
    rig.ran(0, 0, true);
    assert_eq!(rig.looks_until_stuck(50), None);
    // It had waited all the time, as is known when it gets one.
    let mut rig = Rig::new(1);
    rig.ran(0, 0, false);
    for waited in 0..50 {
        rig.ran(0, 20 * waited, false);
        assert!(!matches!(rig.look(), Seen::Stuck), "after {waited}");
    }
}

#[test]
fn one_that_runs_and_takes_nothing_does_something_else() {
    let mut rig = Rig::new(1);
    rig.ran(0, 0, true);
    assert_eq!(rig.looks_until_stuck(2), None);
    // A quarter of the patience is 15 ms.
    rig.ran(14, 0, true);
    assert_eq!(rig.looks_until_stuck(1), None);
    rig.ran(15, 0, true);
    assert_eq!(rig.looks_until_stuck(1), Some(1));
}

#[test]
fn who_takes_and_gives_a_sign_of_life_does_not_stand_still() {
    let mut rig = Rig::new(4);
    for sign in 0..4 {
        rig.known.sign = Some(sign);
        assert_eq!(rig.looks_until_stuck(4), None);
        socket::accept(rig.own.socket(), 0).unwrap();
    }
    // A sign alone is not enough: it may leave just this socket alone.
    let mut rig = Rig::new(1);
    for sign in 0..4 {
        rig.known.sign = Some(sign);
        assert!(!matches!(rig.look(), Seen::Stuck));
    }
    rig.known.sign = Some(4);
    assert!(matches!(rig.look(), Seen::Stuck));
}

#[test]
fn nothing_is_accepted_where_that_could_make_the_primary_wait() {
    let mut rig = Rig::new(2);
    assert!(matches!(rig.own.take(), Accepted::Connection(_)));
    descriptor::make_blocking(rig.own.socket()).unwrap();
    assert!(matches!(rig.own.take(), Accepted::Nothing));
    assert!(rig.own.is_spoiled());
    // It might be taken off again between a look and the accept.
    descriptor::set_nonblocking(rig.own.socket()).unwrap();
    assert!(matches!(rig.own.take(), Accepted::Nothing));
    assert_eq!(rig.own.waiting(), Some(1), "it waits for whom the kernel gives it to");
    assert_eq!(rig.own.given(2), 1, "one was accepted in its stead");
}

#[test]
fn a_socket_that_was_shut_down_is_noticed() {
    let mut rig = Rig::new(1);
    socket::stop_listening(rig.own.socket());
    assert!(matches!(rig.look(), Seen::Gone));
    assert_eq!(rig.own.waiting(), None);
}

#[test]
fn a_queue_that_is_empty_is_quiet_at_the_second_look() {
    let mut rig = Rig::new(1);
    socket::accept(rig.own.socket(), 0).unwrap();
    assert!(matches!(rig.look(), Seen::Moving(watched) if watched.again.is_some()), "one had come since");
    assert!(matches!(rig.look(), Seen::Moving(watched) if watched.again.is_none() && watched.changed));
    assert!(!rig.own.is_busy());
}
