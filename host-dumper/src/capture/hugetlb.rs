//! Memory of hugetlb pages (mmap(2), MAP_HUGETLB). The contents of private memory travel along as those
//! of a file would, less the pages that were never touched, as reading one would take it from the pool.

use super::error::{CaptureError, Result};
use super::files::{Embed, Part, Source};
use super::memory::Table;
use super::proc::maps::{self, Area};
use super::proc::number::{decimal, words};
use super::proc::Proc;
use image_format::model::{Backing, Mapping};
use image_format::PAGE_SIZE;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

/// A page of /proc/PID/pagemap is there.
const PRESENT: u64 = 1 << 63;

/// Whether a mapping is of that kind.
pub(super) fn is_private(area: &Area) -> bool {
    !area.shared && area.name.starts_with(b"/anon_hugepage")
}

/// Describes the contents of such mappings.
pub(super) fn embed(proc: &Proc, mappings: &mut [Mapping], embeds: &mut Vec<Embed>) -> Result<()> {
    if !mappings.iter().any(|m| matches!(m.backing, Backing::Hugetlb { .. })) {
        return Ok(());
    }
    let sizes = page_sizes(proc)?;
    let failed =
        |source| CaptureError::Proc { path: proc.path("pagemap").display().to_string(), source };
    let pagemap = proc.file("pagemap").map_err(failed)?;
    for mapping in mappings {
        let (start, end) = (mapping.start, mapping.end);
        let Backing::Hugetlb { page_shift, embedded } = &mut mapping.backing else { continue };
        let size = sizes.get(&start).copied().filter(|size| size.is_power_of_two());
        let size = size.ok_or_else(|| proc.format("smaps", "no size of pages"))?;
        *page_shift = size.trailing_zeros();
        let mut parts: Vec<Part> = Vec::new();
        for at in (start..end).step_by(size as usize) {
            let mut entry = [0; 8];
            pagemap.read_exact_at(&mut entry, at / PAGE_SIZE * 8).map_err(failed)?;
            if u64::from_le_bytes(entry) & PRESENT == 0 {
                continue;
            }
            match parts.last_mut().filter(|last| last.address + last.len == at) {
                Some(last) => last.len += size,
                None => parts.push(Part { offset: at - start, address: at, len: size }),
            }
        }
        if parts.is_empty() {
            continue;
        }
        let number = embeds.len() as u32;
        embeds.push(Embed {
            number,
            source: Source::Memory { pid: proc.pid(), parts },
            size: end - start,
            hash: None,
            what: format!("hugetlb memory {start:x}-{end:x}"),
        });
        *embedded = Some(number);
    }
    Ok(())
}

/// Pages of the shared mappings of hugetlb pages, by first address: bytes as a power of two.
pub(super) fn shared_pages(proc: &Proc, table: &Table) -> Result<BTreeMap<u64, u32>> {
    let is_huge = |detail: &maps::Detail| detail.has(b"ht");
    let huge = || table.iter().filter(|(area, detail)| area.shared && is_huge(detail));
    if huge().next().is_none() {
        return Ok(BTreeMap::new());
    }
    let sizes = page_sizes(proc)?;
    let shift = |area: &Area| sizes.get(&area.start).map(|size| size.trailing_zeros());
    Ok(huge().filter_map(|(area, _)| Some((area.start, shift(area)?))).collect())
}

/// Bytes of a page of each mapping, by first address.
fn page_sizes(proc: &Proc) -> Result<BTreeMap<u64, u64>> {
    let mut sizes = BTreeMap::new();
    let mut start = 0;
    proc.read_lines("smaps", |line| {
        if !line.first()?.is_ascii_uppercase() {
            start = maps::parse_line(line)?.start;
        } else if let Some(size) = line.strip_prefix(b"KernelPageSize:") {
            sizes.insert(start, decimal(words(size).next()?)?.checked_mul(1024)?);
        }
        Some(())
    })?;
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_pages_are_small() {
        let own = Proc::open(std::process::id()).unwrap();
        let sizes = page_sizes(&own).unwrap();
        assert!(sizes.len() > 3 && sizes.values().all(|size| *size == PAGE_SIZE));
    }
}
