//! The process that the shell started: stands for the program towards the shell.

use crate::process::Setup;
use crate::report::Outcome;
use crate::say;
use crate::shared::phase;
use crate::sys::{self, nr, Errno};
use crate::terminal::{Modes, Terminal};
use image_format::plan::plan_flag;

const SIGCHLD: i32 = 17;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;
const SIGTSTP: i32 = 20;
const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;
const WNOHANG: usize = 1;
const WUNTRACED: usize = 2;
/// Children whose end is not told by SIGCHLD, too.
const WALL: usize = 0x4000_0000;
const RLIMIT_CORE: usize = 4;

/// The processes that are watched.
#[derive(Debug, Clone, Copy)]
pub struct Supervised {
    /// The program, as this process sees it.
    pub program: i32,
}

/// What waiting told.
enum Event {
    Exited(i32),
    Killed(i32),
    Stopped(i32),
}

fn wait(program: i32) -> Option<Event> {
    loop {
        let mut status = 0i32;
        let args = [usize::MAX, &raw mut status as usize, WNOHANG | WUNTRACED | WALL, 0];
        // SAFETY: the kernel writes the status.
        let pid = unsafe { sys::call(nr::WAIT4, &args) }.ok()?;
        if pid == 0 {
            return None;
        }
        if pid as i32 != program {
            continue;
        }
        return Some(match status {
            s if s.trailing_zeros() >= 7 => Event::Exited(s >> 8 & 0xff),
            s if s & 0xff == 0x7f => Event::Stopped(s >> 8 & 0xff),
            s => Event::Killed(s & 0x7f),
        });
    }
}

fn next_signal() -> i32 {
    let all = u64::MAX;
    loop {
        // SAFETY: the kernel reads eight bytes; no information is asked for.
        match unsafe { sys::call(nr::RT_SIGTIMEDWAIT, &[&raw const all as usize, 0, 0, 8]) } {
            Ok(signal) => return signal as i32,
            Err(Errno::EINTR) => {}
            // Cannot fail otherwise; do not spin if it does.
            Err(_) => return SIGCHLD,
        }
    }
}

/// Takes a signal from the queue, if it is there.
#[inline(never)]
pub fn forget(signal: i32) {
    let one = 1u64 << (signal - 1);
    let at_once = [0u64; 2];
    let args = [&raw const one as usize, 0, at_once.as_ptr() as usize, 8];
    // SAFETY: the kernel reads a mask of eight bytes and a timespec.
    let _ = unsafe { sys::call(nr::RT_SIGTIMEDWAIT, &args) };
}

fn kill(pid: i32, signal: i32) {
    let _ = sys::plain(nr::KILL, &[pid as usize, signal as usize]);
}

/// Stands for the program until it ends. All signals are blocked.
pub fn run(setup: &Setup<'_>, who: Supervised) -> Outcome<()> {
    // Whoever ignores it is not told of stops (do_notify_parent_cldstop in kernel/signal.c); execve(2)
    // keeps what was ignored.
    sys::default_action(SIGCHLD as usize);
    if let Some(pty) = setup.terminal.filter(|t| t.pty.is_some()) {
        crate::relay::start(pty);
    }
    let mut modes: Option<Modes> = None;
    // Its first stop is the one that it was in.
    let mut was_stopped = setup.plan.process(0)?.stopped != 0;
    let mut signal = SIGCHLD;
    loop {
        // First what became of the program: a signal may tell of its end.
        match wait(who.program) {
            Some(Event::Exited(code)) => end(setup, code, None),
            Some(Event::Killed(signal)) => end(setup, 125, Some(signal)),
            Some(Event::Stopped(by)) => {
                // A session of its own (on a pty) controls its jobs itself.
                if setup.terminal.is_none_or(|t| t.pty.is_none()) {
                    // The shell gives us the terminal at its leisure, also after the program got
                    // it from us, and the program is stopped when it uses it.
                    if !core::mem::take(&mut was_stopped)
                        && matches!(by, SIGTTIN | SIGTTOU)
                        && setup.terminal.is_some_and(Terminal::is_ours)
                    {
                        signal = SIGCONT;
                        continue;
                    }
                    if let Some(terminal) = setup.terminal {
                        modes = terminal.take_back().or(modes);
                    }
                    stop();
                    // The signal that woke us is pending as well; told a second time, the program
                    // could lose a ^Z that came in between (SIGCONT discards stop signals).
                    forget(SIGCONT);
                    signal = SIGCONT;
                }
                continue;
            }
            None => {}
        }
        match signal {
            SIGCHLD => {}
            SIGCONT => go_on(setup, who, modes),
            SIGTTIN | SIGTTOU => kill(who.program, SIGTSTP),
            signal => kill(who.program, signal),
        }
        signal = match setup.terminal.filter(|t| t.pty.is_some()) {
            Some(terminal) => crate::relay::next(terminal),
            None => next_signal(),
        };
    }
}

/// Stops this process as its shell expects of a stopped job.
fn stop() {
    let own = sys::plain(nr::GETPID, &[]).unwrap_or(0);
    let _ = sys::plain(nr::KILL, &[own, SIGSTOP as usize]);
}

fn go_on(setup: &Setup<'_>, who: Supervised, modes: Option<Modes>) {
    if let Some(terminal) = setup.terminal {
        terminal.hand_over(who.program, modes);
    }
    kill(who.program, SIGCONT);
}

/// Ends as the program did.
fn end(setup: &Setup<'_>, code: i32, signal: Option<i32>) -> ! {
    if let Some(terminal) = setup.terminal {
        if terminal.pty.is_some() {
            crate::relay::drain(terminal);
        }
        let _ = terminal.take_back();
    }
    if setup.shared.phase() == phase::RUNS {
        // The namespace's init looks at this when it hears of our end.
        setup.shared.enter(phase::ENDED);
    }
    let Some(signal) = signal else { crate::arch::exit(code) };
    match setup.shared.phase() {
        phase::ENDED => {}
        phase::FAILED => crate::arch::exit(125),
        _ => {
            let step = setup.shared.step.load(core::sync::atomic::Ordering::Relaxed);
            let object = setup.plan.step(step).map(|s| setup.plan.text(s.object));
            let object = object.unwrap_or_default();
            say!(
                "the resume failed: killed by signal ",
                signal as u32,
                ": ",
                object,
                "; dump the program again"
            );
            crate::arch::exit(125);
        }
    }
    die_of(signal)
}

/// Ends this process by a signal, without a core file.
#[inline(never)]
pub fn die_of(signal: i32) -> ! {
    let none = [0u64; 2];
    sys::set_mask(!(1 << (signal - 1)));
    // SAFETY: the kernel reads two words.
    let _ = unsafe { sys::call(nr::PRLIMIT64, &[0, RLIMIT_CORE, none.as_ptr() as usize, 0]) };
    sys::default_action(signal as usize);
    let own = sys::plain(nr::GETPID, &[]).unwrap_or(0);
    let _ = sys::plain(nr::KILL, &[own, signal as usize]);
    crate::arch::exit(128 + signal)
}

/// Whether the program has a terminal at all, for notes.
pub fn wants_terminal(setup: &Setup<'_>) -> bool {
    setup.plan.header.flags & plan_flag::TERMINAL != 0
}
