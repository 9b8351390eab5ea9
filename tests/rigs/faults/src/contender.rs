//! Who is put to the test.

/// A way to serve one port with several processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contender {
    /// On the command line.
    pub name: &'static str,
    /// In results.
    pub title: &'static str,
    pub policy: &'static str,
    pub mechanism: &'static str,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// workers/cluster.c
    C,
    /// workers/node.cjs with cluster-rs
    ClusterRs,
    /// workers/node.cjs with node:cluster; what it breaks is told, and fails nothing.
    Stock,
}

const fn contender(
    name: &'static str,
    title: &'static str,
    policy: &'static str,
    mechanism: &'static str,
    kind: Kind,
) -> Contender {
    Contender { name, title, policy, mechanism, kind }
}

pub static ALL: [Contender; 13] = [
    contender("none", "libcluster none", "none", "auto", Kind::C),
    contender("passed", "libcluster passed", "rr", "passed", Kind::C),
    contender("kernel", "libcluster kernel", "rr", "kernel", Kind::C),
    contender("rotation", "libcluster rotation", "rr", "rotation", Kind::C),
    contender("passed-least", "libcluster passed LEAST_LOADED", "least", "passed", Kind::C),
    contender("passed-hash", "libcluster passed SOURCE_HASH", "hash", "passed", Kind::C),
    contender("kernel-hash", "libcluster kernel SOURCE_HASH", "hash", "kernel", Kind::C),
    contender("cluster-rs-none", "cluster-rs none", "none", "none", Kind::ClusterRs),
    contender("cluster-rs-passed", "cluster-rs passed", "rr", "passed", Kind::ClusterRs),
    contender("cluster-rs-kernel", "cluster-rs kernel", "rr", "kernel", Kind::ClusterRs),
    contender("cluster-rs-rotation", "cluster-rs rotation", "rr", "rotation", Kind::ClusterRs),
    contender("node-rr", "node:cluster RR", "rr", "stock", Kind::Stock),
    contender("node-none", "node:cluster NONE", "none", "stock", Kind::Stock),
];

pub fn named(name: &str) -> Option<Contender> {
    ALL.iter().find(|contender| contender.name == name).copied()
}

impl Contender {
    pub fn is_stock(&self) -> bool {
        self.kind == Kind::Stock
    }

    pub fn is_c(&self) -> bool {
        self.kind == Kind::C
    }

    /// Connections per second that it can be expected to serve on a small machine while workers come and go.
    pub fn rate(&self) -> f64 {
        if self.is_c() { 2000.0 } else { 300.0 }
    }

    /// Whether connections are dealt out in exact turns.
    pub fn is_in_turns(&self) -> bool {
        self.policy == "rr" && self.mechanism != "rotation"
    }
}
