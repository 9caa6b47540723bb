//! The progress bar.

use crate::console::put;
use crate::words::size;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// It appears for what takes longer.
const BAR_AFTER: Duration = Duration::from_millis(500);

/// The bar on a terminal, if standard error is one.
#[derive(Debug)]
pub struct Bar {
    wanted: bool,
    shown: bool,
}

impl Bar {
    /// A bar that is not there yet; with `wanted` false it never will be.
    pub fn new(wanted: bool) -> Self {
        Self { wanted: wanted && std::io::stderr().is_terminal(), shown: false }
    }

    /// Shows that `done` of `total` bytes are through, since `start`.
    pub fn show(&mut self, start: Instant, done: u64, total: u64) {
        const WIDTH: u64 = 30;
        if !self.wanted || start.elapsed() < BAR_AFTER {
            return;
        }
        self.shown = true;
        let full = (done * WIDTH).checked_div(total).unwrap_or(0).min(WIDTH) as usize;
        let percent = (done * 100).checked_div(total).unwrap_or(0).min(99);
        let bar = format!("{}{}", "#".repeat(full), " ".repeat(WIDTH as usize - full));
        put(&format!("\r[{bar}] {percent:2} % of {} ", size(total)));
    }

    /// Takes it from the terminal again.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            put("\r\x1b[K");
        }
    }
}
