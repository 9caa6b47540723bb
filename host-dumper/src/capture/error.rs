//! What can go wrong while a process is captured, in words for its user.

use nix::errno::Errno;
use serde::Serialize;
use std::fmt::{self, Write};
use std::io;

/// One obstacle: what stands in the way, why, and what can be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The object, such as "descriptor 5 (socket:\[1234\])".
    pub object: String,
    /// Why it cannot be carried.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl Refusal {
    pub(crate) fn new(
        object: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { object: object.into(), reason: reason.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.object, self.reason, self.remedy)
    }
}

/// Why a process could not be captured. Whatever the reason, it runs on as before.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The pid does not name a process that this user can dump.
    #[error("process {pid}: {reason}; {remedy}")]
    Target {
        /// The pid given.
        pid: u32,
        /// What is the matter with it.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The process holds what an image cannot carry; every reason is listed.
    #[error("the process cannot be dumped: {}", list(.0))]
    Refused(Vec<Refusal>),
    /// The process ended meanwhile.
    #[error("process {pid} ended while {during}; there is nothing left to dump")]
    Died {
        /// The process or thread.
        pid: u32,
        /// What was being done.
        during: &'static str,
    },
    /// A thread does not come to a stop.
    #[error(
        "thread {tid} did not stop within {seconds} s ({state}); try again when it has left \
         that call"
    )]
    NotStopping {
        /// The thread.
        tid: u32,
        /// How long was waited.
        seconds: u64,
        /// What the kernel says that it does.
        state: String,
    },
    /// A ptrace request failed.
    #[error("{request} of thread {tid} failed: {errno}")]
    Ptrace {
        /// The request.
        request: &'static str,
        /// The thread.
        tid: u32,
        /// The error.
        errno: Errno,
    },
    /// A system call made inside the process failed.
    #[error("{call} inside thread {tid} failed: {errno}")]
    Remote {
        /// The system call.
        call: &'static str,
        /// The thread.
        tid: u32,
        /// The error.
        errno: Errno,
    },
    /// No place or no code for system calls inside the process was found.
    #[error("thread {tid}: {reason}; its state cannot be asked for from inside")]
    NoFooting {
        /// The thread.
        tid: u32,
        /// What is missing.
        reason: &'static str,
    },
    /// The process's memory could not be read or written.
    #[error("cannot access memory of process {pid} at {address:#x}: {errno}")]
    Memory {
        /// The process.
        pid: u32,
        /// Where.
        address: u64,
        /// The error.
        errno: Errno,
    },
    /// A file of the kernel about the process could not be read.
    #[error("cannot read {path}: {source}")]
    Proc {
        /// The file.
        path: String,
        /// The error.
        source: io::Error,
    },
    /// A file of the kernel says something that is not understood.
    #[error(
        "{path} is not understood: {what}; please report this together with the kernel release"
    )]
    Format {
        /// The file.
        path: String,
        /// What is not understood.
        what: &'static str,
    },
    /// A file that the process has open could not be examined.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What was tried.
        what: &'static str,
        /// The error.
        source: io::Error,
    },
}

fn list(refusals: &[Refusal]) -> String {
    refusals.iter().fold(String::new(), |mut text, r| {
        let _ = write!(text, "\n  {r}");
        text
    })
}

/// Result of a step of a capture.
pub type Result<T> = std::result::Result<T, CaptureError>;
