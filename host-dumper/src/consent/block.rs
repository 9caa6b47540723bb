//! Control blocks in the memory of others: claims, until they were looked at.

use super::error::{ConsentError, Who};
use super::{signal, watch};
use crate::capture::{has_block, mem, Candidate, CaptureError};
use image_format::control::{
    answer, offset, text_from, text_of, word, ControlBlock, ControlError, SIGNALS,
};
use nix::errno::Errno;
use std::time::{Duration, Instant};

/// As long as a process that executes another program may look as if it had ended.
const EXEC: Duration = Duration::from_millis(100);

/// Blocks of one process beyond which they are no libraries': a program and its plugins may each
/// have one.
const MOST: usize = 16;

/// A block that was found good.
#[derive(Debug, Clone)]
pub struct Found {
    /// Whose.
    pub who: Who,
    /// Its address.
    pub at: u64,
    /// What it said when it was found.
    pub block: ControlBlock,
}

/// What the program says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Round and answer.
    pub word: u32,
    /// How long a held section may be waited for.
    pub hold_ms: u32,
}

/// The blocks of a process that are its own; a block that came over a fork is its parent's.
pub fn of(candidate: &Candidate) -> Result<Vec<Found>, ConsentError> {
    let who = Who::of(candidate);
    let mut all = Vec::new();
    if candidate.blocks.len() > MOST {
        return Err(ConsentError::TooMany { who, count: candidate.blocks.len() });
    }
    for &at in &candidate.blocks {
        let damaged = |source: ControlError| ConsentError::Damaged { who: who.clone(), at, source };
        let bytes = match read(who.pid, at) {
            Ok(bytes) => bytes,
            // It has ended, or become another program.
            Err(_) if !has_block(who.pid, at) => continue,
            Err(_) => return Err(damaged(ControlError::Word("memory"))),
        };
        if bytes.iter().all(|&b| b == 0) {
            // It is just being made.
            continue;
        }
        let block = ControlBlock::read(&bytes).map_err(damaged)?;
        let cookie = match read_word(who.pid, block.cookie_address) {
            Ok(cookie) => cookie,
            Err(_) if !has_block(who.pid, at) => continue,
            Err(_) => return Err(damaged(ControlError::Word("address of the cookie"))),
        };
        if cookie == 0 {
            continue;
        }
        if cookie != block.cookie {
            return Err(damaged(ControlError::Word("cookie")));
        }
        // Without a handler the signal would end the process.
        let caught = |signal: u32| {
            debug_assert!((1..=SIGNALS).contains(&signal));
            candidate.caught >> (signal - 1) & 1 == 1
        };
        if !caught(block.suspend_signal) {
            return Err(damaged(ControlError::Word("suspend signal, which has no handler,")));
        }
        if !caught(block.resume_signal) {
            return Err(damaged(ControlError::Word("resume signal, which has no handler,")));
        }
        all.push(Found { who: who.clone(), at, block });
    }
    Ok(all)
}

// Memory that does not answer is given a limit.

fn read(pid: u32, at: u64) -> Result<Vec<u8>, CaptureError> {
    watch::within(pid, || mem::read(pid, at, ControlBlock::SIZE))
}

fn read_word(pid: u32, at: u64) -> Result<u64, CaptureError> {
    watch::within(pid, || mem::read_word(pid, at))
}

impl Found {
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), ConsentError> {
        let pid = self.who.pid;
        let written = watch::within(pid, || mem::write(pid, self.at + offset, bytes));
        written.map_err(|e| self.lost(e))
    }

    /// Writes a word of the dumper's.
    pub fn put(&self, offset: u64, value: u32) -> Result<(), ConsentError> {
        self.write(offset, &value.to_le_bytes())
    }

    /// Writes why it is called off.
    pub fn put_text(&self, text: &str) -> Result<(), ConsentError> {
        self.write(offset::TEXT, &text_from(text.as_bytes()))
    }

    /// Writes the outcome of the round whose number is there already: a single byte, so that
    /// nobody sees half of it.
    pub fn put_outcome(&self, outcome: u32) -> Result<(), ConsentError> {
        self.write(offset::OUTCOME, &[outcome as u8])
    }

    /// What is wrong where its memory cannot be read: it may have ended, or put another program in its place.
    fn lost(&self, error: CaptureError) -> ConsentError {
        // A thread that starts another program ends the first thread before it takes its id.
        let begin = Instant::now();
        while signal::is_gone(self.who.pid) && begin.elapsed() < EXEC {
            std::thread::sleep(EXEC / 50);
        }
        match error {
            _ if signal::is_gone(self.who.pid) => ConsentError::Ended(self.who.clone()),
            CaptureError::Memory { errno: Errno::EFAULT, .. } | CaptureError::Died { .. } => {
                ConsentError::Lost(self.who.clone())
            }
            error => error.into(),
        }
    }

    /// A thread of the library is gone, and with it, in a moment, the block.
    pub fn await_loss(&self) -> Result<(), ConsentError> {
        let begin = Instant::now();
        while begin.elapsed() < EXEC {
            self.again()?;
            std::thread::sleep(EXEC / 50);
        }
        Ok(())
    }

    /// The answer as it stands.
    pub fn answer(&self) -> Result<Answer, ConsentError> {
        let word = read_word(self.who.pid, self.at + offset::ANSWER);
        let bytes = word.map_err(|e| self.lost(e))?;
        let answer = Answer { word: bytes as u32, hold_ms: (bytes >> 32) as u32 };
        if answer.word & 0xff > answer::DONE {
            let source = ControlError::Word("answer");
            return Err(ConsentError::Damaged { who: self.who.clone(), at: self.at, source });
        }
        Ok(answer)
    }

    /// The block as it stands.
    pub fn again(&self) -> Result<ControlBlock, ConsentError> {
        let bytes = read(self.who.pid, self.at).map_err(|e| self.lost(e))?;
        let damaged = |source| ConsentError::Damaged { who: self.who.clone(), at: self.at, source };
        match ControlBlock::read(&bytes).map_err(damaged)? {
            block if block.cookie == self.block.cookie => Ok(block),
            _ => Err(damaged(ControlError::Word("cookie"))),
        }
    }

    /// The program's reason, in one line of printable text.
    pub fn reason(&self) -> Result<String, ConsentError> {
        Ok(printable(text_of(&self.again()?.reason)))
    }

    /// The beat as it stands.
    pub fn beat(&self) -> Result<u32, ConsentError> {
        Ok(self.again()?.beat)
    }

    /// Still at READY of this round.
    pub fn is_ready(&self, round: u32) -> Result<bool, ConsentError> {
        Ok(self.answer()?.word == word(round, answer::READY))
    }
}

/// Text of another process, for a terminal: nothing that drives it.
fn printable(text: &[u8]) -> String {
    /// Change the direction of what follows.
    const TURNS: [char; 12] = [
        '\u{61c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}',
        '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}',
    ];
    String::from_utf8_lossy(text)
        .chars()
        .map(|c| if c.is_control() || TURNS.contains(&c) { ' ' } else { c })
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_do_no_harm_to_a_terminal() {
        assert_eq!(printable(b"busy\x1b[2J\nnow\xff"), "busy [2J now\u{fffd}");
        assert_eq!(printable("on\u{202e}ffo".as_bytes()), "on ffo");
    }
}
