//! The hole in the address space that is ours: memory is taken from it upwards.
//!
//! ```text
//! window_base        blob_mem                                        window_base + window_len
//! | first page | blob | image | plan | tables, stacks, staging ...          (free)          |
//! ```

use crate::report::{Advice, Fault, Outcome};
use crate::sys::{self, mm, nr, Errno};
use core::sync::atomic::{AtomicU64, Ordering};
use image_format::container::Front;
use image_format::page_up;

/// The hole.
#[derive(Debug)]
pub struct Window {
    /// First address.
    pub base: u64,
    /// Length in bytes.
    pub len: u64,
    next: AtomicU64,
}

/// Distance by which a place that turns out to be taken is skipped.
const SKIP: u64 = 1 << 30;

impl Window {
    /// The hole that the image's header names.
    pub fn new(front: &Front) -> Self {
        // A page stays free between mappings, so that a pointer gone astray is found out.
        let next = AtomicU64::new(front.window_base + page_up(front.blob_mem) + (1 << 20));
        // The upper quarter is for the heap's large blocks.
        LARGE_FROM.store(page_up(front.window_base + front.window_len / 4 * 3), Ordering::Relaxed);
        Self { base: front.window_base, len: front.window_len, next }
    }

    /// First address behind the hole.
    pub fn end(&self) -> u64 {
        self.base.saturating_add(self.len)
    }

    /// Whether any byte of the range lies inside.
    pub fn overlaps(&self, address: u64, len: u64) -> bool {
        address < self.end() && address.saturating_add(len) > self.base
    }

    /// Reserves `len` bytes at a multiple of `align`, without mapping anything there.
    pub fn reserve(&self, len: u64, align: u64) -> u64 {
        let len = page_up(len) + image_format::PAGE_SIZE;
        let mut at = self.next.load(Ordering::Relaxed);
        loop {
            let start = (at + align - 1) & !(align - 1);
            match self.next.compare_exchange(at, start + len, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return start,
                Err(now) => at = now,
            }
        }
    }

    /// Maps `len` bytes of `fd` (or of nothing, with [`mm::ANONYMOUS`]).
    pub fn map(
        &self,
        len: u64,
        align: u64,
        prot: usize,
        flags: usize,
        fd: i32,
        offset: u64,
    ) -> Result<*mut u8, Errno> {
        loop {
            let at = self.reserve(len, align);
            if at.saturating_add(len) > self.end() {
                return Err(Errno(12));
            }
            // SAFETY: the place was just reserved for this mapping alone, and is not replaced
            // should something of the kernel's lie there after all.
            match unsafe {
                sys::mmap(at, page_up(len), prot, flags | mm::FIXED_NOREPLACE, fd, offset)
            } {
                Err(Errno::EEXIST) => {
                    self.next.fetch_add(SKIP, Ordering::Relaxed);
                }
                result => return result,
            }
        }
    }

    /// Zeroed private memory.
    pub fn memory(&self, len: u64, what: &'static str) -> Outcome<*mut u8> {
        let flags = mm::PRIVATE | mm::ANONYMOUS | mm::NORESERVE;
        self.map(len, 4096, mm::READ | mm::WRITE, flags, -1, 0)
            .map_err(|e| Fault::sys("no memory for the resume", what, e, Advice::FreeMemory))
    }

    /// Zeroed memory that children share.
    pub fn shared(&self, len: u64, what: &'static str) -> Outcome<*mut u8> {
        self.map(len, 4096, mm::READ | mm::WRITE, mm::SHARED | mm::ANONYMOUS, -1, 0)
            .map_err(|e| Fault::sys("no memory for the resume", what, e, Advice::FreeMemory))
    }

    /// Unmaps everything that is not inside.
    ///
    /// # Safety
    ///
    /// Nothing outside may be used any more: not the first stack, not the vdso.
    pub unsafe fn unmap_outside(&self, task_size: u64) -> Result<(), Errno> {
        // SAFETY: the caller's promise.
        unsafe {
            if self.base > 0 {
                sys::call(nr::MUNMAP, &[0, self.base as usize])?;
            }
            if self.end() < task_size {
                sys::call(nr::MUNMAP, &[self.end() as usize, (task_size - self.end()) as usize])?;
            }
        }
        Ok(())
    }
}

/// Where large allocations of the heap come from: the window, once it is known.
static LARGE_FROM: AtomicU64 = AtomicU64::new(0);

/// Memory for a large allocation: wherever the kernel likes at first, in the window later.
#[cfg(feature = "freestanding")]
pub fn large(len: usize) -> *mut u8 {
    let flags = mm::PRIVATE | mm::ANONYMOUS | mm::NORESERVE;
    let len = page_up(len as u64);
    let at = LARGE_FROM.fetch_add(len + (1 << 20), Ordering::Relaxed);
    // SAFETY: a new mapping; at 0, where there is no window yet, the kernel chooses.
    unsafe { sys::mmap(at, len, mm::READ | mm::WRITE, flags | mm::FIXED_NOREPLACE, -1, 0) }
        .unwrap_or(core::ptr::null_mut())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_do_not_touch() {
        let window = Window { base: 0x1000_0000, len: 1 << 40, next: AtomicU64::new(0x1000_1000) };
        let a = window.reserve(10, 4096);
        let b = window.reserve(5000, 2 << 20);
        let c = window.reserve(1, 4096);
        assert!(b >= a + 8192 && b.is_multiple_of(2 << 20) && c >= b + 8192);
        assert!(window.overlaps(0x0fff_f000, 0x1001) && !window.overlaps(0x0fff_f000, 0x1000));
    }
}
