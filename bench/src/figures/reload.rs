//! How long it takes to replace all workers.

use std::process::Command;

use super::{Figure, How, Measure, Round, measure};
use crate::contender::Kind;
use crate::error::{Error, Result, fail, failed};

const PARALLEL: u32 = 8;
/// What a worker needs before it listens, milliseconds.
const START: u32 = 100;
/// CL_NONE, and 0 for the default.
const TERMS: [(&str, &str, i32); 2] = [("at-once", "min_ready off", -1), ("default", "min_ready as it is", 0)];

pub static FIGURE: Figure = Figure {
    name: "reload",
    title: "a reload of 64 workers that start in 100 ms each, 8 at a time",
    baseline: "none",
    contenders: &["none", "passed", "kernel", "rotation"],
    more: &[],
    rounds: |plan| plan.rounds,
    measures,
    round,
};

fn measures(_: &crate::plan::Plan) -> Vec<Measure> {
    TERMS.iter().map(|(name, title, _)| measure(*name, *title, "ms", 0, How::Median)).collect()
}

fn round(round: &mut Round) -> Result<()> {
    let Kind::Cluster { policy, mechanism } = round.contender.kind else {
        return Err(Error::Unavailable("it has no reload".into()));
    };
    let program = round.shop.program("reload")?;
    for (name, _, min_ready) in TERMS {
        let mut command = Command::new(&program);
        command.args([mechanism, policy, round.plan.reload_workers, PARALLEL, START].map(|number| number.to_string()));
        let output = command.arg(min_ready.to_string()).output().map_err(failed("reload"))?;
        match output.status.code() {
            Some(0) => {}
            Some(77) => return Err(Error::Unavailable("it is not allowed here".into())),
            _ => return fail(format!("reload: {}", String::from_utf8_lossy(&output.stderr).trim())),
        }
        let told = String::from_utf8_lossy(&output.stdout);
        round.note(name, told.trim().parse().map_err(failed("what reload has told"))?);
    }
    Ok(())
}
