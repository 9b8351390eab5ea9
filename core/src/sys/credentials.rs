#![allow(unsafe_code)] // Identity calls are made raw, in a child that may do little before exec.
//! Becoming another user before exec, for good.

use std::mem;

use nix::errno::Errno;

use super::check;
use super::step::Step;

/// Whom a program is to run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: libc::uid_t,
    pub(crate) group: libc::gid_t,
    /// In order.
    pub(crate) groups: Vec<libc::gid_t>,
}

type Taken<T> = Result<T, (Step, Errno)>;

/// The sets of capabilities of this thread, as capset(2) takes them.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Capabilities {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// _LINUX_CAPABILITY_VERSION_3, with two of the above (linux/capability.h).
const CAPABILITIES_OF_64_BITS: u32 = 0x2008_0522;

/// Replaces this process's credentials. The order matters: without the user's rights the groups could not be changed any more.
/// Async-signal-safe, without allocation. The calls are raw, because glibc's wrappers would apply them to the parent's threads. `room`: for
/// as many groups as there are.
pub(super) fn take(credentials: &Credentials, room: &mut [libc::gid_t]) -> Taken<()> {
    let Credentials { user, group, groups } = credentials;
    let at = |step: Step| move |errno: Errno| (step, errno);
    // SAFETY: pointer and count describe the list.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map_err(at(Step::Groups))?;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, *group, *group, *group) }).map_err(at(Step::Group))?;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, *user, *user, *user) }).map_err(at(Step::User))?;
    if *user != 0 {
        drop_capabilities().map_err(at(Step::Capabilities))?;
    }
    verify(credentials, room).map_err(at(Step::Verify))?;
    // SAFETY: integers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map_err(at(Step::NoNewPrivileges))?;
    // SAFETY: integers only.
    match check(unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) }) {
        Ok(1) => Ok(()),
        outcome => Err((Step::NoNewPrivileges, outcome.err().unwrap_or(Errno::EPERM))),
    }
}

/// Drops all of them. The kernel clears most when root becomes another user, but not the inheritable ones, and none if the parent is not
/// root but may change users all the same.
fn drop_capabilities() -> Result<(), Errno> {
    // SAFETY: integers only.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) })?;
    let header = CapabilityHeader { version: CAPABILITIES_OF_64_BITS, pid: 0 };
    let none = [Capabilities::default(); 2];
    // SAFETY: header and sets are of the layout that the version names.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) })?;
    let mut left = [Capabilities { effective: 1, ..Default::default() }; 2];
    // SAFETY: as above; the kernel fills the sets.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, left.as_mut_ptr()) })?;
    if left == none { Ok(()) } else { Err(Errno::EPERM) }
}

/// Asks the kernel whether everything is as it should be, and whether there is a way back.
fn verify(credentials: &Credentials, room: &mut [libc::gid_t]) -> Result<(), Errno> {
    let Credentials { user, group, groups } = credentials;
    let (mut users, mut owners) = ([0 as libc::uid_t; 3], [0 as libc::gid_t; 3]);
    let [real, effective, saved] = &mut users;
    // SAFETY: three pointers to integers of our own.
    check(unsafe { libc::syscall(libc::SYS_getresuid, real, effective, saved) })?;
    let [real, effective, saved] = &mut owners;
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_getresgid, real, effective, saved) })?;
    // SAFETY: pointer and count describe the room.
    let count = check(unsafe { libc::syscall(libc::SYS_getgroups, room.len(), room.as_mut_ptr()) })
        // More than fit.
        .map_err(|errno| if errno == Errno::EINVAL { Errno::EPERM } else { errno })?;
    room.sort_unstable();
    if users != [*user; 3] || owners != [*group; 3] || count as usize != groups.len() || room != &groups[..] {
        return Err(Errno::EPERM);
    }
    let zero: libc::c_long = 0;
    // It must fail, or the program could become root again.
    for call in
        [(*user != 0).then_some(libc::SYS_setresuid), (*user != 0 && *group != 0).then_some(libc::SYS_setresgid)]
    {
        // SAFETY: integers only.
        if call.is_some_and(|call| unsafe { libc::syscall(call, zero, zero, zero) } == 0) {
            return Err(Errno::EPERM);
        }
    }
    Ok(())
}

const _: () = assert!(mem::size_of::<Capabilities>() == 12 && mem::size_of::<CapabilityHeader>() == 8);
