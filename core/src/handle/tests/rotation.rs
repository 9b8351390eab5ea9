//! Members that accept by themselves, beside one that is served by its mailbox alone.

use super::*;
use crate::bind::Shape;
use crate::mechanism::{Rotation, Shared};

#[test]
fn what_one_gives_back_again_and_again_goes_to_those_in_line() {
    let listening = socket::open(libc::AF_INET, false).unwrap();
    socket::bind(listening.as_fd(), &"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket::listen(listening.as_fd(), 511).unwrap();
    let name = sockaddr::local_name(listening.as_fd()).unwrap();
    let shared = Shared::new(listening, name, false, Shape { backlog: 511, options: Vec::new() }, true);
    let route = Rotation::new(shared, Rotation::tally().unwrap());
    let mut site = Site::of(name, Box::new(route), Policy::RoundRobin, 2);
    site.member(0).allow_line();
    assert!(site.handle.stand_in_line(0) && !site.handle.stand_in_line(1));
    let ports = site.clients(1);
    site.pump();
    for _ in 0..2 {
        let Ok(Some(connection)) = site.member(1).mailbox.take_back() else { break };
        site.handle.put_back(connection);
        site.pump();
    }
    assert_eq!((site.takes_all(0), site.takes_all(1)), (ports, vec![]));
}
