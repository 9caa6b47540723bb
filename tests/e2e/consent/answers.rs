//! The three answers that a dump may get, in every language; what callbacks do and are told.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{signals_of, Row, Stage, FAILED, NOT_OPTED_IN, NO_ANSWER, VETO};
use crate::command;
use crate::process::{Kind, Outcome};
use crate::reaper::Exit;
use crate::scratch;
use crate::victims::{resume_with, Mode};

/// The cases.
pub const CASES: &[Row] = &[
    ("nobody_home_c", false, || nobody_home("plain")),
    ("nobody_home_cc", false, || nobody_home("exceptions")),
    ("nobody_home_rs", false, || nobody_home("rust_threads")),
    ("agrees_c", false, || travels("consent", &[])),
    ("agrees_cc", false, || travels("consent_cc", &[])),
    ("agrees_rs", false, || travels("consent_rs", &[])),
    ("agrees_handler", false, || travels("consent_handler", &[])),
    ("veto_c", false, || veto("consent")),
    ("veto_cc", false, || veto("consent_cc")),
    ("veto_rs", false, || veto("consent_rs")),
    ("veto_handler", false, || veto("consent_handler")),
    ("told_c", false, || told("consent", Mode::User)),
    ("told_cc", false, || told("consent_cc", Mode::User)),
    ("told_rs", false, || told("consent_rs", Mode::User)),
    ("told_handler", false, || told("consent_handler", Mode::User)),
    ("told_root", true, || told("consent", Mode::Root)),
    ("one_after_the_other", false, one_after_the_other),
    ("crash", false, || crash("consent")),
    ("crash_handler", false, || crash("consent_handler")),
    ("forking_callback", false, || travels("consent", &["fork"])),
    ("child_returns_from_callback", false, || travels("consent", &["return"])),
    ("forking_callback_handler", false, || travels("consent_handler", &["fork"])),
    ("execs_in_callback", false, || execs_in_callback("consent")),
    ("execs_in_callback_handler", false, || execs_in_callback("consent_handler")),
    ("restarts", false, || restarts("consent")),
    ("restarts_handler", false, || restarts("consent_handler")),
    ("exec_forgets", false, || exec_forgets("consent")),
    ("exec_forgets_handler", false, || exec_forgets("consent_handler")),
    ("real_time_signals", false, || travels("consent", &["rt"])),
    ("spawning_threads", false, spawning),
    ("callback_leaves_a_child", false, callback_leaves_a_child),
    ("busy_threads", false, || travels("consent", &["threads"])),
    ("storm", false, || storm("consent_handler")),
    ("storm_thread", false, || storm("consent")),
    ("required_and_given", false, required_and_given),
    ("ignored", false, ignored),
    ("failure_is_told", false, failure_is_told),
    ("clones_differ", false, clones_differ),
];

fn nobody_home(victim: &str) -> Outcome {
    let mut stage = Stage::new(victim, &[])?;
    let before = signals_of(stage.process.pid);
    stage.fails(&["--consent", "require"], NOT_OPTED_IN, "has no handler")?;
    if signals_of(stage.process.pid) != before {
        return Err("signals have changed".into());
    }
    stage.process.ping()?;
    // In the default mode it is dumped as ever.
    stage.travel(&[], &[])?;
    stage.process.verify()
}

fn veto(victim: &str) -> Outcome {
    let mut stage = Stage::new(victim, &["veto"])?;
    for options in [&[][..], &["--leave-running"], &["--consent", "require"]] {
        stage.fails(options, VETO, "a transaction is open")?;
    }
    // The one that had agreed is told; the one that refused knows.
    stage.logs(" Bs As B3 Bs As B3 Bs As B3")?;
    stage.process.ping()?;
    // It has a say, not the last word.
    stage.travel(&["--consent", "ignore"], &[])?;
    stage.process.verify()
}

fn crash(victim: &str) -> Outcome {
    let mut stage = Stage::new(victim, &["crash"])?;
    let begin = Instant::now();
    stage.fails(&[], FAILED, "ended while it was asked")?;
    if begin.elapsed() > Duration::from_secs(20) {
        return Err("the dumper waited for a program that had ended".into());
    }
    stage.process.exit().map(drop)
}

/// Dumped and resumed twice, once under a new pid.
fn travels(victim: &str, words: &[&str]) -> Outcome {
    let mut stage = Stage::new(victim, words)?;
    for left in 0..3 {
        stage.dump(&["--leave-running", "--force"])?.expect(0, "dump")?;
        stage.process.ping().map_err(|e| format!("left {left}: {e}"))?;
    }
    fs::remove_file(stage.image()).map_err(|e| e.to_string())?;
    stage.travel(&[], &[])?;
    stage.travel(&["--consent", "require"], &["--new-pid"])?;
    stage.travel(&[], &[])?;
    let left = " Bs As A2 B2".repeat(3);
    stage.logs(&(left + &" Bs As A1 B1".repeat(3)))?;
    stage.process.verify()
}

fn storm(victim: &str) -> Outcome {
    let mut stage = Stage::new(victim, &[])?;
    stage.ask("storm", "DONE")?;
    stage.logs("")?;
    // And beside a dumper.
    stage.process.send("storm")?;
    stage.dump(&["--leave-running"])?.expect(0, "dump")?;
    stage.process.expect("DONE")?;
    stage.logs(" Bs As A2 B2")?;
    stage.process.verify()
}

fn required_and_given() -> Outcome {
    let mut stage = Stage::new("consent", &[])?;
    stage.travel(&["--consent", "require"], &[])?;
    stage.logs(" Bs As A1 B1")?;
    stage.process.verify()
}

fn ignored() -> Outcome {
    let mut stage = Stage::new("consent", &["veto"])?;
    stage.travel(&["--consent", "ignore"], &["--new-pid"])?;
    stage.travel(&["--consent", "ignore"], &[])?;
    stage.logs("")?;
    // Under its new pid it is asked as ever.
    stage.fails(&[], VETO, "a transaction is open")?;
    stage.ask("agree", "DONE")?;
    stage.dump(&["--leave-running"])?.expect(0, "dump")?;
    stage.logs(" Bs As B3 Bs As A2 B2")?;
    stage.process.ping()
}

/// What goes wrong after the consent is told, too.
fn failure_is_told() -> Outcome {
    let mut stage = Stage::new("consent", &[])?;
    // Whoever reads the image ends before it is whole.
    let mut shell = Command::new("/bin/sh");
    let script = format!(
        "{} {} -o - --kill | head -c 1000 >/dev/null",
        scratch::dumper().display(),
        stage.process.pid
    );
    command::as_user(&mut shell, Mode::User.uid());
    shell.args(["-c", &script]);
    command::run(&mut shell, &stage.dir)?;
    stage.logs(" Bs As A3 B3")?;
    stage.process.verify()
}

/// A question waits until the callbacks were told the end of the suspension before.
fn one_after_the_other() -> Outcome {
    let mut stage = Stage::new("consent", &["lags"])?;
    let again = ["--leave-running", "--force"];
    stage.dump(&again)?.expect(0, "dump")?;
    let hurried = stage.dump(&[&again[..], &["--consent-timeout", "100ms"]].concat())?;
    hurried.expect(NO_ANSWER, "dump")?.says("of the suspension before")?;
    stage.dump(&again)?.expect(0, "dump")?;
    fs::remove_file(stage.image()).map_err(|e| e.to_string())?;
    stage.travel(&[], &[])?;
    stage.travel(&[], &[])?;
    stage.logs(" Bs As A2 B2 Bs As A2 B2 Bs As A1 B1 Bs As A1 B1")?;
    stage.process.verify()
}

fn clones_differ() -> Outcome {
    let mut stage = Stage::new("consent", &[])?;
    stage.dump(&[])?.expect(0, "dump")?;
    command::gone(&mut stage.process)?;
    let image = stage.image();
    let mut seen = Vec::new();
    let mut clones = Vec::new();
    for _ in 0..3 {
        let mut clone = resume_with(Mode::User, &image, &stage.dir, Kind::Pipes, &["--new-pid"])?;
        clone.ping()?;
        clone.send("random")?;
        clone.expect("RANDOM ")?;
        seen.push(clone.expect("\n")?);
        clones.push(clone);
    }
    seen.sort();
    seen.dedup();
    if seen.len() != 3 {
        return Err(format!("clones have the same bits: {seen:?}"));
    }
    clones.into_iter().try_for_each(|mut clone| clone.verify())
}

/// What a program is told of where it is; root's pids come back in place, a user's in a namespace.
fn told(victim: &str, mode: Mode) -> Outcome {
    let mut stage = Stage::as_(mode, victim, &[])?;
    stage.travel(&["--consent-timeout", "1.5s"], &[])?;
    stage.ask("told", "TOLD pid 0 machine 0 timeout 1500.")?;
    stage.travel(&[], &["--new-pid"])?;
    // Thirty seconds, if nothing else is said.
    stage.ask("told", "TOLD pid 1 machine 0 timeout 30000.")?;
    stage.travel(&[], &[])?;
    stage.ask("told", "TOLD pid 0 machine 0 timeout 30000.")?;
    stage.process.verify()
}

/// A callback that puts another program in its place: that gets no signal, and is not waited for.
fn execs_in_callback(victim: &str) -> Outcome {
    let mut stage = Stage::new(victim, &["execs"])?;
    let begin = Instant::now();
    stage.fails(&[], FAILED, "become another program")?;
    if begin.elapsed() > Duration::from_secs(20) {
        return Err("the dumper waited for a program that was gone".into());
    }
    stage.process.expect("READY")?;
    stage.process.ping()?;
    stage.process.verify()
}

/// A program that another one puts in its place has not opted in.
fn exec_forgets(victim: &str) -> Outcome {
    let mut stage = Stage::new(victim, &[])?;
    stage.ask("exec", "READY")?;
    stage.fails(&["--consent", "require"], NOT_OPTED_IN, "has no handler")?;
    stage.travel(&[], &[])?;
    stage.logs("")?;
    stage.process.verify()
}

/// Children of vfork have their parent's memory until they start a program: a signal would end that.
fn spawning() -> Outcome {
    let mut stage = Stage::new("consent", &["spawns"])?;
    for _ in 0..20 {
        stage.dump(&["--leave-running", "--force"])?.expect(0, "dump")?;
        stage.process.ping()?;
    }
    stage.logs(&" Bs As A2 B2".repeat(20))?;
    stage.process.verify()
}

/// Where consent is demanded of all, a child that turns up meanwhile has none to give.
fn callback_leaves_a_child() -> Outcome {
    let mut stage = Stage::new("consent", &["keeps"])?;
    stage.fails(&["--consent", "require"], NOT_OPTED_IN, "that had been asked were told")?;
    stage.logs(" Bs As A3 B3")?;
    stage.dump(&["--leave-running"])?.expect(0, "dump")?;
    stage.process.ping()
}

/// A program that becomes another one all the time: no signal meets one that has no handler yet, which
/// would end it.
fn restarts(victim: &str) -> Outcome {
    let mut stage = Stage::new(victim, &["restarts"])?;
    for _ in 0..25 {
        let done = stage.dump(&["--leave-running", "--force", "--consent-timeout", "5s"])?;
        if ![Exit::Code(0), Exit::Code(FAILED)].contains(&done.exit) {
            return Err(done.tell());
        }
    }
    stage.process.ping()?;
    stage.process.verify()
}
