//! Programs without the library: the return of a handler of their own is their consent.

use super::ask::Patience;
use super::error::{ConsentError, Who};
use super::{signal, Round, RESUME, SUSPEND};
use crate::abort;
use crate::capture::{in_vfork, Candidate, CaptureError, Handled, Session, TakenBack};

/// A program with a handler of its own that was asked.
#[derive(Debug)]
pub struct Plain {
    pub who: Who,
}

impl Plain {
    /// Tells it that the suspension is over. What it has become meanwhile may have no handler, and would be
    /// ended by the signal.
    pub fn tell(&self) {
        if signal::handles(self.who.pid, RESUME) {
            // It may have ended.
            let _ = signal::send(&self.who, None, RESUME, signal::value());
        }
    }
}

impl Round {
    /// Has the handler of a program without the library run; its return is its consent.
    pub(super) fn ask_plain(
        &mut self,
        session: &mut Session,
        candidate: &Candidate,
        tell: &dyn Fn(String),
    ) -> Result<(), ConsentError> {
        let who = Who::of(candidate);
        tell(format!("asking {who} by its own handler"));
        let mut patience = Patience::new(self.timeout);
        // What is sent meanwhile could not be taken back, as such a process cannot be stopped.
        while let Some(child) = in_vfork(who.pid) {
            if patience.is_over() {
                let at = format!("it waits in vfork for process {child}");
                return Err(ConsentError::TimedOut { who, after: self.timeout, at });
            }
            if abort::requested() {
                return Err(ConsentError::Aborted);
            }
            patience.wait(&self.asked);
        }
        let unheard = |who, asked| Err(ConsentError::NotOptedIn { missing: vec![who], asked });
        if !signal::handles(who.pid, SUSPEND) {
            // It was looked at a while ago.
            return if signal::is_gone(who.pid) { Ok(()) } else { unheard(who, self.began) };
        }
        self.began = true;
        // Traced, it does not show that any more.
        let stood = signal::is_stopped(who.pid);
        let value = signal::value();
        let mut failed = None;
        let send = || {
            signal::send(&who, None, SUSPEND, value).map_err(|e| match e {
                ConsentError::Capture(e) => e,
                _ => CaptureError::Died { pid: who.pid, during: "being asked" },
            })
        };
        let asked = &self.asked;
        let handled = session.run_handler(who.pid, (SUSPEND as i32, value), send, &mut || {
            patience.beat(asked);
            if abort::requested() {
                failed = Some(ConsentError::Aborted);
            }
            failed.is_none() && !patience.is_over()
        })?;
        let at = match handled {
            Handled::Unhandled => return unheard(who, true),
            Handled::Returned => {
                self.plain.push(Plain { who });
                return Ok(());
            }
            Handled::Running => {
                self.plain.push(Plain { who: who.clone() });
                "its handler has not returned"
            }
            Handled::Pending => match session.take_back(who.pid, SUSPEND as i32, value) {
                Ok(TakenBack::Gone) if stood => {
                    "it is stopped, and takes no signal until it is continued"
                }
                Ok(TakenBack::Gone) => "it blocks the suspend signal, which was taken back",
                Ok(TakenBack::TooLate) => {
                    self.plain.push(Plain { who: who.clone() });
                    "it took the suspend signal too late"
                }
                Ok(TakenBack::Stays) => "it blocks the suspend signal, which cannot be taken back",
                Err(CaptureError::Died { .. }) => return Err(ConsentError::Ended(who)),
                Err(_) => {
                    "it blocks the suspend signal, and does not stop for that to be taken back"
                }
            },
        };
        let late = ConsentError::TimedOut { who, after: self.timeout, at: at.to_owned() };
        Err(failed.unwrap_or(late))
    }
}
