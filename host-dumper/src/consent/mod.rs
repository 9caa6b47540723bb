//! Asking first: programs that opted in have a say in their suspension (docs/suspend-api.md).
//!
//! * `block`: control blocks of others, read with care;
//! * `ask`: one question and its answer, of programs with the library;
//! * `signal`: signals that are known again;
//! * `error`: why there is no consent.
//!
//! [`Round`] holds whoever was asked, from the question to the outcome; dropped without an outcome it
//! tells them that the suspension is cancelled.

mod ask;
mod block;
mod error;
mod signal;

pub use error::{ConsentError, Who};

use crate::abort;
use crate::capture::{queued, Candidate, Captured, Handled, Session};
use ask::{Asked, Patience};
use block::Found;
use image_format::codec::Bytes;
use image_format::control::{offset, outcome};
use image_format::model::{Control, SigInfo};
use std::time::Duration;

/// Signals of a program without the library.
const SUSPEND: u32 = libc::SIGUSR1 as u32;
const RESUME: u32 = libc::SIGUSR2 as u32;

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Programs that registered through the library.
    #[default]
    Auto,
    /// Those, and programs with a handler of their own; any other one cancels.
    Require,
    /// Nobody.
    Ignore,
}

/// A program with a handler of its own that has consented.
#[derive(Debug)]
struct Plain {
    who: Who,
    /// It has a handler for the resume signal.
    hears: bool,
}

/// The questions of one dump.
#[derive(Debug)]
pub struct Round {
    policy: Policy,
    timeout: Duration,
    leave_running: bool,
    asked: Vec<Asked>,
    plain: Vec<Plain>,
    /// Why it will have been cancelled, should nothing else be said.
    text: String,
}

/// Who would be asked, in words, or who stands in the way of that. Nobody is asked yet.
pub fn outlook(policy: Policy, candidates: &[Candidate]) -> Result<Vec<String>, ConsentError> {
    let mut notes = Vec::new();
    if policy == Policy::Ignore {
        return Ok(notes);
    }
    let mut missing = Vec::new();
    for candidate in candidates {
        let who = Who { pid: candidate.pid, name: candidate.name.clone() };
        if !block::of(candidate)?.is_empty() {
            notes.push(format!("{who} is asked first, as it registered for that"));
        } else if policy == Policy::Require && is_deaf(candidate) {
            missing.push(who);
        } else if policy == Policy::Require {
            notes.push(format!("{who} is asked first, by its handler for SIGUSR1"));
        }
    }
    if missing.is_empty() {
        Ok(notes)
    } else {
        Err(ConsentError::NotOptedIn(missing))
    }
}

/// Has no handler for the suspend signal.
fn is_deaf(candidate: &Candidate) -> bool {
    candidate.caught >> (SUSPEND - 1) & 1 == 0
}

impl Round {
    /// Nobody was asked yet.
    pub fn new(policy: Policy, timeout: Duration, leave_running: bool) -> Self {
        let text = String::from("the dumper failed");
        Self { policy, timeout, leave_running, asked: Vec::new(), plain: Vec::new(), text }
    }

    /// Asks whoever opted in and was not asked yet, children before their parents. True if anybody
    /// was. `tell` hears who is asked.
    pub fn ask(
        &mut self,
        session: &mut Session,
        tell: &dyn Fn(String),
    ) -> Result<bool, ConsentError> {
        if self.policy == Policy::Ignore {
            return Ok(false);
        }
        let candidates = session.candidates();
        let mut library = Vec::with_capacity(candidates.len());
        for candidate in &candidates {
            library.push(block::of(candidate)?);
        }
        if self.policy == Policy::Require {
            let missing: Vec<Who> = candidates
                .iter()
                .zip(&library)
                .filter(|(c, blocks)| blocks.is_empty() && is_deaf(c))
                .map(|(c, _)| Who { pid: c.pid, name: c.name.clone() })
                .collect();
            if !missing.is_empty() {
                return Err(ConsentError::NotOptedIn(missing));
            }
        }
        let depths = depths(&candidates);
        let mut anybody = false;
        for depth in (0..=depths.iter().copied().max().unwrap_or(0)).rev() {
            let mut group = Vec::new();
            let mut plain = Vec::new();
            for (i, candidate) in candidates.iter().enumerate().filter(|(i, _)| depths[*i] == depth)
            {
                let new = |found: &Found| !self.asked.iter().any(|a| a.is(found));
                group.extend(library[i].iter().filter(|found| new(found)).cloned());
                let known = self.plain.iter().any(|p| p.who.pid == candidate.pid);
                if self.policy == Policy::Require && library[i].is_empty() && !known {
                    plain.push(candidate);
                }
            }
            anybody |= !group.is_empty() || !plain.is_empty();
            self.ask_library(group, tell)?;
            for candidate in plain {
                self.ask_plain(session, candidate, tell)?;
            }
        }
        Ok(anybody)
    }

    /// Asks processes of one generation at the same time.
    fn ask_library(
        &mut self,
        group: Vec<Found>,
        tell: &dyn Fn(String),
    ) -> Result<(), ConsentError> {
        let first = self.asked.len();
        let mut patience = Patience::new(self.timeout);
        for found in group {
            tell(format!("asking {}", found.who));
            let asked = Asked::prepare(found)?;
            while asked.is_behind()? {
                if patience.is_over() {
                    return Err(asked.stays_behind(self.timeout));
                }
                if abort::requested() {
                    return Err(ConsentError::Aborted);
                }
                patience.wait(&self.asked);
            }
            // Known before it is asked, so that it is told whatever happens.
            self.asked.push(asked);
            let last = self.asked.len() - 1;
            self.asked[last].ask(self.timeout, self.leave_running)?;
        }
        let mut patience = Patience::new(self.timeout);
        loop {
            let mut waiting = false;
            for asked in &mut self.asked[first..] {
                waiting |= !asked.look(&patience)?;
            }
            if !waiting {
                return Ok(());
            }
            if abort::requested() {
                return Err(ConsentError::Aborted);
            }
            patience.wait(&self.asked);
        }
    }

    /// Has the handler of a program without the library run; its return is its consent.
    fn ask_plain(
        &mut self,
        session: &mut Session,
        candidate: &Candidate,
        tell: &dyn Fn(String),
    ) -> Result<(), ConsentError> {
        let who = Who { pid: candidate.pid, name: candidate.name.clone() };
        tell(format!("asking {who} by its own handler"));
        let value = signal::value();
        let mut patience = Patience::new(self.timeout);
        let asked = &self.asked;
        let mut failed = None;
        let send = || {
            signal::send(&who, None, SUSPEND, value).map_err(|e| match e {
                ConsentError::Capture(e) => e,
                _ => crate::capture::CaptureError::Died { pid: who.pid, during: "being asked" },
            })
        };
        let handled = session.run_handler(who.pid, (SUSPEND as i32, value), send, &mut || {
            patience.beat(asked);
            if abort::requested() {
                failed = Some(ConsentError::Aborted);
            }
            failed.is_none() && !patience.is_over()
        })?;
        let hears = candidate.caught >> (RESUME - 1) & 1 == 1;
        if handled != Handled::Pending {
            self.plain.push(Plain { who: who.clone(), hears });
        }
        let at = match handled {
            Handled::Returned => return Ok(()),
            Handled::Running => "its handler has not returned",
            Handled::Pending => {
                if session.take_back(who.pid, SUSPEND as i32, value)? {
                    "it blocks the suspend signal, which was taken back"
                } else {
                    "it took the suspend signal too late"
                }
            }
        };
        let late = ConsentError::TimedOut { who, after: self.timeout, at: at.to_owned() };
        Err(failed.unwrap_or(late))
    }

    /// Takes a signal back that was not taken, and tells what the program was doing.
    pub fn tidy(&mut self, session: &mut Session) {
        for asked in &self.asked {
            if let Some(value) = asked.unheard() {
                // The process may have ended; then there is nothing to take back.
                let _ = session.take_back(asked.found.who.pid, asked.signal() as i32, value);
            }
        }
    }

    /// All stand: sees that nobody has gone back on its word. False if somebody has turned up who was
    /// not asked.
    pub fn confirm(&mut self, session: &Session) -> Result<bool, ConsentError> {
        if self.policy == Policy::Ignore {
            return Ok(true);
        }
        let candidates = session.candidates();
        self.asked.retain(|a| candidates.iter().any(|c| c.pid == a.found.who.pid));
        self.plain.retain(|p| candidates.iter().any(|c| c.pid == p.who.pid));
        for asked in &self.asked {
            asked.confirm()?;
        }
        for candidate in &candidates {
            let blocks = block::of(candidate)?;
            if blocks.iter().any(|found| !self.asked.iter().any(|a| a.is(found))) {
                return Ok(false);
            }
            let known = self.plain.iter().any(|p| p.who.pid == candidate.pid);
            if self.policy == Policy::Require && blocks.is_empty() && !known {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Before a stop is undone and done again: those of the library stay where they are, the others
    /// are told, and asked again.
    pub fn loosen(&mut self) {
        for plain in self.plain.drain(..) {
            tell_plain(&plain);
        }
        Patience::new(self.timeout).beat(&self.asked);
    }

    /// Puts into the model what the resume has to do for those that were asked, and for those that
    /// have a block all the same.
    pub fn enter(&self, session: &Session, captured: &mut Captured) {
        let candidates = session.candidates();
        for (process, candidate) in captured.tree.processes.iter_mut().zip(&candidates) {
            // A damaged one is an error where it is asked; where not, it is just memory.
            let blocks = block::of(candidate).unwrap_or_default();
            process.control = blocks
                .iter()
                .map(|found| Control {
                    address: found.at,
                    asked: self.asked.iter().any(|a| a.is(found)),
                })
                .collect();
            if self.plain.iter().any(|p| p.hears && p.who.pid == candidate.pid) {
                let uid = process.credentials.uids[0];
                let info = queued(RESUME as i32, 0, process.pid, uid);
                process.pending.push(SigInfo { raw: Bytes(info.to_vec()) });
            }
        }
    }

    /// Everything was read, and the processes are about to run on.
    pub fn continued(&mut self) {
        self.end(outcome::CONTINUED, "");
    }

    /// There is an image, and the processes have ended.
    pub fn over(&mut self) {
        self.asked.clear();
        self.plain.clear();
    }

    /// There will be no image, and why.
    pub fn cancelled(&mut self, text: &str) {
        text.clone_into(&mut self.text);
        self.cancel();
    }

    fn cancel(&mut self) {
        let text = std::mem::take(&mut self.text);
        self.end(outcome::CANCELLED, &text);
    }

    fn end(&mut self, how: u32, text: &str) {
        // Whoever has ended meanwhile need not be told.
        for asked in self.asked.drain(..) {
            let _ = asked.end(how, text);
        }
        for plain in self.plain.drain(..) {
            tell_plain(&plain);
        }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        self.cancel();
    }
}

fn tell_plain(plain: &Plain) {
    if plain.hears {
        // It may have ended.
        let _ = signal::send(&plain.who, None, RESUME, signal::value());
    }
}

/// How many generations each is below the root.
fn depths(candidates: &[Candidate]) -> Vec<usize> {
    let mut depths: Vec<usize> = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let parent = candidate.parent.and_then(|p| depths.get(p as usize));
        let depth = parent.map_or(0, |depth| depth + 1);
        depths.push(depth);
    }
    depths
}

/// A dumper that `pid` started on itself has failed: says so in its control block.
pub fn gave_up(pid: u32, failed: &crate::failure::Failure) {
    let Ok(session) = Session::look(
        pid,
        &crate::capture::Options { for_itself: true, ..crate::capture::Options::default() },
    ) else {
        return;
    };
    let Some(root) = session.candidates().into_iter().next() else { return };
    let text = failed.line();
    for found in block::of(&root).unwrap_or_default() {
        // Nobody is left to be told of a failure here.
        let _ = found.put_text(&text);
        let _ = found.put(offset::GAVE_UP, u32::from(failed.status));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_deeper_than_their_parents() {
        let one = |pid, parent| Candidate {
            pid,
            parent,
            name: String::new(),
            caught: 0,
            blocks: Vec::new(),
        };
        let tree = [one(1, None), one(2, Some(0)), one(3, Some(0)), one(4, Some(1))];
        assert_eq!(depths(&tree), [0, 1, 1, 2]);
    }
}
