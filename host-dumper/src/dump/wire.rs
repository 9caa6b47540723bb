//! What the tracer process tells the front process: JSON messages over a socket that keeps
//! their boundaries.

use crate::failure::Failure;
use nix::sys::socket::{recv, send, MsgFlags};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A message may not be larger: the socket's own limit is above it.
const MESSAGE_MAX: usize = 160 << 10;

/// What is told.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// What is being done, for `-v`.
    Step(String),
    /// How far the copying is, in bytes.
    Progress {
        /// Done so far.
        done: u64,
        /// Expected in all.
        total: u64,
    },
    /// The image is complete and gets its name now: what happens from here on is in doubt until
    /// the next message.
    Committing,
    /// Success.
    Done(Summary),
    /// Failure; the process runs on.
    Failed(Failure),
}

/// What a dump was, as `--json` prints it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Summary {
    /// The process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Number of processes: it and its descendants, without those that had ended.
    pub processes: usize,
    /// Number of threads, of all of them.
    pub threads: usize,
    /// The image.
    pub image: String,
    /// Size of the image in bytes.
    pub bytes: u64,
    /// Pages in it.
    pub pages: u64,
    /// How long the process stood still, microseconds; until its end if it was ended.
    pub frozen_us: u64,
    /// How long the dump took in all, microseconds.
    pub total_us: u64,
    /// Whether the process was ended.
    pub killed: bool,
    /// What differs after a resume, in the ordinary run of things; shown with `-v`.
    pub notes: Vec<String>,
    /// What went wrong although there is an image; always shown.
    pub warnings: Vec<String>,
}

/// Sends a message. A step or progress message is dropped where the front process does not
/// keep up (it may be stopped by ^Z): the stopped process must not wait for that.
pub fn tell(to: BorrowedFd<'_>, message: &Message) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(message)?;
    if bytes.len() > MESSAGE_MAX {
        bytes = serde_json::to_vec(&shorten(message))?;
    }
    let wait = !matches!(message, Message::Step(_) | Message::Progress { .. });
    let flags =
        if wait { MsgFlags::MSG_NOSIGNAL } else { MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT };
    loop {
        return match send(to.as_raw_fd(), &bytes, flags) {
            Ok(_) => Ok(()),
            Err(nix::errno::Errno::EINTR) => continue,
            Err(nix::errno::Errno::EAGAIN) if !wait => Ok(()),
            Err(errno) => Err(errno.into()),
        };
    }
}

/// The next message; none when the tracer process has ended.
pub fn hear(from: BorrowedFd<'_>) -> io::Result<Option<Message>> {
    let mut bytes = [0; 4096];
    loop {
        // How long the next message is; most are short.
        let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
        let len = match recv(from.as_raw_fd(), &mut bytes, peek) {
            Ok(len) => len,
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::ECONNRESET) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let mut long = vec![0; if len > bytes.len() { len } else { 0 }];
        let bytes = if long.is_empty() { &mut bytes[..] } else { &mut long[..] };
        return match recv(from.as_raw_fd(), bytes, MsgFlags::empty()) {
            Ok(0) => Ok(None),
            Ok(len) => Ok(Some(serde_json::from_slice(&bytes[..len])?)),
            // The tracer ended without having read a wish to stop; what it said comes next.
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::ECONNRESET) => continue,
            Err(errno) => Err(errno.into()),
        };
    }
}

/// Hundreds of reasons are cut to those that fit.
fn shorten(message: &Message) -> Message {
    match message {
        Message::Failed(failure) => {
            let mut failure = failure.clone();
            let all = failure.reasons.len();
            failure.reasons.truncate(200);
            failure.message.truncate(floor(&failure.message, 8192));
            failure.advice = format!("{} of {all} reasons are shown", failure.reasons.len());
            for reason in &mut failure.reasons {
                for text in [&mut reason.object, &mut reason.reason, &mut reason.remedy] {
                    text.truncate(floor(text, 200));
                }
            }
            Message::Failed(failure)
        }
        Message::Done(summary) => Message::Done(Summary {
            notes: vec![format!("{} notes, too many to be shown", summary.notes.len())],
            warnings: summary.warnings.iter().take(20).cloned().collect(),
            ..summary.clone()
        }),
        _ => Message::Step(String::from("(a message too long to be shown)")),
    }
}

fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{status, Reason};
    use nix::sys::socket::{socketpair, AddressFamily, SockFlag, SockType};
    use std::os::fd::AsFd;

    #[test]
    fn messages_arrive_whole_and_the_end_is_seen() {
        let (a, b) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .unwrap();
        let reason =
            Reason { object: "ä".repeat(300), reason: "r".repeat(300), remedy: String::new() };
        let failure = Failure {
            status: status::REFUSED,
            message: "m".into(),
            advice: String::new(),
            reasons: vec![reason; 1000],
        };
        tell(a.as_fd(), &Message::Step("x".into())).unwrap();
        tell(a.as_fd(), &Message::Failed(failure)).unwrap();
        nix::unistd::write(&b, b"x").unwrap();
        drop(a);
        assert!(matches!(hear(b.as_fd()), Ok(Some(Message::Step(_)))));
        let Ok(Some(Message::Failed(failure))) = hear(b.as_fd()) else {
            panic!("no failure");
        };
        assert_eq!(failure.reasons.len(), 200);
        assert_eq!(failure.advice, "200 of 1000 reasons are shown");
        assert!(matches!(hear(b.as_fd()), Ok(None)));
    }
}
