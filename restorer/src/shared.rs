//! What supervisor, init and program process tell each other: one page that they share.

use crate::sys::{self, nr};
use core::sync::atomic::{AtomicU32, Ordering};
use image_format::plan::BARRIERS;

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
    /// The program, as its supervisor sees it.
    pub program: AtomicU32,
    /// How many processes have come to each barrier.
    pub barriers: [AtomicU32; BARRIERS],
}

/// How far the program's process has come.
pub mod phase {
    /// Being built.
    pub const SETUP: u32 = 0;
    /// Failed, and said why.
    pub const FAILED: u32 = 1;
    /// The program runs.
    pub const RUNS: u32 = 2;
    /// It has ended; what it left behind goes on.
    pub const ENDED: u32 = 3;
}

impl Shared {
    /// Notes how far we are. Whoever waits at a barrier hears of a failure.
    pub fn enter(&self, phase: u32) {
        self.phase.store(phase, Ordering::SeqCst);
        sys::futex_wake(&self.phase);
        if phase == phase::FAILED {
            self.barriers.iter().for_each(sys::futex_wake);
        }
    }

    /// Waits until `members` processes have come here; false if one of them failed.
    pub fn meet(&self, barrier: usize, members: u32) -> bool {
        let Some(word) = self.barriers.get(barrier) else { return false };
        let mut here = word.fetch_add(1, Ordering::SeqCst) + 1;
        if here >= members {
            sys::futex_wake(word);
        }
        while here < members && self.phase() != phase::FAILED {
            sys::futex_wait_a_while(word, here);
            let lost = has_lost_a_child();
            // Who has come to the last barrier may end right after it.
            here = word.load(Ordering::SeqCst);
            if lost && here < members {
                self.enter(phase::FAILED);
            }
        }
        self.phase() != phase::FAILED
    }
}

/// Whether a child has ended. Before the last barrier no process ends that does not fail; one that was killed could not say so.
pub fn has_lost_a_child() -> bool {
    // siginfo_t: 128 bytes; si_code is the third word, the number of the signal the first.
    let mut info = [0u64; 16];
    let args = [0, 0, info.as_mut_ptr() as usize, WEXITED | WNOHANG | WNOWAIT, 0];
    // SAFETY: the kernel writes a siginfo_t.
    let asked = unsafe { sys::call(nr::WAITID, &args) };
    asked.is_ok() && info[0] != 0
}

const WNOHANG: usize = 1;
const WEXITED: usize = 4;
const WNOWAIT: usize = 0x100_0000;

impl Shared {
    /// How far the program's process has come.
    pub fn phase(&self) -> u32 {
        self.phase.load(Ordering::SeqCst)
    }
}
