//! Connections that a worker which leaves hands back to the cluster: which descriptors are such. The worker judges before it sends one, and
//! the primary again, because it believes nobody.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use crate::sys::sockaddr::{self, SockAddr, is_wildcard};
use crate::sys::socket::{self, Nature};

/// Of a unix socket that was bound by way of a directory's descriptor.
const BY_DESCRIPTOR: &[u8] = b"/proc/self/fd/";

/// What a descriptor turns out to be.
pub(crate) enum Fit {
    /// A connection of the address, from this peer.
    Connection(SockAddr),
    /// It is not connected, perhaps any more.
    Unconnected,
    NoSocket(Errno),
    /// Something else, as the end of a sentence.
    Other(&'static str),
}

/// Whether it is a connection that was accepted at the address of that name.
pub(crate) fn fit(descriptor: BorrowedFd, name: &SockAddr) -> Fit {
    let family = match socket::nature(descriptor) {
        Err(errno) => return Fit::NoSocket(errno),
        Ok(Nature { listening: true, .. }) => return Fit::Other("a socket that listens"),
        Ok(Nature { kind, .. }) if kind != libc::SOCK_STREAM => return Fit::Other("a socket that is no stream"),
        Ok(nature) => nature.family,
    };
    let Ok(peer) = sockaddr::peer_name(descriptor) else { return Fit::Unconnected };
    match sockaddr::local_name(descriptor) {
        Ok(local) if family == name.family() && is_at(&local, name) => Fit::Connection(peer),
        Ok(_) => Fit::Other("a connection of another address"),
        Err(_) => Fit::Unconnected,
    }
}

/// A connection with this local name was accepted there.
fn is_at(local: &SockAddr, name: &SockAddr) -> bool {
    match (local.to_inet(), name.to_inet()) {
        (Some(local), Some(name)) => local.port() == name.port() && is_of(&local, &name),
        (None, None) => local.as_bytes() == name.as_bytes() || path_of(local).starts_with(BY_DESCRIPTOR),
        _ => false,
    }
}

fn is_of(local: &SocketAddr, name: &SocketAddr) -> bool {
    is_wildcard(name) || local.ip() == name.ip()
}

fn path_of(name: &SockAddr) -> &[u8] {
    name.as_bytes().get(size_of::<libc::sa_family_t>()..).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn is_connection(descriptor: BorrowedFd, name: &SockAddr) -> bool {
        matches!(fit(descriptor, name), Fit::Connection(_))
    }

    fn accepted(at: &str) -> (SockAddr, TcpStream, TcpStream) {
        let listening = TcpListener::bind(at).unwrap();
        let client = TcpStream::connect(listening.local_addr().unwrap()).unwrap();
        let name = sockaddr::local_name(listening.as_fd()).unwrap();
        (name, listening.accept().unwrap().0, client)
    }

    #[test]
    fn what_was_accepted_at_the_address_is_a_connection() {
        for at in ["127.0.0.1:0", "0.0.0.0:0"] {
            let (name, connection, client) = accepted(at);
            assert!(is_connection(connection.as_fd(), &name));
            assert!(!is_connection(client.as_fd(), &name), "the client's end has another port");
        }
        let (name, ..) = accepted("127.0.0.1:0");
        let (_, connection, _client) = accepted("127.0.0.1:0");
        assert!(matches!(fit(connection.as_fd(), &name), Fit::Other(_)), "of another port");
        let (elsewhere, ..) = accepted("127.0.0.2:0");
        let mut there = elsewhere.to_inet().unwrap();
        there.set_port(name.to_inet().unwrap().port());
        assert!(!is_at(&there.into(), &name), "of another host");
    }

    #[test]
    fn nothing_else_is() {
        let (name, ..) = accepted("127.0.0.1:0");
        let (pipe, _end) = std::io::pipe().unwrap();
        assert!(matches!(fit(pipe.as_fd(), &name), Fit::NoSocket(Errno::ENOTSOCK)));
        let listening = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(fit(listening.as_fd(), &name), Fit::Other(_)));
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        datagrams.connect(datagrams.local_addr().unwrap()).unwrap();
        assert!(matches!(fit(datagrams.as_fd(), &name), Fit::Other(_)));
        let new = socket::open(libc::AF_INET, false).unwrap();
        assert!(matches!(fit(new.as_fd(), &name), Fit::Unconnected));
        let (one, _other) = UnixStream::pair().unwrap();
        assert!(matches!(fit(one.as_fd(), &name), Fit::Other(_)));
    }

    #[test]
    fn unix_sockets_have_a_name_too() {
        let at = |name: &str| {
            let path = std::env::temp_dir().join(format!("cluster-handback-{name}-{}", std::process::id()));
            let _ = std::fs::remove_file(&path);
            let listening = UnixListener::bind(&path).unwrap();
            let client = UnixStream::connect(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            (sockaddr::local_name(listening.as_fd()).unwrap(), listening.accept().unwrap().0, client)
        };
        let (name, connection, client) = at("one");
        assert!(is_connection(connection.as_fd(), &name));
        assert!(!is_connection(client.as_fd(), &name));
        assert!(!is_connection(at("other").1.as_fd(), &name));
    }
}
