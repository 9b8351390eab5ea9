//! The structs of the interface.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};

/// How to listen; see cl_listen_with(). A zeroed field means the default.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct cl_listen_options_t {
    /// sizeof (cl_listen_options_t)
    pub size: usize,
    /// The address, as for cl_listen(). NULL: ":0", a free port on all addresses.
    pub address: *const c_char,
    /// Connections that the kernel keeps waiting; 0 or less: 511. The kernel's own limit is net.core.somaxconn.
    pub backlog: c_int,
    /// CL_LISTEN_* bits.
    pub flags: c_uint,
    /// For port 0: the n-th of the ports that all workers share, up to 65536. 0: the first that this worker has not
    /// open.
    pub index: c_int,
    /// Socket options of the listening socket, which accepted connections inherit. docs/socket-options.md lists those
    /// that a worker may set. The first worker to open an address decides. NULL: none. Not kept.
    pub options: *const cl_socket_option_t,
    /// The number of options, at most 32.
    pub option_count: usize,
}

/// One socket option; see cl_listen_options_t.options and setsockopt(2).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct cl_socket_option_t {
    /// SOL_SOCKET, IPPROTO_TCP, ...
    pub level: c_int,
    /// SO_KEEPALIVE, TCP_NODELAY, ...
    pub name: c_int,
    /// The value. Not NULL.
    pub value: *const c_void,
    /// Its length in bytes, at most 256.
    pub length: libc::socklen_t,
}

/// A cluster's settings; see cl_setup_primary(). A zeroed field keeps what was set before, at first the default.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct cl_settings_t {
    /// sizeof (cl_settings_t)
    pub size: usize,
    /// CL_SCHED_*; default CL_SCHED_RR. For addresses that are opened from now on.
    pub policy: c_int,
    /// CL_MECHANISM_*; default CL_MECHANISM_AUTO. For addresses that are opened from now on.
    pub mechanism: c_int,
    /// CL_RESPAWN_*; default CL_RESPAWN_DEFAULT.
    pub respawn: c_int,
    /// Milliseconds that a worker has to leave before SIGTERM; SIGKILL follows 2 s later. Default 30000.
    pub stop_deadline_ms: c_int,
    /// CL_HANDLE_SIGNALS, CL_HANDLE_RELOAD, CL_MANUAL_READY and CL_WORKER_SIGNALS. A bit stays set once it was set.
    pub flags: c_uint,
    /// Connections that may wait in a worker's mailbox, 1 to 256; default 12. A smaller window spreads a burst better
    /// over slow workers; a larger one keeps fast workers from waiting.
    pub window: c_int,
    /// Milliseconds before a worker with a short life is replaced, and up to a quarter more at random. A life is short
    /// if it ended before the worker listened, or within a second and without a connection taken. The delay doubles
    /// with each short life of a slot; a life of 10 s starts afresh. Other workers are replaced at once. While an
    /// address has no worker, some slot is tried once a second, or each restart_min_ms if that is longer. In all, no
    /// more replacements start in a second than there are slots, or 8 if that is more. Default 100.
    pub restart_min_ms: c_int,
    /// The longest such delay, at least restart_min_ms. Default 10000.
    pub restart_max_ms: c_int,
    /// What workers may listen on, whoever they are; NULL last. NULL: what was set before, at first anything for
    /// workers of this process's own user, nothing for those that cl_spawn() started as another user. Each is one of:
    ///
    ///     host:port  host:low-high  host:*  TCP; the host is a name (looked up now), an address, nothing (the socket
    ///                                       of all addresses) or * (any address); port 0 is one of the kernel's choice
    ///     udp:...                           the same for datagrams
    ///     unix:/path  unix:/directory/      that socket file; any in that directory or further down
    ///     unix:@name  fd:N                  an abstract socket; what cl_listen("fd:N") takes from this process
    ///
    /// Paths are absolute and without "..". The directory is opened now and held, and links below it are not followed.
    /// The directory that gets the socket file must belong to this process's user or root and, where others may write,
    /// be sticky. A worker that asks for anything else gets -EACCES, and the program a CL_EVENT_WARNING (at most one a
    /// second and worker). Only what is asked of the primary is judged: what a worker binds itself
    /// (CL_LISTEN_EXCLUSIVE) it binds with its own rights.
    pub listen_allow: *const *const c_char,
    /// How many addresses may be open for the workers at a time; more fail with -EMFILE. 0: what was set before, at
    /// first any number, but 64 where a worker asks that cl_spawn() started as another user.
    pub listen_max: c_int,
    /// Milliseconds that cl_stop() goes on serving before it closes anything, for balancers that learn slowly that this
    /// server is going away. Default 0. The deadline of the stop begins after it.
    pub drain_delay_ms: c_int,
    /// For a later version; anything but 0 is -EOPNOTSUPP.
    pub ready_min: c_int,
}

/// A program to start as a worker; see cl_spawn(). A zeroed field means the default.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct cl_spawn_options_t {
    /// sizeof (cl_spawn_options_t)
    pub size: usize,
    /// The program's file; without a slash it is looked for in PATH. NULL: this program.
    pub file: *const c_char,
    /// Its arguments, its name first, NULL last. NULL: this program's own; if a file is given, its name alone.
    pub argv: *const *mut c_char,
    /// Its environment, NULL last. NULL: this program's own. For another user NULL means only PATH, TERM, TZ, LANG,
    /// LANGUAGE and LC_* of it (all but PATH only where they hold no path), and HOME, USER, LOGNAME and SHELL of that
    /// user (without an account only HOME=/). CL_WORKER_ID, CL_WORKER_SLOT and CL_CHANNEL_FD are added in any case.
    pub envp: *const *mut c_char,
    /// The directory it starts in. NULL: the current one.
    pub cwd: *const c_char,
    /// The user it runs as, by name or number. NULL: this program's own. With a user or group, no_new_privs is set, and
    /// a user other than root keeps no capabilities. A worker of another user may listen only on what
    /// cl_settings_t.listen_allow declares; one that changes its user by itself counts as this program's own.
    pub user: *const c_char,
    /// The group it runs as, by name or number. NULL: the user's own groups.
    pub group: *const c_char,
    /// Descriptors it inherits besides 0, 1 and 2, under the same numbers; all others are closed in it. They are
    /// duplicated: replacements get the same open files, whatever the program has made of the numbers by then. The
    /// primary holds its copies (and so a pipe open) until nobody can replace the worker any more: with
    /// CL_RESPAWN_NEVER no longer than this call, else until cl_stop() or an end after which it is not replaced.
    pub inherit: *const c_int,
    /// How many they are, at most 1024.
    pub inherit_count: usize,
    /// CL_SPAWN_* bits.
    pub flags: c_uint,
}

/// Something happened to a worker; see cl_on_event(). Pointers are valid during the callback only.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct cl_event_t {
    /// The size of this struct in the library that calls; fields behind it do not exist.
    pub size: usize,
    /// CL_EVENT_*
    pub r#type: c_int,
    /// The worker's id; 0 in a notice, and in a warning that concerns no worker.
    pub worker_id: c_int,
    /// Its process.
    pub pid: c_int,
    /// CL_EVENT_EXIT: its exit code, or -1.
    pub exit_code: c_int,
    /// CL_EVENT_EXIT: the signal that ended it, or 0.
    pub signal: c_int,
    /// CL_EVENT_LISTENING: the numeric host, or the text of a unix address; otherwise NULL.
    pub address: *const c_char,
    /// CL_EVENT_LISTENING: the port, -1 for a unix socket.
    pub port: c_int,
    /// CL_EVENT_MESSAGE, CL_EVENT_WARNING, CL_EVENT_NOTICE, CL_EVENT_RELOAD: the bytes; otherwise NULL.
    pub data: *const c_void,
    /// How many they are.
    pub length: usize,
    /// CL_EVENT_LISTENING: CL_MECHANISM_*.
    pub mechanism: c_int,
    /// CL_EVENT_READY, CL_EVENT_RELOAD, CL_EVENT_RECYCLE: which generation; otherwise 0.
    pub generation: c_int,
    /// CL_EVENT_RELOAD: CL_RELOAD_*; otherwise 0.
    pub phase: c_int,
}

/// A function that is told what happens; see cl_on_event().
pub type cl_event_fn = Option<unsafe extern "C" fn(event: *const cl_event_t, user: *mut c_void)>;

/// What is known of a worker; see cl_worker_info().
#[derive(Clone, Copy)]
#[repr(C)]
pub struct cl_worker_info_t {
    /// sizeof (cl_worker_info_t), set by the caller.
    pub size: usize,
    /// The worker's id.
    pub id: c_int,
    /// Its slot.
    pub slot: c_int,
    /// Its process.
    pub pid: c_int,
    /// CL_WORKER_*
    pub state: c_int,
    /// Connections that it got: given to it and not taken back, or accepted as it says itself, whichever is more.
    pub delivered: c_ulonglong,
    /// Connections that wait for it.
    pub waiting: c_uint,
    /// What it last reported with cl_set_load(), as of this call.
    pub load: c_uint,
    /// Which generation it belongs to; see cl_reload().
    pub generation: c_int,
    /// 1: it is ready; see cl_reload().
    pub ready: c_int,
    /// The memory that it has for itself, in KiB (RssAnon of proc_pid_status(5)); 0 where there is no /proc.
    pub rss_kib: c_ulonglong,
    /// The processor time that it has used, in milliseconds (its first 32 threads).
    pub cpu_ms: c_ulonglong,
    /// Requests that it has answered, as it says itself with cl_count() or cl_took().
    pub requests: c_ulonglong,
    /// Those of them that failed.
    pub errors: c_ulonglong,
    /// Requests that are under way, as it says itself.
    pub active: c_uint,
    /// How late its event loop is, in milliseconds, where it tells.
    pub late_ms: c_uint,
    /// Milliseconds since it was started.
    pub age_ms: c_ulonglong,
}

/// How workers are replaced; see cl_reload(). A zeroed field means the default.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct cl_reload_options_t {
    /// sizeof (cl_reload_options_t)
    pub size: usize,
    /// The program of the new workers. NULL: each is made as its predecessor was, with file, user and group looked up
    /// anew.
    pub program: *const cl_spawn_options_t,
    /// How many slots are swapped at a time; default 1.
    pub parallel: c_int,
    /// How many more processes there may be than slots, beside those that are leaving; default: parallel.
    pub extra: c_int,
    /// Milliseconds that a new worker has to become ready; default 10000, CL_NONE: any time.
    pub ready_timeout_ms: c_int,
    /// Milliseconds that it has to live after that, before it takes its predecessor's place; default 500, CL_NONE: none.
    pub min_ready_ms: c_int,
    /// For a later version, as the four behind it; anything but 0 is -EOPNOTSUPP.
    pub canary_workers: c_int,
    /// For a later version.
    pub canary_percent: c_int,
    /// For a later version.
    pub canary_ms: c_int,
    /// For a later version.
    pub max_errors_permille: c_int,
    /// For a later version.
    pub max_latency_percent: c_int,
    /// CL_RELOAD_* bits.
    pub flags: c_uint,
}

/// After how much a worker is replaced; see cl_recycle(). A zeroed limit is none.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct cl_recycle_options_t {
    /// sizeof (cl_recycle_options_t)
    pub size: usize,
    /// Memory that it has for itself, in bytes (RssAnon of proc_pid_status(5)).
    pub rss_bytes: c_ulonglong,
    /// Connections that it has taken.
    pub connections: c_ulonglong,
    /// Requests that it has counted with cl_count() or cl_took().
    pub requests: c_ulonglong,
    /// Seconds since it was started.
    pub age_s: c_int,
    /// Each worker's limits are higher by up to so many percent, at random, so that those that were started together are not
    /// replaced together; default 20, CL_NONE: none.
    pub jitter_percent: c_int,
    /// How many are replaced at a time; default 1.
    pub at_a_time: c_int,
}
