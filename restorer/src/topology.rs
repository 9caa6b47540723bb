//! Who is who: the process that was started, the supervisor, the program.
//!
//! ```text
//! --new-pid:        shell -- the program
//! in place:         shell -- supervisor -- the program (original pid)
//! in a namespace:   shell -- supervisor -+- init (pid 1 of the namespace)
//!                                        `- the program (original pid inside)
//! ```
//!
//! In a namespace the program is the supervisor's own child, not init's: so it can wait for it,
//! hear of its stops and hand it the terminal without a go-between.

use crate::namespaces;
use crate::process::{become_program, die_with_parent, failed, Setup};
use crate::report::{self, Advice, Fault, Outcome};
use crate::shared::{has_lost_a_child, phase};
use crate::supervisor::{self, Supervised};
use crate::sys::{self, nr, Errno};
use crate::{text, verbose, verify};
use alloc::boxed::Box;
use core::sync::atomic::Ordering;
use image_format::plan::{plan_flag, when};

const SIGCHLD: u64 = 17;
/// The program's end is told by SIGCONT: a supervisor that stopped with the program goes on then.
const SIGCONT: u64 = 18;
const F_SETOWN: usize = 8;

/// Comes back in a process in a session of its own. The command itself ends when the program runs.
fn detach(setup: &Setup<'_>) -> Outcome<()> {
    let child = fork_as(None, SIGCHLD).map_err(|e| failed("cannot start a process", e))?;
    if child == 0 {
        let _ = sys::plain(nr::SETSID, &[]);
        return Ok(());
    }
    let shared = setup.shared;
    if setup.options.new_pid {
        shared.program.store(child, Ordering::Relaxed);
    }
    loop {
        let (phase, program) = (shared.phase(), shared.program.load(Ordering::Relaxed));
        if phase == phase::RUNS && program != 0 {
            report::print(&text!(program, "\n"));
            crate::arch::exit(0);
        }
        if has_lost_a_child() {
            crate::arch::exit(125);
        }
        sys::futex_wait_a_while(&shared.phase, phase);
    }
}

/// For `--check`: whether a resume would get the process ids it wants. Puts this process where the
/// program would be, as far as that decides which files it may open.
pub fn rehearse(setup: &Setup<'_>) -> Outcome<()> {
    if setup.options.new_pid {
        return may_have_another_pid(setup);
    }
    let taken = first_taken(setup)?;
    if taken.is_none() && sys::plain(nr::GETEUID, &[]) == Ok(0) {
        return Ok(());
    }
    if setup.options.same_pid {
        let errno = if taken.is_some() { Errno::EEXIST } else { Errno::EPERM };
        return Err(not_the_same_pid(taken.unwrap_or(setup.plan.process(0)?.pid), errno));
    }
    namespaces::isolate(&setup.plan.header).map(|_| ())
}

fn may_have_another_pid(setup: &Setup<'_>) -> Outcome<()> {
    if setup.plan.header.flags & plan_flag::LOCKS_HELD == 0 {
        return Ok(());
    }
    Err(Fault::new(
        "--new-pid is not possible",
        "the program holds a lock that knows its owner by thread id",
        Advice::OriginalPid,
    ))
}

fn not_the_same_pid(id: u32, errno: Errno) -> Box<Fault> {
    let (what, advice) = match errno {
        Errno::EEXIST => ("the original process id is taken", Advice::EndOther),
        _ => ("no right to choose the process id", Advice::RootOrAnyPid),
    };
    Fault::sys(what, text!(id), errno, advice)
}

/// Resumes; comes back only with a reason why not.
pub fn resume(mut setup: Setup<'_>) -> Outcome<()> {
    if setup.options.detach {
        detach(&setup)?;
    }
    if setup.options.new_pid {
        may_have_another_pid(&setup)?;
        setup.circumstances |= when::NEW_PID;
        if !namespaces::change_clocks(&setup.plan.header) {
            setup.circumstances |= when::CLOCK_JUMP;
        }
        verbose!(setup.options, "mode: new pid");
        become_program(&setup);
    }
    sys::set_mask(u64::MAX);
    setup.circumstances |= when::OLD_PID;
    let clocks = namespaces::keep_clocks(&setup.plan.header);
    let taken = first_taken(&setup)?;
    let pid = setup.plan.process(0)?.pid;
    let started = match taken {
        Some(_) => Err(Errno::EEXIST),
        None => start_in_place(&mut setup, pid, clocks),
    };
    match started {
        Ok(supervised) => {
            verbose!(setup.options, "mode: original pid, in place");
            stand_for(&setup, supervised)
        }
        // EINVAL: the pid lies above this kernel's pid_max, which a namespace may not mind.
        Err(errno @ (Errno::EEXIST | Errno::EPERM | Errno::EINVAL)) if setup.options.same_pid => {
            Err(not_the_same_pid(taken.unwrap_or(pid), errno))
        }
        Err(Errno::EEXIST | Errno::EPERM | Errno::EINVAL) => in_namespace(&mut setup, clocks),
        Err(e) => Err(failed("cannot start a process", e)),
    }
}

/// clone3 with this pid, whose end is told by signal `end`; 0 in the child.
pub fn fork_as(pid: Option<u32>, end: u64) -> Result<u32, Errno> {
    let set = [pid.unwrap_or(0)];
    let (set, count) = if pid.is_some() { (set.as_ptr() as u64, 1) } else { (0, 0) };
    let args = [0u64, 0, 0, 0, end, 0, 0, 0, set, count, 0];
    // SAFETY: a copy of this process, on a copy of this stack.
    let result = unsafe { sys::call(nr::CLONE3, &[args.as_ptr() as usize, size_of_val(&args)]) };
    result.map(|pid| pid as u32)
}

/// The first id of the tree that is in use where we are: also one that is only a session's or process
/// group's still, to which no signal leads. Any id that is known can own a file, such as the image
/// (f_setown in fs/fcntl.c).
fn first_taken(setup: &Setup<'_>) -> Outcome<Option<u32>> {
    let header = &setup.plan.header;
    let threads = (0..header.thread_count).map(|i| setup.plan.thread(i).map(|t| t.tid));
    let ended = (0..header.process_count).map(|i| setup.plan.process(i).map(|p| p.pid));
    for id in threads.chain(ended) {
        let id = id?;
        let known = sys::plain(nr::FCNTL, &[setup.image.fd as usize, F_SETOWN, id as usize]);
        if !matches!(known, Err(Errno(3))) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

fn start_in_place(setup: &mut Setup<'_>, pid: u32, clocks: bool) -> Result<Supervised, Errno> {
    let child = fork_as(Some(pid), SIGCONT)?;
    if child == 0 {
        setup.circumstances |= when::IN_PLACE | if clocks { 0 } else { when::CLOCK_JUMP };
        run_child(setup);
    }
    Ok(Supervised { program: child as i32 })
}

fn in_namespace(setup: &mut Setup<'_>, clocks: bool) -> Outcome<()> {
    let user = namespaces::isolate(&setup.plan.header)?;
    let clocks = clocks || namespaces::keep_clocks(&setup.plan.header);
    let failed = |e| Fault::sys("cannot start a process", "", e, Advice::NewPid);
    let init = fork_as(None, SIGCHLD).map_err(failed)?;
    if init == 0 {
        be_init(setup);
    }
    let pid = setup.plan.process(0)?.pid;
    let child = match fork_as(Some(pid), SIGCONT) {
        Ok(child) => child,
        Err(e) => {
            let _ = sys::plain(nr::KILL, &[init as usize, 9]);
            return Err(failed(e));
        }
    };
    if child == 0 {
        while setup.shared.init_ready.load(Ordering::Acquire) == 0 {
            sys::futex_wait(&setup.shared.init_ready, 0);
        }
        setup.circumstances |= when::NAMESPACE | if clocks { 0 } else { when::CLOCK_JUMP };
        run_child(setup);
    }
    let how = if user { "pid, user and mount namespaces" } else { "pid and mount namespaces" };
    verbose!(setup.options, "mode: original pid in ", how, " of its own");
    stand_for(setup, Supervised { program: child as i32 })
}

fn stand_for(setup: &Setup<'_>, supervised: Supervised) -> Outcome<()> {
    setup.shared.program.store(supervised.program as u32, Ordering::Relaxed);
    verify::work(setup.image, setup.options, setup.shared);
    supervisor::run(setup, supervised)
}

fn run_child(setup: &mut Setup<'_>) -> ! {
    let shared = setup.shared;
    die_with_parent(|| shared.init_ready.load(Ordering::Relaxed) == 2);
    become_program(setup)
}

/// Process 1 of the namespace: reaps what the program leaves behind. It ends with the supervisor, and
/// the namespace with it; after the program's own end, when the last of what it left has ended.
fn be_init(setup: &Setup<'_>) -> ! {
    const SIG_IGN: u64 = 1;
    const PR_SET_PDEATHSIG: usize = 1;
    const PR_SET_NAME: usize = 15;
    /// Blocked like all others, and sent by nobody else but those in the namespace.
    const DEATH: usize = 64;
    const WALL: usize = 0x4000_0000;
    if let Err(e) = sys::prctl(PR_SET_PDEATHSIG, &[DEATH]) {
        // It would never hear that it is not needed any more. All in the namespace ends with it.
        failed("cannot end with the supervisor", e).say();
        crate::arch::exit(125);
    }
    // Children are reaped by the kernel where their end is ignored.
    // SAFETY: ignoring has no handler.
    let _ = unsafe { sys::sigaction(SIGCHLD as usize, &[SIG_IGN, 0, 0, 0]) };
    // SAFETY: the kernel reads the name.
    let _ = unsafe { sys::call(nr::PRCTL, &[PR_SET_NAME, c"resume-init".as_ptr() as usize]) };
    if !namespaces::mount_proc() {
        verbose!(setup.options, "no /proc of the namespace's own");
    }
    let _ = sys::plain(nr::CLOSE_RANGE, &[0, u32::MAX as usize, 0]);
    setup.shared.init_ready.store(1, Ordering::Release);
    sys::futex_wake(&setup.shared.init_ready);
    loop {
        // struct siginfo: the signal first, the sender's pid fifth, 0 for one outside.
        let (mask, mut info) = (1u64 << (DEATH - 1), [0u32; 32]);
        let args = [&raw const mask as usize, info.as_mut_ptr() as usize, 0, 8];
        // SAFETY: the kernel reads eight bytes and writes one structure of 128.
        let _ = unsafe { sys::call(nr::RT_SIGTIMEDWAIT, &args) };
        if info[0] != 0 && info[4] == 0 {
            break;
        }
    }
    if setup.shared.phase() == phase::ENDED {
        // Where their end is ignored, this waits for the last of all children.
        let _ = sys::plain(nr::WAIT4, &[usize::MAX, 0, WALL, 0]);
    }
    crate::arch::exit(0)
}
