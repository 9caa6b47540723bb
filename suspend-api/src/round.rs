//! A round: from the dumper's question to its outcome (docs/suspend-api.md).

use crate::block::{self, Block};
use crate::registry::{self, Answer, RawOutcome, RawRequest};
use crate::sys::{self, Mask};
use crate::{hold, machine};
use core::ffi::{c_char, CStr};
use core::sync::atomic::{AtomicU32, Ordering};
use image_format::control::{
    answer, outcome, request_flag, value_of, word, HOLD_TO_THE_END, TEXT_LEN,
};

/// How long a wait is before it looks around.
const SLICE_MS: u32 = 100;
/// Waiting time without a beat of the dumper after which it counts as dead. Counted in slices that
/// passed, not by the clock: time that passes while the process stands proves nothing.
const PATIENCE_MS: u32 = 3000;
/// How long to wait for the end of a section before looking again: an end may go unnoticed.
const SECTION_MS: u32 = 1;

/// Rounds that have ended, for those who wait for one; see [`crate::own`].
pub static ENDED: AtomicU32 = AtomicU32::new(0);
/// Outcome of the last round that ended: [`outcome`], or [`NOT_ASKED`].
pub static LAST: AtomicU32 = AtomicU32::new(NOT_ASKED);
/// There was no outcome: the program itself refused, or the dumper was gone.
pub const NOT_ASKED: u32 = 0;

/// Whether the dumper lives.
struct Pulse<'a> {
    block: &'a Block,
    beat: u32,
    silent_ms: u32,
}

impl<'a> Pulse<'a> {
    fn new(block: &'a Block) -> Self {
        Self { block, beat: block.beat.load(Ordering::Relaxed), silent_ms: 0 }
    }

    /// After a wait of so many milliseconds: false when there was no beat for too long.
    fn lives(&mut self, waited_ms: u32) -> bool {
        let beat = self.block.beat.load(Ordering::Relaxed);
        if beat == self.beat {
            self.silent_ms += waited_ms;
        } else {
            (self.beat, self.silent_ms) = (beat, 0);
        }
        self.silent_ms < PATIENCE_MS
    }
}

/// Conducts every round that is open, on the calling thread.
pub fn conduct() {
    while let Some(block) = block::own() {
        let Some(round) = block.open_round() else { return };
        let settled = matches!(
            block.answered(round),
            Some(answer::REFUSED | answer::WITHDRAWN | answer::DONE)
        );
        if settled || !hold::become_conductor() {
            return;
        }
        let done = run(block, round);
        if !done {
            // The child of a callback that forked, by a clone(2) that runs no hooks perhaps.
            crate::fork::child();
            return;
        }
        // Before it resigns: whoever sees no conductor sees this.
        ENDED.fetch_add(1, Ordering::Release);
        hold::resign();
        sys::wake(&ENDED);
    }
}

/// False in a child that a callback has forked.
fn run(block: &Block, round: u32) -> bool {
    LAST.store(NOT_ASKED, Ordering::Relaxed);
    block.hold_ms.store(HOLD_TO_THE_END, Ordering::Relaxed);
    block.answer(round, answer::HEARD);
    hold::close();
    if await_sections(block, round) {
        registry::begin_round();
        if !callbacks(block, round) {
            return false;
        }
        registry::end_round();
    }
    hold::open();
    true
}

/// Refuses for the sake of a section.
pub fn refuse_for_section(block: &Block, round: u32, reason: *const c_char) {
    // SAFETY: a reason is a C string that stays until the section ends, which it has not.
    let reason = (!reason.is_null()).then(|| unsafe { CStr::from_ptr(reason) });
    block.set_reason(
        reason.map_or(b"it is in a section that may not be interrupted", CStr::to_bytes),
    );
    block.answer(round, answer::REFUSED);
}

/// Says that a section is waited for.
pub fn say_holding(block: &Block, round: u32, ms: u32, reason: *const c_char) {
    // SAFETY: as above.
    let reason = (!reason.is_null()).then(|| unsafe { CStr::from_ptr(reason) });
    block.set_reason(reason.map_or(b"", CStr::to_bytes));
    block.hold_ms.store(ms, Ordering::Relaxed);
    block.answer(round, answer::HOLDING);
}

/// Waits until no section is held; false when that is not to be.
fn await_sections(block: &Block, round: u32) -> bool {
    let mut pulse = Pulse::new(block);
    let mut said = None;
    while let Some((ms, reason)) = hold::open_section() {
        if ms == 0 {
            refuse_for_section(block, round, reason);
            return false;
        }
        // The dumper keeps the time.
        if said != Some((ms, reason)) {
            say_holding(block, round, ms, reason);
            said = Some((ms, reason));
        }
        let waited = if hold::await_end(SECTION_MS) { SECTION_MS } else { 0 };
        if block.open_round() != Some(round) {
            block.answer(round, answer::DONE);
            return false;
        }
        if !pulse.lives(waited) {
            block.answer(round, answer::WITHDRAWN);
            return false;
        }
    }
    true
}

fn callbacks(block: &Block, round: u32) -> bool {
    block.answer(round, answer::CALLBACKS);
    let flags = value_of(block.request.load(Ordering::Relaxed));
    let mut request = RawRequest {
        timeout_ms: block.timeout_ms.load(Ordering::Relaxed),
        leave_running: u32::from(flags & request_flag::LEAVE_RUNNING != 0),
        reason: [0; TEXT_LEN],
    };
    match registry::ask(&mut request) {
        Answer::Child => return false,
        Answer::Refused => {
            registry::tell(&RawOutcome {
                event: outcome::CANCELLED,
                reason: request.reason,
                ..nothing(block)
            });
            let reason = request.reason.map(|c| c as u8);
            let none = reason[0] == 0;
            block.set_reason(if none { b"a suspend callback said no" } else { &reason });
            block.answer(round, answer::REFUSED);
        }
        Answer::Agreed => {
            let before = Mask::all_but(&[block.resume_signal()]).set();
            let suspended = sys::realtime_ns();
            block.answer(round, answer::READY);
            let event = await_outcome(block, round);
            let elapsed = sys::realtime_ns().saturating_sub(suspended).max(0) as u64;
            LAST.store(event.unwrap_or(NOT_ASKED), Ordering::Relaxed);
            registry::tell(&told(block, event, elapsed));
            before.set();
            if event.is_some() {
                block.answer(round, answer::DONE);
            }
        }
    }
    true
}

/// Waits at READY; none when the dumper is gone or asks anew.
fn await_outcome(block: &Block, round: u32) -> Option<u32> {
    let mut pulse = Pulse::new(block);
    loop {
        let event = block.outcome_of(round);
        if event.is_some() {
            return event;
        }
        let open = word(round, outcome::OPEN);
        let timed_out = sys::wait(&block.outcome, open, Some(SLICE_MS));
        let lost = block.open_round() != Some(round) && block.outcome_of(round).is_none();
        if lost || !pulse.lives(if timed_out { SLICE_MS } else { 0 }) {
            block.answer(round, answer::WITHDRAWN);
            // Should an image have been made before this answer was there, it holds: the thread that
            // an image brings back may stand here.
            return block.outcome_of(round);
        }
    }
}

fn nothing(block: &Block) -> RawOutcome {
    RawOutcome {
        event: outcome::CANCELLED,
        other_machine: 0,
        other_pid: 0,
        resumes: block.resumes.load(Ordering::Relaxed),
        elapsed_ns: 0,
        random: [0; 16],
        reason: [0; TEXT_LEN],
    }
}

/// What the callbacks are told of an outcome.
fn told(block: &Block, event: Option<u32>, elapsed_ns: u64) -> RawOutcome {
    let plain = RawOutcome { elapsed_ns, ..nothing(block) };
    match event {
        Some(outcome::RESUMED) => {
            hold::still_conductor();
            let pid = sys::pid();
            let other_pid = u32::from(block.pid.swap(pid, Ordering::Relaxed) != pid);
            if block.service_tid.load(Ordering::Relaxed) != 0 {
                block.service_tid.store(sys::tid(), Ordering::Relaxed);
            }
            let other_machine = u32::from(machine::is_another());
            machine::remember();
            let random = block.random();
            RawOutcome { event: outcome::RESUMED, other_machine, other_pid, random, ..plain }
        }
        Some(outcome::CONTINUED) => RawOutcome { event: outcome::CONTINUED, ..plain },
        Some(_) => RawOutcome { reason: block.text().map(|b| b as c_char), ..plain },
        None => {
            let mut reason = [0; TEXT_LEN];
            let text = b"the dumper is gone";
            for (to, from) in reason.iter_mut().zip(text) {
                *to = *from as c_char;
            }
            RawOutcome { reason, ..plain }
        }
    }
}
