//! Either side dies or lies.

use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use super::{Row, Stage, FAILED, NO_ANSWER, REFUSED, VETO};
use crate::command;
use crate::process::{self, Outcome};
use crate::victims::Mode;

/// The cases.
pub const CASES: &[Row] = &[
    ("killed_dumper", false, killed_dumper),
    ("two_dumpers", false, two_dumpers),
    ("damaged_blocks", false, damaged_blocks),
    ("memory_that_does_not_answer", true, memory_that_does_not_answer),
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
        ("many", FAILED, "1001 control blocks"),
        ("cut", FAILED, "memory"),
        ("unmaps", FAILED, "is gone"),
        ("misleads", VETO, "done [2J  on"),
        ("name", FAILED, "(a\\u{1b}[2Jb)"),
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

/// A block, or its cookie, in memory that nobody fills: the dumper does not wait for it for ever, and as
/// little does `check`.
fn memory_that_does_not_answer() -> Outcome {
    for lie in ["withheld", "aside"] {
        let mut stage = Stage::as_(Mode::Root, "consent_lies", &[lie])?;
        stage.fails(&["--consent-timeout", "1s"], NO_ANSWER, "its memory does not")?;
        let mut check = command::dumper(stage.mode.uid());
        check.arg("check").arg(stage.process.pid.to_string());
        command::run(&mut check, &stage.dir)?.expect(NO_ANSWER, "check")?;
        // What stands in its way otherwise is told.
        stage.fails(&["--consent", "ignore"], REFUSED, "userfaultfd")?;
        stage.process.ping()?;
        stage.process.verify()?;
    }
    Ok(())
}
