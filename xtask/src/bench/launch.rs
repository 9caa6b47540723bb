//! Programs that are started, watched and ended.

use super::clock::stamp;
use crate::tree::{descendants, keep_only_standard};
use crate::Failure;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// No single step takes this long on any machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A pause in a program's life: the counter before and after it.
#[derive(Debug, Clone, Copy)]
pub struct Gap {
    /// The last reading before.
    pub from: u64,
    /// The first reading after.
    pub to: u64,
}

/// A running program whose pauses we read.
pub struct Running {
    child: Child,
    output: ChildStdout,
    text: Vec<u8>,
    /// The counter right before its execve.
    pub started: u64,
}

/// Memory that a forked child shares with us until its execve.
struct Shared(*mut AtomicU64);

impl Shared {
    fn new() -> Result<Shared, Failure> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().into());
        }
        Ok(Shared(page.cast()))
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: the mapping is page-aligned, zeroed, and lives as long as self.
        unsafe { &*self.0 }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives self.
        unsafe { libc::munmap(self.0.cast(), 4096) };
    }
}

impl Running {
    /// Starts a command whose output tells its pauses.
    pub fn start(command: &mut Command) -> Result<Running, Failure> {
        let shared = Shared::new()?;
        let address = shared.0 as usize;
        // SAFETY: between fork and execve only a system call is made, the counter read, and a word
        // of memory stored.
        unsafe {
            command.pre_exec(move || {
                keep_only_standard();
                (*(address as *const AtomicU64)).store(stamp(), Ordering::Relaxed);
                Ok(())
            });
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("starting {command:?}: {e}"))?;
        let started = shared.word().load(Ordering::Relaxed);
        let output = child.stdout.take().ok_or("no standard output")?;
        Ok(Running { child, output, text: Vec::new(), started })
    }

    /// Its pid: the program's, or the supervisor's after a resume in place.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the program has made its state.
    pub fn ready(&mut self) -> Result<(), Failure> {
        let line = self.line()?;
        if line == "READY" {
            Ok(())
        } else {
            Err(format!("a measured program said \"{line}\" and not READY").into())
        }
    }

    /// Waits for the pause that holds this moment.
    pub fn gap_at(&mut self, moment: u64) -> Result<Gap, Failure> {
        loop {
            let line = self.line()?;
            let numbers = line.split_once(' ').and_then(|(from, to)| {
                Some(Gap { from: from.parse().ok()?, to: to.parse().ok()? })
            });
            let gap = numbers.ok_or_else(|| format!("a measured program said \"{line}\""))?;
            if gap.from <= moment && moment < gap.to {
                return Ok(gap);
            }
            if gap.from > moment {
                return Err("a measured program ran on through the moment of its stop".into());
            }
        }
    }

    /// The longest pause within this time, which has passed.
    pub fn longest_gap(&mut self, from: u64, to: u64) -> Option<u64> {
        let mut longest = None;
        while self.fill(Duration::from_millis(1)).unwrap_or(false) {}
        while let Some(line) = self.take_line() {
            let Some((start, end)) = line.split_once(' ') else { continue };
            let (Ok(start), Ok(end)) = (start.parse::<u64>(), end.parse::<u64>()) else { continue };
            if start < to && end > from {
                longest = longest.max(Some(end.saturating_sub(start)));
            }
        }
        longest
    }

    fn take_line(&mut self) -> Option<String> {
        let end = self.text.iter().position(|b| *b == b'\n')?;
        let line: Vec<u8> = self.text.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    fn line(&mut self) -> Result<String, Failure> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(line) = self.take_line() {
                return Ok(line);
            }
            if Instant::now() > deadline {
                return Err("a measured program stays silent".into());
            }
            self.fill(Duration::from_secs(1))?;
        }
    }

    /// Reads what has come; false when nothing came in time.
    fn fill(&mut self, wait: Duration) -> Result<bool, Failure> {
        let mut poll =
            libc::pollfd { fd: self.output.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid structure is given.
        let ready = unsafe { libc::poll(&raw mut poll, 1, wait.as_millis() as libc::c_int) };
        if ready <= 0 {
            return Ok(false);
        }
        let mut buffer = [0u8; 4096];
        let count = self.output.read(&mut buffer)?;
        if count == 0 {
            let status = self.child.wait()?;
            return Err(format!("a measured program ended ({status})").into());
        }
        self.text.extend_from_slice(&buffer[..count]);
        Ok(true)
    }

    /// Waits until a dump has ended it.
    pub fn gone(mut self) -> Result<(), Failure> {
        let status = self.child.wait()?;
        if status.signal() == Some(libc::SIGKILL) {
            Ok(())
        } else {
            Err(format!("a dumped program ended otherwise than by its dump ({status})").into())
        }
    }

    /// Ends it, and the program behind it if it is a supervisor.
    pub fn end(mut self) -> Result<(), Failure> {
        self.stop()
    }

    fn stop(&mut self) -> Result<(), Failure> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let others = descendants(self.pid());
        // SAFETY: kill takes numbers; the child is not waited for yet, so its pid is its own.
        unsafe { libc::kill(self.pid() as i32, libc::SIGTERM) };
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                for pid in others.into_iter().chain([self.pid() as i32]) {
                    // SAFETY: as above; the supervisor, unended, still holds its descendants' pids.
                    unsafe { libc::kill(pid, libc::SIGKILL) };
                }
                self.child.wait()?;
                return Err("a resumed program did not end by SIGTERM to its supervisor".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only a failure elsewhere leaves one running; that failure is what gets told.
        let _ = self.stop();
    }
}

/// What a command that ran to its end left.
pub struct Ended {
    /// From before its start until it was waited for, in microseconds.
    pub wall_us: f64,
    /// The most memory it, or a process it waited for, ever held.
    pub peak_bytes: u64,
    /// Its standard output.
    pub output: String,
}

/// Runs a command to its end and demands success.
pub fn run(command: &mut Command) -> Result<Ended, Failure> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().map_err(|e| format!("starting {command:?}: {e}"))?;
    let mut status = 0;
    // SAFETY: all zeroes are a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // The few lines a command prints fit into its pipes, so it can be waited for first.
    // SAFETY: the pid is that of an unwaited child, both results are ours to write.
    let waited = unsafe { libc::wait4(child.id() as i32, &raw mut status, 0, &raw mut usage) };
    let wall_us = start.elapsed().as_secs_f64() * 1e6;
    if waited < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let mut output = String::new();
    let mut errors = String::new();
    if let Some(pipe) = &mut child.stdout {
        pipe.read_to_string(&mut output)?;
    }
    if let Some(pipe) = &mut child.stderr {
        pipe.read_to_string(&mut errors)?;
    }
    let status = ExitStatus::from_raw(status);
    if !status.success() {
        return Err(format!("{command:?} failed ({status}): {output}{errors}").into());
    }
    Ok(Ended { wall_us, peak_bytes: usage.ru_maxrss as u64 * 1024, output })
}
