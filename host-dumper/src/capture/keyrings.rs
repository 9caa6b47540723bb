//! Keyrings of threads, processes and sessions (keyrings(7)): they end with those who hold them, and
//! no interface tells the contents of every key, so that they are lost, which is said.

use super::error::Result;
use super::footing::Code;
use super::inside::ThreadAnswers;
use super::mem;
use super::proc::number::{decimal, hex, lines, words};
use super::questions::Question;
use super::remote::{self, Call};
use super::thread::Thread;
use std::collections::BTreeMap;

/// Keyrings that a thread has, by their special ids of keyctl(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ring {
    Thread = -1,
    Process = -2,
    Session = -3,
}

impl Ring {
    /// Asks for its serial; it is not made if there is none.
    pub fn question(self) -> Question {
        let args = [GET_KEYRING_ID, self as i64 as u64, 0];
        Question::value("keyctl", libc::SYS_keyctl, &args)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Process => "process",
            Self::Session => "session",
        }
    }
}

/// keyctl(2) operations.
const GET_KEYRING_ID: u64 = 0;
const DESCRIBE: u64 = 6;
const READ: u64 = 11;
/// Bytes of a description or a list that are read: the room of a thread for results.
const ROOM: u64 = super::inside::SCRATCH;

/// A line of /proc/keys about a keyring that may belong to a process.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    serial: u32,
    name: String,
}

/// Keyrings of a user that hold keys and are neither the user's nor the kernel's. A line is `serial
/// flags usage timeout permissions uid gid type name: count`.
fn listed(text: &[u8], uid: u32) -> Vec<Listed> {
    let one = |line| -> Option<Listed> {
        let mut fields = words(line);
        let serial = hex(fields.next()?)? as u32;
        let owner = decimal(fields.nth(4)?)?;
        let is_keyring = fields.nth(1)? == b"keyring";
        // A name may hold spaces.
        let rest = fields.collect::<Vec<_>>().join(&b' ');
        let at = rest.windows(2).rposition(|w| w == b": ")?;
        let (name, count) = (String::from_utf8_lossy(&rest[..at]), &rest[at + 2..]);
        let own = is_keyring && owner == u64::from(uid) && count != b"empty" && is_own(&name);
        own.then(|| Listed { serial, name: name.into_owned() })
    };
    lines(text).filter_map(one).collect()
}

/// Not the kernel's, and not one that a user has for ever.
fn is_own(name: &str) -> bool {
    !name.starts_with('.') && !name.starts_with("_uid")
}

fn visible(uid: u32) -> Vec<Listed> {
    listed(&std::fs::read("/proc/keys").unwrap_or_default(), uid)
}

/// Whether a user has any keys, for those whose keyrings are not shown to this one.
fn has_keys(text: &[u8], uid: u32) -> bool {
    lines(text).filter_map(|line| line.split(|&b| b == b':').next()).any(|field| {
        let owner = words(field).next().and_then(decimal);
        owner == Some(u64::from(uid))
    })
}

/// Which users have keys.
#[derive(Debug, Default)]
pub(super) struct Keys(BTreeMap<u32, bool>);

impl Keys {
    /// Whether it is worth the time to ask a process of this user.
    pub fn may_have(&mut self, uid: u32) -> bool {
        *self.0.entry(uid).or_insert_with(|| may_have(uid))
    }
}

fn may_have(uid: u32) -> bool {
    if nix::unistd::geteuid().as_raw() == uid {
        return !visible(uid).is_empty();
    }
    has_keys(&std::fs::read("/proc/key-users").unwrap_or_default(), uid)
}

/// The session keyring of this program: who has the same finds it again in the session that resumes.
fn our_session() -> i64 {
    // SAFETY: takes numbers only.
    unsafe { libc::syscall(libc::SYS_keyctl, GET_KEYRING_ID, Ring::Session as i64, 0) }
}

/// What can be told without asking the process: which keyrings of its user may be its own.
pub(super) fn guess(uid: u32) -> Option<String> {
    let ours = our_session();
    let all = visible(uid).into_iter().filter(|k| i64::from(k.serial) != ours);
    let names: Vec<String> = all.map(|k| k.name).collect();
    (!names.is_empty()).then(|| {
        format!(
            "keys in keyrings of threads, processes and sessions are lost; user {uid} has such \
             keyrings ({})",
            names.join(", ")
        )
    })
}

/// Asks the threads about the keyrings that they named; gives those that hold keys in words.
pub(super) fn ask(
    threads: &mut [Thread],
    code: Code,
    answers: &[ThreadAnswers],
) -> Result<Vec<String>> {
    let ours = our_session();
    let all = answers.iter().enumerate();
    let all = all.flat_map(|(i, a)| a.rings.iter().map(move |&(ring, id)| (i, ring, id)));
    let found: Vec<_> = all.filter(|&(_, _, id)| id > 0 && id != ours).collect();
    let mut told = Vec::new();
    for (i, ring, id) in found {
        let kind = ring.word();
        // Only who possesses a keyring may read it.
        let Some(thread) = threads.get_mut(i) else { continue };
        let (Some(name), Some(keys)) = (name(thread, code, id)?, list(thread, code, id)?) else {
            told.push(format!("a {kind} keyring"));
            continue;
        };
        let mut own = 0;
        for key in keys {
            // A session's usually leads to the user's.
            own += usize::from(!name_of(thread, code, key)?.starts_with("_uid"));
        }
        if is_own(&name) && own > 0 {
            let keys = if own == 1 { "key" } else { "keys" };
            told.push(format!("a {kind} keyring ({name}) with {own} {keys}"));
        }
    }
    Ok(told)
}

/// A call that fills the thread's room; what it wrote, at most, if it succeeds.
fn filled(thread: &mut Thread, code: Code, op: u64, id: i64) -> Result<Option<Vec<u8>>> {
    let scratch = thread.undo.as_ref().map_or(0, |u| u.scratch);
    let call = Call::new("keyctl", libc::SYS_keyctl, &[op, id as u64, scratch, ROOM]);
    let got = remote::call_each(std::slice::from_mut(thread), code, &[Some(call)])?;
    let len = got.first().copied().unwrap_or(-1);
    if len < 0 {
        return Ok(None);
    }
    // What does not fit is not written at all, or cut.
    let mut bytes = vec![0; len.min(ROOM as i64) as usize];
    mem::read_into(thread.tid(), scratch, &mut bytes)?;
    Ok(Some(bytes))
}

/// Name of a key: what follows `type;uid;gid;perm;`.
fn name(thread: &mut Thread, code: Code, id: i64) -> Result<Option<String>> {
    let text = filled(thread, code, DESCRIBE, id)?;
    let last = |t: Vec<u8>| {
        let name = t.splitn(5, |&b| b == b';').nth(4)?;
        Some(String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(name)).into_owned())
    };
    Ok(text.and_then(last))
}

fn name_of(thread: &mut Thread, code: Code, id: i64) -> Result<String> {
    Ok(name(thread, code, id)?.unwrap_or_default())
}

/// The keys in a keyring, by their serials; of very many the first ones.
fn list(thread: &mut Thread, code: Code, id: i64) -> Result<Option<Vec<i64>>> {
    let bytes = filled(thread, code, READ, id)?;
    let serial = |b: &[u8]| b.try_into().map_or(0, |b| i64::from(i32::from_le_bytes(b)));
    Ok(bytes.map(|b| b.chunks_exact(4).map(serial).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[u8] = b"\
00e3dd1f I--Q---     1 perm 1f3f0000     7 65534 keyring   _uid_ses.7: 1
1556a9c1 I------     1 perm 0f0b0000     7     7 keyring   .blacklist: 2
2850c3ba I--Q---     4 perm 3f030000     7     7 keyring   _ses: 1
2850c3bb I--Q---     4 perm 3f030000     7     7 keyring   my own: ring: 12
2850c3bc I--Q---     4 perm 3f030000     7     7 keyring   _tid: empty
2850c3bd I--Q---     4 perm 3f030000     8     8 keyring   _pid: 3
35e51b4a I--Q---     1  59s 3f010000     7     7 user      secret: 2
";

    #[test]
    fn keyrings_of_a_process_are_told_from_others() {
        let names = |uid| listed(KEYS, uid).into_iter().map(|k| k.name).collect::<Vec<_>>();
        assert_eq!(names(7), ["_ses", "my own: ring"]);
        assert_eq!(names(8), ["_pid"]);
        assert_eq!(listed(KEYS, 7)[0].serial, 0x2850_c3ba);
        assert_eq!(listed(b"", 7), []);
        let users = b"    0:     9 8/8 3/1000000 40/25000000\n 1000:     2 2/2 2/200 30/20000\n";
        assert!(has_keys(users, 1000) && has_keys(users, 0) && !has_keys(users, 100));
    }
}
