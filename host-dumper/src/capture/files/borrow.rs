//! Duplicates of the process's own descriptors (pidfd_getfd(2)): they share its open file
//! descriptions, so nothing but questions may be put to them.

use crate::capture::error::{CaptureError, Result};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A duplicate of a descriptor of the process; none where the kernel forbids it.
pub(super) fn borrow(pidfd: &OwnedFd, fd: u32) -> Option<OwnedFd> {
    // SAFETY: takes numbers only.
    let got = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) };
    // SAFETY: a non-negative result is a new descriptor that nobody else owns.
    (got >= 0).then(|| unsafe { OwnedFd::from_raw_fd(got as i32) })
}

/// A descriptor for the process.
pub(super) fn pidfd(pid: u32) -> Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let got = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if got < 0 {
        return Err(CaptureError::Ptrace { request: "pidfd_open", tid: pid, errno: Errno::last() });
    }
    // SAFETY: a non-negative result is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(got as i32) })
}
