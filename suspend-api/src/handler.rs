//! The two signals.

use crate::block::{self, Block};
use crate::sys::{self, Errno, Mask};
use crate::{hold, round, service};
use core::ffi::{c_char, c_int};
use core::ptr;
use core::sync::atomic::Ordering;
use image_format::control::{answer, mode, outcome};

/// What had been in force for the two signals, for a child after fork.
struct Before {
    signal: c_int,
    action: libc::sigaction,
}

struct Saved(core::cell::UnsafeCell<Option<[Before; 2]>>);
// SAFETY: written once, at the start, under the start's own lock; read in a child of one thread.
unsafe impl Sync for Saved {}
static SAVED: Saved = Saved(core::cell::UnsafeCell::new(None));

extern "C" fn suspend_signal(_signal: c_int) {
    let errno = sys::errno();
    // A signal without an open request is somebody else's, and does nothing.
    if let Some(block) = block::own() {
        if let Some(round) = block.open_round() {
            if block.mode() == mode::THREAD {
                service::poke();
            } else if let Some((ms, reason)) = hold::defer() {
                answer_for_section(block, round, ms, reason);
            } else {
                round::conduct();
            }
        }
    }
    sys::set_errno(errno);
}

/// The interrupted thread is in a section, whose end takes the request up; or it is refused.
fn answer_for_section(block: &Block, round: u32, ms: u32, reason: *const c_char) {
    // What was taken up by another thread is answered there.
    let settled = block.answered(round).is_some_and(|a| a != answer::HOLDING);
    if settled {
        return;
    }
    if ms == 0 {
        hold::undefer();
        round::refuse_for_section(block, round, reason);
    } else {
        round::say_holding(block, round, ms, reason);
    }
}

/// A section that a request waits for has got another limit.
pub fn answer_deferred() {
    let before = Mask::all_but(&[]).set();
    if let Some((block, round)) = block::own().and_then(|b| Some((b, b.open_round()?))) {
        if let Some((ms, reason)) = hold::defer() {
            answer_for_section(block, round, ms, reason);
        }
    }
    before.set();
}

extern "C" fn resume_signal(_signal: c_int) {
    let errno = sys::errno();
    // Whatever thread took the signal, the one that waits is woken.
    if let Some(block) = block::own() {
        let said = block.outcome.load(Ordering::Relaxed);
        if image_format::control::value_of(said) != outcome::OPEN {
            sys::wake(&block.outcome);
        }
    }
    sys::set_errno(errno);
}

fn current(signal: c_int) -> Result<libc::sigaction, Errno> {
    // SAFETY: all zeroes are a valid sigaction, which the call fills.
    unsafe {
        let mut action = core::mem::zeroed();
        match libc::sigaction(signal, ptr::null(), &raw mut action) {
            0 => Ok(action),
            _ => Err(sys::errno()),
        }
    }
}

/// EBUSY if the program has a handler of its own for the signal.
pub fn is_free(signal: c_int) -> Result<(), Errno> {
    match current(signal)?.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => Ok(()),
        _ => Err(libc::EBUSY),
    }
}

/// Installs both handlers. An alternate stack, where a thread has one, is small: callbacks
/// do not run on it.
pub fn install(suspend: c_int, resume: c_int, callbacks: bool) -> Result<(), Errno> {
    let on_stack = if callbacks { 0 } else { libc::SA_ONSTACK };
    let before = [
        Before { signal: suspend, action: current(suspend)? },
        Before { signal: resume, action: current(resume)? },
    ];
    // SAFETY: the start is done once at a time, and no child was forked from it yet.
    unsafe { *SAVED.0.get() = Some(before) };
    for (signal, handler) in
        [(suspend, suspend_signal as extern "C" fn(c_int)), (resume, resume_signal)]
    {
        // SAFETY: a zeroed sigaction is completed; both handlers are async-signal-safe.
        let done = unsafe {
            let mut action: libc::sigaction = core::mem::zeroed();
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_RESTART | on_stack;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaddset(&raw mut action.sa_mask, suspend);
            libc::sigaction(signal, &raw const action, ptr::null_mut())
        };
        if done != 0 {
            let errno = sys::errno();
            forget();
            return Err(errno);
        }
    }
    Ok(())
}

/// In a child after fork, and when a start fails: the signals mean again what they did before it.
pub fn forget() {
    // SAFETY: a child has one thread, this one, and the start is done once at a time.
    let saved = unsafe { (*SAVED.0.get()).take() };
    for before in saved.iter().flatten() {
        // SAFETY: puts back what the kernel gave.
        unsafe { libc::sigaction(before.signal, &raw const before.action, ptr::null_mut()) };
    }
}
