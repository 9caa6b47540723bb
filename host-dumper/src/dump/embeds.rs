//! Contents of files that travel along, without their holes.

use crate::capture::{Embed, Part, Source};
use nix::errno::Errno;
use nix::sys::statfs::{fstatfs, FsType};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// Pages of memory are looked at in pieces of this size: an empty one is not stored.
const GRAIN: usize = 64 << 10;
const PAGE: u64 = image_format::PAGE_SIZE;
const HUGETLBFS_MAGIC: FsType = FsType(0x9584_58f6);

/// Reads an embedded file front to back.
#[derive(Debug)]
pub struct EmbedReader<'a> {
    file: File,
    size: u64,
    at: u64,
    /// Where the data ends in which `at` lies.
    end: u64,
    kind: Kind<'a>,
}

#[derive(Debug)]
enum Kind<'a> {
    /// All bytes are wanted, as a hash is of all of them.
    Whole,
    /// Holes are left out.
    Sparse,
    /// Likewise, where the file system does not tell of them (hugetlbfs).
    Scanned,
    /// Memory of a process; the file is its /proc/PID/mem.
    Memory(Vec<&'a Part>),
}

impl<'a> EmbedReader<'a> {
    /// Opens what is to be embedded.
    pub fn open(embed: &'a Embed) -> io::Result<Self> {
        let (file, kind) = match &embed.source {
            Source::File(path) if embed.hash.is_some() => (File::open(path)?, Kind::Whole),
            Source::File(path) => {
                let file = File::open(path)?;
                let huge = fstatfs(&file).is_ok_and(|s| s.filesystem_type() == HUGETLBFS_MAGIC);
                (file, if huge { Kind::Scanned } else { Kind::Sparse })
            }
            Source::Memory { pid, parts } => {
                let mut parts: Vec<&Part> = parts.iter().collect();
                parts.sort_by_key(|part| part.offset);
                (File::open(format!("/proc/{pid}/mem"))?, Kind::Memory(parts))
            }
        };
        let end = if matches!(kind, Kind::Whole) { embed.size } else { 0 };
        Ok(Self { file, size: embed.size, at: 0, end, kind })
    }

    /// Puts the next bytes into `buffer`: their offset and number. None at the end.
    pub fn next(&mut self, buffer: &mut [u8]) -> io::Result<Option<(u64, usize)>> {
        if let Kind::Memory(parts) = &self.kind {
            let found = next_memory(&self.file, parts, self.at, self.size, buffer)?;
            if let Some((offset, len)) = found {
                self.at = offset + len as u64;
            }
            return Ok(found);
        }
        if self.at >= self.size {
            return Ok(None);
        }
        if matches!(self.kind, Kind::Scanned) {
            return self.next_scanned(buffer);
        }
        if self.at >= self.end {
            let found = seek(&self.file, self.at, libc::SEEK_DATA)?;
            let Some(start) = found.filter(|&at| at < self.size) else { return Ok(None) };
            let end = seek(&self.file, start, libc::SEEK_HOLE)?.unwrap_or(self.size);
            (self.at, self.end) = (start, end.clamp(start + 1, self.size));
        }
        let len = (self.end - self.at).min(buffer.len() as u64) as usize;
        self.file.read_exact_at(&mut buffer[..len], self.at)?;
        let offset = self.at;
        self.at += len as u64;
        Ok(Some((offset, len)))
    }

    fn next_scanned(&mut self, buffer: &mut [u8]) -> io::Result<Option<(u64, usize)>> {
        while self.at < self.size {
            let (offset, grain) = (self.at, GRAIN.min(buffer.len()));
            let len = (self.size - offset).min(grain as u64) as usize;
            self.file.read_exact_at(&mut buffer[..len], offset)?;
            self.at += len as u64;
            if buffer[..len].iter().any(|&b| b != 0) {
                let whole = (self.size - offset).min(buffer.len() as u64) as usize;
                self.file.read_exact_at(&mut buffer[len..whole], self.at)?;
                self.at = offset + whole as u64;
                return Ok(Some((offset, whole)));
            }
        }
        Ok(None)
    }
}

/// The next bytes at or after offset `at` that are not all zero.
fn next_memory(
    memory: &File,
    parts: &[&Part],
    mut at: u64,
    size: u64,
    buffer: &mut [u8],
) -> io::Result<Option<(u64, usize)>> {
    for part in parts {
        let end = (part.offset + part.len).min(size);
        at = at.max(part.offset);
        while at < end {
            let len = (end - at).min(GRAIN.min(buffer.len()) as u64) as usize;
            let piece = &mut buffer[..len];
            read_memory(memory, part.address + (at - part.offset), piece)?;
            if piece.iter().any(|&b| b != 0) {
                return Ok(Some((at, len)));
            }
            at += len as u64;
        }
    }
    Ok(None)
}

/// Reads memory; pages behind the end of what is mapped are as good as zero.
fn read_memory(memory: &File, address: u64, piece: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < piece.len() {
        let at = address + done as u64;
        match memory.read_at(&mut piece[done..], at) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => done += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.raw_os_error() == Some(libc::EIO) => {
                let next = ((at / PAGE + 1) * PAGE - address).min(piece.len() as u64) as usize;
                piece[done..next].fill(0);
                done = next;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Where the next data or hole of a file begins, at or after `offset`, in bytes; none when no data
/// follows. A file system that does not know holes has data everywhere.
fn seek(file: &File, offset: u64, whence: libc::c_int) -> io::Result<Option<u64>> {
    // SAFETY: takes numbers only. Nothing else uses the position of this descriptor.
    let at = unsafe { libc::lseek(file.as_raw_fd(), offset as libc::off_t, whence) };
    match Errno::result(at) {
        Ok(at) => Ok(Some(at as u64)),
        Err(Errno::EINVAL) if whence == libc::SEEK_DATA => Ok(Some(offset)),
        Err(Errno::ENXIO | Errno::EINVAL) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
