//! What can go wrong, as a code a program can test and a sentence a person can act on.

use std::borrow::Cow;
use std::fmt;

use nix::errno::Errno;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// No `libcluster.so.0` was found at run time (header-only C programs).
pub const ENOLIB: i32 = -4096;
/// `fork` was asked for in a process that has more than one thread.
pub const ETHREADS: i32 = -4097;
/// Primary and worker speak different versions of the protocol.
pub const EVERSION: i32 = -4098;
/// A defect inside libcluster was caught at the C boundary.
pub const EPANIC: i32 = -4099;
// Last added: -4099. A retired number stays reserved here.

/// A failed call: `code()` is `-errno` or one of the `E*` constants of this crate below -4095, and the
/// [`Display`](fmt::Display) text says in one sentence what was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    code: i32,
    sentence: Cow<'static, str>,
}

impl Error {
    /// An error with one of this crate's codes or a negative errno value.
    pub fn new(code: i32, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self { code, sentence: sentence.into() }
    }

    /// A system call failed: `what` names it and what it was done to.
    pub(crate) fn os(what: impl fmt::Display, errno: Errno) -> Self {
        Self::new(-(errno as i32), format!("{what}: {}", errno.desc()))
    }

    /// The same without memory, for what a signal handler may call: the sentence is the step's and names no errno.
    pub(crate) fn bare(errno: Errno, sentence: &'static str) -> Self {
        Self { code: -(errno as i32), sentence: Cow::Borrowed(sentence) }
    }

    /// Copies of it need no memory from now on. For errors of which a process has one at most, since its sentence is never freed.
    pub(crate) fn lasting(self) -> Self {
        match self.sentence {
            Cow::Borrowed(_) => self,
            Cow::Owned(sentence) => Self { code: self.code, sentence: Cow::Borrowed(sentence.leak()) },
        }
    }

    /// An argument is wrong; the sentence says how, and what would be right.
    pub(crate) fn invalid(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(-libc::EINVAL, sentence)
    }

    /// This function belongs to the other role.
    pub(crate) fn wrong_role(sentence: &'static str) -> Self {
        Self::new(-libc::EPERM, sentence)
    }

    /// The process is a copy made by a plain fork(2).
    pub(crate) fn forked() -> Self {
        Self::new(
            -libc::ECHILD,
            "this process was made by fork(2) or daemon(3) after the first cl_ call, not by cl_fork, and is no member of the \
             cluster; call daemon(3) before the first cl_ call, or let the service manager put the program into the background",
        )
    }

    /// The worker was asked to disconnect and nothing is left for it.
    pub(crate) fn shutdown() -> Self {
        Self::new(-libc::ESHUTDOWN, "this worker was asked to disconnect")
    }

    /// The primary is gone.
    pub(crate) fn primary_gone() -> Self {
        Self::new(-libc::EPIPE, "the primary is gone")
    }

    /// `-errno`, or one of the codes below -4095.
    pub fn code(&self) -> i32 {
        self.code
    }

    /// The sentence alone.
    pub fn sentence(&self) -> &str {
        &self.sentence
    }

    /// True when this error is the given errno value.
    pub(crate) fn is(&self, errno: i32) -> bool {
        self.code == -errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        if (-4095..0).contains(&error.code) {
            std::io::Error::new(std::io::Error::from_raw_os_error(-error.code).kind(), error)
        } else {
            std::io::Error::other(error)
        }
    }
}

/// Adds what was being done to a bare errno.
pub(crate) trait Context<T> {
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T> Context<T> for std::result::Result<T, Errno> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|errno| Error::os(what, errno))
    }
}
