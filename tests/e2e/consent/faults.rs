//! Either side dies or lies.

use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use super::{Row, Stage, FAILED, NO_ANSWER};
use crate::command;
use crate::process::{self, Outcome};

/// The cases.
pub const CASES: &[Row] = &[
    ("killed_dumper", false, killed_dumper),
    ("two_dumpers", false, two_dumpers),
    ("damaged_blocks", false, damaged_blocks),
];

/// A dumper that dies while callbacks run is noticed.
fn killed_dumper() -> Outcome {
    let mut stage = Stage::new("consent", &["slow"])?;
    let begun = command::begin(&mut stage.dumper(&[]), &stage.dir)?;
    stage.logs(" Bs As")?;
    let tracers = process::children(begun.pid);
    for pid in tracers.iter().chain([&begun.pid]) {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    begun.finish(process::LIMIT)?;
    stage.logs(" Bs As A3 B3")?;
    stage.ask("agree", "DONE")?;
    stage.travel(&[], &[])?;
    stage.process.verify()
}

/// The second of two dumpers leaves the first one's question alone.
fn two_dumpers() -> Outcome {
    let mut stage = Stage::new("consent", &["slow"])?;
    let first = command::begin(&mut stage.dumper(&["--leave-running"]), &stage.dir)?;
    stage.logs(" Bs As")?;
    let mut command = command::dumper(stage.mode.uid());
    command.arg(stage.process.pid.to_string()).arg("-o").arg(stage.dir.join("second.elf"));
    command::run(&mut command, &stage.dir)?.expect(FAILED, "dump")?.says("another dumper")?;
    first.finish(process::LIMIT)?.expect(0, "dump")?;
    stage.logs(" Bs As A2 B2")?;
    stage.process.verify()
}

/// Blocks that lie: an error, at once, and the program is not disturbed.
fn damaged_blocks() -> Outcome {
    for (lie, status, text) in [
        ("magic", FAILED, "damaged"),
        ("version", FAILED, "version is 77"),
        ("signal", FAILED, "suspend signal"),
        ("unhandled", FAILED, "no handler"),
        ("cookie", FAILED, "cookie"),
        ("nowhere", FAILED, "address of the cookie"),
        ("answer", FAILED, "answer"),
        ("silent", NO_ANSWER, "has not taken the signal"),
        ("behind", NO_ANSWER, "of the suspension before"),
        ("mad", FAILED, "damaged"),
        ("tid", NO_ANSWER, "has not taken the signal"),
    ] {
        let mut stage = Stage::new("consent_lies", &[lie])?;
        let begin = Instant::now();
        stage
            .fails(&["--consent-timeout", "300ms"], status, text)
            .map_err(|e| format!("{lie}: {e}"))?;
        if begin.elapsed() > Duration::from_secs(20) {
            return Err(format!("{lie}: took {:?}", begin.elapsed()));
        }
        stage.process.ping()?;
        // Not looked at, it is memory like any other.
        stage.travel(&["--consent", "ignore"], &[])?;
        stage.process.verify()?;
    }
    Ok(())
}
