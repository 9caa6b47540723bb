//! The shared vocabulary of the dumper and the restorer.
//!
//! * [`model`]: what a process tree is, as data.
//! * [`plan`]: how to bring it back, as a flat list of steps.
//! * [`container`]: how both and the page data lie in a `resume.elf`.
//! * [`control`]: what a program that wants to be asked shares with the dumper.
//! * [`codec`]: the bounded byte codec of the model.
//! * [`arch`]: what belongs to one processor architecture.
//!
//! The crate has no behaviour of its own beyond encoding and checking; it is
//! `no_std` (with `alloc`) because the restorer links it too.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod arch;
pub mod codec;
pub mod container;
pub mod control;
pub mod model;
pub mod plan;
pub mod stub;

/// Size of a page in bytes; every supported architecture uses 4 KiB pages here.
pub const PAGE_SIZE: u64 = 4096;

/// Rounds `n` up to a whole number of pages; saturates at the last page.
pub const fn page_up(n: u64) -> u64 {
    n.saturating_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1)
}

/// Rounds `n` down to a whole number of pages.
pub const fn page_down(n: u64) -> u64 {
    n & !(PAGE_SIZE - 1)
}
