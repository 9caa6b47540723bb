//! Several threads that look at many processes.
//!
//! What /proc tells of one process has nothing to do with another, so that a tree is read in half
//! of the time where there is a second processor. What ptrace tells only the tracer may ask.

use super::proc::number;
use nix::sched::{sched_getaffinity, unshare, CloneFlags, CpuSet};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Looks that are worth a thread: one is started in the time that a few of them take.
const WORTH_THREAD: usize = 8;
/// More threads than this get in each other's way in the kernel.
const MOST: usize = 4;

/// Looks at each of these; the answers are in their order.
pub(crate) fn each<T: Send, R: Send>(items: Vec<T>, look: impl Fn(T) -> R + Sync) -> Vec<R> {
    let hands = (items.len() / WORTH_THREAD).clamp(1, MOST);
    let hands = if hands == 1 { 1 } else { hands.min(processors()) };
    by(hands, items, look)
}

fn by<T: Send, R: Send>(hands: usize, items: Vec<T>, look: impl Fn(T) -> R + Sync) -> Vec<R> {
    if hands == 1 || !forget_undo_list() {
        return items.into_iter().map(look).collect();
    }
    let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|t| Mutex::new(Some(t))).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut own = Vec::with_capacity(items.len() / hands + 1);
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(i) else { return own };
            // Nobody else has this number.
            let item = item.lock().unwrap_or_else(PoisonError::into_inner).take();
            own.extend(item.map(|item| (i, look(item))));
        }
    };
    let mut all = std::thread::scope(|scope| {
        // One that cannot be started leaves its part to the others.
        let spawned: Vec<_> = (1..hands)
            .filter_map(|_| std::thread::Builder::new().spawn_scoped(scope, work).ok())
            .collect();
        let mut all = work();
        for thread in spawned {
            match thread.join() {
                Ok(mut own) => all.append(&mut own),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    forget_undo_list();
    all.sort_unstable_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, found)| found).collect()
}

/// A thread shares the list of what semop(2) would undo with who made it, and both get one if there is
/// none (`copy_semundo` in ipc/sem.c); but by our having none those are known that have none either.
/// Tells whether it can be left again: a sandbox may forbid unshare(2).
fn forget_undo_list() -> bool {
    unshare(CloneFlags::CLONE_SYSVSEM).is_ok()
}

/// Processors that this program may use and nobody else does, its own among them: where there is none to
/// spare, threads make everything later.
fn processors() -> usize {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return 1 };
    let own = (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).count();
    let busy = std::fs::read("/proc/loadavg").ok().and_then(|text| running(&text));
    own.saturating_sub(busy.unwrap_or(own).saturating_sub(1)).max(1)
}

/// The number of threads that run or want to, of the file loadavg: `0.00 0.01 0.05 1/234 5678`.
fn running(text: &[u8]) -> Option<usize> {
    let field = number::words(text).nth(3)?;
    number::decimal(field.split(|&b| b == b'/').next()?).map(|n| n as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::sysv;
    use std::process::{Command, Stdio};

    #[test]
    fn answers_are_in_order() {
        let items: Vec<usize> = (0..100).collect();
        let doubled: Vec<usize> = items.iter().map(|n| n * 2).collect();
        for hands in [1, 2, 4] {
            assert_eq!(by(hands, items.clone(), |n| n * 2), doubled);
            assert_eq!(by(hands, Vec::<u8>::new(), |n| n + 1), [0; 0]);
        }
        assert_eq!(each(items, |n| n * 2), doubled);
    }

    #[test]
    fn who_else_runs() {
        assert_eq!(running(b"0.34 0.10 0.05 12/345 6789\n"), Some(12));
        assert_eq!(running(b"0.34 0.10"), None);
        assert!(running(&std::fs::read("/proc/loadavg").unwrap()).is_some_and(|n| n > 0));
    }

    #[test]
    fn no_undo_list_is_left() {
        let mut bare = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let has_none = || {
            // A child made by fork has none, whatever its parent has.
            sysv::same_undo_list(nix::unistd::gettid().as_raw() as u32, bare.id())
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {});
        });
        let with_a_thread = has_none();
        by(2, vec![1; 64], |n| n + 1);
        let afterwards = has_none();
        bare.kill().unwrap();
        bare.wait().unwrap();
        assert!(!with_a_thread && afterwards);
    }
}
