//! The stub: the one mapping of ours that stays in a resumed program.
//!
//! ```text
//! 0      StubHeader (magic, counts)
//! 64     code of the last moments: wait for the others, unmap the restorer, rt_sigreturn
//! 768    the last call of a thread without others: rt_sigreturn
//! 1024   slots, SLOT_SIZE each: a system call issued anew and the way back
//! ...    last calls of threads under seccomp, with their filters, from the next page on
//! ...    frames, FRAME_STRIDE each, from the next page on: one signal frame per thread;
//!        StubControl ends the first, whose page is writable until the last thread has gone
//! ```
//!
//! It must stay: the last instruction before the program goes on is an rt_sigreturn, which needs
//! code to stand in and a frame to read. The next dump knows it by its magic and leaves it out.

use scroll::{Pread, Pwrite, SizeWith};

/// First bytes of the stub.
pub const STUB_MAGIC: [u8; 16] = *b"resume.elf stub\0";
/// Offset of the code in bytes.
pub const CODE_OFFSET: u64 = 64;
/// Room for the code in bytes.
pub const CODE_ROOM: u64 = 704;
/// Offset of [`StubControl`] from the beginning of the first frame, bytes.
pub const CONTROL_OFFSET: u64 = FRAME_STRIDE - 16;
/// Offset in bytes of the [`LastCall`] of threads that have no others.
pub const RETURN_OFFSET: u64 = 768;
/// Offset of the first slot in bytes.
pub const SLOTS_OFFSET: u64 = 1024;
/// Size of a slot in bytes.
pub const SLOT_SIZE: u64 = 256;
/// Offset of [`SlotData`] in a slot, bytes; its code lies before it.
pub const SLOT_DATA: u64 = 128;
/// Size of the place for a frame in bytes: ucontext and every XSAVE component up to PKRU.
pub const FRAME_STRIDE: u64 = 4096;

/// Header of the stub; 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith, Default)]
#[repr(C)]
pub struct StubHeader {
    /// [`STUB_MAGIC`].
    pub magic: [u8; 16],
    /// Version of this layout: 1.
    pub version: u32,
    /// Number of slots.
    pub slots: u32,
    /// Number of frames.
    pub frames: u32,
    /// How often the tree was resumed: 1 after the first resume.
    pub generation: u32,
    /// Length of the stub in bytes.
    pub len: u64,
    /// Base of the vdso code kept from an older kernel, 0 for none; its size follows.
    pub old_vdso: u64,
    /// Its size in bytes.
    pub old_vdso_size: u64,
    /// Address of the live vdso's vvar where `old_vdso` is not 0.
    pub live_vvar: u64,
}

const _: () = assert!(core::mem::size_of::<StubHeader>() == 64);

/// A system call that a thread makes when nothing of the restorer is left; 32 bytes. They follow one
/// another up to rt_sigreturn; one that fails ends the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith, Default)]
#[repr(C)]
pub struct LastCall {
    /// Number.
    pub nr: u64,
    /// Arguments.
    pub args: [u64; 3],
}

const _: () = assert!(core::mem::size_of::<LastCall>() == 32);
const _: () =
    assert!(RETURN_OFFSET >= CODE_OFFSET + CODE_ROOM && RETURN_OFFSET + 32 <= SLOTS_OFFSET);

/// Counters of the last moments; 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith, Default)]
#[repr(C)]
pub struct StubControl {
    /// Threads besides the leader that have not yet arrived in the stub.
    pub missing: u32,
    /// 0 until the restorer is unmapped.
    pub go: u32,
    /// Threads besides the leader.
    pub others: u32,
    /// Those of them that have left for the program; the leader goes last.
    pub gone: u32,
}

const _: () = assert!(core::mem::size_of::<StubControl>() == 16);

/// Data of a slot; 96 bytes at [`SLOT_DATA`]. The slot's code issues the system call with the
/// registers as they are, loads the argument registers and rcx from here and jumps to `resume`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith, Default)]
#[repr(C)]
pub struct SlotData {
    /// Where the program goes on.
    pub resume: u64,
    /// The argument registers as the program had them: rdi, rsi, rdx, r10, r8, r9.
    pub args: [u64; 6],
    /// A timespec that an argument may point to.
    pub timespec: [i64; 2],
    /// The system call's number.
    pub nr: u64,
    /// Added to a non-negative result.
    pub add: u64,
    /// Bits 0 to 5: the argument points to `timespec`; bits 8 to 13: the argument is a timeout in
    /// milliseconds that was replaced.
    pub patched: u64,
}

const _: () = assert!(core::mem::size_of::<SlotData>() == 96);

/// Offset in bytes of the page after the slots.
pub const fn slots_end(slots: u64) -> u64 {
    crate::page_up(SLOTS_OFFSET + slots * SLOT_SIZE)
}
