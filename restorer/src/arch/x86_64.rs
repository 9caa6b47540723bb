//! x86-64: every instruction that Rust cannot say.

use crate::sys::Errno;
use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, _xgetbv};
use core::sync::atomic::{AtomicU64, Ordering};

/// First address that user space cannot have, with four-level page tables.
pub const TASK_SIZE: u64 = 0x7fff_ffff_f000;

/// One system call; the result is the kernel's, negative for an error.
///
/// # Safety
///
/// The arguments must be right for the call `nr`: whatever memory it reads or writes, and
/// whatever it does to the address space, must be fit for the rest of the program.
#[inline(always)]
#[allow(clippy::inline_always, reason = "one instruction")]
pub unsafe fn syscall<const N: usize>(nr: usize, args: &[usize; N]) -> isize {
    // Registers of arguments that a call has not are left as they are: to zero them would take
    // 1.7 KiB of the blob.
    macro_rules! with {
        ($($register:tt $index:tt),*) => {{
            let result: isize;
            // SAFETY: the instruction changes rax, rcx and r11 only; what the call does beyond is
            // the caller's promise.
            unsafe {
                asm!("syscall", inlateout("rax") nr as isize => result,
                    $(in($register) args[$index],)*
                    lateout("rcx") _, lateout("r11") _, options(nostack));
            }
            result
        }};
    }
    match N {
        0 => with!(),
        1 => with!("rdi" 0),
        2 => with!("rdi" 0, "rsi" 1),
        3 => with!("rdi" 0, "rsi" 1, "rdx" 2),
        4 => with!("rdi" 0, "rsi" 1, "rdx" 2, "r10" 3),
        5 => with!("rdi" 0, "rsi" 1, "rdx" 2, "r10" 3, "r8" 4),
        _ => with!("rdi" 0, "rsi" 1, "rdx" 2, "r10" 3, "r8" 4, "r9" 5),
    }
}

/// Ends the process.
pub fn exit(status: i32) -> ! {
    // SAFETY: exit_group takes one integer and does not return; no memory is involved.
    unsafe {
        asm!("syscall", in("rax") 231, in("rdi") status, options(noreturn));
    }
}

/// Ends the calling thread alone.
pub fn exit_thread() -> ! {
    // SAFETY: exit takes one integer and does not return; no memory is involved.
    unsafe {
        asm!("syscall", in("rax") 60, in("rdi") 0, options(noreturn));
    }
}

/// Starts a thread by clone3 with `args` (struct `clone_args`, its stack set); it runs
/// `entry(argument)` and must not return from it.
///
/// # Safety
///
/// The stack that `args` names must be the thread's alone, and everything that `entry` uses
/// must outlive it.
pub unsafe fn start_thread(
    args: &[u64; 11],
    entry: extern "C" fn(usize) -> !,
    argument: usize,
) -> Result<u32, Errno> {
    let result: isize;
    // SAFETY: the parent comes back with rax, rcx, r11 changed; the child goes on with a stack of
    // its own, calls `entry`, and never reaches what follows.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",  // the end of the chain of frames
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") 435isize => result,
            in("rdi") args.as_ptr(), in("rsi") core::mem::size_of_val(args),
            in("r12") argument, in("r13") entry,
            lateout("rcx") _, lateout("r11") _);
    }
    Errno::check(result).map(|tid| tid as u32)
}

/// What the last moments need.
#[derive(Debug, Clone, Copy)]
pub struct Jump {
    /// Address of [`image_format::stub::StubControl`].
    pub control: usize,
    /// Where rsp stands for `rt_sigreturn`: at the ucontext.
    pub frame: usize,
    /// What the leader unmaps: address.
    pub window_base: usize,
    /// Its length in bytes.
    pub window_len: usize,
    /// Address of the stub.
    pub stub: usize,
    /// Its length in bytes.
    pub stub_len: usize,
    /// Address of the thread's last calls.
    pub last: usize,
    /// The leader stops the process with SIGSTOP before anything of the program runs.
    pub stop: bool,
}

// The last moments of every thread. Nothing but registers is used, because the stacks go with
// the restorer's memory: rbx the control words (others that are missing, go, number of others,
// others that have gone), rsp the frame, r13 and r14 what is to be unmapped, r15 and rbp the
// stub, r12 whether to stop, r8 the last calls.
core::arch::global_asm!(
    ".pushsection .rodata.resume_stub, \"a\"",
    ".globl resume_stub_begin",
    ".hidden resume_stub_begin",
    "resume_stub_begin:",
    // Threads but the leader: say that we are here, wait for `go`, return into the program.
    "lock dec dword ptr [rbx]",
    "jnz 2f",
    "mov eax, 202", // futex
    "mov rdi, rbx",
    "mov esi, 129", // FUTEX_WAKE | FUTEX_PRIVATE_FLAG
    "mov edx, 1",
    "syscall",
    "2:",
    "cmp dword ptr [rbx + 4], 0",
    "jne 3f",
    "mov eax, 202",
    "lea rdi, [rbx + 4]",
    "mov esi, 128", // FUTEX_WAIT | FUTEX_PRIVATE_FLAG, while it is 0
    "xor edx, edx",
    "xor r10d, r10d",
    "syscall",
    "jmp 2b",
    "3:",
    "lock inc dword ptr [rbx + 12]",
    "8:", // one call after another, of which rt_sigreturn does not come back
    "mov rax, [r8]",
    "mov rdi, [r8 + 8]",
    "mov rsi, [r8 + 16]",
    "mov rdx, [r8 + 24]",
    "add r8, 32",
    "syscall",
    "test eax, eax",
    "jz 8b",
    "ud2",
    ".globl resume_stub_leader",
    ".hidden resume_stub_leader",
    "resume_stub_leader:",
    "mov edx, dword ptr [rbx]",
    "test edx, edx",
    "jz 4f",
    "mov eax, 202",
    "mov rdi, rbx",
    "mov esi, 128", // FUTEX_WAIT while threads are missing
    "xor r10d, r10d",
    "syscall",
    "jmp resume_stub_leader",
    "4:",
    "mov eax, 11", // munmap: the restorer goes
    "mov rdi, r13",
    "mov rsi, r14",
    "syscall",
    "test r12d, r12d",
    "jz 5f",
    "mov eax, 39", // getpid
    "syscall",
    "mov edi, eax",
    "mov esi, 19", // SIGSTOP
    "mov eax, 62", // kill
    "syscall",
    "5:",
    "mov dword ptr [rbx + 4], 1",
    "cmp dword ptr [rbx + 8], 0",
    "je 7f",
    "mov eax, 202",
    "lea rdi, [rbx + 4]",
    "mov esi, 129",
    "mov edx, 0x7fffffff",
    "syscall",
    // The others go first: they were asleep in calls that the leader, running on, may be about
    // to interrupt.
    "6:",
    "mov eax, dword ptr [rbx + 12]",
    "cmp eax, dword ptr [rbx + 8]",
    "je 7f",
    "mov eax, 24", // sched_yield
    "syscall",
    "jmp 6b",
    "7:",
    "mov eax, 10", // mprotect: the stub is read and executed from now on
    "mov rdi, r15",
    "mov rsi, rbp",
    "mov edx, 5",
    "syscall",
    "jmp 8b",
    ".globl resume_stub_end",
    ".hidden resume_stub_end",
    "resume_stub_end:",
    ".popsection",
);

extern "C" {
    static resume_stub_begin: u8;
    static resume_stub_leader: u8;
    static resume_stub_end: u8;
}

/// The code of the last moments, and the offset in bytes at which the leader enters it.
pub fn stub_code() -> (&'static [u8], usize) {
    let begin = &raw const resume_stub_begin as usize;
    let leader = &raw const resume_stub_leader as usize;
    let end = &raw const resume_stub_end as usize;
    // SAFETY: the three labels lie in this order in one read-only section of the program.
    let code = unsafe { core::slice::from_raw_parts(begin as *const u8, end - begin) };
    (code, leader - begin)
}

/// Enters the stub at `entry` with everything in registers.
///
/// # Safety
///
/// The stub must lie at `jump.stub` with its code in place and executable, the frame of this
/// thread at `jump.frame`; nothing of the caller is run again.
pub unsafe fn enter_stub(entry: usize, jump: &Jump) -> ! {
    // SAFETY: never returns; rbx and rbp, which asm! reserves, are loaded by hand as the last
    // thing before the jump.
    unsafe {
        asm!(
            "mov rsp, rcx",
            "mov rbx, rdi",
            "mov rbp, rsi",
            "jmp rax",
            in("rax") entry, in("rcx") jump.frame, in("rdi") jump.control,
            in("rsi") jump.stub_len, in("r12") usize::from(jump.stop),
            in("r8") jump.last, in("r13") jump.window_base, in("r14") jump.window_len, in("r15") jump.stub,
            options(noreturn));
    }
}

/// CPUID: EAX, EBX, ECX, EDX; zeroes for a leaf that the processor does not have.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    if leaf > answer(leaf & 0x8000_0000, 0)[0] {
        return [0; 4];
    }
    answer(leaf, subleaf)
}

/// One answer of the processor that is kept: a hypervisor takes two microseconds for each.
struct Answer {
    /// 1 + leaf and subleaf; 0 for an empty place.
    question: AtomicU64,
    registers: [AtomicU64; 2],
}

static ANSWERS: [Answer; 16] = [const {
    Answer { question: AtomicU64::new(0), registers: [AtomicU64::new(0), AtomicU64::new(0)] }
}; 16];

fn answer(leaf: u32, subleaf: u32) -> [u32; 4] {
    const BEING_WRITTEN: u64 = u64::MAX;
    let question = 1 + (u64::from(leaf) << 32 | u64::from(subleaf));
    let mut free = None;
    for place in &ANSWERS {
        match place.question.load(Ordering::Acquire) {
            found if found == question => {
                let [low, high] = [0, 1].map(|i| place.registers[i].load(Ordering::Relaxed));
                return [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32];
            }
            0 => {
                free = Some(place);
                break;
            }
            _ => {}
        }
    }
    // CPUID exists on every x86-64 processor.
    let r = __cpuid_count(leaf, subleaf);
    let order = Ordering::Relaxed;
    let claim = |p: &&Answer| p.question.compare_exchange(0, BEING_WRITTEN, order, order).is_ok();
    if let Some(place) = free.filter(claim) {
        place.registers[0].store(u64::from(r.eax) | u64::from(r.ebx) << 32, order);
        place.registers[1].store(u64::from(r.ecx) | u64::from(r.edx) << 32, order);
        place.question.store(question, Ordering::Release);
    }
    [r.eax, r.ebx, r.ecx, r.edx]
}

/// Extended control register 0; `x87 | SSE` where XSAVE is not enabled.
pub fn xcr0() -> u64 {
    if cpuid(1, 0)[2] >> 27 & 1 == 0 {
        return 3;
    }
    // SAFETY: OSXSAVE was just seen, so that the instruction exists in user mode.
    unsafe { xgetbv() }
}

/// # Safety
///
/// OSXSAVE must be set.
#[target_feature(enable = "xsave")]
unsafe fn xgetbv() -> u64 {
    // SAFETY: register 0 exists wherever the instruction does.
    unsafe { _xgetbv(0) }
}

/// The protection-key rights of this thread, where the kernel enabled them.
pub fn pkru() -> Option<u32> {
    if cpuid(7, 0)[2] >> 4 & 1 == 0 {
        return None;
    }
    let value: u32;
    // SAFETY: OSPKE was just seen; RDPKRU wants ecx zero and writes eax and edx.
    unsafe {
        asm!("rdpkru", in("ecx") 0, out("eax") value, out("edx") _, options(nomem, nostack));
    }
    Some(value)
}

/// Entry point and the memory functions that the compiler calls by name.
#[cfg(feature = "freestanding")]
mod freestanding {
    use core::arch::{asm, naked_asm};

    const STACK: usize = 64 << 10;

    #[repr(C, align(64))]
    struct Stack(core::cell::UnsafeCell<[u8; STACK]>);
    // SAFETY: only the processor writes there, through rsp of the first thread.
    unsafe impl Sync for Stack {}
    static FIRST_STACK: Stack = Stack(core::cell::UnsafeCell::new([0; STACK]));

    /// Where the kernel enters. The kernel's stack lies where the program's may have to go, so
    /// that ours is taken at once; the old one stays readable for the arguments.
    ///
    /// # Safety
    ///
    /// Called by the kernel alone, once.
    #[unsafe(naked)]
    #[no_mangle]
    #[link_section = ".text.start"]
    pub unsafe extern "C" fn _start() -> ! {
        naked_asm!(
            "mov rdi, rsp",
            "lea rsp, [rip + {stack} + {size}]",
            "xor ebp, ebp",
            "call {main}",
            "ud2",
            stack = sym FIRST_STACK,
            size = const STACK,
            main = sym crate::start::start,
        )
    }

    /// # Safety
    ///
    /// As the C function of this name.
    #[no_mangle]
    pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
        // SAFETY: the caller's promise; the direction flag is clear in every Rust function.
        unsafe {
            asm!("rep movsb", inout("rcx") n => _, inout("rdi") to => _, inout("rsi") from => _,
                options(nostack, preserves_flags));
        }
        to
    }

    /// # Safety
    ///
    /// As the C function of this name.
    #[no_mangle]
    pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
        if (to as usize).wrapping_sub(from as usize) >= n {
            // SAFETY: the caller's promise; forward is right when the target is not ahead.
            unsafe {
                asm!("rep movsb", inout("rcx") n => _, inout("rdi") to => _,
                    inout("rsi") from => _, options(nostack, preserves_flags));
            }
        } else {
            // SAFETY: the caller's promise; n is at least 1 here, and the flag is cleared again.
            unsafe {
                asm!("std", "rep movsb", "cld", inout("rcx") n => _,
                    inout("rdi") to.wrapping_add(n - 1) => _,
                    inout("rsi") from.wrapping_add(n - 1) => _, options(nostack));
            }
        }
        to
    }

    /// # Safety
    ///
    /// As the C function of this name.
    #[no_mangle]
    pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, n: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe {
            asm!("rep stosb", inout("rcx") n => _, inout("rdi") to => _, in("al") byte as u8,
                options(nostack, preserves_flags));
        }
        to
    }

    /// # Safety
    ///
    /// As the C function of this name.
    #[no_mangle]
    pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
        for i in 0..n {
            // SAFETY: the caller's promise.
            let order = unsafe { i32::from(*a.add(i)) - i32::from(*b.add(i)) };
            if order != 0 {
                return order;
            }
        }
        0
    }

    /// # Safety
    ///
    /// As the C function of this name.
    #[no_mangle]
    pub unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
        // SAFETY: the caller's promise.
        unsafe { memcmp(a, b, n) }
    }

    /// # Safety
    ///
    /// As the C function of this name.
    #[no_mangle]
    pub unsafe extern "C" fn strlen(s: *const u8) -> usize {
        let mut n = 0;
        // SAFETY: the caller's promise.
        while unsafe { *s.add(n) } != 0 {
            // SAFETY: no instruction; keeps the compiler from seeing strlen in this loop.
            unsafe { asm!("", options(nomem, nostack, preserves_flags)) };
            n += 1;
        }
        n
    }

    /// Fault handlers return into nothing; the kernel wants an address all the same.
    ///
    /// # Safety
    ///
    /// Reached by the return of a signal handler alone.
    #[unsafe(naked)]
    pub unsafe extern "C" fn sigreturn() {
        naked_asm!("mov eax, 15", "syscall")
    }
}

#[cfg(feature = "freestanding")]
pub use freestanding::{_start, sigreturn};
