//! The freestanding program inside a `resume.elf`: checks, then executes the plan.
#![no_std]

#[cfg(target_arch = "x86_64")]
#[path = "arch/x86_64.rs"]
pub mod arch;
