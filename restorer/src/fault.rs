//! A fault inside the restorer is reported in one line, not by a core file of the wrong program.

use crate::arch;
use crate::say;
use crate::sys::{self, nr};
use crate::text::Piece;

const SIGNALS: [(usize, &str); 3] = [(7, "SIGBUS"), (11, "SIGSEGV"), (4, "SIGILL")];
/// SA_SIGINFO | SA_ONSTACK | SA_RESTORER | SA_NODEFER.
const FLAGS: u64 = 4 | 0x0800_0000 | 0x0400_0000 | 0x4000_0000;
const STACK: usize = 16 << 10;

#[repr(C, align(64))]
struct Stack(core::cell::UnsafeCell<[u8; STACK]>);
// SAFETY: only the kernel and the handler use it.
unsafe impl Sync for Stack {}
static HANDLER_STACK: Stack = Stack(core::cell::UnsafeCell::new([0; STACK]));

extern "C" fn handler(signal: usize, info: *const u64, _context: usize) {
    let name = SIGNALS.iter().find(|s| s.0 == signal).map_or("signal", |s| s.1);
    // SAFETY: the kernel passes a siginfo_t, whose third word is the address of the fault.
    let address = unsafe { *info.add(2) };
    say!(
        "the resume failed: ",
        name,
        " at address ",
        Piece::Hex(address),
        "; the medium may be failing, or report this"
    );
    arch::exit(125);
}

/// Installs the handlers, on a stack of their own.
pub fn install(restorer: usize) {
    let stack = [HANDLER_STACK.0.get() as usize, 0, STACK];
    // SAFETY: the stack is a static of that size; the handler only writes a line and exits.
    unsafe {
        let _ = sys::call(nr::SIGALTSTACK, &[stack.as_ptr() as usize, 0]);
        let entry = handler as *const () as u64;
        for (signal, _) in SIGNALS {
            let _ = sys::sigaction(signal, &[entry, FLAGS, restorer as u64, 0]);
        }
    }
}

/// Takes our handlers away where the program did not set its own.
pub fn remove() {
    for (signal, _) in SIGNALS {
        let mut now = [0u64; 4];
        // SAFETY: the kernel writes 32 bytes; the default action has no handler.
        unsafe {
            let _ = sys::call(nr::RT_SIGACTION, &[signal, 0, now.as_mut_ptr() as usize, 8]);
            if now[0] == handler as *const () as u64 {
                let _ = sys::sigaction(signal, &[0; 4]);
            }
        }
    }
}
