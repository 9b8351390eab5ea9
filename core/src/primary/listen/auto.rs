//! Which mechanism an address gets that has a stream socket and turns, where the program leaves that to us. Pure; the measurements
//! that it rests on are in docs/choosing.md.

use crate::settings::Mechanism;

/// Up to so many workers that can run at the same time one accept queue is not known to be too few: all who accept take its lock, for
/// some 0.3 µs of the 8 to 10 µs that a short connection costs. Not measured on more than two processors; where the kernel can give
/// each worker a queue of its own it does so above.
const AT_ONE_QUEUE: u32 = 16;

/// What is asked for, and on which machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// The asker may have a socket that others have, too.
    pub(crate) may_share: bool,
    /// Its program waits for connections by itself, and may never say where.
    pub(crate) nonblocking: bool,
    /// It is a socket file, which is made anew when somebody removes it. That cannot be done with a socket that workers have.
    pub(crate) has_file: bool,
    /// TCP.
    pub(crate) is_inet: bool,
    pub(crate) cpus: u32,
    pub(crate) workers: u32,
}

/// What to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tries {
    /// The mechanism kernel comes first, where it is to be had.
    pub(crate) kernel: bool,
    /// Else `rotation`; if not, `passed`.
    pub(crate) rotation: bool,
}

pub(crate) fn tries(asked: Asked) -> Tries {
    let Asked { may_share, nonblocking, has_file, is_inet, cpus, workers } = asked;
    let rotation = may_share && !has_file;
    let is_crowded = cpus.min(workers) > AT_ONE_QUEUE;
    Tries { kernel: is_inet && (!rotation || nonblocking || is_crowded), rotation }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Asked =
        Asked { may_share: true, nonblocking: false, has_file: false, is_inet: true, cpus: 4, workers: 4 };

    #[test]
    fn imagined_machines() {
        const ROTATION: (bool, bool) = (false, true);
        const KERNEL_OR_ROTATION: (bool, bool) = (true, true);
        const KERNEL_OR_PASSED: (bool, bool) = (true, false);
        const PASSED: (bool, bool) = (false, false);
        let unix = Asked { is_inet: false, ..USUAL };
        let cases = [
            ("a small machine", USUAL, ROTATION),
            ("one processor", Asked { cpus: 1, workers: 1, ..USUAL }, ROTATION),
            ("many workers on few processors", Asked { cpus: 8, workers: 256, ..USUAL }, ROTATION),
            ("few workers on many processors", Asked { cpus: 128, workers: 8, ..USUAL }, ROTATION),
            ("the last that one queue is for", Asked { cpus: 16, workers: 16, ..USUAL }, ROTATION),
            ("more", Asked { cpus: 17, workers: 17, ..USUAL }, KERNEL_OR_ROTATION),
            ("many of both", Asked { cpus: 128, workers: 128, ..USUAL }, KERNEL_OR_ROTATION),
            ("many, at a name without a file", Asked { cpus: 128, workers: 128, ..unix }, ROTATION),
            ("a socket file", Asked { has_file: true, ..unix }, PASSED),
            ("a worker of another user", Asked { may_share: false, ..USUAL }, KERNEL_OR_PASSED),
            ("an event loop", Asked { nonblocking: true, ..USUAL }, KERNEL_OR_ROTATION),
            ("an event loop at a name without a file", Asked { nonblocking: true, ..unix }, ROTATION),
        ];
        for (machine, asked, (kernel, rotation)) in cases {
            assert_eq!(tries(asked), Tries { kernel, rotation }, "{machine}");
        }
    }
}
