//! The allocator: small things of the restorer; page data never passes through it.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use linked_list_allocator::Heap;

/// Room for the list of chunks is needed beyond this: see [`Locked::alloc`].
const ARENA: usize = 256 << 10;

#[repr(C, align(64))]
struct Arena(UnsafeCell<[u8; ARENA]>);
// SAFETY: handed to the allocator once, by `init`.
unsafe impl Sync for Arena {}
static MEMORY: Arena = Arena(UnsafeCell::new([0; ARENA]));

struct Locked {
    busy: AtomicBool,
    heap: UnsafeCell<Heap>,
}

// SAFETY: the heap is touched only while `busy` is held.
unsafe impl Sync for Locked {}

#[global_allocator]
static HEAP: Locked = Locked { busy: AtomicBool::new(false), heap: UnsafeCell::new(Heap::empty()) };

/// Gives the arena to the allocator; once, before the first allocation.
pub fn init() {
    // SAFETY: called once, at the start of the only thread; the arena is nobody else's.
    HEAP.with(|heap| unsafe { heap.init(MEMORY.0.get().cast(), ARENA) });
}

impl Locked {
    fn with<T>(&self, act: impl FnOnce(&mut Heap) -> T) -> T {
        while self.busy.swap(true, Ordering::Acquire) {
            core::hint::spin_loop();
        }
        // SAFETY: `busy` is ours.
        let result = act(unsafe { &mut *self.heap.get() });
        self.busy.store(false, Ordering::Release);
        result
    }
}

/// Allocations from this size on are mappings of their own.
const LARGE: usize = 64 << 10;

// SAFETY: the heap's blocks are distinct, as are fresh mappings.
unsafe impl GlobalAlloc for Locked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE {
            return crate::window::large(layout.size());
        }
        self.with(|heap| heap.allocate_first_fit(layout))
            .map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // Mappings go with the window.
        if layout.size() < LARGE {
            if let Some(at) = NonNull::new(at) {
                // SAFETY: the caller's promise: allocated here with this layout.
                self.with(|heap| unsafe { heap.deallocate(at, layout) });
            }
        }
    }
}
