//! System calls, typed as far as the restorer uses them.

use crate::arch::syscall;
use core::ffi::CStr;

/// Numbers of system calls.
#[allow(missing_docs, reason = "the names are the kernel's")]
pub mod nr {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const OPEN: usize = 2;
    pub const CLOSE: usize = 3;
    pub const FSTAT: usize = 5;
    pub const LSEEK: usize = 8;
    pub const MMAP: usize = 9;
    pub const MPROTECT: usize = 10;
    pub const MUNMAP: usize = 11;
    pub const RT_SIGACTION: usize = 13;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const ACCESS: usize = 21;
    pub const SENDFILE: usize = 40;
    pub const IOCTL: usize = 16;
    pub const PREAD64: usize = 17;
    pub const PWRITE64: usize = 18;
    pub const SCHED_YIELD: usize = 24;
    pub const MINCORE: usize = 27;
    pub const MADVISE: usize = 28;
    pub const DUP2: usize = 33;
    pub const NANOSLEEP: usize = 35;
    pub const GETPID: usize = 39;
    pub const CONNECT: usize = 42;
    pub const EXIT: usize = 60;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const FCNTL: usize = 72;
    pub const FTRUNCATE: usize = 77;
    pub const UNLINK: usize = 87;
    pub const SYSINFO: usize = 99;
    pub const GETUID: usize = 102;
    pub const GETEUID: usize = 107;
    pub const GETEGID: usize = 108;
    pub const SETPGID: usize = 109;
    pub const GETPPID: usize = 110;
    pub const RT_SIGPENDING: usize = 127;
    pub const WAITID: usize = 247;
    pub const GETPGRP: usize = 111;
    pub const CHDIR: usize = 80;
    pub const SETSID: usize = 112;
    pub const CHROOT: usize = 161;
    pub const CAPGET: usize = 125;
    pub const CAPSET: usize = 126;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const SIGALTSTACK: usize = 131;
    pub const PRCTL: usize = 157;
    pub const ARCH_PRCTL: usize = 158;
    pub const MOUNT: usize = 165;
    pub const GETTID: usize = 186;
    pub const FUTEX: usize = 202;
    pub const SCHED_SETAFFINITY: usize = 203;
    pub const SCHED_GETAFFINITY: usize = 204;
    pub const SET_TID_ADDRESS: usize = 218;
    pub const TIMER_CREATE: usize = 222;
    pub const TIMER_SETTIME: usize = 223;
    pub const TIMER_DELETE: usize = 226;
    pub const CLOCK_GETTIME: usize = 228;
    pub const OPENAT: usize = 257;
    pub const UNSHARE: usize = 272;
    pub const DUP3: usize = 292;
    pub const PRLIMIT64: usize = 302;
    pub const SETNS: usize = 308;
    pub const FALLOCATE: usize = 285;
    pub const MEMFD_CREATE: usize = 319;
    pub const EXECVEAT: usize = 322;
    pub const USERFAULTFD: usize = 323;
    pub const FSOPEN: usize = 430;
    pub const FSCONFIG: usize = 431;
    pub const FSMOUNT: usize = 432;
    pub const CLONE3: usize = 435;
    pub const CLOSE_RANGE: usize = 436;
}

/// Page protection and mapping flags (mman.h).
#[allow(missing_docs, reason = "the names are the kernel's")]
pub mod mm {
    pub const READ: usize = 1;
    pub const WRITE: usize = 2;
    pub const EXEC: usize = 4;
    pub const SHARED: usize = 1;
    pub const PRIVATE: usize = 2;
    pub const FIXED: usize = 0x10;
    pub const ANONYMOUS: usize = 0x20;
    pub const NORESERVE: usize = 0x4000;
    pub const POPULATE: usize = 0x8000;
    pub const FIXED_NOREPLACE: usize = 0x10_0000;
}

/// Flags of clone(2).
#[allow(missing_docs, reason = "the names are the kernel's")]
pub mod clone {
    pub const VM: u64 = 0x100;
    pub const FS: u64 = 0x200;
    pub const FILES: u64 = 0x400;
    pub const SIGHAND: u64 = 0x800;
    pub const THREAD: u64 = 0x1_0000;
    pub const NEWNS: u64 = 0x2_0000;
    pub const SYSVSEM: u64 = 0x4_0000;
    pub const CHILD_CLEARTID: u64 = 0x20_0000;
    pub const NEWUSER: u64 = 0x1000_0000;
    pub const NEWPID: u64 = 0x2000_0000;
    pub const NEWTIME: u64 = 0x80;
}

/// An error number of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Errno(pub i32);

#[allow(missing_docs, reason = "the names are the kernel's")]
impl Errno {
    pub const EPERM: Self = Self(1);
    pub const ENOENT: Self = Self(2);
    pub const EINTR: Self = Self(4);
    pub const EIO: Self = Self(5);
    pub const EBADF: Self = Self(9);
    pub const EAGAIN: Self = Self(11);
    pub const EEXIST: Self = Self(17);
    pub const EINVAL: Self = Self(22);
    pub const ENOTTY: Self = Self(25);
    pub const ENOSYS: Self = Self(38);

    /// Splits the kernel's result.
    #[inline]
    pub fn check(result: isize) -> Result<usize, Self> {
        if (-4095..0).contains(&result) {
            Err(Self(-result as i32))
        } else {
            Ok(result as usize)
        }
    }
}

/// Makes a system call and splits the result. In line, because an array built for a function
/// takes more bytes than the registers.
///
/// # Safety
///
/// As [`syscall`].
#[inline(always)]
#[allow(clippy::inline_always, reason = "each of some two hundred places is shorter that way")]
pub unsafe fn call<const N: usize>(nr: usize, args: &[usize; N]) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    Errno::check(unsafe { syscall(nr, args) })
}

/// Makes a call that touches no memory of ours: plain numbers in and out.
#[inline(always)]
#[allow(clippy::inline_always, reason = "as `call`")]
pub fn plain<const N: usize>(nr: usize, args: &[usize; N]) -> Result<usize, Errno> {
    // SAFETY: callers of this function pass numbers only, to calls that take no address.
    unsafe { call(nr, args) }
}

/// write(2), repeated until everything is written.
pub fn write_all(fd: i32, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        // SAFETY: the kernel reads `bytes` only.
        match unsafe { call(nr::WRITE, &[fd as usize, bytes.as_ptr() as usize, bytes.len()]) } {
            Ok(0) => return Err(Errno::EIO),
            Ok(n) => bytes = &bytes[n.min(bytes.len())..],
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// read(2).
pub fn read(fd: i32, bytes: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes into `bytes` only.
    unsafe { call(nr::READ, &[fd as usize, bytes.as_mut_ptr() as usize, bytes.len()]) }
}

/// pread(2).
pub fn pread(fd: i32, bytes: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let args = [fd as usize, bytes.as_mut_ptr() as usize, bytes.len(), offset as usize];
    // SAFETY: the kernel writes into `bytes` only.
    unsafe { call(nr::PREAD64, &args) }
}

/// openat(2) from `dir` (-100 is the working directory).
pub fn openat(dir: i32, path: &CStr, flags: usize, mode: usize) -> Result<i32, Errno> {
    let args = [dir as usize, path.as_ptr() as usize, flags, mode];
    // SAFETY: the kernel reads the path up to its end.
    unsafe { call(nr::OPENAT, &args) }.map(|fd| fd as i32)
}

/// The working directory, for [`openat`].
pub const AT_FDCWD: i32 = -100;
/// O_CLOEXEC.
pub const O_CLOEXEC: usize = 0o2000000;
/// O_NOCTTY.
pub const O_NOCTTY: usize = 0o400;
/// O_RDWR.
pub const O_RDWR: usize = 2;

/// close(2).
pub fn close(fd: i32) {
    // Nothing could be done about an error, and the number is free in any case.
    let _ = plain(nr::CLOSE, &[fd as usize]);
}

/// What fstat(2) tells: mode, size, device number.
#[derive(Debug, Clone, Copy)]
pub struct Stat {
    /// st_mode.
    pub mode: u32,
    /// st_size.
    pub size: u64,
    /// st_rdev.
    pub rdev: u64,
}

/// fstat(2).
pub fn fstat(fd: i32) -> Result<Stat, Errno> {
    // struct stat of x86-64: 144 bytes; mode at 24, rdev at 40, size at 48.
    let mut raw = [0u64; 18];
    // SAFETY: the kernel writes 144 bytes into `raw`.
    unsafe { call(nr::FSTAT, &[fd as usize, raw.as_mut_ptr() as usize]) }?;
    Ok(Stat { mode: raw[3] as u32, rdev: raw[5], size: raw[6] })
}

/// Nanoseconds of a clock.
pub fn clock(id: usize) -> i64 {
    let mut time = [0i64; 2];
    // SAFETY: the kernel writes 16 bytes into `time`.
    let _ = unsafe { call(nr::CLOCK_GETTIME, &[id, time.as_mut_ptr() as usize]) };
    time[0] * 1_000_000_000 + time[1]
}

/// The time for durations: the wall clock, which no namespace shifts.
pub fn now() -> i64 {
    clock(0)
}

/// Maps memory at exactly `address`, where nothing may lie.
///
/// # Safety
///
/// With [`mm::FIXED`] in `flags` whatever lay there must no longer be used.
pub unsafe fn mmap(
    address: u64,
    len: u64,
    prot: usize,
    flags: usize,
    fd: i32,
    offset: u64,
) -> Result<*mut u8, Errno> {
    let args = [address as usize, len as usize, prot, flags, fd as usize, offset as usize];
    // SAFETY: the caller's promise.
    let at = unsafe { call(nr::MMAP, &args) }?;
    // Kernels before 4.17 take the flag for a hint.
    if address != 0 && at as u64 != address {
        // SAFETY: unmaps what was just mapped.
        let _ = unsafe { call(nr::MUNMAP, &[at, len as usize]) };
        return Err(Errno::EEXIST);
    }
    Ok(at as *mut u8)
}

/// prctl(2) with plain numbers; some of its calls ask for zeroes in the place of what they have not.
#[inline(always)]
#[allow(clippy::inline_always, reason = "as `call`")]
pub fn prctl<const N: usize>(option: usize, args: &[usize; N]) -> Result<usize, Errno> {
    let arg = |i: usize| if i < N { args[i] } else { 0 };
    plain(nr::PRCTL, &[option, arg(0), arg(1), arg(2), arg(3)])
}

/// Sets the signal mask of the calling thread to `mask`.
pub fn set_mask(mask: u64) {
    let args = [2, &raw const mask as usize, 0, 8];
    // SAFETY: the kernel reads eight bytes at `mask`. It cannot fail with these arguments.
    let _ = unsafe { call(nr::RT_SIGPROCMASK, &args) };
}

/// struct sigaction as the kernel knows it: handler, flags, restorer, mask.
pub type Action = [u64; 4];

/// rt_sigaction(2).
///
/// # Safety
///
/// The handler must be fit to run whenever the signal comes.
pub unsafe fn sigaction(signal: usize, action: &Action) -> Result<(), Errno> {
    // SAFETY: the kernel reads 32 bytes; the handler is the caller's promise.
    unsafe { call(nr::RT_SIGACTION, &[signal, action.as_ptr() as usize, 0, 8]) }.map(|_| ())
}

/// Gives a signal its default action back.
#[inline(never)]
pub fn default_action(signal: usize) {
    // SAFETY: the default action has no handler.
    let _ = unsafe { sigaction(signal, &[0; 4]) };
}

/// Waits while the word is `value`.
pub fn futex_wait(word: &core::sync::atomic::AtomicU32, value: u32) {
    // SAFETY: the kernel reads the word; no timeout is given. A private flag is not set, because
    // the word may be shared between processes.
    let _ = unsafe { call(nr::FUTEX, &[word.as_ptr() as usize, 0, value as usize, 0]) };
}

/// The same, for a tenth of a second at most.
pub fn futex_wait_a_while(word: &core::sync::atomic::AtomicU32, value: u32) {
    let timeout = [0u64, 100_000_000];
    let args = [word.as_ptr() as usize, 0, value as usize, timeout.as_ptr() as usize];
    // SAFETY: the kernel reads the word and a timespec.
    let _ = unsafe { call(nr::FUTEX, &args) };
}

/// Wakes everyone who waits on the word.
pub fn futex_wake(word: &core::sync::atomic::AtomicU32) {
    // SAFETY: the kernel uses the address as a name only.
    let _ = unsafe { call(nr::FUTEX, &[word.as_ptr() as usize, 1, i32::MAX as usize]) };
}

/// A system call of the plan.
///
/// # Safety
///
/// As [`syscall`].
pub unsafe fn syscall_of(nr: u32, args: [usize; 6]) -> isize {
    // SAFETY: the caller's promise.
    unsafe { syscall(nr as usize, &args) }
}
