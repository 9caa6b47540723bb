//! Children: a fork hands neither the block nor the registrations on.

use crate::{block, handler, hold, registry};
use core::sync::atomic::{AtomicBool, Ordering};

static HOOKED: AtomicBool = AtomicBool::new(false);

/// In a child: starts without the library.
pub extern "C" fn child() {
    if !block::exists() {
        return;
    }
    block::forget();
    handler::forget();
    registry::forget();
    hold::forget_others();
}

/// Has every child made by fork(3) start without the library.
pub fn hook() {
    if !HOOKED.swap(true, Ordering::AcqRel) {
        // SAFETY: the function is async-signal-safe, which a child of many threads asks for.
        unsafe { libc::pthread_atfork(None, None, Some(child)) };
    }
}
