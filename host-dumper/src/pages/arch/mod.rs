//! What code looks like, by machine.

#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "x86_64")]
pub use x86_64::{has_rare_code, LONGEST};
