//! Asking first: what `dumper` does with programs that want a say, and with those that do not.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::command::{self, Finished};
use crate::process::{self, Kind, Outcome, Process};
use crate::refusals::nothing_left;
use crate::scratch;
use crate::victims::{resume_with, until, Mode, Victim};
use crate::Case;

/// Exit statuses of `dumper`.
const FAILED: i32 = 1;
const NOT_OPTED_IN: i32 = 6;
const VETO: i32 = 7;
const NO_ANSWER: i32 = 8;

type Body = fn() -> Outcome;

/// All cases.
pub fn cases() -> Vec<Case> {
    let list: &[(&str, Body)] = &[
        ("nobody_home_c", || nobody_home("plain")),
        ("nobody_home_cc", || nobody_home("exceptions")),
        ("nobody_home_rs", || nobody_home("rust_threads")),
        ("veto_c", || veto("consent")),
        ("veto_cc", || veto("consent_cc")),
        ("veto_rs", || veto("consent_rs")),
        ("veto_handler", || veto("consent_handler")),
        ("section_refuses_c", || section_refuses("consent")),
        ("section_refuses_cc", || section_refuses("consent_cc")),
        ("section_refuses_rs", || section_refuses("consent_rs")),
        ("section_refuses_handler", || section_refuses("consent_handler")),
        ("section_is_waited_for", || section_is_waited_for("consent")),
        ("section_is_waited_for_handler", || section_is_waited_for("consent_handler")),
        ("section_with_a_limit", section_with_a_limit),
        ("too_slow", || too_slow("consent")),
        ("too_slow_handler", || too_slow("consent_handler")),
        ("blocked_signal", || blocked("consent_handler", "auto")),
        ("blocked_signal_plain", || blocked("consent_plain", "require")),
        ("one_after_the_other", one_after_the_other),
        ("crash", || crash("consent")),
        ("crash_handler", || crash("consent_handler")),
        ("forking_callback", || travels("consent", &["fork"])),
        ("child_returns_from_callback", || travels("consent", &["return"])),
        ("forking_callback_handler", || travels("consent_handler", &["fork"])),
        ("real_time_signals", || travels("consent", &["rt"])),
        ("busy_threads", || travels("consent", &["threads"])),
        ("storm", storm),
        ("required_and_given", required_and_given),
        ("ignored", ignored),
        ("mere_handlers_get_no_signal", mere_handlers),
        ("plain_program_dies", plain_dies),
        ("tree_in_order", tree_in_order),
        ("tree_vetoed", tree_vetoed),
        ("failure_is_told", failure_is_told),
        ("killed_dumper", killed_dumper),
        ("two_dumpers", two_dumpers),
        ("suspends_itself", suspends_itself),
        ("suspends_itself_and_stays", suspends_itself_and_stays),
        ("suspends_itself_in_vain", suspends_itself_in_vain),
        ("clones_differ", clones_differ),
        ("damaged_blocks", damaged_blocks),
    ];
    let case = |&(name, body): &(&str, Body)| Case::new(format!("consent::{name}"), false, body);
    list.iter().map(case).collect()
}

/// A program under test, and how it is dumped.
struct Stage {
    dir: PathBuf,
    process: Process,
}

impl Stage {
    fn new(victim: &str, words: &[&str]) -> Outcome<Stage> {
        let dir = scratch::directory("consent", Mode::User.uid()).map_err(|e| e.to_string())?;
        let mut command = Command::new(Victim::named(victim)?.program());
        command::as_user(&mut command, Mode::User.uid());
        command.current_dir(&dir).args(words).env("DUMPER", scratch::dumper());
        command.env("VICTIM", victim);
        let mut process = process::start(command, Kind::Pipes, &dir)?;
        process.expect("READY")?;
        Ok(Stage { dir, process })
    }

    fn image(&self) -> PathBuf {
        self.dir.join("resume.elf")
    }

    fn dumper(&self, options: &[&str]) -> Command {
        let mut command = command::dumper(Mode::User.uid());
        command.arg(self.process.pid.to_string()).arg("-o").arg(self.image());
        command.args(["--no-sync"]).args(options);
        command
    }

    fn dump(&self, options: &[&str]) -> Outcome<Finished> {
        command::run(&mut self.dumper(options), &self.dir)
    }

    /// A dump that must fail with this status and text; the program lives, and there is no image.
    fn fails(&mut self, options: &[&str], status: i32, text: &str) -> Outcome {
        self.dump(options)?.expect(status, "dump")?.says(text)?;
        nothing_left(&self.dir, &[])
    }

    fn ask(&mut self, line: &str, answer: &str) -> Outcome {
        self.process.send(line)?;
        self.process.expect(answer).map(drop)
    }

    /// Waits until the callbacks have noted this; they run beside the thread that talks.
    fn logs(&mut self, wanted: &str) -> Outcome {
        let mut log = String::new();
        let process = &mut self.process;
        until("callbacks to run", || {
            let asked = process.send("log").and_then(|()| process.expect("LOG").map(drop));
            log = asked.and_then(|()| process.expect(".")).unwrap_or_else(|e| e);
            log == wanted || log.len() > wanted.len()
        })
        .and_then(|()| if log == wanted { Ok(()) } else { Err(String::new()) })
        .map_err(|e| format!("{e} noted {log:?}, not {wanted:?}"))
    }

    /// Dumps, and goes on with what the image brings back.
    fn travel(&mut self, options: &[&str], resume: &[&str]) -> Outcome {
        self.dump(options)?.expect(0, "dump")?;
        command::gone(&mut self.process)?;
        let image = self.image();
        self.process = resume_with(Mode::User, &image, &self.dir, Kind::Pipes, resume)?;
        self.process.ping()?;
        fs::remove_file(&image).map_err(|e| e.to_string())
    }
}

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

fn signals_of(pid: i32) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let wanted = ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"];
    let is = |line: &&str| wanted.iter().any(|w| line.starts_with(w));
    status.lines().filter(is).map(str::to_owned).collect()
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

fn section_refuses(victim: &str) -> Outcome {
    let mut stage = Stage::new(victim, &[])?;
    stage.ask("refuse", "DONE")?;
    stage.fails(&[], VETO, "burning a disc")?;
    stage.ask("release", "DONE")?;
    stage.travel(&[], &[])?;
    stage.logs(" Bs As A1 B1")?;
    stage.process.verify()
}

fn section_is_waited_for(victim: &str) -> Outcome {
    let mut stage = Stage::new(victim, &[])?;
    stage.ask("hold", "DONE")?;
    stage.fails(&["--consent-timeout", "300ms"], NO_ANSWER, "section")?;
    stage.logs("")?;
    let begun = command::begin(&mut stage.dumper(&[]), &stage.dir)?;
    std::thread::sleep(Duration::from_millis(200));
    if stage.image().exists() {
        return Err("it was suspended in a section".into());
    }
    // In the handler's mode the thread that answers is the one that was asked: it answers later.
    stage.process.send("release")?;
    begun.finish(process::LIMIT)?.expect(0, "dump")?;
    command::gone(&mut stage.process)?;
    let image = stage.image();
    stage.process = resume_with(Mode::User, &image, &stage.dir, Kind::Pipes, &[])?;
    stage.process.ping()?;
    stage.logs(" Bs As A1 B1")?;
    stage.process.verify()
}

fn section_with_a_limit() -> Outcome {
    let mut stage = Stage::new("consent", &[])?;
    stage.ask("short", "DONE")?;
    let begin = Instant::now();
    stage.fails(&[], VETO, "nearly done")?;
    let took = begin.elapsed();
    if took < Duration::from_millis(200) || took > Duration::from_secs(20) {
        return Err(format!("refused after {took:?}"));
    }
    stage.ask("release", "DONE")?;
    stage.process.verify()
}

fn too_slow(victim: &str) -> Outcome {
    let mut stage = Stage::new(victim, &["slow"])?;
    stage.fails(&["--consent-timeout", "200ms"], NO_ANSWER, "did not answer within 200 ms")?;
    stage.logs(" Bs As A3 B3")?;
    stage.process.ping()?;
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

fn blocked(victim: &str, policy: &str) -> Outcome {
    let mut stage = Stage::new(victim, &[])?;
    stage.ask("block", "DONE")?;
    let options = ["--consent", policy, "--consent-timeout", "200ms"];
    stage.fails(&options, NO_ANSWER, "signal")?;
    stage.ask("pending", "PENDING 0")?;
    // A signal of somebody else stays.
    kill(Pid::from_raw(stage.process.pid), Signal::SIGUSR1).map_err(|e| e.to_string())?;
    stage.ask("pending", "PENDING 1")?;
    stage.fails(&options, NO_ANSWER, "signal")?;
    stage.ask("pending", "PENDING 1")?;
    stage.process.ping()
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

fn storm() -> Outcome {
    let mut stage = Stage::new("consent_handler", &[])?;
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

/// dd prints its counts upon SIGUSR1, which it must not get.
fn mere_handlers() -> Outcome {
    let dir = scratch::directory("dd", Mode::User.uid()).map_err(|e| e.to_string())?;
    let mut command = Command::new("dd");
    command::as_user(&mut command, Mode::User.uid());
    command.current_dir(&dir).args(["if=/dev/zero", "of=/dev/null", "bs=4096"]);
    let process = process::start(command, Kind::Pipes, &dir)?;
    let has_handler = || {
        signals_of(process.pid).iter().any(|l| {
            let bits = l.strip_prefix("SigCgt:\t").and_then(|b| u64::from_str_radix(b, 16).ok());
            bits.is_some_and(|b| b >> (libc::SIGUSR1 - 1) & 1 == 1)
        })
    };
    until("dd to handle SIGUSR1", has_handler)?;
    let mut stage = Stage { dir, process };
    stage.dump(&["--leave-running"])?.expect(0, "dump")?;
    if let Ok(text) = stage.process.expect_within("records", Duration::from_millis(300)) {
        return Err(format!("dd was sent a signal: {text}"));
    }
    // Its own handler serves for consent where that is demanded.
    stage.dump(&["--leave-running", "--force", "--consent", "require"])?.expect(0, "dump")?;
    stage.process.expect("records out")?;
    kill(Pid::from_raw(stage.process.pid), Signal::SIGTERM).map_err(|e| e.to_string())
}

/// A dumper that is killed while a plain program is asked leaves it as it was.
fn plain_dies() -> Outcome {
    let mut stage = Stage::new("consent_plain", &[])?;
    stage.ask("block", "DONE")?;
    let options = ["--consent", "require"];
    let begun = command::begin(&mut stage.dumper(&options), &stage.dir)?;
    until("the signal to be sent", || {
        signals_of(stage.process.pid).iter().any(|l| l == "ShdPnd:\t0000000000000200")
    })?;
    for pid in [tracer_of(stage.process.pid), begun.pid] {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    begun.finish(process::LIMIT)?;
    stage.process.ping()
}

fn tracer_of(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("TracerPid:"));
    line.and_then(|l| l.trim().parse().ok()).unwrap_or(0)
}

fn tree_in_order() -> Outcome {
    let mut stage = Stage::new("consent", &["tree"])?;
    stage.dump(&["--leave-running", "--force"])?.expect(0, "dump")?;
    fs::remove_file(stage.image()).map_err(|e| e.to_string())?;
    tree_notes(&mut stage, "log", 0, &["gscsps", "g2", "c2", "p2"])?;
    stage.dump(&["--consent", "require"])?.expect(0, "dump")?;
    command::gone(&mut stage.process)?;
    let image = stage.image();
    stage.process = resume_with(Mode::User, &image, &stage.dir, Kind::Pipes, &[])?;
    tree_notes(&mut stage, "log", 12, &["gscsps", "g1", "c1", "p1"])?;
    stage.process.verify()
}

/// From `from` on, the members of the tree note these: the first first, the others in any order.
fn tree_notes(stage: &mut Stage, line: &str, from: usize, wanted: &[&str]) -> Outcome {
    let (mut all, process) = (String::new(), &mut stage.process);
    let len = from + wanted.iter().map(|w| w.len()).sum::<usize>();
    until("the tree to be told", || {
        let asked = process.send(line).and_then(|()| process.expect("LOG ").map(drop));
        all = asked.and_then(|()| process.expect(".")).unwrap_or_else(|e| e);
        all.len() >= len
    })
    .map_err(|e| format!("{e}; it noted {all:?}"))?;
    let new = all.get(from..).unwrap_or_default();
    let good = all.len() == len && wanted.iter().all(|w| new.contains(w));
    if good && new.starts_with(wanted[0]) {
        return Ok(());
    }
    Err(format!("the tree noted {all:?}"))
}

fn tree_vetoed() -> Outcome {
    let mut stage = Stage::new("consent", &["tree"])?;
    stage.ask("veto", "LOG .")?;
    stage.fails(&[], VETO, "the parent has a say")?;
    tree_notes(&mut stage, "veto", 0, &["gscsps", "g3", "c3"])?;
    stage.process.verify()
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
    let mut command = command::dumper(Mode::User.uid());
    command.arg(stage.process.pid.to_string()).arg("-o").arg(stage.dir.join("second.elf"));
    command::run(&mut command, &stage.dir)?.expect(FAILED, "dump")?.says("another dumper")?;
    first.finish(process::LIMIT)?.expect(0, "dump")?;
    stage.logs(" Bs As A2 B2")?;
    stage.process.verify()
}

fn suspends_itself() -> Outcome {
    let mut stage = Stage::new("consent", &[])?;
    for round in 1..=2 {
        stage.process.send(&format!("self own{round}.elf"))?;
        command::gone(&mut stage.process)?;
        let image = stage.dir.join(format!("own{round}.elf"));
        // Nobody waits for that dumper, which closes the image a moment later.
        until("the image to be closed", || {
            let resumed = resume_with(Mode::User, &image, &stage.dir, Kind::Pipes, &[]);
            resumed.map(|process| stage.process = process).is_ok()
        })?;
        stage.process.expect("SELF 1\n")?;
        stage.process.ping()?;
    }
    stage.logs(" Bs As A1 B1 Bs As A1 B1")?;
    stage.process.verify()
}

fn suspends_itself_and_stays() -> Outcome {
    let mut stage = Stage::new("consent", &[])?;
    stage.ask("left own.elf", "SELF 0\n")?;
    stage.logs(" Bs As A2 B2")?;
    let image = stage.dir.join("own.elf");
    let mut other = resume_with(Mode::User, &image, &stage.dir, Kind::Pipes, &["--new-pid"])?;
    other.expect("SELF 1\n")?;
    other.verify()?;
    stage.process.verify()
}

fn suspends_itself_in_vain() -> Outcome {
    let mut stage = Stage::new("consent", &[])?;
    fs::write(stage.dir.join("there.elf"), "kept").map_err(|e| e.to_string())?;
    stage.ask("left there.elf", "SELF -1 ")?;
    stage.process.expect("exists")?;
    stage.ask("veto", "DONE")?;
    stage.ask("self own.elf", "SELF -1 a transaction is open")?;
    stage.ask("refuse", "DONE")?;
    stage.ask("self own.elf", "SELF -1")?;
    stage.process.ping()
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
