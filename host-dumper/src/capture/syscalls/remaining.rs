//! How long a thread has been waiting: the kernel does not tell what remains of a timeout.
//!
//! A thread that waits last ran when it began to. /proc/PID/task/TID/sched shows that moment by
//! the scheduler's clock, and the dumper's own, which is now, shows what the clock says. It must be
//! read before the thread is stopped, since stopping makes it run.

use crate::capture::proc::number::{hex, lines, radix, words};
use crate::capture::proc::Proc;
use std::time::Instant;

/// A thread that waits, as seen before it was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Number of the call.
    pub nr: i64,
    /// Its arguments.
    pub args: [u64; 6],
    /// How long it had been waiting, nanoseconds.
    pub elapsed: u64,
    /// When that was found.
    pub seen: Instant,
}

/// Looks at a thread that runs freely; none if it does not wait in a call with a timeout.
pub fn look(proc: &Proc, tid: u32) -> Option<Waiting> {
    let text = proc.read_optional(&format!("task/{tid}/syscall"))?;
    let (nr, args) = parse_syscall(&text)?;
    if nr != libc::SYS_restart_syscall {
        super::table::find(nr)?;
    }
    let last = parse_exec_start(&proc.read_optional(&format!("task/{tid}/sched"))?)?;
    let own = std::fs::read("/proc/thread-self/sched").ok()?;
    let seen = Instant::now();
    let elapsed = parse_exec_start(&own)?.saturating_sub(last);
    Some(Waiting { nr, args, elapsed, seen })
}

/// Number and arguments from /proc/PID/task/TID/syscall; none for a thread that runs.
pub fn parse_syscall(text: &[u8]) -> Option<(i64, [u64; 6])> {
    let mut fields = words(text);
    let nr = radix(fields.next()?, 10)? as i64;
    let mut args = [0; 6];
    for arg in &mut args {
        *arg = hex(fields.next()?.strip_prefix(b"0x")?)?;
    }
    Some((nr, args))
}

/// se.exec_start in nanoseconds: written as milliseconds with six decimals.
pub fn parse_exec_start(text: &[u8]) -> Option<u64> {
    let line = lines(text).find(|l| l.starts_with(b"se.exec_start"))?;
    let value = words(line).last()?;
    let dot = value.iter().position(|&b| b == b'.')?;
    let (millis, nanos) = (radix(&value[..dot], 10)?, radix(&value[dot + 1..], 10)?);
    millis.checked_mul(1_000_000)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let sched = b"cat (6060, #threads: 1)\n---\nse.exec_start      :       1514554.554173\n";
        assert_eq!(parse_exec_start(sched), Some(1_514_554_554_173));
        assert_eq!(parse_exec_start(b""), None);
        let (nr, args) = parse_syscall(b"7 0x1 0x2 0x3 0x4 0x5 0x6 0x7ffd 0x7f00\n").unwrap();
        assert_eq!((nr, args), (7, [1, 2, 3, 4, 5, 6]));
        assert_eq!(parse_syscall(b"running\n"), None);
        assert_eq!(parse_syscall(b"-1 0x7ffd 0x7f00\n"), None);
    }
}
