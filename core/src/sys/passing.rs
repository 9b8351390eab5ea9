//! Descriptors on a stream that libuv reads. It takes them before anybody can look at them, and ends the process at a kind that it
//! does not expect.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use super::socket::{self, Nature};
use super::{attached, cmsg, descriptor, is_short_of_memory};

/// What comes next on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coming {
    /// Nothing yet.
    Nothing,
    /// So many bytes, and with them one socket or pipe at most.
    Bytes(usize),
    /// The end, or an error.
    End,
    /// Bytes with several descriptors, or with one of another kind.
    Unfit,
}

/// Looks at what comes next on a stream of unix(7), as far as it fits into `scratch`, and takes nothing. What is said holds for exactly
/// so many bytes: more may come at any moment.
pub fn coming(stream: BorrowedFd, scratch: &mut [u8]) -> Coming {
    let peeked = match cmsg::receive(stream, scratch, cmsg::MAX_FDS, libc::MSG_PEEK | libc::MSG_CMSG_CLOEXEC) {
        Ok(peeked) => peeked,
        Err(Errno::EAGAIN) => return Coming::Nothing,
        Err(errno) if is_short_of_memory(errno) => return Coming::Nothing,
        Err(_) => return Coming::End,
    };
    let files: Vec<OwnedFd> = peeked.fds.into_iter().flatten().collect();
    match files.as_slice() {
        // Without a free descriptor libuv loses what is attached, too.
        [] => {}
        [file] if !peeked.fds_lost && is_handle(file.as_fd()) => socket::do_not_linger(file.as_fd()),
        _ => {
            // Closing a file of FUSE waits for its server. Where there is no thread it stays open, which is better.
            let files = std::mem::ManuallyDrop::new(files);
            let _ = std::thread::Builder::new().spawn(move || drop(std::mem::ManuallyDrop::into_inner(files)));
            return Coming::Unfit;
        }
    }
    if peeked.length == 0 { Coming::End } else { Coming::Bytes(peeked.length) }
}

/// libuv makes a handle of it. Asks nothing that a file system would have to answer.
fn is_handle(file: BorrowedFd) -> bool {
    match socket::nature(file) {
        Ok(Nature { family: libc::AF_INET | libc::AF_INET6, kind, .. }) => {
            matches!(kind, libc::SOCK_STREAM | libc::SOCK_DGRAM)
        }
        Ok(Nature { family, kind, .. }) => family == libc::AF_UNIX && kind == libc::SOCK_STREAM,
        Err(_) => fcntl(file, FcntlArg::F_GETPIPE_SZ).is_ok(),
    }
}

/// Takes what nobody will read any more out of a stream of that number, and closes what is attached without waiting for it.
pub fn discard_unread(stream: i32) {
    let Ok(copy) = descriptor::duplicate_number(stream) else { return };
    socket::finish_receiving(copy.as_fd());
    let next = cmsg::receive(copy.as_fd(), &mut [0], 0, libc::MSG_PEEK);
    if next.is_ok_and(|next| next.length > 0) {
        let _ = std::thread::Builder::new().spawn(move || empty(copy));
    }
}

fn empty(stream: OwnedFd) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(read) = cmsg::receive(stream.as_fd(), &mut bytes, cmsg::MAX_FDS, libc::MSG_CMSG_CLOEXEC) {
        if read.length == 0 {
            return;
        }
        read.fds.iter().flatten().for_each(|file| socket::do_not_linger(file.as_fd()));
    }
}

/// Lets nobody attach descriptors to what is sent to a socket of that number. They would be closed in the thread that reads, which waits
/// as long as their sender likes. Without effect before Linux 6.16, and on what is no unix socket.
pub fn refuse_descriptors(socket: i32) {
    if let Ok(copy) = descriptor::duplicate_number(socket) {
        attached::refuse(copy.as_fd());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    /// What is seen of one byte with these attached.
    fn seen_with(fds: &[BorrowedFd]) -> Coming {
        let (here, there) = UnixStream::pair().unwrap();
        cmsg::send(here.as_fd(), [b"x", b""], fds).unwrap();
        coming(there.as_fd(), &mut [0; 64])
    }

    #[test]
    fn bytes_and_their_end() {
        let (here, there) = UnixStream::pair().unwrap();
        let mut scratch = [0; 64];
        assert_eq!(coming(there.as_fd(), &mut scratch), Coming::Nothing);
        cmsg::send(here.as_fd(), [b"abc", b""], &[]).unwrap();
        assert_eq!(coming(there.as_fd(), &mut scratch), Coming::Bytes(3));
        assert_eq!(coming(there.as_fd(), &mut scratch[..2]), Coming::Bytes(2));
        discard_unread(std::os::fd::AsRawFd::as_raw_fd(&there));
        for _ in 0..1000 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            if coming(there.as_fd(), &mut scratch) == Coming::End {
                return;
            }
        }
        panic!("it was not emptied");
    }

    #[test]
    fn refused() {
        let (here, there) = UnixStream::pair().unwrap();
        if !attached::refuse(there.as_fd()) {
            return;
        }
        let (here_too, there_too) = UnixStream::pair().unwrap();
        refuse_descriptors(std::os::fd::AsRawFd::as_raw_fd(&there_too));
        for (from, _to) in [(here, there), (here_too, there_too)] {
            assert_eq!(cmsg::send(from.as_fd(), [b"x", b""], &[from.as_fd()]), Err(Errno::EPERM));
        }
    }

    #[test]
    fn what_libuv_makes_a_handle_of() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (stream, _other) = UnixStream::pair().unwrap();
        let (pipe, _end) = std::io::pipe().unwrap();
        for one in [tcp.as_fd(), udp.as_fd(), stream.as_fd(), pipe.as_fd()] {
            assert_eq!(seen_with(&[one]), Coming::Bytes(1));
        }
        assert_eq!(seen_with(&[tcp.as_fd(), udp.as_fd()]), Coming::Unfit);
        let file = File::open("/dev/null").unwrap();
        let datagrams = UnixDatagram::unbound().unwrap();
        for one in [file.as_fd(), datagrams.as_fd()] {
            assert_eq!(seen_with(&[one]), Coming::Unfit);
        }
    }
}
