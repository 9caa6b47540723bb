//! Asking first: programs that opted in have a say in their suspension (docs/suspend-api.md).
//!
//! * `parts`: who takes part;
//! * `block`: control blocks of others, read with care, within the limit that `watch` keeps;
//! * `ask`: one question and its answer, of programs with the library;
//! * `plain`: programs without it, asked by a handler of their own;
//! * `signal`: signals that are known again;
//! * `error`: why there is no consent.
//!
//! [`Round`] holds whoever was asked, from the question to the outcome; dropped without an outcome it
//! tells them that the suspension is cancelled.

mod ask;
mod block;
mod error;
mod parts;
mod plain;
mod signal;
mod watch;

pub use error::{ConsentError, Who};
pub use watch::limit;

use crate::abort;
use crate::capture::{in_vfork, queued, Candidate, CaptureError, Captured, Session};
use ask::{Asked, Patience};
use block::Found;
use image_format::codec::Bytes;
use image_format::control::{offset, outcome};
use image_format::model::{Control, SigInfo};
use parts::Part;
use plain::Plain;
use std::time::{Duration, Instant};

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

/// The questions of one dump.
#[derive(Debug)]
pub struct Round {
    policy: Policy,
    timeout: Duration,
    leave_running: bool,
    asked: Vec<Asked>,
    plain: Vec<Plain>,
    /// Somebody was sent a signal.
    began: bool,
    since: Instant,
    /// Why it will have been cancelled, should nothing else be said.
    text: String,
}

/// Who would be asked, in words, or who stands in the way of that. Nobody is asked yet.
pub fn outlook(policy: Policy, candidates: &[Candidate]) -> Result<Vec<String>, ConsentError> {
    let parts = parts::of(policy, candidates)?;
    let missing = parts::deaf(candidates, &parts);
    if !missing.is_empty() {
        return Err(ConsentError::NotOptedIn { missing, asked: false });
    }
    let note = |(candidate, part): (&Candidate, Part)| {
        let who = Who::of(candidate);
        match part {
            Part::Library(_) => Some(format!("{who} is asked first, as it registered for that")),
            Part::Plain => Some(format!("{who} is asked first, by its handler for SIGUSR1")),
            Part::None | Part::Deaf => None,
        }
    };
    Ok(candidates.iter().zip(parts).filter_map(note).collect())
}

impl Round {
    /// Nobody was asked yet.
    pub fn new(policy: Policy, timeout: Duration, leave_running: bool) -> Self {
        let text = String::from("the dumper failed");
        let (asked, plain) = (Vec::new(), Vec::new());
        let since = Instant::now();
        Self { policy, timeout, leave_running, asked, plain, began: false, since, text }
    }

    /// Whether there is time to ask once more, where somebody turns up again and again who was not
    /// asked: a program that becomes another one all the time.
    pub fn has_time(&self) -> bool {
        self.since.elapsed() < self.timeout
    }

    /// Asks whoever opted in and was not asked yet, children before their parents. True if anybody
    /// was. `tell` hears who is asked.
    pub fn ask(
        &mut self,
        session: &mut Session,
        tell: &dyn Fn(String),
    ) -> Result<bool, ConsentError> {
        let candidates = session.candidates();
        let parts = parts::of(self.policy, &candidates)?;
        let missing = parts::deaf(&candidates, &parts);
        if !missing.is_empty() {
            return Err(ConsentError::NotOptedIn { missing, asked: self.began });
        }
        let depths = parts::depths(&candidates);
        let mut anybody = false;
        for depth in (0..=depths.iter().copied().max().unwrap_or(0)).rev() {
            let mut group = Vec::new();
            let mut plain = Vec::new();
            for i in (0..candidates.len()).filter(|&i| depths[i] == depth) {
                match &parts[i] {
                    Part::Library(found) => group.extend(found.iter().filter(|f| self.is_new(f))),
                    Part::Plain if self.is_stranger(&candidates[i]) => plain.push(&candidates[i]),
                    _ => {}
                }
            }
            anybody |= !group.is_empty() || !plain.is_empty();
            self.ask_library(session, group, tell)?;
            for candidate in plain {
                let asked = self.ask_plain(session, candidate, tell);
                asked.or_else(|error| passing(error, session.pid()))?;
            }
        }
        Ok(anybody)
    }

    /// It was not asked yet.
    fn is_new(&self, found: &Found) -> bool {
        !self.asked.iter().any(|a| a.is(found))
    }

    /// The same of a program without the library.
    fn is_stranger(&self, candidate: &Candidate) -> bool {
        !self.plain.iter().any(|p| p.who.pid == candidate.pid)
    }

    /// Asks processes of one generation at the same time.
    fn ask_library(
        &mut self,
        session: &mut Session,
        group: Vec<&Found>,
        tell: &dyn Fn(String),
    ) -> Result<(), ConsentError> {
        let (first, root) = (self.asked.len(), session.pid());
        let mut new = Vec::with_capacity(group.len());
        for found in group {
            tell(format!("asking {}", found.who));
            match Asked::prepare(found.clone()) {
                Ok(asked) => new.push(asked),
                Err(error) => passing(error, root)?,
            }
        }
        self.see_rivals(&new)?;
        let mut patience = Patience::new(self.timeout);
        for asked in new {
            if let Err(error) = self.put(session, asked, &mut patience) {
                passing(error, root)?;
                self.asked.pop();
            }
        }
        let mut patience = Patience::new(self.timeout);
        loop {
            let (mut waiting, mut i) = (false, first);
            while let Some(asked) = self.asked.get_mut(i) {
                match asked.look(&patience) {
                    Ok(ready) => (waiting, i) = (waiting || !ready, i + 1),
                    Err(error) => {
                        passing(error, root)?;
                        self.asked.remove(i);
                    }
                }
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

    /// Puts the question, once the round before is over.
    fn put(
        &mut self,
        session: &mut Session,
        asked: Asked,
        patience: &mut Patience,
    ) -> Result<(), ConsentError> {
        // Known before it is asked, so that it is told whatever happens.
        self.asked.push(asked);
        let last = self.asked.len() - 1;
        while self.asked[last].is_behind()? {
            if patience.is_over() {
                return Err(self.asked[last].stays_behind(self.timeout));
            }
            if abort::requested() {
                return Err(ConsentError::Aborted);
            }
            patience.wait(&self.asked[..last]);
        }
        while self.asked[last].starts()? && !patience.is_over() {
            patience.wait(&self.asked[..last]);
        }
        self.began = true;
        self.asked[last].ask(session, self.timeout, self.leave_running)
    }

    /// Sees that no other dumper asks one of these.
    fn see_rivals(&self, new: &[Asked]) -> Result<(), ConsentError> {
        let rivals: Vec<_> = new.iter().filter_map(|a| a.rival().map(|pid| (a, pid))).collect();
        let mut patience = Patience::new(ask::OTHER);
        while !rivals.is_empty() && !patience.is_over() {
            if abort::requested() {
                return Err(ConsentError::Aborted);
            }
            patience.wait(&self.asked);
            if let Some((asked, other)) = rivals.iter().find(|(a, _)| a.beats()) {
                return Err(ConsentError::Busy { who: asked.found.who.clone(), other: *other });
            }
        }
        Ok(())
    }

    /// Takes a signal back that was not taken, and tells what the program was doing.
    pub fn tidy(&mut self, session: &mut Session) {
        for asked in &self.asked {
            // In vfork it cannot be stopped for that; without a question the signal does nothing.
            let pid = asked.found.who.pid;
            if let (Some(value), None) = (asked.unheard(), in_vfork(pid)) {
                // The process may have ended; then there is nothing to take back.
                let _ = session.take_back(pid, asked.signal() as i32, value);
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
        let mut i = 0;
        while let Some(asked) = self.asked.get(i) {
            match asked.confirm() {
                Ok(()) => i += 1,
                Err(error) => {
                    passing(error, session.pid())?;
                    self.asked.remove(i);
                }
            }
        }
        let parts = parts::of(self.policy, &candidates)?;
        let known = |(candidate, part): (&Candidate, &Part)| match part {
            Part::None => true,
            Part::Library(found) => !found.iter().any(|f| self.is_new(f)),
            Part::Plain | Part::Deaf => !self.is_stranger(candidate),
        };
        Ok(candidates.iter().zip(&parts).all(known))
    }

    /// Before a stop is undone and done again: those of the library stay where they are, the others
    /// are told, and asked again.
    pub fn loosen(&mut self) {
        for plain in self.plain.drain(..) {
            plain.tell();
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
            let hears = candidate.caught >> (RESUME - 1) & 1 == 1;
            if hears && !self.is_stranger(candidate) {
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
            plain.tell();
        }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// One that is not the root has ended, or become another program, while it was asked: the others go on.
fn passing(error: ConsentError, root: u32) -> Result<(), ConsentError> {
    match error {
        ConsentError::Ended(who) | ConsentError::Lost(who) if who.pid != root => Ok(()),
        ConsentError::Capture(CaptureError::Died { pid, .. })
            if pid != root && signal::is_gone(pid) =>
        {
            Ok(())
        }
        error => Err(error),
    }
}

/// A dumper that `pid` started on itself has failed: says so in its control block.
pub fn gave_up(pid: u32, failed: &crate::failure::Failure) {
    let status = i32::from(failed.status);
    // SAFETY: ends this process without its exit handlers: its other thread is in the middle of a call.
    limit(Duration::ZERO, move |_| unsafe { libc::_exit(status) });
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
