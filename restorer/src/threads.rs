//! Threads: started, made what they were, and sent back into the program.

use crate::arch::{self, Jump};
use crate::planfile::Plan;
use crate::report::{Advice, Fault, Outcome};
use crate::steps::Steps;
use crate::sys::{self, clone, mm, nr, Errno};
use crate::text;
use crate::window::Window;
use crate::xsave::{self, Target, XsaveError};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use image_format::arch::x86_64::frame;
use image_format::plan::{when, ProcessPlan, ThreadPlan, XsavePlace};
use image_format::stub::{StubHeader, CODE_OFFSET, CODE_ROOM, CONTROL_OFFSET, FRAME_STRIDE};
use scroll::{Pwrite, LE};

/// From a frame's beginning to its struct ucontext: the return address comes before.
const UCONTEXT: usize = 8;
/// From a frame's beginning to its floating-point state: after ucontext and siginfo, aligned
/// as XRSTOR wants it.
const FPSTATE: usize = 448;
/// The control words lie at the end of the leader's frame: its page is writable to the last.
const CONTROL: u64 = CONTROL_OFFSET;
const STACK: u64 = 32 << 10;
/// Room for a [`Start`] at the end of a stack.
const START: u64 = 64;
const UC_FLAGS: u64 = 7;
const USER_CS: u64 = 0x33;
const USER_SS: u64 = 0x2b;
const ARCH_SET_GS: usize = 0x1001;
const ARCH_SET_FS: usize = 0x1002;
const PROCESS_VM_READV: usize = 310;
const PROCESS_VM_WRITEV: usize = 311;
/// How long a tid may stay taken by a worker thread that has just ended, in tries.
const TRIES: u32 = 20_000;

const _: () = assert!(size_of::<Start<'_>>() as u64 <= START);
const _: () = assert!(UCONTEXT + frame::SIZE + 128 <= FPSTATE && FPSTATE.is_multiple_of(64));

/// Everything about the threads of one process.
#[derive(Debug)]
pub struct Threads<'a> {
    /// The steps' surroundings.
    pub steps: &'a Steps<'a>,
    /// Our hole.
    pub window: &'a Window,
    /// The process.
    pub process: ProcessPlan,
    /// XSAVE layout of the source.
    pub layout: &'a [XsavePlace],
    /// XSAVE layout here.
    pub target: Target,
    /// Address of the stacks, once they are mapped.
    pub stacks: AtomicU64,
}

/// What a new thread is told.
#[derive(Debug)]
struct Start<'a> {
    threads: *const Threads<'a>,
    index: u32,
}

fn words<'a>(stub: &StubPlace) -> (&'a AtomicU32, &'a AtomicU32) {
    // SAFETY: the stub is mapped and these words of it are used as atomics only.
    unsafe { (&*(stub.control as *const AtomicU32), &*((stub.control + 4) as *const AtomicU32)) }
}

#[derive(Debug, Clone, Copy)]
struct StubPlace {
    control: u64,
}

impl<'a> Threads<'a> {
    fn plan(&self) -> &Plan {
        self.steps.plan
    }

    fn place(&self) -> Outcome<StubPlace> {
        let leader = self.plan().thread(self.process.first_thread)?;
        self.frame_is_inside(&leader)?;
        Ok(StubPlace { control: leader.frame_address + CONTROL })
    }

    fn frame_is_inside(&self, thread: &ThreadPlan) -> Outcome<()> {
        let start = self.process.stub_address;
        let end = start.saturating_add(self.process.stub_len);
        if thread.frame_address >= start && thread.frame_address.saturating_add(FRAME_STRIDE) <= end
        {
            return Ok(());
        }
        Err(Fault::new("the plan in the image makes no sense", "frame", Advice::DumpAgain))
    }

    /// Maps the stub, fills it, and makes its code executable; the frames stay writable.
    pub fn stub(&self, bytes: &[u8], kept: &crate::vdso::Kept) -> Outcome<()> {
        let (at, len) = (self.process.stub_address, self.process.stub_len);
        let error = |e| Fault::sys("cannot map the stub", "", e, Advice::Report);
        let leader = self.plan().thread(self.process.first_thread)?;
        self.frame_is_inside(&leader)?;
        let frames = (leader.frame_address - at) as usize;
        let (code, _) = arch::stub_code();
        if bytes.len() > frames
            || code.len() as u64 > CODE_ROOM
            || bytes.len() < size_of::<StubHeader>()
        {
            return Err(Fault::new("the stub has no room for its code", "", Advice::Report));
        }
        // Every page of it will be written, and a fault for each costs more.
        let flags = mm::PRIVATE | mm::ANONYMOUS | mm::FIXED_NOREPLACE | mm::POPULATE;
        // SAFETY: a new mapping in a place that is free in the program.
        let memory =
            unsafe { sys::mmap(at, len, mm::READ | mm::WRITE, flags, -1, 0) }.map_err(error)?;
        // SAFETY: just mapped with this length.
        let stub = unsafe { core::slice::from_raw_parts_mut(memory, len as usize) };
        stub[..bytes.len()].copy_from_slice(bytes);
        stub[CODE_OFFSET as usize..][..code.len()].copy_from_slice(code);
        if kept.base != 0 {
            for (offset, value) in [
                (core::mem::offset_of!(StubHeader, old_vdso), kept.base),
                (core::mem::offset_of!(StubHeader, old_vdso_size), kept.size),
                (core::mem::offset_of!(StubHeader, live_vvar), kept.live_vvar),
            ] {
                // In range: the header is longer.
                let _ = stub.pwrite_with(value, offset, LE);
            }
        }
        let (missing, _) = words(&self.place()?);
        let others = self.process.thread_count.saturating_sub(1);
        missing.store(others, Ordering::SeqCst);
        let control = (self.place()?.control - at) as usize;
        stub[control + 8..control + 12].copy_from_slice(&others.to_le_bytes());
        // SAFETY: changes the protection of the pages of the stub before its frames.
        unsafe { sys::call(nr::MPROTECT, &[at as usize, frames, mm::READ | mm::EXEC]) }
            .map_err(error)?;
        Ok(())
    }

    /// The stack of a thread other than the leader; all are one mapping, made for the first.
    fn stack(&self, index: u32) -> Outcome<*mut u8> {
        let first = self.process.first_thread;
        let others = u64::from(self.process.thread_count.saturating_sub(1));
        let place = u64::from(index.wrapping_sub(first)).wrapping_sub(1);
        if place >= others {
            return self.window.memory(STACK, "a thread's stack");
        }
        let mut stacks = self.stacks.load(Ordering::Relaxed);
        if stacks == 0 {
            stacks = self.window.memory(others * STACK, "the threads' stacks")? as u64;
            self.stacks.store(stacks, Ordering::Relaxed);
        }
        Ok((stacks + place * STACK) as *mut u8)
    }

    /// Starts the thread with plan index `index`; gives its old and its new tid.
    pub fn start(&self, index: u32) -> Outcome<(u32, u32)> {
        let thread = self.plan().thread(index)?;
        self.frame_is_inside(&thread)?;
        let memory = self.stack(index)?;
        let room = STACK - START;
        let start = memory.wrapping_add(room as usize).cast::<Start<'a>>();
        // SAFETY: the highest bytes of the thread's own stack, aligned; what it uses begins below
        // them, in the same page.
        unsafe { start.write(Start { threads: &raw const *self, index }) };
        let flags = clone::VM | clone::FS | clone::FILES | clone::SIGHAND | clone::THREAD;
        let tid = [thread.tid];
        let same = self.steps.circumstances & when::OLD_PID != 0;
        let (set, count) = if same { (tid.as_ptr() as u64, 1) } else { (0, 0) };
        let args = [flags | clone::SYSVSEM, 0, 0, 0, 0, memory as u64, room, 0, set, count, 0];
        let mut tries = 0;
        let new = loop {
            // SAFETY: the stack is the thread's alone; `self` lives until the leader has waited
            // for every thread to arrive in the stub.
            match unsafe { arch::start_thread(&args, thread_main, start as usize) } {
                Err(Errno::EEXIST) if tries < TRIES => {
                    tries += 1;
                    let _ = sys::plain(nr::SCHED_YIELD, &[]);
                }
                result => break result,
            }
        };
        let new = new.map_err(|e| {
            let advice = match e {
                Errno::EEXIST => Advice::EndOther,
                Errno::EAGAIN => Advice::RaiseProcesses,
                _ => Advice::NewPid,
            };
            Fault::sys("cannot start", text!("thread ", thread.tid), e, advice)
        })?;
        Ok((thread.tid, new))
    }

    /// Runs the steps of a thread in itself and builds its frame; afterwards it can enter the stub.
    fn prepare(&self, index: u32) -> Outcome<Jump> {
        let thread = self.plan().thread(index)?;
        for i in 0..thread.step_count {
            let step = self.plan().step(thread.first_step.saturating_add(i))?;
            self.steps.perform(&step)?;
        }
        Self::new_tid(&thread)?;
        self.frame(&thread)?;
        Ok(Jump {
            control: self.place()?.control as usize,
            frame: thread.frame_address as usize + UCONTEXT,
            window_base: self.window.base as usize,
            window_len: self.window.len as usize,
            stub: self.process.stub_address as usize,
            stub_len: self.process.stub_len as usize,
            last: (self.process.stub_address + u64::from(thread.last_calls)) as usize,
            stop: false,
        })
    }

    /// With a new tid, the word that the C library keeps it in is changed, if it is that word.
    fn new_tid(thread: &ThreadPlan) -> Outcome<()> {
        let tid = sys::plain(nr::GETTID, &[]).unwrap_or(0) as u32;
        if tid == thread.tid || thread.clear_tid == 0 {
            return Ok(());
        }
        let mut word = 0u32;
        let remote = [thread.clear_tid, 4];
        let transfer = |call: usize, value: &mut u32| {
            let local = [&raw mut *value as u64, 4];
            let pid = sys::plain(nr::GETPID, &[]).unwrap_or(0);
            let args = [pid, local.as_ptr() as usize, 1, remote.as_ptr() as usize, 1, 0];
            // SAFETY: four bytes of the program's memory, by way of the kernel, which checks them.
            unsafe { sys::call(call, &args) }
        };
        if transfer(PROCESS_VM_READV, &mut word) == Ok(4) && word == thread.tid {
            word = tid;
            transfer(PROCESS_VM_WRITEV, &mut word).map_err(|e| {
                Fault::sys(
                    "cannot write the new thread id",
                    text!("thread ", tid),
                    e,
                    Advice::Report,
                )
            })?;
        }
        Ok(())
    }

    fn frame(&self, thread: &ThreadPlan) -> Outcome<()> {
        let at = thread.frame_address;
        let plan = self.plan();
        let object = || text!("thread ", thread.tid);
        // SAFETY: inside the stub (checked when it was mapped or the thread started), writable,
        // and this thread's alone; the control words at its end are left out.
        let out = unsafe { core::slice::from_raw_parts_mut(at as *mut u8, CONTROL as usize) };
        let context = plan.data(u64::from(thread.ucontext_off), u64::from(thread.ucontext_len))?;
        if context.len() != frame::SIZE {
            return Err(Fault::new("registers of unknown form", object(), Advice::DumpAgain));
        }
        let uc = &mut out[UCONTEXT..][..frame::SIZE];
        uc.copy_from_slice(context);
        put(uc, frame::FLAGS, UC_FLAGS);
        put(uc, frame::LINK, 0);
        put(uc, frame::SELECTORS, USER_CS | USER_SS << 48);
        put(uc, frame::FPSTATE, at + FPSTATE as u64);
        let area = plan.data(u64::from(thread.xsave_off), u64::from(thread.xsave_len))?;
        xsave::repack(area, self.layout, &self.target, &mut out[FPSTATE..]).map_err(|e| {
            let what = match e {
                XsaveError::Short => "floating-point state of unknown form",
                XsaveError::Missing { .. } => "this processor lacks registers in use",
                XsaveError::Size { .. } | XsaveError::Room => {
                    "this processor's registers do not fit"
                }
            };
            Fault::new(what, object(), Advice::LikeSource)
        })
    }

    /// Leaves a stop signal pending that takes effect when the frame unblocks it: the process stops
    /// with the program's registers, before its first instruction. False for SIGSTOP, which nobody
    /// can block: it stops the process in the stub. False, too, if the signal would not stop it.
    fn stop_on_return(&self, leader: &ThreadPlan, stopped: u32) -> bool {
        let at = u64::from(leader.ucontext_off) + frame::SIGMASK as u64;
        let mask = self.plan().record::<u64>(at).unwrap_or(u64::MAX);
        let mut action = [u64::MAX; 4];
        let args = [stopped as usize, 0, action.as_mut_ptr() as usize, 8];
        // SAFETY: the kernel writes 32 bytes.
        let known = unsafe { sys::call(nr::RT_SIGACTION, &args) }.is_ok();
        let pid = sys::plain(nr::GETPID, &[]).unwrap_or(0);
        stopped != SIGSTOP
            && mask >> (stopped.wrapping_sub(1) & 63) & 1 == 0
            && known
            && action[0] == 0
            && sys::plain(nr::KILL, &[pid, stopped as usize]).is_ok()
    }

    /// The leader's part: waits for the others, then nothing of ours is left.
    pub fn finish(&self, stopped: u32, last: impl FnOnce() -> Outcome<()>) -> Outcome<()> {
        let (missing, _) = words(&self.place()?);
        loop {
            let left = missing.load(Ordering::SeqCst);
            if left == 0 {
                break;
            }
            // The stub's code wakes with the private flag.
            // SAFETY: the kernel reads the word.
            let _ = unsafe {
                sys::call(nr::FUTEX, &[missing.as_ptr() as usize, 128, left as usize, 0])
            };
        }
        // A change of credentials in any thread would undo what the leader does.
        let mut jump = self.prepare(self.process.first_thread)?;
        last()?;
        let leader = self.plan().thread(self.process.first_thread)?;
        if stopped != 0 {
            jump.stop = !self.stop_on_return(&leader, stopped);
        }
        let entry = jump.stub + CODE_OFFSET as usize + arch::stub_code().1;
        go(&leader, entry, &jump)
    }
}

const SIGSTOP: u32 = 19;

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Sets the segment bases and enters the stub.
fn go(thread: &ThreadPlan, entry: usize, jump: &Jump) -> ! {
    // SAFETY: nothing of ours uses the segment registers.
    unsafe {
        let _ = sys::call(nr::ARCH_PRCTL, &[ARCH_SET_FS, thread.fs_base as usize]);
        let _ = sys::call(nr::ARCH_PRCTL, &[ARCH_SET_GS, thread.gs_base as usize]);
    }
    // SAFETY: stub and frame were built; this is the last thing that the thread does here.
    unsafe { arch::enter_stub(entry, jump) }
}

extern "C" fn thread_main(start: usize) -> ! {
    // SAFETY: `Threads::start` wrote it above this thread's stack.
    let start = unsafe { &*(start as *const Start<'_>) };
    // SAFETY: the leader keeps it until this thread has arrived in the stub.
    let threads = unsafe { &*start.threads };
    let prepared = threads.prepare(start.index).and_then(|jump| {
        let thread = threads.plan().thread(start.index)?;
        Ok((thread, jump))
    });
    match prepared {
        Ok((thread, jump)) => go(&thread, jump.stub + CODE_OFFSET as usize, &jump),
        Err(fault) => threads.steps.fail(&fault),
    }
}
