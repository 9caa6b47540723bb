//! Files behind clean mappings: their pages are the file's own, so that they can be read from it
//! after the process was let go. The process stands still for less.

use super::batch::is_mapped;
use super::scan::{Scanner, Want};
use image_format::model::{Backing, Mapping};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Descriptors held open at most.
const OPEN_MAX: usize = 200;

/// The files, by the first address of the mapping.
#[derive(Debug, Default)]
pub struct CleanFiles(BTreeMap<u64, CleanFile>);

#[derive(Debug)]
struct CleanFile {
    file: File,
    /// Offset in the file of address 0 of the process, wrapping.
    base: u64,
}

impl CleanFiles {
    /// Opens what is behind the mappings of process `pid`, which stands still, that the plan maps
    /// from the image and that have no page of their own (relocated data, which was written to and
    /// then protected, has some). The kernel names the very file for it, whatever became of its
    /// path, but only to the privileged (`CAP_CHECKPOINT_RESTORE`); what cannot be opened is read
    /// from the stopped process.
    pub fn open(pid: i32, mappings: &[Mapping]) -> Self {
        let mut files = BTreeMap::new();
        let Ok(mut own) = Scanner::open(pid, Want::Changed, 0) else { return Self::default() };
        for mapping in mappings.iter().filter(|mapping| is_mapped(mapping)) {
            let Backing::File { offset, .. } = mapping.backing else { continue };
            if own.any(mapping.start, mapping.end).unwrap_or(true) {
                continue;
            }
            let link = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
            match File::open(link) {
                Ok(file) => {
                    let base = offset.wrapping_sub(mapping.start);
                    files.insert(mapping.start, CleanFile { file, base });
                }
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => break,
                Err(_) => {}
            }
            if files.len() == OPEN_MAX {
                break;
            }
        }
        Self(files)
    }

    /// Whether the mapping at `start` is among them.
    pub fn holds(&self, start: u64) -> bool {
        self.0.contains_key(&start)
    }

    /// Reads what is mapped at `address`; short at the end of the file.
    pub fn read(&self, address: u64, target: &mut [u8]) -> io::Result<usize> {
        let Some((_, clean)) = self.0.range(..=address).next_back() else { return Ok(0) };
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
