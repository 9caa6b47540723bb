//! Signals with a value, by which they are known again.

use super::error::{ConsentError, Who};
use crate::capture::{proc::Proc, queued, CaptureError};
use nix::errno::Errno;

/// A value that nobody else sends.
pub fn value() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: the buffer has this length.
    unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    u64::from_le_bytes(bytes) | 1
}

/// Sends a signal to a process, or to one of its threads; [`ConsentError::Ended`] where there is none.
pub fn send(who: &Who, thread: Option<u32>, signal: u32, value: u64) -> Result<(), ConsentError> {
    let uid = nix::unistd::getuid().as_raw();
    let info = queued(signal as i32, value, std::process::id(), uid);
    let at = info.as_ptr();
    // SAFETY: the structure has the size that the kernel reads, and lives over the call.
    let result = unsafe {
        match thread {
            Some(tid) => libc::syscall(libc::SYS_rt_tgsigqueueinfo, who.pid, tid, signal, at),
            None => libc::syscall(libc::SYS_rt_sigqueueinfo, who.pid, signal, at),
        }
    };
    match Errno::result(result) {
        Ok(_) => Ok(()),
        Err(Errno::ESRCH) => Err(ConsentError::Ended(who.clone())),
        Err(errno) => {
            let request = "sending a signal";
            Err(ConsentError::Capture(CaptureError::Ptrace { request, tid: who.pid, errno }))
        }
    }
}

/// Name of the library's thread.
const SERVICE: &[u8] = b"suspend-api";

/// The library's thread: the one that has this id in the process' own eyes, or, where that is of another
/// life of the process, the one of its name.
pub fn thread(pid: u32, inner: u32) -> Option<u32> {
    let proc = Proc::open(pid).ok()?;
    let tids = proc.threads().ok()?;
    let status = |tid: u32| {
        let text = proc.try_read(&format!("task/{tid}/status")).ok()?;
        crate::capture::proc::status::parse(&text)
    };
    let is = |tid: &u32| status(*tid).is_some_and(|s| s.ns_pid.last() == Some(&inner));
    // Outside of namespaces it is the same number.
    if tids.binary_search(&inner).is_ok() && is(&inner) {
        return Some(inner);
    }
    let named = |tid: &u32| status(*tid).is_some_and(|s| s.name == SERVICE);
    tids.iter().copied().find(is).or_else(|| tids.iter().copied().find(named))
}

/// Whether a process is on its way out or gone.
pub fn is_gone(pid: u32) -> bool {
    let status = Proc::open(pid).ok().and_then(|proc| proc.status().ok());
    status.is_none_or(|s| matches!(s.state, b'Z' | b'X') || !s.has_memory)
}

/// Whether a process has a handler for a signal at this moment.
pub fn handles(pid: u32, signal: u32) -> bool {
    let status = Proc::open(pid).ok().and_then(|proc| proc.status().ok());
    status.is_some_and(|s| s.caught >> (signal - 1) & 1 == 1)
}

/// Whether a process stands in a job-control stop: it takes no signal until it is continued.
pub fn is_stopped(pid: u32) -> bool {
    let status = Proc::open(pid).ok().and_then(|proc| proc.status().ok());
    status.is_some_and(|s| s.state == b'T')
}
