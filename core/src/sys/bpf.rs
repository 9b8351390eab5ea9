#![allow(unsafe_code)]
// bpf(2) has no wrapper in libc, and a map's memory is shared with the kernel.
//! bpf(2): making maps, loading a program and attaching it. What the program does is `mechanism::program`.
//!
//! Sources: bpf(2), include/uapi/linux/bpf.h.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

use nix::errno::Errno;

use super::fork_guard::ForkGuard;
use super::{Sys, check, descriptor};

/// One instruction as the kernel reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    /// The destination in the low four bits, the source in the others.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_REUSEPORT_SOCKARRAY: u32 = 20;
const F_MMAPABLE: u32 = 1 << 10;
const PROG_TYPE_SK_REUSEPORT: u32 = 21;
const ATTACH_SELECT_OR_MIGRATE: u32 = 40;
/// MPL, MIT and the like: the program calls nothing that is for GPL programs only.
const LICENSE: &std::ffi::CStr = c"MIT";

/// The attributes of a command; the kernel takes what is missing at the end for zeros.
#[repr(C)]
#[derive(Default)]
struct MapAttributes {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
    /// 0; valgrind reads so far, however long we say it is.
    map_ifindex: u32,
}

#[repr(C)]
struct ElementAttributes {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ProgramAttributes {
    prog_type: u32,
    instructions_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

const NAME: [u8; 16] = *b"libcluster\0\0\0\0\0\0";

fn bpf<T>(command: libc::c_int, attributes: &mut T) -> Sys<libc::c_int> {
    let size = std::mem::size_of::<T>();
    // SAFETY: the attributes are a valid struct of that size, and all that they point to outlives the call.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size) };
    check(outcome as libc::c_int)
}

/// bpf(2) makes descriptors close-on-exec.
fn owned(fd: libc::c_int) -> Sys<OwnedFd> {
    descriptor::take(fd)
}

/// An array of sockets of one reuseport group.
pub(crate) fn socket_array(entries: u32) -> Sys<OwnedFd> {
    let mut attributes = MapAttributes {
        map_type: MAP_TYPE_REUSEPORT_SOCKARRAY,
        key_size: 4,
        value_size: 8,
        max_entries: entries,
        map_name: NAME,
        ..Default::default()
    };
    bpf(MAP_CREATE, &mut attributes).and_then(owned)
}

/// Puts a listening socket into an array, in the place of what is there.
pub(crate) fn put_socket(array: BorrowedFd, index: u32, socket: BorrowedFd) -> Sys<()> {
    let value = socket.as_raw_fd() as u64;
    let mut attributes = ElementAttributes {
        map_fd: array.as_raw_fd() as u32,
        padding: 0,
        key: std::ptr::from_ref(&index) as u64,
        value: std::ptr::from_ref(&value) as u64,
        flags: 0,
    };
    bpf(MAP_UPDATE_ELEM, &mut attributes).map(|_| ())
}

/// Loads a program that selects among the sockets of a reuseport group, also for what migrates from one that closes
/// (Linux 5.14).
pub(crate) fn load_selector(code: &[Instruction]) -> Sys<OwnedFd> {
    let mut attributes = ProgramAttributes {
        prog_type: PROG_TYPE_SK_REUSEPORT,
        instructions_count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        prog_name: NAME,
        expected_attach_type: ATTACH_SELECT_OR_MIGRATE,
        ..Default::default()
    };
    // A signal interrupts the verifier, which then says EAGAIN.
    const ATTEMPTS: u32 = 16;
    for _ in 1..ATTEMPTS {
        match bpf(PROG_LOAD, &mut attributes) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            outcome => return outcome.and_then(owned),
        }
    }
    bpf(PROG_LOAD, &mut attributes).and_then(owned)
}

/// Lets a program select for the whole group that a socket belongs to.
pub(crate) fn attach_selector(socket: BorrowedFd, program: BorrowedFd) -> Sys<()> {
    set_int(socket, libc::SO_ATTACH_REUSEPORT_EBPF, program.as_raw_fd())
}

/// Nobody who holds the socket can give its group another classic or extended program (SO_LOCK_FILTER, socket(7)).
pub(crate) fn lock_filter(socket: BorrowedFd) -> Sys<()> {
    set_int(socket, libc::SO_LOCK_FILTER, 1)
}

pub(crate) fn set_int(socket: BorrowedFd, option: libc::c_int, value: libc::c_int) -> Sys<()> {
    let length = std::mem::size_of_val(&value) as libc::socklen_t;
    let pointer = std::ptr::from_ref(&value).cast();
    // SAFETY: the option takes an int, and the length says so.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, pointer, length) }).map(|_| ())
}

/// An array map of one value, mapped here: memory that a program in the kernel and this process share.
pub(crate) struct SharedValue {
    memory: NonNull<u8>,
    length: usize,
    guard: ForkGuard,
}

// SAFETY: the memory is only reached through atomics.
unsafe impl Send for SharedValue {}
// SAFETY: as above.
unsafe impl Sync for SharedValue {}

impl SharedValue {
    /// A value of `length` bytes, all 0 (Linux 5.5 for the mapping), and the map, for the program. A program that was loaded
    /// with it keeps it.
    pub(crate) fn new(length: usize) -> Sys<(Self, OwnedFd)> {
        let mut attributes = MapAttributes {
            map_type: MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: length as u32,
            max_entries: 1,
            map_flags: F_MMAPABLE,
            map_name: NAME,
            ..Default::default()
        };
        let map = bpf(MAP_CREATE, &mut attributes).and_then(owned)?;
        let guard = ForkGuard::new().ok_or(Errno::ENOMEM)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, anywhere, of a descriptor of ours; the kernel rounds the length up to pages.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_SHARED, map.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let memory = NonNull::new(address.cast()).ok_or(Errno::ENOMEM)?;
        let value = Self { memory, length, guard };
        // A worker made by fork has no business with it.
        // SAFETY: the range is the mapping that was just made.
        check(unsafe { libc::madvise(address, length, libc::MADV_DONTFORK) })?;
        Ok((value, map))
    }

    fn at<T>(&self, offset: usize) -> &T {
        let size = std::mem::size_of::<T>();
        // A place outside would be a defect of ours; the first is as good as any to be wrong in.
        let offset = if offset.is_multiple_of(size) && offset + size <= self.length { offset } else { 0 };
        // SAFETY: inside of the mapping.
        let place = unsafe { self.memory.byte_add(offset) }.cast::<T>();
        // SAFETY: aligned, and the mapping lives as long as `self`; only asked for with atomics.
        unsafe { place.as_ref() }
    }

    pub(crate) fn half(&self, offset: usize) -> &AtomicU16 {
        self.at(offset)
    }

    pub(crate) fn word(&self, offset: usize) -> &AtomicU32 {
        self.at(offset)
    }

    pub(crate) fn double(&self, offset: usize) -> &AtomicU64 {
        self.at(offset)
    }
}

impl Drop for SharedValue {
    fn drop(&mut self) {
        // A forked worker never had the mapping, and by now the program may have something of its own at that address.
        if self.guard.is_forked() {
            return;
        }
        // SAFETY: the mapping is ours, and nobody refers to it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.length) };
    }
}
