//! Dense memory by whole huge pages.
//!
//! A fault per 4 KiB page costs more than the copy. So dense blocks are copied into a staging
//! area that has huge pages, and moved from there into the program's memory (UFFDIO_MOVE, Linux
//! 6.8). The program's own mapping is never advised: that flag could not be taken back.
//!
//! ```text
//! image --copy--> | staging, 2 MiB huge page | --move--> | program's mapping |
//! ```

use crate::chain::{Chunk, Runs};
use crate::sys::{self, mm, nr, Errno};
use crate::window::Window;
use alloc::vec::Vec;

/// Size of a huge page in bytes.
pub const HUGE: u64 = 2 << 20;
/// Below this many bytes the preparations do not pay.
const WORTH: u64 = 8 << 20;
const USER_MODE_ONLY: usize = 1;
const API: u64 = 0xaa;
const FEATURE_MOVE: u64 = 1 << 16;
const UFFDIO_API: usize = 0xc018_aa3f;
const UFFDIO_REGISTER: usize = 0xc020_aa00;
const UFFDIO_COPY: usize = 0xc028_aa03;
const UFFDIO_MOVE: usize = 0xc028_aa05;
const MODE_MISSING: u64 = 1;
const MADV_HUGEPAGE: usize = 14;
/// A move may be told to come again; more often than this it never will be.
const TRIES: u32 = 100;

/// Blocks of `run` that whole huge pages can take: start and end address.
fn dense(address: u64, pages: u64) -> (u64, u64) {
    let start = address.saturating_add(HUGE - 1) / HUGE * HUGE;
    let end = address.saturating_add(pages * 4096) / HUGE * HUGE;
    (start, end.max(start))
}

/// The parts of the program's memory that are filled by moves.
#[derive(Debug)]
pub struct Mover {
    fd: i32,
    /// Ascending, apart.
    ranges: Vec<(u64, u64)>,
}

impl Mover {
    /// Prepares the dense blocks of `chunks`; none where it does not pay or cannot be had.
    pub fn prepare<'a>(chunks: impl Iterator<Item = (&'a Chunk, Runs<'a>)>) -> Option<Self> {
        let ranges: Vec<_> = ranges(chunks)
            .into_iter()
            .filter(|(start, end)| end - start >= 4 * HUGE)
            .map(|(start, end)| (start + HUGE, end - HUGE))
            .collect();
        if ranges.iter().map(|(start, end)| end - start).sum::<u64>() < WORTH || !available() {
            return None;
        }
        let flags = sys::O_CLOEXEC | USER_MODE_ONLY;
        let fd = sys::plain(nr::USERFAULTFD, &[flags]).ok()? as i32;
        // Dropping it releases every range, which also makes split mappings one again.
        let mover = Self { fd, ranges };
        mover.call(UFFDIO_API, &mut [API, FEATURE_MOVE, 0]).ok()?;
        for &(start, end) in &mover.ranges {
            // A mapping must own a page before it is split by the registration: pieces that come
            // to own pages each for itself are never merged again. The range may begin in one
            // mapping and end in another. The pages lie in the blocks before and behind, since a
            // block that ever had a page takes no huge one by a move.
            for page in [start - 4096, end] {
                // SAFETY: the plan mapped the page writable, and its contents follow.
                unsafe { (page as *mut u8).write_volatile(0) };
            }
            mover.call(UFFDIO_REGISTER, &mut [start, end - start, MODE_MISSING, 0]).ok()?;
        }
        Some(mover)
    }

    /// The part of a run that is filled by moves: start and end address.
    pub fn part(&self, address: u64, pages: u64) -> (u64, u64) {
        let (start, end) = dense(address, pages);
        let at = self.ranges.partition_point(|range| range.1 <= start);
        match self.ranges.get(at) {
            Some(range) if range.0 < end => (start.max(range.0), end.min(range.1)),
            _ => (0, 0),
        }
    }

    fn call(&self, request: usize, words: &mut [u64]) -> Result<usize, Errno> {
        let args = [self.fd as usize, request, words.as_mut_ptr() as usize];
        // SAFETY: the request's structure has as many words as each caller gives; what it does to
        // memory is what this module is for.
        unsafe { sys::call(nr::IOCTL, &args) }
    }

    /// Moves the staging area's huge page to `to`.
    pub fn deliver(&self, staging: u64, to: u64) -> Result<(), Errno> {
        for _ in 0..TRIES {
            match self.call(UFFDIO_MOVE, &mut [to, staging, HUGE, 0, 0]) {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) => {}
                Err(_) => break,
            }
        }
        // Part of it may have been moved; the rest is copied, page by page.
        for at in (0..HUGE).step_by(4096) {
            match self.call(UFFDIO_COPY, &mut [to + at, staging + at, 4096, 0, 0]) {
                Ok(_) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        sys::close(self.fd);
    }
}

/// A huge page's room for one thread.
pub fn staging(window: &Window) -> Option<u64> {
    let flags = mm::PRIVATE | mm::ANONYMOUS;
    let at = window.map(HUGE, HUGE, mm::READ | mm::WRITE, flags, -1, 0).ok()? as usize;
    // SAFETY: advice on a mapping of ours.
    let _ = unsafe { sys::call(nr::MADVISE, &[at, HUGE as usize, MADV_HUGEPAGE]) };
    Some(at as u64)
}

fn ranges<'a>(chunks: impl Iterator<Item = (&'a Chunk, Runs<'a>)>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for (_, runs) in chunks {
        for run in runs {
            let (start, end) = dense(run.address, run.pages);
            match ranges.last_mut() {
                _ if start == end => {}
                Some(last) if last.1 == start => last.1 = end,
                _ => ranges.push((start, end)),
            }
        }
    }
    ranges
}

/// Whether the kernel makes huge pages on advice.
fn available() -> bool {
    let path = c"/sys/kernel/mm/transparent_hugepage/enabled";
    let Ok(fd) = sys::openat(sys::AT_FDCWD, path, sys::O_CLOEXEC, 0) else {
        return true;
    };
    let mut text = [0u8; 64];
    let n = sys::read(fd, &mut text).unwrap_or(0);
    sys::close(fd);
    !text[..n].windows(7).any(|w| w == b"[never]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lie_in_the_ranges() {
        let mover =
            Mover { fd: -1, ranges: alloc::vec![(2 * HUGE, 4 * HUGE), (8 * HUGE, 9 * HUGE)] };
        assert_eq!(mover.part(HUGE, 5 * 512), (2 * HUGE, 4 * HUGE));
        assert_eq!(mover.part(3 * HUGE, 512), (3 * HUGE, 4 * HUGE));
        assert_eq!(mover.part(4 * HUGE, 4 * 512), (0, 0));
        assert_eq!(mover.part(10 * HUGE, 512), (0, 0));
    }

    #[test]
    fn only_whole_blocks_are_dense() {
        assert_eq!(dense(HUGE, 512), (HUGE, 2 * HUGE));
        assert_eq!(dense(HUGE + 4096, 512), (2 * HUGE, 2 * HUGE));
        assert_eq!(dense(HUGE - 4096, 1025), (HUGE, 3 * HUGE));
        assert_eq!(dense(0x1000, 3), (HUGE, HUGE));
    }
}
