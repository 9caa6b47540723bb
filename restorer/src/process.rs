//! The process that becomes the program: runs the steps of the plan to the end.
//!
//! ```text
//! | stack, vdso of exec |        window         |        1. unmapped but for the window
//! | program's memory, vdso, stub | window       |        2. the plan's steps
//! | program's memory, vdso, stub |                       3. FINISH: the window goes too
//! ```

use crate::files::{self, Created};
use crate::fill;
use crate::image::Image;
use crate::options::{Options, Outside};
use crate::outside;
use crate::planfile::Plan;
use crate::report::{Advice, Fault, Outcome};
use crate::shared::{phase, Shared};
use crate::sockets;
use crate::steps::Steps;
use crate::sys::{self, mm, nr, Errno};
use crate::terminal::Terminal;
use crate::threads::Threads;
use crate::timers;
use crate::topology::fork_as;
use crate::vdso::{Kept, Live, TASK_SIZE};
use crate::verbose;
use crate::verify::{self, Helper};
use crate::window::Window;
use crate::xsave::Target;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use image_format::plan::{op, plan_flag, when, Step, XsavePlace, BARRIERS};

/// Everything that the process is built from.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The command's options.
    pub options: &'a Options,
    /// Our hole.
    pub window: &'a Window,
    /// The image.
    pub image: &'a Image,
    /// The plan.
    pub plan: &'a Plan,
    /// Bits of [`when`].
    pub circumstances: u16,
    /// The page shared with the supervisor.
    pub shared: &'a Shared,
    /// The terminal, if one takes part.
    pub terminal: Option<&'a Terminal>,
    /// How the source's processor kept its state.
    pub layout: &'a [XsavePlace],
    /// Groups of the resuming command.
    pub groups: Vec<u32>,
    /// Address of the vdso here; 0 for none.
    pub vdso: u64,
    /// Start of the resume, nanoseconds of CLOCK_MONOTONIC.
    pub began: i64,
    /// What the program gets from outside.
    pub outside: &'a Outside<'a>,
}

const PR_SET_PDEATHSIG: usize = 1;
const SIGKILL: usize = 9;
const SIGCHLD: i32 = 17;
const SIGWINCH: usize = 28;
/// waitid(2).
const P_PID: usize = 1;
const LAST_BARRIER: usize = BARRIERS - 1;

/// Builds the program in this process and jumps into it.
pub fn become_program(setup: &Setup<'_>) -> ! {
    let created = Created::default();
    let shared = setup.shared;
    let fault = match run(setup, &created) {
        Ok(()) => Fault::new("the plan has no end", "", Advice::DumpAgain),
        Err(fault) => fault,
    };
    fault.say();
    created.undo();
    shared.enter(phase::FAILED);
    crate::arch::exit(125)
}

/// Handlers to the default and everything blocked: exec leaves ignored signals ignored.
fn default_signals() {
    sys::set_mask(u64::MAX);
    for signal in (1..=64).filter(|s| !matches!(s, 9 | 19 | 7 | 11 | 4)) {
        sys::default_action(signal);
    }
}

/// What all processes of the tree begin with.
#[derive(Clone, Copy)]
struct Beginning<'a> {
    setup: &'a Setup<'a>,
    steps: &'a Steps<'a>,
    live: Option<Live>,
    helper: &'a Helper<'a>,
    target: &'a Target,
}

struct Building<'a> {
    beginning: Beginning<'a>,
    setup: &'a Setup<'a>,
    steps: &'a Steps<'a>,
    /// Index of the process in the plan.
    index: u32,
    threads: Threads<'a>,
    live: Option<Live>,
    kept: Kept,
    helper: &'a Helper<'a>,
    /// Old and new tids.
    tids: Vec<(u32, u32)>,
}

fn run(setup: &Setup<'_>, created: &Created) -> Outcome<()> {
    let plan = setup.plan;
    default_signals();
    if let Some(terminal) = setup.terminal {
        terminal.enter_program();
    } else if plan.header.stopped != 0 && setup.circumstances & when::OLD_PID != 0 {
        // A stop signal is lost on a process group without a parent in another one.
        let _ = sys::plain(nr::SETPGID, &[0, 0]);
    }
    let fds = outside::move_descriptors(setup)?;
    setup.outside.enter_root()?;
    let target = Target::here();
    let live = Live::examine(setup.vdso, setup.window)?;
    let steps = Steps {
        plan,
        circumstances: setup.circumstances,
        fds,
        groups: setup.groups.clone(),
        shared: setup.shared,
        created,
    };
    let helper = Helper::new(setup.image, setup.options, setup.shared);
    if setup.circumstances & when::NEW_PID != 0 {
        // Elsewhere the supervisor does this.
        helper.start(setup.window)?;
    }
    // SAFETY: from here on nothing outside the window is used: options, names and the vdso's code
    // were copied.
    unsafe { setup.window.unmap_outside(TASK_SIZE) }
        .map_err(|e| Fault::sys("cannot clear the address space", "", e, Advice::ReportKernel))?;
    if let Some(live) = &live {
        live.unmap();
    }
    let beginning = Beginning { setup, steps: &steps, live, helper: &helper, target: &target };
    build(beginning, 0)
}

/// Runs the steps of one process.
fn build(beginning: Beginning<'_>, index: u32) -> Outcome<()> {
    let Beginning { setup, steps, live, helper, target } = beginning;
    let process = setup.plan.process(index)?;
    let threads = Threads {
        steps,
        window: setup.window,
        process,
        layout: setup.layout,
        target: target.clone(),
        stacks: AtomicU64::new(0),
    };
    let mut building = Building {
        beginning,
        setup,
        steps,
        index,
        threads,
        live,
        kept: Kept::default(),
        helper,
        tids: Vec::new(),
    };
    let mut next = 0;
    while next < process.step_count {
        let index = process.first_step.saturating_add(next);
        let step = setup.plan.step(index)?;
        steps.enter(index);
        match building.step(&step) {
            Ok(skipped) => next = next.saturating_add(1).saturating_add(skipped),
            // Threads that were started hold on to what lies on this stack.
            Err(fault) => steps.fail(&fault),
        }
    }
    Ok(())
}

impl Building<'_> {
    /// Executes a step; gives the number of steps to be passed over.
    fn step(&mut self, step: &Step) -> Outcome<u32> {
        let steps = self.steps;
        if !steps.applies(step) {
            return Ok(0);
        }
        if step.op == op::SKIP {
            let [a, b, count, unless, ..] = steps.arguments(step)?;
            return Ok(if (a == b) == (unless == 0) { count as u32 } else { 0 });
        }
        self.execute(step).map(|()| 0)
    }

    fn execute(&mut self, step: &Step) -> Outcome<()> {
        let steps = self.steps;
        let setup = self.setup;
        match step.op {
            op::FILL => {
                let before = sys::now();
                let owner = step.args[0] as u32;
                fill::fill(setup.image, setup.options, setup.window, setup.shared, owner)?;
                verbose!(setup.options, "memory: ", ((sys::now() - before) / 1000) as u64, " us");
                Ok(())
            }
            op::MAP_IMAGE => self.map_image(step),
            op::VDSO => {
                if let Some(live) = &mut self.live {
                    self.kept = live.place(steps.plan, step.args[0], setup.window)?;
                }
                Ok(())
            }
            op::OPEN_FILE => files::open(setup, steps, step),
            op::WRITE_EMBEDDED => files::write_embedded(setup, steps.plan, step),
            op::SOCKET_PATH => sockets::make_room(steps, step),
            op::THREAD => {
                let ids = self.threads.start(step.args[0] as u32)?;
                self.tids.push(ids);
                Ok(())
            }
            op::TIMER => {
                let result = timers::create(&steps.plan.record(step.args[0])?, &self.tids);
                steps.judge(step, result, 0)
            }
            op::STUB => {
                let bytes = steps.plan.data(step.args[0], step.args[1])?;
                self.threads.stub(bytes, &self.kept)
            }
            op::FORK => self.fork(step),
            op::BARRIER => {
                self.meet(step.args[0] as usize, step.args[1]);
                Ok(())
            }
            op::EXIT => self.end(step),
            op::FINISH => self.finish(step.args[0]),
            _ => steps.perform(step),
        }
    }

    fn map_image(&self, step: &Step) -> Outcome<()> {
        let [address, len, prot, flags, offset, _] = step.args;
        let result = if self.steps.copies_all() {
            let flags = flags as usize | mm::ANONYMOUS;
            // SAFETY: the plan places the program's memory; the linker kept it out of the window.
            let at = unsafe { sys::mmap(address, len, mm::READ | mm::WRITE, flags, -1, 0) };
            let image = self.setup.image.bytes;
            at.and_then(|at| {
                let pages = image.get(offset as usize..offset.wrapping_add(len) as usize);
                let pages = pages.ok_or(Errno::EINVAL)?;
                // SAFETY: just mapped, writable, `len` bytes of the program's.
                unsafe { core::ptr::copy_nonoverlapping(pages.as_ptr(), at, pages.len()) };
                Ok(at)
            })
        } else {
            let fd = self.steps.fds.image;
            // SAFETY: as above.
            unsafe { sys::mmap(address, len, prot as usize, flags as usize, fd, offset) }
        };
        self.steps.judge(step, result.map(|at| at as usize), address as usize)
    }

    /// Starts another process of the tree.
    fn fork(&self, step: &Step) -> Outcome<()> {
        let index = step.args[0] as u32;
        let pid = self.setup.plan.process(index)?.pid;
        match fork_as(Some(pid), step.args[1]) {
            Ok(0) => {
                let parent = sys::plain(nr::GETPPID, &[]);
                let above = self.threads.process.pid as usize;
                die_with_parent(|| parent != Ok(above));
                if let Err(fault) = build(self.beginning, index) {
                    self.steps.fail(&fault);
                }
                crate::arch::exit(125)
            }
            Ok(_) => Ok(()),
            Err(e) => Err(self.steps.fault(step, e)),
        }
    }

    /// Waits for the other processes. Where one has failed it has said why.
    fn meet(&self, barrier: usize, members: u64) {
        if members != 0 && !self.setup.shared.meet(barrier, members as u32) {
            self.steps.created.undo();
            crate::arch::exit(125);
        }
    }

    /// Ends as a process did that its parent has not collected yet.
    fn end(&self, step: &Step) -> ! {
        self.meet(LAST_BARRIER, step.args[1]);
        let status = step.args[0] as i32;
        match status & 0x7f {
            0 => crate::arch::exit(status >> 8 & 0xff),
            signal => crate::supervisor::die_of(signal),
        }
    }

    /// Comes to the last barrier, and waits until the children have ended or stopped that had, so
    /// that the program finds them as they were. The signal that tells of it was taken long ago.
    fn await_children(&self, members: u64) -> Outcome<()> {
        let plan = self.setup.plan;
        let mut before = 0u64;
        // SAFETY: the kernel writes eight bytes.
        let _ = unsafe { sys::call(nr::RT_SIGPENDING, &[&raw mut before as usize, 8]) };
        self.meet(LAST_BARRIER, members);
        let mut ended = false;
        for i in 0..plan.header.process_count {
            let process = plan.process(i)?;
            if process.awaited != 0 && process.parent == self.index {
                let options = process.awaited as usize;
                let _ = sys::plain(nr::WAITID, &[P_PID, process.pid as usize, 0, options, 0]);
                ended = true;
            }
        }
        if ended && before & 1 << (SIGCHLD - 1) == 0 {
            crate::supervisor::forget(SIGCHLD);
        }
        Ok(())
    }

    fn finish(&mut self, members: u64) -> Outcome<()> {
        let setup = self.setup;
        let header = &setup.plan.header;
        // Whatever the program itself asked for follows in the leader's own steps.
        if setup.circumstances & when::NEW_PID == 0 {
            let _ = sys::prctl(PR_SET_PDEATHSIG, &[0]);
        }
        crate::fault::remove();
        let (steps, helper) = (self.steps, self.helper);
        let first = self.index == 0;
        let last = || {
            verify::finish(setup.image, setup.options, setup.shared)?;
            helper.wait();
            if members != 0 {
                self.await_children(members)?;
            }
            if let (Some(terminal), true) = (
                setup.terminal.filter(|_| first),
                header.flags & plan_flag::TERMINAL != 0 && header.termios_off != 0,
            ) {
                let modes = setup.plan.data(u64::from(header.termios_off), 44)?;
                if terminal.set_program_modes(steps.fds.terminal, modes, header.winsize) {
                    let pid = sys::plain(nr::GETPID, &[]).unwrap_or(0);
                    let _ = sys::plain(nr::KILL, &[pid, SIGWINCH]);
                }
            }
            if setup.options.copy_all && first {
                setup.image.give_back(steps.fds.image);
            }
            let us = (sys::now() - setup.began) / 1000;
            if first {
                verbose!(setup.options, "ready after ", us as u64, " us");
                steps.shared.enter(phase::RUNS);
            }
            let (first, end) = (header.scratch_fd as usize, header.scratch_end as usize);
            let _ = sys::plain(nr::CLOSE_RANGE, &[first, end.wrapping_sub(1), 0]);
            Ok(())
        };
        self.threads.finish(self.threads.process.stopped, last)
    }
}

/// The process dies with its parent while it is being built.
pub fn die_with_parent(parent_is_gone: impl Fn() -> bool) {
    let _ = sys::prctl(PR_SET_PDEATHSIG, &[SIGKILL]);
    if parent_is_gone() {
        crate::arch::exit(125);
    }
}

/// An error of the kernel as a fault, for callers with nothing to add.
pub fn failed(what: &'static str, errno: Errno) -> alloc::boxed::Box<Fault> {
    Fault::sys(what, "", errno, Advice::None)
}
