//! The library's own thread, on which callbacks are ordinary code.

use crate::sys::{self, Errno, Mask};
use crate::{block, round};
use core::ffi::{c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

/// Changes when there is something to look at.
static POKED: AtomicU32 = AtomicU32::new(0);

/// Has the thread look; async-signal-safe.
pub fn poke() {
    POKED.fetch_add(1, Ordering::Release);
    sys::wake(&POKED);
}

extern "C" fn serve(_nothing: *mut c_void) -> *mut c_void {
    let Some(block) = block::own() else { return ptr::null_mut() };
    // SAFETY: the name is a constant of less than 16 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"suspend-api".as_ptr()) };
    block.service_tid.store(sys::tid(), Ordering::Release);
    Mask::all_but(&[block.suspend_signal(), block.resume_signal()]).set();
    loop {
        let seen = POKED.load(Ordering::Acquire);
        round::conduct();
        // In the child of a callback that forked, this is its only thread.
        if block::own().is_none() {
            return ptr::null_mut();
        }
        sys::wait(&POKED, seen, None);
    }
}

/// Starts the thread.
pub fn start(open: &[c_int]) -> Result<(), Errno> {
    // SAFETY: the attribute object is made, used and destroyed here; `serve` takes no argument.
    unsafe {
        let mut attributes: libc::pthread_attr_t = core::mem::zeroed();
        let failed = libc::pthread_attr_init(&raw mut attributes);
        if failed != 0 {
            return Err(failed);
        }
        libc::pthread_attr_setdetachstate(&raw mut attributes, libc::PTHREAD_CREATE_DETACHED);
        // Until it has set its own mask it must take no signal of the program.
        let before = Mask::all_but(open).set();
        let mut thread = core::mem::zeroed();
        let failed =
            libc::pthread_create(&raw mut thread, &raw const attributes, serve, ptr::null_mut());
        before.set();
        libc::pthread_attr_destroy(&raw mut attributes);
        if failed == 0 {
            Ok(())
        } else {
            Err(failed)
        }
    }
}
