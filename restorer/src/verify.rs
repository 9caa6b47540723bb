//! Verification of the chunks that are not copied, shared between everyone who has time for it.
//!
//! The supervisor has nothing to do while the program's process is being built, so it takes
//! chunks from the same counter; with `--new-pid` a thread does. The plan runs on meanwhile; its
//! last step waits until every chunk was found good, before anything of the program runs.

use crate::arch;
use crate::chain::Chunk;
use crate::image::Image;
use crate::options::Options;
use crate::report::{Advice, Fault, Outcome};
use crate::shared::Shared;
use crate::sys::{self, clone, nr};
use crate::window::Window;
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, Ordering};
use image_format::container::kind;

const STACK: u64 = 32 << 10;
/// From this many bytes on a thread is started for it.
const WORTH_A_THREAD: u64 = 512 << 10;

/// Whether the pages of a chunk are copied into the process with index `owner`.
pub fn is_copied(chunk: &Chunk, owner: u32) -> bool {
    chunk.header.owner == owner && chunk.header.kind == kind::PAGES
}

/// The chunks that are verified here, with their places in the chain. The plan was before; pages
/// that are copied are verified by whoever copies them.
fn chunks(image: &Image) -> impl Iterator<Item = (u32, &Chunk)> {
    (0..)
        .zip(&image.chain.chunks)
        .filter(|(_, c)| !matches!(c.header.kind, kind::PLAN | kind::PAGES))
}

/// Verifies chunks until none is left to be taken.
pub fn work(image: &Image, options: &Options, shared: &Shared) {
    if options.no_verify {
        return;
    }
    let mut taken = shared.verify_next.fetch_add(1, Ordering::Relaxed);
    for (n, (index, chunk)) in (0..).zip(chunks(image)) {
        if n < taken {
            continue;
        }
        if !chunk.data_is_good(image.bytes) {
            shared.verify_failed.store(index + 1, Ordering::Relaxed);
        }
        shared.verify_done.fetch_add(1, Ordering::Release);
        taken = shared.verify_next.fetch_add(1, Ordering::Relaxed);
    }
}

/// The fault of a chunk that is not what was written.
pub fn damaged(chunk: &Chunk) -> Box<Fault> {
    Fault::new("the image is damaged", chunk.name(), Advice::GoodCopy)
}

/// Waits until all were verified, by whomever.
pub fn finish(image: &Image, options: &Options, shared: &Shared) -> Outcome<()> {
    if options.no_verify {
        return Ok(());
    }
    work(image, options, shared);
    let all = chunks(image).count() as u32;
    while shared.verify_done.load(Ordering::Acquire) < all {
        // Somebody has the last one in hand, for some microseconds.
        let _ = sys::plain(nr::SCHED_YIELD, &[]);
    }
    match shared.verify_failed.load(Ordering::Relaxed) {
        0 => Ok(()),
        failed => Err(damaged(&image.chain.chunks[failed as usize - 1])),
    }
}

/// A thread that verifies beside the plan.
#[derive(Debug)]
pub struct Helper<'a> {
    image: &'a Image,
    options: &'a Options,
    shared: &'a Shared,
    /// The kernel clears it when the thread has ended.
    running: AtomicU32,
}

impl<'a> Helper<'a> {
    /// Nobody yet.
    pub fn new(image: &'a Image, options: &'a Options, shared: &'a Shared) -> Self {
        Self { image, options, shared, running: AtomicU32::new(0) }
    }

    /// Starts the thread if it pays. `self` must stay in its place until [`Helper::wait`].
    pub fn start(&self, window: &Window) -> Outcome<()> {
        let bytes: u64 = chunks(self.image).map(|(_, c)| c.header.data_len).sum();
        if self.options.no_verify
            || self.options.workers == 1
            || bytes < WORTH_A_THREAD
            || crate::fill::cpus() < 2
        {
            return Ok(());
        }
        let stack = window.memory(STACK, "a helper's stack")?;
        self.running.store(1, Ordering::Release);
        let flags = clone::VM | clone::FS | clone::FILES | clone::SIGHAND | clone::THREAD;
        let flags = flags | clone::SYSVSEM | clone::CHILD_CLEARTID;
        let word = self.running.as_ptr() as u64;
        let args = [flags, 0, word, 0, 0, stack as u64, STACK, 0, 0, 0, 0];
        // SAFETY: the stack is the thread's alone; `wait` is called before `self` goes.
        if unsafe { arch::start_thread(&args, helper, &raw const *self as usize) }.is_err() {
            // Then the work is done where it is waited for.
            self.running.store(0, Ordering::Release);
        }
        Ok(())
    }

    /// Waits until the thread, if any, is gone.
    pub fn wait(&self) {
        while self.running.load(Ordering::Acquire) != 0 {
            sys::futex_wait(&self.running, 1);
        }
    }
}

extern "C" fn helper(helper: usize) -> ! {
    // SAFETY: `Helper::start` passes itself and outlives the thread.
    let helper = unsafe { &*(helper as *const Helper<'_>) };
    work(helper.image, helper.options, helper.shared);
    arch::exit_thread()
}
