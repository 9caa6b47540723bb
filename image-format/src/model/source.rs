//! The machine that a tree was taken from.

use crate::codec::Bytes;
use crate::record;
use alloc::vec::Vec;

record! {
    /// Where and when the dump was made.
    pub struct Source {
        /// Kernel release as `uname -r` shows it.
        pub kernel: Bytes,
        /// Host name.
        pub host: Bytes,
        /// What tells this boot of the machine from others (random/boot_id); empty if not known.
        pub boot: Bytes,
        /// Wall-clock time of the stop, nanoseconds since the epoch (CLOCK_REALTIME).
        pub realtime_ns: i64,
        /// CLOCK_MONOTONIC of the tree at the stop, in nanoseconds, as the tree sees it
        /// (its time namespace's offset included).
        pub monotonic_ns: i64,
        /// CLOCK_BOOTTIME of the tree at the stop, in nanoseconds, likewise.
        pub boottime_ns: i64,
        /// Processor of the machine.
        pub cpu: Cpu,
        /// How often the tree had been resumed before: 0 for a process that never was.
        pub generation: u32,
    }
}

record! {
    /// What the tree may rely on in the processor: everything the source offered,
    /// since programs choose their code by it once at their start.
    pub struct Cpu {
        /// Vendor and model, for messages.
        pub name: Bytes,
        /// CPUID registers as read, for [`crate::arch`] to compare.
        pub leaves: Vec<CpuLeaf>,
        /// Extended control register 0: the state components that the kernel enabled.
        pub xcr0: u64,
        /// Layout of the uncompacted XSAVE area on the source, by component.
        pub xsave: Vec<XsaveComponent>,
    }
}

record! {
    /// The answer to one CPUID query.
    pub struct CpuLeaf {
        /// EAX given.
        pub leaf: u32,
        /// ECX given.
        pub subleaf: u32,
        /// EAX, EBX, ECX, EDX returned.
        pub regs: [u32; 4],
    }
}

record! {
    /// Place of one state component in the uncompacted XSAVE area.
    pub struct XsaveComponent {
        /// Number of the component (bit of XCR0): 2 is AVX, 5 to 7 AVX-512, 9 PKRU.
        pub id: u32,
        /// Offset in bytes from the beginning of the area.
        pub offset: u32,
        /// Size in bytes.
        pub size: u32,
    }
}
