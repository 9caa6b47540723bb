//! Out of code that will not be there after a resume, or that is ours.

use super::Member;
use crate::capture::error::{CaptureError, Result};
use crate::capture::memory;
use crate::capture::patience::Patience;
use crate::capture::thread::Thread;
use std::time::Duration;

/// How long a thread may take to leave the vdso or the stub.
const LEAVING: Duration = Duration::from_secs(10);

impl Member {
    /// Threads in the vdso, or in a few instructions of the stub, run on until they are out:
    /// what they are about to do depends on code that will not be there after a resume.
    /// Tells whether any did.
    pub(super) fn leave_code_of_ours(&mut self) -> Result<bool> {
        let mut ran = self.leave_last_moments()?;
        let stub = self.stub.as_ref();
        let vdso = memory::vdso_area(&self.survey.table).map(|a| (a.start, a.end));
        let pid = self.target.proc.pid();
        let inside = |t: &Thread| -> Result<bool> {
            let rip = t.regs.rip;
            if vdso.is_some_and(|(start, end)| (start..end).contains(&rip)) {
                return Ok(true);
            }
            let Some(stub) = stub else { return Ok(false) };
            let h = &stub.header;
            if (h.old_vdso..h.old_vdso.saturating_add(h.old_vdso_size)).contains(&rip) {
                return Ok(true);
            }
            if !stub.contains(rip) {
                return Ok(false);
            }
            // In a slot, waiting in its call or before it: that can be translated.
            let waits =
                (t.regs.orig_rax as i64) >= 0 && (t.regs.rax as i64) < 0 || stub.begins_slot(rip);
            Ok(!(waits && stub.slot(pid, rip)?.is_some()))
        };
        let mut patience = Patience::new(LEAVING);
        // Moments of changing length: a thread that asks for the time over and over must be met
        // elsewhere sooner or later.
        let mut moments = moments();
        loop {
            // All in turn: in the stub, the leader waits for the others, and they for it.
            let moment = moments.next().unwrap_or_default();
            let mut stays = false;
            for thread in &mut self.threads {
                if inside(thread)? {
                    stays = true;
                    thread.run_a_moment(moment)?;
                    if patience.is_over() {
                        return Err(staying(thread, &patience, "the kernel's own code, the vdso"));
                    }
                }
            }
            if !stays {
                break;
            }
            ran = true;
        }
        Ok(ran)
    }

    /// A process that a resume stopped stands in the stub's code, and none of its own may run: each
    /// thread makes one call after another, up to the one that returns into the program. Tells
    /// whether any did.
    fn leave_last_moments(&mut self) -> Result<bool> {
        let mut ran = false;
        let Some(stub) = &self.stub else { return Ok(ran) };
        if self.threads.first().is_none_or(|leader| leader.stop_signal == 0) {
            return Ok(ran);
        }
        let mut patience = Patience::new(LEAVING);
        loop {
            // All in turn: one waits for another.
            let mut inside = false;
            for thread in &mut self.threads {
                if stub.in_last_moments(thread.regs.rip) {
                    inside = true;
                    thread.run_one_call()?;
                    if patience.is_over() {
                        return Err(staying(thread, &patience, "the code of its resume"));
                    }
                }
            }
            if !inside {
                return Ok(ran);
            }
            ran = true;
        }
    }
}

fn staying(thread: &Thread, patience: &Patience, place: &str) -> CaptureError {
    CaptureError::NotStopping {
        tid: thread.tid(),
        seconds: patience.spent().as_secs(),
        state: format!("it stays in {place}"),
    }
}

/// Lengths of moments: short ones first, then longer and longer ones, so that a thread really runs
/// even where it must wait for a processor.
fn moments() -> impl Iterator<Item = Duration> {
    (0u64..).map(|i| {
        let longest = 20_000 << i.min(8);
        Duration::from_nanos(i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % longest)
    })
}
