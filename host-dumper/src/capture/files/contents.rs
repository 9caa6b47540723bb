//! Contents of regular files: how they are recognised on the target.

use crate::capture::error::{CaptureError, Result};
use image_format::container::{hash_data, HASH_BLOCK, SAMPLES, SAMPLE_SIZE, WHOLE_HASH_LIMIT};
use image_format::model::Contents;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Where the contents of an embedded file are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path, such as /proc/PID/fd/N.
    File(PathBuf),
    /// Mappings of a stopped process; what none of them shows is zero.
    Memory {
        /// The process.
        pid: u32,
        /// What they show; they may overlap.
        parts: Vec<Part>,
    },
}

/// A stretch of a file that is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Offset in the file in bytes.
    pub offset: u64,
    /// Address.
    pub address: u64,
    /// Length in bytes.
    pub len: u64,
}

/// A file whose contents travel along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embed {
    /// Number in the image.
    pub number: u32,
    /// Where the bytes are.
    pub source: Source,
    /// Size in bytes.
    pub size: u64,
    /// Hash of all its bytes (`hash_data`, seed 0), where it was computed.
    pub hash: Option<u64>,
    /// What it is, for messages.
    pub what: String,
}

/// Hashes a file of `size` bytes; [`Contents::Unread`] if this user may not read it.
pub(super) fn recognise(path: &Path, size: u64, embedded: Option<u32>) -> Result<Contents> {
    match File::open(path) {
        Ok(file) => recognise_open(&file, path, size, embedded),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(Contents::Unread),
        Err(source) => Err(unreadable(path, source)),
    }
}

/// The same of a file that may not be opened anew, by way of the process's own descriptor; it does not
/// travel along.
pub(super) fn recognise_borrowed(
    borrowed: Option<&OwnedFd>,
    path: &Path,
    size: u64,
) -> Result<Contents> {
    let cannot = |source| unreadable(path, source);
    let Some(borrowed) = borrowed else { return Ok(Contents::Unread) };
    let file = File::from(borrowed.try_clone().map_err(cannot)?);
    // Nothing is moved: all reads tell their place. One for writing only may not be read.
    if size > 0 && file.read_at(&mut [0], 0).is_err() {
        return Ok(Contents::Unread);
    }
    recognise_open(&file, path, size, None)
}

/// The same of a file that is open for reading.
pub(super) fn recognise_open(
    file: &File,
    path: &Path,
    size: u64,
    embedded: Option<u32>,
) -> Result<Contents> {
    if embedded.is_some() || size <= WHOLE_HASH_LIMIT {
        match whole(file, size) {
            Ok(hash) => Ok(Contents::Whole { hash, embedded }),
            // Some files (of /sys) announce a page and have less.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(Contents::Unread),
            Err(e) => Err(unreadable(path, e)),
        }
    } else {
        let hash = sampled(file, size).map_err(|e| unreadable(path, e))?;
        Ok(Contents::Sampled { hash })
    }
}

pub(super) fn unreadable(path: &Path, source: io::Error) -> CaptureError {
    CaptureError::File { path: path.display().to_string(), what: "read", source }
}

fn whole(file: &File, size: u64) -> io::Result<u64> {
    hash_blocks(size, |buf, at| file.read_exact_at(buf, at))
}

/// Hashes `size` bytes that `read` puts into a buffer, given their offset.
pub(super) fn hash_blocks<E>(
    size: u64,
    mut read: impl FnMut(&mut [u8], u64) -> std::result::Result<(), E>,
) -> std::result::Result<u64, E> {
    let mut buf = vec![0; (HASH_BLOCK as u64).min(size) as usize];
    let (mut at, mut hash) = (0, 0);
    while at < size {
        let n = (HASH_BLOCK as u64).min(size - at) as usize;
        read(&mut buf[..n], at)?;
        hash = hash_data(&buf[..n], hash);
        at += n as u64;
    }
    Ok(hash)
}

fn sampled(file: &File, size: u64) -> io::Result<u64> {
    let mut buf = vec![0; SAMPLE_SIZE as usize];
    let mut hash = 0;
    for i in 0..SAMPLES {
        file.read_exact_at(&mut buf, (size - SAMPLE_SIZE) / (SAMPLES - 1) * i)?;
        hash = hash_data(&buf, hash);
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_hashed_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i * 31) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let got = recognise(&path, bytes.len() as u64, Some(3)).unwrap();
        assert_eq!(got, Contents::Whole { hash: hash_data(&bytes, 0), embedded: Some(3) });
        assert_eq!(recognise(&path, 300_001, None).unwrap(), Contents::Unread);
    }
}
