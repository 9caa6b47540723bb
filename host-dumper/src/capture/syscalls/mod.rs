//! Interrupted system calls: what a thread was in when it stopped, and how it goes on.
//!
//! [`judge`] is a pure function of registers, table and what is known of the time that remained.
//! Its results are two: how the thread goes on in an image, and with which registers it goes on
//! where it is, should the process be left running.

pub mod remaining;
pub mod table;

use super::arch::x86_64::{arguments, registers, SYSCALL_LEN};
use image_format::model::{ArgPatch, Registers, Reissue};
use libc::user_regs_struct;
use table::{Class, Timeout};

/// Results that the kernel keeps to itself (include/linux/errno.h).
mod restart {
    pub const SYS: i64 = -512;
    pub const NOINTR: i64 = -513;
    pub const NOHAND: i64 = -514;
    pub const BLOCK: i64 = -516;
}

const EINTR: i64 = -(libc::EINTR as i64);
/// Command bits of a futex operation, and the command whose timeout is relative.
const FUTEX_CMD_MASK: u64 = 0x7f;
const FUTEX_WAIT: u64 = 0;

/// What is known about the world outside the registers.
pub trait Knowledge {
    /// A signal will be handled as soon as the thread goes on.
    fn signal_due(&self) -> bool;
    /// A struct timespec in the thread's memory, in nanoseconds.
    fn timespec(&self, address: u64) -> Option<u64>;
    /// How long the thread had been in this call, in nanoseconds.
    fn elapsed(&self, nr: i64, args: &[u64; 6]) -> Option<u64>;
    /// The number of the call that restart_syscall stands for, from the code before it.
    fn number_before(&self, rip: u64) -> Option<i64>;
    /// Writes to this descriptor wait until everything is written.
    fn blocking_stream(&self, fd: u64) -> bool;
}

/// How a thread goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Registers for the image.
    pub regs: Registers,
    /// A call to issue anew before, in the image.
    pub reissue: Option<Reissue>,
    /// Registers with which it goes on where it is.
    pub onward: user_regs_struct,
    /// Registers with which it goes on where it is if nobody sets any: its call is repeated
    /// from the beginning, since rt_sigreturn forgets what remained.
    pub home: user_regs_struct,
    /// What stays visible, in words.
    pub visible: Option<String>,
}

/// The number of the system call that the thread stands in, and its result so far.
fn standing_in(r: &user_regs_struct) -> Option<(i64, i64)> {
    let nr = r.orig_rax as i64;
    (nr >= 0).then_some((nr, r.rax as i64))
}

fn rewound(r: &user_regs_struct, nr: i64) -> user_regs_struct {
    let mut r = *r;
    r.rip -= SYSCALL_LEN;
    r.rax = nr as u64;
    r.orig_rax = u64::MAX;
    r
}

/// Decides how a thread that stopped with registers `r` goes on.
pub fn judge(r: &user_regs_struct, k: &dyn Knowledge) -> Verdict {
    let same = |r: &user_regs_struct| Verdict {
        regs: registers(r),
        reissue: None,
        onward: *r,
        home: *r,
        visible: None,
    };
    let Some((nr, result)) = standing_in(r) else { return same(r) };
    let repeat = |nr| {
        let back = rewound(r, nr);
        Verdict { regs: registers(&back), reissue: None, onward: *r, home: back, visible: None }
    };
    match result {
        restart::SYS | restart::NOINTR | restart::NOHAND => {
            if result != restart::NOINTR && k.signal_due() {
                // The kernel decides by the handler's flags, once it delivers the signal; an image
                // cannot ask it to, and gives the call another chance to be interrupted.
                return repeat(nr);
            }
            repeat(nr)
        }
        restart::BLOCK => {
            let original =
                if nr == libc::SYS_restart_syscall { k.number_before(r.rip) } else { Some(nr) };
            match original {
                Some(nr) => restart_block(r, nr, k),
                None => give_up(r, "a call restarted by the kernel, whose number is not known"),
            }
        }
        EINTR if !k.signal_due() => match table::find(nr).map(|e| e.class) {
            Some(Class::Interrupted { timeout }) => interrupted(r, nr, timeout, k),
            _ => same(r),
        },
        n if n > 0 && matches!(table::find(nr).map(|e| e.class), Some(Class::Transfer)) => {
            transfer(r, nr, n as u64, k)
        }
        _ => same(r),
    }
}

/// The call fails with EINTR: all that can be done.
fn give_up(r: &user_regs_struct, what: &str) -> Verdict {
    let mut failed = *r;
    failed.rax = EINTR as u64;
    Verdict {
        regs: registers(&failed),
        reissue: None,
        onward: *r,
        home: failed,
        visible: Some(format!("{what}: fails with EINTR after a resume")),
    }
}

fn restart_block(r: &user_regs_struct, nr: i64, k: &dyn Knowledge) -> Verdict {
    let args = arguments(r);
    let back = rewound(r, nr);
    let plain =
        Verdict { regs: registers(&back), reissue: None, onward: *r, home: back, visible: None };
    let Some(Class::RestartBlock { timeout, remainder }) = table::find(nr).map(|e| e.class) else {
        return plain;
    };
    if nr == libc::SYS_futex && args[1] & FUTEX_CMD_MASK != FUTEX_WAIT {
        // Every other command's timeout is a point in time.
        return plain;
    }
    // nanosleep, clock_nanosleep: the kernel wrote what remained when the stop interrupted it.
    if let (Some(out), Timeout::Timespec(given)) = (remainder, timeout) {
        let (out, given) = (args[out as usize], args[given as usize]);
        if out != 0 && out == given {
            return plain;
        }
        if let Some(ns) = (out != 0).then(|| k.timespec(out)).flatten() {
            return anew(plain, r, nr, args, patch(timeout, ns));
        }
    }
    match remaining(nr, &args, timeout, k) {
        Some(ns) => anew(plain, r, nr, args, patch(timeout, ns)),
        None => plain,
    }
}

fn interrupted(
    r: &user_regs_struct,
    nr: i64,
    timeout: Option<Timeout>,
    k: &dyn Knowledge,
) -> Verdict {
    let args = arguments(r);
    let back = rewound(r, nr);
    // Left running, the kernel repeats the call if it finds this instead of EINTR.
    let mut onward = *r;
    onward.rax = restart::NOHAND as u64;
    let plain =
        Verdict { regs: registers(&back), reissue: None, onward, home: back, visible: None };
    let Some((timeout, ns)) = timeout.and_then(|t| Some((t, remaining(nr, &args, t, k)?))) else {
        return plain;
    };
    let mut verdict = anew(plain, r, nr, args, patch(timeout, ns));
    match timeout {
        Timeout::Millis(arg) => {
            // The argument register is the program's to lose: calls clobber it by convention.
            let millis = ns.div_ceil(1_000_000);
            match arg {
                2 => verdict.onward.rdx = millis,
                3 => verdict.onward.r10 = millis,
                _ => {}
            }
            verdict.home = rewound(&verdict.onward, nr);
        }
        Timeout::Timespec(_) => {
            verdict.visible = Some("left running, its timeout begins anew".into());
        }
    }
    verdict
}

fn transfer(r: &user_regs_struct, nr: i64, done: u64, k: &dyn Knowledge) -> Verdict {
    let mut args = arguments(r);
    let plain = Verdict { regs: registers(r), reissue: None, onward: *r, home: *r, visible: None };
    if done >= args[2] || k.signal_due() || !k.blocking_stream(args[0]) {
        return plain;
    }
    args[1] += done;
    args[2] -= done;
    Verdict {
        reissue: Some(Reissue { nr: nr as u64, args, patches: Vec::new(), add: done }),
        visible: Some("left running, a large write returns what was written so far".into()),
        ..plain
    }
}

/// What remains of a finite timeout, in nanoseconds; none if it is infinite.
fn remaining(nr: i64, args: &[u64; 6], timeout: Timeout, k: &dyn Knowledge) -> Option<u64> {
    let given = match timeout {
        Timeout::Millis(arg) => {
            let millis = args[arg as usize] as u32 as i32;
            u64::try_from(millis).ok()?.checked_mul(1_000_000)?
        }
        Timeout::Timespec(arg) => {
            let address = args[arg as usize];
            if address == 0 {
                return None;
            }
            k.timespec(address)?
        }
    };
    Some(given.saturating_sub(k.elapsed(nr, args).unwrap_or(0)))
}

fn patch(timeout: Timeout, ns: u64) -> ArgPatch {
    match timeout {
        Timeout::Millis(arg) => ArgPatch::Millis { arg, value: ns.div_ceil(1_000_000) },
        Timeout::Timespec(arg) => ArgPatch::Timespec { arg, ns },
    }
}

/// In the image, the call is made by the stub, which then returns behind the instruction.
fn anew(plain: Verdict, r: &user_regs_struct, nr: i64, args: [u64; 6], patch: ArgPatch) -> Verdict {
    Verdict {
        regs: registers(r),
        reissue: Some(Reissue { nr: nr as u64, args, patches: vec![patch], add: 0 }),
        ..plain
    }
}

#[cfg(test)]
mod tests;
