//! The restorer as a program of its own; everything it does is in the library.
#![no_std]
#![no_main]

use restorer as _;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    restorer::arch::exit(125)
}

/// Where the kernel enters.
///
/// # Safety
///
/// Called by the kernel alone, once.
#[unsafe(naked)]
#[no_mangle]
#[link_section = ".text.start"]
pub unsafe extern "C" fn _start() -> ! {
    core::arch::naked_asm!(
        "mov edi, 125", // the resume's own failure status
        "mov eax, 231", // exit_group
        "syscall",
    )
}
