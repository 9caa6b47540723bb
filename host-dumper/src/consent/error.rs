//! Why a suspension did not come about for lack of consent, in words for its user.

use crate::capture::{Candidate, CaptureError};
use crate::failure::{status, Failure, Reason};
use image_format::control::ControlError;
use std::time::Duration;

/// A process, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// Its pid, as this program sees it.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

impl Who {
    pub(super) fn of(candidate: &Candidate) -> Self {
        Self { pid: candidate.pid, name: candidate.name.clone() }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

/// Why there is no consent.
#[derive(Debug, thiserror::Error)]
pub enum ConsentError {
    /// `--consent require`, and these did not opt in.
    #[error("the suspension was cancelled: {} has no handler for it", .missing.first().map_or_else(String::new, ToString::to_string))]
    NotOptedIn {
        /// Which ones.
        missing: Vec<Who>,
        /// Others were asked before this was seen.
        asked: bool,
    },
    /// A program says no.
    #[error("{who} refuses to be suspended: {reason}")]
    Refused {
        /// Which one.
        who: Who,
        /// Its own words.
        reason: String,
    },
    /// A program does not answer.
    #[error("{who} did not answer within {} ({at})", seconds(*.after))]
    TimedOut {
        /// Which one.
        who: Who,
        /// How long was waited.
        after: Duration,
        /// What it was doing.
        at: String,
    },
    /// A program took its consent back.
    #[error("{who} took its consent back: {why}")]
    Withdrawn {
        /// Which one.
        who: Who,
        /// Why, as far as is known.
        why: &'static str,
    },
    /// A control block cannot be understood.
    #[error("the control block of {who} at {at:#x} is damaged: {source}")]
    Damaged {
        /// Whose.
        who: Who,
        /// Its address.
        at: u64,
        /// What is wrong.
        source: ControlError,
    },
    /// A process has more control blocks than can be.
    #[error("{who} has {count} control blocks: no libraries have made these")]
    TooMany {
        /// Which one.
        who: Who,
        /// How many.
        count: usize,
    },
    /// A read of a process' memory does not end.
    #[error("{who} did not answer within {} (its memory does not: userfaultfd, or a file system)", seconds(*.after))]
    Stuck {
        /// Which one.
        who: Who,
        /// How long was waited.
        after: Duration,
    },
    /// Another dumper is at it.
    #[error("{who} is being asked by another dumper (process {other})")]
    Busy {
        /// Which one.
        who: Who,
        /// The other dumper.
        other: u32,
    },
    /// A process ended while it was asked.
    #[error("{0} ended while it was asked; there is nothing left to dump")]
    Ended(Who),
    /// Its block is no longer where it was.
    #[error("the control block of {0} is gone: it has become another program, perhaps")]
    Lost(Who),
    /// New processes turn up whenever all others agree.
    #[error("the tree makes processes faster than they can be asked")]
    Restless,
    /// Called off.
    #[error("interrupted")]
    Aborted,
    /// The process could not be reached.
    #[error(transparent)]
    Capture(#[from] CaptureError),
}

fn seconds(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{} ms", time.as_millis())
    }
}

impl ConsentError {
    /// As it is told.
    pub fn failure(&self) -> Failure {
        let runs = "it runs on as before; it was told that the suspension is cancelled";
        match self {
            Self::NotOptedIn { missing, asked } => Failure {
                status: status::NOT_OPTED_IN,
                message: String::from(
                    "the suspension was cancelled: without consent nothing is suspended",
                ),
                advice: format!(
                    "{}; --consent auto suspends without asking",
                    if *asked {
                        "those that had been asked were told that it is cancelled"
                    } else {
                        "nothing was disturbed, no signal was sent"
                    }
                ),
                reasons: missing
                    .iter()
                    .map(|who| Reason {
                        object: who.to_string(),
                        reason: String::from("has no handler for the suspend signal (SIGUSR1)"),
                        remedy: String::new(),
                    })
                    .collect(),
            },
            Self::Refused { .. } => Failure::new(status::VETO, self.to_string(), runs),
            Self::TimedOut { .. } => Failure::new(
                status::NO_ANSWER,
                self.to_string(),
                format!("{runs}; --consent-timeout waits longer, --consent ignore does not ask"),
            ),
            Self::Stuck { .. } => Failure::new(
                status::NO_ANSWER,
                self.to_string(),
                "it runs on as before; whoever had been asked takes its consent back in 3 seconds; \
                 --consent ignore does not ask",
            ),
            Self::Damaged { .. } | Self::TooMany { .. } => Failure::new(
                status::FAILED,
                self.to_string(),
                "the process was not touched; --consent ignore does not look at it",
            ),
            Self::Withdrawn { .. } | Self::Busy { .. } | Self::Lost(_) | Self::Restless => {
                Failure::new(status::FAILED, self.to_string(), "try again")
            }
            Self::Ended(_) | Self::Aborted => Failure::new(status::FAILED, self.to_string(), ""),
            Self::Capture(error) => crate::dump::capture_failure(error),
        }
    }
}
