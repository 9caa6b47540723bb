//! The processor's counter: the one clock that no time namespace shifts, so that a program which
//! came back in one can be compared with its launcher.

use std::time::{Duration, Instant};

/// The counter as it stands.
#[cfg(target_arch = "x86_64")]
pub fn stamp() -> u64 {
    // SAFETY: both instructions exist on every x86-64 processor and touch no memory.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        core::arch::x86_64::_rdtsc()
    }
}

/// The counter as it stands.
#[cfg(target_arch = "aarch64")]
pub fn stamp() -> u64 {
    let now: u64;
    // SAFETY: the virtual counter may be read by programs on Linux; no memory is touched.
    unsafe { core::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) now) };
    now
}

/// Ticks in a microsecond.
#[derive(Debug, Clone, Copy)]
pub struct Rate(f64);

impl Rate {
    /// Compares the counter with the kernel's clock for a moment.
    pub fn measure() -> Rate {
        let (start, from) = (Instant::now(), stamp());
        std::thread::sleep(Duration::from_millis(100));
        let (time, to) = (start.elapsed(), stamp());
        Rate(to.wrapping_sub(from) as f64 / (time.as_secs_f64() * 1e6))
    }

    /// A distance of the counter in microseconds.
    pub fn micros(self, ticks: u64) -> f64 {
        ticks as f64 / self.0
    }

    /// Microseconds as a distance of the counter.
    pub fn ticks(self, micros: f64) -> u64 {
        (micros * self.0) as u64
    }
}
