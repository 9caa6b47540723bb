//! Holes: where things of ours can lie without touching the program's memory.
//!
//! ```text
//! 0                                                                  2^47
//! |--program--|                 hole                  |--program, stack--|
//!                  ^stub ^spare vdso ^segment ^window.............^
//!                  |-- stay --------||-- gone before the program runs --|
//! ```

use crate::last::{last, Last};
use crate::LinkError;
use image_format::model::{Process, SharedMemory, SharedOrigin, Thread, Tree};
use image_format::plan::VDSO_ROOM;
use image_format::stub::{slots_end, FRAME_STRIDE};
use image_format::PAGE_SIZE;

/// Addresses chosen for one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// First address of the restorer's window, free in every process of the tree.
    pub window_base: u64,
    /// Its length in bytes.
    pub window_len: u64,
    /// For each process: where its stub lies.
    pub stubs: Vec<Stub>,
    /// Where a vdso that differs from the old one goes, in every process.
    pub vdso_spare: u64,
    /// Where a segment of System V shared memory, or memory of hugetlb pages, can be mapped
    /// meanwhile, in every process.
    pub segment_room: u64,
}

/// Place of the stub of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stub {
    /// First address.
    pub address: u64,
    /// Length in bytes.
    pub len: u64,
    /// System calls to be issued anew.
    pub slots: u64,
    /// Threads.
    pub frames: u64,
    /// Bytes of last calls.
    pub last: u64,
}

impl Stub {
    /// Offset in bytes of the first frame.
    pub fn frames_offset(&self) -> u64 {
        slots_end(self.slots) + image_format::page_up(self.last)
    }
}

/// User addresses end here without a hint for five-level paging (Documentation/arch/x86/x86_64/mm.rst).
const TASK_END: u64 = 0x7fff_ffff_f000;
/// Below this nothing is placed: vm.mmap_min_addr may be raised on the target.
const LOWEST: u64 = 0x1_0000_0000;
/// The window holds a mapping of the whole image; images larger than this are not supported.
const WINDOW_MAX: u64 = 16 << 40;
/// The least window that can still hold the restorer, its workers and a small image.
const WINDOW_MIN: u64 = 8 << 30;
/// A new program's stack, vdso and mmap area are placed by execve within this of the top
/// (arch/x86/mm/mmap.c, mmap_base: 28 bits of random pages and the largest stack gap).
const EXEC_TOP: u64 = TASK_END - (7 << 40);
const GAP: u64 = 1 << 20;

/// Finds the holes for `tree`.
pub fn layout(tree: &Tree) -> Result<Layout, LinkError> {
    let mut used: Vec<(u64, u64)> = Vec::new();
    for process in &tree.processes {
        used.extend(process.memory.mappings.iter().map(|m| (m.start, m.end)));
        if let Some(vdso) = &process.memory.vdso {
            used.push((vdso.vvar, vdso.base + vdso.size));
        }
        // The heap must be able to grow as before.
        let layout = &process.memory.layout;
        used.push((layout.start_brk, layout.brk.saturating_add(1 << 36)));
    }
    let mut stubs = tree.processes.iter().map(|p| needs(tree, p)).collect::<Result<Vec<_>, _>>()?;
    let stub_room = stubs.iter().map(|stub| stub.len).max().unwrap_or(0);
    let [segment_len, segment_page] = segment_room(tree);
    let before = stub_room + VDSO_ROOM + segment_len + segment_page + 4 * GAP;
    let needed = before + WINDOW_MIN + GAP;

    let (start, end) = holes(used)
        .into_iter()
        .map(|(start, end)| (start, if start < EXEC_TOP { end.min(EXEC_TOP) } else { end }))
        .max_by_key(|&(start, end)| end - start)
        .filter(|&(start, end)| end - start >= needed)
        .ok_or(LinkError::NoHole { pid: tree.processes.first().map_or(0, |p| p.pid), needed })?;
    // From the middle on: both neighbours can still grow.
    let room = end - start;
    let from = if room / 2 >= needed { start + room / 2 } else { start };
    let stub = image_format::page_up(from + GAP);
    for place in &mut stubs {
        place.address = stub;
    }
    let vdso_spare = image_format::page_up(stub + stub_room + GAP);
    let segment_room = (vdso_spare + VDSO_ROOM + GAP).next_multiple_of(segment_page);
    let window_base = segment_room + segment_len + GAP;
    let window_len = (end - GAP - window_base).min(WINDOW_MAX) / PAGE_SIZE * PAGE_SIZE;
    Ok(Layout { window_base, window_len, stubs, vdso_spare, segment_room })
}

/// Bytes of the largest segment of System V shared memory or memory of hugetlb pages, and of the
/// largest page.
fn segment_room(tree: &Tree) -> [u64; 2] {
    let is_mapped =
        |m: &&SharedMemory| m.page_shift != 0 || matches!(m.origin, SharedOrigin::Segment { .. });
    let mapped = || tree.shared.iter().filter(is_mapped);
    [
        mapped().map(|m| m.mapped_size().min(WINDOW_MAX)).max().unwrap_or(0),
        mapped().map(SharedMemory::page).max().unwrap_or(PAGE_SIZE),
    ]
}

/// The stub of a process, without its place.
fn needs(tree: &Tree, process: &Process) -> Result<Stub, LinkError> {
    let reissues = |t: &&Thread| t.reissue.is_some();
    let slots = process.threads.iter().filter(reissues).count() as u64;
    let frames = process.threads.len() as u64;
    let Last { bytes, .. } = last(tree, process, 0, slots)?;
    let mut stub = Stub { address: 0, len: 0, slots, frames, last: bytes.len() as u64 };
    stub.len = stub.frames_offset() + frames * FRAME_STRIDE;
    Ok(stub)
}

/// Free ranges between [`LOWEST`] and [`TASK_END`], given used ones in any order.
fn holes(mut used: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    used.sort_unstable();
    let mut free = Vec::new();
    let mut at = LOWEST;
    for (start, end) in used {
        if start > at {
            free.push((at, start.min(TASK_END)));
        }
        at = at.max(end);
        if at >= TASK_END {
            return free;
        }
    }
    free.push((at, TASK_END));
    free
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn holes_touch_nothing_used(mut used in prop::collection::vec((0u64..TASK_END, 1u64..1 << 44), 0..40)) {
            for range in &mut used {
                range.1 += range.0;
            }
            let free = holes(used.clone());
            for (start, end) in free {
                prop_assert!(start < end && end <= TASK_END && start >= LOWEST);
                for &(s, e) in &used {
                    prop_assert!(e <= start || s >= end, "{start:x}-{end:x} overlaps {s:x}-{e:x}");
                }
            }
        }
    }
}
