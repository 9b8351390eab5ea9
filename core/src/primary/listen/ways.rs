//! By which mechanisms an address may be served, from the best to the one that is always to be had. Pure; the measurements that the
//! rule for `Mechanism::Auto` rests on are in docs/choosing.md.

use crate::policy::Policy;
use crate::settings::Mechanism;

/// Up to so many workers that can run at the same time one accept queue is not known to be too few: all who accept take its lock, for
/// some 0.3 µs of the 8 to 10 µs that a short connection costs. Not measured on more than two processors; where the kernel can give
/// each worker a queue of its own it does so above.
const AT_ONE_QUEUE: usize = 16;

/// What is asked for, by whom, and on which machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) wanted: Mechanism,
    pub(super) policy: Policy,
    pub(super) what: What,
    /// The asker may have a socket that others have, too.
    pub(super) may_share: bool,
    /// Its program waits for connections by itself, and may never say where.
    pub(super) nonblocking: bool,
    pub(super) cpus: usize,
    pub(super) workers: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Tcp,
    Udp,
    /// Its file is made anew when somebody removes it, and a name without a file is bound as long as anybody has the socket. So it is
    /// better not to give that to workers.
    Unix,
    /// The program's own. Whether an accept waits there, its maker decides.
    Stream,
    Datagram,
}

/// What to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ways {
    /// The mechanism kernel for a stream socket comes first, where it is to be had.
    pub(super) kernel: bool,
    pub(super) last: Last,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Passed,
    Rotation,
    Shared,
    /// One socket for each slot.
    Datagrams,
}

pub(super) fn ways(asked: &Asked) -> Ways {
    let by = |last| Ways { kernel: false, last };
    match (asked.what, asked.policy, asked.wanted) {
        (_, Policy::None, _) | (What::Udp, _, Mechanism::Passed) => by(Last::Shared),
        // Beside a datagram socket of the program's own no other can be bound.
        (What::Datagram, ..) => by(Last::Shared),
        (What::Udp, ..) => by(Last::Datagrams),
        (_, _, Mechanism::Passed) => by(Last::Passed),
        // A load has to be known at the moment of the choice, and there the kernel does not know it.
        (_, Policy::LeastLoaded, _) => by(Last::Passed),
        (What::Tcp, Policy::SourceHash, _) | (What::Tcp, _, Mechanism::Kernel) => {
            Ways { kernel: true, last: Last::Passed }
        }
        (_, Policy::SourceHash, _) | (_, _, Mechanism::Kernel) => by(Last::Passed),
        (what, Policy::RoundRobin, wanted) => in_turn(asked, what, wanted),
    }
}

fn in_turn(asked: &Asked, what: What, wanted: Mechanism) -> Ways {
    let chosen = wanted == Mechanism::Rotation;
    let rotation = asked.may_share && (chosen || !matches!(what, What::Unix | What::Stream));
    let is_crowded = asked.cpus.min(asked.workers) > AT_ONE_QUEUE;
    let kernel = what == What::Tcp && (!rotation || !chosen && (asked.nonblocking || is_crowded));
    Ways { kernel, last: if rotation { Last::Rotation } else { Last::Passed } }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Asked = Asked {
        wanted: Mechanism::Auto,
        policy: Policy::RoundRobin,
        what: What::Tcp,
        may_share: true,
        nonblocking: false,
        cpus: 4,
        workers: 4,
    };
    const ROTATION: (bool, Last) = (false, Last::Rotation);
    const KERNEL_OR_ROTATION: (bool, Last) = (true, Last::Rotation);
    const KERNEL_OR_PASSED: (bool, Last) = (true, Last::Passed);
    const PASSED: (bool, Last) = (false, Last::Passed);
    const SHARED: (bool, Last) = (false, Last::Shared);
    const DATAGRAMS: (bool, Last) = (false, Last::Datagrams);

    fn compare(cases: &[(&str, Asked, (bool, Last))]) {
        for (name, asked, (kernel, last)) in cases {
            assert_eq!(ways(asked), Ways { kernel: *kernel, last: *last }, "{name}");
        }
    }

    #[test]
    fn imagined_machines() {
        let unix = Asked { what: What::Unix, ..USUAL };
        compare(&[
            ("a small machine", USUAL, ROTATION),
            ("one processor", Asked { cpus: 1, workers: 1, ..USUAL }, ROTATION),
            ("many workers on few processors", Asked { cpus: 8, workers: 256, ..USUAL }, ROTATION),
            ("few workers on many processors", Asked { cpus: 128, workers: 8, ..USUAL }, ROTATION),
            ("the last that one queue is for", Asked { cpus: 16, workers: 16, ..USUAL }, ROTATION),
            ("more", Asked { cpus: 17, workers: 17, ..USUAL }, KERNEL_OR_ROTATION),
            ("many of both", Asked { cpus: 128, workers: 128, ..USUAL }, KERNEL_OR_ROTATION),
            ("a unix socket", unix, PASSED),
            ("many at a unix socket", Asked { cpus: 128, workers: 128, ..unix }, PASSED),
            ("a socket of the program's", Asked { what: What::Stream, ..USUAL }, PASSED),
            ("a worker of another user", Asked { may_share: false, ..USUAL }, KERNEL_OR_PASSED),
            ("an event loop", Asked { nonblocking: true, ..USUAL }, KERNEL_OR_ROTATION),
            ("an event loop at a unix socket", Asked { nonblocking: true, ..unix }, PASSED),
        ]);
    }

    #[test]
    fn what_the_program_wants_is_done_where_it_can_be() {
        let hash = Asked { policy: Policy::SourceHash, ..USUAL };
        let [passed, kernel, rotation] = [Mechanism::Passed, Mechanism::Kernel, Mechanism::Rotation];
        compare(&[
            ("no turns", Asked { policy: Policy::None, wanted: kernel, ..USUAL }, SHARED),
            ("clients", hash, KERNEL_OR_PASSED),
            ("clients, passed on", Asked { wanted: passed, ..hash }, PASSED),
            ("clients of a program's socket", Asked { what: What::Stream, ..hash }, PASSED),
            ("loads", Asked { policy: Policy::LeastLoaded, wanted: kernel, ..USUAL }, PASSED),
            ("passed", Asked { wanted: passed, ..USUAL }, PASSED),
            ("kernel", Asked { wanted: kernel, ..USUAL }, KERNEL_OR_PASSED),
            ("kernel, at a unix socket", Asked { wanted: kernel, what: What::Unix, ..USUAL }, PASSED),
            ("rotation", Asked { wanted: rotation, nonblocking: true, cpus: 64, workers: 64, ..USUAL }, ROTATION),
            ("rotation, at a unix socket", Asked { wanted: rotation, what: What::Unix, ..USUAL }, ROTATION),
            ("rotation, another user", Asked { wanted: rotation, may_share: false, ..USUAL }, KERNEL_OR_PASSED),
            ("datagrams", Asked { what: What::Udp, ..USUAL }, DATAGRAMS),
            ("datagrams, passed", Asked { what: What::Udp, wanted: passed, ..USUAL }, SHARED),
            ("a program's datagrams", Asked { what: What::Datagram, ..USUAL }, SHARED),
        ]);
    }
}
