//! The plan in memory: writable, because system calls write into its data, and checked at
//! every access.

use crate::report::{Advice, Fault, Outcome};
use alloc::vec::Vec;
use core::ffi::CStr;
use image_format::container::{ChunkHeader, Front, Run};
use image_format::plan::{
    CpuNeed, CpuPlan, FilePlan, NeedPlan, PlanHeader, ProcessPlan, Step, ThreadPlan, TimerPlan,
    VdsoEntry, VdsoPlan, XsavePlace, PLAN_MAGIC,
};

/// The plan. Its bytes change while system calls write into them, so that no reference into it
/// is kept across a step.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    base: *mut u8,
    len: usize,
    /// The header.
    pub header: PlanHeader,
}

// SAFETY: the memory is mapped for the life of the restorer in every thread; threads write to
// disjoint places of it only, by system calls of their own steps.
unsafe impl Sync for Plan {}
// SAFETY: as above.
unsafe impl Send for Plan {}

/// A structure that may be read from any bytes, as they lie: integers alone, without padding, in
/// this machine's order, which is the format's.
///
/// # Safety
///
/// Every pattern of bytes must be a value.
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($name:ty),*) => {$(
        // SAFETY: integers and arrays of them, laid out as C does.
        unsafe impl Plain for $name {}
    )*};
}
plain!(
    u16,
    u32,
    u64,
    Front,
    ChunkHeader,
    Run,
    PlanHeader,
    ProcessPlan,
    ThreadPlan,
    Step,
    CpuPlan,
    CpuNeed,
    XsavePlace
);
plain!(VdsoPlan, VdsoEntry, FilePlan, NeedPlan, TimerPlan);

const _: () = assert!(cfg!(target_endian = "little"));

/// Reads a structure from any place of `bytes`.
pub fn read<T: Plain>(bytes: &[u8], at: usize) -> Option<T> {
    let bytes = bytes.get(at..)?.get(..size_of::<T>())?;
    // SAFETY: as many bytes as the structure has, and any bytes are one.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

fn bad(what: &'static str) -> alloc::boxed::Box<Fault> {
    Fault::new("the plan in the image makes no sense", what, Advice::DumpAgain)
}

impl Plan {
    /// Takes `len` bytes at `base` for a plan.
    ///
    /// # Safety
    ///
    /// The memory must stay mapped, readable and writable.
    pub unsafe fn new(base: *mut u8, len: usize) -> Outcome<Self> {
        // SAFETY: the caller's promise.
        let bytes = unsafe { core::slice::from_raw_parts(base, len) };
        let header: PlanHeader = read(bytes, 0).ok_or_else(|| bad("header"))?;
        let h = &header;
        let fits = |off: u32, count: u32, size: usize| {
            (count as usize)
                .checked_mul(size)
                .and_then(|n| n.checked_add(off as usize))
                .is_some_and(|end| end <= len)
        };
        let good = h.magic == PLAN_MAGIC
            && fits(h.processes_off, h.process_count, size_of::<ProcessPlan>())
            && fits(h.threads_off, h.thread_count, size_of::<ThreadPlan>())
            && fits(h.steps_off, h.step_count, size_of::<Step>())
            && fits(h.data_off, h.data_len, 1);
        if good {
            Ok(Self { base, len, header })
        } else {
            Err(bad("header"))
        }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: mapped as `new` was promised; the borrow ends before the next step.
        unsafe { core::slice::from_raw_parts(self.base, self.len) }
    }

    fn entry<T>(&self, off: u32, count: u32, index: u32, what: &'static str) -> Outcome<T>
    where
        T: Plain,
    {
        if index >= count {
            return Err(bad(what));
        }
        let at = off as usize + index as usize * size_of::<T>();
        read(self.bytes(), at).ok_or_else(|| bad(what))
    }

    /// A process.
    pub fn process(&self, index: u32) -> Outcome<ProcessPlan> {
        self.entry(self.header.processes_off, self.header.process_count, index, "process")
    }

    /// A thread.
    pub fn thread(&self, index: u32) -> Outcome<ThreadPlan> {
        self.entry(self.header.threads_off, self.header.thread_count, index, "thread")
    }

    /// A step.
    pub fn step(&self, index: u32) -> Outcome<Step> {
        self.entry(self.header.steps_off, self.header.step_count, index, "step")
    }

    /// `len` bytes of data.
    pub fn data(&self, off: u64, len: u64) -> Outcome<&[u8]> {
        let end = off.checked_add(len).filter(|end| *end <= u64::from(self.header.data_len));
        if end.is_none() {
            return Err(bad("data offset"));
        }
        Ok(&self.bytes()[self.header.data_off as usize + off as usize..][..len as usize])
    }

    /// A structure in data.
    pub fn record<T>(&self, off: u64) -> Outcome<T>
    where
        T: Plain,
    {
        read(self.data(off, size_of::<T>() as u64)?, 0).ok_or_else(|| bad("data"))
    }

    /// Structures in data, one after another.
    pub fn records<T>(&self, off: u32, count: u32) -> Outcome<Vec<T>>
    where
        T: Plain,
    {
        (0..u64::from(count))
            .map(|i| self.record(u64::from(off) + i * size_of::<T>() as u64))
            .collect()
    }

    /// The address of data.
    pub fn address(&self, off: u64) -> Outcome<*mut u8> {
        self.data(off, 0)?;
        Ok(self.base.wrapping_add(self.header.data_off as usize + off as usize))
    }

    /// A path in data.
    pub fn path(&self, off: u64) -> Outcome<&CStr> {
        let rest = self.data(off, u64::from(self.header.data_len).saturating_sub(off))?;
        CStr::from_bytes_until_nul(rest).map_err(|_| bad("text"))
    }

    /// A text in data; empty for offset 0.
    pub fn text(&self, off: u32) -> &[u8] {
        match self.path(u64::from(off)) {
            Ok(text) if off != 0 => text.to_bytes(),
            _ => &[],
        }
    }
}
