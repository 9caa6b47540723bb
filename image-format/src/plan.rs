//! The plan: how to bring a tree back, as a flat list of steps.
//!
//! The payload of the PLAN chunk:
//!
//! ```text
//! 0              PlanHeader
//! processes_off  ProcessPlan * process_count
//! threads_off    ThreadPlan * thread_count      (of all processes, grouped)
//! steps_off      Step * step_count              (of all processes and threads, grouped)
//! data_off       data: structures, strings, buffers; writable while the plan runs
//! ```
//!
//! A step is one system call, or one verb. The restorer runs the steps of a
//! process in order and stops at the first that fails where its [`Expect`]
//! does not allow it. Addresses of data are given as offsets from `data_off`.

use scroll::{Pread, Pwrite, SizeWith};

/// First word of [`PlanHeader`].
pub const PLAN_MAGIC: u32 = u32::from_le_bytes(*b"PLAN");

/// Header of the plan; 160 bytes. Offsets are from its first byte unless "data" is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith, Default)]
#[repr(C)]
pub struct PlanHeader {
    /// [`PLAN_MAGIC`].
    pub magic: u32,
    /// Number of [`ProcessPlan`]s.
    pub process_count: u32,
    /// Offset of the first.
    pub processes_off: u32,
    /// Number of [`ThreadPlan`]s.
    pub thread_count: u32,
    /// Offset of the first.
    pub threads_off: u32,
    /// Number of [`Step`]s.
    pub step_count: u32,
    /// Offset of the first.
    pub steps_off: u32,
    /// Length of data in bytes.
    pub data_len: u32,
    /// Offset of data.
    pub data_off: u32,
    /// Bits of [`plan_flag`].
    pub flags: u32,
    /// From this descriptor number on, up to `scratch_end`, the restorer's own: no process of the tree
    /// uses one of them.
    pub scratch_fd: u32,
    /// Highest pid or tid of the tree.
    pub max_pid: u32,
    /// CLOCK_MONOTONIC at the dump, nanoseconds.
    pub monotonic_ns: i64,
    /// CLOCK_BOOTTIME at the dump, nanoseconds.
    pub boottime_ns: i64,
    /// CLOCK_REALTIME at the dump, nanoseconds.
    pub realtime_ns: i64,
    /// Bytes of memory that the tree needs besides the pages of its PAGES chunks.
    pub memory_need: u64,
    /// Data: [`CpuPlan`].
    pub cpu_off: u32,
    /// Data: the text that `--help` prints, ended by a zero byte.
    pub help_off: u32,
    /// Data: the text that `--info` prints.
    pub info_off: u32,
    /// Its length in bytes.
    pub info_len: u32,
    /// Data: struct termios2 of the terminal, 44 bytes; 0 for none.
    pub termios_off: u32,
    /// Data: name of the root process (what messages call it), ended by a zero byte.
    pub name_off: u32,
    /// Rows, columns, x and y pixels of the terminal.
    pub winsize: [u16; 4],
    /// Effective user id that the root process had.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// How often the tree had been resumed before the dump.
    pub generation: u32,
    /// Some [`ProcessPlan::stopped`] that is not 0; 0 when no process was stopped.
    pub stopped: u32,
    /// Data: array of u32, pairs of (file number, [`FilePlan`] data offset); the embedded files.
    pub files_off: u32,
    /// Number of pairs.
    pub files_count: u32,
    /// Data: pairs of u32: the number of each descriptor of the root process, and the descriptor
    /// that the command's options put in its place (`--inherit-fd` and its like); `u32::MAX` for
    /// none.
    pub fds_off: u32,
    /// Their number.
    pub fds_count: u32,
    /// Data: [`NeedPlan`] array.
    pub needs_off: u32,
    /// Their number.
    pub needs_count: u32,
    /// First number after `scratch_fd` that a process of the tree uses; `u32::MAX` for none.
    pub scratch_end: u32,
    /// Data: path of the program that the processes of the tree came from, ended by a zero byte;
    /// empty where they came from several.
    pub exe_off: u32,
}

const _: () = assert!(core::mem::size_of::<PlanHeader>() == 160);

/// Something with a path that a descriptor or shared memory needs on the target, for
/// `./resume.elf --check`; 20 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith)]
#[repr(C)]
pub struct NeedPlan {
    /// The descriptor of the root process which alone needs it, so that the command's options may
    /// make it needless; `u32::MAX` if there is none such.
    pub fd: u32,
    /// Data: the [`FilePlan`] of a regular file; 0 for anything else.
    pub file_off: u32,
    /// Data: the path of anything else.
    pub path_off: u32,
    /// The right to it that is needed, as access(2) has it.
    pub mode: u32,
    /// Which of the command's own descriptors 0, 1 and 2 is needed instead of a path, which then
    /// tells what it was; `u32::MAX` for none.
    pub stdio: u32,
}

const _: () = assert!(core::mem::size_of::<NeedPlan>() == 20);

/// What the processor must offer, and how the source's kept its state; 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith, Default)]
#[repr(C)]
pub struct CpuPlan {
    /// State components of the source that the target's XCR0 must have.
    pub xcr0: u64,
    /// Data: [`CpuNeed`] array.
    pub needs_off: u32,
    /// Their number.
    pub needs_count: u32,
    /// Data: [`XsavePlace`] array.
    pub places_off: u32,
    /// Their number.
    pub places_count: u32,
}

const _: () = assert!(core::mem::size_of::<CpuPlan>() == 24);

/// A feature that the program may rely on; 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith, Default)]
#[repr(C)]
pub struct CpuNeed {
    /// CPUID leaf.
    pub leaf: u32,
    /// Subleaf.
    pub subleaf: u32,
    /// Register: 0 EAX to 3 EDX.
    pub reg: u8,
    /// Bit in it.
    pub bit: u8,
    /// Name, padded with zero bytes.
    pub name: [u8; 22],
}

const _: () = assert!(core::mem::size_of::<CpuNeed>() == 32);

/// Place of a state component in the source's XSAVE area; 12 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith, Default)]
#[repr(C)]
pub struct XsavePlace {
    /// Number of the component (bit of XCR0).
    pub id: u32,
    /// Offset in bytes from the beginning of the area.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
}

const _: () = assert!(core::mem::size_of::<XsavePlace>() == 12);

/// Bits of [`PlanHeader::flags`].
pub mod plan_flag {
    /// The tree has a terminal that becomes the one of the resume.
    pub const TERMINAL: u32 = 1;
    /// The root was a session leader with a controlling terminal: give it a pty of its own.
    pub const LEADER: u32 = 2;
    /// The root's process group was in the foreground.
    pub const FOREGROUND: u32 = 4;
    /// Some thread holds a robust or priority-inheritance lock: `--new-pid` is refused.
    pub const LOCKS_HELD: u32 = 8;
}

/// One process; 48 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith, Default)]
#[repr(C)]
pub struct ProcessPlan {
    /// Pid.
    pub pid: u32,
    /// Index of the parent; `u32::MAX` for the root.
    pub parent: u32,
    /// Index of the first step.
    pub first_step: u32,
    /// Number of steps.
    pub step_count: u32,
    /// Index of the first thread (the leader).
    pub first_thread: u32,
    /// Number of threads.
    pub thread_count: u32,
    /// Address of the retained stub ([`crate::stub`]), mapped by a step before FINISH.
    pub stub_address: u64,
    /// Its length in bytes.
    pub stub_len: u64,
    /// Signal by which it was stopped (job control); 0 when it ran.
    pub stopped: u32,
    /// Options of waitid(2) with which its parent waits for its end ([`op::EXIT`]) or its stop
    /// before it goes on itself; 0 for a process that runs.
    pub awaited: u32,
}

const _: () = assert!(core::mem::size_of::<ProcessPlan>() == 48);

/// One thread; 64 bytes. Its steps run in the thread itself, signals blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith, Default)]
#[repr(C)]
pub struct ThreadPlan {
    /// Tid.
    pub tid: u32,
    /// Index of the first step.
    pub first_step: u32,
    /// Number of steps.
    pub step_count: u32,
    /// Data: the signal frame without floating-point state: bytes of the kernel's struct
    /// ucontext ([`crate::arch::x86_64::frame`]).
    pub ucontext_off: u32,
    /// Its length in bytes.
    pub ucontext_len: u32,
    /// Data: XSAVE area in the source's layout.
    pub xsave_off: u32,
    /// Its length in bytes.
    pub xsave_len: u32,
    /// Offset in the stub of its [`crate::stub::LastCall`]s.
    pub last_calls: u32,
    /// Address in the stub where the frame is built; room for [`crate::stub::FRAME_STRIDE`] bytes.
    pub frame_address: u64,
    /// clear_child_tid (set_tid_address); 0 for none. With a new tid, the word there is changed
    /// to it if it holds the old one.
    pub clear_tid: u64,
    /// FS base.
    pub fs_base: u64,
    /// GS base.
    pub gs_base: u64,
}

const _: () = assert!(core::mem::size_of::<ThreadPlan>() == 64);

/// What a step does ([`Step::op`]).
pub mod op {
    /// The system call `nr` with `args`.
    pub const SYSCALL: u16 = 1;
    /// Verify every chunk and copy the pages of this process in place.
    pub const FILL: u16 = 2;
    /// Map pages from the image: args are address, length, protection, flags, file offset. With
    /// `--copy-all`: anonymous and writable instead, filled by FILL.
    pub const MAP_IMAGE: u16 = 3;
    /// Place the vdso: args\[0\] is the data offset of a [`super::VdsoPlan`].
    pub const VDSO: u16 = 4;
    /// Open a regular file: args\[0\] is the data offset of a [`super::FilePlan`], args\[1\] the
    /// descriptor number, args\[2\] the descriptor flags (O_CLOEXEC or 0).
    pub const OPEN_FILE: u16 = 5;
    /// Write `args[2]` bytes of data at offset `args[1]` to descriptor `args[0]`, all of them.
    pub const WRITE_ALL: u16 = 6;
    /// Start the thread with plan index `args[0]`; it runs its steps and waits for FINISH.
    pub const THREAD: u16 = 7;
    /// The last step of a process: run the leader's thread steps ([`super::ThreadPlan`]), build the
    /// frames, close what is the restorer's own, wait until `args[0]` processes have come that far,
    /// let every thread jump.
    pub const FINISH: u16 = 8;
    /// Print the data text at args\[0\] (ended by a zero byte) as a note, when `when` allows it.
    pub const NOTE: u16 = 9;
    /// Set the affinity: args\[0\] data offset of the mask, args\[1\] its length; clipped to the
    /// CPUs that there are, with a note when that changed it.
    pub const AFFINITY: u16 = 10;
    /// Create the POSIX timer of data [`super::TimerPlan`] at args\[0\] under its old id.
    pub const TIMER: u16 = 11;
    /// Map the stub ([`crate::stub`]) writable at [`super::ProcessPlan::stub_address`] and put the
    /// `args[1]` bytes of data at `args[0]` (header and slots) at its beginning.
    pub const STUB: u16 = 12;
    /// Give the executing thread the capability sets args\[0\] (inheritable), \[1\] (permitted), \[2\]
    /// (effective), \[3\] (bounding: drop what is not in it) and \[4\] (ambient), then the securebits
    /// args\[5\]; each as far as its own rights go (the intersection with what it holds).
    pub const CAPABILITIES: u16 = 13;
    /// Store the 64-bit word `args[1]` (usually an address of data) at data offset `args[0]`.
    pub const STORE: u16 = 14;
    /// Give the executing thread the supplementary groups: args as for setgroups(2), number and
    /// address. Not tried, and no failure, where the resuming command had the same ones (an
    /// unprivileged user, or a user namespace, may not set any).
    pub const GROUPS: u16 = 15;
    /// Write `args[2]` bytes of data at offset `args[1]` to the file of /proc whose path is at
    /// address `args[0]`.
    pub const PROC_WRITE: u16 = 16;
    /// Write the embedded file `args[1]` to descriptor `args[0]` and make it `args[2]` bytes long.
    pub const WRITE_EMBEDDED: u16 = 17;
    /// Make room for a Unix socket at the data path args\[3\], which is the one in the address at
    /// args\[0\] (args\[1\] bytes): a socket file to which nobody listens any more is removed,
    /// anything else is an error. args\[2\] is a socket of another type: whoever listens cannot be
    /// connected with it, and is not disturbed. The path is removed should the resume fail.
    pub const SOCKET_PATH: u16 = 40;
    /// Start the process with plan index `args[0]`, whose end is told by signal `args[1]`.
    pub const FORK: u16 = 18;
    /// Wait until `args[1]` processes have come to barrier `args[0]` (below [`super::BARRIERS`]).
    pub const BARRIER: u16 = 19;
    /// The last step of a process that has ended: end with status `args[0]`, in the form of wait(2),
    /// when `args[1]` processes have come to the last barrier; at once for 0.
    pub const EXIT: u16 = 20;
    /// Pass over the next `args[2]` steps of the process if args\[0\] and args\[1\] are equal; with 1
    /// as args\[3\], if they differ.
    pub const SKIP: u16 = 21;
    /// Store the hash ([`crate::container::hash_data`], seed 0) of the `args[1]` bytes at address
    /// `args[0]` at data offset `args[2]`.
    pub const HASH: u16 = 22;
    /// Should the resume fail, make the system call `nr` with args\[0\], \[1\] and \[2\].
    pub const UNDO: u16 = 23;
}

/// Number of barriers; the last is that of FINISH and EXIT.
pub const BARRIERS: usize = 6;

/// In which circumstances a step runs ([`Step::when`]): all given bits must hold; 0 is always.
pub mod when {
    /// Original pid, in place, by privilege.
    pub const IN_PLACE: u16 = 1;
    /// In a pid (and user) namespace of its own.
    pub const NAMESPACE: u16 = 2;
    /// The resuming process became the program (`--new-pid`).
    pub const NEW_PID: u16 = 4;
    /// The pid is the original one (in place, or in a namespace).
    pub const OLD_PID: u16 = 8;
    /// With `--copy-all`.
    pub const COPY_ALL: u16 = 16;
    /// Without `--copy-all`.
    pub const MAP: u16 = 32;
    /// The clocks jump: no time namespace could be had.
    pub const CLOCK_JUMP: u16 = 64;
    /// With `--on-changed accept`.
    pub const ACCEPT: u16 = 128;
}

/// What becomes of a failure ([`Step::expect`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Expect {
    /// The resume fails.
    Success = 0,
    /// The result must be `args[0]` itself (an address that was asked for).
    Place = 1,
    /// Said on standard error, and the resume goes on.
    Note = 2,
    /// Not said.
    Ignore = 3,
}

/// One step; 72 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith, Default)]
#[repr(C)]
pub struct Step {
    /// One of [`op`].
    pub op: u16,
    /// Bits of [`when`].
    pub when: u16,
    /// An [`Expect`].
    pub expect: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Data: what the step is about, in words, for messages; ended by a zero byte. 0 for none.
    pub object: u32,
    /// [`arg`] of each argument, four bits each, the first lowest.
    pub kinds: u32,
    /// System call number.
    pub nr: u32,
    /// Data offset of the 64-bit word that keeps the result; 0 for none.
    pub keep: u32,
    /// Arguments.
    pub args: [u64; 6],
}

const _: () = assert!(core::mem::size_of::<Step>() == 72);

/// How an argument of a step is to be read ([`Step::kinds`]).
pub mod arg {
    /// The value itself.
    pub const CONST: u32 = 0;
    /// The address of data offset `value`.
    pub const DATA: u32 = 2;
    /// The 32-bit word at data offset `value`, as it is when the step runs.
    pub const LOAD32: u32 = 3;
    /// The descriptor that the resuming command had as number `value` (0, 1 or 2).
    pub const STDIO: u32 = 4;
    /// The descriptor of the terminal in which the program is resumed.
    pub const TERMINAL: u32 = 5;
    /// The image's descriptor.
    pub const IMAGE: u32 = 6;
    /// The tid of the executing thread as it is now.
    pub const TID: u32 = 7;
    /// The pid of the process as it is now.
    pub const PID: u32 = 8;
    /// A scratch descriptor number: `scratch_fd` plus `value` plus the restorer's own.
    pub const SCRATCH: u32 = 9;
}

/// How to place the vdso; 64 bytes, followed by nothing. Offsets are data offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith, Default)]
#[repr(C)]
pub struct VdsoPlan {
    /// Address of the vdso at the dump.
    pub base: u64,
    /// Size in bytes.
    pub size: u64,
    /// First address of the vvar pages; `base` when it was patched code of an earlier resume.
    pub vvar: u64,
    /// First address of a place of [`VDSO_ROOM`] bytes, free in the process, for a vdso that
    /// differs.
    pub spare: u64,
    /// The bytes at the dump, `size` of them.
    pub bytes_off: u32,
    /// [`VdsoEntry`] array.
    pub entries_off: u32,
    /// Their number.
    pub entries_count: u32,
    /// 1 when the bytes are patched code of an earlier resume, so that no live vdso can equal it.
    pub patched: u32,
    /// Zero.
    pub reserved: [u64; 2],
}

const _: () = assert!(core::mem::size_of::<VdsoPlan>() == 64);

/// Bytes to keep free at [`VdsoPlan::spare`]: any kernel's vvar and vdso, with room.
pub const VDSO_ROOM: u64 = 64 << 10;

/// A function of the old vdso; 40 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith, Default)]
#[repr(C)]
pub struct VdsoEntry {
    /// Offset from the old base in bytes.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Name, padded with zero bytes.
    pub name: [u8; 32],
}

const _: () = assert!(core::mem::size_of::<VdsoEntry>() == 40);

/// A regular file to be opened; 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith, Default)]
#[repr(C)]
pub struct FilePlan {
    /// Data: absolute path, ended by a zero byte.
    pub path_off: u32,
    /// Open flags (without O_CREAT, O_EXCL, O_TRUNC).
    pub flags: u32,
    /// Offset to seek to.
    pub offset: u64,
    /// Size at the dump.
    pub size: u64,
    /// Hash of the contents; see `hash_kind`.
    pub hash: u64,
    /// One of [`hash_kind`].
    pub hash_kind: u32,
    /// Number of the embedded file; `u32::MAX` for none.
    pub embedded: u32,
    /// Permission bits for a file that is made anew.
    pub mode: u32,
    /// Bits of [`file_flag`].
    pub file_flags: u32,
    /// F_SETOWN, F_SETSIG and the like are separate steps; zero.
    pub reserved: [u64; 2],
}

const _: () = assert!(core::mem::size_of::<FilePlan>() == 64);

/// How [`FilePlan::hash`] was made.
pub mod hash_kind {
    /// [`crate::container::hash_data`] of all bytes, seed 0.
    pub const WHOLE: u32 = 1;
    /// [`crate::container::hash_data`] chained over [`crate::container::SAMPLES`] blocks of
    /// [`crate::container::SAMPLE_SIZE`] bytes; block i begins at
    /// `(size - SAMPLE_SIZE) / (SAMPLES - 1) * i`.
    pub const SAMPLED: u32 = 2;
    /// Not known: only the size is compared.
    pub const NONE: u32 = 3;
}

/// Bits of [`FilePlan::file_flags`].
pub mod file_flag {
    /// Had no name at the dump: make it without one, from the embedded contents.
    pub const UNLINKED: u32 = 1;
    /// `--on-changed accept`, given at the dump: a changed file is taken as it is, with a note.
    pub const ACCEPT: u32 = 2;
    /// `--on-changed embed`: where the file changed, the embedded contents take its place, without
    /// a name, with a note.
    pub const EMBED: u32 = 4;
}

/// A POSIX timer; 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith, Default)]
#[repr(C)]
pub struct TimerPlan {
    /// Id that it must get.
    pub id: u32,
    /// Clock.
    pub clock: i32,
    /// SIGEV_ value.
    pub notify: u32,
    /// Signal.
    pub signal: u32,
    /// sigval.
    pub value: u64,
    /// Thread for SIGEV_THREAD_ID; the old tid.
    pub thread: u32,
    /// Zero.
    pub reserved: u32,
    /// Interval, nanoseconds.
    pub interval_ns: u64,
    /// Remaining, nanoseconds; 0 is disarmed.
    pub remaining_ns: u64,
    /// Zero.
    pub reserved2: [u64; 2],
}

const _: () = assert!(core::mem::size_of::<TimerPlan>() == 64);
