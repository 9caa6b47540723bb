//! A process under test with its standard input and output, and the running of `dumper` on it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::reaper::{self, Exit};

/// The longest any single step may take; generous, as machines are shared.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Why a test failed, with what was seen on the way.
pub type Outcome<T = ()> = Result<T, String>;

/// What a process has for standard input and output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A pipe each way, as under a build tool.
    Pipes,
    /// Standard input a pipe, output and error one file.
    File,
    /// A terminal whose session the process leads.
    Pty,
}

/// A running process whose input and output we hold.
pub struct Process {
    /// Its pid: of the victim, or of the supervisor after a resume.
    pub pid: i32,
    input: File,
    output: Option<File>,
    file: Option<PathBuf>,
    seen: Vec<u8>,
    at: usize,
}

impl Drop for Process {
    fn drop(&mut self) {
        reaper::end(self.pid);
    }
}

/// Starts `command` with standard input and output of the given kind.
pub fn start(mut command: Command, kind: Kind, dir: &Path) -> Outcome<Process> {
    let (input, output, file);
    if kind != Kind::Pty {
        // As a shell's job. In our own group it could be the one with a parent outside that keeps
        // the group from being an orphaned one: when that ends, and another one of the group is
        // stopped, the kernel sends SIGHUP to all of it (kill_orphaned_pgrp in kernel/exit.c).
        command.process_group(0);
    }
    match kind {
        Kind::Pipes => {
            let (stdin, to) = pipe()?;
            let (from, stdout) = pipe()?;
            let stderr = stdout.try_clone().map_err(|e| e.to_string())?;
            command.stdin(stdin).stdout(stdout).stderr(stderr);
            (input, output, file) = (to.into(), Some(from.into()), None);
        }
        Kind::File => {
            let (stdin, to) = pipe()?;
            let path = dir.join("output.txt");
            let open = fs::OpenOptions::new().create(true).append(true).open(&path);
            let out = open.map_err(|e| format!("{}: {e}", path.display()))?;
            // Whoever resumes opens it by its name.
            let shared = fs::Permissions::from_mode(0o666);
            out.set_permissions(shared).map_err(|e| e.to_string())?;
            let err = out.try_clone().map_err(|e| e.to_string())?;
            command.stdin(stdin).stdout(out).stderr(err);
            (input, output, file) = (to.into(), None, Some(path));
        }
        Kind::Pty => {
            let (master, slave) = pty().map_err(|e| format!("making a terminal: {e}"))?;
            let clone = || slave.try_clone().map_err(|e| e.to_string());
            command.stdin(clone()?).stdout(clone()?).stderr(clone()?);
            // SAFETY: setsid and ioctl are async-signal-safe and touch no memory of ours.
            unsafe {
                command.pre_exec(|| {
                    nix::unistd::setsid()?;
                    if libc::ioctl(0, libc::TIOCSCTTY, 0) != 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                    Ok(())
                });
            }
            let reading = master.try_clone().map_err(|e| e.to_string())?;
            (input, output, file) = (master, Some(reading), None);
        }
    }
    let pid = reaper::spawn(&mut command).map_err(|e| format!("starting {command:?}: {e}"))?;
    Ok(Process { pid, input, output, file, seen: Vec::new(), at: 0 })
}

fn pipe() -> Outcome<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| format!("pipe: {e}"))
}

/// A terminal: the side we hold and the side of the process, which its user may open by name.
///
/// Both are close-on-exec from the start, as other tests start processes at any moment.
fn pty() -> std::io::Result<(File, File)> {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let slave = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(ptsname_r(&master)?)?;
    slave.set_permissions(fs::Permissions::from_mode(0o666))?;
    Ok((File::from(OwnedFd::from(master)), slave))
}

impl Process {
    /// Everything the process has written so far.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Sends a line.
    pub fn send(&mut self, line: &str) -> Outcome {
        let text = format!("{line}\n");
        self.input
            .write_all(text.as_bytes())
            .map_err(|e| format!("sending {line:?} to {}: {e}\n{}", self.pid, self.seen()))
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Outcome {
        self.input.write_all(bytes).map_err(|e| format!("sending to {}: {e}", self.pid))
    }

    /// The other side of the process's terminal, where it has one.
    pub fn terminal(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }

    /// Reads what is there within `wait`; false at the end of the output.
    fn fill(&mut self, wait: Duration) -> bool {
        if let Some(path) = &self.file {
            // Asked first: what was written before the end is then in the file.
            let ended = reaper::ended(self.pid).is_some();
            let all = fs::read(path).unwrap_or_default();
            if all.len() > self.seen.len() {
                self.seen = all;
            } else if ended {
                return false;
            } else {
                std::thread::sleep(wait.min(Duration::from_millis(5)));
            }
            return true;
        }
        let Some(output) = &mut self.output else {
            return false;
        };
        let timeout = PollTimeout::try_from(wait.as_millis() as i32).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) | Err(_) => true,
            Ok(_) => {
                let mut buffer = [0u8; 4096];
                match output.read(&mut buffer) {
                    // A terminal whose last user is gone answers EIO.
                    Ok(0) | Err(_) => false,
                    Ok(n) => {
                        self.seen.extend_from_slice(&buffer[..n]);
                        true
                    }
                }
            }
        }
    }

    /// Waits until `wanted` appears after what was expected before, and returns what came first.
    pub fn expect(&mut self, wanted: &str) -> Outcome<String> {
        self.expect_within(wanted, LIMIT)
    }

    /// [`Process::expect`] with a limit of its own.
    pub fn expect_within(&mut self, wanted: &str, limit: Duration) -> Outcome<String> {
        let deadline = Instant::now() + limit;
        let mut ended = false;
        loop {
            let fresh = &self.seen[self.at..];
            if let Some(found) = find(fresh, wanted.as_bytes()) {
                let before = String::from_utf8_lossy(&fresh[..found]).into_owned();
                self.at += found + wanted.len();
                return Ok(before);
            }
            if let Some(found) = find(fresh, b"FAIL: ") {
                let line = String::from_utf8_lossy(&fresh[found..]).into_owned();
                return Err(format!("the victim says: {}", line.trim_end()));
            }
            let now = Instant::now();
            if ended || now >= deadline {
                let why = if ended { "the output ended" } else { "time is up" };
                if ended {
                    reaper::wait(self.pid, Duration::from_secs(5));
                }
                let state = self.state();
                return Err(format!(
                    "waiting for {wanted:?}: {why}; process {} {state}; output so far:\n{}",
                    self.pid,
                    self.seen()
                ));
            }
            ended = !self.fill((deadline - now).min(Duration::from_millis(200)));
        }
    }

    fn state(&self) -> String {
        if let Some(exit) = reaper::ended(self.pid) {
            return format!("has ended: {exit:?}");
        }
        let mut text = String::new();
        for pid in std::iter::once(self.pid).chain(children(self.pid)) {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let state = status.lines().find(|l| l.starts_with("State:")).unwrap_or("no state");
            let at = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
            let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
            let _ = write!(text, "[{pid} {} in {at}, call {}] ", state.trim(), call.trim());
        }
        text
    }

    /// Asks for a sign of life; shows that the process runs and holds its input and output.
    pub fn ping(&mut self) -> Outcome {
        self.send("ping")?;
        self.expect("PONG").map(drop)
    }

    /// Has the victim verify its state and end.
    pub fn verify(&mut self) -> Outcome {
        self.send("verify")?;
        self.expect("OK")?;
        self.exit_code(0)
    }

    /// Waits for the end. On a busy machine a program that computes takes longer than one that
    /// waits, and is not stuck.
    pub fn exit(&mut self) -> Outcome<Exit> {
        let mut before = 0;
        for _ in 0..6 {
            if let Some(exit) = reaper::wait(self.pid, LIMIT) {
                return Ok(exit);
            }
            let used = self.family().into_iter().map(processor_time).sum();
            if used < before + LIMIT.as_secs() {
                break;
            }
            before = used;
        }
        Err(format!("process {} does not end: {}\n{}", self.pid, self.state(), self.seen()))
    }

    /// It, and all its descendants.
    pub fn family(&self) -> Vec<i32> {
        let mut all = vec![self.pid];
        let mut next = 0;
        while let Some(&pid) = all.get(next) {
            all.extend(children(pid));
            next += 1;
        }
        all
    }

    /// Ends it with all its descendants, and waits until their pids are free again.
    pub fn end(&mut self) -> Outcome {
        let all = self.family();
        for &pid in &all {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        free(&all).map_err(|e| format!("{e}: {}", self.state()))
    }

    /// Waits for an end with this status.
    pub fn exit_code(&mut self, code: i32) -> Outcome {
        let exit = self.exit()?;
        if exit == Exit::Code(code) {
            return Ok(());
        }
        while self.output.is_some() && self.fill(Duration::from_millis(50)) {
            if reaper::ended(self.pid).is_some() {
                break;
            }
        }
        Err(format!("ended with {exit:?}, expected status {code}; output:\n{}", self.seen()))
    }
}

/// Waits until these pids can be had again: those below a killed root are collected after it.
pub fn free(pids: &[i32]) -> Outcome {
    let deadline = Instant::now() + LIMIT;
    while pids.iter().any(|&pid| nix::sys::signal::kill(Pid::from_raw(pid), None).is_ok()) {
        if Instant::now() > deadline {
            return Err(format!("processes {pids:?} do not end"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The children of all threads of a process.
pub fn children(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return found;
    };
    for task in tasks.flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(text.split_ascii_whitespace().filter_map(|p| p.parse::<i32>().ok()));
    }
    found
}

/// Clock ticks (hundredths of a second) that a process has computed: utime and stime of
/// proc_pid_stat(5), which are the 12th and 13th field after the name.
fn processor_time(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
    let ticks = |field: &str| field.parse::<u64>().unwrap_or(0);
    fields.split_ascii_whitespace().skip(11).take(2).map(ticks).sum()
}

/// First place of `needle` in `hay`.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|w| w == needle)
}
