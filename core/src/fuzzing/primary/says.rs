//! What a worker says, and what it does without a word.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::sys::socket::Shutdown;

use super::{ADDRESSES, Rig};
use crate::fuzzing::Choices;
use crate::fuzzing::puppet::{Puppet, Read, Taken};
use crate::wire::{FromWorker, MESSAGE_MAX, VERSION};

/// Options that a worker may set, that it may not, and that not every address has.
const OPTIONS: [(i32, i32); 4] = [
    (libc::SOL_SOCKET, libc::SO_RCVBUF),
    (libc::SOL_SOCKET, libc::SO_LINGER),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
];

impl Rig {
    /// A frame. Whether it keeps to the rules is decided here, by what the worker knows.
    pub(super) fn says(&mut self, who: usize, what: u8, choices: &mut Choices) {
        let sloppy = choices.byte();
        let listener = self.listener(who, sloppy);
        let puppet = &mut self.puppets[who];
        let expected = self.expected.get_mut(&puppet.id).expect("an expectation");
        let mut breaks = !expected.greeted;
        let mut closes = None;
        let sent = match what {
            1 => {
                breaks = expected.greeted || sloppy & 3 == 3;
                let wrong = FromWorker::Online { offers: 0, version: VERSION, nonce: !puppet.nonce, pid: 1 };
                let outcome = puppet.say(if sloppy & 3 == 3 { wrong } else { puppet.greeting() });
                expected.greeted |= outcome.is_ok() && !breaks;
                outcome
            }
            2 | 3 => {
                let address = ADDRESSES[usize::from(choices.byte()) % ADDRESSES.len()];
                let flags = if sloppy & 128 == 0 { 0 } else { u32::from(choices.byte()) };
                puppet.ask(address, u32::from(sloppy & 3), flags).map(drop)
            }
            4 => {
                breaks |= !expected.shares.contains(&listener);
                closes = Some(listener);
                puppet.say(FromWorker::Close { listener })
            }
            5 => {
                breaks |= !expected.shares.contains(&listener);
                let (level, name) = OPTIONS[usize::from(sloppy >> 4 & 7) % OPTIONS.len()];
                let seat = puppet.shares.iter().any(|share| share.listener == listener && share.may_stand());
                let which = choices.byte();
                let frames = [
                    FromWorker::Pause { listener },
                    FromWorker::Resume { listener },
                    FromWorker::Unseat { listener },
                    FromWorker::SetOption { number: 1, listener, level, name, value: &[1, 0, 0, 0] },
                    FromWorker::Seat { listener },
                ];
                // The first four are what the inputs of the corpus mean; whoever adds one here keeps their places.
                let frame = frames[usize::from(if which & 64 == 0 { which & 3 } else { 4 })];
                breaks |= matches!(frame, FromWorker::Seat { .. }) && !seat;
                puppet.say(frame)
            }
            6 => {
                let length = choices.byte();
                puppet.say(FromWorker::Message(choices.take(length.into())))
            }
            7 => puppet.say(FromWorker::Load(choices.u32())),
            8 => {
                let outcome = puppet.say(FromWorker::Disconnect);
                expected.leaving |= outcome.is_ok();
                outcome
            }
            _ => {
                breaks = true;
                nonsense(puppet, sloppy, choices)
            }
        };
        match sent {
            Ok(()) => {
                if breaks {
                    expected.offended |= !expected.lost;
                    expected.lost = true;
                } else if let Some(listener) = closes {
                    expected.shares.remove(&listener);
                    puppet.shares.retain(|share| share.listener != listener);
                }
            }
            // It was cut off, or the primary has 278 of its frames to read.
            Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => {}
            // It attached descriptors, which the kernel refuses (Linux 6.16).
            Err(Errno::EPERM) => assert!(breaks),
            Err(Errno::EAGAIN | Errno::EMSGSIZE | Errno::ENOBUFS) => {
                self.turn();
            }
            Err(errno) => panic!("sending failed otherwise than it may: {errno}"),
        }
    }

    /// One of its listeners, a neighbour's, or a number that nobody has.
    fn listener(&self, who: usize, which: u8) -> u32 {
        let neighbour = (who + usize::from(which >> 7)) % self.puppets.len();
        let share = self.puppets[neighbour].shares.get(usize::from(which & 15));
        share.map_or(1 << 30 | u32::from(which), |share| share.listener)
    }

    /// What a worker does without a word.
    pub(super) fn does(&mut self, who: usize, what: u8, choices: &mut Choices) {
        let detail = choices.byte();
        let puppet = &mut self.puppets[who];
        let expected = self.expected.get_mut(&puppet.id).expect("an expectation");
        let share = puppet.shares.get(usize::from(detail & 7));
        match what {
            10 | 11 => match puppet.read() {
                Read::Granted { listener, .. } => {
                    if !expected.withdrawn.contains(&listener) {
                        expected.shares.insert(listener);
                    }
                    self.names.extend(puppet.shares.last().map(|share| share.name));
                }
                Read::Refused { number, code } => assert!(number > 0 && code < 0),
                Read::Done => {}
                Read::Leave => expected.leaving = true,
                Read::Nothing => {
                    puppet.listen_to();
                }
            },
            12 => {
                let Some(share) = share else { return };
                for _ in 0..detail >> 3 {
                    match share.take() {
                        Taken::Connection(connection) => self.taken.push(connection),
                        Taken::Control | Taken::Begin | Taken::Stop => {}
                        Taken::Nothing => break,
                    }
                }
            }
            13 => match share {
                Some(share) if detail & 192 == 64 => share.stand(),
                Some(share) if detail & 192 == 128 => share.step_out(),
                Some(share) => self.taken.extend(share.accept()),
                None => {}
            },
            14 => {
                let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both][usize::from(detail >> 4) % 3];
                if let Some(share) = share {
                    share.shut_down(detail & 8 != 0, how);
                }
            }
            15 if detail & 64 != 0 => {
                let page = share.and_then(|share| share.part.as_ref());
                page.into_iter().for_each(|part| part.scribble(detail, choices.u32()));
            }
            15 => {
                if let Some(board) = &puppet.board {
                    board.u64_at::<64>().store(u64::from(choices.u32()) << (detail & 32), Ordering::Relaxed);
                    board.u64_at::<72>().fetch_add(1, Ordering::Relaxed);
                    board.u32_at::<80>().store(choices.u32(), Ordering::Relaxed);
                    board.u32_at::<84>().fetch_add(1, Ordering::Relaxed);
                }
            }
            _ => match detail % 4 {
                0 => {
                    // What it said before is still read.
                    puppet.channel = None;
                    expected.lost = true;
                }
                1 => puppet.grants = None,
                2 => {
                    if let Some(channel) = &puppet.channel {
                        let _ = nix::sys::socket::shutdown(channel.as_raw_fd(), Shutdown::Write);
                        (expected.lost, expected.closed) = (true, true);
                    }
                }
                _ => puppet.shares.clear(),
            },
        }
    }
}

/// What no worker may send.
fn nonsense(puppet: &Puppet, which: u8, choices: &mut Choices) -> Result<(), Errno> {
    match which % 8 {
        0 => puppet.send(b"", &[]),
        1 => puppet.send(&vec![5; MESSAGE_MAX + 64], &[]),
        2 => match &puppet.channel {
            Some(channel) => puppet.send(&FromWorker::Load(1).encode(), &[channel.as_fd(), channel.as_fd()]),
            None => Err(Errno::ENOTCONN),
        },
        3 => puppet.send(&crate::wire::STOP, &[]),
        _ => {
            let length = choices.byte();
            let bytes = choices.take(length.into());
            // Whatever is a frame after all is none of this function's.
            if FromWorker::decode(bytes).is_ok() {
                puppet.send(&crate::wire::NOP, &[])
            } else {
                puppet.send(bytes, &[])
            }
        }
    }
}
