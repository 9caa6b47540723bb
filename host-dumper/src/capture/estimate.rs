//! How large an image will be, roughly, by what is visible of running processes.
//!
//! What several of them share is stored once: memory, what they map of one file, open files.

use super::files;
use super::memory::{self, Table};
use super::survey::Survey;
use std::collections::{BTreeMap, BTreeSet};

/// Device and inode.
type Key = (u64, u64);

/// What mappings show of one file or one memory.
#[derive(Debug, Default)]
struct Shown {
    /// Stretches in bytes from its beginning.
    ranges: Vec<(u64, u64)>,
    /// The most bytes in use that one process shows.
    used: u64,
}

impl Shown {
    /// Bytes that are shown at all.
    fn covered(&mut self) -> u64 {
        self.ranges.sort_unstable();
        let (mut total, mut seen) = (0, 0);
        for &(start, end) in &self.ranges {
            total += end.max(seen) - start.max(seen);
            seen = seen.max(end);
        }
        total
    }
}

/// Bytes that an image of these processes will take.
pub(super) fn of<'a>(surveys: impl Iterator<Item = &'a Survey> + Clone, embed_limit: u64) -> u64 {
    let (memory, shared) = memory_of(surveys.clone().map(|s| &s.table));
    let mut files = BTreeMap::new();
    for d in surveys.flat_map(|s| &s.descriptors) {
        let key = (d.stat.st_dev, d.stat.st_ino);
        if !shared.contains(&key) {
            files.insert(key, files::estimate(d, embed_limit));
        }
    }
    memory + files.values().sum::<u64>()
}

/// Bytes of the memory, and what of it may be open as a file as well.
fn memory_of<'a>(tables: impl Iterator<Item = &'a Table>) -> (u64, BTreeSet<Key>) {
    let (mut own, mut files, mut shared) = (0, BTreeMap::new(), BTreeMap::new());
    for table in tables {
        let mut used: BTreeMap<Key, u64> = BTreeMap::new();
        for (area, detail) in table {
            let bytes = memory::estimate_of(area, *detail);
            let key = (libc::makedev(area.device.0, area.device.1), area.inode);
            let range = (area.offset, area.offset.saturating_add(area.size()));
            if area.inode != 0 && area.shared {
                *used.entry(key).or_default() += detail.rss + detail.swap;
                shared.entry(key).or_insert_with(Shown::default).ranges.push(range);
            } else if area.inode != 0 && bytes == area.size() {
                files.entry(key).or_insert_with(Shown::default).ranges.push(range);
            } else {
                own += bytes;
            }
        }
        for (key, bytes) in used {
            if let Some(shown) = shared.get_mut(&key) {
                shown.used = shown.used.max(bytes);
            }
        }
    }
    let of_files: u64 = files.values_mut().map(Shown::covered).sum();
    let of_shared: u64 = shared.values_mut().map(|shown| shown.used.min(shown.covered())).sum();
    (own + of_files + of_shared, shared.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use super::super::proc::maps;
    use super::*;

    #[test]
    fn what_is_shared_counts_once() {
        let table = maps::parse_smaps(
            b"1000-5000 r-xp 00000000 fe:01 8 /bin/a\nRss: 4 kB\nVmFlags: rd ex\n\
              5000-9000 rw-s 00000000 00:01 9 /memfd:x (deleted)\nRss: 8 kB\nVmFlags: rd wr sh\n\
              a000-e000 rw-s 00000000 00:01 9 /memfd:x (deleted)\nRss: 12 kB\nVmFlags: rd wr sh\n\
              f000-11000 rw-p 00000000 00:00 0 \nRss: 4 kB\nSwap: 4 kB\nVmFlags: rd wr\n",
        )
        .unwrap();
        let (bytes, shared) = memory_of([&table, &table].into_iter());
        // Text and shared memory once, although each process shows the latter twice.
        assert_eq!(bytes, 0x4000 + 0x4000 + 2 * 0x2000);
        assert_eq!(shared, [(libc::makedev(0, 1), 9)].into());
    }
}
