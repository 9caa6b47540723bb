//! The start of the library.

use crate::block::{self, Parts};
use crate::sys::Errno;
use crate::{fork, handler, hold, machine, service};
use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, Ordering};
use image_format::control::mode;

/// Callbacks run in the signal handler.
pub const IN_HANDLER: u32 = 1;
/// Any process of the same user may trace this one (PR_SET_PTRACER), where Yama forbids it.
pub const TRACEABLE: u32 = 2;

static STARTING: AtomicBool = AtomicBool::new(false);

/// Opts the process in. EALREADY if it has been; EBUSY if the program has a handler of its own for
/// one of the signals; EINVAL for numbers that are no two different signals.
pub fn start(suspend: c_int, resume: c_int, flags: u32) -> Result<(), Errno> {
    let suspend = if suspend == 0 { libc::SIGUSR1 } else { suspend };
    let resume = if resume == 0 { libc::SIGUSR2 } else { resume };
    if suspend == resume || flags & !(IN_HANDLER | TRACEABLE) != 0 {
        return Err(libc::EINVAL);
    }
    if STARTING.swap(true, Ordering::AcqRel) {
        return Err(libc::EALREADY);
    }
    let started = start_alone(suspend, resume, flags);
    STARTING.store(false, Ordering::Release);
    started
}

fn start_alone(suspend: c_int, resume: c_int, flags: u32) -> Result<(), Errno> {
    if block::own().is_some() {
        return Err(libc::EALREADY);
    }
    // In a child of a clone(2) that ran no hooks, what is there is its parent's.
    fork::child();
    handler::is_free(suspend)?;
    handler::is_free(resume)?;
    hold::prepare()?;
    machine::remember();
    fork::hook();
    // The block comes last of what a dumper looks for: it is never asked for nothing.
    let in_handler = flags & IN_HANDLER != 0;
    handler::install(suspend, resume, in_handler)?;
    let mode = if in_handler { mode::HANDLER } else { mode::THREAD };
    let parts = Parts { suspend_signal: suspend as u32, resume_signal: resume as u32, mode };
    let made = block::make(&parts);
    let started = made.and_then(|_| if in_handler { Ok(()) } else { service::start(&[]) });
    if started.is_err() {
        block::forget();
        handler::forget();
    } else if flags & TRACEABLE != 0 {
        // A kernel without Yama does not know it, and has no need of it.
        // SAFETY: takes numbers only.
        unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::c_ulong::MAX, 0, 0, 0) };
    }
    started
}
