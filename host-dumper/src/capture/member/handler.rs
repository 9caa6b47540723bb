//! A program's own handler as its consent: the signal is sent, the handler runs, and its thread is
//! held at the entry of the rt_sigreturn by which it would go back.
//!
//! ```text
//! signal sent ─> about to be delivered ─> first instruction ─> system calls ... ─> rt_sigreturn
//!                (told by its value)      (rsp is the frame)                       (rsp is frame + 8)
//! ```
//!
//! A handler that is interrupted by others is told from them by the address of its frame. One that was left
//! for good, by longjmp(3), has given no consent: another signal's frame may come to lie where its own was.

use super::super::error::{CaptureError, Result};
use super::super::proc::Proc;
use super::super::stop::{Cause, Stopped, SIGINFO_SIZE};
use super::super::thread::Thread;
use super::{ended_is_fine, target, Member};
use crate::capture::arch::x86_64::SYSCALL_LEN;
use nix::errno::Errno;
use std::time::Duration;

/// Between two looks at the threads.
const NAP: Duration = Duration::from_micros(100);
/// Looks after which new threads are looked for.
const NEW_THREADS: u32 = 20;
/// Bytes that rt_sigreturn's caller has taken from the frame: the handler's return address.
const RETURN_ADDRESS: u64 = 8;
const SIGINFO_CODE: usize = 8;
const SIGINFO_VALUE: usize = 24;
const SI_QUEUE: i32 = -1;

/// What became of a signal that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// The handler has run; nothing of its thread runs since. All threads stand.
    Returned,
    /// Waiting was given up, and the signal was not taken.
    Pending,
    /// Waiting was given up while the handler ran.
    Running,
    /// There is no handler any more: the signal, which may end such a process, was not delivered.
    Unhandled,
}

/// Where the thread of the handler is.
#[derive(Clone, Copy)]
enum Way {
    /// The signal was not taken yet.
    Sent,
    /// It is being delivered to thread `tid`.
    Delivered { tid: u32 },
    /// The handler runs on this frame; `met`: another signal is being delivered, and the stack pointer
    /// before that.
    Inside { tid: u32, frame: u64, met: Option<u64> },
    /// The handler was left without a return.
    Left,
}

/// What a look at a thread has shown.
enum Seen {
    /// Nothing that matters.
    Nothing,
    /// It stands at the end of the handler.
    Return,
    /// There is no handler.
    NoHandler,
}

/// The siginfo_t of a signal that is sent with a value.
pub fn queued(signal: i32, value: u64, pid: u32, uid: u32) -> [u8; SIGINFO_SIZE] {
    let mut info = [0; SIGINFO_SIZE];
    info[..4].copy_from_slice(&signal.to_le_bytes());
    info[SIGINFO_CODE..SIGINFO_CODE + 4].copy_from_slice(&SI_QUEUE.to_le_bytes());
    info[16..20].copy_from_slice(&pid.to_le_bytes());
    info[20..24].copy_from_slice(&uid.to_le_bytes());
    info[SIGINFO_VALUE..SIGINFO_VALUE + 8].copy_from_slice(&value.to_le_bytes());
    info
}

/// Whether it is the signal that was sent with `value`.
pub(super) fn is_ours(info: &[u8; SIGINFO_SIZE], signal: i32, value: u64) -> bool {
    let word = |at: usize| info[at..].first_chunk::<4>().map_or(0, |b| i32::from_le_bytes(*b));
    let wide = info[SIGINFO_VALUE..].first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
    word(0) == signal && word(SIGINFO_CODE) == SI_QUEUE && wide == value
}

impl Member {
    /// Sends `signal` with `value` by `send` and follows its handler up to its end, as long as
    /// `patient` says.
    pub fn run_handler(
        &mut self,
        signal: i32,
        value: u64,
        send: impl FnOnce() -> Result<()>,
        patient: &mut dyn FnMut() -> bool,
    ) -> Result<Handled> {
        self.seize_all()?;
        send()?;
        let mut way = Way::Sent;
        let mut looks = 0u32;
        loop {
            for i in 0..self.threads.len() {
                let pid = self.pid();
                let handles = || is_caught(&self.target.proc, signal);
                match follow(&mut self.threads[i], &mut way, (signal, value), &handles) {
                    Ok(Seen::Nothing) => {}
                    Ok(Seen::Return) => {
                        self.stop()?;
                        return Ok(Handled::Returned);
                    }
                    Ok(Seen::NoHandler) => return Ok(Handled::Unhandled),
                    error => ended_is_fine(pid, &self.threads[i], error.map(drop))?,
                }
            }
            self.threads.retain(|t| !t.is_gone());
            if self.threads.is_empty() {
                return Err(CaptureError::Died { pid: self.pid(), during: "its handler ran" });
            }
            if !patient() {
                return Ok(match way {
                    Way::Sent => Handled::Pending,
                    Way::Delivered { .. } | Way::Inside { .. } | Way::Left => Handled::Running,
                });
            }
            looks += 1;
            if looks.is_multiple_of(NEW_THREADS) {
                self.seize_all()?;
            }
            std::thread::sleep(NAP);
        }
    }

    /// Seizes every thread and lets it run.
    fn seize_all(&mut self) -> Result<()> {
        let pid = self.pid();
        for tid in self.target.proc.threads()? {
            if self.threads.iter().all(|t| t.tid() != tid) {
                match Thread::seize(tid) {
                    Ok(thread) => self.threads.push(thread),
                    Err(Errno::ESRCH) if tid != pid => {}
                    Err(e) => return Err(target::seize_failed(pid, e)),
                }
            }
        }
        Ok(())
    }
}

/// Whether the process has a handler for the signal.
fn is_caught(proc: &Proc, signal: i32) -> bool {
    proc.status().is_ok_and(|status| status.caught >> (signal - 1) & 1 == 1)
}

/// Looks after one thread.
fn follow(
    thread: &mut Thread,
    way: &mut Way,
    (signal, value): (i32, u64),
    handles: &dyn Fn() -> bool,
) -> Result<Seen> {
    let Some(cause) = thread.poll()? else { return Ok(Seen::Nothing) };
    let tid = thread.tid();
    match cause {
        Cause::Signal(met) => {
            let sent = met == signal && is_ours(&thread.stopped()?.siginfo()?, signal, value);
            match *way {
                Way::Sent if sent && !handles() => {
                    thread.leave(|s| s.go(0))?;
                    return Ok(Seen::NoHandler);
                }
                // Asked for before it goes on, a stop comes at the handler's first instruction.
                Way::Sent if sent => {
                    thread.interrupt()?;
                    *way = Way::Delivered { tid };
                }
                Way::Inside { tid: inside, frame, .. } if inside == tid => {
                    thread.interrupt()?;
                    let met = Some(thread.stopped()?.registers()?.rsp);
                    *way = Way::Inside { tid, frame, met };
                }
                _ => {}
            }
            thread.leave(|s| s.go(met))?;
        }
        Cause::Event(libc::SIGTRAP) => match *way {
            Way::Delivered { tid: entering } if entering == tid => {
                let frame = thread.stopped()?.registers()?.rsp;
                *way = Way::Inside { tid, frame, met: None };
                thread.leave(Stopped::go_to_syscall)?;
            }
            Way::Inside { tid: inside, frame, met } if inside == tid => {
                // While the handler is on the stack, no other frame has the place of its own.
                let now = thread.stopped()?.registers()?.rsp;
                let replaced = now == frame && met.is_some_and(|before| before != frame);
                *way = if replaced { Way::Left } else { Way::Inside { tid, frame, met: None } };
                thread.leave(Stopped::go_to_syscall)?;
            }
            _ => thread.leave(|s| s.go(0))?,
        },
        // A job-control stop: it goes on when it is continued.
        Cause::Event(_) => thread.leave(Stopped::listen)?,
        Cause::Syscall => match *way {
            Way::Inside { tid: inside, frame, .. } if inside == tid => {
                if hold_at_return(thread, frame)? {
                    return Ok(Seen::Return);
                }
                thread.leave(Stopped::go_to_syscall)?;
            }
            _ => thread.leave(|s| s.go(0))?,
        },
    }
    Ok(Seen::Nothing)
}

/// If the thread enters the rt_sigreturn of this frame: has it stand before the `syscall` instruction
/// again. One change of the registers does it, so that a thread which is left alone at any moment returns
/// from its handler: the kernel skips call -1 and leaves rax alone
/// (arch/x86/entry/syscall_64.c, do_syscall_64).
fn hold_at_return(thread: &mut Thread, frame: u64) -> Result<bool> {
    let stopped = thread.stopped()?;
    let mut regs = stopped.registers()?;
    let enters = regs.orig_rax == libc::SYS_rt_sigreturn as u64
        && regs.rax as i64 == -i64::from(libc::ENOSYS)
        && regs.rsp == frame + RETURN_ADDRESS;
    if !enters {
        return Ok(false);
    }
    regs.orig_rax = u64::MAX;
    regs.rax = libc::SYS_rt_sigreturn as u64;
    regs.rip = regs.rip.wrapping_sub(SYSCALL_LEN);
    stopped.set_registers(&regs)?;
    // The stop comes before it is back in the program.
    thread.interrupt()?;
    thread.leave(|s| s.go(0))?;
    let met = thread.wait_event()?;
    thread.note(met)?;
    Ok(true)
}
