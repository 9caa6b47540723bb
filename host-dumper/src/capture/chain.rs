//! Several system calls in one run of a thread.
//!
//! A call of its own costs two stops of the thread, and each of them the time until both
//! processors have noticed. So the calls of a thread are chained: the words on its stack lead it
//! from one tail of a function of the C library to the next, which pop numbers and arguments into
//! registers, and to `syscall; ret`.
//!
//! ```text
//! low        rax, ->pop rdi, rdi, ->pop rsi, rsi, ->syscall      a call
//!            ->pop rax, rax, ->pop rdi, ...                      the next one
//!            ->pop rax, tkill, ->pop rdi, tid, ...               the stop
//! frame      ->rt_sigreturn, signal frame                        the way home
//! ```
//!
//! Such a chain ends by itself, in the thread's own state, if this program is killed. To stop for
//! a living tracer the last call sends a signal that the program ignores by default: a thread
//! under ptrace reports it all the same, one that is not under ptrace never notices it.

use super::arch::x86_64::{chain_registers, SYSCALL_LEN};
use super::error::{CaptureError, Result};
use super::footing::{Code, Tails, CHAIN_MAX};
use super::mem;
use super::survey::ThreadStatus;
use super::thread::Thread;

/// Signals that are ignored by default and rarely used.
const QUIET: [i32; 2] = [libc::SIGURG, libc::SIGWINCH];

/// What chains are made of, in a process where that is possible.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chains {
    tails: Tails,
    signal: i32,
}

/// A call of a chain; its result is lost unless it is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// Number.
    pub nr: i64,
    /// Arguments; what the others are is not known.
    pub args: [u64; 2],
    /// Keep the result. One link of a chain may have this, where [`Chains::keeps`].
    pub keep: bool,
}

impl Link {
    /// A call whose result is in memory.
    pub fn new(nr: i64, args: [u64; 2]) -> Self {
        Self { nr, args, keep: false }
    }
}

/// Whether chains are possible: the text has what it takes, and a signal is free. It must have no
/// handler, be pending nowhere, and be blocked nowhere: a thread that blocks it may wait for it.
pub(super) fn possible(
    code: Code,
    threads: &[Thread],
    statuses: &[ThreadStatus],
) -> Option<Chains> {
    let used = statuses
        .iter()
        .map(|(_, s)| s.caught | s.blocked | s.pending | s.shared_pending)
        .chain(threads.iter().map(|t| t.sigmask))
        .fold(0, |all, bits| all | bits);
    // Without a tracer, seccomp would judge the calls that are still to come.
    if statuses.iter().any(|(_, s)| s.seccomp != 0) {
        return None;
    }
    let signal = QUIET.into_iter().find(|&s| used & bit(s) == 0)?;
    Some(Chains { tails: code.tails?, signal })
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

impl Chains {
    /// A result in a register can be kept.
    pub fn keeps(&self) -> bool {
        self.tails.store.is_some()
    }

    /// Runs a chain in every thread, all at the same time. `ids` are the threads' ids as they see
    /// them themselves, `keep` tells where a result that is kept goes.
    pub fn run(
        &self,
        threads: &mut [Thread],
        code: Code,
        ids: &[u32],
        links: impl Fn(usize, u64) -> Vec<Link>,
        keep: u64,
    ) -> Result<()> {
        for (i, (thread, &id)) in threads.iter_mut().zip(ids).enumerate() {
            let scratch = thread.undo.as_ref().map_or(0, |u| u.scratch);
            let mut all = links(i, scratch);
            all.push(Link::new(libc::SYS_tkill, [u64::from(id), self.signal as u64]));
            self.start(thread, code, &all, scratch + keep)?;
        }
        let mut outcome = Ok(());
        for thread in threads.iter_mut() {
            let frame = thread.undo.as_ref().map_or(0, |u| u.frame);
            // All of them, whatever became of one: each must stand before it is put back.
            let end = code.syscall + SYSCALL_LEN;
            outcome = outcome.and(thread.finish_chain(self.signal, end, frame));
        }
        outcome
    }

    fn start(&self, thread: &mut Thread, code: Code, links: &[Link], keep: u64) -> Result<()> {
        let tid = thread.tid();
        let reason = "no place was prepared";
        let Some(undo) = &mut thread.undo else {
            return Err(CaptureError::NoFooting { tid, reason });
        };
        let words = self.words(code, links);
        let stack = undo.frame - 8 * words.len() as u64;
        if words.len() as u64 * 8 > CHAIN_MAX {
            return Err(CaptureError::NoFooting { tid, reason: "a chain of calls is too long" });
        }
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        mem::write(tid, stack, &bytes)?;
        let [pop_rax, ..] = self.tails.pops;
        let regs = chain_registers(&thread.regs, pop_rax, stack, keep);
        // Known before it happens, as everything that is undone.
        undo.masked = true;
        let stopped = thread.stopped()?;
        stopped.set_registers(&regs)?;
        // After the registers: until now, a thread left alone would have kept this mask.
        stopped.set_sigmask(!bit(self.signal))?;
        thread.start_chain()
    }

    /// The words that lie right below the frame; the first is popped at once.
    fn words(&self, code: Code, links: &[Link]) -> Vec<u64> {
        let [pop_rax, pop_rdi, pop_rsi] = self.tails.pops;
        let mut words = Vec::with_capacity(links.len() * 7);
        for link in links {
            if !words.is_empty() {
                words.push(pop_rax);
            }
            let [rdi, rsi] = link.args;
            words.extend([link.nr as u64, pop_rdi, rdi, pop_rsi, rsi, code.syscall]);
            if link.keep {
                words.extend(self.tails.store);
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::proc::status::Status;

    const CODE: Code = Code {
        syscall: 0x1000,
        sigreturn: 0x2000,
        tails: Some(Tails { pops: [0x10, 0x20, 0x30], store: Some(0x40) }),
    };

    fn status(caught: u64, blocked: u64) -> ThreadStatus {
        (1, Status { blocked, caught, ..Status::default() })
    }

    #[test]
    fn a_signal_that_nobody_uses() {
        let signal = |all: &[ThreadStatus]| possible(CODE, &[], all).map(|c| c.signal);
        let urgent = bit(libc::SIGURG);
        assert_eq!(signal(&[status(0, 0)]), Some(libc::SIGURG));
        assert_eq!(signal(&[status(urgent, 0)]), Some(libc::SIGWINCH));
        assert_eq!(signal(&[status(0, 0), status(0, urgent)]), Some(libc::SIGWINCH));
        assert_eq!(signal(&[status(0, u64::MAX)]), None);
        let without = Code { tails: None, ..CODE };
        assert!(possible(without, &[], &[status(0, 0)]).is_none());
    }

    #[test]
    fn words_of_a_chain() {
        let chains = possible(CODE, &[], &[]).unwrap();
        let links = [Link { nr: 7, args: [8, 9], keep: true }, Link::new(5, [1, 2])];
        assert_eq!(
            chains.words(CODE, &links),
            [7, 0x20, 8, 0x30, 9, 0x1000, 0x40, 0x10, 5, 0x20, 1, 0x30, 2, 0x1000]
        );
    }
}
