//! The address space: mappings, boundaries, what an image cannot carry.

use super::error::{Refusal, Result};
use super::files::shared;
use super::hugetlb;
use super::proc::maps::{self, Area, Detail};
use super::proc::stat::Stat;
use super::proc::Proc;
use super::segments::is_segment;
use super::FileId;
use image_format::model::{vma, Backing, Layout, Mapping};
use std::collections::{BTreeMap, BTreeSet};

/// Mappings with their details.
pub(super) type Table = Vec<(Area, Detail)>;

/// Reads smaps: everything, at a price for each mapping and each resident page.
pub(super) fn read_details(proc: &Proc) -> Result<Table> {
    let mut table = Table::new();
    proc.read_lines("smaps", |line| maps::take_smaps_line(&mut table, line))?;
    Ok(table)
}

/// Reads maps.
pub(super) fn read_areas(proc: &Proc) -> Result<Vec<Area>> {
    let mut areas = Vec::new();
    proc.read_lines("maps", |line| {
        areas.push(maps::parse_line(line)?);
        Some(())
    })?;
    Ok(areas)
}

/// The table as it is now that the process stands: `before` was read while it ran, and holds if
/// the mappings are the same (smaps of a large table takes longer than everything else).
pub(super) fn settle(proc: &Proc, before: Table) -> Result<Table> {
    let areas = read_areas(proc)?;
    let same = areas.len() == before.len() && areas.iter().zip(&before).all(|(a, (b, _))| a == b);
    if same {
        Ok(before)
    } else {
        read_details(proc)
    }
}

/// A mapping that the kernel gives every process.
fn is_special(area: &Area) -> bool {
    matches!(area.name.as_slice(), b"[vdso]" | b"[vsyscall]") || area.name.starts_with(b"[vvar")
}

/// The vdso's mapping.
pub(super) fn vdso_area(table: &Table) -> Option<&Area> {
    table.iter().map(|(a, _)| a).find(|a| a.name == b"[vdso]")
}

/// First address of the vvar pages.
pub(super) fn vvar_start(table: &Table) -> Option<u64> {
    table.iter().map(|(a, _)| a).find(|a| a.name.starts_with(b"[vvar")).map(|a| a.start)
}

/// What of the mappings stands in the way.
pub(super) fn refusals(table: &Table) -> Vec<Refusal> {
    let mut all = Vec::new();
    for (area, detail) in table.iter().filter(|(a, _)| !is_special(a)) {
        let mut refuse = |reason: &str, remedy: &str| {
            let name = String::from_utf8_lossy(&area.name);
            let label = if name.is_empty() { "anonymous".into() } else { name };
            let object = format!("memory {:x}-{:x} ({label})", area.start, area.end);
            all.push(Refusal::new(object, reason, remedy));
        };
        if detail.has(b"ss") {
            refuse("is a shadow stack", "start the program without shadow stacks (GLIBC_TUNABLES)");
        } else if area.name == b"[aio]" || area.name == b"/[aio] (deleted)" {
            refuse("is a context of asynchronous I/O", "let the program call io_destroy");
        } else if area.name.starts_with(b"anon_inode:[io_uring]") {
            refuse("belongs to an io_uring", "run the program without io_uring");
        } else if area.name.starts_with(b"/secretmem") {
            refuse("is secret memory, which nobody else can read", "there is no way around");
        } else if (detail.has(b"ht") || area.name.starts_with(b"/anon_hugepage"))
            && !hugetlb::is_private(area)
            && shared::nature(area, *detail).is_none()
        {
            let remedy = "let the program map it shared and for writing";
            refuse("shows a file of hugetlb pages, privately or for reading only", remedy);
        } else if area.shared
            && !is_segment(area)
            && !is_shared_read_only(area, *detail)
            && shared::nature(area, *detail).is_none()
        {
            refuse("is shared memory of an unknown kind", "let the program unmap it");
        } else if detail.has(b"um") || detail.has(b"uw") || detail.has(b"ui") {
            refuse("is watched by a userfaultfd", "end the program that watches it");
        } else if detail.has(b"io") || detail.has(b"pf") {
            refuse("shows a device's memory", "close the device first");
        } else if detail.key != 0 {
            refuse("has a protection key", "run the program without protection keys (pkeys)");
        }
    }
    all
}

/// A file that is only read, though mapped MAP_SHARED: the same as private while it does not change.
fn is_shared_read_only(area: &Area, detail: Detail) -> bool {
    let is_file =
        area.inode != 0 && area.name.starts_with(b"/") && area.prot & 2 == 0 && !is_segment(area);
    // Without VM_MAYWRITE the description was opened read-only: it can never become writable.
    is_file && !detail.has(b"mw") && !area.name.starts_with(b"/dev/zero")
}

fn read_only(area: &Area, detail: Detail) -> u32 {
    if area.shared && area.prot & 2 == 0 && !detail.has(b"mw") {
        vma::SHARED_READONLY
    } else {
        0
    }
}

/// The mappings of the model. `is_ours` tells mappings that a resume left behind, `shared` the
/// memory that one shares.
pub(super) fn mappings(
    table: &Table,
    is_ours: impl Fn(&Area) -> bool,
    shared: impl Fn(&Area) -> Option<u32>,
) -> Vec<Mapping> {
    table
        .iter()
        .filter(|(area, _)| !is_special(area) && !is_ours(area))
        .map(|(area, detail)| Mapping {
            start: area.start,
            end: area.end,
            prot: area.prot,
            flags: flags(*detail) | read_only(area, *detail),
            backing: match shared(area) {
                Some(shared) => Backing::Shared { shared, offset: area.offset },
                None => backing(area),
            },
        })
        .collect()
}

/// Which files the mappings show, by their first addresses.
pub(super) fn mapped_files(table: &Table, leased: &BTreeSet<FileId>) -> BTreeMap<u64, FileId> {
    let files = table.iter().filter(|(area, _)| area.inode != 0);
    let files = files.map(|(area, _)| (area.start, (area.device, area.inode)));
    files.filter(|(_, file)| !leased.contains(file)).collect()
}

fn backing(area: &Area) -> Backing {
    if hugetlb::is_private(area) {
        return Backing::Hugetlb { page_shift: 0, embedded: None };
    }
    if area.inode == 0 || !area.name.starts_with(b"/") {
        return Backing::Anonymous;
    }
    // A private mapping of /dev/zero is anonymous memory by another name.
    let (path, _) = area.path();
    if path == b"/dev/zero" {
        return Backing::Anonymous;
    }
    let read_only = area.prot & 2 == 0 && area.prot & 5 != 0;
    Backing::File {
        path: path.to_vec().into(),
        offset: area.offset,
        // Also what was written to before: a page costs more to copy and protect than to map.
        from_image: read_only,
    }
}

fn flags(detail: Detail) -> u32 {
    const TABLE: [(&[u8; 2], u32); 13] = [
        (b"gd", vma::GROWSDOWN),
        (b"hg", vma::HUGEPAGE),
        (b"nh", vma::NOHUGEPAGE),
        (b"dc", vma::DONTFORK),
        (b"wf", vma::WIPEONFORK),
        (b"lo", vma::LOCKED),
        (b"lf", vma::LOCKONFAULT),
        (b"nr", vma::NORESERVE),
        (b"dd", vma::DONTDUMP),
        (b"mg", vma::MERGEABLE),
        (b"sr", vma::SEQUENTIAL),
        (b"rr", vma::RANDOM),
        (b"sl", vma::SEALED),
    ];
    let mut bits = TABLE.iter().filter(|(name, _)| detail.has(name)).fold(0, |b, (_, f)| b | f);
    if detail.has(b"dp") {
        // MAP_DROPPABLE implies MADV_WIPEONFORK, MADV_DONTDUMP and MAP_NORESERVE by itself.
        bits |= vma::DROPPABLE;
    }
    bits
}

/// The boundaries; the break is asked for inside the process.
pub(super) fn layout(stat: &Stat, brk: u64) -> Layout {
    let [start_data, end_data, start_brk, arg_start, arg_end, env_start, env_end] = stat.places;
    Layout {
        start_code: stat.start_code,
        end_code: stat.end_code,
        start_data,
        end_data,
        start_brk,
        brk,
        start_stack: stat.start_stack,
        arg_start,
        arg_end,
        env_start,
        env_end,
    }
}

/// Bytes that a mapping will take in an image, roughly.
pub(super) fn estimate_of(area: &Area, detail: Detail) -> u64 {
    if is_special(area) {
        0
    } else if area.inode != 0 && area.prot & 5 != 0 && !area.shared {
        area.size()
    } else {
        detail.rss + detail.swap
    }
}

/// The same of all mappings of a process.
pub(super) fn estimate(table: &Table) -> u64 {
    table.iter().map(|(area, detail)| estimate_of(area, *detail)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        maps::parse_smaps(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_stands_in_the_way() {
        let t = table(
            "1000-2000 rw-p 00000000 00:01 7 /huge/file\nVmFlags: rd wr ht\n\
             2000-3000 r--s 00000000 fe:01 8 /usr/lib/gconv.cache\nVmFlags: rd sh\n\
             3000-4000 rw-p 00000000 00:00 0 \nVmFlags: rd wr ss\n\
             4000-5000 rw-p 00000000 00:00 0 [vvar]\nVmFlags: rd pf io\n\
             5000-6000 rw-p 00000000 00:00 0 \nProtectionKey: 2\nVmFlags: rd wr\n",
        );
        let all = refusals(&t);
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(all[0].object.contains("1000-2000"));
        assert!(all[1].reason.contains("shadow"));
        assert!(all[2].reason.contains("protection key"));
    }

    #[test]
    fn mappings_of_the_model() {
        let t = table(
            "1000-5000 r-xp 00000000 fe:01 8 /bin/a (deleted)\nAnonymous: 4 kB\nVmFlags: rd ex\n\
             5000-7000 r--p 00001000 fe:01 8 /bin/a\nAnonymous: 8 kB\nVmFlags: rd\n\
             7000-9000 rw-p 00000000 00:00 0 [stack]\nVmFlags: rd wr gd\n\
             9000-a000 r-xp 00000000 00:00 0 [vdso]\nVmFlags: rd ex\n",
        );
        let all = mappings(&t, |_| false, |_| None);
        assert_eq!(all.len(), 3);
        let Backing::File { path, from_image, .. } = &all[0].backing else { panic!("file") };
        assert_eq!((path.0.as_slice(), *from_image), (&b"/bin/a"[..], true));
        let Backing::File { from_image, .. } = &all[1].backing else { panic!("file") };
        assert!(from_image, "relocated, and for reading only since");
        assert_eq!((all[2].flags, &all[2].backing), (vma::GROWSDOWN, &Backing::Anonymous));
    }
}
