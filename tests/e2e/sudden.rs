//! Sudden ends: `dumper` interrupted or killed at any moment, and many dumps of one process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::command;
use crate::process::{self, Kind, Outcome, Process};
use crate::random::Random;
use crate::reaper::{self, Exit};
use crate::refusals::nothing_left;
use crate::scratch;
use crate::victims::{is_stopped, resume_with, until, Mode, Victim};
use crate::{soak, Case};

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    // Root's dump reads other things while the process is stopped, and its image comes back in place.
    for (user, mode) in [("user", Mode::User), ("root", Mode::Root)] {
        for (what, prey) in [("front", Prey::Front), ("tracer", Prey::Tracer)] {
            for (how, leave) in [("", false), ("_leave", true)] {
                let title = format!("luck::killed_{what}{how}::{user}");
                all.push(Case::new(title, mode == Mode::Root, move || killed(prey, leave, mode)));
            }
        }
    }
    all.extend([
        Case::new("luck::interrupted", false, || interrupted(Signal::SIGINT, 130)),
        Case::new("luck::terminated", false, || interrupted(Signal::SIGTERM, 143)),
        Case::new("luck::hung_up", false, || interrupted(Signal::SIGHUP, 129)),
        Case::new("luck::dumped_while_it_resumes", false, dumped_while_it_resumes),
        Case::new("luck::dumped_while_a_resume_is_stuck", true, dumped_while_a_resume_is_stuck),
        Case::new("luck::dumped_often", false, dumped_often),
        Case::new("luck::clock_calls_in_flight", false, clock_calls_in_flight),
    ]);
    all
}

fn uid() -> Option<u32> {
    Mode::User.uid()
}

fn directory(name: &str) -> Outcome<PathBuf> {
    scratch::directory(name, uid()).map_err(|e| e.to_string())
}

fn interrupted(signal: Signal, status: i32) -> Outcome {
    let dir = directory("interrupted")?;
    let rounds = if soak() { 60 } else { 8 };
    let mut random = Random::new();
    let (mut stopped, mut late) = (0, 0);
    for round in 0..rounds {
        let mut command = Command::new(Victim::named("big")?.program());
        command::as_user(&mut command, uid());
        command.arg("128").current_dir(&dir);
        let mut process = process::start(command, Kind::Pipes, &dir)?;
        process.expect("READY")?;
        let image = dir.join(format!("resume{round}.elf"));
        let mut command = command::dumper(uid());
        command.arg(process.pid.to_string()).arg("-o").arg(&image);
        let begun = command::begin(&mut command, &dir)?;
        std::thread::sleep(Duration::from_micros(2000 + random.below(60_000)));
        let _ = kill(Pid::from_raw(begun.pid), signal);
        let done = begun.finish(process::LIMIT)?;
        match done.exit {
            // So early that it had not yet begun to listen, a signal simply ends it.
            Exit::Signal(number) if number == signal as i32 => {
                stopped += 1;
                nothing_left(&dir, &[])?;
                process.verify()?;
            }
            Exit::Code(code) if code == status => {
                stopped += 1;
                nothing_left(&dir, &[])?;
                process.verify().map_err(|e| format!("after {signal}: {e}"))?;
            }
            Exit::Code(0) => {
                late += 1;
                command::gone(&mut process)?;
                let mut process = resume_with(Mode::User, &image, &dir, Kind::Pipes, &[])?;
                process.verify()?;
                fs::remove_file(&image).map_err(|e| e.to_string())?;
            }
            _ => return Err(format!("after {signal}: {}", done.tell())),
        }
    }
    println!("{signal}: {stopped} dumps given up, {late} were complete");
    Ok(())
}

/// Which part of `dumper` is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prey {
    Front,
    Tracer,
}

/// Waits until nothing that `dumper` started runs any more, and the process is untraced or gone.
fn settled(tracer: Option<i32>, victim: i32) -> Outcome {
    if let Some(tracer) = tracer {
        until("the tracer to end", || !Path::new(&format!("/proc/{tracer}")).exists())?;
    }
    until("the process to be let go", || {
        let Ok(status) = fs::read_to_string(format!("/proc/{victim}/status")) else {
            return true;
        };
        status.contains("TracerPid:\t0\n")
    })
}

fn killed(prey: Prey, leave: bool, mode: Mode) -> Outcome {
    let dir = scratch::directory("killed", mode.uid()).map_err(|e| e.to_string())?;
    let rounds = if soak() { 300 } else { 25 };
    let mut random = Random::new();
    let victim = Victim::named("counter")?;
    let mut process = victim.start(mode, &dir)?;
    let options: &[&str] = if leave { &["--leave-running", "--no-sync"] } else { &["--no-sync"] };
    // How long a dump takes here and now.
    let started = Instant::now();
    let trial = dir.join("trial.elf");
    command::dump(process.pid, &trial, mode.uid(), &["--leave-running"])?;
    fs::remove_file(&trial).map_err(|e| e.to_string())?;
    let longest = started.elapsed() * 5 / 4;
    let (mut runs_on, mut imaged, mut both) = (0, 0, 0);
    for round in 0..rounds {
        let image = dir.join(format!("resume{round}.elf"));
        let inner = process.pid;
        let started = Instant::now();
        let mut command = command::dumper(mode.uid());
        command.arg(process.pid.to_string()).arg("-o").arg(&image).args(options);
        let begun = command::begin(&mut command, &dir)?;
        let front = begun.pid;
        let delay = Duration::from_micros(random.below(longest.as_micros() as u64));
        let mut tracer = None;
        while started.elapsed() < delay && reaper::ended(front).is_none() {
            tracer = tracer.or_else(|| process::children(front).first().copied());
        }
        tracer = tracer.or_else(|| process::children(front).first().copied());
        let target = if prey == Prey::Tracer { tracer.unwrap_or(front) } else { front };
        if reaper::ended(front).is_none() {
            let _ = kill(Pid::from_raw(target), Signal::SIGKILL);
        }
        begun.finish(process::LIMIT)?;
        settled(tracer, inner)?;
        let tell = |e: String| format!("round {round}, {prey:?} killed after {delay:?}: {e}");
        let alive = process_lives(&process);
        let complete = image.exists();
        match (alive, complete) {
            (true, false) => runs_on += 1,
            (true, true) => both += 1,
            (false, true) => imaged += 1,
            (false, false) => return Err(tell("the process is gone and there is no image".into())),
        }
        if alive {
            process.ping().map_err(tell)?;
        }
        if complete {
            let mut again = resume_with(mode, &image, &dir, Kind::Pipes, &[]).map_err(tell)?;
            again.ping().map_err(tell)?;
            if !alive {
                again.verify().map_err(tell)?;
                process = victim.start(mode, &dir)?;
            }
            let _ = fs::remove_file(&image);
        }
        nothing_left(&dir, &[]).map_err(tell)?;
    }
    process.verify()?;
    println!(
        "{prey:?} killed, {mode:?}, {}: {rounds} rounds, {runs_on} ran on, {imaged} in a complete image, \
         {both} both",
        if leave { "left running" } else { "ending" }
    );
    Ok(())
}

/// Whether the process of a victim that we started lives.
fn process_lives(process: &Process) -> bool {
    // A process that was just killed by the tracer ends a moment later.
    for _ in 0..200 {
        if reaper::ended(process.pid).is_some() {
            return false;
        }
        let status =
            fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
        let dying =
            status.lines().any(|l| l.starts_with("State:\tZ") || l.starts_with("State:\tX"));
        let pending = status
            .lines()
            .filter(|l| l.starts_with("ShdPnd:") || l.starts_with("SigPnd:"))
            .any(|l| u64::from_str_radix(l[8..].trim(), 16).is_ok_and(|m| m & (1 << 8) != 0));
        if !dying && !pending && !status.is_empty() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// A dump that comes while the image is still at work is refused, or is a good one; the resume
/// does not mind.
fn dumped_while_it_resumes() -> Outcome {
    let dir = directory("early")?;
    let rounds = if soak() { 300 } else { 20 };
    let image = dir.join("resume.elf");
    let early = dir.join("early.elf");
    let mut first = Victim::named("threads8")?.start(Mode::User, &dir)?;
    command::dump(first.pid, &image, uid(), &[])?;
    command::gone(&mut first)?;
    let (mut refused, mut good) = (0, 0);
    for round in 0..rounds {
        let tell = |e: String| format!("round {round}: {e}");
        let (mode, options): (_, &[&str]) = match round % 2 {
            0 => (Mode::User, &[]),
            _ => (Mode::NewPid, &["--new-pid"]),
        };
        let mut process = resume_with(mode, &image, &dir, Kind::Pipes, options).map_err(tell)?;
        let mut dumping = command::dumper(uid());
        dumping.arg(process.pid.to_string()).arg("-o").arg(&early);
        dumping.args(["--leave-running", "--no-sync"]);
        let done = command::run(&mut dumping, &dir).map_err(tell)?;
        process.ping().map_err(|e| tell(format!("{e}\nthe dump said: {}", done.tell())))?;
        process.verify().map_err(tell)?;
        // Status 1 is a failure, such as threads that never leave the code of the resume.
        if done.exit == Exit::Code(1) {
            return Err(tell(done.tell()));
        }
        if done.exit == Exit::Code(0) {
            good += 1;
            let mut process =
                resume_with(mode, &early, &dir, Kind::Pipes, options).map_err(tell)?;
            process.ping().map_err(tell)?;
            process.verify().map_err(tell)?;
            fs::remove_file(&early).map_err(|e| e.to_string())?;
        } else {
            refused += 1;
        }
        nothing_left(&dir, &["resume.elf"]).map_err(tell)?;
    }
    println!("dumped while it resumes: {refused} refused, {good} good");
    Ok(())
}

/// A program of which a resume has made one half only is dumped neither by itself nor as a part of
/// a tree: the dump waits for a while and says so. What is stopped in the middle of its resume goes on
/// unharmed.
fn dumped_while_a_resume_is_stuck() -> Outcome {
    let dir = scratch::directory("stuck", None).map_err(|e| e.to_string())?;
    let mut command = Command::new(Victim::named("big")?.program());
    command::as_user(&mut command, None);
    command.arg("256").current_dir(&dir);
    let mut process = process::start(command, Kind::Pipes, &dir)?;
    process.expect("READY")?;
    let image = dir.join("resume.elf");
    command::dump(process.pid, &image, None, &[])?;
    command::gone(&mut process)?;

    let mut shell = Command::new("/bin/sh");
    command::as_user(&mut shell, None);
    shell.args(["-c", "./resume.elf; exit $?"]).current_dir(&dir);
    let mut shell = process::start(shell, Kind::Pipes, &dir)?;
    let only_child = |pid: i32| process::children(pid).first().copied();
    // The image is mapped as a whole until the resume is done; the fill takes most of its time.
    let half_made = |pid: i32| {
        let read = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let (status, maps) = (read("status"), read("maps"));
        let filled = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
        let filled = filled.and_then(|kib| kib.trim_end_matches("kB").trim().parse::<u32>().ok());
        filled.is_some_and(|kib| kib > 4 << 10)
            && maps.lines().any(|l| l.contains(" r--p 00000000 ") && l.ends_with("/resume.elf"))
    };
    let (mut supervisor, mut program) = (0, 0);
    until("the program to be half made", || {
        supervisor = only_child(shell.pid).unwrap_or(0);
        program = only_child(supervisor).unwrap_or(0);
        half_made(program)
    })?;
    kill(Pid::from_raw(program), Signal::SIGSTOP).map_err(|e| e.to_string())?;
    until("the program to stop", || is_stopped(program))?;
    if !half_made(program) {
        return Err("the resume was done before it could be stopped".into());
    }

    let mut dumps = Vec::new();
    for (pid, name) in [(shell.pid, "tree.elf"), (supervisor, "program.elf")] {
        let mut command = command::dumper(None);
        command.arg(pid.to_string()).arg("-o").arg(dir.join(name));
        dumps.push(command::begin(&mut command, &dir)?);
    }
    for dump in dumps {
        // The outputs of the other one lie in the directory as well, until it has ended.
        let done = dump.finish(process::LIMIT)?.expect(4, "dump of half a program")?;
        done.says(&format!("process {program}: is still being resumed after 10 s"))?;
        done.says("try again when the program runs")?;
    }
    nothing_left(&dir, &["resume.elf"])?;
    for pid in [program, supervisor] {
        kill(Pid::from_raw(pid), Signal::SIGCONT).map_err(|e| e.to_string())?;
    }
    shell.verify()
}

/// Left running again and again: nothing fails, nothing returns early, nothing is lost.
fn dumped_often() -> Outcome {
    let dir = directory("often")?;
    let rounds = if soak() { 1000 } else { 60 };
    let mut process = Victim::named("counter")?.start(Mode::User, &dir)?;
    let image = dir.join("resume.elf");
    for round in 0..rounds {
        let options = ["--leave-running", "--force"];
        command::dump(process.pid, &image, uid(), &options)
            .and_then(|_| process.ping())
            .map_err(|e| format!("dump {round}: {e}"))?;
    }
    process.verify()
}

/// A dump falls into the clock functions of the vdso sooner or later; every image must run.
fn clock_calls_in_flight() -> Outcome {
    let dir = directory("clock")?;
    let rounds = if soak() { 500 } else { 50 };
    let mut process = Victim::named("vdso")?.start(Mode::User, &dir)?;
    let image = dir.join("resume.elf");
    for round in 0..rounds {
        let tell = |e: String| format!("dump {round}: {e}");
        let options = ["--leave-running", "--force"];
        command::dump(process.pid, &image, uid(), &options).map_err(tell)?;
        process.ping().map_err(tell)?;
        let mut again =
            resume_with(Mode::NewPid, &image, &dir, Kind::Pipes, &["--new-pid"]).map_err(tell)?;
        again.ping().map_err(tell)?;
        again.verify().map_err(tell)?;
    }
    process.verify()
}
