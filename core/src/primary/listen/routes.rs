//! Makes what an address is served by: the best of the ways (`ways`) that is to be had.

use std::os::fd::{AsFd, OwnedFd};

use super::addresses::Addresses;
use super::ways::{Asked, Last, What, ways};
use crate::address::Address;
use crate::bind::{Bound, Shape};
use crate::error::{Context, Error, Result};
use crate::mechanism::{Choice, Datagrams, Passed, Rotation, Route, Shared};
use crate::sys::bpf::lock_filter;
use crate::sys::sockaddr::SockAddr;

/// A socket that was opened, and how others are to be made like it.
pub(super) struct Opened {
    pub(super) socket: OwnedFd,
    pub(super) name: SockAddr,
    pub(super) shape: Shape,
}

impl What {
    pub(super) fn of(address: &Address, bound: &Bound) -> Self {
        match address {
            Address::Inet { .. } if bound.datagram => Self::Udp,
            Address::Inet { .. } => Self::Tcp,
            Address::UnixPath(_) | Address::UnixAbstract(_) => Self::Unix,
            Address::Inherited(_) if bound.datagram => Self::Datagram,
            Address::Inherited(_) => Self::Stream,
        }
    }

    pub(super) fn is_ours(self) -> bool {
        !matches!(self, Self::Stream | Self::Datagram)
    }
}

impl Addresses {
    /// `key`: the address as the program is told of it.
    pub(super) fn route(&mut self, asked: &Asked, key: &str, opened: Opened, seed: u32) -> Result<Box<dyn Route>> {
        let ways = ways(asked);
        let what = asked.what;
        let Opened { socket, name, shape } = opened;
        let mut passed = Passed::new(socket);
        if ways.kernel {
            let choice = (Choice::of(asked.policy), seed);
            match self.ladder.climb(passed, name, shape.clone(), choice, asked.wanted)? {
                Ok(kernel) => return Ok(Box::new(kernel)),
                Err((instead, reason)) => {
                    if ways.last == Last::Passed {
                        self.ladder.note_passed(key, &reason);
                    }
                    passed = instead;
                }
            }
        }
        let socket = match ways.last {
            Last::Passed => return Ok(Box::new(passed)),
            Last::Rotation | Last::Shared | Last::Datagrams => passed.into_socket(),
        };
        if ways.last == Last::Datagrams {
            let made = Datagrams::new(socket, name, shape);
            return Ok(Box::new(
                made.map_err(|errno| Error::os(format_args!("setsockopt SO_REUSEPORT {key}"), errno))?,
            ));
        }
        let tally = match ways.last {
            Last::Rotation => Some(Rotation::tally().context("memory for the mechanism \"rotation\"")?),
            _ => None,
        };
        if what.is_ours() {
            // No worker's filter decides what the others get. A socket of the program's own is left as it is.
            lock_filter(socket.as_fd()).map_err(|errno| Error::os("setsockopt SO_LOCK_FILTER", errno))?;
        }
        let all = Shared::new(socket, name, matches!(what, What::Udp | What::Datagram), shape, what.is_ours());
        Ok(match tally {
            Some(tally) => Box::new(Rotation::new(all, tally)),
            None => Box::new(all),
        })
    }
}
