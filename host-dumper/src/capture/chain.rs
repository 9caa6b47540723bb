//! Several system calls in one run of a thread.
//!
//! A call of its own costs two stops of the thread, and each of them the time until both
//! processors have noticed. So the calls of a thread are chained: the words on its stack lead it
//! from one tail of a function of the C library to the next, which pop numbers and arguments into
//! registers, and to `syscall; ret`.
//!
//! ```text
//! low        rax, ->pop rdi, rdi, ->pop rsi, rsi, ->syscall      a call
//!            ->pop rdx, address, ->store rax                     its result
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
use super::footing::{Code, Store, Tails, CHAIN_MAX};
use super::inside::SCRATCH;
use super::mem;
use super::questions::{words_of, Answer, Question};
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

/// What stands where no call has stored its result.
const UNSTORED: u64 = 0x5a5a_5a5a_5a5a_5a5a;

/// A call of a chain, and where in the thread's room for results its own goes.
#[derive(Debug, Clone, Copy)]
struct Link {
    question: Question,
    /// Offset of the result, in bytes.
    result: u64,
    /// Offset of the answer in memory.
    out: u64,
}

/// A chain: as many calls as have room.
#[derive(Debug, Default)]
struct Chain {
    links: Vec<Link>,
    /// Bytes of the results.
    results: u64,
    /// The fourth argument of all calls, where one of them looks at it.
    fourth: Option<u64>,
}

impl Chain {
    /// Takes a call, if it has room: `words` is what it takes of the stack.
    fn take(&mut self, question: Question, words: usize) -> bool {
        let fourth = (question.count > 3).then_some(question.args[3]);
        let out = self.results + 8;
        let end = out + question.out.map_or(0, |(_, words)| 8 * words as u64);
        let differs = matches!((fourth, self.fourth), (Some(new), Some(old)) if new != old);
        if differs || end > SCRATCH || 8 * words as u64 > CHAIN_MAX {
            return false;
        }
        self.links.push(Link { question, result: self.results, out });
        self.results = end;
        self.fourth = self.fourth.or(fourth);
        true
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
    /// Asks all threads, each its own questions, all at the same time and in as few runs as there is
    /// room for. `ids` are the threads' ids as they see them themselves.
    pub fn ask(
        &self,
        threads: &mut [Thread],
        code: Code,
        ids: &[u32],
        lists: &[Vec<Question>],
    ) -> Result<Vec<Vec<Answer>>> {
        let mut answers: Vec<Vec<Answer>> = vec![Vec::new(); lists.len()];
        loop {
            let chains: Vec<Chain> = lists
                .iter()
                .zip(&answers)
                .map(|(list, told)| self.chain(code, &list[told.len()..]))
                .collect();
            if chains.iter().all(|c| c.links.is_empty()) {
                break;
            }
            let mut under_way = Vec::new();
            for (i, chain) in chains.iter().enumerate().filter(|(_, c)| !c.links.is_empty()) {
                self.start(&mut threads[i], code, ids[i], chain)?;
                under_way.push(i);
            }
            let mut outcome = Ok(());
            for &i in &under_way {
                let thread = &mut threads[i];
                let frame = thread.undo.as_ref().map_or(0, |u| u.frame);
                // All of them, whatever became of one: each must stand before it is put back.
                let end = code.syscall + SYSCALL_LEN;
                outcome = outcome.and(thread.finish_chain(self.signal, end, frame));
            }
            outcome?;
            for i in under_way {
                answers[i].append(&mut chains[i].answers(&threads[i])?);
            }
        }
        // A call that has no room in a chain of its own.
        let short = lists.iter().zip(&answers).position(|(list, told)| told.len() < list.len());
        match short.and_then(|i| threads.get(i)) {
            Some(thread) => {
                let reason = "a chain of calls is too long";
                Err(CaptureError::NoFooting { tid: thread.tid(), reason })
            }
            None => Ok(answers),
        }
    }

    /// As many of these as one run can ask.
    fn chain(&self, code: Code, questions: &[Question]) -> Chain {
        let mut chain = Chain::default();
        let mut words = self.stop(code, 0).len();
        for &question in questions {
            words += self.call(code, &question, [0; 4]).len() + self.store(0).len();
            if !chain.take(question, words) {
                break;
            }
        }
        chain
    }

    fn start(&self, thread: &mut Thread, code: Code, id: u32, chain: &Chain) -> Result<()> {
        let tid = thread.tid();
        let reason = "no place was prepared";
        let Some(undo) = &mut thread.undo else {
            return Err(CaptureError::NoFooting { tid, reason });
        };
        let unstored = UNSTORED.to_le_bytes().repeat(chain.results as usize / 8);
        let words = self.words(code, chain, undo.scratch, id);
        let stack = undo.frame - 8 * words.len() as u64;
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        mem::write_pieces(tid, &[(stack, &bytes), (undo.scratch, &unstored)])?;
        let [pop_rax, ..] = self.tails.pops;
        let regs = chain_registers(&thread.regs, pop_rax, stack, chain.fourth.unwrap_or(0));
        // Known before it happens, as everything that is undone.
        undo.masked = true;
        let stopped = thread.stopped()?;
        stopped.set_registers(&regs)?;
        // After the registers: until now, a thread left alone would have kept this mask.
        stopped.set_sigmask(!bit(self.signal))?;
        thread.start_chain()
    }

    /// The words that lie right below the frame; the first is popped at once.
    fn words(&self, code: Code, chain: &Chain, scratch: u64, id: u32) -> Vec<u64> {
        let mut words = Vec::with_capacity(chain.links.len() * 12);
        for link in &chain.links {
            let args = link.question.args_with(scratch + link.out);
            words.extend(self.call(code, &link.question, args));
            words.extend(self.store(scratch + link.result));
        }
        words.extend(self.stop(code, id));
        // The first is where the thread begins.
        words.remove(0);
        words
    }

    fn call(&self, code: Code, question: &Question, args: [u64; 4]) -> Vec<u64> {
        let [pop_rax, pop_rdi, pop_rsi] = self.tails.pops;
        let [rdi, rsi, rdx, _] = args;
        let mut words = vec![pop_rax, question.nr as u64, pop_rdi, rdi, pop_rsi, rsi];
        if question.count > 2 {
            words.extend(self.pop_rdx(rdx));
        }
        words.push(code.syscall);
        words
    }

    fn pop_rdx(&self, value: u64) -> impl Iterator<Item = u64> {
        let more = std::iter::repeat_n(0, self.tails.rdx.more);
        [self.tails.rdx.at, value].into_iter().chain(more)
    }

    fn store(&self, at: u64) -> Vec<u64> {
        let [_, pop_rdi, _] = self.tails.pops;
        let Store { at: store, by_rdi } = self.tails.store;
        let mut words: Vec<u64> =
            if by_rdi { vec![pop_rdi, at] } else { self.pop_rdx(at).collect() };
        words.push(store);
        words
    }

    fn stop(&self, code: Code, id: u32) -> Vec<u64> {
        let stop = Question::value("tkill", libc::SYS_tkill, &[]);
        self.call(code, &stop, [u64::from(id), self.signal as u64, 0, 0])
    }
}

impl Chain {
    /// What the thread's room holds afterwards.
    fn answers(&self, thread: &Thread) -> Result<Vec<Answer>> {
        let tid = thread.tid();
        let scratch = thread.undo.as_ref().map_or(0, |u| u.scratch);
        let bytes = mem::read(tid, scratch, self.results as usize)?;
        let one = |link: &Link| {
            let (result, out) = (link.result as usize, link.out as usize);
            let [result, ..] = words_of(&bytes[result..result + 8]);
            if result == UNSTORED {
                let reason = "a chain of calls of ours had no effect";
                return Err(CaptureError::NoFooting { tid, reason });
            }
            let words = link.question.out.map_or(0, |(_, words)| words);
            Ok(Answer { result: result as i64, words: words_of(&bytes[out..out + 8 * words]) })
        };
        self.links.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::footing::PopRdx;
    use crate::capture::proc::status::Status;

    const CODE: Code = Code {
        syscall: 0x1000,
        sigreturn: 0x2000,
        tails: Some(Tails {
            pops: [0x10, 0x20, 0x30],
            rdx: PopRdx { at: 0x40, more: 1 },
            store: Store { at: 0x50, by_rdi: false },
        }),
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
        let mut chains = possible(CODE, &[], &[]).unwrap();
        let action = Question::words("rt_sigaction", 13, &[9, 0, 0, 8], 2, 4);
        let chain = chains.chain(CODE, &[Question::value("a", 7, &[8, 9]), action]);
        assert_eq!((chain.results, chain.fourth), (48, Some(8)));
        let stop = [0x10, 200, 0x20, 3, 0x30, libc::SIGURG as u64, 0x1000];
        let first = [7, 0x20, 8, 0x30, 9, 0x1000, 0x40, 0x8000, 0, 0x50];
        let second = [0x10, 13, 0x20, 9, 0x30, 0, 0x40, 0x8010, 0, 0x1000, 0x40, 0x8008, 0, 0x50];
        assert_eq!(chains.words(CODE, &chain, 0x8000, 3), [&first[..], &second, &stop].concat());
        chains.tails.store.by_rdi = true;
        assert_eq!(chains.words(CODE, &chain, 0x8000, 3)[6..9], [0x20, 0x8000, 0x50]);
    }

    #[test]
    fn as_many_as_have_room() {
        let chains = possible(CODE, &[], &[]).unwrap();
        let action = |signal| Question::words("rt_sigaction", 13, &[signal, 0, 0, 8], 2, 4);
        let all: Vec<Question> = (1..65).map(action).collect();
        let chain = chains.chain(CODE, &all);
        assert!(!chain.links.is_empty() && chain.results <= SCRATCH);
        let words = chains.words(CODE, &chain, 0, 1).len() as u64;
        assert!(words * 8 <= CHAIN_MAX, "{words} words");
        // One that looks at an argument which the others have otherwise is asked alone.
        let strict = Question::value("prctl", 157, &[42, 0, 0, 0]);
        assert_eq!(chains.chain(CODE, &[action(1), strict, action(2)]).links.len(), 1);
        assert_eq!(chains.chain(CODE, &[strict, action(2)]).links.len(), 1);
        assert_eq!(chains.chain(CODE, &[strict, Question::value("brk", 12, &[0])]).links.len(), 2);
    }
}
