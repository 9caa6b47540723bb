//! Memory that a process outside of the tree shares: afterwards each side has its own.

use super::outsiders::{strangers, used_outside};
use super::shared::{nature, Nature};
use crate::capture::memory::{read_areas, Table};
use crate::capture::proc::maps::{Area, Detail};
use crate::capture::FileId;
use std::collections::BTreeMap;

/// What the tree has of shared memory without a path, by device and inode: how it is called.
fn inside<'a>(tables: impl Iterator<Item = &'a Table>) -> BTreeMap<FileId, String> {
    // A removed file that nobody of the tree may write to is no way to tell anyone anything.
    let told_by = |area: &Area, detail: Detail| {
        detail.has(b"mw")
            || [&b"/memfd:"[..], b"/dev/zero"].iter().any(|p| area.name.starts_with(p))
    };
    let shared =
        tables.flatten().filter(|(a, d)| nature(a, *d) == Some(Nature::Memory) && told_by(a, *d));
    let entry = |(area, _): &(Area, Detail)| {
        let (path, _) = area.path();
        let name = match path {
            // What the kernel calls anonymous memory that is shared.
            b"/dev/zero" => format!("anonymous shared memory at {:x}", area.start),
            _ => format!("shared memory {}", String::from_utf8_lossy(path)),
        };
        ((area.device, area.inode), name)
    };
    shared.map(entry).collect()
}

/// Notes on memory that other processes have mapped as well, as far as they may be looked at. To be
/// looked for while the tree still runs: the mappings of every process there is are read.
pub(in crate::capture) fn notes<'a>(
    pids: &[u32],
    tables: impl Iterator<Item = &'a Table>,
) -> Vec<String> {
    let mut inside = inside(tables);
    let mut notes = Vec::new();
    let mut others = strangers(pids);
    while let Some(other) = (!inside.is_empty()).then(|| others.next()).flatten() {
        let areas = read_areas(&other).unwrap_or_default();
        for area in areas.iter().filter(|area| area.shared) {
            if let Some(name) = inside.remove(&(area.device, area.inode)) {
                notes.push(used_outside(&name, other.pid()));
            }
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::proc::maps;

    #[test]
    fn memory_without_a_path() {
        let text = b"1000-2000 rw-s 00000000 00:01 7 /dev/zero (deleted)\nVmFlags: rd wr sh mw\n\
            2000-3000 rw-s 00000000 00:01 8 /memfd:x (deleted)\nVmFlags: rd wr sh mw\n\
            3000-4000 rw-s 00000000 fe:01 9 /tmp/file\nVmFlags: rd wr sh mw\n\
            3000-4000 r--s 00000000 fe:01 10 /tmp/cache (deleted)\nVmFlags: rd sh\n\
            4000-5000 rw-p 00000000 00:01 7 /dev/zero (deleted)\nVmFlags: rd wr mw\n";
        let table = maps::parse_smaps(text).unwrap();
        let found: Vec<String> = inside([&table].into_iter()).into_values().collect();
        assert_eq!(found, ["anonymous shared memory at 1000", "shared memory /memfd:x"]);
    }
}
