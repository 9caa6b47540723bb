//! Memory that is shared: memfds, anonymous memory mapped MAP_SHARED, files mapped MAP_SHARED,
//! segments of System V shared memory.

use super::contents::{recognise_open, unreadable, Embed, Part, Source};
use super::describe::Files;
use super::descriptor::Descriptor;
use super::segment;
use crate::capture::error::{CaptureError, Refusal, Result};
use crate::capture::hugetlb;
use crate::capture::memory::Table;
use crate::capture::proc::maps::{Area, Detail};
use crate::capture::proc::Proc;
use crate::capture::segments::{is_segment, Segments};
use image_format::model::{Contents, SharedMemory, SharedOrigin};
use nix::sys::statfs::statfs;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Seals that a memfd has that was made without the wish to be sealed.
const F_SEAL_SEAL: u32 = 1;
/// statfs(2) type of tmpfs.
const TMPFS_MAGIC: i64 = 0x0102_1994;
/// Stands for the device of segments.
const SEGMENT: u64 = u64::MAX;
/// Bytes that are read through the mapping itself: a read makes memory of what was a hole.
pub(super) const BLIND_READ: u64 = 1 << 30;

/// What a shared mapping shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::capture) enum Nature {
    /// Memory without a path.
    Memory,
    /// A file under its path.
    File,
    /// A segment of System V shared memory.
    Segment,
}

/// What a mapping shows that has to be shared again; none for private ones and for files that can
/// only be read through it, which are as good as private.
pub(in crate::capture) fn nature(area: &Area, detail: Detail) -> Option<Nature> {
    let (path, deleted) = area.path();
    if is_segment(area) {
        return Some(Nature::Segment);
    }
    if !area.shared || area.inode == 0 || !path.starts_with(b"/") {
        return None;
    }
    if path.starts_with(b"/memfd:") || deleted {
        return Some(Nature::Memory);
    }
    // Without VM_MAYWRITE the description was opened read-only: it can never become writable.
    (area.prot & 2 != 0 || detail.has(b"mw")).then_some(Nature::File)
}

/// What tells one memory from another: device and inode. The ids of segments are inodes of the
/// same device as anonymous memory, without being so.
fn key(area: &Area) -> [u64; 2] {
    if is_segment(area) {
        return [SEGMENT, area.inode];
    }
    [libc::makedev(area.device.0, area.device.1), area.inode]
}

/// The index of the memory behind a memfd; an entry is made for what was not met before.
pub(super) fn index(
    proc: &Proc,
    d: &Descriptor,
    borrowed: Option<&OwnedFd>,
    out: &mut Files,
) -> u32 {
    let inode = [d.stat.st_dev, d.stat.st_ino];
    if let Some(known) = out.shared.iter().position(|m| m.inode == inode) {
        return known as u32;
    }
    let name = d.path().strip_prefix(b"/memfd:").unwrap_or_default();
    let source = Source::File(proc.path(&format!("fd/{}", d.fd)));
    let looks = Looks {
        inode,
        size: d.stat.st_size.max(0) as u64,
        mode: d.stat.st_mode & 0o7777,
        page_shift: if d.is_of_huge_pages() { d.stat.st_blksize.trailing_zeros() } else { 0 },
    };
    memory(out, looks, name, borrowed.map(AsRawFd::as_raw_fd), source)
}

/// What memory looks like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looks {
    /// Device and inode.
    pub inode: [u64; 2],
    /// Size in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// As [`SharedMemory::page_shift`].
    pub page_shift: u32,
}

fn memory(out: &mut Files, looks: Looks, name: &[u8], file: Option<i32>, source: Source) -> u32 {
    let Looks { inode, size, mode, page_shift } = looks;
    let embedded = out.embeds.len() as u32;
    let what = format!("shared memory {}", String::from_utf8_lossy(name));
    out.embeds.push(Embed { number: embedded, source, size, hash: None, what });
    // SAFETY: F_GET_SEALS takes no argument.
    let seals = file.map(|fd| unsafe { libc::fcntl(fd, libc::F_GET_SEALS) });
    let seals = seals.filter(|&s| s >= 0).map_or(F_SEAL_SEAL, |s| s as u32);
    let origin = SharedOrigin::Memory { name: name.to_vec().into(), seals, embedded };
    out.shared.push(SharedMemory { inode, size, mode, page_shift, origin });
    out.shared.len() as u32 - 1
}

/// What shared mappings are looked at with.
#[derive(Clone, Copy)]
pub(in crate::capture) struct Sharing<'a> {
    /// The process.
    pub proc: &'a Proc,
    /// Files up to this size travel along.
    pub embed_limit: u64,
    /// Segments of System V shared memory.
    pub segments: &'a Segments,
    /// `--sysv-ipc`.
    pub sysv_ipc: bool,
}

impl Sharing<'_> {
    /// Finds what the mappings share. The result tells the index of a mapping's memory.
    pub fn mappings(&self, table: &Table, out: &mut Files) -> Result<BTreeMap<[u64; 2], u32>> {
        let mut groups: BTreeMap<[u64; 2], Vec<&Area>> = BTreeMap::new();
        for (area, _) in table.iter().filter(|(area, detail)| nature(area, *detail).is_some()) {
            groups.entry(key(area)).or_default();
        }
        // A mapping that only reads belongs to them all the same, if another one writes.
        for (area, _) in table.iter().filter(|(area, _)| area.shared) {
            if let Some(group) = groups.get_mut(&key(area)) {
                group.push(area);
            }
        }
        let mut known = BTreeMap::new();
        let pages = hugetlb::shared_pages(self.proc, table)?;
        for (inode, areas) in groups {
            let index = match out.shared.iter().position(|m| m.inode == inode) {
                Some(index) => index as u32,
                None => self.register(inode, &areas, &pages, out)?,
            };
            known.insert(inode, index);
        }
        Ok(known)
    }

    fn register(
        &self,
        inode: [u64; 2],
        areas: &[&Area],
        pages: &BTreeMap<u64, u32>,
        out: &mut Files,
    ) -> Result<u32> {
        let Some(first) = areas.first() else { return Ok(0) };
        let proc = self.proc;
        let page_shift = pages.get(&first.start).copied().unwrap_or(0);
        if is_segment(first) {
            let memory = segment::describe(self, inode, first, page_shift, out)?;
            out.shared.push(memory);
            return Ok(out.shared.len() as u32 - 1);
        }
        let (path, deleted) = first.path();
        if deleted || path.starts_with(b"/memfd:") {
            let name = path.strip_prefix(b"/memfd:").unwrap_or(path);
            // The kernel opens what is mapped, to the privileged (CAP_CHECKPOINT_RESTORE).
            let link = proc.path(&format!("map_files/{:x}-{:x}", first.start, first.end));
            if let Ok(file) = File::open(&link) {
                let (size, mode) =
                    file.metadata().map_or((0, 0o777), |m| (m.len(), m.mode() & 0o7777));
                let fd = Some(file.as_raw_fd());
                let looks = Looks { inode, size, mode, page_shift };
                return Ok(memory(out, looks, name, fd, Source::File(link)));
            }
            let size = areas.iter().map(|a| a.offset + a.size()).max().unwrap_or(0);
            if size > BLIND_READ {
                return Err(refused(
                    first,
                    format!(
                        "shares {} MiB, of which only root can tell what is in use",
                        size >> 20
                    ),
                    "run dumper as root",
                ));
            }
            let part = |a: &&Area| Part { offset: a.offset, address: a.start, len: a.size() };
            let parts = areas.iter().map(part).collect();
            let source = Source::Memory { pid: proc.pid(), parts };
            let looks = Looks { inode, size, mode: 0o777, page_shift };
            return Ok(memory(out, looks, name, None, source));
        }
        let place = Path::new(OsStr::from_bytes(path));
        // Opened once: another process may remove it before it is copied.
        // What has its path now may be a named pipe, at which an open would wait.
        let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(place);
        let file = match opened {
            Ok(file) => Some(file),
            Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound) => None,
            Err(e) => return Err(unreadable(place, e)),
        };
        let found = file.as_ref().map_or_else(|| std::fs::metadata(place), File::metadata);
        let Some(found) = found.ok().filter(|m| m.ino() == first.inode) else {
            let reason = "is shared memory of a file that is no longer found under its path";
            return Err(refused(first, reason.into(), "let the program unmap it"));
        };
        let size = found.len();
        // What lies in memory only is gone with the next boot: it travels along whatever its size.
        let in_memory = statfs(place).is_ok_and(|s| s.filesystem_type().0 == TMPFS_MAGIC);
        let travels = in_memory || size <= self.embed_limit;
        // Nothing can be written to a file of hugetlb pages.
        let travels = travels && page_shift == 0;
        let embedded = travels.then_some(out.embeds.len() as u32);
        let contents = match &file {
            Some(file) => recognise_open(file, place, size, embedded)?,
            None => Contents::Unread,
        };
        if let (Some(file), Contents::Whole { hash, embedded: Some(number) }) = (file, &contents) {
            let what = String::from_utf8_lossy(path).into_owned();
            let source = Source::File(format!("/proc/self/fd/{}", file.as_raw_fd()).into());
            out.embeds.push(Embed { number: *number, source, size, hash: Some(*hash), what });
            out.held.push(file.into());
        }
        out.shared.push(SharedMemory {
            inode,
            size,
            mode: found.mode() & 0o7777,
            page_shift: 0,
            origin: SharedOrigin::File { path: path.to_vec().into(), contents },
        });
        Ok(out.shared.len() as u32 - 1)
    }
}

/// The index of what a mapping shares, if it does.
pub(in crate::capture) fn index_of(known: &BTreeMap<[u64; 2], u32>, area: &Area) -> Option<u32> {
    if area.shared {
        known.get(&key(area)).copied()
    } else {
        None
    }
}

pub(super) fn refused(area: &Area, reason: String, remedy: &'static str) -> CaptureError {
    CaptureError::Refused(vec![refusal(area, reason, remedy)])
}

pub(super) fn refusal(area: &Area, reason: String, remedy: &'static str) -> Refusal {
    let name = String::from_utf8_lossy(&area.name);
    let object = format!("memory {:x}-{:x} ({name})", area.start, area.end);
    Refusal::new(object, reason, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_may_be_removed_before_it_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mapped");
        std::fs::write(&path, [7; 5000]).unwrap();
        let found = std::fs::metadata(&path).unwrap();
        let area = Area {
            start: 0x10000,
            end: 0x12000,
            prot: 3,
            shared: true,
            device: (libc::major(found.dev()), libc::minor(found.dev())),
            inode: found.ino(),
            name: path.as_os_str().as_bytes().to_vec(),
            ..Area::default()
        };
        let proc = Proc::open(std::process::id()).unwrap();
        let segments = Segments::default();
        let about =
            Sharing { proc: &proc, embed_limit: 1 << 20, segments: &segments, sysv_ipc: false };
        let mut files = Files::default();
        about.mappings(&vec![(area, Detail::default())], &mut files).unwrap();
        std::fs::remove_file(&path).unwrap();
        let Source::File(kept) = &files.embeds[0].source else { panic!("of memory") };
        assert_eq!(std::fs::read(kept).unwrap(), [7; 5000]);
    }
}
