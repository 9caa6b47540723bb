//! Asking first: what `dumper` does with programs that want a say, and with those that do not.

mod answers;
mod faults;
mod handlers;
mod library;
mod own;
mod plain;
mod sections;
mod still;
mod trees;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::command::{self, Finished};
use crate::process::{self, Kind, Outcome, Process};
use crate::refusals::nothing_left;
use crate::scratch;
use crate::victims::{resume_with, until, Mode, Victim};
use crate::Case;

/// Exit statuses of `dumper`.
const FAILED: i32 = 1;
const REFUSED: i32 = 3;
const NOT_OPTED_IN: i32 = 6;
const VETO: i32 = 7;
const NO_ANSWER: i32 = 8;

/// A case: its name, whether it needs root, what it does.
type Row = (&'static str, bool, fn() -> Outcome);

/// All cases.
pub fn cases() -> Vec<Case> {
    [
        answers::CASES,
        faults::CASES,
        handlers::CASES,
        library::CASES,
        own::CASES,
        plain::CASES,
        sections::CASES,
        still::CASES,
        trees::CASES,
    ]
    .into_iter()
    .flatten()
    .map(|&(name, root, body)| Case::new(format!("consent::{name}"), root, body))
    .collect()
}

/// A program under test, and how it is dumped.
struct Stage {
    mode: Mode,
    dir: PathBuf,
    process: Process,
}

impl Stage {
    fn new(victim: &str, words: &[&str]) -> Outcome<Stage> {
        Stage::as_(Mode::User, victim, words)
    }

    fn as_(mode: Mode, victim: &str, words: &[&str]) -> Outcome<Stage> {
        let mut command = Command::new(Victim::named(victim)?.program());
        command.args(words);
        let mut stage = Stage::of(mode, victim, command)?;
        stage.process.expect("READY")?;
        Ok(stage)
    }

    /// Any program.
    fn of(mode: Mode, name: &str, mut command: Command) -> Outcome<Stage> {
        let dir = scratch::directory("consent", mode.uid()).map_err(|e| e.to_string())?;
        command::as_user(&mut command, mode.uid());
        command.current_dir(&dir).env("DUMPER", scratch::dumper()).env("VICTIM", name);
        let process = process::start(command, Kind::Pipes, &dir)?;
        Ok(Stage { mode, dir, process })
    }

    fn image(&self) -> PathBuf {
        self.dir.join("resume.elf")
    }

    fn dumper(&self, options: &[&str]) -> Command {
        let mut command = command::dumper(self.mode.uid());
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
        self.resume(resume)?;
        fs::remove_file(self.image()).map_err(|e| e.to_string())
    }

    /// Goes on with what the image brings back.
    fn resume(&mut self, options: &[&str]) -> Outcome {
        let image = self.image();
        self.process = resume_with(self.mode, &image, &self.dir, Kind::Pipes, options)?;
        self.process.ping()
    }
}

fn signals_of(pid: i32) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let wanted = ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"];
    let is = |line: &&str| wanted.iter().any(|w| line.starts_with(w));
    status.lines().filter(is).map(str::to_owned).collect()
}
