//! What is asked inside a process, call by call: how to ask, and where the answer comes.

use super::error::Result;
use super::footing::Code;
use super::mem;
use super::remote::{call_each, Call};
use super::thread::Thread;

/// Words of the longest answer in memory: struct sigaction of the kernel, struct itimerval.
pub(super) const WORDS: usize = 4;

/// A system call to make, whose answer is its result and up to [`WORDS`] words in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    /// Name, for messages.
    pub name: &'static str,
    /// Number.
    pub nr: i64,
    /// Arguments.
    pub args: [u64; 4],
    /// Which argument is the address of the answer in memory, and how many words it has.
    pub out: Option<(usize, usize)>,
    /// How many arguments it looks at: what the others are does not matter.
    pub count: usize,
}

impl Question {
    /// Answered by its result.
    pub fn value(name: &'static str, nr: i64, args: &[u64]) -> Self {
        let mut all = [0; 4];
        all[..args.len()].copy_from_slice(args);
        Self { name, nr, args: all, out: None, count: args.len() }
    }

    /// Answered by `words` words in memory, to which argument `place` leads.
    pub fn words(name: &'static str, nr: i64, args: &[u64], place: usize, words: usize) -> Self {
        Self { out: Some((place, words)), ..Self::value(name, nr, args) }
    }

    /// The arguments, where the answer in memory goes to `at`.
    pub fn args_with(&self, at: u64) -> [u64; 4] {
        let mut args = self.args;
        if let Some((place, _)) = self.out {
            args[place] = at;
        }
        args
    }
}

/// An answer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Answer {
    /// What the kernel returned.
    pub result: i64,
    /// What it wrote.
    pub words: [u64; WORDS],
}

/// Words from bytes.
pub(super) fn words_of(bytes: &[u8]) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
    }
    words
}

/// Asks all threads, each its own questions, call by call.
pub(super) fn one_by_one(
    threads: &mut [Thread],
    code: Code,
    lists: &[Vec<Question>],
) -> Result<Vec<Vec<Answer>>> {
    let mut answers: Vec<Vec<Answer>> = vec![Vec::new(); lists.len()];
    let most = lists.iter().map(Vec::len).max().unwrap_or(0);
    let room = |thread: &Thread| thread.undo.as_ref().map_or(0, |u| u.scratch);
    for n in 0..most {
        let calls: Vec<Option<Call>> = threads
            .iter()
            .zip(lists)
            .map(|(thread, list)| {
                let question = list.get(n)?;
                let args = question.args_with(room(thread));
                Some(Call::new(question.name, question.nr, &args))
            })
            .collect();
        let results = call_each(threads, code, &calls)?;
        for (((thread, list), result), told) in
            threads.iter().zip(lists).zip(results).zip(&mut answers)
        {
            let Some(question) = list.get(n) else { continue };
            let mut answer = Answer { result, ..Answer::default() };
            if let (Some((_, words)), 0..) = (question.out, result) {
                let mut bytes = [0; WORDS * 8];
                mem::read_into(thread.tid(), room(thread), &mut bytes[..words * 8])?;
                answer.words = words_of(&bytes);
            }
            told.push(answer);
        }
    }
    Ok(answers)
}
