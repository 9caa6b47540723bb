//! Reads this very process and walks the chain that was written.

use super::*;
use crate::pages::{Scanner, Want};
use crate::sink::{FileSink, Sink};
use image_format::container::ChunkHeader;
use image_format::model::{vma, Backing};
use std::collections::BTreeMap;

struct Silent;

impl Progress for Silent {
    fn advance(&self, _bytes: u64) -> bool {
        true
    }
}

fn mapping(start: u64, pages: u64, prot: u32, backing: Backing) -> Mapping {
    Mapping { start, end: start + pages * PAGE_SIZE, prot, flags: 0, backing }
}

fn anonymous(pages: usize) -> &'static mut [u8] {
    // SAFETY: a fresh anonymous mapping of this size, never unmapped.
    unsafe {
        let at = libc::mmap(
            std::ptr::null_mut(),
            pages * PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(at, libc::MAP_FAILED);
        libc::madvise(at, pages * PAGE, libc::MADV_NOHUGEPAGE);
        std::slice::from_raw_parts_mut(at.cast(), pages * PAGE)
    }
}

/// Copies `mappings` of this very process and reads the image back, by address and kind.
fn copy(
    mappings: &[Mapping],
    workers: usize,
    clean: bool,
) -> (Copied, BTreeMap<u64, (u16, Vec<u8>)>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let sink = FileSink::create(&path, false).unwrap();
    let chain = Mutex::new(ChainWriter::new(0));
    let pid = std::process::id() as i32;
    let mut scanner = Scanner::open(pid, Want::Changed, 0).unwrap();
    let mut files = CleanFiles::look(&mut scanner, mappings);
    if clean {
        let all = mappings.iter().map(|m| (m.start, ((0, 0), 0))).collect();
        files.open(pid, mappings, &all);
    }
    let clean = files;
    let copy = |part| {
        // The process may have ended by the time when its files are read.
        let pid = if part == Part::Clean { i32::MAX } else { pid };
        let options = CopyOptions { pid, owner: 0, workers, part, search: true };
        copy_pages(mappings, &clean, options, &mut Buffer::ready(), &chain, &sink, &Silent).unwrap()
    };
    let mut copied = copy(Part::Stopped);
    copied.mapped.extend(copy(Part::Clean).mapped);
    sink.commit(false).unwrap();
    let image = std::fs::read(&path).unwrap();
    let mut pages = BTreeMap::new();
    let (mut at, mut seq, mut previous) = (0, 0, 0);
    while at < image.len() {
        let header = ChunkHeader::parse(&image[at..], at as u64, seq, previous).unwrap();
        let data = at + header.data_start as usize;
        let end = data + header.data_len as usize;
        assert_eq!(hash_data(&image[data..end], 0), header.data_hash);
        let mut place = data;
        for run in 0..header.runs as usize {
            let at = at + ChunkHeader::SIZE + run * Run::SIZE;
            let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
            for page in 0..word(at + 8) {
                let bytes = image[place..place + PAGE].to_vec();
                place += PAGE;
                let address = word(at) + page * PAGE_SIZE;
                assert!(pages.insert(address, (header.kind, bytes)).is_none());
            }
        }
        assert_eq!(place, end);
        (at, seq, previous) = (end, seq + 1, header.head_hash);
    }
    (copied, pages)
}

#[test]
fn only_pages_that_hold_something_are_stored() {
    let memory = anonymous(5000);
    let base = memory.as_ptr() as u64;
    let mut want = BTreeMap::new();
    for page in (0..5000).filter(|page| page % 3 == 0 || (1000..3500).contains(page)) {
        let bytes = &mut memory[page * PAGE..][..PAGE];
        bytes[page % PAGE] = (page % 255) as u8 + 1;
        want.insert(base + (page * PAGE) as u64, (kind::PAGES, bytes.to_vec()));
    }
    // Touched, but zero.
    memory[4999 * PAGE] = 0;
    let mappings = [
        mapping(base, 2000, 3, Backing::Anonymous),
        mapping(base + 2000 * PAGE_SIZE, 3000, 3, Backing::Anonymous),
    ];
    for workers in [1, 3] {
        let (copied, pages) = copy(&mappings, workers, false);
        assert!(pages == want, "{} pages of {}", pages.len(), want.len());
        assert_eq!(copied.pages as usize, want.len());
        assert_eq!(copied.filled.len(), 2);
    }
    let dropped = Mapping { flags: vma::DROPPABLE, ..mappings[0].clone() };
    assert!(copy(&[dropped], 1, false).1.is_empty());
}

#[test]
fn unreadable_memory_is_read_by_force() {
    let memory = anonymous(4);
    memory[PAGE] = 9;
    let base = memory.as_ptr() as u64;
    // SAFETY: the mapping belongs to this test, which does not touch it any more.
    unsafe { libc::mprotect(memory.as_mut_ptr().cast(), 4 * PAGE, libc::PROT_NONE) };
    let (_, pages) = copy(&[mapping(base, 4, 0, Backing::Anonymous)], 1, false);
    assert_eq!(pages.keys().copied().collect::<Vec<_>>(), [base + PAGE_SIZE]);
    assert_eq!(pages[&(base + PAGE_SIZE)].1[0], 9);
}

#[test]
fn files_are_stored_up_to_their_end() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(3 * PAGE_SIZE + 5).unwrap();
    file.write_at(b"x", PAGE_SIZE).unwrap();
    file.write_at(b"y", 3 * PAGE_SIZE + 4).unwrap();
    // SAFETY: a fresh private mapping of a file, only read by its address from here on.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            8 * PAGE,
            libc::PROT_READ,
            libc::MAP_PRIVATE,
            std::os::fd::AsRawFd::as_raw_fd(&file),
            0,
        )
    } as u64;
    let backing = |from_image| Backing::File { path: "/x".into(), offset: 0, from_image };
    let (copied, pages) = copy(&[mapping(base, 8, 1, backing(false))], 1, false);
    assert_eq!(pages.keys().map(|at| (at - base) / PAGE_SIZE).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(copied.unreadable.len(), 4);
    for clean in [false, true] {
        let mapped = [mapping(base, 8, 1, backing(true))];
        let (copied, pages) = copy(&mapped, 1, clean);
        assert_eq!(pages.len(), 8);
        assert!(pages.values().all(|(found, _)| *found == kind::PAGES_MAPPED));
        assert_eq!(pages[&(base + 3 * PAGE_SIZE)].1[4], b'y');
        assert_eq!(copied.mapped.len(), 1);
        assert_eq!((copied.mapped[0].address, copied.mapped[0].pages), (base, 8));
        assert!(copied.filled.is_empty());
    }
}

/// A chunk whose data goes out before its head, in pieces that end anywhere in a block.
#[test]
fn a_chunk_written_piece_by_piece_is_the_same() {
    const PAGES: usize = 150;
    let file = tempfile::tempfile().unwrap();
    let contents: Vec<u8> = (0..PAGES * PAGE).map(|i| (i / 7 % 251) as u8).collect();
    file.write_at(&contents, 0).unwrap();
    let map = |pages: usize, offset: usize| {
        // SAFETY: a fresh private mapping of a file, only read by its address from here on.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                pages * PAGE,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                std::os::fd::AsRawFd::as_raw_fd(&file),
                (offset * PAGE) as libc::off_t,
            )
        } as u64;
        let backing = Backing::File {
            path: "/x".into(),
            offset: offset as u64 * PAGE_SIZE,
            from_image: true,
        };
        mapping(at, pages as u64, 1, backing)
    };
    let mut mappings = [map(1, 149), map(100, 3), map(7, 0), map(40, 20)];
    mappings.sort_by_key(|m| m.start);
    let whole = copy(&mappings, 2, false);
    for clean in [false, true] {
        let (copied, pages) = copy(&mappings, 1, clean);
        assert!(pages == whole.1);
        assert_eq!(copied.pages, if clean { 0 } else { 148 });
        assert_eq!(copied.mapped.len(), 4);
    }
}
