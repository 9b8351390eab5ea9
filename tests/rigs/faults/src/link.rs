//! A slow and lossy link in user space (workers/link.c), and the network at its far end, in which servers are started.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use cluster_bench::error::{Error, Result, failed};
use cluster_bench::workshop::Workshop;
use nix::sched::{CloneFlags, setns};

/// The addresses that workers/link.c gives to the ends.
pub const FAR: [u8; 4] = [10, 99, 0, 2];
pub const NEAR: [u8; 4] = [10, 99, 0, 11];
pub const DELAY_MS: u64 = 20;
const LOST_OF_1000: u64 = 10;

pub struct Link {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    near: File,
    far: File,
}

impl Link {
    /// From the network of this thread into a new one.
    pub fn start(shop: &Workshop, seed: u64) -> Result<Self> {
        let mut command = Command::new(shop.program("link")?);
        command.args([seed, DELAY_MS, LOST_OF_1000].map(|word| word.to_string()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed("the link"))?;
        let Some(output) = child.stdout.take() else { return Err(failed("the link")("without output")) };
        let (mut output, mut line) = (BufReader::new(output), String::new());
        output.read_line(&mut line).map_err(failed("the link"))?;
        if line != "ready\n" {
            let _ = child.wait();
            return Err(Error::Unavailable(format!("there is no link: {}", line.trim())));
        }
        let network = |path: String| File::open(&path).map_err(failed(&path));
        let near = network("/proc/thread-self/ns/net".into())?;
        let far = network(format!("/proc/{}/ns/net", child.id()))?;
        let link = Self { child, output, near, far };
        // More may wait there than the machine allows elsewhere.
        link.at_far_end(|| std::fs::write("/proc/sys/net/core/somaxconn", "16384").map_err(failed("somaxconn")))?;
        Ok(link)
    }

    /// What is started meanwhile is in the network at the far end.
    pub fn at_far_end<T>(&self, what: impl FnOnce() -> Result<T>) -> Result<T> {
        setns(&self.far, CloneFlags::CLONE_NEWNET).map_err(failed("the network at the far end"))?;
        let outcome = what();
        if let Err(errno) = setns(&self.near, CloneFlags::CLONE_NEWNET) {
            // Everything after this would be measured in the wrong network.
            eprintln!("cluster-faults: cannot return from the far end of the link: {errno}");
            std::process::exit(1);
        }
        outcome
    }

    /// How many packets were carried and lost, in words.
    pub fn end(mut self) -> String {
        drop(self.child.stdin.take());
        let mut line = String::new();
        let _ = self.output.read_line(&mut line);
        line.trim().to_owned()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
