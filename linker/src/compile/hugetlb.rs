//! Private memory of hugetlb pages: of such pages again where enough are free, else of ordinary
//! ones.

use super::arch::nr;
use super::builder::{Arg, Range};
use super::memory::{MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE};
use super::sysv::NONE;
use super::ProcessCompiler;
use image_format::model::{vma, Mapping};
use image_format::plan::{arg, op, Expect};

const MAP_HUGETLB: u64 = 0x4_0000;
const MAP_HUGE_SHIFT: u32 = 26;
const MADV_HUGEPAGE: u64 = 14;

impl ProcessCompiler<'_> {
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
        let huge = flags | MAP_HUGETLB | u64::from(page_shift & 63) << MAP_HUGE_SHIFT;
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
            // Their checksums are verified before the program runs, as those of all chunks.
            let args = [
                Arg::kind(arg::IMAGE),
                Arg::value(m.start + piece.offset),
                Arg::value(piece.len),
                Arg::value(piece.file_offset),
            ];
            self.b.call(&format!("contents of {what}"), nr::PREAD64, &args, Expect::Success);
        }
        if prot != u64::from(m.prot) {
            let object = Range { what: "protection of", start: m.start, end: m.end };
            self.must(&object, nr::MPROTECT, [m.start, len, u64::from(m.prot), 0, 0, 0]);
        }
    }
}
