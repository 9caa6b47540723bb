//! Whether a process may be traced, and why not.

use super::super::error::{CaptureError, Result};
use super::super::proc::status::Status;
use super::super::proc::{number, Proc};
use super::name_of;
use nix::errno::Errno;

/// Tasks that are in do_exit carry this.
const PF_EXITING: u32 = 0x4;

/// What the kernel says to an access that ptrace would need.
pub(super) fn accessible(proc: &Proc, status: &Status) -> Result<()> {
    // Opening this asks the same question as PTRACE_ATTACH (mm_access), without attaching.
    match proc.file("mem") {
        Ok(_) => Ok(()),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => {
            Err(forbidden(proc.pid(), Some(status)))
        }
        Err(e) => {
            Err(CaptureError::Proc { path: proc.path("mem").display().to_string(), source: e })
        }
    }
}

/// Whether a process is on its way out. ptrace forbids to attach to such a one
/// (kernel/ptrace.c: a task without memory counts as undumpable), whoever asks.
fn is_ending(pid: u32) -> bool {
    let Ok(proc) = Proc::open(pid) else { return true };
    match (proc.status(), proc.stat()) {
        (Ok(status), Ok(stat)) => {
            matches!(status.state, b'Z' | b'X')
                || !status.kernel_thread && !status.has_memory
                || stat.flags & PF_EXITING != 0
        }
        _ => true,
    }
}

/// Why ptrace is not permitted, as far as can be seen.
fn forbidden(pid: u32, status: Option<&Status>) -> CaptureError {
    if is_ending(pid) {
        return CaptureError::Target {
            pid,
            reason: "is ending".into(),
            remedy: "there is nothing to dump".into(),
        };
    }
    let own = nix::unistd::geteuid().as_raw();
    let (reason, remedy) = match status {
        Some(s) if s.tracer != 0 => (
            format!("is being traced by process {} ({})", s.tracer, name_of(s.tracer)),
            "a process has one tracer at a time: detach that debugger first".to_owned(),
        ),
        Some(s) if own != 0 && s.uids.iter().take(3).any(|&u| u != own) => (
            format!("belongs to user {}, and this is user {own}", s.uids[0]),
            "run dumper as that user, or as root".to_owned(),
        ),
        _ => match yama() {
            Some(scope) if scope > 0 => (
                format!("may not be traced (/proc/sys/kernel/yama/ptrace_scope is {scope})"),
                if scope < 3 {
                    "run dumper as root, or set ptrace_scope to 0".to_owned()
                } else {
                    "nobody may trace until the next boot of this machine".to_owned()
                },
            ),
            _ => (
                "may not be traced: it has capabilities that this user lacks, or has made itself \
                 undumpable (PR_SET_DUMPABLE), or a security module forbids it"
                    .to_owned(),
                "run dumper as root, outside of any container".to_owned(),
            ),
        },
    };
    CaptureError::Target { pid, reason, remedy }
}

fn yama() -> Option<u64> {
    let text = std::fs::read("/proc/sys/kernel/yama/ptrace_scope").ok()?;
    number::decimal(text.trim_ascii())
}

/// The error of a seize that failed.
pub(in crate::capture) fn seize_failed(pid: u32, errno: Errno) -> CaptureError {
    match errno {
        Errno::ESRCH => CaptureError::Died { pid, during: "being stopped" },
        Errno::EPERM | Errno::EACCES => {
            let status = Proc::open(pid).ok().and_then(|p| p.status().ok());
            forbidden(pid, status.as_ref())
        }
        errno => CaptureError::Ptrace { request: "PTRACE_SEIZE", tid: pid, errno },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// A process that was ended and still frees its memory, or waits to be collected, is not
    /// reported as one that forbids tracing.
    #[test]
    fn an_ending_process_is_called_so() {
        let mut child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        assert!(!is_ending(pid));
        let CaptureError::Target { reason, .. } = forbidden(pid, None) else { panic!() };
        assert_ne!(reason, "is ending");
        child.kill().unwrap();
        // Ended, and not collected yet: waitid leaves it as it is.
        nix::sys::wait::waitid(
            nix::sys::wait::Id::Pid(nix::unistd::Pid::from_raw(pid as i32)),
            nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT,
        )
        .unwrap();
        let CaptureError::Target { reason, .. } = forbidden(pid, None) else { panic!() };
        assert_eq!(reason, "is ending");
        child.wait().unwrap();
        assert!(is_ending(pid));
    }
}
