//! System calls made inside the process, many threads at a time.
//!
//! A thread makes each call at an existing `syscall; ret`, with all signals blocked, and its stack
//! pointer at the address of an existing rt_sigreturn under which lies a signal frame with its own
//! state. Should this program be killed at any moment, the call returns into that rt_sigreturn and
//! the thread goes on where it was. Never a breakpoint, never single steps: those would outlive a
//! killed tracer and end the process.

use super::arch::x86_64::{call_registers, signal_frame, FrameState, SYSCALL_LEN};
use super::error::{CaptureError, Result};
use super::footing::{Code, Place};
use super::mem;
use super::thread::{Thread, Undo};
use libc::user_regs_struct;
use nix::errno::Errno;

/// A system call to make.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// Name, for messages.
    pub name: &'static str,
    /// Number.
    pub nr: i64,
    /// Arguments.
    pub args: [u64; 6],
}

impl Call {
    /// A call with up to six arguments.
    pub fn new(name: &'static str, nr: i64, args: &[u64]) -> Self {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        Self { name, nr, args: all }
    }
}

/// Prepares a thread for calls: writes the frame that brings it back with `home` registers.
/// Nothing about the thread itself changes yet.
pub(super) fn prepare(
    thread: &mut Thread,
    code: Code,
    place: Place,
    home: &user_regs_struct,
    xsave: &[u8],
    xfeatures: u64,
    borrowed: bool,
) -> Result<()> {
    let len = (place.end - place.low) as usize;
    let bytes = if borrowed { mem::read(thread.tid(), place.low, len)? } else { Vec::new() };
    let state = FrameState { xsave, xfeatures, sigmask: thread.sigmask, altstack: None };
    let mut image = signal_frame(place.frame, code.sigreturn, home, &state);
    image.resize((place.end - place.frame) as usize, 0);
    // Known to Drop before it happens, so that a failure half-way is undone.
    let Place { low, frame, scratch, .. } = place;
    thread.undo = Some(Undo { low, frame, scratch, bytes, masked: false });
    mem::write(thread.tid(), place.frame, &image)
}

/// Makes one call in each of the threads that have one, all under way at the same time. Results
/// as the kernel returns them.
pub(super) fn call_each(
    threads: &mut [Thread],
    code: Code,
    calls: &[Option<Call>],
) -> Result<Vec<i64>> {
    for (thread, call) in threads.iter_mut().zip(calls) {
        if let Some(call) = call {
            start(thread, code, call)?;
        }
    }
    for (thread, _) in threads.iter_mut().zip(calls).filter(|(_, c)| c.is_some()) {
        thread.enter_call()?;
    }
    let mut results = vec![0; threads.len()];
    let all = threads.iter_mut().zip(calls).zip(&mut results);
    for ((thread, _), result) in all.filter(|((_, c), _)| c.is_some()) {
        *result = thread.finish_call(code.syscall + SYSCALL_LEN)?;
    }
    Ok(results)
}

fn start(thread: &mut Thread, code: Code, call: &Call) -> Result<()> {
    let Some(undo) = &thread.undo else {
        return Err(CaptureError::NoFooting { tid: thread.tid(), reason: "no place was prepared" });
    };
    let masked = undo.masked;
    let regs = call_registers(&thread.regs, code.syscall, undo.frame, call.nr as u64, call.args);
    let stopped = thread.stopped()?;
    stopped.set_registers(&regs)?;
    if !masked {
        // After the registers: until now, a thread left alone would have kept this mask.
        stopped.set_sigmask(u64::MAX)?;
        if let Some(undo) = &mut thread.undo {
            undo.masked = true;
        }
    }
    thread.start_call()
}

/// Makes one call in one thread; the kernel's error becomes ours.
pub(super) fn call(thread: &mut Thread, code: Code, call: Call) -> Result<u64> {
    let results = call_each(std::slice::from_mut(thread), code, &[Some(call)])?;
    checked(thread.tid(), call.name, results[0])
}

/// A result as a value or an error.
pub(super) fn checked(tid: u32, call: &'static str, result: i64) -> Result<u64> {
    if (-4095..0).contains(&result) {
        Err(CaptureError::Remote { call, tid, errno: Errno::from_raw(-result as i32) })
    } else {
        Ok(result as u64)
    }
}
