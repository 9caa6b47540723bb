//! x86-64: registers, the XSAVE area, the signal frame, code to stand on.

use image_format::arch::x86_64::{frame, XSAVE_CARRIED};
use image_format::model::{AltStack, Cpu, CpuLeaf, Registers, XsaveComponent};
use libc::user_regs_struct;
use std::arch::x86_64::{__cpuid_count, _xgetbv};

/// `syscall; ret`: where a system call is made from.
pub const SYSCALL_RET: [u8; 3] = [0x0f, 0x05, 0xc3];
/// Length of the `syscall` instruction in bytes.
pub const SYSCALL_LEN: u64 = 2;
/// `mov $15, %rax; syscall` and `mov $15, %eax; syscall`: rt_sigreturn, as C libraries have it.
pub const SIGRETURN: [&[u8]; 2] =
    [&[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05], &[0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05]];
/// `pop %rax; ret`, `pop %rdi; ret` and `pop %rsi; ret`: the tails of functions that save registers.
pub const POP_RET: [&[u8]; 3] = [&[0x58, 0xc3], &[0x5f, 0xc3], &[0x5e, 0xc3]];
/// Tails that pop rdx, and how many words they pop after it: `pop %rdx; ret`, with `pop %rbx`, with
/// `pop %rbp; pop %r12` in between.
pub const POP_RDX_RET: [(&[u8], usize); 3] =
    [(&[0x5a, 0xc3], 0), (&[0x5a, 0x5b, 0xc3], 1), (&[0x5a, 0x5d, 0x41, 0x5c, 0xc3], 2)];
/// `mov %rax, (%rdx); ret` and `mov %rax, (%rdi); ret`.
pub const STORE_RET: [&[u8]; 2] = [&[0x48, 0x89, 0x02, 0xc3], &[0x48, 0x89, 0x07, 0xc3]];
/// Bytes below the stack pointer that belong to the function that runs (the psABI's red zone).
pub const RED_ZONE: u64 = 128;
/// Code selector of 64-bit programs (__USER_CS).
const USER_CS: u64 = 0x33;
/// Stack selector (__USER_DS).
const USER_DS: u16 = 0x2b;
/// Bytes of the legacy area and the XSAVE header.
const XSAVE_HEADER_END: usize = 576;
/// Offset of XSTATE_BV in the area.
const XSTATE_BV: usize = 512;

/// The thread runs 64-bit code.
pub fn is_64_bit(regs: &user_regs_struct) -> bool {
    regs.cs == USER_CS
}

/// The registers of a thread without the selectors.
pub fn registers(r: &user_regs_struct) -> Registers {
    Registers {
        r15: r.r15,
        r14: r.r14,
        r13: r.r13,
        r12: r.r12,
        rbp: r.rbp,
        rbx: r.rbx,
        r11: r.r11,
        r10: r.r10,
        r9: r.r9,
        r8: r.r8,
        rax: r.rax,
        rcx: r.rcx,
        rdx: r.rdx,
        rsi: r.rsi,
        rdi: r.rdi,
        rip: r.rip,
        eflags: r.eflags,
        rsp: r.rsp,
        fs_base: r.fs_base,
        gs_base: r.gs_base,
    }
}

/// The arguments of the system call that the registers stand in.
pub fn arguments(r: &user_regs_struct) -> [u64; 6] {
    [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9]
}

/// Registers with which the thread makes a system call at `gadget`, returning over `stack`.
pub fn call_registers(
    base: &user_regs_struct,
    gadget: u64,
    stack: u64,
    nr: u64,
    args: [u64; 6],
) -> user_regs_struct {
    let mut r = *base;
    [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] = args;
    r.rax = nr;
    // No system call is being left: keeps the kernel from restarting one.
    r.orig_rax = u64::MAX;
    r.rip = gadget;
    r.rsp = stack;
    r
}

/// Registers with which the thread runs through a chain: from the code at `rip`, which pops the
/// first word at `stack`. `fourth` is the fourth argument of every call, which no call changes; the
/// others after it are zero.
pub fn chain_registers(
    base: &user_regs_struct,
    rip: u64,
    stack: u64,
    fourth: u64,
) -> user_regs_struct {
    let mut r = *base;
    [r.r10, r.r8, r.r9] = [fourth, 0, 0];
    r.orig_rax = u64::MAX;
    r.rip = rip;
    r.rsp = stack;
    r
}

/// The XSAVE area as an image carries it: without components that are refused while in use
/// (AMX), whose room at the end would be eight thousand bytes of nothing.
pub fn trim_xsave(area: &[u8], components: &[XsaveComponent]) -> Vec<u8> {
    let end = components
        .iter()
        .filter(|c| XSAVE_CARRIED >> c.id & 1 == 1)
        .map(|c| (c.offset + c.size) as usize)
        .fold(XSAVE_HEADER_END, usize::max);
    let mut area = area[..end.min(area.len())].to_vec();
    if area.len() >= XSAVE_HEADER_END {
        let bv = xstate_bv(&area) & XSAVE_CARRIED;
        area[XSTATE_BV..XSTATE_BV + 8].copy_from_slice(&bv.to_le_bytes());
    }
    area
}

/// Components in use that an image cannot carry, as bits. A set bit alone does not say so: an XSAVE
/// without the init optimisation (and emulated processors) sets it for state that is all zero, as
/// MPX and AMX have it when nobody uses them.
pub fn foreign_state(area: &[u8], components: &[XsaveComponent]) -> u64 {
    let foreign = xstate_bv(area) & !XSAVE_CARRIED;
    let unused = components
        .iter()
        .filter(|c| foreign.checked_shr(c.id).unwrap_or(0) & 1 == 1)
        .filter(|c| {
            let bytes = area.get(c.offset as usize..(c.offset + c.size) as usize);
            bytes.is_some_and(|b| b.iter().all(|&byte| byte == 0))
        })
        .fold(0, |bits, c| bits | 1u64.checked_shl(c.id).unwrap_or(0));
    foreign & !unused
}

/// State components in use, as bits.
pub fn xstate_bv(area: &[u8]) -> u64 {
    area.get(XSTATE_BV..XSTATE_BV + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// What rt_sigreturn needs to know besides the general registers.
#[derive(Debug)]
pub struct FrameState<'a> {
    /// Trimmed XSAVE area.
    pub xsave: &'a [u8],
    /// Components that the area has room for.
    pub xfeatures: u64,
    /// Blocked signals.
    pub sigmask: u64,
    /// Alternate stack; none leaves it as it is.
    pub altstack: Option<AltStack>,
}

/// Bytes that [`signal_frame`] takes for an XSAVE area of `xsave` bytes.
pub fn frame_len(xsave: usize) -> usize {
    // Return address, ucontext and siginfo; then the area on a 64-byte boundary and its mark.
    (8 + frame::SIZE + 128 + 64 + xsave + 4).next_multiple_of(64)
}

/// Builds the kernel's struct rt_sigframe for the address `at` (a multiple of 64 less 8 is not
/// needed: the kernel reads it at any alignment but wants the XSAVE area on 64).
/// The first eight bytes are the return address that a handler would return to.
pub fn signal_frame(at: u64, restorer: u64, r: &user_regs_struct, s: &FrameState<'_>) -> Vec<u8> {
    let mut out = vec![0u8; frame_len(s.xsave.len())];
    let fp = ((at as usize + 8 + frame::SIZE + 128).next_multiple_of(64)) - at as usize;
    let mut word = |offset: usize, value: u64| {
        out[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    };
    word(0, restorer);
    let uc = 8;
    word(uc + frame::FLAGS, 1 | 2 | 4);
    // SS_DISABLE with size 0 would switch an existing stack off; the kernel's restore_altstack
    // ignores errors, so an impossible flag word leaves it alone.
    let stack = s
        .altstack
        .as_ref()
        .map_or((0, u64::from(u32::MAX), 0), |a| (a.sp, u64::from(a.flags), a.size));
    word(uc + frame::STACK, stack.0);
    word(uc + frame::STACK + 8, stack.1);
    word(uc + frame::STACK + 16, stack.2);
    let words = [
        r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rbp, r.rbx, r.rdx,
        r.rax, r.rcx, r.rsp, r.rip, r.eflags,
    ];
    for (i, value) in words.into_iter().enumerate() {
        word(uc + frame::MCONTEXT + 8 * i, value);
    }
    word(uc + frame::SELECTORS, USER_CS | u64::from(USER_DS) << 48);
    word(uc + frame::FPSTATE, at + fp as u64);
    word(uc + frame::SIGMASK, s.sigmask);
    out[fp..fp + s.xsave.len()].copy_from_slice(s.xsave);
    let sw = fp + frame::SW_RESERVED;
    let size = s.xsave.len() as u32;
    out[sw..sw + 4].copy_from_slice(&frame::XSTATE_MAGIC1.to_le_bytes());
    out[sw + 4..sw + 8].copy_from_slice(&(size + 4).to_le_bytes());
    out[sw + 8..sw + 16].copy_from_slice(&s.xfeatures.to_le_bytes());
    out[sw + 16..sw + 20].copy_from_slice(&size.to_le_bytes());
    let end = fp + s.xsave.len();
    out[end..end + 4].copy_from_slice(&frame::XSTATE_MAGIC2.to_le_bytes());
    out
}

/// Asks the processor what programs may rely on.
pub fn cpu() -> Cpu {
    let query = |leaf, subleaf| {
        // SAFETY: every x86-64 processor has the instruction; unknown leaves return zeroes.
        // (Newer toolchains call it safe, the oldest supported one does not.)
        #[allow(unused_unsafe)]
        let r = unsafe { __cpuid_count(leaf, subleaf) };
        [r.eax, r.ebx, r.ecx, r.edx]
    };
    let leaves = image_format::arch::x86_64::LEAVES
        .iter()
        .map(|&(leaf, subleaf)| {
            let highest = query(leaf & 0x8000_0000, 0)[0];
            let regs = if leaf <= highest { query(leaf, subleaf) } else { [0; 4] };
            CpuLeaf { leaf, subleaf, regs }
        })
        .collect::<Vec<_>>();
    let osxsave = query(1, 0)[2] >> 27 & 1 == 1;
    let xcr0 = if osxsave { xcr0() } else { 3 };
    let components = (2..63).filter(|id| xcr0 >> id & 1 == 1);
    let xsave = components
        .map(|id| {
            let [size, offset, ..] = query(0xd, id);
            XsaveComponent { id, offset, size }
        })
        .collect();
    Cpu { name: name(query).as_str().into(), leaves, xcr0, xsave }
}

fn name(query: impl Fn(u32, u32) -> [u32; 4]) -> String {
    if query(0x8000_0000, 0)[0] < 0x8000_0004 {
        return "x86-64".into();
    }
    let bytes: Vec<u8> = (0x8000_0002..=0x8000_0004)
        .flat_map(|leaf| query(leaf, 0))
        .flat_map(u32::to_le_bytes)
        .take_while(|&b| b != 0)
        .collect();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

fn xcr0() -> u64 {
    #[target_feature(enable = "xsave")]
    fn read() -> u64 {
        // SAFETY: the caller established OSXSAVE, so that XGETBV exists and register 0 does.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: called only where CPUID reports OSXSAVE, which implies the xsave feature.
    unsafe { read() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_that_is_all_zero_is_not_in_use() {
        let components = [XsaveComponent { id: 3, offset: 960, size: 64 }];
        let mut area = vec![0; 1088];
        area[XSTATE_BV] = 0b1_1000;
        assert_eq!(foreign_state(&area, &components), 1 << 4, "its place is not known");
        area[1000] = 1;
        assert_eq!(foreign_state(&area, &components), 0b1_1000);
    }

    #[test]
    fn the_processor_says_something() {
        let cpu = cpu();
        assert_eq!(cpu.xcr0 & 3, 3);
        assert!(!cpu.name.0.is_empty());
        for c in &cpu.xsave {
            assert!(c.offset as usize >= XSAVE_HEADER_END, "component {}", c.id);
        }
    }

    #[test]
    fn the_area_ends_after_what_is_carried() {
        let components = [
            XsaveComponent { id: 2, offset: 576, size: 256 },
            XsaveComponent { id: 18, offset: 2816, size: 8192 },
        ];
        let mut area = vec![1u8; 11008];
        area[512..520].copy_from_slice(&0x4_0007u64.to_le_bytes());
        let area = trim_xsave(&area, &components);
        assert_eq!((area.len(), xstate_bv(&area)), (832, 7));
    }
}
