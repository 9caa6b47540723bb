//! Whether any code of a process has instructions that only some processors know. Looked for in
//! executable pages, as they are copied.

use super::arch::{has_rare_code, LONGEST};
use image_format::model::{Backing, Mapping};
use image_format::PAGE_SIZE;
use std::collections::BTreeMap;

const PROT_EXEC: u32 = 4;

type Edge = [u8; LONGEST];

/// What was found so far.
#[derive(Debug, Default, Clone)]
pub struct Found {
    rare: bool,
    /// First bytes of stretches of pages, by address.
    starts: BTreeMap<u64, Edge>,
    /// Last bytes of stretches, by the address after them.
    ends: BTreeMap<u64, Edge>,
}

impl Found {
    /// What is known before any page is read: memory that others share is not copied with them.
    pub fn before(mappings: &[Mapping]) -> Self {
        let unseen = |m: &Mapping| {
            m.prot & PROT_EXEC != 0
                && matches!(m.backing, Backing::Shared { .. } | Backing::Hugetlb { .. })
        };
        Self { rare: mappings.iter().any(unseen), ..Self::default() }
    }

    /// Adds what another one found.
    pub fn add(&mut self, other: Found) {
        self.rare |= other.rare;
        self.starts.extend(other.starts);
        self.ends.extend(other.ends);
    }

    /// Whether there is such an instruction, those across stretches that adjoin included.
    pub fn is_rare(&self) -> bool {
        self.rare
            || self.ends.iter().any(|(address, end)| {
                self.starts.get(address).is_some_and(|start| is_across(*end, *start))
            })
    }
}

/// A search by one thread.
#[derive(Debug)]
pub struct Search<'a> {
    mappings: &'a [Mapping],
    /// The stretch of addresses for which `executable` holds.
    known: (u64, u64),
    executable: bool,
    /// The address after the last executable page, and its last bytes.
    last: Option<(u64, Edge)>,
    found: Found,
}

impl<'a> Search<'a> {
    /// A search in pages of `mappings`, which are in order.
    pub fn new(mappings: &'a [Mapping]) -> Self {
        Self { mappings, known: (0, 0), executable: false, last: None, found: Found::default() }
    }

    /// Looks at a page.
    pub fn page(&mut self, address: u64, page: &[u8]) {
        if self.found.rare || !self.is_code(address) {
            return;
        }
        let (Some(first), Some(end)) = (page.first_chunk(), page.last_chunk()) else { return };
        match self.last {
            Some((next, last)) if next == address => self.found.rare |= is_across(last, *first),
            _ => {
                self.close();
                self.found.starts.insert(address, *first);
            }
        }
        self.found.rare |= has_rare_code(page);
        self.last = Some((address + PAGE_SIZE, *end));
    }

    /// Ends the search.
    pub fn finish(mut self) -> Found {
        self.close();
        self.found
    }

    fn close(&mut self) {
        self.found.ends.extend(self.last.take());
    }

    fn is_code(&mut self, address: u64) -> bool {
        if !(self.known.0..self.known.1).contains(&address) {
            let at = self.mappings.partition_point(|mapping| mapping.end <= address);
            let Some(mapping) = self.mappings.get(at) else { return false };
            self.known = (mapping.start, mapping.end);
            self.executable = mapping.prot & PROT_EXEC != 0;
        }
        self.executable
    }
}

fn is_across(end: Edge, start: Edge) -> bool {
    has_rare_code([end, start].as_flattened())
}

#[cfg(test)]
mod tests {
    use super::{Found, Search};
    use image_format::model::{Backing, Mapping};
    use image_format::PAGE_SIZE;

    const PAGE: usize = PAGE_SIZE as usize;
    const BASE: u64 = 0x40_0000;
    /// insertq %xmm2,%xmm9
    const RARE: [u8; 5] = [0xf2, 0x44, 0x0f, 0x79, 0xca];

    fn mapping(page: u64, prot: u32) -> Mapping {
        let start = BASE + page * PAGE_SIZE;
        Mapping { start, end: start + PAGE_SIZE, prot, flags: 0, backing: Backing::Anonymous }
    }

    /// The pages in `order`, each by a search of its own if `apart`.
    fn search(mappings: &[Mapping], memory: &[u8], order: &[usize], apart: bool) -> bool {
        let mut found = Found::before(mappings);
        let mut search = Search::new(mappings);
        for &page in order {
            if apart {
                found.add(std::mem::replace(&mut search, Search::new(mappings)).finish());
            }
            let address = BASE + (page * PAGE) as u64;
            search.page(address, &memory[page * PAGE..][..PAGE]);
        }
        found.add(search.finish());
        found.is_rare()
    }

    #[test]
    fn code_is_found_also_across_pages_and_threads() {
        let code: Vec<Mapping> = (0..3).map(|page| mapping(page, 5)).collect();
        for at in PAGE - 6..PAGE + 6 {
            let mut memory = vec![0x90; 3 * PAGE];
            memory[at..at + RARE.len()].copy_from_slice(&RARE);
            for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
                for apart in [false, true] {
                    assert!(search(&code, &memory, &order, apart), "{at} {order:?} {apart}");
                }
            }
            // As data, or where another page lies between, it is none.
            let data: Vec<Mapping> = (0..3).map(|page| mapping(page, 3)).collect();
            assert!(!search(&data, &memory, &[0, 1, 2], false));
            let across = at < PAGE && at + RARE.len() > PAGE;
            if across {
                assert!(!search(&code, &memory, &[0, 2], false), "{at}");
            }
        }
        assert!(!search(&code, &vec![0x90; 3 * PAGE], &[0, 1, 2], true));
    }

    #[test]
    fn what_is_not_read_may_be_anything() {
        let mut shared = mapping(0, 5);
        shared.backing = Backing::Shared { shared: 0, offset: 0 };
        assert!(search(&[shared.clone()], &[], &[], false));
        shared.prot = 3;
        assert!(!search(&[shared], &[], &[], false));
    }
}
