//! Memory of hugetlb pages. Private: of such pages again where enough are free, else of ordinary ones.
//! Shared: of such pages, or an error, as others may count on what they map being of them.

use super::arch::nr;
use super::builder::{Arg, Range};
use super::memory::{MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE};
use super::shared::MAP_SHARED;
use super::sysv::NONE;
use super::{EmbeddedPiece, ProcessCompiler};
use image_format::model::{vma, Mapping, SharedMemory};
use image_format::plan::{arg, op, Expect};

const MAP_HUGETLB: u64 = 0x4_0000;
const MAP_HUGE_SHIFT: u32 = 26;
const MADV_HUGEPAGE: u64 = 14;

/// The size of a page in the flags of mmap(2), memfd_create(2) and shmget(2).
pub(super) fn size_flag(page_shift: u32) -> u64 {
    u64::from(page_shift & 63) << MAP_HUGE_SHIFT
}

/// Shared memory that exists only if enough pages are free, for the message that there are not.
pub(super) fn in_need(page_shift: u32, name: &str) -> String {
    let kib = 1u64 << page_shift.clamp(10, 46) >> 10;
    format!("shared memory {name} of huge pages of {kib} KiB, of which enough must be free")
}

impl ProcessCompiler<'_> {
    /// Gives shared memory its size and contents: by way of a mapping, as nothing can be written to
    /// a file of hugetlb pages (hugetlbfs_file_operations in fs/hugetlbfs/inode.c).
    pub(super) fn fill_hugetlb(&mut self, what: &str, fd: u32, memory: &SharedMemory, number: u32) {
        let (fd, page, room) = (u64::from(fd), memory.page(), self.layout.segment_room);
        self.must(what, nr::FTRUNCATE, [fd, memory.size, 0, 0, 0, 0]);
        let pieces = self.map.embedded.get(&number).map_or(&[][..], Vec::as_slice);
        let end = |piece: &EmbeddedPiece| (piece.offset + piece.len).next_multiple_of(page);
        for near in pieces.chunk_by(|a, b| end(a) >= b.offset / page * page) {
            let [Some(head), Some(tail)] = [near.first(), near.last()] else { continue };
            let first = head.offset / page * page;
            let len = end(tail) - first;
            // The mapping takes the pages from the pool, or fails.
            let map =
                [room, len, u64::from(PROT_READ | PROT_WRITE), MAP_SHARED | MAP_FIXED, fd, first];
            let name = what.strip_prefix("shared memory ").unwrap_or(what);
            self.b.syscall(&in_need(memory.page_shift, name), nr::MMAP, map, Expect::Place);
            for piece in near {
                self.read_piece(what, room.wrapping_sub(first), piece);
            }
            self.must(what, nr::MUNMAP, [room, len, 0, 0, 0, 0]);
        }
    }

    /// Reads a piece of contents into memory that is there, whose first byte is at `base`.
    pub(super) fn read_piece(&mut self, what: &str, base: u64, piece: &EmbeddedPiece) {
        // Its checksum is verified before the program runs, as those of all chunks.
        let args = [
            Arg::kind(arg::IMAGE),
            Arg::value(base.wrapping_add(piece.offset)),
            Arg::value(piece.len),
            Arg::value(piece.file_offset),
        ];
        self.b.call(&format!("contents of {what}"), nr::PREAD64, &args, Expect::Success);
    }

    /// Maps and fills it.
    pub(super) fn map_hugetlb(&mut self, m: &Mapping, page_shift: u32, embedded: Option<u32>) {
        let len = m.end - m.start;
        let what = format!("hugetlb memory {:x}-{:x}", m.start, m.end);
        let prot = u64::from(if embedded.is_some() { PROT_READ | PROT_WRITE } else { m.prot });
        // What has contents is reserved all the same: to be without pages shows only when they are
        // written, too late for anything else.
        let reserve = embedded.is_some() || m.flags & vma::NORESERVE == 0;
        let noreserve = if reserve { 0 } else { MAP_NORESERVE };
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | noreserve;
        let huge = flags | MAP_HUGETLB | size_flag(page_shift);
        let word = self.b.words(&[NONE]);
        let map = |flags| [m.start, len, prot, flags, u64::MAX, 0];
        self.b.syscall(&what, nr::MMAP, map(huge), Expect::Ignore);
        self.b.keep_result(word);
        let mapped = self.b.skip_unless_equal(Arg::load(word), Arg::value(NONE));
        let note =
            self.b.text(&format!("{what}: too few such pages are free, ordinary ones serve"));
        self.b.verb(op::NOTE, &what, [u64::from(note), 0, 0, 0, 0, 0]);
        self.b.syscall(&what, nr::MMAP, map(flags), Expect::Place);
        let advice = [m.start, len, MADV_HUGEPAGE, 0, 0, 0];
        self.b.syscall(&what, nr::MADVISE, advice, Expect::Ignore);
        self.b.land([mapped]);
        let pieces = embedded.and_then(|number| self.map.embedded.get(&number));
        for piece in pieces.map_or(&[][..], Vec::as_slice) {
            self.read_piece(&what, m.start, piece);
        }
        if prot != u64::from(m.prot) {
            let object = Range { what: "protection of", start: m.start, end: m.end };
            self.must(&object, nr::MPROTECT, [m.start, len, u64::from(m.prot), 0, 0, 0]);
        }
    }
}
