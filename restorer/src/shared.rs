//! What supervisor, init and program process tell each other: one page that they share.

use core::sync::atomic::{AtomicU32, Ordering};

/// The page.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Shared {
    /// One of [`phase`].
    pub phase: AtomicU32,
    /// 1 when the namespace's init has done its part.
    pub init_ready: AtomicU32,
    /// Index of the step that is being executed.
    pub step: AtomicU32,
    /// Number of the next chunk to be verified ([`crate::verify`]).
    pub verify_next: AtomicU32,
    /// How many were verified.
    pub verify_done: AtomicU32,
    /// 1 + index of a chunk that is not good.
    pub verify_failed: AtomicU32,
}

/// How far the program's process has come.
pub mod phase {
    /// Being built.
    pub const SETUP: u32 = 0;
    /// Failed, and said why.
    pub const FAILED: u32 = 1;
    /// The program runs.
    pub const RUNS: u32 = 2;
}

impl Shared {
    /// Notes how far we are.
    pub fn enter(&self, phase: u32) {
        self.phase.store(phase, Ordering::SeqCst);
    }

    /// How far the program's process has come.
    pub fn phase(&self) -> u32 {
        self.phase.load(Ordering::SeqCst)
    }
}
