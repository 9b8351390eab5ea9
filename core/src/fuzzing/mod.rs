//! What the fuzz targets of `fuzz/` run. It stands here because it looks inside the engine, and no program can have it:
//! it is compiled for the tests and with the feature `fuzzing`.
//!
//! Each function takes any bytes and panics when something is not as it should be.

mod address;
#[cfg(test)]
mod between_turns;
mod frames;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod model;
mod primary;
// The tests use more of it than the targets do.
#[cfg_attr(not(test), allow(dead_code))]
mod puppet;

#[cfg(test)]
mod lives;

pub use address::address;
pub use frames::frames;
pub use primary::primary;

/// Reads choices out of the fuzzer's bytes; all zero once they are used up.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let taken = self.take(N);
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }

    fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }
}

/// On a thread with descriptors of its own, and one after the other: their limit is the process's.
#[cfg(test)]
fn alone(test: impl FnOnce() + Send + 'static) {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE.lock();
    let thread = std::thread::spawn(|| {
        crate::sys::descriptor::own_descriptors();
        test();
    });
    assert!(thread.join().is_ok());
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// The corpus of a target, and what once made it fail.
    fn replay(target: &str, run: fn(&[u8])) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let mut inputs: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{} holds no inputs", directory.display());
        super::alone(move || {
            for input in inputs {
                println!("{}", input.display());
                run(&std::fs::read(&input).unwrap());
            }
        });
    }

    #[test]
    fn the_corpus_of_frames_holds() {
        replay("frames", super::frames);
    }

    #[test]
    fn the_corpus_of_addresses_holds() {
        replay("address", super::address);
    }

    #[test]
    fn the_corpus_of_the_primary_holds() {
        replay("primary", super::primary);
    }
}
