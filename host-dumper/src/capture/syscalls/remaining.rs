//! How long a thread has been waiting: the kernel does not tell what remains of a timeout.
//!
//! A thread that waits last ran when it began to. /proc/PID/task/TID/sched shows that moment by
//! the scheduler's clock, and the dumper's own, which is now, shows what the clock says. It must be
//! read before the thread is stopped, since stopping makes it run.

use super::table::{self, Class, Timeout};
use crate::capture::proc::number::{hex, lines, radix, words};
use crate::capture::proc::Proc;
use nix::sched::{sched_getaffinity, sched_setaffinity, CpuSet};
use nix::unistd::Pid;
use std::collections::BTreeMap;
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

/// Looks at threads that run freely; those that wait in a call with a timeout are in the result.
pub fn look(proc: &Proc, tids: &[u32]) -> BTreeMap<u32, Waiting> {
    let mut clocks = Clocks::default();
    let mut all = BTreeMap::new();
    for &tid in tids {
        let read = |name: &str| proc.read_optional_record(&format!("task/{tid}/{name}"));
        let Some((nr, args)) = read("syscall").and_then(|t| parse_syscall(&t)) else { continue };
        if !may_wait_with_timeout(nr, &args) {
            continue;
        }
        let last = read("sched").and_then(|t| parse_exec_start(&t)).filter(|&t| t != 0);
        let cpu = read("stat").and_then(|t| parse_cpu(&t));
        let (Some(last), Some(cpu)) = (last, cpu) else { continue };
        let Some((clock, at)) = clocks.of(cpu) else { continue };
        let seen = Instant::now();
        let clock = clock + seen.saturating_duration_since(at).as_nanos() as u64;
        all.insert(tid, Waiting { nr, args, elapsed: clock.saturating_sub(last), seen });
    }
    all
}

/// The scheduler's clocks. Each processor has its own: time that went to interrupts or, in a
/// virtual machine, to others does not count, so that they drift apart by seconds.
#[derive(Default)]
struct Clocks {
    known: BTreeMap<u32, Option<(u64, Instant)>>,
    home: Option<CpuSet>,
}

impl Clocks {
    /// The clock of a processor, and when it showed that.
    fn of(&mut self, cpu: u32) -> Option<(u64, Instant)> {
        if let Some(known) = self.known.get(&cpu) {
            return *known;
        }
        let read = self.read(cpu);
        self.known.insert(cpu, read);
        read
    }

    /// Goes to that processor and looks when this thread was last accounted, which is now if it
    /// just yielded.
    fn read(&mut self, cpu: u32) -> Option<(u64, Instant)> {
        let this = Pid::from_raw(0);
        if self.home.is_none() {
            self.home = Some(sched_getaffinity(this).ok()?);
        }
        let mut one = CpuSet::new();
        one.set(cpu as usize).ok()?;
        sched_setaffinity(this, &one).ok()?;
        std::thread::yield_now();
        let text = std::fs::read("/proc/thread-self/sched").ok()?;
        Some((parse_exec_start(&text)?, Instant::now()))
    }
}

impl Drop for Clocks {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            // It was in force before; should it be refused now, one processor is enough.
            let _ = sched_setaffinity(Pid::from_raw(0), home);
        }
    }
}

/// The processor on which a thread last ran (field 39 of its stat).
pub fn parse_cpu(text: &[u8]) -> Option<u32> {
    let close = text.iter().rposition(|&b| b == b')')?;
    words(&text[close + 1..]).nth(36).and_then(|w| radix(w, 10)).map(|n| n as u32)
}

/// The call has a timeout, and it is finite as far as the registers show.
fn may_wait_with_timeout(nr: i64, args: &[u64; 6]) -> bool {
    let timeout = match table::find(nr).map(|e| e.class) {
        Some(
            Class::RestartBlock { timeout, .. } | Class::Interrupted { timeout: Some(timeout) },
        ) => timeout,
        Some(_) => return false,
        None => return nr == libc::SYS_restart_syscall,
    };
    match timeout {
        Timeout::Millis(arg) => args[arg as usize] as u32 as i32 >= 0,
        Timeout::Timespec(arg) => args[arg as usize] != 0,
    }
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
    fn endless_waits_are_passed_over() {
        let args = |i: usize, v: u64| {
            let mut a = [0; 6];
            a[i] = v;
            a
        };
        assert!(may_wait_with_timeout(libc::SYS_poll, &args(2, 5)));
        assert!(!may_wait_with_timeout(libc::SYS_poll, &args(2, u64::MAX)));
        assert!(may_wait_with_timeout(libc::SYS_futex, &args(3, 0x7000)));
        assert!(!may_wait_with_timeout(libc::SYS_futex, &[0; 6]));
        assert!(!may_wait_with_timeout(libc::SYS_read, &[0; 6]));
    }

    #[test]
    fn the_processor_is_known() {
        let cpu = parse_cpu(&std::fs::read("/proc/self/stat").unwrap()).unwrap();
        assert!(Clocks::default().of(cpu).is_some());
    }

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
