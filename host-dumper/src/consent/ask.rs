//! One program with the library: the question, the wait, the outcome.

use super::block::{Answer, Found};
use super::error::ConsentError;
use super::signal;
use crate::capture::{in_vfork, Session};
use image_format::control::{
    answer, mode, next_round, offset, outcome, request_flag, round_of, value_of, word,
    HOLD_TO_THE_END,
};
use std::time::{Duration, Instant};

/// The library counts the dumper as dead after 3 seconds without a beat.
const BEAT: Duration = Duration::from_millis(100);
/// How long another dumper's beat is looked for.
pub const OTHER: Duration = Duration::from_millis(300);
/// An answer without callbacks comes within this time; until then no processor is left to sleep.
const SPIN: Duration = Duration::from_micros(300);
const LONGEST_NAP: Duration = Duration::from_millis(5);
/// From here on a limit of a section means "to its end".
const IN_A_SECTION: &str = "it is in a section that may not be interrupted";
const NO_LIMIT: u32 = HOLD_TO_THE_END - 1;

/// Waiting, with a beat for those who wait on the other side.
#[derive(Debug)]
pub struct Patience {
    since: Instant,
    limit: Duration,
    beat: Instant,
    nap: Duration,
}

impl Patience {
    pub fn new(limit: Duration) -> Self {
        let now = Instant::now();
        Self { since: now, limit, beat: now, nap: Duration::from_micros(20) }
    }

    pub fn is_over(&self) -> bool {
        self.since.elapsed() >= self.limit
    }

    /// Waits a moment.
    pub fn wait(&mut self, all: &[Asked]) {
        self.beat(all);
        if self.since.elapsed() < SPIN {
            std::thread::yield_now();
        } else {
            std::thread::sleep(self.nap);
            self.nap = (self.nap * 5 / 4).min(LONGEST_NAP);
        }
    }

    /// Gives a beat where it is time.
    pub fn beat(&mut self, all: &[Asked]) {
        if self.beat.elapsed() >= BEAT {
            self.beat = Instant::now();
            for asked in all {
                // One that has ended is found out elsewhere.
                let _ = asked.beat();
            }
        }
    }
}

/// A program that is asked.
#[derive(Debug)]
pub struct Asked {
    pub found: Found,
    round: u32,
    /// Value of the signal that was sent.
    value: u64,
    /// The library's thread, where it has one: nobody else is disturbed.
    thread: Option<u32>,
    sent: bool,
    agreed: bool,
    /// Since when it has waited for a section.
    holding: Option<Instant>,
    heard: bool,
}

impl Asked {
    /// Looks at it as it stands now: it may have been found a while ago.
    pub fn prepare(mut found: Found) -> Result<Self, ConsentError> {
        found.block = found.again()?;
        Ok(Self {
            round: next_round(round_of(found.block.request)),
            found,
            value: signal::value(),
            thread: None,
            sent: false,
            agreed: false,
            holding: None,
            heard: false,
        })
    }

    /// Another dumper that may be at it: its question has no outcome yet. Another process may have got
    /// its pid: only a beat proves it.
    pub fn rival(&self) -> Option<u32> {
        let (request, other) = (self.found.block.request, self.found.block.dumper);
        let round = round_of(request);
        let open = round != 0 && self.found.block.outcome == word(round, outcome::OPEN);
        (open && other != std::process::id() && !signal::is_gone(other)).then_some(other)
    }

    /// Whether there was a beat since it was looked at.
    pub fn beats(&self) -> bool {
        self.found.beat().is_ok_and(|beat| beat != self.found.block.beat)
    }

    /// The round before has an outcome that the program's callbacks were not all told yet: another
    /// question would overwrite it unread. (In a held section none of them has run.)
    pub fn is_behind(&self) -> Result<bool, ConsentError> {
        let block = self.found.again()?;
        let before = round_of(block.request);
        let tells = matches!(value_of(block.answer), answer::CALLBACKS | answer::READY);
        let open = block.outcome == word(before, outcome::OPEN);
        Ok(!open && tells && round_of(block.answer) == before)
    }

    /// Gave up on waiting for the end of the round before.
    pub fn stays_behind(&self, after: Duration) -> ConsentError {
        let at = String::from("its callbacks of the suspension before have not returned");
        ConsentError::TimedOut { who: self.found.who.clone(), after, at }
    }

    /// The library's thread has not yet begun.
    pub fn starts(&mut self) -> Result<bool, ConsentError> {
        if self.found.block.mode == mode::THREAD && self.found.block.service_tid == 0 {
            self.found.block = self.found.again()?;
        }
        Ok(self.found.block.mode == mode::THREAD && self.found.block.service_tid == 0)
    }

    /// Writes the request and sends the signal.
    pub fn ask(
        &mut self,
        session: &mut Session,
        timeout: Duration,
        leave_running: bool,
    ) -> Result<(), ConsentError> {
        let found = &self.found;
        let millis = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        found.put(offset::OUTCOME, word(self.round, outcome::OPEN))?;
        found.put(offset::TIMEOUT_MS, millis)?;
        found.put(offset::DUMPER, std::process::id())?;
        found.put_text("")?;
        let flags = if leave_running { request_flag::LEAVE_RUNNING } else { 0 };
        found.put(offset::REQUEST, word(self.round, flags))?;
        self.thread = match (found.block.mode, found.block.service_tid) {
            (mode::THREAD, tid) if tid != 0 => signal::thread(found.who.pid, tid),
            _ => None,
        };
        let (who, signal) = (&found.who, found.block.suspend_signal);
        if let Some(thread) = self.thread {
            match signal::send(who, Some(thread), signal, self.value) {
                // A process that becomes another program ends its threads first.
                Err(ConsentError::Ended(_)) => found.await_loss()?,
                sent => {
                    self.sent = true;
                    return sent;
                }
            }
        }
        // The program that it may become would be ended by the signal. Where it stands it becomes none, and
        // takes the signal before it does anything else; nor does it become one while it waits in vfork,
        // when it does not stop either.
        let send = || found.again().and_then(|_| signal::send(who, None, signal, self.value));
        let sent = match in_vfork(who.pid) {
            Some(_) => send(),
            None => session.standing(who.pid, send)?,
        };
        self.sent = true;
        sent
    }

    /// It is this process' block.
    pub fn is(&self, found: &Found) -> bool {
        (self.found.who.pid, self.found.at) == (found.who.pid, found.at)
    }

    fn beat(&self) -> Result<(), ConsentError> {
        self.found.put(offset::BEAT, self.found.beat()?.wrapping_add(1))
    }

    /// Looks for the answer; true when it consents.
    pub fn look(&mut self, patience: &Patience) -> Result<bool, ConsentError> {
        if self.agreed {
            return Ok(true);
        }
        let who = || self.found.who.clone();
        let said = self.found.answer()?;
        let answer = if round_of(said.word) == self.round { value_of(said.word) } else { 0 };
        self.heard |= answer != answer::IDLE;
        match answer {
            answer::READY => {
                self.agreed = true;
                return Ok(true);
            }
            answer::REFUSED => {
                return Err(ConsentError::Refused { who: who(), reason: self.found.reason()? })
            }
            answer::WITHDRAWN | answer::DONE => {
                let why = "it had heard nothing of this dumper for too long";
                return Err(ConsentError::Withdrawn { who: who(), why });
            }
            answer::HOLDING => held(&self.found, &mut self.holding, said)?,
            _ => self.holding = None,
        }
        if patience.is_over() {
            let reason = self.found.reason()?;
            let at = match answer {
                answer::IDLE if signal::is_stopped(self.found.who.pid) => {
                    String::from("it is stopped, and takes no signal until it is continued")
                }
                answer::IDLE => match in_vfork(self.found.who.pid) {
                    Some(child) => format!("it waits in vfork for process {child}"),
                    None => String::from("it has not taken the signal"),
                },
                answer::HOLDING if reason.is_empty() => String::from(IN_A_SECTION),
                answer::HOLDING => format!("it is in a section: {reason}"),
                _ => String::from("its suspend callbacks have not returned"),
            };
            return Err(ConsentError::TimedOut { who: who(), after: patience.limit, at });
        }
        Ok(false)
    }

    /// The signal was sent and not taken: its value.
    pub fn unheard(&self) -> Option<u64> {
        (self.sent && !self.heard).then_some(self.value)
    }

    pub fn signal(&self) -> u32 {
        self.found.block.suspend_signal
    }

    /// All stand: it is still at READY.
    pub fn confirm(&self) -> Result<(), ConsentError> {
        if self.found.is_ready(self.round)? {
            return Ok(());
        }
        let why = "between its answer and the stop";
        Err(ConsentError::Withdrawn { who: self.found.who.clone(), why })
    }

    /// Tells the outcome.
    pub fn end(&self, how: u32, text: &str) -> Result<(), ConsentError> {
        if round_of(self.found.again()?.request) != self.round {
            // It was never asked, or another dumper has the word by now.
            return Ok(());
        }
        self.found.put_text(text)?;
        self.found.put_outcome(how)?;
        // Who does not wait for it yet will look before it does.
        if self.agreed {
            let (found, resume) = (&self.found, self.found.block.resume_signal);
            found.again()?;
            signal::send(&found.who, self.thread, resume, self.value)?;
        }
        Ok(())
    }
}

/// A section says itself how long it may be waited for.
fn held(found: &Found, holding: &mut Option<Instant>, said: Answer) -> Result<(), ConsentError> {
    let since = *holding.get_or_insert_with(Instant::now);
    let limit = Duration::from_millis(u64::from(said.hold_ms));
    if said.hold_ms < NO_LIMIT && since.elapsed() >= limit {
        let reason = match found.reason()? {
            reason if reason.is_empty() => String::from(IN_A_SECTION),
            reason => reason,
        };
        return Err(ConsentError::Refused { who: found.who.clone(), reason });
    }
    Ok(())
}
