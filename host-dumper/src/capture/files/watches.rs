//! The paths that an inotify instance watches: the kernel tells inodes only.

use super::descriptor::Descriptor;
use crate::capture::proc::fdinfo::InotifyMark;
use crate::capture::proc::{number, Proc};
use image_format::model::Watch;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Entries of one directory that are looked at, at most.
const ENTRIES: usize = 4096;
/// Bytes of struct file_handle before the handle itself: two 32-bit words.
const HANDLE_HEAD: usize = 8;
/// MAX_HANDLE_SZ.
const HANDLE_MAX: usize = 128;

/// Finds the paths of all watches; the error is the first watch whose path is not found.
pub(super) fn find(
    proc: &Proc,
    own: &[&Descriptor],
    marks: &[InotifyMark],
) -> Result<Vec<Watch>, InotifyMark> {
    let mut marks = marks.to_vec();
    marks.sort_by_key(|mark| mark.wd);
    let mut near: Option<Vec<PathBuf>> = None;
    let mut watches = Vec::with_capacity(marks.len());
    for mark in marks {
        let path = by_handle(proc, &mark).or_else(|| {
            let near = near.get_or_insert_with(|| nearby(proc, own));
            near.iter().find(|path| is_it(path, &mark)).cloned()
        });
        let Some(path) = path else { return Err(mark) };
        let path = path.into_os_string().into_vec().into();
        watches.push(Watch { wd: mark.wd, path, mask: mark.mask });
    }
    Ok(watches)
}

fn is_it(path: &Path, mark: &InotifyMark) -> bool {
    // The device is not compared: stat(2) tells another one than the kernel's on some file
    // systems (btrfs).
    std::fs::symlink_metadata(path).is_ok_and(|found| found.ino() == mark.inode)
}

/// open_by_handle_at(2), where this user may (CAP_DAC_READ_SEARCH).
fn by_handle(proc: &Proc, mark: &InotifyMark) -> Option<PathBuf> {
    let (kind, bytes) = &mark.handle;
    if bytes.is_empty() || bytes.len() > HANDLE_MAX {
        return None;
    }
    let device = format!("{}:{}", mark.device >> 20, mark.device & 0xf_ffff);
    let mounts = proc.read_optional("mountinfo")?;
    let mut handle = [0u64; (HANDLE_HEAD + HANDLE_MAX) / 8];
    let mut image = Vec::with_capacity(HANDLE_HEAD + bytes.len());
    image.extend_from_slice(&(bytes.len() as u32).to_ne_bytes());
    image.extend_from_slice(&kind.to_ne_bytes());
    image.extend_from_slice(bytes);
    image.resize(handle.len() * 8, 0);
    for (word, chunk) in handle.iter_mut().zip(image.chunks_exact(8)) {
        *word = chunk.try_into().map_or(0, u64::from_ne_bytes);
    }
    let found = number::lines(&mounts).find_map(|line| {
        let mut fields = number::words(line).skip(2);
        if fields.next()? != device.as_bytes() {
            return None;
        }
        let place = fields.nth(1)?;
        let mount = File::open(OsStr::from_bytes(place)).ok()?;
        let (fd, flags) = (mount.as_raw_fd(), libc::O_PATH | libc::O_CLOEXEC);
        // SAFETY: the handle is aligned and as long as its first word says; it is only read.
        let got =
            unsafe { libc::syscall(libc::SYS_open_by_handle_at, fd, handle.as_mut_ptr(), flags) };
        if got < 0 {
            return None;
        }
        // SAFETY: a new descriptor that nobody else owns.
        let found = unsafe { OwnedFd::from_raw_fd(got as i32) };
        let path = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()?;
        // Below another mount of the same file system the path would be another one.
        is_it(&path, mark).then_some(path)
    });
    found
}

/// Paths that a program is likely to watch: those it knows, their directories and what is in them.
fn nearby(proc: &Proc, own: &[&Descriptor]) -> Vec<PathBuf> {
    let mut known: Vec<Vec<u8>> = own.iter().map(|d| d.path().to_vec()).collect();
    known.extend(["cwd", "root", "exe"].iter().filter_map(|name| proc.link(name).ok()));
    for name in ["cmdline", "environ"] {
        let text = proc.read_optional(name).unwrap_or_default();
        for word in text.split(|&b| b == 0) {
            let value = word.iter().position(|&b| b == b'=').map_or(word, |at| &word[at + 1..]);
            known.push(value.to_vec());
        }
    }
    let mut directories = BTreeSet::new();
    let mut paths = Vec::new();
    for path in known.iter().filter(|p| p.starts_with(b"/")) {
        for ancestor in Path::new(OsStr::from_bytes(path)).ancestors() {
            if directories.insert(ancestor.to_path_buf()) {
                paths.push(ancestor.to_path_buf());
            }
        }
    }
    for directory in directories {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        paths.extend(entries.take(ENTRIES).map(|entry| entry.path()));
    }
    paths
}
