//! Readers of /proc/PID. Each parser is a pure function over bytes.

pub mod cgroup;
pub mod fdinfo;
pub mod limits;
pub mod maps;
pub mod number;
pub mod stat;
pub mod status;
pub mod timers;

use super::error::{CaptureError, Result};
use nix::fcntl::{openat, readlinkat, AtFlags, OFlag};
use nix::sys::stat::{fstatat, FileStat, Mode};
use rustix::fs::RawDir;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Bytes of a directory's entries that are taken at a time; each has 24 here.
const LISTED: usize = 16 << 10;

/// Links of /proc/PID/task where it lists one thread.
const LINKS_OF_ONE: u64 = 3;

/// Reads until `is_over`, given the bytes that were read and those that were asked for.
fn read_until(mut file: File, is_over: impl Fn(usize, usize) -> bool) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 8 << 10];
    let mut len = 0;
    loop {
        let room = bytes.len() - len;
        match file.read(&mut bytes[len..]) {
            Ok(n) => {
                len += n;
                if n == 0 || is_over(n, room) {
                    break;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if len == bytes.len() {
            bytes.resize(len * 2, 0);
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// Reads a file that is one record.
fn record(file: File) -> io::Result<Vec<u8>> {
    read_until(file, |read, room| read < room)
}

/// The numbers that a directory lists from where it was read last, ascending.
fn listed(dir: impl AsFd) -> io::Result<Vec<u32>> {
    let mut entries = [MaybeUninit::uninit(); LISTED];
    let mut dir = RawDir::new(dir, &mut entries);
    let mut numbers = Vec::new();
    while let Some(entry) = dir.next() {
        if let Some(n) = number::decimal(entry?.file_name().to_bytes()) {
            numbers.push(n as u32);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A directory of one process, of whose entries several are looked at. Kept open, as looking up two components
/// of a path takes a microsecond more than one.
#[derive(Debug)]
pub struct Directory<'a> {
    proc: &'a Proc,
    name: &'static str,
    dir: OwnedFd,
}

impl Directory<'_> {
    fn failed(&self, entry: &str, source: io::Error) -> CaptureError {
        self.proc.failed(&format!("{}/{entry}", self.name), source)
    }

    /// All entries, ascending. To be called once: what was listed is not listed again.
    pub fn numbers(&self) -> Result<Vec<u32>> {
        listed(&self.dir).map_err(|e| self.proc.failed(self.name, e))
    }

    /// Reads an entry that is one record, see [`Proc::read_record`].
    pub fn read_record(&self, entry: u32) -> Result<Vec<u8>> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let entry = entry.to_string();
        let file = openat(&self.dir, entry.as_str(), flags, Mode::empty());
        let bytes = file.map_err(io::Error::from).and_then(|file| record(file.into()));
        bytes.map_err(|e| self.failed(&entry, e))
    }

    /// Where a link leads.
    pub fn link(&self, entry: &str) -> Result<Vec<u8>> {
        let link = readlinkat(&self.dir, entry);
        Ok(link.map_err(|e| self.failed(entry, e.into()))?.into_vec())
    }

    /// The stat of what an entry leads to.
    pub fn stat_of(&self, entry: u32) -> Result<FileStat> {
        let entry = entry.to_string();
        let stat = fstatat(&self.dir, entry.as_str(), AtFlags::empty());
        stat.map_err(|e| self.failed(&entry, e.into()))
    }
}

/// The directory of one process, kept open: a recycled pid cannot be taken for it.
#[derive(Debug)]
pub struct Proc {
    pid: u32,
    dir: OwnedFd,
}

impl Proc {
    /// Opens /proc/PID.
    pub fn open(pid: u32) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = nix::fcntl::open(format!("/proc/{pid}").as_str(), flags, Mode::empty())?;
        Ok(Self { pid, dir })
    }

    /// The pid, as this program sees it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Path of an entry, for opening and for messages.
    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }

    fn failed(&self, name: &str, source: io::Error) -> CaptureError {
        match source.raw_os_error() {
            Some(libc::ESRCH) => CaptureError::Died { pid: self.pid, during: "being read" },
            Some(libc::ENOENT) if !self.exists() => {
                CaptureError::Died { pid: self.pid, during: "being read" }
            }
            _ => CaptureError::Proc { path: format!("/proc/{}/{name}", self.pid), source },
        }
    }

    fn exists(&self) -> bool {
        openat(&self.dir, "stat", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).is_ok()
    }

    /// An error about the contents of `name`.
    pub fn format(&self, name: &str, what: &'static str) -> CaptureError {
        CaptureError::Format { path: format!("/proc/{}/{name}", self.pid), what }
    }

    /// Opens an entry for reading.
    pub fn file(&self, name: &str) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&self.dir, name, flags, Mode::empty())?))
    }

    /// Reads an entry; the error is the system's own.
    pub fn try_read(&self, name: &str) -> io::Result<Vec<u8>> {
        read_until(self.file(name)?, |read, _| read == 0)
    }

    /// Reads an entry that is one record, which the kernel writes as a whole before it hands any of
    /// it out: what is shorter than was asked for is all (`single_open`, `seq_read_iter` in
    /// fs/seq_file.c), and a second read, of nothing, is spared.
    pub fn read_record(&self, name: &str) -> Result<Vec<u8>> {
        let file = self.file(name);
        file.and_then(record).map_err(|e| self.failed(name, e))
    }

    /// Opens a directory of many entries.
    pub fn directory(&self, name: &'static str) -> Result<Directory<'_>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = openat(&self.dir, name, flags, Mode::empty());
        let dir = dir.map_err(|e| self.failed(name, e.into()))?;
        Ok(Directory { proc: self, name, dir })
    }

    /// Reads an entry line by line, in a buffer that does not grow with its length; what `take`
    /// does not understand is an error.
    pub fn read_lines(&self, name: &str, mut take: impl FnMut(&[u8]) -> Option<()>) -> Result<()> {
        let mut file = self.file(name).map_err(|e| self.failed(name, e))?;
        let mut bytes = vec![0; 32 << 10];
        let mut len = 0;
        loop {
            let read = match file.read(&mut bytes[len..]) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.failed(name, e)),
            };
            len += read;
            let mut at = 0;
            // The kernel ends every line, the last one too.
            while let Some(end) = memchr::memchr(b'\n', &bytes[at..len]) {
                take(&bytes[at..at + end]).ok_or_else(|| self.format(name, "a line"))?;
                at += end + 1;
            }
            if read == 0 {
                return if at == len { Ok(()) } else { Err(self.format(name, "a line")) };
            }
            bytes.copy_within(at..len, 0);
            len -= at;
            if len == bytes.len() {
                bytes.resize(len * 2, 0);
            }
        }
    }

    /// Reads an entry.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.try_read(name).map_err(|e| self.failed(name, e))
    }

    /// Reads an entry that is one record and that may be missing or closed to this user.
    pub fn read_optional_record(&self, name: &str) -> Option<Vec<u8>> {
        self.file(name).and_then(record).ok()
    }

    /// Reads an entry that an older kernel may lack or that may be closed to this user.
    pub fn read_optional(&self, name: &str) -> Option<Vec<u8>> {
        self.try_read(name).ok()
    }

    /// Where a link leads; the error is the system's own.
    pub fn try_link(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(readlinkat(&self.dir, name)?.into_vec())
    }

    /// Device and inode of what a link leads to.
    pub fn place(&self, name: &str) -> io::Result<(u64, u64)> {
        let stat = fstatat(&self.dir, name, AtFlags::empty())?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Where a link leads.
    pub fn link(&self, name: &str) -> Result<Vec<u8>> {
        self.try_link(name).map_err(|e| self.failed(name, e))
    }

    /// The numbers that a directory lists, ascending.
    pub fn numbers(&self, name: &str) -> Result<Vec<u32>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = openat(&self.dir, name, flags, Mode::empty());
        let numbers = dir.map_err(io::Error::from).and_then(listed);
        numbers.map_err(|e| self.failed(name, e))
    }

    /// The threads, ascending. Where there is but one, which is the first, the count of links of the
    /// directory tells it (`proc_task_getattr` in fs/proc/base.c), and the list need not be read.
    pub fn threads(&self) -> Result<Vec<u32>> {
        let stat = fstatat(&self.dir, "task", AtFlags::empty());
        match stat.map_err(|e| self.failed("task", e.into()))?.st_nlink {
            LINKS_OF_ONE => Ok(vec![self.pid]),
            _ => self.numbers("task"),
        }
    }

    /// How many descriptors there are; none where the kernel does not say (before 6.2).
    pub fn count_descriptors(&self) -> Option<usize> {
        let stat = fstatat(&self.dir, "fd", AtFlags::empty()).ok()?;
        usize::try_from(stat.st_size).ok().filter(|n| *n > 0)
    }

    /// The status file, of the process.
    pub fn status(&self) -> Result<status::Status> {
        let bytes = self.read_record("status")?;
        status::parse(&bytes).ok_or_else(|| self.format("status", "a field is missing"))
    }

    /// The stat file, of the process.
    pub fn stat(&self) -> Result<stat::Stat> {
        let bytes = self.read_record("stat")?;
        stat::parse(&bytes).ok_or_else(|| self.format("stat", "a field is missing"))
    }
}
