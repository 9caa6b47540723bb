//! One traced thread: what it was when it stopped, and how it gets back there.

use super::arch::x86_64::is_64_bit;
use super::error::{CaptureError, Result};
use super::mem;
use super::stop::{Cause, Poll, Running, Stopped};
use libc::user_regs_struct;
use std::time::{Duration, Instant};

/// From here on a processor is left to others while waiting.
const LONG_MOMENT: Duration = Duration::from_micros(60);

/// Where a thread is in the eyes of the tracer.
#[derive(Debug)]
enum Phase {
    Running(Running),
    Stopped(Stopped),
    Gone,
}

/// What was changed in a thread for system calls made inside it.
#[derive(Debug)]
pub(super) struct Undo {
    /// Where the memory that was changed begins.
    pub low: u64,
    /// Address of the signal frame that brings the thread back without us.
    pub frame: u64,
    /// First address of the room for results.
    pub scratch: u64,
    /// What was in the memory from `low` on; empty where the place is our own mapping.
    pub bytes: Vec<u8>,
    /// Signals are blocked by us.
    pub masked: bool,
}

/// A thread of the process.
#[derive(Debug)]
pub(super) struct Thread {
    tid: u32,
    phase: Phase,
    /// Registers with which it stopped.
    pub regs: user_regs_struct,
    /// Registers with which it goes on: differ where the stop would show in the result of a
    /// system call.
    pub onward: user_regs_struct,
    /// Blocked signals.
    pub sigmask: u64,
    /// Signal of the job-control stop that it was in; 0 when it ran.
    pub stop_signal: i32,
    /// Set while it is used for system calls of ours.
    pub undo: Option<Undo>,
    /// A SIGSTOP came while signals were held back.
    stop_again: bool,
}

impl Thread {
    /// Seizes it and asks it to stop.
    pub fn seize(tid: u32) -> nix::Result<Self> {
        let running = Running::seize(tid)?;
        // SAFETY: the structure consists of integers, for which zero is a value.
        let zero: user_regs_struct = unsafe { std::mem::zeroed() };
        Ok(Self {
            tid,
            phase: Phase::Running(running),
            regs: zero,
            onward: zero,
            sigmask: 0,
            stop_signal: 0,
            undo: None,
            stop_again: false,
        })
    }

    pub fn tid(&self) -> u32 {
        self.tid
    }

    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running(_))
    }

    /// Looks whether a running thread stands by now, and why; it stays so until it is let run.
    pub fn poll(&mut self) -> Result<Option<Cause>> {
        let running = match std::mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Running(running) => running,
            other => {
                self.phase = other;
                return Ok(None);
            }
        };
        match running.poll()? {
            Poll::Runs(running) => {
                self.phase = Phase::Running(running);
                Ok(None)
            }
            Poll::Stands(stopped, cause) => {
                self.phase = Phase::Stopped(stopped);
                Ok(Some(cause))
            }
        }
    }

    pub fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone)
    }

    /// The stopped thread, on which requests are possible.
    pub fn stopped(&self) -> Result<&Stopped> {
        match &self.phase {
            Phase::Stopped(s) => Ok(s),
            _ => Err(CaptureError::Died { pid: self.tid, during: "being examined" }),
        }
    }

    /// Asks a running thread to stop.
    pub fn interrupt(&self) -> Result<()> {
        match &self.phase {
            Phase::Running(r) => r.interrupt(),
            Phase::Stopped(s) => s.interrupt(),
            Phase::Gone => Ok(()),
        }
    }

    fn wait(&mut self) -> Result<Cause> {
        match std::mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Running(r) => match r.wait() {
                Ok((stopped, cause)) => {
                    self.phase = Phase::Stopped(stopped);
                    Ok(cause)
                }
                Err((running, e)) => {
                    self.phase = running.map_or(Phase::Gone, Phase::Running);
                    Err(e)
                }
            },
            other => {
                self.phase = other;
                Err(CaptureError::Died { pid: self.tid, during: "being waited for" })
            }
        }
    }

    /// Lets it run, in one of the ways of [`Stopped`].
    pub fn leave(
        &mut self,
        how: impl FnOnce(Stopped) -> std::result::Result<Running, (Stopped, CaptureError)>,
    ) -> Result<()> {
        match std::mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Stopped(s) => match how(s) {
                Ok(running) => {
                    self.phase = Phase::Running(running);
                    Ok(())
                }
                Err((stopped, e)) => {
                    self.phase = Phase::Stopped(stopped);
                    Err(e)
                }
            },
            other => {
                self.phase = other;
                Err(CaptureError::Died { pid: self.tid, during: "being let run" })
            }
        }
    }

    /// Waits for the stop that was asked for. A signal met on the way is delivered, as it would
    /// have been: the stop comes at the handler's first instruction then.
    pub fn wait_event(&mut self) -> Result<i32> {
        loop {
            match self.wait()? {
                Cause::Event(signal) => return Ok(signal),
                Cause::Signal(signal) => self.leave(|s| s.go(signal))?,
                Cause::Syscall => {
                    // Any trap clears the one that was asked for (kernel/signal.c, ptrace_stop).
                    self.interrupt()?;
                    self.leave(|s| s.go(0))?;
                }
            }
        }
    }

    /// Notes the state in which it stopped.
    pub fn note(&mut self, signal: i32) -> Result<()> {
        let s = self.stopped()?;
        let (regs, sigmask) = (s.registers()?, s.sigmask()?);
        self.regs = regs;
        self.onward = regs;
        self.sigmask = sigmask;
        self.stop_signal = if signal == libc::SIGTRAP { 0 } else { signal };
        Ok(())
    }

    /// It runs 64-bit code.
    pub fn is_64_bit(&self) -> bool {
        is_64_bit(&self.regs)
    }

    /// Lets it run for a moment and stops it anew.
    pub fn run_a_moment(&mut self, moment: Duration) -> Result<()> {
        self.leave(|s| s.go(0))?;
        if moment < LONG_MOMENT {
            let begin = Instant::now();
            while begin.elapsed() < moment {
                std::thread::yield_now();
            }
        } else {
            std::thread::sleep(moment);
        }
        self.interrupt()?;
        let signal = self.wait_event()?;
        self.note(signal)
    }

    /// Lets it run to the entry of the system call that its registers stand before.
    pub fn start_call(&mut self) -> Result<()> {
        self.leave(Stopped::go_to_syscall)
    }

    /// Waits until it entered the system call, then lets it finish that one and no more.
    pub fn enter_call(&mut self) -> Result<()> {
        loop {
            match self.wait()? {
                Cause::Syscall => break,
                Cause::Event(_) => self.leave(Stopped::go_to_syscall)?,
                Cause::Signal(signal) => {
                    self.hold_back(signal);
                    self.leave(Stopped::go_to_syscall)?;
                }
            }
        }
        // Asked for before it goes on, the stop comes when the call is done.
        self.interrupt()?;
        self.leave(|s| s.go(0))
    }

    /// Lets it make its next system call, or the one that was interrupted, and no more.
    pub fn run_one_call(&mut self) -> Result<()> {
        self.start_call()?;
        self.enter_call()?;
        let signal = self.wait_event()?;
        self.note(signal)
    }

    /// Waits for the end of the system call; its result, unless it did not reach `end`.
    pub fn finish_call(&mut self, end: u64) -> Result<i64> {
        loop {
            match self.wait()? {
                Cause::Event(_) => break,
                Cause::Syscall => self.leave(|s| s.go(0))?,
                Cause::Signal(signal) => {
                    self.hold_back(signal);
                    self.leave(|s| s.go(0))?;
                }
            }
        }
        let regs = self.stopped()?.registers()?;
        if regs.rip == end {
            Ok(regs.rax as i64)
        } else {
            Err(CaptureError::NoFooting { tid: self.tid, reason: "a call of ours went astray" })
        }
    }

    /// Lets it run through a chain of calls.
    pub fn start_chain(&mut self) -> Result<()> {
        self.leave(|s| s.go(0))
    }

    /// Waits until the last call of a chain has sent `signal`: the thread stands at `rip` then, with
    /// its stack at `rsp`.
    pub fn finish_chain(&mut self, signal: i32, rip: u64, rsp: u64) -> Result<()> {
        let astray = "a chain of calls of ours went astray";
        loop {
            let cause = match self.wait() {
                Ok(cause) => cause,
                Err(error) => {
                    // It did not stop, so it has gone home by itself, or will: what it has got back
                    // must not be given to it again.
                    self.undo = None;
                    return Err(error);
                }
            };
            match cause {
                Cause::Signal(met) if met == signal => {
                    let regs = self.stopped()?.registers()?;
                    if (regs.rip, regs.rsp) == (rip, rsp) {
                        return Ok(());
                    }
                    // Somebody else's, on the way; nobody would have heard it.
                    self.leave(|s| s.go(0))?;
                }
                // Its instructions are at fault; it stands where it can be put back.
                Cause::Signal(
                    libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP,
                ) => return Err(CaptureError::NoFooting { tid: self.tid, reason: astray }),
                Cause::Signal(met) => {
                    self.hold_back(met);
                    self.leave(|s| s.go(0))?;
                }
                Cause::Event(_) | Cause::Syscall => self.leave(|s| s.go(0))?,
            }
        }
    }

    fn hold_back(&mut self, signal: i32) {
        self.stop_again |= signal == libc::SIGSTOP;
    }

    /// Takes back everything that was changed. The order matters should this program be killed in
    /// between: up to the registers, the thread finds its way by the frame on its stack.
    pub fn restore(&mut self) -> Result<()> {
        if let Phase::Running(_) = self.phase {
            self.interrupt()?;
            self.wait_event()?;
        }
        let Phase::Stopped(stopped) = &self.phase else { return Ok(()) };
        let Some(undo) = &self.undo else { return Ok(()) };
        if undo.masked {
            stopped.set_sigmask(self.sigmask)?;
        }
        stopped.set_registers(&self.onward)?;
        if !undo.bytes.is_empty() {
            mem::write(self.tid, undo.low, &undo.bytes)?;
        }
        self.undo = None;
        Ok(())
    }

    /// Registers with which it goes on, from now on.
    pub fn go_on_with(&mut self, regs: user_regs_struct) -> Result<()> {
        self.onward = regs;
        if self.undo.is_none() {
            self.stopped()?.set_registers(&regs)?;
        }
        Ok(())
    }

    /// Waits for the end of a thread that was killed.
    pub fn wait_end(self) {
        match self.phase {
            Phase::Running(r) => r.wait_end(),
            Phase::Stopped(s) => s.running().wait_end(),
            Phase::Gone => {}
        }
    }

    /// Lets it go. Returns whether a SIGSTOP must be sent again.
    pub fn detach(&mut self) -> Result<bool> {
        let restored = self.restore();
        if let Phase::Stopped(s) = std::mem::replace(&mut self.phase, Phase::Gone) {
            s.detach()?;
        }
        restored.map(|()| self.stop_again)
    }
}
