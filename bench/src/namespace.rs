//! A network of our own, in which SYN cookies may be forced and stray packets sent without harm to anybody.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, bind, recv, send, sendto, socket,
};

use crate::error::{Result, fail, failed};

/// While it exists this thread, and what it starts, is in the new network.
pub struct Namespace {
    before: File,
}

impl Namespace {
    /// Needs CAP_SYS_ADMIN.
    pub fn enter() -> Result<Self> {
        let before = File::open("/proc/thread-self/ns/net").map_err(failed("/proc/thread-self/ns/net"))?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(failed("a network of its own"))?;
        let inside = Self { before };
        raise_loopback()?;
        Ok(inside)
    }

    /// As if the queue of half-open connections were always full.
    pub fn force_cookies(&self) -> Result<()> {
        std::fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2").map_err(failed("tcp_syncookies"))
    }

    /// One of the kernel's counters in /proc/net/netstat: names in one line, numbers in the next.
    pub fn counter(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let pairs = lines.chunks_exact(2).flat_map(|pair| pair[0].split(' ').zip(pair[1].split(' ')));
        let value = pairs.into_iter().find(|(other, _)| *other == name).and_then(|(_, value)| value.parse().ok());
        value.unwrap_or(0)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(errno) = setns(&self.before, CloneFlags::CLONE_NEWNET) {
            // Everything after this would be measured in the wrong network.
            eprintln!("cluster-bench: cannot return to the machine's network: {errno}");
            std::process::exit(1);
        }
    }
}

/// The loopback device of a new network is down; this is what `ip link set lo up` sends (rtnetlink(7)).
fn raise_loopback() -> Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_AND_ACKNOWLEDGE: u16 = 5;
    const IFF_UP: u32 = 1;
    let route = SockProtocol::NetlinkRoute;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, route).map_err(failed("netlink"))?;
    let mut message = Vec::with_capacity(32);
    message.extend_from_slice(&32u32.to_ne_bytes());
    message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&REQUEST_AND_ACKNOWLEDGE.to_ne_bytes());
    // Sequence number and port, then family and type that nobody asks for, the index (loopback is 1), flags and their mask.
    for word in [1, 0, 0, 1, IFF_UP, IFF_UP] {
        message.extend_from_slice(&word.to_ne_bytes());
    }
    send(fd.as_raw_fd(), &message, MsgFlags::empty()).map_err(failed("netlink"))?;
    let mut answer = [0u8; 64];
    let count = recv(fd.as_raw_fd(), &mut answer, MsgFlags::empty()).map_err(failed("netlink"))?;
    // Behind the header of 16 bytes stands the error, 0 when there is none.
    if count < 20 || answer[16..20] != [0; 4] {
        return fail("the loopback device does not come up");
    }
    Ok(())
}

/// Sends TCP packets that belong to no connection. Needs CAP_NET_RAW.
pub struct Stray {
    fd: OwnedFd,
    port: u16,
    sent: u16,
}

const FROM: [u8; 4] = [127, 0, 0, 2];
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

impl Stray {
    pub fn new(port: u16) -> Result<Self> {
        let kind = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Inet, SockType::Raw, kind, SockProtocol::Tcp).map_err(failed("a raw socket"))?;
        // Another address of the loopback network, whose ports nobody uses.
        let [a, b, c, d] = FROM;
        bind(fd.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0)).map_err(failed("a raw socket"))?;
        Ok(Self { fd, port, sent: 0 })
    }

    /// The next one: an ACK, a RST, or a FIN with ACK, in turn.
    pub fn send(&mut self) -> Result<()> {
        let flags = [ACK, RST, FIN | ACK][usize::from(self.sent % 3)];
        self.packet(flags)
    }

    /// What a scanner sends, who never completes a connection.
    pub fn scan(&mut self) -> Result<()> {
        self.packet(SYN)
    }

    fn packet(&mut self, flags: u8) -> Result<()> {
        self.sent = self.sent.wrapping_add(1);
        let mut packet = Vec::with_capacity(20);
        packet.extend_from_slice(&(10_000 + self.sent % 20_000).to_be_bytes());
        packet.extend_from_slice(&self.port.to_be_bytes());
        packet.extend_from_slice(&u32::from(self.sent).wrapping_mul(2_654_435_761).to_be_bytes());
        packet.extend_from_slice(&if flags & ACK == 0 { 0u32 } else { 0x1234_5678 }.to_be_bytes());
        packet.extend_from_slice(&[5 << 4, flags, 4, 0, 0, 0, 0, 0]);
        let sum = checksum(FROM, [127, 0, 0, 1], &packet);
        packet[16..18].copy_from_slice(&sum.to_be_bytes());
        let to = SockaddrIn::new(127, 0, 0, 1, 0);
        sendto(self.fd.as_raw_fd(), &packet, &to, MsgFlags::empty()).map_err(failed("a stray packet"))?;
        Ok(())
    }
}

/// RFC 9293, 3.1: over the addresses, the protocol, the length and the packet.
fn checksum(from: [u8; 4], to: [u8; 4], packet: &[u8]) -> u16 {
    let mut head = [from, to].concat();
    head.extend_from_slice(&[0, 6, 0, packet.len() as u8]);
    let pairs = head.chunks(2).chain(packet.chunks(2));
    let sum: u32 = pairs.map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_with_its_checksum_sums_up_to_nothing() {
        let mut packet: Vec<u8> = (0..20).collect();
        packet[16..18].copy_from_slice(&[0, 0]);
        let sum = checksum([127, 0, 0, 2], [127, 0, 0, 1], &packet);
        packet[16..18].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum([127, 0, 0, 2], [127, 0, 0, 1], &packet), 0);
    }
}
