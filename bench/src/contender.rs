//! Who is compared.

/// A way to serve one port with several processes.
#[derive(Debug, PartialEq, Eq)]
pub struct Contender {
    /// In arguments and results.
    pub name: &'static str,
    /// In tables and charts.
    pub title: &'static str,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// bench/contenders/raw.c, and its first word.
    Raw(&'static str),
    /// bench/contenders/cluster.c with the numbers of cluster.h.
    Cluster {
        policy: u32,
        mechanism: u32,
    },
    /// bench/contenders/uv.c
    Uv,
    Nginx {
        reuseport: bool,
    },
    /// bench/contenders/server.cjs: node:cluster, or cluster-rs with the mechanism that is asked for.
    Node {
        policy: &'static str,
        ours: Option<&'static str>,
    },
}

pub const PASSED: u32 = 1;
pub const KERNEL: u32 = 2;
pub const SHARED: u32 = 3;
pub const ROTATION: u32 = 4;
const AUTO: u32 = 0;
const NONE: u32 = 1;
const RR: u32 = 2;
const LEAST_LOADED: u32 = 3;
pub const SOURCE_HASH: u32 = 4;

const fn cluster(name: &'static str, title: &'static str, policy: u32, mechanism: u32) -> Contender {
    Contender { name, title, kind: Kind::Cluster { policy, mechanism } }
}

const fn raw(name: &'static str, title: &'static str) -> Contender {
    Contender { name, title, kind: Kind::Raw(name) }
}

const fn node(name: &'static str, title: &'static str, policy: &'static str, ours: Option<&'static str>) -> Contender {
    Contender { name, title, kind: Kind::Node { policy, ours } }
}

/// All of them, in the order of tables and charts.
pub static ALL: [Contender; 24] = [
    raw("single", "one process: accept4, close"),
    raw("shared", "shared listener, event loops"),
    raw("exclusive", "shared listener, EPOLLEXCLUSIVE"),
    raw("blocking", "shared listener, blocking accept4"),
    raw("reuseport", "SO_REUSEPORT, event loops"),
    raw("reuseport-blocking", "SO_REUSEPORT, blocking accept4"),
    raw("handover", "bare hand-over (SCM_RIGHTS)"),
    cluster("none", "libcluster none (shared)", NONE, AUTO),
    cluster("passed", "libcluster passed, round-robin", RR, PASSED),
    cluster("kernel", "libcluster kernel, round-robin", RR, KERNEL),
    cluster("rotation", "libcluster rotation, round-robin", RR, ROTATION),
    cluster("passed-least-loaded", "libcluster passed, least loaded", LEAST_LOADED, PASSED),
    cluster("kernel-least-loaded", "libcluster kernel, least loaded", LEAST_LOADED, KERNEL),
    cluster("passed-source-hash", "libcluster passed, source hash", SOURCE_HASH, PASSED),
    cluster("kernel-source-hash", "libcluster kernel, source hash", SOURCE_HASH, KERNEL),
    Contender { name: "libuv", title: "libuv hand-over (uv_write2)", kind: Kind::Uv },
    Contender { name: "nginx", title: "nginx, return 200", kind: Kind::Nginx { reuseport: false } },
    Contender { name: "nginx-reuseport", title: "nginx, return 200, reuseport", kind: Kind::Nginx { reuseport: true } },
    node("node-rr", "node:cluster SCHED_RR", "rr", None),
    node("node-none", "node:cluster SCHED_NONE", "none", None),
    node("cluster-rs-passed", "cluster-rs passed", "rr", Some("passed")),
    node("cluster-rs-kernel", "cluster-rs kernel", "rr", Some("kernel")),
    node("cluster-rs-rotation", "cluster-rs rotation", "rr", Some("rotation")),
    node("cluster-rs", "cluster-rs, default settings", "rr", Some("auto")),
];

pub fn named(name: &str) -> Option<&'static Contender> {
    ALL.iter().find(|contender| contender.name == name)
}

/// How a server is started.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub workers: usize,
    pub addresses: usize,
    /// A byte is sent before a connection is closed.
    pub answers: bool,
    /// Workers in C use an event loop also for a single address.
    pub event_loop: bool,
    /// Workers speak HTTP; those in C have an event loop then.
    pub http: bool,
    /// Workers accept nothing until the board says so.
    pub held: bool,
}

impl Shape {
    pub const fn workers(workers: usize) -> Self {
        Self { workers, addresses: 1, answers: false, event_loop: false, http: false, held: false }
    }

    pub const fn answering(mut self) -> Self {
        self.answers = true;
        self
    }
}

impl Contender {
    pub fn is_node(&self) -> bool {
        matches!(self.kind, Kind::Node { .. })
    }

    /// One of the programs in C, whose workers know all of `Shape` but what is said to be Node's.
    pub fn is_in_c(&self) -> bool {
        matches!(self.kind, Kind::Raw(_) | Kind::Cluster { .. })
    }

    /// Of this project, and so built from what is in the checkout.
    pub fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Cluster { .. } | Kind::Node { ours: Some(_), .. })
    }

    /// How many workers it has when so many are wanted: the single process is its own.
    pub fn workers(&self, wanted: usize) -> usize {
        if self.kind == Kind::Raw("single") { 1 } else { wanted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_fit_into_results() {
        for (i, contender) in ALL.iter().enumerate() {
            assert!(ALL[..i].iter().all(|other| other.name != contender.name), "{} twice", contender.name);
            assert!(contender.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", contender.name);
            assert_eq!(named(contender.name), Some(contender));
        }
        assert_eq!(named("nobody"), None);
    }
}
