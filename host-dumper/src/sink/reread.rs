//! Reading an image back from where it was written: from the medium, not from memory.

use super::SinkError;
use crate::abort;
use crate::inspect::{self, InspectError};
use nix::fcntl::PosixFadviseAdvice;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes that are read at a time; between them the wish to stop is looked at.
const PIECE: usize = 1 << 20;

/// Takes from the page cache what was synced before (posix_fadvise(2)). A pen has no page cache.
pub fn forget(file: &File) {
    let _ = nix::fcntl::posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}

/// Checks the image in `file`, which was synced and has `length` bytes; its first bytes are `head`
/// where they were kept back.
pub fn verify(path: &Path, file: &File, head: &[u8], length: u64) -> Result<(), SinkError> {
    forget(file);
    let altered = |what: &str| SinkError::Altered { path: path.to_owned(), what: what.to_owned() };
    match inspect::verify(Reread { file, head, length, position: 0, buffer: Vec::new(), taken: 0 })
    {
        Ok(found) if found == length => Ok(()),
        Ok(_) => Err(altered("another length")),
        Err(_) if abort::requested() => Err(SinkError::Interrupted { path: path.to_owned() }),
        Err(InspectError::Read(source)) => {
            Err(SinkError::Write { action: "read back", path: path.to_owned(), source })
        }
        Err(error) => Err(altered(&error.to_string())),
    }
}

struct Reread<'a> {
    file: &'a File,
    head: &'a [u8],
    length: u64,
    /// Where in the image the next piece begins.
    position: u64,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were handed out.
    taken: usize,
}

impl Read for Reread<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.buffer.len() {
            if abort::requested() {
                return Err(io::Error::other("interrupted"));
            }
            let len = (self.length - self.position).min(PIECE as u64) as usize;
            self.buffer.resize(len, 0);
            self.file.read_exact_at(&mut self.buffer, self.position)?;
            if self.position == 0 {
                let kept = self.head.len().min(len);
                self.buffer[..kept].copy_from_slice(&self.head[..kept]);
            }
            self.position += len as u64;
            self.taken = 0;
        }
        let read = (&self.buffer[self.taken..]).read(into)?;
        self.taken += read;
        Ok(read)
    }
}
