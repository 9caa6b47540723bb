//! Real programs, as they are installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::process::{self, Kind, Outcome, Process};
use crate::random::Random;
use crate::reaper::{self, Exit};
use crate::scratch;
use crate::victims::{resume_with, until, Mode, Victim};
use crate::Case;

/// What a case does, as root or as an unprivileged user.
pub type Body = fn(Mode) -> Outcome;

/// All cases.
pub fn cases() -> Vec<Case> {
    as_both(
        "program",
        &[
            ("two_inputs", two_inputs),
            ("out_of_its_terminal", out_of_its_terminal),
            ("python_prompt", python_prompt),
            ("python_threads", python_threads),
            ("xz_two_threads", xz),
            ("bc_variable", bc),
            ("jemalloc", jemalloc),
            ("shell_as_session_leader", shell),
        ],
    )
}

/// Each of `list` once as root and once as an unprivileged user.
pub fn as_both(group: &str, list: &[(&str, Body)]) -> Vec<Case> {
    let mut all = Vec::new();
    for &(name, body) in list {
        for (user, mode) in [("root", Mode::Root), ("user", Mode::User)] {
            let title = format!("{group}::{name}::{user}");
            all.push(Case::new(title, user == "root", move || body(mode)));
        }
    }
    all
}

/// A directory, and how programs are tried in it.
pub struct Stage {
    /// The directory.
    pub dir: PathBuf,
    mode: Mode,
    images: u32,
}

impl Stage {
    /// A directory of its own.
    pub fn new(name: &str, mode: Mode) -> Outcome<Stage> {
        let dir = scratch::directory(name, mode.uid()).map_err(|e| e.to_string())?;
        Ok(Stage { dir, mode, images: 0 })
    }

    /// Starts a program in it.
    pub fn start(&self, program: &Path, arguments: &[&str], kind: Kind) -> Outcome<Process> {
        self.start_with(program, arguments, kind, &[])
    }

    /// The same, with variables in its environment.
    pub fn start_with(
        &self,
        program: &Path,
        arguments: &[&str],
        kind: Kind,
        environment: &[(&str, &str)],
    ) -> Outcome<Process> {
        if !program.exists() {
            return Err(format!("{} is not installed: run `cargo xtask test`", program.display()));
        }
        let mut command = Command::new(program);
        command::as_user(&mut command, self.mode.uid());
        command.args(arguments).current_dir(&self.dir).env("TERM", "dumb").env("HOME", &self.dir);
        command.envs(environment.iter().copied());
        process::start(command, kind, &self.dir)
    }

    /// Dumps the process and resumes it with input and output of the same kind.
    pub fn travel(&mut self, mut process: Process, kind: Kind) -> Outcome<Process> {
        self.images += 1;
        let image = self.dir.join(format!("resume{}.elf", self.images));
        command::dump(process.pid, &image, self.mode.uid(), &[])?;
        command::gone(&mut process)?;
        resume_with(self.mode, &image, &self.dir, kind, &[])
    }
}

fn two_inputs(mode: Mode) -> Outcome {
    let mut stage = Stage::new("two-inputs", mode)?;
    let program = Victim::named("two_inputs")?.program();
    let mut process = stage.start(&program, &[], Kind::Pipes)?;
    process.expect("First number: ")?;
    process.send("40")?;
    process.expect("Second number: ")?;
    let mut process = stage.travel(process, Kind::Pipes)?;
    process.send("2")?;
    process.expect("40 + 2 = 42")?;
    process.exit_code(0)
}

/// In a terminal input, output and errors are one description, usually; where there is none, each is
/// that of the command.
fn out_of_its_terminal(mode: Mode) -> Outcome {
    let mut stage = Stage::new("out-of-its-terminal", mode)?;
    let program = Victim::named("two_inputs")?.program();
    let mut process = stage.start(&program, &[], Kind::Pty)?;
    process.expect("First number: ")?;
    process.send("40")?;
    process.expect("Second number: ")?;
    let mut process = stage.travel(process, Kind::Pipes)?;
    process.expect("here is none")?;
    let mut process = stage.travel(process, Kind::Pipes)?;
    process.send("2")?;
    process.expect("40 + 2 = 42")?;
    process.exit_code(0)
}

fn python_prompt(mode: Mode) -> Outcome {
    let mut stage = Stage::new("python", mode)?;
    let python = Path::new("/usr/bin/python3");
    let mut process = stage.start(python, &["-q", "-i"], Kind::Pty)?;
    process.expect(">>> ")?;
    process.send("import random, threading; kept = {n: n ** 70 for n in range(1000)}")?;
    process.expect(">>> ")?;
    for round in 0..2 {
        process = stage.travel(process, Kind::Pty)?;
        process.send(&format!("print('sum', {round} + sum(kept.values()) % 1000003)"))?;
        process.expect(&format!("sum {}", round + PYTHON_SUM))?;
        process.expect(">>> ")?;
    }
    process.send("import json, sys; sys.exit(len(json.dumps(list(kept))) % 100)")?;
    process.exit_code(90)
}

/// `sum(n ** 70 for n in range(1000)) % 1000003`
const PYTHON_SUM: i64 = 132_369;

fn python_threads(mode: Mode) -> Outcome {
    let mut stage = Stage::new("python-threads", mode)?;
    let python = Path::new("/usr/bin/python3");
    let source = scratch::sources().join("tests/victims/digest.py");
    let script = stage.dir.join("digest.py");
    fs::copy(source, &script).map_err(|e| e.to_string())?;
    let arguments = ["digest.py", "30000"];
    let mut plain = stage.start(python, &arguments, Kind::Pipes)?;
    let mut process = stage.start(python, &arguments, Kind::Pipes)?;
    process.expect("step")?;
    for _ in 0..3 {
        process = stage.travel(process, Kind::Pipes)?;
        process.ping()?;
    }
    plain.send("enough")?;
    process.send("enough")?;
    let digest = |p: &mut Process| -> Outcome<String> {
        p.expect("digest ")?;
        p.expect("\n")
    };
    let (wanted, got) = (digest(&mut plain)?, digest(&mut process)?);
    if wanted != got {
        return Err(format!("the digest is {got}, should be {wanted}"));
    }
    process.exit_code(0)
}

fn xz(mode: Mode) -> Outcome {
    let mut stage = Stage::new("xz", mode)?;
    let input = stage.dir.join("input");
    let mut random = Random::new();
    let words: Vec<String> = (0..5000).map(|_| format!("{:x} ", random.below(1 << 30))).collect();
    let mut text = String::new();
    while text.len() < 40 << 20 {
        text.push_str(&words[random.below(5000) as usize]);
    }
    fs::write(&input, &text).map_err(|e| e.to_string())?;
    if let Some(uid) = mode.uid() {
        std::os::unix::fs::chown(&input, Some(uid), Some(uid)).map_err(|e| e.to_string())?;
    }
    let arguments = ["-T2", "-6", "--block-size=1MiB", "-k", "input"];
    let mut process = stage.start(Path::new("/usr/bin/xz"), &arguments, Kind::Pipes)?;
    let output = stage.dir.join("input.xz");
    let size = || fs::metadata(&output).map_or(0, |m| m.len());
    for trip in 0..2 {
        let already = size();
        until("xz to write", || size() > already || reaper::ended(process.pid).is_some())?;
        let pid = process.pid;
        process = match stage.travel(process, Kind::Pipes) {
            Ok(process) => process,
            // On a busy machine it may have come to its end between two dumps, or be about to.
            Err(why) if trip > 0 => {
                until("xz to end", || reaper::ended(pid).is_some()).map_err(|_| why.clone())?;
                if reaper::ended(pid) != Some(Exit::Code(0)) {
                    return Err(why);
                }
                return unpacks(&output, &text, &stage.dir);
            }
            Err(why) => return Err(why),
        };
    }
    match process.exit()? {
        Exit::Code(0) => {}
        other => return Err(format!("xz ended with {other:?}: {}", process.seen())),
    }
    unpacks(&output, &text, &stage.dir)
}

/// The packed file must hold the text.
fn unpacks(output: &Path, text: &str, dir: &Path) -> Outcome {
    let mut command = Command::new("/usr/bin/xz");
    command.arg("-dc").arg(output);
    let back = command::run(&mut command, dir)?.expect(0, "xz -dc")?;
    if back.stdout == text {
        return Ok(());
    }
    Err("what xz packed is not what it was given".into())
}

fn bc(mode: Mode) -> Outcome {
    let mut stage = Stage::new("bc", mode)?;
    let mut process = stage.start(Path::new("/usr/bin/bc"), &["-q"], Kind::Pipes)?;
    process.send("kept = 2^200; kept % 1000")?;
    process.expect("376\n")?;
    for _ in 0..2 {
        process = stage.travel(process, Kind::Pipes)?;
        process.send("kept / 2^190 + 1")?;
        process.expect("1025\n")?;
    }
    process.send("quit")?;
    process.exit_code(0)
}

fn jemalloc(mode: Mode) -> Outcome {
    let mut stage = Stage::new("jemalloc", mode)?;
    let library = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
    if !Path::new(library).exists() {
        return Err("libjemalloc2 is not installed: run `cargo xtask test`".into());
    }
    let program = Victim::named("jemalloc")?.program();
    let environment =
        [("LD_PRELOAD", library), ("MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")];
    let mut process = stage.start_with(&program, &[], Kind::Pipes, &environment)?;
    process.expect("READY")?;
    for _ in 0..2 {
        process = stage.travel(process, Kind::Pipes)?;
        process.ping()?;
    }
    process.verify()
}

/// A shell leads its session, and runs jobs again after it was resumed.
fn shell(mode: Mode) -> Outcome {
    let mut stage = Stage::new("shell", mode)?;
    let arguments = ["--norc", "--noprofile", "--noediting", "-i"];
    let bash = Path::new("/bin/bash");
    let mut process = stage.start_with(bash, &arguments, Kind::Pty, &[("PS1", "@prompt@ ")])?;
    process.expect("@prompt@ ")?;
    process.send("kept=before; cd /")?;
    process.expect("@prompt@ ")?;
    let mut process = stage.travel(process, Kind::Pty)?;
    process.send("echo \"<$kept $(echo child) $PWD>\"")?;
    process.expect("<before child />")?;
    process.expect("@prompt@ ")?;
    process.send("/bin/sh -c 'exit 3'; echo status $((1 + $?))")?;
    process.expect("status 4")?;
    process.expect("@prompt@ ")?;
    process.send("exit 4")?;
    process.exit_code(4)
}
