//! Pages that several mappings have in common: a stretch of a file is stored once, whoever maps
//! it, and mapped from there in all of them.

use crate::capture::FileId;
use image_format::model::{Backing, Mapping};
use image_format::PAGE_SIZE;
use linker::MappedRun;
use std::collections::BTreeMap;

/// A stretch of a file: which one, from where in bytes, how long in bytes.
type Stretch = (FileId, u64, u64);

/// A mapping: index of its process, first address.
type Place = (usize, u64);

/// Which mappings show the same pages. Only such as have none of their own may be noted.
#[derive(Debug, Default)]
pub struct Common {
    first: BTreeMap<Stretch, Place>,
    /// A mapping, the one for which its pages are stored, and its length in bytes.
    others: Vec<(Place, Place, u64)>,
}

impl Common {
    /// Notes a mapping of process `owner` that shows `file`; tells whether its pages are stored
    /// for another one.
    pub fn note(&mut self, owner: usize, mapping: &Mapping, file: FileId) -> bool {
        let Backing::File { offset, .. } = mapping.backing else { return false };
        let len = mapping.end - mapping.start;
        let place = (owner, mapping.start);
        let first = *self.first.entry((file, offset, len)).or_insert(place);
        if first == place {
            return false;
        }
        self.others.push((place, first, len));
        true
    }

    /// Bytes that need not be stored.
    pub fn spared(&self) -> u64 {
        self.others.iter().map(|(_, _, len)| len).sum()
    }

    /// Adds to `mapped`, which has the runs that were stored for each process, those of the
    /// others.
    pub fn complete(&self, mapped: &mut [Vec<MappedRun>]) {
        for runs in mapped.iter_mut() {
            runs.sort_unstable_by_key(|run| run.address);
        }
        for &((owner, start), (stored, from), len) in &self.others {
            let runs = &mapped[stored];
            let at = runs.partition_point(|run| run.address < from);
            let runs = runs[at..].iter().take_while(|run| run.address < from + len);
            let runs: Vec<_> =
                runs.map(|run| MappedRun { address: run.address - from + start, ..*run }).collect();
            debug_assert!(runs.iter().all(|r| r.address + r.pages * PAGE_SIZE <= start + len));
            let own = &mut mapped[owner];
            let at = own.partition_point(|run| run.address < start);
            own.splice(at..at, runs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: u64, pages: u64, offset: u64) -> Mapping {
        let backing = Backing::File { path: "/x".into(), offset, from_image: true };
        Mapping { start, end: start + pages * PAGE_SIZE, prot: 1, flags: 0, backing }
    }

    fn run(address: u64, pages: u64, file_offset: u64) -> MappedRun {
        MappedRun { address, pages, file_offset }
    }

    #[test]
    fn a_stretch_is_stored_once() {
        let (file, other) = (((8, 1), 7), ((8, 1), 8));
        let mut common = Common::default();
        assert!(!common.note(0, &mapping(0x10000, 4, 0), file));
        assert!(!common.note(0, &mapping(0x20000, 4, 0x4000), file));
        assert!(!common.note(1, &mapping(0x10000, 4, 0), other));
        assert!(!common.note(1, &mapping(0x30000, 3, 0), file), "of another length");
        assert!(common.note(1, &mapping(0x50000, 4, 0), file));
        assert!(common.note(2, &mapping(0x20000, 4, 0x4000), file));
        assert_eq!(common.spared(), 8 * PAGE_SIZE);
        let mut mapped = vec![
            // Its third page could not be read.
            vec![run(0x20000, 4, 0xc000), run(0x10000, 2, 0x9000), run(0x13000, 1, 0xb000)],
            vec![run(0x10000, 4, 0x20000), run(0x60000, 1, 0x30000)],
            Vec::new(),
        ];
        common.complete(&mut mapped);
        assert_eq!(mapped[0].len(), 3);
        let got: Vec<_> = mapped[1].iter().map(|r| r.address).collect();
        assert_eq!(got, [0x10000, 0x50000, 0x53000, 0x60000]);
        assert_eq!(mapped[1][2], run(0x53000, 1, 0xb000));
        assert_eq!(mapped[2], [run(0x20000, 4, 0xc000)]);
    }
}
