//! A program that is started as a worker, any number of times.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use nix::errno::Errno;

use super::account::{credentials, is_another_user};
use super::environment::{self, Account};
use super::inheritance::Inheritance;
use crate::env;
use crate::error::{Context, Error, Result};
use crate::sys::credentials::Credentials;
use crate::sys::descriptor::clear_of;
use crate::sys::spawn::{self, Program, SignalMask};
use crate::sys::{child, process};

/// A program to start as a worker. `Default` starts this program again with the same arguments.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SpawnOptions {
    /// The program's file; one without a slash is looked for in PATH. `None`: this program.
    pub file: Option<OsString>,
    /// All arguments, the program's name first. `None`: this program's own, or the file's name alone if a file is given.
    pub arguments: Option<Vec<OsString>>,
    /// The environment, as `NAME=value`. `None`: this program's own; for another user only PATH, LANG, LANGUAGE, LC_*, TZ and TERM
    /// of it, and who the user is.
    pub environment: Option<Vec<OsString>>,
    /// The directory to start in. `None`: the current one.
    pub directory: Option<PathBuf>,
    /// The user to run as, by name or number.
    pub user: Option<String>,
    /// The group to run as, by name or number. `None` with a user: the user's own groups.
    pub group: Option<String>,
    /// Descriptors that the program inherits besides 0, 1 and 2, under the same numbers. The files are those of the call, for those
    /// who replace it, too, whatever becomes of the numbers: the primary keeps copies for as long as there may be another.
    pub inherit: Vec<RawFd>,
    /// The program starts with this thread's signal mask; otherwise with no signal blocked.
    pub keep_mask: bool,
}

/// `SpawnOptions` made ready for any number of starts.
pub(crate) struct Plan {
    options: SpawnOptions,
    file: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    directory: Option<CString>,
    credentials: Option<Credentials>,
    inherit: Arc<Inheritance>,
    /// The mask it starts with.
    mask: SignalMask,
}

fn c_string(text: &OsStr, what: &str) -> Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| Error::invalid(format!("{what} holds a NUL character")))
}

impl Plan {
    pub(crate) fn new(options: &SpawnOptions) -> Result<Self> {
        Self::with(options, |numbers| Inheritance::new(numbers).map(Arc::new))
    }

    /// The same, looked up anew: the file, users and groups. The open files that it inherits, this thread's mask and, where they were
    /// this program's own, arguments and environment are as they were. This program's own file is what now has its name: the process's
    /// link to it would lead to the one that was replaced.
    pub(crate) fn renewed(&self) -> Result<Self> {
        let renewed = Self::with(&self.options, |_| Ok(Arc::clone(&self.inherit)))?;
        let file = if self.options.file.is_none() { self.file.clone() } else { renewed.file };
        let (arguments, environment) = (self.arguments.clone(), self.environment.clone());
        Ok(Self { file, arguments, environment, mask: self.mask, ..renewed })
    }

    fn with(options: &SpawnOptions, inherit: impl FnOnce(&[RawFd]) -> Result<Arc<Inheritance>>) -> Result<Self> {
        let file = match &options.file {
            Some(file) if file.is_empty() => {
                return Err(Error::invalid("the program's file name is empty"));
            }
            Some(file) => resolved(process::find_in_path(&c_string(file, "the program's file name")?)),
            None => own_file(),
        };
        let arguments = match (&options.arguments, &options.file) {
            (Some(arguments), _) if arguments.is_empty() => {
                return Err(Error::invalid("the arguments are empty; the first is the program's name"));
            }
            (Some(arguments), _) => arguments.clone(),
            (None, Some(file)) => vec![file.clone()],
            (None, None) => own_arguments()?,
        };
        let arguments =
            arguments.iter().map(|argument| c_string(argument, "an argument")).collect::<Result<Vec<_>>>()?;
        let directory = match &options.directory {
            Some(directory) => Some(resolved(c_string(directory.as_os_str(), "the directory")?)),
            None => None,
        };
        let inherit = inherit(&options.inherit)?;
        let (credentials, account) = match credentials(options.user.as_deref(), options.group.as_deref())? {
            Some((credentials, account)) => (Some(credentials), account),
            None => (None, None),
        };
        let environment = match &options.environment {
            Some(environment) => {
                environment.iter().map(|entry| c_string(entry, "the environment")).collect::<Result<_>>()?
            }
            None if credentials.as_ref().is_some_and(is_another_user) => {
                let account = account.as_ref().map(|user| Account {
                    name: OsStr::new(&user.name),
                    home: user.dir.as_os_str(),
                    shell: user.shell.as_os_str(),
                });
                environment::of_another_user(std::env::vars_os(), account)
            }
            None => std::env::vars_os()
                .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
                .collect(),
        };
        let mask = if options.keep_mask { SignalMask::of_this_thread() } else { SignalMask::empty() };
        let options = options.clone();
        Ok(Self { options, file, arguments, environment, directory, credentials, inherit, mask })
    }

    /// It runs as another user than this process.
    pub(crate) fn confined(&self) -> bool {
        self.credentials.as_ref().is_some_and(is_another_user)
    }

    /// Starts the program as a worker with its end of a channel.
    pub(crate) fn start(
        &self,
        id: u32,
        slot: u32,
        lifeline: BorrowedFd,
        worker_end: OwnedFd,
        holds: bool,
    ) -> Result<child::Child> {
        let worker_end = clear_of(self.inherit.numbers(), worker_end).context("duplicating a channel")?;
        let channel = worker_end.as_raw_fd();
        let mut environment: Vec<CString> =
            self.environment.iter().filter(|entry| !env::is_ours(entry.to_bytes())).cloned().collect();
        for (name, value) in [(env::WORKER_ID, id), (env::WORKER_SLOT, slot), (env::CHANNEL_FD, channel as u32)] {
            environment.extend(CString::new(format!("{name}={value}")));
        }
        if holds {
            environment.extend(CString::new(format!("{}=1", env::WORKER_SIGNALS)));
        }
        let program = |inherit: Vec<(RawFd, RawFd)>| Program {
            file: self.file.clone(),
            arguments: self.arguments.clone(),
            environment,
            directory: self.directory.clone(),
            credentials: self.credentials.clone(),
            inherit: inherit.into_iter().chain([(channel, channel)]).collect(),
            lifeline: lifeline.as_raw_fd(),
            mask: self.mask,
        };
        self.inherit.with_pairs(|inherit| {
            spawn::spawn(&program(inherit)).map_err(|failed| {
                Error::os(format_args!("{} \"{}\"", failed.step, self.file.to_string_lossy()), failed.errno)
            })
        })
    }

    /// Nobody is to be started by it any more.
    pub(crate) fn let_go(&self) {
        self.inherit.let_go();
    }
}

/// Where links on the way lead now: those who are made later by the same recipe, or put back by it, are of the same release. As it is
/// where that cannot be known.
fn resolved(path: CString) -> CString {
    let real = std::fs::canonicalize(OsStr::from_bytes(path.as_bytes()));
    real.ok().and_then(|real| CString::new(real.as_os_str().as_bytes()).ok()).unwrap_or(path)
}

/// The running program. Its name where that still leads to it; the link itself leads to it also when its file has been
/// replaced since. Without /proc, the path that it was started by (getauxval(3)).
fn own_file() -> CString {
    const LINK: &std::ffi::CStr = c"/proc/self/exe";
    let Ok(named) = std::fs::read_link("/proc/self/exe") else {
        return process::started_by().unwrap_or_else(|| LINK.to_owned());
    };
    let named = Some(named).filter(|path| path.exists());
    named.and_then(|path| CString::new(path.as_os_str().as_bytes()).ok()).unwrap_or_else(|| LINK.to_owned())
}

/// The arguments this program was started with. From /proc, as a program may have written over what it was given; where there is
/// none, from the standard library, which has them where the C library gives them to its constructors (glibc).
fn own_arguments() -> Result<Vec<OsString>> {
    let bytes = match std::fs::read("/proc/self/cmdline") {
        Ok(bytes) => bytes,
        Err(error) => {
            let arguments: Vec<OsString> = std::env::args_os().collect();
            if !arguments.is_empty() {
                return Ok(arguments);
            }
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::ENOENT));
            return Err(errno).context("reading /proc/self/cmdline (mount /proc, or give the file and its arguments)");
        }
    };
    let text = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    Ok(text.split(|byte| *byte == 0).map(|argument| OsStr::from_bytes(argument).to_owned()).collect())
}
