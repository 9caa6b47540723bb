//! Programs without the library whose handlers do not do what most do.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use super::{signals_of, Row, Stage, NOT_OPTED_IN, NO_ANSWER};
use crate::process::Outcome;
use crate::victims::until;

/// The cases.
pub const CASES: &[Row] = &[
    ("too_slow_plain", false, || late("slow", "has not returned", "1 1")),
    ("handler_left_by_longjmp", false, || late("leaves", "has not returned", "1 1")),
    ("handler_ends_its_thread", false, || late("ends", "has not returned", "1 1")),
    ("handler_execs", false, || late("execs", "has not returned", "0 0")),
    ("signal_waited_for", false, || late("waits", "too late", "1 1")),
    ("handler_for_once", false, handler_for_once),
    ("handler_is_gone", false, handler_is_gone),
    ("handler_beside_others", false, || travels("nodefer", "5 5")),
    ("handler_on_another_stack", false, || travels("aside", "5 5")),
    ("handler_forgets", false, || travels("forgets", "5 0")),
    ("asked_in_vfork", false, asked_in_vfork),
    ("asked_when_stopped", false, asked_when_stopped),
    ("asked_when_stopped_handler", false, asked_when_stopped_by_the_library),
];

const REQUIRE: [&str; 2] = ["--consent", "require"];
const SOON: [&str; 4] = ["--consent", "require", "--consent-timeout", "300ms"];

fn heard(stage: &mut Stage, wanted: &str) -> Outcome {
    let process = &mut stage.process;
    let mut log = String::new();
    until("signals to be heard", || {
        let asked = process.send("log").and_then(|()| process.expect("LOG ").map(drop));
        log = asked.and_then(|()| process.expect(".")).unwrap_or_else(|e| e);
        log == wanted
    })
    .map_err(|e| format!("{e}: {log:?}, not {wanted:?}"))
}

/// There is no consent, which is known when the time is over; the program goes on, and is told.
fn late(way: &str, text: &str, log: &str) -> Outcome {
    let mut stage = Stage::new("consent_own", &[way])?;
    let begin = Instant::now();
    stage.fails(&SOON, NO_ANSWER, text)?;
    let took = begin.elapsed();
    if took > Duration::from_secs(8) {
        return Err(format!("let it go after {took:?}"));
    }
    if way == "execs" {
        // The other program has no handlers, and is sent nothing.
        stage.process.expect("READY")?;
    }
    heard(&mut stage, log)?;
    stage.process.ping()?;
    stage.process.verify()
}

fn travels(way: &str, log: &str) -> Outcome {
    let mut stage = Stage::new("consent_own", &[way])?;
    for _ in 0..3 {
        stage.dump(&[&REQUIRE[..], &["--leave-running", "--force"]].concat())?.expect(0, "dump")?;
        stage.process.ping()?;
    }
    fs::remove_file(stage.image()).map_err(|e| e.to_string())?;
    for _ in 0..2 {
        stage.travel(&REQUIRE, &[])?;
    }
    heard(&mut stage, log)?;
    stage.process.verify()
}

/// SA_RESETHAND: the second time there is no handler, and a signal would end it.
fn handler_for_once() -> Outcome {
    let mut stage = Stage::new("consent_own", &["once"])?;
    stage.dump(&[&REQUIRE[..], &["--leave-running"]].concat())?.expect(0, "dump")?;
    fs::remove_file(stage.image()).map_err(|e| e.to_string())?;
    stage.fails(&REQUIRE, NOT_OPTED_IN, "no signal was sent")?;
    heard(&mut stage, "1 1")?;
    stage.process.verify()
}

/// It has one when it is looked at, and none when the signal comes, which would end it.
fn handler_is_gone() -> Outcome {
    let mut stage = Stage::new("consent_own", &["denies"])?;
    stage.fails(&REQUIRE, NOT_OPTED_IN, "has no handler")?;
    heard(&mut stage, "0 0")?;
    stage.process.verify()
}

/// A thread in vfork takes no signal and cannot be stopped: nothing is sent that could not be taken back.
fn asked_in_vfork() -> Outcome {
    let mut stage = Stage::new("consent_own", &["spawns"])?;
    let before = signals_of(stage.process.pid);
    stage.fails(&SOON, NO_ANSWER, "in vfork")?;
    if signals_of(stage.process.pid) != before {
        return Err("signals have changed".into());
    }
    // This ends the child.
    stage.process.send("")?;
    heard(&mut stage, "0 0")?;
    stage.travel(&REQUIRE, &[])?;
    heard(&mut stage, "1 1")?;
    stage.process.verify()
}

fn asked_when_stopped() -> Outcome {
    let mut stage = Stage::new("consent_own", &[])?;
    stands_asked(&mut stage)?;
    heard(&mut stage, "0 0")?;
    stage.process.verify()
}

fn asked_when_stopped_by_the_library() -> Outcome {
    let mut stage = Stage::new("consent_handler", &[])?;
    stands_asked(&mut stage)?;
    stage.logs("")?;
    stage.process.verify()
}

/// Stopped by SIGSTOP it is asked in vain, and stopped it stays.
fn stands_asked(stage: &mut Stage) -> Outcome {
    let pid = stage.process.pid;
    let send = |signal| kill(Pid::from_raw(pid), signal).map_err(|e| e.to_string());
    let state = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("State:\t"));
        line.and_then(|l| l.chars().next())
    };
    send(Signal::SIGSTOP)?;
    until("it to stand", || state() == Some('T'))?;
    let before = signals_of(pid);
    stage.fails(&SOON, NO_ANSWER, "it is stopped")?;
    until("it to stand as before", || state() == Some('T'))?;
    if signals_of(pid) != before {
        return Err(format!("signals have changed: {:?}, not {before:?}", signals_of(pid)));
    }
    send(Signal::SIGCONT)
}
