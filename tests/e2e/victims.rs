//! The victims: small programs that make one kind of state, say READY, wait, and verify it.
//!
//! A victim is a file in tests/victims. Lines `//#Name: value` in it tell how to build and to
//! treat it:
//!
//! - `Flags`: further flags for the compiler.
//! - `Library`: `suspend` for a program that uses suspend-api, `suspend shared` for its shared library.
//! - `Modes`: the ways to try it, of those in [`Mode`]; without it root, user, newpid, leave and left;
//!   `none` if it only serves other tests. With root come taken and strange.
//! - `Stdio`: `pipes` (default), `file` or `pty`.
//! - `Dump`: further options for `dumper`.
//! - `Resume`: further options for the image.
//! - `Network`: `own` for one without anybody else, where ports are given up and taken back.
//! - `Notes`: words of which each note of a resume must have one; without it there must be no note.
//! - `Before`: `stop` stops the victim by SIGSTOP before each dump and continues it after each
//!   resume.
//! - `Dumps`: how many dumps in a row, each of the process that the last image brought back; 2
//!   without it.
//! - `Needs`: a CPU feature as /proc/cpuinfo names it; without it the victim itself tells and passes.
//!
//! A victim talks over standard input and output: it prints READY when its state is made, answers
//! `ping` by PONG, and after `verify` prints OK and ends with 0, or FAIL: and why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::command;
use crate::library;
use crate::network;
use crate::process::{self, Kind, Outcome, Process};
use crate::reaper;
use crate::scratch::{self, NOBODY};
use crate::surroundings;

/// A way to try a victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Neither dumped nor resumed: shows that the victim itself is right.
    Alone,
    /// Everything as root, original pids in place.
    Root,
    /// Everything as an unprivileged user.
    User,
    /// As an unprivileged user, resumed with `--new-pid`.
    NewPid,
    /// Resumed in an empty root directory that holds only the image.
    Empty,
    /// Dumped three times with `--leave-running`, never resumed.
    Leave,
    /// As root, dumped with `--leave-running`; the process that was left is ended, the image resumed.
    Left,
    /// As root, when another process has the original pid.
    Taken,
    /// As root, resumed by a command whose surroundings are not a program's; the second time with
    /// `--new-pid`, where that is among the modes.
    Strange,
}

impl Mode {
    /// All of them with their names.
    pub const ALL: [(Mode, &'static str); 9] = [
        (Mode::Alone, "alone"),
        (Mode::Root, "root"),
        (Mode::User, "user"),
        (Mode::NewPid, "newpid"),
        (Mode::Empty, "empty"),
        (Mode::Leave, "leave"),
        (Mode::Left, "left"),
        (Mode::Taken, "taken"),
        (Mode::Strange, "strange"),
    ];

    /// Whether it can only be tried by root.
    pub fn needs_root(self) -> bool {
        !matches!(self, Mode::Alone | Mode::User | Mode::NewPid | Mode::Leave)
    }

    /// The user everything runs as.
    pub fn uid(self) -> Option<u32> {
        (scratch::is_root() && !self.needs_root()).then_some(NOBODY)
    }
}

/// One victim.
#[derive(Debug, Clone)]
pub struct Victim {
    /// Its name: the file's without extension.
    pub name: String,
    source: PathBuf,
    text: String,
}

impl Victim {
    /// All victims, sorted by name.
    pub fn all() -> Vec<Victim> {
        let dir = scratch::sources().join("tests/victims");
        let mut found: Vec<Victim> = fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "c" || e == "cc" || e == "rs"))
            .filter_map(|path| {
                let name = path.file_stem()?.to_str()?.to_owned();
                let text = fs::read_to_string(&path).ok()?;
                Some(Victim { name, source: path, text })
            })
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// The victim of this name.
    pub fn named(name: &str) -> Outcome<Victim> {
        let mut all = Victim::all();
        let at = all.iter().position(|v| v.name == name);
        at.map(|at| all.swap_remove(at)).ok_or_else(|| format!("no victim {name} in tests/victims"))
    }

    fn directive(&self, name: &str) -> Option<&str> {
        let prefix = format!("//#{name}:");
        self.text.lines().find_map(|l| l.strip_prefix(&prefix)).map(str::trim)
    }

    fn words(&self, name: &str) -> Vec<&str> {
        self.directive(name).unwrap_or_default().split_ascii_whitespace().collect()
    }

    /// The ways to try it.
    pub fn modes(&self) -> Vec<(Mode, &'static str)> {
        let wanted = self.directive("Modes").unwrap_or("root user newpid leave left");
        let words: Vec<&str> = wanted.split_ascii_whitespace().collect();
        if words == ["none"] {
            return Vec::new();
        }
        Mode::ALL
            .into_iter()
            .filter(|(mode, name)| match mode {
                Mode::Alone => true,
                Mode::Taken | Mode::Strange => words.contains(&"root"),
                _ => words.contains(name),
            })
            .collect()
    }

    /// What its standard input and output are.
    pub fn kind(&self) -> Kind {
        match self.directive("Stdio") {
            Some("pty") => Kind::Pty,
            Some("file") => Kind::File,
            _ => Kind::Pipes,
        }
    }

    fn has(&self, mode: Mode) -> bool {
        self.modes().iter().any(|(one, _)| *one == mode)
    }

    /// The built program.
    pub fn program(&self) -> PathBuf {
        scratch::root().join("victims").join(&self.name)
    }

    /// Builds it.
    pub fn build(&self) -> Outcome {
        let out = self.program();
        let library = self.words("Library");
        let extension = self.source.extension().and_then(|e| e.to_str());
        let mut command = match extension {
            Some("rs") => {
                let mut c = Command::new("rustc");
                c.args(["--edition", "2021", "-O", "-o"]).arg(&out).arg(&self.source);
                if !library.is_empty() {
                    c.args(library::for_rust()?);
                }
                c
            }
            kind => {
                let mut c = Command::new(if kind == Some("cc") { "g++" } else { "cc" });
                c.args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]);
                c.args(["-Wno-format-truncation", "-Wno-missing-field-initializers", "-o"])
                    .arg(&out)
                    .arg(&self.source);
                c.args(self.words("Flags"));
                if !library.is_empty() {
                    c.args(library::for_c(library.contains(&"shared"))?);
                }
                c
            }
        };
        let done = command.output().map_err(|e| format!("{command:?}: {e}"))?;
        if done.status.success() {
            return Ok(());
        }
        Err(format!("building {}:\n{}", self.name, String::from_utf8_lossy(&done.stderr)))
    }

    /// Starts it in `dir` as the mode says, and waits until it is ready.
    pub fn start(&self, mode: Mode, dir: &Path) -> Outcome<Process> {
        let mut command = Command::new(self.program());
        command::as_user(&mut command, mode.uid());
        command.current_dir(if mode == Mode::Empty { Path::new("/") } else { dir });
        command.arg("an argument").arg("").env("VICTIM", &self.name);
        let mut process = process::start(command, self.kind(), dir)?;
        process.expect("READY")?;
        Ok(process)
    }

    /// Tries it once.
    pub fn try_in(&self, mode: Mode) -> Outcome {
        let dir = scratch::directory(&format!("{}-{mode:?}", self.name), mode.uid())
            .map_err(|e| e.to_string())?;
        let done = if self.directive("Network") == Some("own") {
            network::alone(|| self.try_at(mode, &dir))
        } else {
            self.try_at(mode, &dir)
        };
        if done.is_ok() {
            let _ = fs::remove_dir_all(&dir);
        }
        done
    }

    fn try_at(&self, mode: Mode, dir: &Path) -> Outcome {
        let mut process = self.start(mode, dir)?;
        if mode == Mode::Alone {
            process.ping()?;
            return process.verify();
        }
        if mode == Mode::Leave {
            return self.leave_running(process, dir);
        }
        let original = process.pid;
        let dumps = self.directive("Dumps").and_then(|d| d.parse().ok()).unwrap_or(2);
        for round in 1..=dumps {
            let tag = |e: String| format!("round {round}: {e}");
            self.before_dump(&process).map_err(tag)?;
            let image = dir.join(format!("resume{round}.elf"));
            let mut options = self.words("Dump");
            if mode == Mode::Left {
                options.push("--leave-running");
            }
            command::dump(process.pid, &image, mode.uid(), &options).map_err(tag)?;
            if mode == Mode::Left {
                process.end().map_err(tag)?;
            }
            command::gone(&mut process).map_err(tag)?;
            if mode == Mode::Taken && round == 1 {
                // Where it fails, the number is taken as well: by a group, of which somebody is left.
                match reaper::occupy(original) {
                    Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                        return Err(format!("taking the pid {original}: {e}"));
                    }
                    _ => {}
                }
            }
            // What was dumped in a root directory of its own goes back there, and is started where
            // that has its path.
            let place = if mode == Mode::Empty && round > 1 { Mode::Root } else { mode };
            let new_pid = mode == Mode::Strange && round > 1 && self.has(Mode::NewPid);
            let options: &[&str] = if new_pid { &["--new-pid"] } else { &[] };
            process = self.resume(place, &image, dir, options).map_err(tag)?;
            self.after_resume(&process).map_err(tag)?;
            process.ping().map_err(tag)?;
            self.judge_notes(mode, &process.seen()).map_err(tag)?;
        }
        let verified = process.verify();
        if mode == Mode::Taken {
            reaper::end(original);
        }
        verified
    }

    /// Whether all notes of a resume are expected.
    fn judge_notes(&self, mode: Mode, output: &str) -> Outcome {
        let mut allowed = self.words("Notes");
        match mode {
            Mode::NewPid => allowed.push("no time namespace could be had"),
            Mode::Empty => allowed.extend(["working directory", "has another id here"]),
            Mode::Taken => allowed.push("has another id here"),
            _ => {}
        }
        let is_strange = |line: &&str| !allowed.iter().any(|word| line.contains(word));
        match output.lines().filter(|l| l.contains("resume: note: ")).find(is_strange) {
            None => Ok(()),
            Some(line) => Err(format!("a note that nobody expects: {line}")),
        }
    }

    fn leave_running(&self, mut process: Process, dir: &Path) -> Outcome {
        for round in 1..=3 {
            self.before_dump(&process)?;
            let image = dir.join(format!("left{round}.elf"));
            let mut options = self.words("Dump");
            options.push("--leave-running");
            command::dump(process.pid, &image, Mode::Leave.uid(), &options)?;
            self.after_resume(&process)?;
            process.ping().map_err(|e| format!("left running {round}: {e}"))?;
        }
        process.verify().map_err(|e| format!("left running: {e}"))
    }

    fn before_dump(&self, process: &Process) -> Outcome {
        if self.directive("Before") != Some("stop") {
            return Ok(());
        }
        // After a resume the program is a child of ours, perhaps beside the init of its namespace.
        let is_program = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim_end() == self.name)
        };
        let pid = process::children(process.pid).into_iter().find(is_program);
        let pid = pid.unwrap_or(process.pid);
        kill(Pid::from_raw(pid), Signal::SIGSTOP).map_err(|e| e.to_string())?;
        until(&format!("{pid} to stop"), || is_stopped(pid))
    }

    fn after_resume(&self, process: &Process) -> Outcome {
        if self.directive("Before") != Some("stop") {
            return Ok(());
        }
        until("the resumed process to be stopped", || is_stopped(process.pid))?;
        kill(Pid::from_raw(process.pid), Signal::SIGCONT).map_err(|e| e.to_string())
    }

    /// Starts an image as the mode says.
    pub fn resume(&self, mode: Mode, image: &Path, dir: &Path, more: &[&str]) -> Outcome<Process> {
        let mut options = self.words("Resume");
        options.extend(more);
        if mode == Mode::NewPid {
            options.push("--new-pid");
        }
        resume_with(mode, image, dir, self.kind(), &options)
    }
}

/// Starts an image with these options.
pub fn resume_with(
    mode: Mode,
    image: &Path,
    dir: &Path,
    kind: Kind,
    options: &[&str],
) -> Outcome<Process> {
    let mut command = if mode == Mode::Empty {
        let root = dir.join("root");
        fs::create_dir_all(&root).map_err(|e| e.to_string())?;
        scratch::copy_program(image, &root.join("resume.elf"))?;
        let mut command = Command::new("/resume.elf");
        command::confine(&mut command, root, None);
        command
    } else {
        let mut command = Command::new(image);
        command.current_dir(dir);
        command
    };
    command::as_user(&mut command, mode.uid());
    command.args(options);
    if mode == Mode::Strange {
        surroundings::strange(&mut command);
    }
    process::start(command, kind, dir)
}

/// Whether every thread of a process is stopped by job control.
pub fn is_stopped(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|l| l.starts_with("State:\tT"))
}

/// Waits for a condition that no event announces.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) -> Outcome {
    let deadline = std::time::Instant::now() + process::LIMIT;
    while !holds() {
        if std::time::Instant::now() > deadline {
            return Err(format!("waiting for {what}: time is up"));
        }
        std::thread::sleep(std::time::Duration::from_millis(3));
    }
    Ok(())
}
