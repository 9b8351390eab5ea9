//! Workers whose process the program starts itself. Primary and workers live in this one process: what is tested is
//! between their descriptors.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use cluster_core::{AcceptFlags, Granted, Listener, Mechanism, MechanismKind, Primary, Settings, Wanted, Worker};

const PATIENCE: Duration = Duration::from_secs(20);

struct Cluster {
    primary: Primary,
    clients: Vec<TcpStream>,
}

struct Member {
    id: u32,
    slot: u32,
    worker: Worker,
}

impl Cluster {
    fn new(mechanism: Mechanism, window: u32, keep_unattended: Duration) -> Self {
        let mut settings = Settings::default();
        settings.mechanism = mechanism;
        settings.window = window;
        settings.keep_unattended = keep_unattended;
        // These workers take only when a test does.
        settings.patience = PATIENCE;
        Self { primary: Primary::new(settings).unwrap(), clients: Vec::new() }
    }

    fn member(&mut self) -> Member {
        self.member_and_channel().0
    }

    /// With a copy of its end of the channel.
    fn member_and_channel(&mut self) -> (Member, OwnedFd) {
        let place = self.primary.enroll().unwrap();
        let copy = place.channel.try_clone().unwrap();
        let channel = place.channel.into_raw_fd();
        assert!(Worker::adopt_enrolled(channel, place.id + 1, place.slot).unwrap().is_none(), "the place of another");
        let worker = Worker::adopt_enrolled(channel, place.id, place.slot).unwrap().unwrap();
        (Member { id: place.id, slot: place.slot, worker }, copy)
    }

    fn grant(&mut self, member: &Member, address: &str) -> (Granted, Listener) {
        let granted = self.primary.grant(member.id, wanted(address)).unwrap();
        (granted, member.worker.take_grant(granted.listener).unwrap())
    }

    fn connect(&mut self, address: SocketAddr, count: usize) {
        for _ in 0..count {
            self.clients.push(TcpStream::connect(address).unwrap());
        }
        self.settle();
    }

    /// Lets the primary do everything that is due now.
    fn settle(&mut self) {
        while !self.primary.turn(Some(Duration::from_millis(5))).unwrap().is_empty() {}
        self.primary.turn(Some(Duration::ZERO)).unwrap();
    }

    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Primary) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&mut self.primary) {
            assert!(Instant::now() < deadline, "{what}");
            self.primary.turn(Some(Duration::from_millis(5))).unwrap();
        }
    }

    fn waiting(&self, member: &Member) -> u32 {
        self.primary.worker_info(member.id).unwrap().waiting
    }
}

/// Whether this machine lets this process have the mechanism `kernel`.
fn kernel_is_allowed() -> bool {
    let mut primary = Primary::new(Settings::default()).unwrap();
    let mut settings = Settings::default();
    settings.mechanism = Mechanism::Kernel;
    primary.configure(settings).inspect_err(|error| eprintln!("not with kernel: {error}")).is_ok()
}

/// What every mechanism promises is tested with each.
macro_rules! with_each_mechanism {
    ($($name:ident)*) => {
        mod passed {
            $(#[test] fn $name() { super::$name(super::Mechanism::Passed); })*
        }
        mod kernel {
            $(#[test] fn $name() {
                if super::kernel_is_allowed() {
                    super::$name(super::Mechanism::Kernel);
                }
            })*
        }
    };
}

with_each_mechanism! {
    granted_shares_get_connections_in_turns
    what_a_worker_took_and_its_load_are_known_without_a_turn_of_the_primary
    a_pause_gives_the_queue_away_at_once_and_a_resume_brings_the_turn_back
    whoever_pauses_what_is_not_its_own_is_cut_off
    a_listener_can_be_closed_and_asked_for_again_at_once
    an_address_goes_with_the_last_worker_that_retires
    what_a_dead_worker_had_not_taken_goes_to_its_successor
    without_a_successor_the_address_is_given_up_in_time
    what_only_a_worker_served_goes_when_it_ends_in_order
    a_share_held_in_a_workers_stead_gives_back_what_the_worker_refuses
    a_socket_that_does_not_listen_yet_is_listened_on
}

fn wanted(address: &str) -> Wanted<'_> {
    Wanted { address, index: 1, backlog: 0, flags: Default::default(), pad_abstract: false }
}

fn take_all(listener: &Listener) -> Vec<OwnedFd> {
    std::iter::from_fn(|| listener.accept(AcceptFlags::default()).ok()).map(|(connection, _)| connection).collect()
}

fn granted_shares_get_connections_in_turns(mechanism: Mechanism) {
    let mut cluster = Cluster::new(mechanism, 4, PATIENCE);
    let (one, two) = (cluster.member(), cluster.member());
    assert_eq!((one.slot, two.slot), (0, 1));
    let (first, first_share) = cluster.grant(&one, "127.0.0.1:0");
    let (second, second_share) = cluster.grant(&two, "127.0.0.1:0");
    assert!(first.is_new && !second.is_new);
    let address = first.name.to_inet().unwrap();
    assert_eq!(second.name.to_inet(), Some(address));
    let kind = if mechanism == Mechanism::Kernel { MechanismKind::Kernel } else { MechanismKind::Passed };
    assert_eq!(cluster.primary.handles()[0].mechanism, kind);
    cluster.connect(address, 6);
    assert_eq!((take_all(&first_share).len(), take_all(&second_share).len()), (3, 3));
    let again = cluster.primary.grant(one.id, wanted("127.0.0.1:0")).unwrap_err();
    assert_eq!(again.code(), -libc::EADDRINUSE);
}

fn what_a_worker_took_and_its_load_are_known_without_a_turn_of_the_primary(mechanism: Mechanism) {
    let mut cluster = Cluster::new(mechanism, 4, PATIENCE);
    let one = cluster.member();
    let (granted, share) = cluster.grant(&one, "127.0.0.1:0");
    cluster.connect(granted.name.to_inet().unwrap(), 3);
    let info = |cluster: &Cluster| cluster.primary.worker_info(one.id).unwrap();
    let before = info(&cluster);
    assert_eq!((before.delivered, before.waiting, before.load, before.progress), (3, 3, 0, None));
    drop(share.accept(AcceptFlags::default()).unwrap());
    one.worker.set_load(70).unwrap();
    let after = info(&cluster);
    assert_eq!((after.delivered, after.waiting, after.load), (3, 2, 70));
    assert!(after.progress.is_some());
    one.worker.beat();
    assert_ne!(info(&cluster).progress, after.progress);
    // What was not taken goes to others, and was not this worker's.
    one.worker.close(&share);
    cluster.settle();
    assert_eq!(info(&cluster).delivered, 1);
}

fn a_pause_gives_the_queue_away_at_once_and_a_resume_brings_the_turn_back(mechanism: Mechanism) {
    let mut cluster = Cluster::new(mechanism, 2, PATIENCE);
    let (one, two) = (cluster.member(), cluster.member());
    let (granted, first) = cluster.grant(&one, "127.0.0.1:0");
    let (_, second) = cluster.grant(&two, "127.0.0.1:0");
    let address = granted.name.to_inet().unwrap();
    cluster.connect(address, 4);
    assert_eq!((cluster.waiting(&one), cluster.waiting(&two)), (2, 2));
    let mut taken = take_all(&second);
    one.worker.pause(&first, true).unwrap();
    cluster.until("what waited goes to the other", |_| {
        taken.extend(take_all(&second));
        taken.len() == 4
    });
    assert!(take_all(&first).is_empty());
    cluster.connect(address, 1);
    assert_eq!(take_all(&second).len(), 1, "it is passed by");
    one.worker.pause(&first, false).unwrap();
    cluster.settle();
    cluster.connect(address, 2);
    assert_eq!((take_all(&first).len(), take_all(&second).len()), (1, 1));
}

#[test]
fn only_a_worker_that_keeps_up_may_have_more_waiting() {
    let mut settings = Settings::default();
    settings.mechanism = Mechanism::Passed;
    (settings.window, settings.window_most) = (2, 8);
    let mut cluster = Cluster { primary: Primary::new(settings).unwrap(), clients: Vec::new() };
    let one = cluster.member();
    let (granted, share) = cluster.grant(&one, "127.0.0.1:0");
    let address = granted.name.to_inet().unwrap();
    cluster.connect(address, 60);
    assert_eq!(cluster.waiting(&one), 2);
    // On a busy machine it may not look as quick as it is; the window then grows with a later one.
    let mut most = 0;
    let mut taken = Vec::new();
    cluster.until("it grows", |primary| {
        most = most.max(primary.worker_info(one.id).unwrap().waiting);
        taken.extend(take_all(&share));
        most > 4 || taken.len() == 60
    });
    assert!(most > 4, "at most {most} were waiting");
    taken.extend(take_all(&share));
    // It does not move for some looks of the watch.
    cluster.connect(address, 20);
    let deadline = Instant::now() + Duration::from_millis(100);
    while Instant::now() < deadline {
        cluster.primary.turn(Some(Duration::from_millis(5))).unwrap();
    }
    take_all(&share);
    cluster.settle();
    assert!(cluster.waiting(&one) <= 3, "{} wait", cluster.waiting(&one));
}

fn whoever_pauses_what_is_not_its_own_is_cut_off(mechanism: Mechanism) {
    let mut cluster = Cluster::new(mechanism, 2, PATIENCE);
    let (one, two) = (cluster.member(), cluster.member());
    let (_, share) = cluster.grant(&one, "127.0.0.1:0");
    two.worker.pause(&share, true).unwrap();
    cluster.settle();
    let refused = cluster.primary.grant(two.id, wanted("127.0.0.1:0")).unwrap_err();
    assert_eq!(refused.code(), -libc::ENOTCONN);
    cluster.primary.enrolled_ended(two.id, false);
    cluster.primary.grant(one.id, wanted("127.0.0.1:0")).unwrap_err();
}

fn a_listener_can_be_closed_and_asked_for_again_at_once(mechanism: Mechanism) {
    let mut cluster = Cluster::new(mechanism, 2, PATIENCE);
    let one = cluster.member();
    let (granted, share) = cluster.grant(&one, "127.0.0.1:0");
    let address = granted.name.to_inet().unwrap().to_string();
    one.worker.close(&share);
    // The close is still unread when the next listen is asked for.
    for _ in 0..3 {
        let (granted, share) = cluster.grant(&one, &address);
        assert!(granted.is_new);
        one.worker.close(&share);
    }
}

fn an_address_goes_with_the_last_worker_that_retires(mechanism: Mechanism) {
    let mut cluster = Cluster::new(mechanism, 2, PATIENCE);
    let (one, two) = (cluster.member(), cluster.member());
    let (granted, first) = cluster.grant(&one, "127.0.0.1:0");
    let (_, second) = cluster.grant(&two, "127.0.0.1:0");
    let address = granted.name.to_inet().unwrap();
    cluster.connect(address, 2);
    cluster.primary.retire(one.id);
    cluster.connect(address, 1);
    let taken = (take_all(&first).len(), take_all(&second).len());
    match mechanism {
        Mechanism::Passed => assert_eq!(taken, (1, 2), "what it had is still its own"),
        _ => assert_eq!(taken.0 + taken.1, 3, "what it had is its own or the other's"),
    }
    assert_eq!(first.accept(AcceptFlags::default()).unwrap_err().code(), -libc::ESHUTDOWN);
    cluster.primary.retire(two.id);
    cluster.settle();
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(cluster.primary.grant(two.id, wanted("127.0.0.1:0")).unwrap_err().code(), -libc::ESHUTDOWN);
}

fn what_a_dead_worker_had_not_taken_goes_to_its_successor(mechanism: Mechanism) {
    let mut cluster = Cluster::new(mechanism, 4, PATIENCE);
    let one = cluster.member();
    let (granted, share) = cluster.grant(&one, "127.0.0.1:0");
    let address = granted.name.to_inet().unwrap();
    cluster.connect(address, 3);
    assert_eq!(cluster.waiting(&one), 3);
    let slot = one.slot;
    // Its descriptors close, as by a SIGKILL.
    drop((share, one.worker));
    cluster.settle();
    cluster.primary.enrolled_ended(one.id, false);
    cluster.connect(address, 1);
    let two = cluster.member();
    assert_eq!(two.slot, slot, "the slot is free again");
    let (again, share) = cluster.grant(&two, "127.0.0.1:0");
    assert!(!again.is_new);
    let mut taken = Vec::new();
    cluster.until("the successor gets all four", |_| {
        taken.extend(take_all(&share));
        taken.len() == 4
    });
    let stats = cluster.primary.handles()[0].stats;
    assert_eq!(stats.accepted, 4);
    // Where they waited in the kernel, it moved them by itself.
    if mechanism == Mechanism::Passed {
        assert_eq!(stats.reclaimed, 3);
    }
}

fn without_a_successor_the_address_is_given_up_in_time(mechanism: Mechanism) {
    let mut cluster = Cluster::new(mechanism, 4, Duration::from_millis(50));
    let one = cluster.member();
    let (granted, share) = cluster.grant(&one, "127.0.0.1:0");
    let address = granted.name.to_inet().unwrap();
    cluster.connect(address, 3);
    drop((share, one.worker));
    cluster.primary.enrolled_ended(one.id, false);
    cluster.until("the address is given up", |primary| primary.handles().is_empty());
    assert!(TcpStream::connect(address).is_err());
    let two = cluster.member();
    let (again, _share) = cluster.grant(&two, "127.0.0.1:0");
    assert!(again.is_new);
    // What waited in the kernel was never accepted.
    if mechanism == Mechanism::Passed {
        assert_eq!(cluster.primary.handles()[0].lost, 3);
    }
}

fn what_only_a_worker_served_goes_when_it_ends_in_order(mechanism: Mechanism) {
    let mut cluster = Cluster::new(mechanism, 4, PATIENCE);
    let one = cluster.member();
    let (granted, share) = cluster.grant(&one, "127.0.0.1:0");
    drop((share, one.worker));
    cluster.settle();
    assert_eq!(cluster.primary.handles().len(), 1, "it may have been a crash");
    cluster.primary.enrolled_ended(one.id, true);
    assert!(TcpStream::connect(granted.name.to_inet().unwrap()).is_err());
}

fn a_share_held_in_a_workers_stead_gives_back_what_the_worker_refuses(mechanism: Mechanism) {
    let mut cluster = Cluster::new(mechanism, 2, PATIENCE);
    let one = cluster.member();
    let place = cluster.primary.enroll().unwrap();
    let relayed = cluster.primary.relay(place.id, wanted("127.0.0.1:0")).unwrap();
    let relay = Listener::relaying(relayed.mailbox, relayed.granted.name);
    // This one never takes its channel; what is held in its stead does not end with it.
    drop(place.channel);
    cluster.settle();
    assert_eq!(cluster.primary.grant(place.id, wanted("127.0.0.1:0")).unwrap_err().code(), -libc::ENOTCONN);
    let (granted, share) = cluster.grant(&one, "127.0.0.1:0");
    assert!(!granted.is_new);
    let address = granted.name.to_inet().unwrap();
    cluster.connect(address, 2);
    let (mine, theirs) = (take_all(&share), take_all(&relay));
    assert_eq!((mine.len(), theirs.len()), (1, 1));
    // As an event loop leaves it; whoever gets it next finds it as it came.
    fcntl(&theirs[0], FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    cluster.primary.put_back(relayed.granted.handle, theirs[0].as_raw_fd()).unwrap();
    drop(theirs);
    let mut taken = Vec::new();
    cluster.until("somebody gets it again", |_| {
        taken.extend(take_all(&share));
        taken.extend(take_all(&relay));
        taken.len() == 1
    });
    assert_eq!(fcntl(&taken[0], FcntlArg::F_GETFL).unwrap() & libc::O_NONBLOCK, 0);
    // One that comes back when the worker has ended goes to the others too.
    cluster.connect(address, 2);
    let late = take_all(&relay);
    assert_eq!((take_all(&share).len(), late.len()), (1, 1));
    cluster.primary.enrolled_ended(place.id, false);
    cluster.primary.put_back(relayed.granted.handle, late[0].as_raw_fd()).unwrap();
    cluster.until("the other one gets it", |_| take_all(&share).len() == 1);
    cluster.connect(address, 2);
    assert_eq!(take_all(&share).len(), 2);
}

fn a_socket_that_does_not_listen_yet_is_listened_on(mechanism: Mechanism) {
    let mut cluster = Cluster::new(mechanism, 2, PATIENCE);
    let one = cluster.member();
    let bound = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    nix::sys::socket::bind(bound.as_raw_fd(), &nix::sys::socket::SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let (granted, share) = cluster.grant(&one, &format!("fd:{}", bound.as_raw_fd()));
    cluster.connect(granted.name.to_inet().unwrap(), 1);
    assert_eq!(take_all(&share).len(), 1);
    let wrong = cluster.primary.grant(one.id, wanted("fd:0")).unwrap_err();
    assert!(wrong.code() < 0);
}

#[test]
fn who_floods_the_channel_of_a_dead_worker_does_not_keep_the_primary() {
    let mut cluster = Cluster::new(Mechanism::Passed, 2, PATIENCE);
    let (one, channel) = cluster.member_and_channel();
    let mut process = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
    cluster.primary.enrolled_started(one.id, process.id() as i32).unwrap();
    cluster.settle();
    // As children of the worker's would that have its channel and outlive it.
    const ENOUGH: usize = 20_000;
    const MESSAGE: [u8; 8] = [5, 0, 0, 0, 0, 0, 0, 0];
    let said = AtomicUsize::new(0);
    let flood = |channel: UnixDatagram| {
        channel.set_nonblocking(true).unwrap();
        while said.load(Ordering::Relaxed) < ENOUGH {
            match channel.send(&MESSAGE) {
                Ok(_) => drop(said.fetch_add(1, Ordering::Relaxed)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    std::thread::scope(|scope| {
        (0..3).for_each(|_| drop(scope.spawn(|| flood(UnixDatagram::from(channel.try_clone().unwrap())))));
        cluster.until("the flood comes", |_| said.load(Ordering::Relaxed) > 500);
        process.kill().unwrap();
        process.wait().unwrap();
        let (mut heard, deadline) = (0, Instant::now() + PATIENCE);
        while cluster.primary.worker_info(one.id).is_ok() {
            assert!(Instant::now() < deadline, "its end is seen");
            heard = cluster.primary.turn(Some(Duration::from_millis(5))).unwrap().len();
        }
        assert!(heard < 2_000, "{heard} messages of a dead worker in one turn");
    });
}
