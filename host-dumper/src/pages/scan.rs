//! Which pages of a process hold something: PAGEMAP_SCAN (6.7), or the pagemap file itself.

use image_format::{page_down, page_up, PAGE_SIZE};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// struct page_region of linux/fs.h.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// struct pm_scan_arg of linux/fs.h.
#[derive(Debug, Default)]
#[repr(C)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const _: () = assert!(size_of::<PageRegion>() == 24);
const _: () = assert!(size_of::<ScanArg>() == 96);

/// _IOWR('f', 16, struct pm_scan_arg).
const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;
const IS_FILE: u64 = 1 << 2;
const IS_PRESENT: u64 = 1 << 3;
const IS_SWAPPED: u64 = 1 << 4;
const IS_PFNZERO: u64 = 1 << 5;
/// Since 6.15.
const IS_GUARD: u64 = 1 << 8;

/// Regions taken at a time.
const REGIONS: usize = 1024;
/// Entries of the pagemap file taken at a time; each stands for a page.
const ENTRIES: usize = 4096;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Pages in memory or in swap that may hold something else than zeroes.
    Held,
    /// Pages that are no longer the file's own (written to since).
    Changed,
    /// Guard regions (MADV_GUARD_INSTALL).
    Guard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Scan { guards: bool },
    File,
}

/// Finds stretches of pages, front to back.
#[derive(Debug)]
pub struct Scanner {
    pagemap: File,
    way: Way,
    want: Want,
    regions: Vec<PageRegion>,
    filled: usize,
    next: usize,
    /// What `regions` covers.
    from: u64,
    to: u64,
    limit: u64,
}

impl Scanner {
    /// Looks at process `pid` for addresses below `limit`.
    pub fn open(pid: i32, want: Want, limit: u64) -> io::Result<Self> {
        Ok(Self {
            pagemap: File::open(format!("/proc/{pid}/pagemap"))?,
            way: Way::Scan { guards: true },
            want,
            regions: vec![PageRegion::default(); REGIONS],
            filled: 0,
            next: 0,
            from: 0,
            to: 0,
            limit: page_up(limit),
        })
    }

    /// Looks for something else from now on, below `limit`.
    pub fn look_for(&mut self, want: Want, limit: u64) {
        self.want = want;
        self.limit = page_up(limit);
        (self.filled, self.next, self.from, self.to) = (0, 0, 0, 0);
    }

    /// Whether guard regions can be told from other pages (since 6.15). Known after the first
    /// [`Scanner::next`].
    pub fn sees_guards(&self) -> bool {
        self.way == Way::Scan { guards: true }
    }

    /// The first stretch of wanted pages in `from..to`, cut to it.
    pub fn next(&mut self, from: u64, to: u64) -> io::Result<Option<(u64, u64)>> {
        let mut from = page_down(from);
        while from < to {
            if from < self.from || from >= self.to {
                self.fill(from, to)?;
            }
            while let Some(region) = self.regions[..self.filled].get(self.next) {
                if region.end > from {
                    break;
                }
                self.next += 1;
            }
            if let Some(region) = self.regions[..self.filled].get(self.next) {
                if region.start >= to {
                    return Ok(None);
                }
                return Ok(Some((region.start.max(from), region.end.min(to))));
            }
            from = self.to;
        }
        Ok(None)
    }

    fn fill(&mut self, from: u64, to: u64) -> io::Result<()> {
        self.from = from;
        self.next = 0;
        self.filled = 0;
        if let Way::Scan { guards } = self.way {
            match self.scan(from, guards) {
                Ok(()) => return Ok(()),
                Err(error) => match error.raw_os_error() {
                    // An unknown category.
                    Some(libc::EINVAL) if guards => self.way = Way::Scan { guards: false },
                    // An unknown ioctl.
                    Some(libc::ENOTTY | libc::EINVAL) => self.way = Way::File,
                    _ => return Err(error),
                },
            }
            return self.fill(from, to);
        }
        self.read_entries(from, to)
    }

    fn scan(&mut self, from: u64, guards: bool) -> io::Result<()> {
        let guard = if guards { IS_GUARD } else { 0 };
        if self.want == Want::Guard && !guards {
            self.to = self.limit.max(from + PAGE_SIZE);
            return Ok(());
        }
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            start: from,
            end: self.limit.max(from + PAGE_SIZE),
            vec: self.regions.as_mut_ptr() as u64,
            vec_len: self.regions.len() as u64,
            ..ScanArg::default()
        };
        match self.want {
            Want::Held => {
                arg.category_inverted = IS_PFNZERO | guard;
                arg.category_mask = IS_PFNZERO | guard;
                arg.category_anyof_mask = IS_PRESENT | IS_SWAPPED;
                arg.return_mask = IS_GUARD & guard | IS_PFNZERO;
            }
            Want::Changed => {
                arg.category_inverted = IS_FILE | guard;
                arg.category_mask = IS_FILE | guard;
                arg.category_anyof_mask = IS_PRESENT | IS_SWAPPED;
                arg.return_mask = IS_FILE;
            }
            Want::Guard => {
                arg.category_mask = IS_GUARD;
                arg.return_mask = IS_GUARD;
            }
        }
        // SAFETY: the descriptor is open, `arg` is a pm_scan_arg whose `vec` is the live and
        // writable buffer `regions` of `vec_len` elements of the layout asserted above.
        let found = unsafe { libc::ioctl(self.pagemap.as_raw_fd(), PAGEMAP_SCAN, &mut arg) };
        if found < 0 {
            return Err(io::Error::last_os_error());
        }
        self.filled = (found as usize).min(self.regions.len());
        self.to = arg.walk_end.max(from + PAGE_SIZE);
        Ok(())
    }

    /// Kernels before 6.7: eight bytes for each page.
    fn read_entries(&mut self, from: u64, to: u64) -> io::Result<()> {
        let pages = ((page_up(to) - from) / PAGE_SIZE).clamp(1, ENTRIES as u64);
        let mut bytes = vec![0; pages as usize * 8];
        let mut have = 0;
        while have < bytes.len() {
            let at = from / PAGE_SIZE * 8 + have as u64;
            match self.pagemap.read_at(&mut bytes[have..], at)? {
                0 => break,
                read => have += read,
            }
        }
        self.to = from + pages * PAGE_SIZE;
        let (words, _) = bytes[..have].as_chunks::<8>();
        for (page, word) in words.iter().enumerate() {
            if !self.is_wanted(u64::from_ne_bytes(*word)) {
                continue;
            }
            let start = from + page as u64 * PAGE_SIZE;
            if let Some(last) = self.regions[..self.filled].last_mut() {
                if last.end == start {
                    last.end += PAGE_SIZE;
                    continue;
                }
            }
            if self.filled == self.regions.len() {
                self.to = start;
                break;
            }
            self.regions[self.filled] = PageRegion { start, end: start + PAGE_SIZE, categories: 0 };
            self.filled += 1;
        }
        Ok(())
    }

    /// Bits of a pagemap entry (admin-guide/mm/pagemap.rst).
    fn is_wanted(&self, entry: u64) -> bool {
        let held = entry & (1 << 63 | 1 << 62) != 0;
        let guard = entry & 1 << 58 != 0;
        let file = entry & 1 << 61 != 0;
        match self.want {
            Want::Held => held && !guard,
            Want::Changed => held && !guard && !file,
            Want::Guard => guard,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::mman::{mmap_anonymous, munmap, MapFlags, ProtFlags};
    use std::num::NonZeroUsize;

    const PAGES: usize = 64;

    /// Pages 1, 2 and 9 of a fresh mapping hold something; page 5 was only read.
    fn with_mapping(test: impl Fn(u64)) {
        let len = NonZeroUsize::new(PAGES * 4096).unwrap();
        // SAFETY: a fresh mapping is made, and only bytes inside it are touched.
        unsafe {
            let at = mmap_anonymous(
                None,
                len,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE,
            )
            .unwrap();
            libc::madvise(at.as_ptr(), len.get(), libc::MADV_NOHUGEPAGE);
            let base = at.as_ptr().cast::<u8>();
            for page in [1usize, 2, 9] {
                base.add(page * 4096).write_volatile(7);
            }
            base.add(5 * 4096).read_volatile();
            test(base as u64);
            munmap(at, len.get()).unwrap();
        }
    }

    fn all(scanner: &mut Scanner, base: u64) -> Vec<(u64, u64)> {
        let end = base + (PAGES as u64) * PAGE_SIZE;
        let mut from = base;
        let mut found = Vec::new();
        while let Some((start, stop)) = scanner.next(from, end).unwrap() {
            found.push(((start - base) / PAGE_SIZE, (stop - base) / PAGE_SIZE));
            from = stop;
        }
        found
    }

    #[test]
    fn both_ways_find_the_same() {
        with_mapping(|base| {
            let pid = std::process::id() as i32;
            let limit = base + (PAGES as u64) * PAGE_SIZE;
            let mut scanner = Scanner::open(pid, Want::Held, limit).unwrap();
            assert_eq!(all(&mut scanner, base), [(1, 3), (9, 10)]);
            let mut scanner = Scanner::open(pid, Want::Held, limit).unwrap();
            scanner.way = Way::File;
            // The file cannot tell the zero page; its contents are looked at later.
            assert_eq!(all(&mut scanner, base), [(1, 3), (5, 6), (9, 10)]);
        });
    }
}
