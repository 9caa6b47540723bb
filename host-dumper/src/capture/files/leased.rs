//! Mapped files with write leases: whoever opens such a file breaks the lease (fcntl(2)).

use super::descriptor::Descriptor;
use super::locks;
use super::shared::{nature, Nature};
use crate::capture::error::Refusal;
use crate::capture::memory::Table;
use crate::capture::FileId;
use std::collections::BTreeSet;

/// The files on which descriptors have write leases.
pub(in crate::capture) fn leased<'a>(
    all: impl Iterator<Item = &'a Descriptor>,
) -> BTreeSet<FileId> {
    let of_writing = all.filter(|d| locks::of_writing(&d.info.locks));
    let id = |d: &Descriptor| {
        let device = d.stat.st_dev;
        ((libc::major(device), libc::minor(device)), d.stat.st_ino)
    };
    of_writing.map(id).collect()
}

/// Shared mappings of such files: they could be mapped again by opening them only, and while that
/// mapping is there no write lease can be had (check_conflicting_open in fs/locks.c).
pub(in crate::capture) fn refusals(table: &Table, leased: &BTreeSet<FileId>) -> Vec<Refusal> {
    if leased.is_empty() {
        return Vec::new();
    }
    let shared = table.iter().filter(|(area, detail)| {
        nature(area, *detail) == Some(Nature::File) && leased.contains(&(area.device, area.inode))
    });
    let refusal = |(area, _): &(_, _)| {
        super::shared::refusal(
            area,
            "shows a file that has a write lease, which to open would break it".into(),
            "dump the program when it does not hold it",
        )
    };
    shared.map(refusal).collect()
}
