//! Mappings whose pages are the file's own: those of several processes are stored once, and they
//! can be read from the file after a process was let go, so that it stands still for less.

use super::batch::is_mapped;
use super::common::Common;
use super::scan::{Scanner, Want};
use crate::capture::FileId;
use image_format::model::{Backing, Mapping};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes between mappings that are looked at in one go: what lies between costs less than a call.
const NEAR: u64 = 1 << 20;
/// Descriptors held open at most.
const OPEN_MAX: usize = 200;

/// Such mappings of one process, by their first addresses.
#[derive(Debug, Default)]
pub struct CleanFiles {
    clean: BTreeSet<u64>,
    elsewhere: BTreeSet<u64>,
    open: BTreeMap<u64, CleanFile>,
}

#[derive(Debug)]
struct CleanFile {
    file: File,
    /// Offset in the file of address 0 of the process, wrapping.
    base: u64,
}

impl CleanFiles {
    /// Looks at the mappings of a process, which stands still, that the plan maps from the image. Those that have a page of their own (relocated data, which was written to and then
    /// protected) are left out.
    pub fn look(scanner: &mut Scanner, mappings: &[Mapping]) -> Self {
        let mut clean = BTreeSet::new();
        let mapped: Vec<_> = mappings.iter().filter(|mapping| is_mapped(mapping)).collect();
        for near in mapped.chunk_by(|a, b| b.start.saturating_sub(a.end) <= NEAR) {
            scanner.look_for(Want::Changed, near.last().map_or(0, |last| last.end));
            let clear = near.iter().filter(|m| {
                let own = scanner.next(m.start, m.end);
                own.is_ok_and(|own| own.is_none())
            });
            clean.extend(clear.map(|m| m.start));
        }
        Self { clean, ..Self::default() }
    }

    /// Leaves out those whose pages are stored for another mapping already, of this process or of
    /// one before; `owner` is its index, `files` tells which files they show.
    pub fn share(
        &mut self,
        owner: usize,
        mappings: &[Mapping],
        files: &BTreeMap<u64, FileId>,
        common: &mut Common,
    ) {
        for mapping in mappings.iter().filter(|m| self.clean.contains(&m.start)) {
            let file = files.get(&mapping.start);
            if file.is_some_and(|file| common.note(owner, mapping, *file)) {
                self.elsewhere.insert(mapping.start);
            }
        }
    }

    /// Opens what is behind them. The kernel names the very file for it, whatever became of its
    /// path, but only to the privileged (`CAP_CHECKPOINT_RESTORE`); what cannot be opened is read
    /// from the stopped process, as is what `files` does not have.
    pub fn open(&mut self, pid: i32, mappings: &[Mapping], files: &BTreeMap<u64, FileId>) {
        let wanted = |m: &&Mapping| self.clean.contains(&m.start) && files.contains_key(&m.start);
        for mapping in mappings.iter().filter(wanted) {
            let Backing::File { offset, .. } = mapping.backing else { continue };
            if self.elsewhere.contains(&mapping.start) {
                continue;
            }
            let link = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
            match File::open(link) {
                Ok(file) => {
                    let base = offset.wrapping_sub(mapping.start);
                    self.open.insert(mapping.start, CleanFile { file, base });
                }
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => break,
                Err(_) => {}
            }
            if self.open.len() == OPEN_MAX {
                break;
            }
        }
    }

    /// Whether the pages of the mapping at `start` can be read from its file.
    pub fn holds(&self, start: u64) -> bool {
        self.open.contains_key(&start)
    }

    /// Whether the pages of the mapping at `start` are stored for another one.
    pub fn is_elsewhere(&self, start: u64) -> bool {
        self.elsewhere.contains(&start)
    }

    /// Reads what is mapped at `address`; short at the end of the file.
    pub fn read(&self, address: u64, target: &mut [u8]) -> io::Result<usize> {
        let Some((_, clean)) = self.open.range(..=address).next_back() else { return Ok(0) };
        let mut done = 0;
        while done < target.len() {
            let at = clean.base.wrapping_add(address + done as u64);
            match clean.file.read_at(&mut target[done..], at) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}
