//! How far the copying is.

use super::wire::{tell, Message};
use crate::abort;
use crate::capture::Captured;
use crate::pages::Progress;
use image_format::model::Backing;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Milliseconds between two messages.
const INTERVAL: u64 = 50;

/// Counts bytes and tells the front process now and then.
pub struct Meter<'a> {
    control: BorrowedFd<'a>,
    start: Instant,
    told: AtomicU64,
    done: AtomicU64,
    total: u64,
}

impl<'a> Meter<'a> {
    /// Expects `total` bytes.
    pub fn new(control: BorrowedFd<'a>, total: u64) -> Self {
        Self {
            control,
            start: Instant::now(),
            told: AtomicU64::new(0),
            done: AtomicU64::new(0),
            total,
        }
    }
}

impl Progress for Meter<'_> {
    fn advance(&self, bytes: u64) -> bool {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let now = self.start.elapsed().as_millis() as u64;
        let told = self.told.load(Ordering::Relaxed);
        if now >= told + INTERVAL
            && self.told.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            // A front process that is gone is noticed by the abort below.
            let _ = tell(self.control, &Message::Progress { done, total: self.total.max(done) });
        }
        !abort::requested()
    }
}

/// Bytes of page data to be expected, from what the kernel counts: anonymous memory in memory
/// and swap, and file mappings as a whole.
pub fn estimate(captured: &Captured) -> u64 {
    let mappings = captured.tree.processes.iter().flat_map(|process| &process.memory.mappings);
    let files = mappings.filter(|mapping| matches!(mapping.backing, Backing::File { .. }));
    captured.anonymous + files.map(|mapping| mapping.end - mapping.start).sum::<u64>()
}
