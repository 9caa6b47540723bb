//! x86-64: signal frame, XSAVE area, CPUID needs.

use crate::model::{Cpu, CpuLeaf};

/// ELF machine number.
pub const MACHINE: u32 = 62;

/// CPUID queries that describe what a program may rely on: leaf and subleaf.
pub const LEAVES: [(u32, u32); 7] =
    [(0x1, 0), (0x7, 0), (0x7, 1), (0xd, 1), (0x14, 0), (0x19, 0), (0x8000_0001, 0)];

/// XSAVE components that can be carried: x87, SSE, AVX, AVX-512 (three), PKRU.
pub const XSAVE_CARRIED: u64 = 0b10_1110_0111;

/// The kernel's struct ucontext inside struct rt_sigframe (arch/x86/include/uapi/asm/sigcontext.h
/// and asm-generic/ucontext.h), offsets in bytes from its beginning.
pub mod frame {
    /// uc_flags: UC_FP_XSTATE 1, UC_SIGCONTEXT_SS 2, UC_STRICT_RESTORE_SS 4.
    pub const FLAGS: usize = 0;
    /// uc_link.
    pub const LINK: usize = 8;
    /// uc_stack: ss_sp, ss_flags (int), ss_size.
    pub const STACK: usize = 16;
    /// uc_mcontext: r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags, selectors.
    pub const MCONTEXT: usize = 40;
    /// r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags: words from MCONTEXT on.
    pub const WORDS: usize = 18;
    /// cs, gs, fs, ss: four 16-bit selectors.
    pub const SELECTORS: usize = MCONTEXT + 144;
    /// Pointer to the floating-point state.
    pub const FPSTATE: usize = MCONTEXT + 184;
    /// uc_sigmask: eight bytes.
    pub const SIGMASK: usize = MCONTEXT + 256;
    /// Bytes of struct ucontext.
    pub const SIZE: usize = SIGMASK + 8;

    /// Offset in the legacy area of struct _fpx_sw_bytes.
    pub const SW_RESERVED: usize = 464;
    /// FP_XSTATE_MAGIC1.
    pub const XSTATE_MAGIC1: u32 = 0x4650_5853;
    /// FP_XSTATE_MAGIC2, after the area.
    pub const XSTATE_MAGIC2: u32 = 0x4650_5845;
}

/// A feature bit and the name that /proc/cpuinfo gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// CPUID leaf.
    pub leaf: u32,
    /// Subleaf.
    pub subleaf: u32,
    /// Register: 0 EAX to 3 EDX.
    pub reg: u8,
    /// Bit in it.
    pub bit: u8,
    /// Name.
    pub name: &'static str,
}

macro_rules! features {
    ($($leaf:literal $sub:literal $reg:literal: $($bit:literal $name:literal),*;)*) => {
        /// Features that user programs choose code by. Bits that only a kernel or a hypervisor
        /// cares about (vmx, monitor, x2apic, ...) are left out on purpose: refusing for them
        /// would be false.
        pub const FEATURES: &[Feature] = &[
            $($(Feature { leaf: $leaf, subleaf: $sub, reg: $reg, bit: $bit, name: $name },)*)*
        ];
    };
}

features! {
    0x1 0 2: 0 "sse3", 1 "pclmulqdq", 9 "ssse3", 12 "fma", 13 "cx16", 19 "sse4_1", 20 "sse4_2",
        22 "movbe", 23 "popcnt", 25 "aes", 26 "xsave", 28 "avx", 29 "f16c", 30 "rdrand";
    0x1 0 3: 0 "fpu", 4 "tsc", 8 "cx8", 15 "cmov", 19 "clflush", 23 "mmx", 24 "fxsr", 25 "sse",
        26 "sse2";
    0x7 0 1: 0 "fsgsbase", 3 "bmi1", 5 "avx2", 8 "bmi2", 9 "erms", 16 "avx512f", 17 "avx512dq",
        18 "rdseed", 19 "adx", 21 "avx512ifma", 23 "clflushopt", 24 "clwb", 28 "avx512cd",
        29 "sha_ni", 30 "avx512bw", 31 "avx512vl", 11 "rtm";
    0x7 0 2: 1 "avx512vbmi", 4 "ospke", 5 "waitpkg", 6 "avx512_vbmi2", 8 "gfni", 9 "vaes",
        10 "vpclmulqdq", 11 "avx512_vnni", 12 "avx512_bitalg", 14 "avx512_vpopcntdq", 22 "rdpid",
        25 "cldemote", 27 "movdiri", 28 "movdir64b";
    0x7 0 3: 4 "fsrm", 8 "avx512_vp2intersect", 14 "serialize", 23 "avx512_fp16";
    0x7 1 0: 0 "sha512", 4 "avx_vnni", 5 "avx512_bf16", 23 "avx_ifma";
    0xd 1 0: 0 "xsaveopt", 1 "xsavec", 2 "xgetbv1";
    0x80000001 0 2: 0 "lahf_lm", 5 "abm", 6 "sse4a", 8 "3dnowprefetch", 11 "xop", 16 "fma4",
        21 "tbm";
    0x80000001 0 3: 27 "rdtscp";
}

/// Features whose absence cannot make a program fail: hints for speed, instructions that older
/// processors execute as no-operations, and protection keys, which no program in an image holds:
/// one with memory under a key is not dumped.
pub const HARMLESS: &[&str] = &["erms", "fsrm", "3dnowprefetch", "cldemote", "ospke"];

/// Features that are needed only where their instructions are found: processors of one maker have
/// them, and hardly any program uses them. (No library in common use chooses code by them.)
pub const RARE: &[&str] = &["sse4a"];

/// Whether the processor has any of [`RARE`].
pub fn is_rare(source: &Cpu) -> bool {
    needed(source).any(|feature| RARE.contains(&feature.name))
}

/// XSAVE component of the protection-key rights.
pub const PKRU: u32 = 9;

fn bit(leaves: &[CpuLeaf], feature: &Feature) -> bool {
    leaves
        .iter()
        .find(|l| l.leaf == feature.leaf && l.subleaf == feature.subleaf)
        .is_some_and(|l| l.regs[feature.reg as usize] >> feature.bit & 1 == 1)
}

/// Features that `source` offered, harmless ones left out: what a target must offer, too.
pub fn needed(source: &Cpu) -> impl Iterator<Item = &'static Feature> + '_ {
    FEATURES.iter().filter(|f| !HARMLESS.contains(&f.name)).filter(|f| bit(&source.leaves, f))
}

/// State components that a target must enable in XCR0, as bits; the rights of protection keys are
/// left out, like the keys.
pub fn needed_state(source: &Cpu) -> u64 {
    source.xcr0 & XSAVE_CARRIED & !(1 << PKRU)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn cpu(ecx: u32, xcr0: u64) -> Cpu {
        let leaves = vec![CpuLeaf { leaf: 7, subleaf: 0, regs: [0, 1 << 5, ecx, 0] }];
        Cpu { name: "".into(), leaves, xcr0, xsave: vec![] }
    }

    #[test]
    fn protection_keys_are_no_need() {
        let source = cpu(1 << 4 | 1 << 8, 0x207);
        let names: vec::Vec<_> = needed(&source).map(|feature| feature.name).collect();
        assert_eq!(names, ["avx2", "gfni"]);
        assert_eq!(needed_state(&source), 7);
    }
}
