//! Descriptor numbers for what is open only while the plan runs: between those of the program, or
//! above them.

use super::sockets::Places;
use super::{held, terminals, TEMPORARIES};
use image_format::model::{FileObject, Process, Tree};
use std::collections::BTreeSet;

/// Place of RLIMIT_NOFILE among the limits.
const NOFILE: usize = 7;
/// What is made has the lowest free number before it is moved, which must be none of these: above
/// all of the program's it cannot be, as the number it is for is free.
const NEW: u32 = 16;
/// What the restorer has open besides, and what it may have inherited.
const OTHERS: u32 = 1024;

/// Numbers that no process of the tree uses, nor an epoll set.
pub(super) struct Numbers {
    /// The first of them, for steps.
    pub first: u32,
    /// The first that the program has again, or `u32::MAX`.
    pub end: u32,
}

impl Numbers {
    /// Those above all of the program's; in the first gap that is wide enough where there are none
    /// above, as the limit of open files is near (valgrind hides its own descriptors there).
    pub fn of(tree: &Tree) -> Self {
        let open = tree.processes.iter().flat_map(|p| &p.descriptors).map(|d| d.fd);
        // Those by which epoll sets know what they watch are taken for a moment, whoever has them.
        let watched = tree.files.iter().flat_map(|file| match &file.object {
            FileObject::Epoll { interests } => interests.as_slice(),
            _ => &[],
        });
        let used: BTreeSet<u32> = open.chain(watched.map(|interest| interest.fd)).collect();
        let lowest = terminals::sorting(tree).max(3);
        let above = used.last().map_or(lowest, |fd| lowest.max(fd + 1));
        let need = Self::places(tree, 0).end() + held(tree) + OTHERS;
        let limit = tree.processes.iter().filter_map(soft_limit).min().unwrap_or(u64::MAX);
        let beyond = Self { first: above, end: u32::MAX };
        if u64::from(above) + u64::from(need) <= limit {
            return beyond;
        }
        let begins = std::iter::once(0).chain(used.iter().map(|fd| fd + 1));
        let gap = begins.zip(&used).map(|(begin, &end)| (begin.max(lowest) + NEW, end));
        let wide = gap.into_iter().find(|(begin, end)| begin.saturating_add(need) <= *end);
        wide.map_or(beyond, |(first, end)| Self { first, end })
    }

    /// Where sockets are meanwhile, if steps have the numbers from `first` on.
    pub fn places(tree: &Tree, first: u32) -> Places {
        let held_before = tree.shared.len() as u32 + terminals::held(tree);
        Places::new(tree, first + TEMPORARIES + held_before)
    }
}

fn soft_limit(process: &Process) -> Option<u64> {
    process.limits.get(NOFILE).map(|limit| limit[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use image_format::model::{sample, Interest};

    fn numbers(fds: &[u32], limit: u64) -> (u32, u32) {
        let mut tree = sample::tree();
        let process = &mut tree.processes[0];
        let one = process.descriptors[0].clone();
        process.descriptors =
            fds.iter().map(|&fd| image_format::model::Descriptor { fd, ..one.clone() }).collect();
        process.limits[NOFILE][0] = limit;
        tree.processes.truncate(1);
        tree.terminals.clear();
        let Numbers { first, end } = Numbers::of(&tree);
        (first, end)
    }

    #[test]
    fn not_what_an_epoll_set_knows() {
        let mut tree = sample::tree();
        let before = Numbers::of(&tree).first;
        let interest = Interest { fd: before + 5, file: 0, events: 1, data: 0 };
        tree.files[0].object = FileObject::Epoll { interests: vec![interest] };
        assert_eq!(Numbers::of(&tree).first, before + 6);
    }

    #[test]
    fn above_or_between() {
        assert_eq!(numbers(&[0, 1, 2, 255], 4096), (256, u32::MAX));
        assert_eq!(numbers(&[0, 1, 2, 19_990, 19_993], 20_000), (3 + NEW, 19_990));
        assert_eq!(numbers(&[0, 500, 10_000, 19_999], 20_000), (501 + NEW, 10_000));
        // Nowhere: above, where the limit of the resume may be higher.
        assert_eq!(numbers(&[0, 600, 1023], 1024), (1024, u32::MAX));
    }
}
