//! The page that the servers in C share with this program; its layout is that of bench/contenders/board.h.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::{Result, failed};

const MECHANISM: u64 = 4;
const HOLD: u64 = 8;
const BUSY: u64 = 12;
const BUSY_MS: u64 = 16;
const ERROR: u64 = 32;
const PORTS: u64 = 512;
const SLOTS: u64 = 1536;
const SLOT: u64 = 64;

/// The most workers, and the most addresses, that a server may have.
pub const MOST: usize = 256;

/// Kept in memory by the kernel; mapped by the servers, read and written with system calls here.
pub struct Board {
    file: File,
}

impl Board {
    pub fn new() -> Result<Self> {
        let file = File::from(memfd_create("cluster-bench", MFdFlags::MFD_CLOEXEC).map_err(failed("memfd_create"))?);
        file.set_len(SLOTS + SLOT * MOST as u64).map_err(failed("ftruncate"))?;
        Ok(Self { file })
    }

    /// Where a server finds it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    fn word(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        // Nothing can go wrong with memory of our own; zero would be noticed as a server that does not start or serve.
        let _ = self.file.read_exact_at(&mut bytes, at);
        u32::from_ne_bytes(bytes)
    }

    fn set_word(&self, at: u64, value: u32) {
        let _ = self.file.write_all_at(&value.to_ne_bytes(), at);
    }

    /// How many workers listen.
    pub fn listening(&self) -> usize {
        self.word(0) as usize
    }

    /// CL_MECHANISM_* of what libcluster uses.
    pub fn mechanism(&self) -> u32 {
        self.word(MECHANISM)
    }

    /// While it is held, workers accept nothing.
    pub fn hold(&self, held: bool) {
        self.set_word(HOLD, u32::from(held));
    }

    /// The worker that serves the next connection computes for a while after it.
    pub fn keep_busy(&self, milliseconds: u32) {
        self.set_word(BUSY_MS, milliseconds);
        self.set_word(BUSY, 1);
    }

    /// Whether no worker has taken that wish yet.
    pub fn is_wish_open(&self) -> bool {
        self.word(BUSY) != 0
    }

    /// What went wrong in a server.
    pub fn error(&self) -> Option<String> {
        let mut bytes = [0; (PORTS - ERROR) as usize];
        let _ = self.file.read_exact_at(&mut bytes, ERROR);
        let text: Vec<u8> = bytes.into_iter().take_while(|byte| *byte != 0).collect();
        (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
    }

    pub fn ports(&self, count: usize) -> Vec<u16> {
        (0..count as u64).map(|i| self.word(PORTS + 4 * i) as u16).collect()
    }

    /// What each worker has served.
    pub fn served(&self, workers: usize) -> Vec<u64> {
        (0..workers as u64)
            .map(|slot| {
                let mut bytes = [0; 8];
                let _ = self.file.read_exact_at(&mut bytes, SLOTS + SLOT * slot);
                u64::from_ne_bytes(bytes)
            })
            .collect()
    }
}
