//! The wish to stop: from the front process (a byte, or its end) or from a signal to the tracer.

use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::OnceLock;

static REQUESTED: AtomicBool = AtomicBool::new(false);
static CONTROL: OnceLock<OwnedFd> = OnceLock::new();

static SIGNAL: AtomicU8 = AtomicU8::new(0);

extern "C" fn note(signal: libc::c_int) {
    SIGNAL.store(signal as u8, Ordering::Relaxed);
    REQUESTED.store(true, Ordering::Relaxed);
}

extern "C" fn tick(_signal: libc::c_int) {}

/// Prepares the tracer process: `control` is its end of the socket to the front process.
pub fn install(control: OwnedFd) -> nix::Result<()> {
    let _ = CONTROL.set(control);
    install_alone()
}

/// The signal that was the wish to stop; 0 for none.
pub fn signal() -> u8 {
    SIGNAL.load(Ordering::Relaxed)
}

/// Prepares a process that has no front process.
pub fn install_alone() -> nix::Result<()> {
    let action = SigAction::new(
        SigHandler::Handler(note),
        // ptrace's waiting calls must not see it.
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to atomics, which is async-signal-safe.
        unsafe { sigaction(signal, &action)? };
    }
    Ok(())
}

/// Lets writes to a slow stream be interrupted ten times a second, so that the wish is seen.
pub fn start_ticking() -> nix::Result<()> {
    let action = SigAction::new(
        SigHandler::Handler(tick),
        // Without SA_RESTART: the write is to return.
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGALRM, &action)? };
    let every = libc::timeval { tv_sec: 0, tv_usec: 100_000 };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: `timer` is a valid itimerval, and no old value is asked for.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    nix::errno::Errno::result(set).map(drop)
}

/// Whether the dump is to be called off. Costs one poll.
pub fn requested() -> bool {
    if REQUESTED.load(Ordering::Relaxed) {
        return true;
    }
    let Some(control) = CONTROL.get() else {
        return false;
    };
    let mut fds = [nix::poll::PollFd::new(control.as_fd(), nix::poll::PollFlags::POLLIN)];
    // A byte is a wish; readable without one is the end of the front process.
    let wished = matches!(nix::poll::poll(&mut fds, 0_u16), Ok(1..));
    if wished {
        REQUESTED.store(true, Ordering::Relaxed);
    }
    wished
}
