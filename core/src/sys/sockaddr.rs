#![allow(unsafe_code)] // struct sockaddr is raw memory whose length decides what it means.
//! A socket address of any family, as the kernel and the wire have it.

use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::{Sys, check};

/// The longest socket address of any family (struct sockaddr_storage).
pub const SOCKADDR_MAX: usize = 128;

/// A `struct sockaddr` with its length; empty when the kernel gave none.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct SockAddr {
    bytes: [u8; SOCKADDR_MAX],
    length: u32,
}

impl SockAddr {
    /// An address of no family.
    pub(crate) const EMPTY: SockAddr = SockAddr { bytes: [0; SOCKADDR_MAX], length: 0 };

    /// From the bytes of a `struct sockaddr`; longer ones are cut.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut address = Self::EMPTY;
        let length = bytes.len().min(SOCKADDR_MAX);
        address.bytes[..length].copy_from_slice(&bytes[..length]);
        address.length = length as u32;
        address
    }

    fn from_struct<T>(value: &T) -> Self {
        // SAFETY: the libc sockaddr structs are plain data without padding that matters, readable as bytes.
        Self::from_bytes(unsafe { std::slice::from_raw_parts((value as *const T).cast(), mem::size_of::<T>()) })
    }

    /// The bytes of the `struct sockaddr`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length as usize]
    }

    /// The address family, `AF_UNSPEC` for an empty address.
    pub fn family(&self) -> i32 {
        if self.length < 2 { libc::AF_UNSPEC } else { u16::from_ne_bytes([self.bytes[0], self.bytes[1]]).into() }
    }

    fn read<T: Copy>(&self, family: i32) -> Option<T> {
        if self.family() != family || (self.length as usize) < mem::size_of::<T>() {
            return None;
        }
        // SAFETY: the buffer holds at least size_of::<T>() initialised bytes, and T is a plain libc struct.
        Some(unsafe { self.bytes.as_ptr().cast::<T>().read_unaligned() })
    }

    /// The address as the standard library has it, for TCP and UDP.
    pub fn to_inet(&self) -> Option<SocketAddr> {
        if let Some(v4) = self.read::<libc::sockaddr_in>(libc::AF_INET) {
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            return Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into());
        }
        let v6 = self.read::<libc::sockaddr_in6>(libc::AF_INET6)?;
        let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
        Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into())
    }

    /// A unix address; `name` begins with NUL for an abstract one. `None` when it is too long.
    pub(crate) fn unix(name: &[u8]) -> Option<Self> {
        // SAFETY: sockaddr_un is plain data for which all-zero is a valid value.
        let mut un: libc::sockaddr_un = unsafe { mem::zeroed() };
        let is_abstract = name.first() == Some(&0);
        // A path keeps its terminating NUL.
        if name.len() + usize::from(!is_abstract) > un.sun_path.len() {
            return None;
        }
        un.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, from) in un.sun_path.iter_mut().zip(name) {
            *to = *from as libc::c_char;
        }
        let mut address = Self::from_struct(&un);
        let path = mem::offset_of!(libc::sockaddr_un, sun_path);
        address.length = (path + name.len() + usize::from(!is_abstract)) as u32;
        Some(address)
    }

    pub(crate) fn as_ptr(&self) -> *const libc::sockaddr {
        self.bytes.as_ptr().cast()
    }

    pub(crate) fn length(&self) -> libc::socklen_t {
        self.length
    }

    /// Lets the kernel fill an address in.
    pub(crate) fn fill(
        mut call: impl FnMut(*mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int,
    ) -> Sys<(libc::c_int, Self)> {
        let mut address = Self::EMPTY;
        let value = super::retry(|| {
            address.length = SOCKADDR_MAX as u32;
            check(call(address.bytes.as_mut_ptr().cast(), &mut address.length))
        })?;
        // The kernel reports the length it wanted, which may exceed the room it had.
        address.length = address.length.min(SOCKADDR_MAX as u32);
        Ok((value, address))
    }
}

impl From<SocketAddr> for SockAddr {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => {
                // SAFETY: sockaddr_in is plain data for which all-zero is a valid value.
                let mut sin: libc::sockaddr_in = unsafe { mem::zeroed() };
                sin.sin_family = libc::AF_INET as libc::sa_family_t;
                sin.sin_port = v4.port().to_be();
                sin.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
                Self::from_struct(&sin)
            }
            SocketAddr::V6(v6) => {
                // SAFETY: as for sockaddr_in.
                let mut sin6: libc::sockaddr_in6 = unsafe { mem::zeroed() };
                sin6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                sin6.sin6_port = v6.port().to_be();
                sin6.sin6_addr.s6_addr = v6.ip().octets();
                sin6.sin6_scope_id = v6.scope_id();
                Self::from_struct(&sin6)
            }
        }
    }
}

impl std::fmt::Debug for SockAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.to_inet() {
            Some(inet) => write!(f, "{inet}"),
            None => write!(f, "family {} ({} bytes)", self.family(), self.length),
        }
    }
}

/// The address a socket is bound to.
pub(crate) fn local_name(socket: BorrowedFd) -> Sys<SockAddr> {
    super::panics::point();
    SockAddr::fill(|address, length| {
        // SAFETY: `fill` passes a buffer and its length.
        unsafe { libc::getsockname(socket.as_raw_fd(), address, length) }
    })
    .map(|(_, address)| address)
}

/// The address a connection comes from.
pub(crate) fn peer_name(socket: BorrowedFd) -> Sys<SockAddr> {
    SockAddr::fill(|address, length| {
        // SAFETY: `fill` passes a buffer and its length.
        unsafe { libc::getpeername(socket.as_raw_fd(), address, length) }
    })
    .map(|(_, address)| address)
}

/// The number of the interface that a scope such as `eth0` or `2` names.
pub(crate) fn scope_number(scope: &str) -> Sys<u32> {
    scope.parse().or_else(|_| nix::net::if_::if_nametoindex(scope).map_err(|_| Errno::ENODEV))
}

/// True for an address of all interfaces.
pub(crate) fn is_wildcard(address: &SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(ip) => ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_unspecified(),
    }
}
