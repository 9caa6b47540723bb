//! System calls, thin; those used in the signal handler are async-signal-safe.

use core::ffi::{c_int, c_void};
use core::ptr;
use core::sync::atomic::AtomicU32;

/// An error number.
pub type Errno = c_int;

/// The calling thread's errno.
pub fn errno() -> Errno {
    // SAFETY: the C library gives the address of the calling thread's own variable.
    unsafe { *libc::__errno_location() }
}

/// Sets it, so that a handler leaves it as it was.
pub fn set_errno(value: Errno) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = value }
}

/// Waits while `word` holds `value`, at most `millis`; true when the time is over.
pub fn wait(word: &AtomicU32, value: u32, millis: Option<u32>) -> bool {
    let time = millis.map(|ms| libc::timespec {
        tv_sec: i64::from(ms / 1000),
        tv_nsec: i64::from(ms % 1000) * 1_000_000,
    });
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word lives over the call, and the kernel only reads it and the timespec.
    let result = unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, time, 0usize, 0)
    };
    result != 0 && errno() == libc::ETIMEDOUT
}

/// Wakes everyone who waits at `word`.
pub fn wake(word: &AtomicU32) {
    // SAFETY: the kernel uses the address to find those who wait.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, c_int::MAX) };
}

/// The calling thread.
pub fn tid() -> u32 {
    // SAFETY: takes nothing.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// The process.
pub fn pid() -> u32 {
    // SAFETY: takes nothing.
    unsafe { libc::getpid() as u32 }
}

/// Nanoseconds of the wall clock.
pub fn realtime_ns() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the timespec is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

/// Random bytes; of lesser quality where the kernel gives none.
pub fn random(bytes: &mut [u8; 8]) {
    // SAFETY: the buffer has this length.
    let got = unsafe {
        libc::syscall(libc::SYS_getrandom, bytes.as_mut_ptr(), bytes.len(), libc::GRND_NONBLOCK)
    };
    if got != bytes.len() as i64 {
        let mix = (realtime_ns() as u64) ^ u64::from(pid()) << 40 ^ bytes.as_ptr() as u64;
        *bytes = mix.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    }
}

/// A set of signals.
#[derive(Clone, Copy)]
pub struct Mask(libc::sigset_t);

/// Signals that an instruction raises: to block them would end the process.
const FAULTS: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP];

impl Mask {
    /// Every signal but those of faults and `open`.
    pub fn all_but(open: &[c_int]) -> Self {
        // SAFETY: a zeroed set is filled by the next call.
        let mut set = unsafe { core::mem::zeroed() };
        // SAFETY: the set is ours.
        unsafe { libc::sigfillset(&raw mut set) };
        for &signal in FAULTS.iter().chain(open) {
            // SAFETY: the set is ours; an unknown number is refused.
            unsafe { libc::sigdelset(&raw mut set, signal) };
        }
        Self(set)
    }

    /// Makes it the calling thread's; gives what was before.
    pub fn set(&self) -> Self {
        // SAFETY: both sets are ours.
        unsafe {
            let mut before = core::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, &raw mut before);
            Self(before)
        }
    }
}

/// Memory of this process alone, zero.
pub fn map_private(len: usize) -> Result<*mut c_void, Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    map(len, flags, -1)
}

/// `len` bytes of `fd` as shared memory.
pub fn map_shared(len: usize, fd: c_int) -> Result<*mut c_void, Errno> {
    map(len, libc::MAP_SHARED, fd)
}

fn map(len: usize, flags: c_int, fd: c_int) -> Result<*mut c_void, Errno> {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at a place of the kernel's choice.
    let at = unsafe { libc::mmap(ptr::null_mut(), len, prot, flags, fd, 0) };
    if at == libc::MAP_FAILED {
        Err(errno())
    } else {
        Ok(at)
    }
}
