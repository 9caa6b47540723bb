//! Terminals: programs started by a real shell in one terminal, resumed by another shell in
//! another terminal.

use std::cell::Cell;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::command;
use crate::process::{self, Kind, Outcome, Process};
use crate::scratch;
use crate::victims::{is_stopped, until, Mode, Victim};
use crate::Case;

type Body = fn(Option<u32>) -> Outcome;

/// All cases.
pub fn cases() -> Vec<Case> {
    let both = [("root", None), ("user", Mode::User.uid())];
    let list: [(&str, Body); 11] = [
        ("without_dump", without_dump),
        ("two_inputs", two_inputs),
        ("interrupt_key", interrupt_key),
        ("stop_key_and_fg", stop_key),
        ("background_and_fg", background),
        ("window_size", window_size),
        ("raw_modes", raw_modes),
        ("exit_status", exit_status),
        ("killed_by_signal", killed_by_signal),
        ("stopped_job", stopped_job),
        ("stopped_by_reading", stopped_by_reading),
    ];
    let mut all = Vec::new();
    for (name, body) in list {
        for (user, uid) in both {
            let title = format!("terminal::{name}::{user}");
            all.push(Case::new(title, user == "root", move || body(uid)));
        }
    }
    all
}

/// A shell in a terminal of its own.
struct Shell {
    process: Process,
    modes: String,
}

const PROMPT: &str = "@prompt@ ";

impl Shell {
    fn start(dir: &Path, uid: Option<u32>, rows: u16, columns: u16) -> Outcome<Shell> {
        let mut shell = Command::new("/bin/bash");
        command::as_user(&mut shell, uid);
        shell.args(["--norc", "--noprofile", "--noediting", "-i"]);
        shell.env("PS1", PROMPT).env("TERM", "dumb").env("HOME", dir).current_dir(dir);
        let process = process::start(shell, Kind::Pty, dir)?;
        let mut shell = Shell { process, modes: String::new() };
        shell.resize(rows, columns)?;
        shell.process.expect(PROMPT)?;
        shell.modes = shell.ask("stty -g")?;
        Ok(shell)
    }

    fn resize(&self, rows: u16, columns: u16) -> Outcome {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let fd = self.process.terminal().as_raw_fd();
        // SAFETY: the descriptor is a terminal's and the structure is the one the call reads.
        if unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &raw const size) } == 0 {
            return Ok(());
        }
        Err(format!("setting a window size: {}", std::io::Error::last_os_error()))
    }

    /// Runs a short command and gives what it printed.
    fn ask(&mut self, line: &str) -> Outcome<String> {
        self.process.send(line)?;
        let text = self.process.expect(PROMPT)?;
        // The terminal echoed the command first.
        Ok(text.split_once('\n').map_or(text.as_str(), |(_, rest)| rest).trim().to_owned())
    }

    /// The shell's modes must be what they were before.
    fn modes_are_back(&mut self) -> Outcome {
        let now = self.ask("stty -g")?;
        if now == self.modes {
            return Ok(());
        }
        Err(format!("the shell's modes are {now}, were {}", self.modes))
    }

    fn expect_status(&mut self, status: i32) -> Outcome {
        let line = self.ask("echo status=$?")?;
        if line == format!("status={status}") {
            return Ok(());
        }
        Err(format!("expected status {status}, the shell says {line:?}\n{}", self.process.seen()))
    }

    fn job(&self) -> Outcome<i32> {
        let mut found = None;
        until("the shell's job", || {
            found = process::children(self.process.pid).first().copied();
            found.is_some()
        })?;
        found.ok_or_else(|| "the shell has no job".into())
    }

    fn finish(mut self) -> Outcome {
        self.process.send("exit 0")?;
        self.process.exit_code(0)
    }
}

/// A directory, a program started in a first terminal and dumped there.
struct Travel {
    dir: PathBuf,
    uid: Option<u32>,
    /// Dumps so far; each makes an image of its own.
    dumps: Cell<u32>,
}

impl Travel {
    fn new(name: &str, uid: Option<u32>) -> Outcome<Travel> {
        let dir = scratch::directory(name, uid).map_err(|e| e.to_string())?;
        Ok(Travel { dir, uid, dumps: Cell::new(0) })
    }

    /// The last image that was made.
    fn image(&self) -> PathBuf {
        self.dir.join(format!("resume{}.elf", self.dumps.get()))
    }

    /// Starts the victim from a shell in a terminal of 24 x 80.
    fn begin(&self, victim: &str, awaited: &str) -> Outcome<Shell> {
        let mut shell = Shell::start(&self.dir, self.uid, 24, 80)?;
        let program = Victim::named(victim)?.program();
        shell.process.send(&program.display().to_string())?;
        shell.process.expect(awaited)?;
        Ok(shell)
    }

    /// Dumps the shell's job; the shell notices its end.
    fn dump(&self, shell: &mut Shell) -> Outcome {
        let pid = shell.job()?;
        self.dumps.set(self.dumps.get() + 1);
        command::dump(pid, &self.image(), self.uid, &[])?;
        shell.process.expect("Killed")?;
        shell.process.expect(PROMPT)?;
        Ok(())
    }

    /// Resumes in a terminal of its own and another size.
    fn resume(&self) -> Outcome<Shell> {
        self.resume_at(50, 132)
    }

    fn resume_at(&self, rows: u16, columns: u16) -> Outcome<Shell> {
        let mut shell = Shell::start(&self.dir, self.uid, rows, columns)?;
        shell.process.send(&format!("./resume{}.elf", self.dumps.get()))?;
        Ok(shell)
    }

    /// Dumps what was resumed in a second terminal, which ends, and resumes it in a third one.
    fn onward(&self, mut shell: Shell) -> Outcome<Shell> {
        self.dump(&mut shell)?;
        shell.modes_are_back()?;
        shell.finish()?;
        self.resume_at(40, 100)
    }
}

/// Shows that the shell and the victim do what the other tests take for granted.
fn without_dump(uid: Option<u32>) -> Outcome {
    let travel = Travel::new("without", uid)?;
    let mut shell = travel.begin("terminal", "READY")?;
    shell.process.ping()?;
    shell.process.send_raw(b"\x1a")?;
    shell.process.expect("Stopped")?;
    shell.process.expect(PROMPT)?;
    shell.process.send("bg")?;
    shell.process.expect(PROMPT)?;
    let job = shell.job()?;
    until("the job to stop on reading in the background", || is_stopped(job))?;
    shell.process.send("fg")?;
    shell.process.expect("terminal")?;
    shell.process.send("size")?;
    shell.process.expect("SIZE 24 80 changes 0")?;
    shell.process.send("raw")?;
    shell.process.expect("RAW")?;
    shell.process.send_raw(b"q")?;
    shell.process.expect(PROMPT)?;
    shell.expect_status(7)?;
    shell.modes_are_back()?;
    shell.finish()
}

/// Waits until the shell's job is a supervisor with the program below it, which reads its terminal.
fn resumed(shell: &Shell) -> Outcome {
    let job = shell.job()?;
    until("the program to read its terminal", || {
        process::children(job).iter().any(|pid| {
            // The call's number comes first; that of read is 0.
            let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
            call.starts_with("0 0x0 ")
        })
    })
}

fn two_inputs(uid: Option<u32>) -> Outcome {
    let travel = Travel::new("two-inputs", uid)?;
    let mut first = travel.begin("two_inputs", "First number: ")?;
    first.process.send("1200")?;
    first.process.expect("Second number: ")?;
    travel.dump(&mut first)?;
    first.modes_are_back()?;
    first.finish()?;
    let second = travel.resume()?;
    // Nothing is on the new terminal that would tell of the resume.
    resumed(&second)?;
    let mut second = travel.onward(second)?;
    second.process.send("34")?;
    second.process.expect("1200 + 34 = 1234")?;
    second.process.expect(PROMPT)?;
    second.expect_status(0)?;
    second.modes_are_back()?;
    second.finish()
}

/// The shell answers `^C` while the program runs.
fn interrupt_key(uid: Option<u32>) -> Outcome {
    let travel = Travel::new("interrupt", uid)?;
    let mut first = travel.begin("terminal", "READY")?;
    travel.dump(&mut first)?;
    let mut second = travel.resume()?;
    second.process.ping()?;
    let mut second = travel.onward(second)?;
    second.process.ping()?;
    second.process.send("group")?;
    second.process.expect("GROUP foreground")?;
    second.process.send_raw(b"\x03")?;
    second.process.expect(PROMPT)?;
    second.expect_status(130)?;
    second.modes_are_back()?;
    second.finish()
}

fn stop_key(uid: Option<u32>) -> Outcome {
    let travel = Travel::new("stop-key", uid)?;
    let mut first = travel.begin("terminal", "READY")?;
    travel.dump(&mut first)?;
    let mut second = travel.resume()?;
    second.process.ping()?;
    let mut second = travel.onward(second)?;
    for _ in 0..3 {
        second.process.ping()?;
        second.process.send_raw(b"\x1a")?;
        second.process.expect("Stopped")?;
        second.process.expect(PROMPT)?;
        second.modes_are_back()?;
        second.process.send("fg")?;
        second.process.expect("./resume")?;
    }
    second.process.ping()?;
    second.process.send("quit 5")?;
    second.process.expect(PROMPT)?;
    second.expect_status(5)?;
    second.finish()
}

/// Stopped, continued in the background (where it wants to read and stops), then `fg`.
fn background(uid: Option<u32>) -> Outcome {
    let travel = Travel::new("background", uid)?;
    let mut first = travel.begin("terminal", "READY")?;
    travel.dump(&mut first)?;
    let mut second = travel.resume()?;
    second.process.ping()?;
    let mut second = travel.onward(second)?;
    second.process.ping()?;
    second.process.send_raw(b"\x1a")?;
    second.process.expect("Stopped")?;
    second.process.expect(PROMPT)?;
    second.process.send("bg")?;
    second.process.expect(PROMPT)?;
    let job = second.job()?;
    until("the job to stop on reading in the background", || is_stopped(job))?;
    second.process.send("fg")?;
    second.process.expect("./resume")?;
    second.process.ping()?;
    second.process.send("quit 0")?;
    second.process.expect(PROMPT)?;
    second.finish()
}

fn window_size(uid: Option<u32>) -> Outcome {
    let travel = Travel::new("window", uid)?;
    let mut first = travel.begin("terminal", "READY")?;
    first.process.send("size")?;
    first.process.expect("SIZE 24 80 changes 0")?;
    travel.dump(&mut first)?;
    let mut second = travel.resume()?;
    // It has another size now, and was told.
    second.process.send("size")?;
    second.process.expect("SIZE 50 132 changes 1")?;
    second.resize(33, 99)?;
    second.process.ping()?;
    second.process.send("size")?;
    second.process.expect("SIZE 33 99 changes 2")?;
    second.process.send("quit 0")?;
    second.process.expect(PROMPT)?;
    second.finish()
}

/// Waits until the terminal is in the program's raw mode.
fn is_raw(shell: &Shell) -> Outcome {
    until("the raw mode to be there", || {
        nix::sys::termios::tcgetattr(shell.process.terminal())
            .is_ok_and(|t| !t.local_flags.contains(nix::sys::termios::LocalFlags::ICANON))
    })
}

fn raw_modes(uid: Option<u32>) -> Outcome {
    let travel = Travel::new("raw", uid)?;
    let mut first = travel.begin("terminal", "READY")?;
    first.process.send("raw")?;
    first.process.expect("RAW")?;
    first.process.send_raw(b"a")?;
    first.process.expect("<97>")?;
    travel.dump(&mut first)?;
    let mut second = travel.resume()?;
    is_raw(&second)?;
    // No key means anything, nothing is echoed, nothing waits for the end of the line.
    second.process.send_raw(b"\x03")?;
    let before = second.process.expect("<3>")?;
    if before.contains("^C") {
        return Err(format!("the terminal echoes in raw mode: {before:?}"));
    }
    let mut second = travel.onward(second)?;
    is_raw(&second)?;
    second.process.send_raw(b"\x1a")?;
    second.process.expect("<26>")?;
    second.process.send_raw(b"q")?;
    second.process.expect("<113>")?;
    second.process.expect(PROMPT)?;
    second.expect_status(7)?;
    second.modes_are_back()?;
    second.finish()
}

fn exit_status(uid: Option<u32>) -> Outcome {
    let travel = Travel::new("status", uid)?;
    let mut first = travel.begin("terminal", "READY")?;
    travel.dump(&mut first)?;
    let mut second = travel.resume()?;
    second.process.ping()?;
    let mut second = travel.onward(second)?;
    second.process.ping()?;
    second.process.send("quit 42")?;
    second.process.expect(PROMPT)?;
    second.expect_status(42)?;
    // The same image once more, with a pid of its own choice.
    second.process.send("./resume2.elf --new-pid")?;
    second.process.ping()?;
    second.process.send("quit 43")?;
    second.process.expect(PROMPT)?;
    second.expect_status(43)?;
    second.modes_are_back()?;
    second.finish()
}

fn killed_by_signal(uid: Option<u32>) -> Outcome {
    let travel = Travel::new("killed", uid)?;
    let mut first = travel.begin("terminal", "READY")?;
    travel.dump(&mut first)?;
    let mut second = travel.resume()?;
    second.process.ping()?;
    let mut second = travel.onward(second)?;
    second.process.ping()?;
    // What asks the resumed job to end reaches the program.
    kill(Pid::from_raw(second.job()?), Signal::SIGTERM).map_err(|e| e.to_string())?;
    second.process.expect(PROMPT)?;
    second.expect_status(143)?;
    second.modes_are_back()?;
    second.finish()
}

/// Dumped while it is a stopped job; after the resume it is a stopped job of the other shell.
fn stopped_job(uid: Option<u32>) -> Outcome {
    stays_stopped(uid, |_| Ok(()))
}

/// Stopped by SIGTTIN, it waits for `fg` as well, although it has the terminal at once.
fn stopped_by_reading(uid: Option<u32>) -> Outcome {
    stays_stopped(uid, |shell| {
        shell.process.send("bg")?;
        shell.process.expect(PROMPT)?;
        let job = shell.job()?;
        until("the job to stop on reading in the background", || is_stopped(job))
    })
}

fn stays_stopped(uid: Option<u32>, then: fn(&mut Shell) -> Outcome) -> Outcome {
    let travel = Travel::new("stopped-job", uid)?;
    let mut first = travel.begin("terminal", "READY")?;
    first.process.send_raw(b"\x1a")?;
    first.process.expect("Stopped")?;
    first.process.expect(PROMPT)?;
    then(&mut first)?;
    let pid = first.job()?;
    travel.dumps.set(1);
    command::dump(pid, &travel.image(), uid, &[])?;
    let mut second = travel.resume()?;
    second.process.expect("Stopped")?;
    second.process.expect(PROMPT)?;
    second.modes_are_back()?;
    // Dumped as a stopped job once more.
    let pid = second.job()?;
    travel.dumps.set(2);
    command::dump(pid, &travel.image(), uid, &[])?;
    let mut second = travel.resume_at(40, 100)?;
    second.process.expect("Stopped")?;
    second.process.expect(PROMPT)?;
    second.modes_are_back()?;
    second.process.send("fg")?;
    second.process.expect("./resume")?;
    second.process.ping()?;
    second.process.send("quit 3")?;
    second.process.expect(PROMPT)?;
    second.expect_status(3)?;
    second.finish()
}
