//! Execution of the steps that any thread may run: system calls and small verbs.

use crate::credentials;
use crate::hash::hash_data;
use crate::planfile::Plan;
use crate::report::{Advice, Fault, Outcome};
use crate::say;
use crate::shared::{phase, Shared};
use crate::sys::{self, nr, Errno};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use image_format::container::HASH_BLOCK;
use image_format::plan::{arg, op, when, Expect, Step};

/// Descriptors of ours while the plan runs.
#[derive(Debug, Clone, Copy)]
pub struct Descriptors {
    /// What the resuming command had as 0, 1 and 2; -1 for closed.
    pub stdio: [i32; 3],
    /// The image.
    pub image: i32,
    /// The terminal of the resume; -1 for none.
    pub terminal: i32,
    /// First number that steps may use as scratch.
    pub scratch: i32,
}

/// What steps need around them.
#[derive(Debug)]
pub struct Steps<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Bits of [`when`] that hold.
    pub circumstances: u16,
    /// Our descriptors.
    pub fds: Descriptors,
    /// Supplementary groups of the resuming command.
    pub groups: Vec<u32>,
    /// What the supervisor watches.
    pub shared: &'a Shared,
    /// Undone when the resume fails.
    pub created: &'a crate::files::Created,
}

/// Advice for a failed system call, where the error tells more than its name.
pub fn advice(errno: Errno) -> Advice {
    match errno.0 {
        1 | 13 => Advice::MoreRights,
        2 => Advice::BringIt,
        9 => Advice::OpenIt,
        12 => Advice::FreeMemory,
        98 => Advice::FreeAddress,
        38 => Advice::NewerKernel,
        _ => Advice::DumpAgain,
    }
}

impl Steps<'_> {
    /// Whether a step runs in these circumstances.
    pub fn applies(&self, step: &Step) -> bool {
        step.when & !self.circumstances == 0
    }

    /// Executes one step of a kind that any thread may run.
    pub fn perform(&self, step: &Step) -> Outcome<()> {
        if !self.applies(step) {
            return Ok(());
        }
        match step.op {
            op::SYSCALL => {
                let args = self.arguments(step)?;
                // SAFETY: the plan, whose checksum was verified, says so: it was compiled for
                // this address space.
                let result = Errno::check(unsafe { sys::syscall_of(step.nr, args) });
                self.judge(step, result, args[0])
            }
            op::NOTE => {
                let args = self.arguments(step)?;
                say!("note: ", self.plan.text(args[0] as u32));
                Ok(())
            }
            op::WRITE_ALL => {
                let args = self.arguments(step)?;
                let bytes = self.plan.data(args[1] as u64, args[2] as u64)?;
                let result = sys::write_all(args[0] as i32, bytes).map(|()| 0);
                self.judge(step, result, 0)
            }
            op::STORE => {
                let args = self.arguments(step)?;
                self.store(args[0] as u64, args[1] as u64)
            }
            op::HASH => {
                let args = self.arguments(step)?;
                // SAFETY: the plan mapped as many bytes there, and nobody else knows them yet.
                let bytes = unsafe { core::slice::from_raw_parts(args[0] as *const u8, args[1]) };
                let hash = bytes.chunks(HASH_BLOCK).fold(0, |hash, block| hash_data(block, hash));
                self.store(args[2] as u64, hash)
            }
            op::UNDO => {
                let [a, b, c, ..] = self.arguments(step)?;
                self.created.note([step.nr as usize, a, b, c]);
                Ok(())
            }
            op::PROC_WRITE => {
                let args = self.arguments(step)?;
                let bytes = self.plan.data(args[1] as u64, args[2] as u64)?;
                // SAFETY: an address of data, which the linker ended with a zero byte; the plan
                // stays mapped.
                let path = unsafe { core::ffi::CStr::from_ptr(args[0] as *const _) };
                let result = sys::openat(sys::AT_FDCWD, path, 1 | sys::O_CLOEXEC, 0);
                let result = result.and_then(|fd| {
                    let result = sys::write_all(fd, bytes);
                    sys::close(fd);
                    result.map(|()| 0)
                });
                self.judge(step, result, 0)
            }
            op::GROUPS => {
                let args = self.arguments(step)?;
                // NGROUPS_MAX is 65536.
                let count = args[0].min(65_536);
                // SAFETY: the plan names an address of data with so many numbers.
                let list = unsafe { core::slice::from_raw_parts(args[1] as *const u8, count * 4) };
                let words =
                    list.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                let wanted: Vec<u32> = words.collect();
                let result = credentials::set_groups(&wanted, &self.groups);
                self.judge(step, result, 0)
            }
            op::CAPABILITIES => {
                let args = self.arguments(step)?;
                let result = credentials::set_capabilities(&args.map(|a| a as u64));
                self.judge(step, result, 0)
            }
            op::AFFINITY => {
                let args = self.arguments(step)?;
                let mask = self.plan.data(args[0] as u64, args[1] as u64)?;
                let result = credentials::set_affinity(mask);
                self.judge(step, result, 0)
            }
            _ => Err(Fault::new(
                "the plan in the image makes no sense",
                "step of unknown kind",
                Advice::DumpAgain,
            )),
        }
    }

    /// Weighs the result of a step by what it expects, and keeps it.
    pub fn judge(&self, step: &Step, result: Result<usize, Errno>, place: usize) -> Outcome<()> {
        let expect = step.expect;
        match result {
            Ok(value) => {
                if step.keep != 0 {
                    self.store(u64::from(step.keep), value as u64)?;
                }
                if expect == Expect::Place as u8 && value != place {
                    return Err(self.fault(step, Errno::EEXIST));
                }
                Ok(())
            }
            Err(errno) if expect == Expect::Note as u8 => {
                say!("note: not brought back: ", self.plan.text(step.object), ": ", errno);
                Ok(())
            }
            Err(_) if expect == Expect::Ignore as u8 => Ok(()),
            Err(errno) => Err(self.fault(step, errno)),
        }
    }

    /// The fault of a failed step.
    pub fn fault(&self, step: &Step, errno: Errno) -> alloc::boxed::Box<Fault> {
        Fault::sys("cannot bring back", self.plan.text(step.object), errno, advice(errno))
    }

    fn store(&self, at: u64, value: u64) -> Outcome<()> {
        self.plan.data(at, 8)?;
        let place = self.plan.address(at)?.cast::<u64>();
        // SAFETY: eight bytes of writable data (checked above).
        unsafe { place.write_unaligned(value) };
        Ok(())
    }

    /// The arguments of a step, resolved.
    pub fn arguments(&self, step: &Step) -> Outcome<[usize; 6]> {
        let mut args = [0; 6];
        for (i, out) in args.iter_mut().enumerate() {
            let value = step.args[i];
            *out = match step.kinds >> (4 * i) & 15 {
                arg::CONST => value as usize,
                arg::DATA => self.plan.address(value)? as usize,
                arg::LOAD32 => self.plan.record::<u32>(value)? as usize,
                arg::STDIO => self.fds.stdio.get(value as usize).copied().unwrap_or(-1) as usize,
                arg::TERMINAL => self.terminal() as usize,
                arg::IMAGE => self.fds.image as usize,
                arg::TID => sys::plain(nr::GETTID, &[]).unwrap_or(0),
                arg::PID => sys::plain(nr::GETPID, &[]).unwrap_or(0),
                arg::SCRATCH => self.fds.scratch as usize + value as usize,
                _ => {
                    return Err(Fault::new(
                        "the plan in the image makes no sense",
                        "argument of unknown kind",
                        Advice::DumpAgain,
                    ))
                }
            };
        }
        Ok(args)
    }

    /// The terminal; without one, the first of the resuming command's descriptors that is open.
    fn terminal(&self) -> i32 {
        let stdio = self.fds.stdio.iter().copied().find(|fd| *fd >= 0).unwrap_or(-1);
        if self.fds.terminal >= 0 {
            self.fds.terminal
        } else {
            stdio
        }
    }

    /// Says why, takes back what was made outside, and ends the process.
    pub fn fail(&self, fault: &Fault) -> ! {
        fault.say();
        self.created.undo();
        self.shared.enter(phase::FAILED);
        crate::arch::exit(125)
    }

    /// Whether all memory is copied (`--copy-all`).
    pub fn copies_all(&self) -> bool {
        self.circumstances & when::COPY_ALL != 0
    }

    /// Notes which step is being executed, for the supervisor.
    pub fn enter(&self, index: u32) {
        self.shared.step.store(index, Ordering::Relaxed);
    }
}
