//! Notes about pages, in words.

use image_format::model::{Backing, Tree};
use image_format::{page_up, PAGE_SIZE};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Says which pages inside a file could not be read. Pages beyond the end of a file cannot be
/// read by anyone, and are no news.
pub fn unreadable(tree: &Tree, owner: usize, pid: i32, addresses: &[u64]) -> Vec<String> {
    let mappings = tree.processes.get(owner).map_or(&[][..], |process| &process.memory.mappings);
    let mut notes = Vec::new();
    for address in addresses {
        let index = mappings.partition_point(|mapping| mapping.end <= *address);
        let Some(mapping) = mappings.get(index) else {
            continue;
        };
        let Backing::File { path, offset, .. } = &mapping.backing else {
            continue;
        };
        let mut outer = format!("/proc/{pid}/root").into_bytes();
        outer.extend_from_slice(&path.0);
        let place = offset + (address - mapping.start);
        let size = std::fs::metadata(Path::new(std::ffi::OsStr::from_bytes(&outer)))
            .map_or(0, |found| found.len());
        if place + PAGE_SIZE <= page_up(size) {
            notes.push(format!(
                "a page of {} (byte {place}) mapped at {address:#x} cannot be read and comes back zero",
                path.text()
            ));
        }
    }
    notes
}
