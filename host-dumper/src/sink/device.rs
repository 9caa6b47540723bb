//! A medium without a file system: /dev/pen0, a partition, a disk. The image begins at its first
//! byte. That first page is written last, when all the rest has been read back and found right:
//! until then the medium holds nothing that could be taken for an image.

use super::{reread, Sink, SinkError};
use crate::abort;
use crate::medium::{recognise, Holding, LOOK, UNFINISHED};
use image_format::container::FRONT_OFFSET;
use image_format::PAGE_SIZE;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes at the beginning that are kept back.
const HEAD: usize = PAGE_SIZE as usize;
/// Bytes that are written at a time; between them the wish to stop is looked at.
const PIECE: usize = 1 << 20;

/// An image on its way onto a medium.
#[derive(Debug)]
pub struct DeviceSink {
    path: PathBuf,
    file: File,
    size: u64,
    head: Mutex<Head>,
}

#[derive(Debug)]
struct Head {
    bytes: [u8; HEAD],
    /// Whether what was on the medium has been given up.
    begun: bool,
}

impl DeviceSink {
    /// Whether `path` leads to something that this sink writes to.
    pub fn takes(path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|found| {
            let kind = found.file_type();
            kind.is_block_device() || kind.is_char_device()
        })
    }

    /// Opens the medium for this program alone. What is on it is only given up with `force`.
    pub fn open(path: &Path, force: bool) -> Result<Self, SinkError> {
        // O_EXCL: a block device that is mounted or otherwise in use says EBUSY (open(2)), and so
        // does a pen that another program holds. O_NONBLOCK: a terminal or a fifo that was named
        // by mistake does not keep us waiting.
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_EXCL | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(|source| SinkError::Open { path: path.to_owned(), source })?;
        Self::over(path, file, force)
    }

    fn over(path: &Path, mut file: File, force: bool) -> Result<Self, SinkError> {
        let error = |source| SinkError::Open { path: path.to_owned(), source };
        // Other character devices cannot be positioned, or have no end.
        let size = file.seek(SeekFrom::End(0)).unwrap_or(0);
        if size == 0 {
            let what = "a device that keeps nothing, or that holds no medium";
            return Err(SinkError::Kind { path: path.to_owned(), what });
        }
        let mut begin = vec![0; LOOK.min(size.try_into().unwrap_or(LOOK))];
        file.read_exact_at(&mut begin, 0).map_err(error)?;
        let holding = recognise(&begin);
        if !force && !holding.is_free() {
            return Err(SinkError::Holds { path: path.to_owned(), holding });
        }
        let head = Head { bytes: [0; HEAD], begun: false };
        Ok(Self { path: path.to_owned(), file, size, head: Mutex::new(head) })
    }

    fn head(&self) -> MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, action: &'static str, source: io::Error) -> SinkError {
        SinkError::Write { action, path: self.path.clone(), source }
    }

    /// Marks what is on the medium as neither the old nor the new.
    fn mark(&self) -> Result<(), SinkError> {
        let mut page = [0; HEAD];
        page[FRONT_OFFSET..FRONT_OFFSET + UNFINISHED.len()].copy_from_slice(&UNFINISHED);
        self.file.write_all_at(&page, 0).map_err(|error| self.error("write", error))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), SinkError> {
        self.file.sync_all().map_err(|error| self.error("sync", error))
    }

    fn altered(&self, what: &str) -> SinkError {
        SinkError::Altered { path: self.path.clone(), what: what.to_owned() }
    }

    fn interrupted(&self) -> SinkError {
        SinkError::Interrupted { path: self.path.clone() }
    }

    /// Puts the first page in its place: from here on there is an image.
    fn finish(&self, head: &Head, sync: bool) -> Result<(), SinkError> {
        self.file.write_all_at(&head.bytes, 0).map_err(|error| self.error("write", error))?;
        if sync {
            self.sync()?;
            reread::forget(&self.file);
            let mut page = [0; HEAD];
            let read = self.file.read_exact_at(&mut page, 0);
            read.map_err(|error| self.error("read back", error))?;
            if page != head.bytes {
                return Err(self.altered("another first page"));
            }
        }
        Ok(())
    }
}

impl Sink for DeviceSink {
    fn write_at(&self, mut offset: u64, parts: &[&[u8]]) -> Result<(), SinkError> {
        let mut head = self.head();
        if !head.begun {
            self.mark()?;
            head.begun = true;
        }
        for part in parts {
            let mut rest = *part;
            if offset < HEAD as u64 {
                let at = offset as usize;
                let (kept, behind) = rest.split_at(rest.len().min(HEAD - at));
                head.bytes[at..at + kept.len()].copy_from_slice(kept);
                offset += kept.len() as u64;
                rest = behind;
            }
            for piece in rest.chunks(PIECE) {
                if abort::requested() {
                    return Err(self.interrupted());
                }
                self.file
                    .write_all_at(piece, offset)
                    .map_err(|error| self.error("write", error))?;
                offset += piece.len() as u64;
            }
        }
        Ok(())
    }

    // Sticks are fastest, and wear least, when they are written front to back.
    fn parallel(&self) -> bool {
        false
    }

    fn expect(&self, bytes: u64) -> Result<(), SinkError> {
        if self.size < bytes {
            let path = self.path.clone();
            return Err(SinkError::Size { path, size: self.size, needed: bytes });
        }
        Ok(())
    }

    fn reread(&self, length: u64) -> Result<(), SinkError> {
        self.sync()?;
        reread::verify(&self.path, &self.file, &self.head().bytes, length)
    }

    // Sticks lie, about their size above all.
    fn doubtful(&self) -> bool {
        true
    }

    fn commit(&self, sync: bool) -> Result<(), SinkError> {
        let head = self.head();
        if sync {
            self.sync()?;
        }
        self.finish(&head, sync).inspect_err(|_| {
            // The process will run on, so there must be no image of it.
            let _ = self.mark();
        })
    }

    fn durable(&self) -> bool {
        true
    }

    /// Of use after the first piece: what was there before is then marked as unfinished.
    fn is_committed(&self) -> bool {
        let mut page = [0; HEAD];
        self.file.read_exact_at(&mut page, 0).is_ok()
            && matches!(recognise(&page), Holding::Image { .. })
    }

    fn retract(&self) {
        let _ = self.mark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A medium of 1 MiB that begins with `begin`.
    fn medium(begin: &[u8]) -> (tempfile::NamedTempFile, File) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        file.as_file().write_all_at(begin, 0).unwrap();
        let other = File::options().read(true).write(true).open(file.path()).unwrap();
        (file, other)
    }

    fn open(begin: &[u8], force: bool) -> (tempfile::NamedTempFile, Result<DeviceSink, SinkError>) {
        let (file, other) = medium(begin);
        let sink = DeviceSink::over(file.path(), other, force);
        (file, sink)
    }

    fn first(file: &tempfile::NamedTempFile) -> Vec<u8> {
        let mut bytes = vec![0; 3 * HEAD];
        file.as_file().read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn what_is_there_is_kept() {
        let (file, sink) = open(b"LUKS\xba\xbe", false);
        let error = sink.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} holds an encrypted volume (LUKS)", file.path().display())
        );
        assert!(first(&file).starts_with(b"LUKS"));
        let (file, sink) = open(b"LUKS\xba\xbe", true);
        // Given up with the first write, not before: the dump may yet be refused.
        let sink = sink.unwrap();
        assert!(first(&file).starts_with(b"LUKS"));
        sink.write_at(0, &[b"x"]).unwrap();
        assert_eq!(recognise(&first(&file)), Holding::Unfinished);
    }

    #[test]
    fn the_first_page_comes_last() {
        let (file, sink) = open(b"", false);
        let sink = sink.unwrap();
        let mut image = vec![7; 3 * HEAD - 5];
        image[FRONT_OFFSET..FRONT_OFFSET + 8].copy_from_slice(b"RESUMELF");
        image[FRONT_OFFSET + 8] = 1;
        sink.write_at(0, &[&image[..100], &image[100..HEAD + 9]]).unwrap();
        sink.write_at(HEAD as u64 + 9, &[&image[HEAD + 9..]]).unwrap();
        assert_eq!(recognise(&first(&file)), Holding::Unfinished);
        assert!(!sink.is_committed());
        // It is no image.
        assert!(matches!(sink.reread(image.len() as u64), Err(SinkError::Altered { .. })));
        sink.commit(true).unwrap();
        assert_eq!(first(&file)[..image.len()], image);
        sink.retract();
        assert_eq!(recognise(&first(&file)), Holding::Unfinished);
    }

    #[test]
    fn media_that_are_too_small_or_none() {
        let (_file, sink) = open(b"", false);
        let sink = sink.unwrap();
        assert!(sink.expect(1 << 20).is_ok());
        assert!(matches!(sink.expect((1 << 20) + 1), Err(SinkError::Size { .. })));
        let end = sink.write_at((1 << 20) - 1, &[b"x"]);
        assert!(end.is_ok());
        for path in ["/dev/null", "/dev/zero"] {
            assert!(DeviceSink::takes(Path::new(path)));
            let opened = DeviceSink::open(Path::new(path), true);
            assert!(matches!(opened, Err(SinkError::Kind { .. })), "{path}");
        }
        assert!(!DeviceSink::takes(Path::new("/")));
        assert!(!DeviceSink::takes(Path::new("/dev/no such stick")));
    }
}
