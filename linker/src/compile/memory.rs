//! Mappings, vdso, stub, mm fields.

use super::arch::nr;
use super::builder::{Arg, Range};
use super::ProcessCompiler;
use crate::arch::x86_64::slot;
use crate::last::{way_back, Last};
use crate::layout::Stub;
use crate::LinkError;
use image_format::model::{vma, Backing, Mapping};
use image_format::plan::{op, when, Expect, VdsoEntry, VdsoPlan};
use image_format::stub::{
    slots_end, StubHeader, RETURN_OFFSET, SLOTS_OFFSET, SLOT_SIZE, STUB_MAGIC,
};
use scroll::{Pwrite, LE};

pub(super) const PROT_READ: u32 = 1;
pub(super) const PROT_WRITE: u32 = 2;
pub(super) const MAP_PRIVATE: u64 = 0x02;
const MAP_DROPPABLE: u64 = 0x08;
pub(super) const MAP_FIXED: u64 = 0x10;
pub(super) const MAP_ANONYMOUS: u64 = 0x20;
const MAP_GROWSDOWN: u64 = 0x100;
pub(super) const MAP_NORESERVE: u64 = 0x4000;

/// madvise(2) advice that a flag of a mapping stands for.
const ADVICE: [(u32, u64, &str); 8] = [
    (vma::HUGEPAGE, 14, "huge-page advice of"),
    (vma::NOHUGEPAGE, 15, "no-huge-page advice of"),
    (vma::DONTFORK, 10, "DONTFORK of"),
    (vma::WIPEONFORK, 18, "WIPEONFORK of"),
    (vma::DONTDUMP, 16, "DONTDUMP of"),
    (vma::MERGEABLE, 12, "MERGEABLE of"),
    (vma::SEQUENTIAL, 2, "SEQUENTIAL of"),
    (vma::RANDOM, 1, "RANDOM of"),
];
const MADV_GUARD_INSTALL: u64 = 102;
const MLOCK_ONFAULT: u64 = 1;
const PR_SET_MM: u64 = 35;
const PR_SET_MM_MAP: u64 = 14;

impl ProcessCompiler<'_> {
    pub(super) fn vdso(&mut self) -> Result<(), LinkError> {
        let Some(vdso) = &self.process.memory.vdso else {
            return Ok(());
        };
        let bad = LinkError::Model { pid: self.process.pid, what: "vdso" };
        if vdso.bytes.0.len() as u64 != vdso.size {
            return Err(bad);
        }
        let mut entries_off = 0;
        let mut entries_count = 0;
        for symbol in &vdso.symbols {
            let mut entry =
                VdsoEntry { offset: symbol.offset as u32, size: symbol.size as u32, name: [0; 32] };
            // A name that does not fit belongs to no function known today; its old code stays.
            let Some(name) = entry.name.get_mut(..symbol.name.0.len()) else {
                continue;
            };
            name.copy_from_slice(&symbol.name.0);
            if symbol.offset.saturating_add(symbol.size) > vdso.size {
                return Err(bad);
            }
            let at = self.b.record(entry);
            if entries_count == 0 {
                entries_off = at;
            }
            entries_count += 1;
        }
        let bytes_off = self.b.data(&vdso.bytes.0);
        let plan = self.b.record(VdsoPlan {
            base: vdso.base,
            size: vdso.size,
            vvar: vdso.vvar,
            spare: self.layout.vdso_spare,
            bytes_off,
            entries_off,
            entries_count,
            patched: u32::from(vdso.patched),
            reserved: [0; 2],
        });
        self.b.verb(op::VDSO, "vdso", [u64::from(plan), 0, 0, 0, 0, 0]);
        Ok(())
    }

    fn from_image(m: &Mapping) -> bool {
        matches!(m.backing, Backing::File { from_image: true, .. })
    }

    fn is_filled(&self, m: &Mapping) -> bool {
        self.map.filled.get(self.index).is_some_and(|set| set.contains(&m.start))
    }

    /// Protection that a mapping has until its contents are in.
    fn first_protection(&self, m: &Mapping) -> u32 {
        if self.is_filled(m) && m.prot & PROT_WRITE == 0 {
            PROT_READ | PROT_WRITE
        } else {
            m.prot
        }
    }

    pub(super) fn mappings(&mut self) -> Result<(), LinkError> {
        let mappings = &self.process.memory.mappings;
        let mut at = 0;
        while at < mappings.len() {
            let first = &mappings[at];
            if first.start >= first.end {
                return Err(LinkError::Model { pid: self.process.pid, what: "an empty mapping" });
            }
            if Self::from_image(first) {
                self.map_from_image(first);
                at += 1;
                continue;
            }
            if let Backing::Hugetlb { page_shift, embedded } = first.backing {
                self.map_hugetlb(first, page_shift, embedded);
                at += 1;
                continue;
            }
            if let Backing::Shared { shared, offset } = first.backing {
                self.map_shared(first, shared, offset)?;
                at += 1;
                continue;
            }
            // Neighbours of one kind are one mapping for the kernel; made in one call.
            let (prot, kind) = (self.first_protection(first), first.flags & KIND);
            let mut end = first.end;
            let mut next = at + 1;
            while let Some(m) = mappings.get(next) {
                let alike = m.start == end
                    && !Self::from_image(m)
                    && !matches!(m.backing, Backing::Shared { .. } | Backing::Hugetlb { .. })
                    && kind & vma::GROWSDOWN == 0
                    && self.first_protection(m) == prot
                    && m.flags & KIND == kind;
                if !alike {
                    break;
                }
                end = m.end;
                next += 1;
            }
            self.map_anonymous(first.start, end - first.start, prot, kind);
            at = next;
        }
        Ok(())
    }

    fn map_anonymous(&mut self, start: u64, len: u64, prot: u32, kind: u32) {
        let mut flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
        if kind & vma::GROWSDOWN != 0 {
            flags |= MAP_GROWSDOWN;
        }
        if kind & vma::NORESERVE != 0 {
            flags |= MAP_NORESERVE;
        }
        let object = Range { what: "memory", start, end: start + len };
        let args = [start, len, u64::from(prot), flags, u64::MAX, 0];
        self.b.syscall(&object, nr::MMAP, args, Expect::Place);
        if kind & vma::DROPPABLE != 0 {
            // Kernels before 6.11 do not know MAP_DROPPABLE; ordinary memory does no harm there.
            let flags = MAP_DROPPABLE | MAP_ANONYMOUS | MAP_FIXED;
            let args = [start, len, u64::from(prot), flags, u64::MAX, 0];
            self.b.syscall(&object, nr::MMAP, args, Expect::Ignore);
        }
    }

    fn map_from_image(&mut self, m: &Mapping) {
        let none = Vec::new();
        let runs = self.map.mapped.get(self.index).unwrap_or(&none);
        let mut at = m.start;
        let mut covered = Vec::new();
        for run in runs.iter().filter(|r| r.address >= m.start && r.address < m.end) {
            let len = run.pages * image_format::PAGE_SIZE;
            covered.push((at, run.address, run.file_offset, len));
            at = run.address + len;
        }
        for (hole, address, file_offset, len) in covered {
            self.hole(hole, address, m);
            let object = Range { what: "memory", start: address, end: address + len };
            let args = [address, len, u64::from(m.prot), MAP_PRIVATE | MAP_FIXED, file_offset, 0];
            self.b.verb(op::MAP_IMAGE, &object, args);
        }
        self.hole(at, m.end, m);
    }

    /// Pages of a file mapping that could not be read (beyond the file's end).
    fn hole(&mut self, start: u64, end: u64, m: &Mapping) {
        if start < end {
            self.map_anonymous(start, end - start, m.prot, m.flags & KIND);
        }
    }

    pub(super) fn protections(&mut self) {
        let process = self.process;
        for m in &process.memory.mappings {
            let len = m.end - m.start;
            let object = Range { what: "protection of", start: m.start, end: m.end };
            let args = [m.start, len, u64::from(m.prot), 0, 0, 0];
            if Self::from_image(m) {
                self.b.only_when(when::COPY_ALL, |b| {
                    b.syscall(&object, nr::MPROTECT, args, Expect::Success);
                });
            } else if self.first_protection(m) != m.prot {
                self.must(&object, nr::MPROTECT, args);
            }
        }
        for m in &process.memory.mappings {
            let len = m.end - m.start;
            for (flag, advice, what) in ADVICE {
                if m.flags & flag != 0 {
                    let object = Range { what, start: m.start, end: m.end };
                    self.note(&object, nr::MADVISE, [m.start, len, advice, 0, 0, 0]);
                }
            }
            if m.flags & (vma::LOCKED | vma::LOCKONFAULT) != 0 {
                let on_fault = if m.flags & vma::LOCKONFAULT != 0 { MLOCK_ONFAULT } else { 0 };
                let object = Range { what: "lock of memory", start: m.start, end: m.end };
                self.note(&object, nr::MLOCK2, [m.start, len, on_fault, 0, 0, 0]);
            }
        }
        for guard in &process.memory.guards {
            let object = Range { what: "guard pages", start: guard.start, end: guard.end };
            let args = [guard.start, guard.end - guard.start, MADV_GUARD_INSTALL, 0, 0, 0];
            self.note(&object, nr::MADVISE, args);
        }
        if process.memory.lock_future & 1 != 0 {
            // MCL_FUTURE 2, MCL_ONFAULT 4.
            let flags = 2 | if process.memory.lock_future & 2 != 0 { 4 } else { 0 };
            self.note("locking of future memory", nr::MLOCKALL, [flags, 0, 0, 0, 0, 0]);
        }
    }

    /// mseal comes last: nothing of a sealed mapping can be changed afterwards.
    pub(super) fn seals(&mut self) {
        for m in &self.process.memory.mappings {
            if m.flags & vma::SEALED != 0 {
                let object = Range { what: "seal of", start: m.start, end: m.end };
                self.note(&object, nr::MSEAL, [m.start, m.end - m.start, 0, 0, 0, 0]);
            }
        }
    }

    pub(super) fn stub(&mut self, stub: &Stub, last: &Last) -> Result<(), LinkError> {
        let bad = |_| LinkError::TooLarge { what: "the stub" };
        let mut bytes = vec![0; (SLOTS_OFFSET + stub.slots * SLOT_SIZE) as usize];
        let header = StubHeader {
            magic: STUB_MAGIC,
            version: 1,
            slots: stub.slots as u32,
            frames: stub.frames as u32,
            generation: self.tree.source.generation + 1,
            len: stub.len,
            ..StubHeader::default()
        };
        bytes.pwrite_with(header, 0, LE).map_err(bad)?;
        let waiting = self.process.threads.iter().filter(|t| t.reissue.is_some());
        for (i, thread) in waiting.enumerate() {
            let at = SLOTS_OFFSET + i as u64 * SLOT_SIZE;
            let (code, _) = slot(thread, stub.address + at).ok_or(LinkError::Model {
                pid: thread.tid,
                what: "a system call to be issued anew",
            })?;
            bytes[at as usize..at as usize + code.len()].copy_from_slice(&code);
        }
        let back = way_back();
        bytes[RETURN_OFFSET as usize..][..back.len()].copy_from_slice(&back);
        if !last.bytes.is_empty() {
            bytes.resize(slots_end(stub.slots) as usize, 0);
            bytes.extend(&last.bytes);
        }
        let off = self.b.data(&bytes);
        self.b.verb(op::STUB, "stub", [u64::from(off), bytes.len() as u64, 0, 0, 0, 0]);
        Ok(())
    }

    /// struct prctl_mm_map (include/uapi/linux/prctl.h): eleven addresses, the auxiliary vector's
    /// address and size, and exe_fd, here -1: the executable cannot be replaced while it is mapped.
    pub(super) fn mm_fields(&mut self) -> Result<(), LinkError> {
        let memory = &self.process.memory;
        let auxv_len = memory.auxv.len() as u64 * 8;
        let l = &memory.layout;
        let mut words = vec![
            l.start_code,
            l.end_code,
            l.start_data,
            l.end_data,
            l.start_brk,
            l.brk,
            l.start_stack,
            l.arg_start,
            l.arg_end,
            l.env_start,
            l.env_end,
        ];
        if auxv_len > u64::from(u16::MAX) {
            return Err(LinkError::Model { pid: self.process.pid, what: "auxiliary vector" });
        }
        let auxv = self.b.words(&memory.auxv);
        // The address of the auxiliary vector is known only when the plan lies in memory.
        words.push(0);
        words.push(auxv_len | 0xffff_ffff << 32);
        let map = self.b.words(&words);
        self.b.step(
            op::STORE,
            "auxiliary vector",
            0,
            &[Arg::value(u64::from(map) + 88), Arg::data(auxv)],
            Expect::Success,
        );
        self.b.call(
            "heap, arguments and auxiliary vector (PR_SET_MM_MAP)",
            nr::PRCTL,
            &[
                Arg::value(PR_SET_MM),
                Arg::value(PR_SET_MM_MAP),
                Arg::data(map),
                Arg::value(words.len() as u64 * 8),
                Arg::value(0),
            ],
            Expect::Success,
        );
        Ok(())
    }
}

/// Flags that a mapping is created with, rather than given afterwards.
const KIND: u32 = vma::GROWSDOWN | vma::NORESERVE | vma::DROPPABLE;
