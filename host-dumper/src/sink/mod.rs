//! Where the bytes of an image go.

mod device;
mod file;
mod reread;
mod stream;

pub use device::DeviceSink;
pub use file::FileSink;
pub use stream::StreamSink;

use crate::failure::{errno_text, status, Failure};
use crate::medium::Holding;
use crate::words;
use std::io;
use std::path::{Path, PathBuf};

/// Opens the output that a path names: "-" is standard output. `force` allows to replace what is
/// there; `only` says that the image will be all that is left of the process.
pub fn open(path: &Path, force: bool, only: bool) -> Result<Box<dyn Sink>, SinkError> {
    if path == Path::new("-") {
        return Ok(Box::new(StreamSink::stdout(only)?));
    }
    if DeviceSink::takes(path) {
        return Ok(Box::new(DeviceSink::open(path, force)?));
    }
    Ok(Box::new(FileSink::create(path, force)?))
}

/// A place for an image. Bytes arrive front to back, by one thread or by several with places
/// of their own; nothing is visible under the output's name before `commit`.
pub trait Sink: Sync {
    /// Writes `parts` one after another from `offset` on.
    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> Result<(), SinkError>;
    /// Whether several threads may write at a time, each in its own place.
    fn parallel(&self) -> bool;
    /// Fails early where `bytes` will not fit.
    fn expect(&self, bytes: u64) -> Result<(), SinkError>;
    /// Checks the complete image of `length` bytes, as the medium gives it back. To be called
    /// before `commit`.
    fn reread(&self, _length: u64) -> Result<(), SinkError> {
        Ok(())
    }
    /// Whether a dump had better read it back before the process is ended.
    fn doubtful(&self) -> bool {
        false
    }
    /// Makes the complete image durable (with `sync`) and gives it its name, in one step.
    fn commit(&self, sync: bool) -> Result<(), SinkError>;
    /// Whether the image stays where its name says, so that the process may be ended for it.
    fn durable(&self) -> bool;
    /// Removes what an unfinished image may have left. Harmless after a commit.
    fn discard(&self) {}
    /// Whether the output's name leads to this image, that is: whether it was committed.
    fn is_committed(&self) -> bool {
        false
    }
    /// Takes the output's name back from a committed image.
    fn retract(&self) {}
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
    /// Something that is written to, not replaced.
    #[error("{} is {what}", path.display())]
    Stream {
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
    /// The medium cannot be had.
    #[error("cannot open {}: {}", path.display(), errno_text(source))]
    Open {
        /// The output.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The medium is in use.
    #[error("{} holds {holding}", path.display())]
    Holds {
        /// The output.
        path: PathBuf,
        /// What is on it.
        holding: Holding,
    },
    /// The medium is too small.
    #[error("{} has room for {}, the image needs at least {}", path.display(), words::size(*size), words::size(*needed))]
    Size {
        /// The output.
        path: PathBuf,
        /// Bytes that it has.
        size: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// The medium does not give back what was written.
    #[error("{} does not give back what was written to it: {what}", path.display())]
    Altered {
        /// The output.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// The file system is known to be too full beforehand.
    #[error("the file system of {} has {} of free space, the image needs at least {}", path.display(), words::size(*free), words::size(*needed))]
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
            Self::Kind { .. } => "choose the name of a file that does not exist, or a stick",
            Self::Stream { .. } => "let the shell open it: `dumper <pid> -o - > FILE`",
            Self::Create { source, .. } if source.raw_os_error() == Some(libc::EMFILE) => {
                "raise the limit of open files (ulimit -n)"
            }
            Self::Create { .. } => "choose a directory that exists and that you may write",
            Self::Space { .. } => "free some space or choose another file system",
            Self::Open { source, .. } => match source.raw_os_error() {
                Some(libc::EBUSY) => "it is mounted or in use; unmount it first",
                Some(libc::EROFS | libc::EPERM) => "the stick is write-protected",
                Some(libc::EACCES) => "more rights are needed: try as root",
                Some(libc::ENODEV | libc::ENXIO | libc::ENOMEDIUM) => "is the stick plugged in?",
                _ => "",
            },
            Self::Holds { holding: Holding::Image { .. }, .. } => {
                "it was kept; fetch it with `dumper recv`, or replace it with --force"
            }
            Self::Holds { .. } => "it was kept; take another stick, or overwrite it with --force",
            Self::Size { .. } => "take a larger one",
            Self::Altered { .. } => {
                "the stick is defective or not as large as it says; take another one"
            }
            Self::Write { source, .. } => match source.raw_os_error() {
                Some(libc::ENODEV | libc::ENXIO | libc::EIO | libc::ESHUTDOWN) => {
                    "the stick was pulled out or is defective; plug it in and try again"
                }
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
