//! POSIX message queues: files of a file system of their own (ipc/mqueue.c).

use super::descriptor::{refused, Descriptor, Kind};
use crate::capture::proc::number::{decimal, words};
use crate::capture::proc::Proc;
use image_format::model::{FileObject, QueueNotice};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// statfs(2) type of the file system.
pub(super) const MQUEUE_MAGIC: i64 = 0x1980_0202;
/// Bytes that reading a queue gives at most (FILENT_SIZE).
const TEXT: usize = 80;
const SIGEV_THREAD: u32 = 2;
/// Words of struct mq_attr: flags, messages at most, bytes of one at most, messages now, reserved.
const ATTRIBUTES: usize = 8;

/// What reading the file of a queue tells; it takes nothing out of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct State {
    /// Bytes that wait.
    bytes: u64,
    notify: u32,
    signal: u32,
    /// Who is told of the next message; 0 for nobody.
    pid: u32,
}

/// "QSIZE:129        NOTIFY:2    SIGNO:0    NOTIFY_PID:8260"
fn parse(text: &[u8]) -> Option<State> {
    let mut state = State::default();
    let mut seen = 0;
    for word in words(text) {
        let colon = word.iter().position(|&b| b == b':')?;
        let value = decimal(&word[colon + 1..])?;
        seen += 1;
        match &word[..colon] {
            b"QSIZE" => state.bytes = value,
            b"NOTIFY" => state.notify = value as u32,
            b"SIGNO" => state.signal = value as u32,
            b"NOTIFY_PID" => state.pid = value as u32,
            _ => seen -= 1,
        }
    }
    (seen == 4).then_some(state)
}

fn state(proc: &Proc, d: &Descriptor) -> Option<State> {
    let file = File::open(proc.path(&format!("fd/{}", d.fd))).ok()?;
    let mut text = [0; TEXT];
    let len = file.read_at(&mut text, 0).ok()?;
    parse(text.get(..len)?.split(|&b| b == 0).next()?)
}

/// What kind of descriptor it is: one that can be carried, or not.
pub(super) fn kind(proc: &Proc, d: &Descriptor) -> Kind {
    match state(proc, d) {
        None => refused("is a POSIX message queue that may not be looked at", "try as root"),
        Some(state) if state.bytes > 0 => refused(
            format!(
                "is a POSIX message queue in which {} bytes wait, and a message can only be read by \
                 taking it",
                state.bytes
            ),
            "let the program receive them first",
        ),
        Some(state) if state.notify == SIGEV_THREAD && state.pid == proc.pid() => refused(
            "is a POSIX message queue whose messages are told to a thread (SIGEV_THREAD)",
            "dump the program when it has been told, or let it use a signal",
        ),
        Some(_) => Kind::MessageQueue,
    }
}

/// The queue; none if it does not answer. `pids` are the processes of the tree.
pub(super) fn describe(
    proc: &Proc,
    d: &Descriptor,
    borrowed: Option<&OwnedFd>,
    pids: &[u32],
) -> Option<FileObject> {
    let state = state(proc, d)?;
    let mut attributes = [0 as libc::c_long; ATTRIBUTES];
    let (fd, none) = (borrowed?.as_raw_fd(), std::ptr::null::<libc::c_long>());
    // SAFETY: the kernel writes a struct mq_attr, eight words.
    let asked =
        unsafe { libc::syscall(libc::SYS_mq_getsetattr, fd, none, attributes.as_mut_ptr()) };
    if asked != 0 {
        return None;
    }
    let path = d.path();
    let told = pids.iter().position(|&pid| state.pid != 0 && pid == state.pid);
    Some(FileObject::MessageQueue {
        inode: d.stat.st_ino,
        name: path.strip_prefix(b"/").unwrap_or(path).to_vec().into(),
        unlinked: d.link.ends_with(b" (deleted)"),
        mode: d.stat.st_mode & 0o7777,
        max_messages: attributes[1] as u64,
        message_size: attributes[2] as u64,
        notice: told.map(|process| QueueNotice {
            process: process as u32,
            notify: state.notify,
            signal: state.signal,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_queue_says() {
        let text = b"QSIZE:129        NOTIFY:2    SIGNO:10   NOTIFY_PID:8260\n";
        let state = State { bytes: 129, notify: 2, signal: 10, pid: 8260 };
        assert_eq!(parse(text), Some(state));
        assert_eq!(parse(b"QSIZE:129 NOTIFY:2\n"), None);
        assert_eq!(parse(b"QSIZE:x"), None);
    }
}
