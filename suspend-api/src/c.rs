//! The functions of `include/suspend.h`.

use crate::registry::{self, Free, Pair, Resume, Suspend};
use crate::sys::{self, Errno};
use crate::{hold, own, start};
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int, c_void, CStr};
use image_format::control::{HOLD_TO_THE_END, TEXT_LEN};

/// struct suspend_options of suspend.h.
#[repr(C)]
pub struct RawOptions {
    suspend_signal: c_int,
    resume_signal: c_int,
    flags: u32,
}

fn result(done: Result<(), Errno>) -> c_int {
    match done {
        Ok(()) => 0,
        Err(errno) => {
            sys::set_errno(errno);
            -1
        }
    }
}

/// See suspend.h.
///
/// # Safety
/// `options` is null or points to the structure.
#[no_mangle]
pub unsafe extern "C" fn suspend_init(options: *const RawOptions) -> c_int {
    // SAFETY: the caller's promise.
    let (suspend, resume, flags) = unsafe { options.as_ref() }
        .map_or((0, 0, 0), |o| (o.suspend_signal, o.resume_signal, o.flags));
    result(start::start(suspend, resume, flags))
}

/// See suspend.h.
#[no_mangle]
pub extern "C" fn suspend_register(
    suspend: Option<Suspend>,
    resume: Option<Resume>,
    context: *mut c_void,
) -> c_int {
    match registry::add(Pair { suspend, resume, context, free: None::<Free> }) {
        Ok(id) => id,
        Err(errno) => result(Err(errno)),
    }
}

/// See suspend.h.
#[no_mangle]
pub extern "C" fn suspend_unregister(id: c_int) -> c_int {
    result(registry::remove(id))
}

/// See suspend.h.
#[no_mangle]
pub extern "C" fn suspend_hold() {
    hold::enter();
}

/// See suspend.h.
///
/// # Safety
/// `reason` is null or a C string that stays until the section ends.
#[no_mangle]
pub unsafe extern "C" fn suspend_hold_for(wait_ms: c_int, reason: *const c_char) {
    hold::enter_for(u32::try_from(wait_ms).unwrap_or(HOLD_TO_THE_END - 1), reason);
}

/// See suspend.h.
#[no_mangle]
pub extern "C" fn suspend_try_hold() -> c_int {
    result(if hold::try_enter() { Ok(()) } else { Err(libc::EAGAIN) })
}

/// See suspend.h.
#[no_mangle]
pub extern "C" fn suspend_release() {
    hold::leave();
}

struct Text(UnsafeCell<[u8; TEXT_LEN]>);
// SAFETY: written by one thread at a time, see `suspend_self`.
unsafe impl Sync for Text {}
static TEXT: Text = Text(UnsafeCell::new([0; TEXT_LEN]));

/// See suspend.h.
///
/// # Safety
/// `file` is a C string. No two threads call it at once.
#[no_mangle]
pub unsafe extern "C" fn suspend_self(file: *const c_char, flags: u32) -> c_int {
    // SAFETY: the caller's promise.
    let (file, text) = unsafe { (CStr::from_ptr(file), &mut *TEXT.0.get()) };
    match own::suspend(file, flags, text) {
        Ok(own::Side::Original) => 0,
        Ok(own::Side::Resumed) => 1,
        Err(errno) => {
            if text[0] == 0 {
                let why = why(errno);
                text[..why.len()].copy_from_slice(why);
            }
            result(Err(errno))
        }
    }
}

/// What is wrong where no dumper has said it, ended by 0.
fn why(errno: Errno) -> &'static [u8] {
    match errno {
        libc::EDEADLK => b"it was called in a section or a callback\0",
        libc::EINVAL => b"suspend_init was not called, or flags are unknown\0",
        _ => b"dumper cannot be started: it is looked for in PATH, or where DUMPER says\0",
    }
}

/// See suspend.h.
#[no_mangle]
pub extern "C" fn suspend_error() -> *const c_char {
    TEXT.0.get().cast_const().cast()
}

struct Malloc;

#[global_allocator]
static MALLOC: Malloc = Malloc;

// SAFETY: the C library's allocator gives memory of the alignment asked for, as posix_memalign says.
unsafe impl GlobalAlloc for Malloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut at = core::ptr::null_mut();
        let align = layout.align().max(size_of::<usize>());
        // SAFETY: the alignment is a power of two and a multiple of a pointer's size.
        match unsafe { libc::posix_memalign(&raw mut at, align, layout.size()) } {
            0 => at.cast(),
            _ => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, _layout: Layout) {
        // SAFETY: it came from posix_memalign.
        unsafe { libc::free(at.cast()) }
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::abort() }
}
