//! The restorer as a program of its own; everything it does is in the library, its entry point
//! in `restorer::arch`.
#![no_std]
#![no_main]

use restorer::arch;

/// A panic is a mistake of ours: said without the place, whose text would fill the blob.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    restorer::say!("the resume failed: internal error; report this");
    arch::exit(125)
}

/// The prebuilt `alloc` was compiled for unwinding and names these; a panic aborts, so that
/// nobody calls them.
mod unwinding {
    #[no_mangle]
    extern "C" fn rust_eh_personality() {}

    #[no_mangle]
    extern "C" fn _Unwind_Resume() -> ! {
        restorer::arch::exit(125)
    }
}
