//! How the program says that something went wrong: one shape for every error, one printer.

use serde::{Deserialize, Serialize};

/// Exit statuses of `dumper`, as README and docs/limits.md list them.
pub mod status {
    /// The image is complete.
    pub const OK: u8 = 0;
    /// Failed; the process runs on.
    pub const FAILED: u8 = 1;
    /// Wrong arguments.
    pub const USAGE: u8 = 2;
    /// The process holds something that cannot be carried; every reason is listed.
    pub const REFUSED: u8 = 3;
    /// No such process, or no permission to stop it.
    pub const NO_ACCESS: u8 = 4;
    /// The output cannot be written.
    pub const OUTPUT: u8 = 5;
    /// `--consent require`, and a process has no handler for the suspend signal.
    pub const NOT_OPTED_IN: u8 = 6;
    /// A program refuses to be suspended.
    pub const VETO: u8 = 7;
    /// A program did not answer in time.
    pub const NO_ANSWER: u8 = 8;
    /// Added to the number of the signal that interrupted.
    pub const SIGNAL: u8 = 128;
}

/// One reason why a process cannot be carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What it concerns, such as "descriptor 5".
    pub object: String,
    /// Why it cannot be carried.
    pub reason: String,
    /// What can be done about it.
    pub remedy: String,
}

/// A failure as it is told: what happened to what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Exit status ([`status`]).
    pub status: u8,
    /// What happened, to which object.
    pub message: String,
    /// What to do; empty where nothing can be advised.
    pub advice: String,
    /// Every reason, for [`status::REFUSED`].
    pub reasons: Vec<Reason>,
}

impl Failure {
    /// A failure with a message and an advice.
    pub fn new(status: u8, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { status, message: message.into(), advice: advice.into(), reasons: Vec::new() }
    }

    /// What programs read that asked for JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({ "error": self })
    }

    /// Message and reasons in one line, for the program that was asked.
    pub fn line(&self) -> String {
        let reasons = self.reasons.iter().map(|r| format!("{}: {}", r.object, r.reason));
        let rest: Vec<String> = reasons.collect();
        if rest.is_empty() {
            return self.message.clone();
        }
        format!("{} {}", self.message, rest.join("; "))
    }

    /// The lines that go to standard error.
    pub fn text(&self) -> String {
        let mut text = format!("dumper: {}", self.message);
        for reason in &self.reasons {
            text.push_str("\n  ");
            text.push_str(&reason.object);
            text.push_str(": ");
            text.push_str(&reason.reason);
            if !reason.remedy.is_empty() {
                text.push_str("; ");
                text.push_str(&reason.remedy);
            }
        }
        if !self.advice.is_empty() {
            text.push_str("\n  ");
            text.push_str(&self.advice);
        }
        text
    }
}

/// Name and meaning of an error number, such as "ENOSPC (No space left on device)".
pub fn errno_text(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(raw) => {
            let errno = nix::errno::Errno::from_raw(raw);
            format!("{errno:?} ({})", errno.desc())
        }
        None => error.to_string(),
    }
}
