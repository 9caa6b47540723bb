//! Traces of an earlier resume in the process: the stub page and an old vdso.

use super::arch::x86_64::arguments;
use super::error::Result;
use super::mem;
use super::memory::Table;
use super::proc::maps::Area;
use super::syscalls::Verdict;
use image_format::model::{ArgPatch, Backing, Mapping, Registers, Reissue};
use image_format::stub::{
    slots_end, SlotData, StubHeader, CODE_OFFSET, CODE_ROOM, SLOTS_OFFSET, SLOT_DATA, SLOT_SIZE,
    STUB_MAGIC,
};
use libc::user_regs_struct;
use scroll::{Pread, LE};

/// Length of a `syscall` instruction.
const SYSCALL_LEN: u64 = 2;

/// The stub that the last resume left.
#[derive(Debug, Clone)]
pub(super) struct Stub {
    /// Its mapping.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// Its header.
    pub header: StubHeader,
    /// Stubs of earlier resumes that are still memory of the program, see [`Stub::kept`].
    older: Vec<Stub>,
}

/// Finds the stubs among the anonymous executable mappings; gives the youngest.
pub(super) fn find(pid: u32, table: &Table) -> Option<Stub> {
    let mut stubs: Vec<Stub> = table
        .iter()
        .map(|(a, _)| a)
        .filter(|a| a.inode == 0 && a.name.is_empty() && a.prot & 4 != 0)
        .filter_map(|a| {
            let bytes = mem::read(pid, a.start, std::mem::size_of::<StubHeader>()).ok()?;
            let header: StubHeader = bytes.pread_with(0, LE).ok()?;
            let stub = Stub { start: a.start, end: a.end, header, older: Vec::new() };
            (header.magic == STUB_MAGIC).then_some(stub)
        })
        .collect();
    stubs.sort_by_key(|stub| stub.header.generation);
    let mut stub = stubs.pop()?;
    stub.end = stub.start.saturating_add(stub.header.len).max(stub.end);
    stub.older = stubs;
    Some(stub)
}

impl Stub {
    /// A mapping that the resume left: the stub, or an old vdso.
    pub fn owns(&self, area: &Area) -> bool {
        let h = &self.header;
        (self.start..self.end).contains(&area.start)
            || (h.old_vdso != 0
                && (h.old_vdso..h.old_vdso.saturating_add(h.old_vdso_size)).contains(&area.start))
    }

    /// The part that must stay as memory of the program: a signal handler may have interrupted a
    /// call in a slot, and will return there. Its saved address can be anywhere on a stack, so
    /// every stub with slots stays in a program that has handlers (`caught`: their signals).
    pub fn kept(&self, caught: u64) -> Option<Mapping> {
        let slots = u64::from(self.header.slots);
        let end = self.start.checked_add(slots_end(slots)).filter(|&end| end <= self.end)?;
        let prot = (libc::PROT_READ | libc::PROT_EXEC) as u32;
        (slots != 0 && caught != 0).then_some(Mapping {
            start: self.start,
            end,
            prot,
            flags: 0,
            backing: Backing::Anonymous,
        })
    }

    /// The address is in a stub.
    pub fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address) || self.older.iter().any(|s| s.contains(address))
    }

    /// Whether the address lies in the code of the last moments of a resume.
    pub fn in_last_moments(&self, address: u64) -> bool {
        let code = self.start + CODE_OFFSET..self.start + CODE_OFFSET + CODE_ROOM;
        code.contains(&address) || self.older.iter().any(|s| s.in_last_moments(address))
    }

    /// Whether a thread there is about to make the call of a slot.
    pub fn begins_slot(&self, rip: u64) -> bool {
        let slot = rip.checked_sub(self.start + SLOTS_OFFSET).filter(|at| at % SLOT_SIZE == 0);
        slot.is_some_and(|at| at / SLOT_SIZE < u64::from(self.header.slots))
            || self.older.iter().any(|s| s.begins_slot(rip))
    }

    /// The slot in which a thread stands, if it stands in one.
    pub fn slot(&self, pid: u32, rip: u64) -> Result<Option<SlotData>> {
        if let Some(older) = self.older.iter().find(|s| s.contains(rip)) {
            return older.slot(pid, rip);
        }
        let Some(offset) = rip.checked_sub(self.start + SLOTS_OFFSET) else { return Ok(None) };
        let index = offset / SLOT_SIZE;
        if index >= u64::from(self.header.slots) {
            return Ok(None);
        }
        let at = self.start + SLOTS_OFFSET + index * SLOT_SIZE + SLOT_DATA;
        let bytes = mem::read(pid, at, std::mem::size_of::<SlotData>())?;
        Ok(bytes.pread_with(0, LE).ok())
    }
}

/// Translates the verdict on a thread in a slot back to the call that the program made.
pub(super) fn translate(verdict: Verdict, slot: &SlotData, r: &user_regs_struct) -> Verdict {
    let mut regs: Registers = verdict.regs.clone();
    [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = slot.args;
    regs.rip = slot.resume;
    regs.rcx = slot.resume;
    let mut reissue = verdict.reissue.unwrap_or(Reissue {
        nr: slot.nr,
        args: arguments(r),
        patches: Vec::new(),
        add: 0,
    });
    reissue.add += slot.add;
    for arg in 0..6u8 {
        // The slot goes away, and with it the timespec that an argument points to.
        let points_to_slot = slot.patched >> arg & 1 == 1;
        let named = reissue.patches.iter().any(|p| match p {
            ArgPatch::Millis { arg: a, .. } | ArgPatch::Timespec { arg: a, .. } => *a == arg,
        });
        if points_to_slot && !named {
            let [secs, nanos] = slot.timespec;
            let ns = (secs.max(0) as u64).saturating_mul(1_000_000_000) + nanos.max(0) as u64;
            reissue.patches.push(ArgPatch::Timespec { arg, ns });
        }
    }
    if reissue.patches.is_empty() && reissue.add == 0 && reissue.args == slot.args {
        regs.rip = slot.resume.wrapping_sub(SYSCALL_LEN);
        regs.rax = slot.nr;
        return Verdict { regs, reissue: None, ..verdict };
    }
    Verdict { regs, reissue: Some(reissue), ..verdict }
}

#[cfg(test)]
mod tests {
    use super::super::syscalls::{judge, Knowledge};
    use super::*;

    struct Nothing;
    impl Knowledge for Nothing {
        fn signal_due(&self) -> bool {
            false
        }
        fn timespec(&self, _: u64) -> Option<u64> {
            Some(5_000)
        }
        fn elapsed(&self, _: i64, _: &[u64; 6]) -> Option<u64> {
            Some(1_000)
        }
        fn number_before(&self, _: u64) -> Option<i64> {
            None
        }
        fn blocking_stream(&self, _: u64) -> bool {
            false
        }
    }

    #[test]
    fn a_call_in_a_slot_becomes_the_programs_again() {
        // SAFETY: the structure consists of integers, for which zero is a value.
        let mut r: user_regs_struct = unsafe { std::mem::zeroed() };
        r.orig_rax = libc::SYS_nanosleep as u64;
        r.rax = -516i64 as u64;
        r.rip = 0x5002;
        r.rdi = 0x5090;
        let slot = SlotData {
            resume: 0x1002,
            args: [0x700, 0, 0, 0, 0, 0],
            timespec: [0, 5_000],
            nr: libc::SYS_nanosleep as u64,
            add: 0,
            patched: 1,
        };
        let v = translate(judge(&r, &Nothing), &slot, &r);
        assert_eq!((v.regs.rip, v.regs.rdi), (0x1002, 0x700));
        let again = v.reissue.unwrap();
        assert_eq!(again.patches, [ArgPatch::Timespec { arg: 0, ns: 4_000 }]);
        // A call without a patch is simply repeated where the program made it.
        r.orig_rax = libc::SYS_read as u64;
        r.rax = -512i64 as u64;
        r.rdi = 3;
        let slot = SlotData { args: [3, 0, 0, 0, 0, 0], nr: 0, patched: 0, ..slot };
        let v = translate(judge(&r, &Nothing), &slot, &r);
        assert_eq!((v.regs.rip, v.regs.rax, v.reissue), (0x1000, 0, None));
    }
}
