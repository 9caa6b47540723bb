//! The freestanding program inside a `resume.elf`: checks, then executes the plan.
//!
//! As a library it is compiled for the host as well, where its pure parts are tested; the
//! feature `freestanding`, which the build script of `linker` sets, adds entry point,
//! allocator and the memory functions that compilers expect.
#![no_std]
#![allow(
    clippy::unnecessary_box_returns,
    clippy::cast_ptr_alignment,
    clippy::single_match_else,
    reason = "a fault is boxed to keep every result small; places in mappings are aligned by \
              construction; match reads better than if-let with a long else"
)]

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the restorer knows x86-64 only; add src/arch for another machine");

extern crate alloc;
#[cfg(test)]
extern crate std;

#[path = "arch/x86_64.rs"]
pub mod arch;
pub mod chain;
pub mod check;
pub mod credentials;
pub mod fault;
pub mod files;
pub mod fill;
pub mod hash;
#[cfg(feature = "freestanding")]
pub mod heap;
pub mod huge;
pub mod image;
pub mod namespaces;
pub mod options;
pub mod outside;
pub mod planfile;
pub mod process;
pub mod relay;
pub mod report;
pub mod shared;
pub mod sockets;
#[cfg(feature = "freestanding")]
pub mod start;
pub mod steps;
pub mod supervisor;
pub mod sys;
pub mod terminal;
pub mod text;
pub mod threads;
pub mod timers;
pub mod topology;
pub mod vdso;
pub mod verify;
pub mod window;
pub mod xsave;
