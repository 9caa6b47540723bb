//! Address spaces.

use crate::codec::Bytes;
use crate::{record, variant};
use alloc::vec::Vec;

record! {
    /// The address space of a process (mm_struct).
    pub struct Memory {
        /// Mappings in ascending order, disjoint; vdso, vvar and our own stub are not among them.
        pub mappings: Vec<Mapping>,
        /// Guard regions of madvise(MADV_GUARD_INSTALL), inside mappings, ascending.
        pub guards: Vec<AddressRange>,
        /// Boundaries that PR_SET_MM_MAP restores.
        pub layout: Layout,
        /// The auxiliary vector as /proc/PID/auxv shows it, pairs of 64-bit words.
        pub auxv: Vec<u64>,
        /// The vdso, unless the process has none.
        pub vdso: Option<Vdso>,
        /// Path of the program: what /proc/PID/exe showed before the first resume; empty where
        /// that is not known.
        pub exe: Bytes,
        /// mlockall(MCL_FUTURE) is in force: bit 0; with MCL_ONFAULT: bit 1.
        pub lock_future: u8,
    }
}

record! {
    /// A range of whole pages.
    pub struct AddressRange {
        /// First address.
        pub start: u64,
        /// First address after it.
        pub end: u64,
    }
}

record! {
    /// The fields of struct prctl_mm_map (prctl(2), PR_SET_MM_MAP), all addresses.
    pub struct Layout {
        /// First byte of the program's text.
        pub start_code: u64,
        /// End of the program's text.
        pub end_code: u64,
        /// First byte of the program's data.
        pub start_data: u64,
        /// End of the program's data.
        pub end_data: u64,
        /// Where the heap begins.
        pub start_brk: u64,
        /// The current break.
        pub brk: u64,
        /// Where the stack began.
        pub start_stack: u64,
        /// First byte of the arguments.
        pub arg_start: u64,
        /// End of the arguments.
        pub arg_end: u64,
        /// First byte of the environment.
        pub env_start: u64,
        /// End of the environment.
        pub env_end: u64,
    }
}

record! {
    /// One mapping (VMA).
    pub struct Mapping {
        /// First address.
        pub start: u64,
        /// First address after it.
        pub end: u64,
        /// PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4.
        pub prot: u32,
        /// Bits of [`vma`].
        pub flags: u32,
        /// What it was a mapping of.
        pub backing: Backing,
    }
}

/// Flags of a mapping ([`Mapping::flags`]), from VmFlags of /proc/PID/smaps (proc(5)).
pub mod vma {
    /// MAP_GROWSDOWN (gd).
    pub const GROWSDOWN: u32 = 1 << 0;
    /// MADV_HUGEPAGE (hg).
    pub const HUGEPAGE: u32 = 1 << 1;
    /// MADV_NOHUGEPAGE (nh).
    pub const NOHUGEPAGE: u32 = 1 << 2;
    /// MADV_DONTFORK (dc).
    pub const DONTFORK: u32 = 1 << 3;
    /// MADV_WIPEONFORK (wf).
    pub const WIPEONFORK: u32 = 1 << 4;
    /// Locked in memory (lo).
    pub const LOCKED: u32 = 1 << 5;
    /// Locked on fault only (lo with MLOCK_ONFAULT; lf).
    pub const LOCKONFAULT: u32 = 1 << 6;
    /// MAP_NORESERVE (nr).
    pub const NORESERVE: u32 = 1 << 7;
    /// MADV_DONTDUMP (dd).
    pub const DONTDUMP: u32 = 1 << 8;
    /// MADV_MERGEABLE (mg).
    pub const MERGEABLE: u32 = 1 << 9;
    /// MADV_SEQUENTIAL (sr).
    pub const SEQUENTIAL: u32 = 1 << 10;
    /// MADV_RANDOM (rr).
    pub const RANDOM: u32 = 1 << 11;
    /// mseal(2) (sl).
    pub const SEALED: u32 = 1 << 12;
    /// MAP_DROPPABLE (dp): comes back zero.
    pub const DROPPABLE: u32 = 1 << 13;
    /// Was MAP_SHARED through a description opened read-only: can never become writable. Of a file
    /// it comes back private.
    pub const SHARED_READONLY: u32 = 1 << 14;
}

variant! {
    /// What a mapping was a mapping of.
    pub enum Backing {
        /// Anonymous private memory.
        1 => Anonymous,
        /// A private mapping of a file; the contents travel along.
        2 => File {
            /// Path as /proc/PID/maps shows it, without " (deleted)".
            path: Bytes,
            /// Offset in the file in bytes.
            offset: u64,
            /// Pages are mapped from the image where no `--copy-all` is given,
            /// instead of being copied into anonymous memory.
            from_image: bool,
        },
        /// Private anonymous memory of hugetlb pages (MAP_HUGETLB).
        4 => Hugetlb {
            /// Bytes of a page as a power of two.
            page_shift: u32,
            /// Number under which the contents travel along; none if no page was touched.
            embedded: Option<u32>,
        },
        /// A shared mapping of memory of [`super::Tree::shared`].
        3 => Shared {
            /// Index of the memory.
            shared: u32,
            /// Offset in it in bytes.
            offset: u64,
        },
    }
}

record! {
    /// The vdso of the process and what is needed to find a new one's entries.
    pub struct Vdso {
        /// Address of the vdso's ELF header (AT_SYSINFO_EHDR).
        pub base: u64,
        /// Its size in bytes, whole pages.
        pub size: u64,
        /// First address of the vvar pages that lie before a live vdso; equal to `base`
        /// when the mapping is an old vdso kept by an earlier resume.
        pub vvar: u64,
        /// The bytes, as they are in memory.
        pub bytes: Bytes,
        /// Exported functions.
        pub symbols: Vec<VdsoSymbol>,
        /// The bytes are those of an older kernel with jumps patched in by a resume; a live
        /// vdso lies elsewhere and is not part of the model.
        pub patched: bool,
    }
}

record! {
    /// A function that the vdso exports.
    pub struct VdsoSymbol {
        /// Name in the dynamic symbol table.
        pub name: Bytes,
        /// Offset in bytes from the vdso's base.
        pub offset: u64,
        /// Size in bytes.
        pub size: u64,
    }
}
