//! Where the bytes of an image go.

mod file;
mod stream;

pub use file::FileSink;
pub use stream::StreamSink;

use crate::failure::{errno_text, status, Failure};
use std::io;
use std::path::PathBuf;

/// A place for an image. Bytes arrive front to back, by one thread or by several with places
/// of their own; nothing is visible under the output's name before `commit`.
pub trait Sink: Sync {
    /// Writes `parts` one after another from `offset` on.
    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> Result<(), SinkError>;
    /// Whether several threads may write at a time, each in its own place.
    fn parallel(&self) -> bool;
    /// Fails early where `bytes` will not fit.
    fn expect(&self, bytes: u64) -> Result<(), SinkError>;
    /// Makes the complete image durable (with `sync`) and gives it its name, in one step.
    fn commit(&self, sync: bool) -> Result<(), SinkError>;
    /// Whether the image stays where its name says, so that the process may be ended for it.
    fn durable(&self) -> bool;
}

/// Why the output cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Something of that name is there.
    #[error("{} exists", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// Not something an image can replace.
    #[error("{} is {what}", path.display())]
    Kind {
        /// The output.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The directory does not exist or may not be written.
    #[error("cannot create a file in {}: {}", path.display(), errno_text(source))]
    Create {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file system is known to be too full beforehand.
    #[error("{} has {free} bytes free, the image needs about {needed}", path.display())]
    Space {
        /// The output.
        path: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// Writing failed.
    #[error("cannot {action} {}: {}", path.display(), errno_text(source))]
    Write {
        /// What was attempted: "write", "sync", "rename".
        action: &'static str,
        /// The output.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The dump was called off while the output was slow.
    #[error("interrupted while writing {}", path.display())]
    Interrupted {
        /// The output.
        path: PathBuf,
    },
}

impl SinkError {
    /// As it is told.
    pub fn failure(&self) -> Failure {
        let advice = match self {
            Self::Exists { .. } => "it was kept; choose another name, or replace it with --force",
            Self::Kind { .. } => "choose the name of a file that does not exist",
            Self::Create { .. } => "choose a directory that exists and that you may write",
            Self::Space { .. } => "free some space or choose another file system",
            Self::Write { source, .. } => match source.raw_os_error() {
                Some(libc::ENOSPC | libc::EDQUOT) => {
                    "the file system is full; free some space or choose another one"
                }
                Some(libc::EFBIG) => {
                    "the limit on file sizes was reached (ulimit -f, or the file system's own)"
                }
                Some(libc::EPIPE) => "the program that reads the image has ended",
                _ => "",
            },
            Self::Interrupted { .. } => "",
        };
        Failure::new(status::OUTPUT, self.to_string(), advice)
    }
}
