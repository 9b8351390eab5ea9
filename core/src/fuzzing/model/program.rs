//! A program that the primary starts and replaces, and that inherits a file: always the same, whatever else has the number by then.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::life::{AT_MOST, Life};
use crate::fuzzing::puppet::elsewhere;
use crate::primary::SpawnOptions;
use crate::restart::Respawn;
use crate::settings::Settings;
use crate::sys::socket;

/// A slot is not started anew more often than that in a second.
const STARTS_MOST: u32 = 3;

pub(super) struct Program {
    id: u32,
    starts: u32,
    /// What it inherits, under which number.
    number: RawFd,
    file: String,
    /// As long as it is open no other file is called the same.
    _other_end: OwnedFd,
}

fn files_of(process: &str) -> BTreeMap<RawFd, String> {
    let listed = std::fs::read_dir(format!("/proc/{process}/fd")).expect("/proc");
    let files = listed.filter_map(|entry| {
        let path = entry.ok()?.path();
        let number = path.file_name()?.to_str()?.parse().ok()?;
        Some((number, std::fs::read_link(path).ok()?.to_string_lossy().into_owned()))
    });
    files.collect()
}

impl Life {
    pub(super) fn start_program(&mut self) -> TestCaseResult {
        if self.limit.is_some() {
            return Ok(());
        }
        if self.program.is_some() {
            return self.restart_program();
        }
        let (other_end, writer) = socket::pipe().unwrap();
        let number = writer.as_raw_fd();
        let options = SpawnOptions {
            file: Some("sleep".into()),
            arguments: Some(vec!["sleep".into(), "600".into()]),
            inherit: vec![number],
            ..SpawnOptions::default()
        };
        let slot = self.model.lowest_slot();
        let id = self.primary.spawn(&options).unwrap();
        self.begins(id, slot)?;
        let file = files_of("thread-self").remove(&number).expect("a file of ours");
        self.program = Some(Program { id, starts: 1, number, file, _other_end: elsewhere(other_end) });
        self.check_program()
        // The writer is closed here: whatever is opened next has its number.
    }

    fn restart_program(&mut self) -> TestCaseResult {
        let Some(program) = self.program.as_mut().filter(|program| program.starts < STARTS_MOST) else { return Ok(()) };
        program.starts += 1;
        let before = program.id;
        self.primary.kill(before, libc::SIGKILL).unwrap();
        let gone = self.model.workers.remove(&before).expect("a worker");
        let end = Instant::now() + AT_MOST;
        let after = loop {
            let newest = self.primary.worker_ids().last().copied().unwrap_or(0);
            if newest > self.model.last_id {
                break newest;
            }
            prop_assert!(Instant::now() < end, "worker {} is not replaced", before);
            self.turn(Duration::from_millis(5));
        };
        self.begins(after, gone.slot)?;
        self.program.as_mut().expect("the program").id = after;
        self.check_program()
    }

    /// It has what it inherits, its channel, and nothing else.
    fn check_program(&self) -> TestCaseResult {
        let Some(Program { id, number, file, .. }) = &self.program else { return Ok(()) };
        let pid = self.primary.worker_info(*id).unwrap().worker.pid.to_string();
        let end = Instant::now() + AT_MOST;
        loop {
            let mut files = files_of(&pid);
            let has = files.remove(number);
            let sockets = files.iter().filter(|(number, _)| **number > 2).map(|(_, file)| file.starts_with("socket:"));
            // What is to be closed at exec(2) may be there for a moment.
            if has.as_ref() == Some(file) && sockets.collect::<Vec<bool>>() == [true] {
                return Ok(());
            }
            prop_assert!(
                Instant::now() < end,
                "it was to inherit {} as {} and has {:?}, and {:?}",
                file,
                number,
                has,
                files
            );
            std::thread::yield_now();
        }
    }

    pub(super) fn end_program(&mut self) -> TestCaseResult {
        let Some(Program { id, .. }) = self.program.take() else { return Ok(()) };
        let settings = Settings { respawn: Respawn::Never, ..self.primary.settings().clone() };
        self.primary.configure(settings).unwrap();
        self.primary.kill(id, libc::SIGKILL).unwrap();
        self.model.workers.remove(&id);
        let end = Instant::now() + AT_MOST;
        while self.primary.worker_ids().contains(&id) {
            prop_assert!(Instant::now() < end, "worker {} was killed and is there", id);
            self.turn(Duration::from_millis(5));
        }
        Ok(())
    }
}
