//! A mailbox whose worker is this test.

use super::*;

fn connection() -> Connection {
    let (socket, _) = socket::packet_pair().unwrap();
    Connection { socket, peer: SockAddr::from("127.0.0.1:9".parse::<std::net::SocketAddr>().unwrap()) }
}

#[test]
fn a_window_is_filled_exactly_and_falls_as_the_worker_receives() {
    for window in [6, 12, 16] {
        let mut mailbox = Mailbox::new(window, Arc::default()).unwrap();
        for sent in 0..window {
            assert_eq!(mailbox.waiting(), sent);
            assert!(mailbox.room() > 0);
            mailbox.stage(connection());
            if sent + 1 == window {
                assert_eq!(mailbox.room(), 0, "a place set aside is not free");
            }
            let staged = mailbox.next_staged().unwrap();
            mailbox.send(&staged).unwrap();
        }
        assert_eq!(mailbox.room(), 0);
        assert_eq!(mailbox.send(&connection()), Err(Errno::EAGAIN), "the kernel agrees with our count");
        let mut buffer = [0; wire::PARCEL_MAX];
        cmsg::receive(mailbox.receiver(), &mut buffer, 1, libc::MSG_CMSG_CLOEXEC).unwrap();
        assert_eq!((mailbox.waiting(), mailbox.taken(), mailbox.room()), (window - 1, 1, 1));
    }
}

#[test]
fn a_byte_more_or_less_is_no_parcel() {
    let cost = parcel_cost();
    assert_eq!([0, 1, cost - 1, cost, cost + 1].map(parcels), [0, 0, 1, 1, 1]);
    assert_eq!([7 * cost - 1, 7 * cost, 7 * cost + 1].map(parcels), [7; 3]);
}

#[test]
fn what_was_taken_back_was_not_taken() {
    let board: Arc<Board> = Arc::default();
    let mut mailbox = Mailbox::new(6, Arc::clone(&board)).unwrap();
    for _ in 0..6 {
        mailbox.send(&connection()).unwrap();
    }
    for _ in 0..3 {
        cmsg::receive(mailbox.receiver(), &mut [0; wire::PARCEL_MAX], 1, libc::MSG_CMSG_CLOEXEC).unwrap();
    }
    for left in [2, 1, 0] {
        assert!(mailbox.take_back().unwrap().is_some());
        assert_eq!((mailbox.waiting(), mailbox.taken()), (left, 3));
    }
    assert!(mailbox.take_back().unwrap().is_none());
    mailbox.send_nop().unwrap();
    assert_eq!((mailbox.waiting(), mailbox.taken(), mailbox.room()), (1, 3, 5));
    assert!(!mailbox.is_left_with_some());
    assert_eq!((mailbox.waiting(), mailbox.taken(), mailbox.room()), (0, 3, 5), "nor the NOP");
}

#[test]
fn a_mailbox_that_is_left_holds_connections_or_nothing() {
    let mut mailbox = Mailbox::new(6, Arc::default()).unwrap();
    assert!(!mailbox.is_left_with_some());
    mailbox.send_nop().unwrap();
    mailbox.send_stop().unwrap();
    assert!(!mailbox.is_left_with_some());
    mailbox.send_nop().unwrap();
    mailbox.send(&connection()).unwrap();
    assert!(mailbox.is_left_with_some());
    assert!(mailbox.take_back().unwrap().is_some());
    assert!(!mailbox.is_left_with_some());
}

#[test]
fn a_begin_that_nobody_received_stays_and_keeps_nobody_waiting() {
    let mut mailbox = Mailbox::new(6, Arc::default()).unwrap();
    mailbox.send(&connection()).unwrap();
    mailbox.send_begin().unwrap();
    assert_eq!((mailbox.waiting(), mailbox.clients_waiting()), (2, 1));
    mailbox.send(&connection()).unwrap();
    assert!(mailbox.take_back().unwrap().is_some());
    assert!(mailbox.take_back().unwrap().is_some());
    assert_eq!((mailbox.waiting(), mailbox.clients_waiting()), (1, 0));
    assert!(mailbox.take_back().unwrap().is_none());
    let mut buffer = [0; wire::PARCEL_MAX];
    let received = cmsg::receive(mailbox.receiver(), &mut buffer, 1, 0).unwrap();
    assert!(matches!(Parcel::decode(&buffer[..received.length]), Ok(Parcel::Begin)));
    mailbox.send(&connection()).unwrap();
    assert_eq!((mailbox.waiting(), mailbox.clients_waiting(), mailbox.taken()), (1, 1, 1));
}

#[test]
fn what_nobody_received_is_taken_back_in_order_and_the_stop_stays() {
    let mut mailbox = Mailbox::new(6, Arc::default()).unwrap();
    for _ in 0..6 {
        mailbox.send(&connection()).unwrap();
    }
    mailbox.send_stop().unwrap();
    for _ in 0..6 {
        assert!(mailbox.take_back().unwrap().is_some());
    }
    assert!(mailbox.take_back().unwrap().is_none());
    assert_eq!((mailbox.waiting(), mailbox.taken()), (1, 0));
    let mut buffer = [0; wire::PARCEL_MAX];
    let received = cmsg::receive(mailbox.receiver(), &mut buffer, 1, 0).unwrap();
    assert!(matches!(Parcel::decode(&buffer[..received.length]), Ok(Parcel::Stop)));
}
