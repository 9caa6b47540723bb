//! The children of this process, all of them.
//!
//! The test process is a child subreaper, so that what a killed `dumper` or supervisor leaves
//! behind comes to it and is reaped at once, whatever the init of the machine does. One thread
//! reaps; everybody else asks it. Statuses are consumed and children started under one lock, so
//! a pid that is used again (a resume takes the old one on purpose) is never confused.

use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{waitid, waitpid, Id, WaitPidFlag, WaitStatus};
use nix::unistd::Pid;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

#[derive(Default)]
struct State {
    children: HashMap<i32, Option<Exit>>,
}

#[derive(Default)]
struct Reaper {
    state: Mutex<State>,
    changed: Condvar,
}

fn reaper() -> &'static Reaper {
    static REAPER: OnceLock<Reaper> = OnceLock::new();
    REAPER.get_or_init(Reaper::default)
}

fn lock() -> MutexGuard<'static, State> {
    reaper().state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Makes this process a subreaper and starts reaping.
pub fn start() -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)?;
    thread::Builder::new().name("reaper".into()).spawn(reap)?;
    Ok(())
}

fn reap() {
    loop {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        let pid = match waitid(Id::All, flags) {
            Ok(status) => status.pid(),
            Err(Errno::ECHILD) => {
                thread::sleep(Duration::from_millis(2));
                None
            }
            Err(_) => None,
        };
        let Some(pid) = pid else { continue };
        let mut state = lock();
        let exit = match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => Exit::Code(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => Exit::Signal(signal as i32),
            _ => continue,
        };
        if let Some(slot) = state.children.get_mut(&pid.as_raw()) {
            *slot = Some(exit);
            reaper().changed.notify_all();
        }
    }
}

/// Starts a child that [`wait`] can be asked about.
pub fn spawn(command: &mut Command) -> io::Result<i32> {
    let mut state = lock();
    let child = command.spawn()?;
    let pid = child.id() as i32;
    state.children.insert(pid, None);
    Ok(pid)
}

/// Has a child of ours take this pid, which must be free; [`end`] gives it back.
pub fn occupy(pid: i32) -> io::Result<()> {
    let set = [pid];
    // struct clone_args (clone(2)) up to set_tid_size.
    let mut arguments = [0u64; 10];
    arguments[4] = libc::SIGCHLD as u64;
    arguments[8..].copy_from_slice(&[set.as_ptr() as u64, 1]);
    let mut state = lock();
    // SAFETY: the arguments live across the call; the child is a copy of this process with one
    // thread, and makes nothing but system calls that take no memory.
    unsafe {
        let size = std::mem::size_of_val(&arguments);
        match libc::syscall(libc::SYS_clone3, arguments.as_mut_ptr(), size) {
            0 => loop {
                libc::syscall(libc::SYS_pause);
            },
            -1 => return Err(io::Error::last_os_error()),
            _ => {}
        }
    }
    state.children.insert(pid, None);
    Ok(())
}

/// Waits until the child has ended, at most for `limit`.
pub fn wait(pid: i32, limit: Duration) -> Option<Exit> {
    let deadline = Instant::now() + limit;
    let mut state = lock();
    loop {
        match state.children.get(&pid) {
            Some(Some(exit)) => return Some(*exit),
            Some(None) => {}
            None => return None,
        }
        let left = deadline.checked_duration_since(Instant::now())?;
        state = reaper()
            .changed
            .wait_timeout(state, left)
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .0;
    }
}

/// Whether the child has ended, without waiting.
pub fn ended(pid: i32) -> Option<Exit> {
    lock().children.get(&pid).copied().flatten()
}

/// Ends a child of ours if it still runs, and forgets it.
pub fn end(pid: i32) {
    {
        let state = lock();
        if let Some(None) = state.children.get(&pid) {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        } else {
            return;
        }
    }
    wait(pid, Duration::from_secs(20));
}
