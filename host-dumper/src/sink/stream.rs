//! Standard output: a pipe, or whatever the shell made of it. Written strictly in order.

use super::{Sink, SinkError};
use crate::abort;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// An image on its way into a stream.
#[derive(Debug)]
pub struct StreamSink {
    fd: OwnedFd,
    position: AtomicU64,
}

impl StreamSink {
    /// Takes standard output; a terminal is not accepted, nor, where the image will be the `only` one
    /// of the process, what keeps nothing. That is also what a closed one became when we started.
    pub fn stdout(only: bool) -> Result<Self, SinkError> {
        let stdout = io::stdout();
        let refuse = |what| SinkError::Stream { path: name(), what };
        if io::IsTerminal::is_terminal(&stdout) {
            return Err(refuse("a terminal; an image is not text"));
        }
        let mode = nix::sys::stat::fstat(&stdout).map_or(0, |found| found.st_mode);
        if only && mode & libc::S_IFMT == libc::S_IFCHR {
            return Err(refuse("a device that keeps nothing, and the process would be lost"));
        }
        let fd = stdout
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| SinkError::Create { path: name(), source })?;
        Ok(Self { fd, position: AtomicU64::new(0) })
    }

    fn error(source: io::Error) -> SinkError {
        SinkError::Write { action: "write", path: name(), source }
    }
}

fn name() -> PathBuf {
    PathBuf::from("standard output")
}

impl Sink for StreamSink {
    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> Result<(), SinkError> {
        if self.position.load(Ordering::Relaxed) != offset {
            return Err(Self::error(io::Error::other("pieces out of order")));
        }
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                // A reader that stalls must not keep the process stopped for ever: the write is
                // interrupted now and then by a timer, and the wish to stop looked at.
                if abort::requested() {
                    return Err(SinkError::Interrupted { path: name() });
                }
                match nix::unistd::write(&self.fd, rest) {
                    Ok(written) => {
                        rest = &rest[written..];
                        self.position.fetch_add(written as u64, Ordering::Relaxed);
                    }
                    Err(nix::errno::Errno::EINTR) => {}
                    Err(nix::errno::Errno::EAGAIN) => {
                        let mut fds = [nix::poll::PollFd::new(
                            self.fd.as_fd(),
                            nix::poll::PollFlags::POLLOUT,
                        )];
                        let _ = nix::poll::poll(&mut fds, 100_u16);
                    }
                    Err(errno) => return Err(Self::error(errno.into())),
                }
            }
        }
        Ok(())
    }

    fn parallel(&self) -> bool {
        false
    }

    fn expect(&self, _bytes: u64) -> Result<(), SinkError> {
        Ok(())
    }

    fn commit(&self, sync: bool) -> Result<(), SinkError> {
        if sync {
            match nix::unistd::fsync(&self.fd) {
                // A pipe cannot be synced.
                Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::EROFS) => {}
                Err(errno) => return Err(Self::error(errno.into())),
            }
        }
        Ok(())
    }

    fn durable(&self) -> bool {
        false
    }
}
