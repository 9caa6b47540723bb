//! The progress bar.

use crate::console::put;
use crate::words::size;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// It appears for what takes longer.
const BAR_AFTER: Duration = Duration::from_millis(500);
/// Columns of a bar where there is room.
const WIDTH: usize = 30;

/// The bar on a terminal, if standard error is one that can take it back.
#[derive(Debug)]
pub struct Bar {
    wanted: bool,
    shown: bool,
}

impl Bar {
    /// A bar that is not there yet; with `wanted` false it never will be.
    pub fn new(wanted: bool) -> Self {
        // What is called so cannot erase a line.
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { wanted: wanted && !is_dumb && std::io::stderr().is_terminal(), shown: false }
    }

    /// Shows that `done` of `total` bytes are through, since `start`.
    pub fn show(&mut self, start: Instant, done: u64, total: u64) {
        if !self.wanted || start.elapsed() < BAR_AFTER {
            return;
        }
        self.shown = true;
        put(&format!("\r{}", line(done, total, columns())));
    }

    /// Takes it from the terminal again.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            put("\r\x1b[K");
        }
    }
}

/// Bar and words, or what fits in: a line that wraps could not be written over.
fn line(done: u64, total: u64, columns: usize) -> String {
    let percent = (done * 100).checked_div(total).unwrap_or(0).min(99);
    let words = format!("{percent:2} % of {} ", size(total));
    // The cursor needs a column, and the bar brackets and a blank.
    let width = columns.saturating_sub(words.len() + 4).min(WIDTH);
    if width < 5 {
        return format!("{percent:2} % ");
    }
    let full = (done * width as u64).checked_div(total).unwrap_or(0).min(width as u64) as usize;
    format!("[{}{}] {words}", "#".repeat(full), " ".repeat(width - full))
}

/// Columns of the terminal; it may change all the time.
fn columns() -> usize {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request fills in the structure given.
    let asked = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    // A terminal that does not tell has the usual ones.
    if asked == 0 && size.ws_col != 0 {
        size.ws_col.into()
    } else {
        80
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_into_the_terminal() {
        let half = format!("[{}{}] 50 % of 4.0 GiB ", "#".repeat(15), " ".repeat(15));
        assert_eq!(line(2 << 30, 4 << 30, 80), half);
        assert_eq!(line(0, 0, 30), "[          ]  0 % of 0 bytes ");
        assert_eq!(line(1, 2, 20), "50 % ");
        for columns in 6..100 {
            assert!(line(7 << 20, 9 << 20, columns).len() < columns, "{columns}");
        }
    }
}
