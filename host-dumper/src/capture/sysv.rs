//! System V semaphores and message queues of the tree.
//!
//! No process holds them open. The
//! kernel remembers who used each semaphore and each queue last, and that has to do: an object is
//! the tree's where that was one of its processes, and nobody else's where the others have ended.

use super::ids::IdMaps;
use super::proc::number::{decimal, lines, radix, signed, words};
use super::proc::Proc;
use super::undo::Semaphore;
use image_format::model::{IpcObject, MessageQueue, QueuedMessage, SemaphoreSet};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// msgrcv(2): a copy of the message with this number; it stays in the queue.
const MSG_COPY: libc::c_int = 0o40_000;
/// semctl(2), msgctl(2): how many there are.
const SEM_INFO: libc::c_int = 19;
const MSG_INFO: libc::c_int = 12;
/// Words of struct seminfo and struct msginfo; which one tells the number of objects.
const INFO: usize = 10;
const SETS: usize = 7;
const QUEUES: usize = 0;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub semaphores: Vec<SemaphoreSet>,
    pub queues: Vec<MessageQueue>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Who used something last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    Tree,
    Nobody,
    Other,
}

/// Looks for what processes `pids` used; the first is the root. `all` is `--sysv-ipc`.
pub(super) fn look(proc: &Proc, pids: &[i32], all: bool) -> Found {
    let mut found = Found::default();
    if count(SEM_INFO) > 0 {
        for fields in list("sem") {
            if let Some(set) = semaphores(proc, pids, &fields) {
                if set.object.outside && !all {
                    found.notes.push(left("semaphores", &set.object));
                } else {
                    found.semaphores.push(set);
                }
            }
        }
    }
    if count(MSG_INFO) > 0 {
        for fields in list("msg") {
            let Some((queue, whole)) = queue(proc, pids, &fields, all) else { continue };
            if !whole {
                found.notes.push(format!(
                    "System V message queue {} is not carried: its messages cannot be read",
                    queue.object.id
                ));
            } else if queue.object.outside && !all {
                found.notes.push(left("message queue", &queue.object));
            } else {
                found.queues.push(queue);
            }
        }
    }
    found
}

fn left(what: &str, object: &IpcObject) -> String {
    format!(
        "System V {what} {} (key {:#010x}): used by processes outside as well, a resume needs it to \
         be there still, or use --sysv-ipc",
        object.id, object.key
    )
}

/// Number of objects of one kind.
fn count(what: libc::c_int) -> libc::c_int {
    let mut info = [0 as libc::c_int; INFO];
    // SAFETY: the kernel writes a struct seminfo or msginfo, which are not longer.
    unsafe {
        if what == SEM_INFO {
            libc::semctl(0, 0, what, info.as_mut_ptr());
            info[SETS]
        } else {
            libc::msgctl(0, what, info.as_mut_ptr().cast());
            info[QUEUES]
        }
    }
}

/// The lines of a list of /proc/sysvipc as fields.
fn list(name: &str) -> Vec<Vec<Vec<u8>>> {
    let text = std::fs::read(format!("/proc/sysvipc/{name}")).unwrap_or_default();
    lines(&text).skip(1).map(|line| words(line).map(<[u8]>::to_vec).collect()).collect()
}

fn number(fields: &[Vec<u8>], at: usize) -> Option<u64> {
    fields.get(at).and_then(|field| decimal(field))
}

/// Key, id, mode come first in both lists; the owner is at `owner`.
fn object(proc: &Proc, fields: &[Vec<u8>], owner: usize, outside: bool) -> Option<IpcObject> {
    let ids = IdMaps::of(proc);
    let [user, group] = [number(fields, owner)? as u32, number(fields, owner + 1)? as u32];
    Some(IpcObject {
        key: signed(fields.first()?)? as u32,
        id: number(fields, 1)? as u32,
        mode: radix(fields.get(2)?, 8)? as u32 & 0o777,
        owner: [ids.user(user), ids.group(group)],
        outside,
    })
}

fn user(pids: &[i32], pid: i32) -> User {
    if pids.contains(&pid) {
        User::Tree
    } else if pid <= 0 || kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) {
        User::Nobody
    } else {
        User::Other
    }
}

fn semaphore(id: i32, index: usize, what: libc::c_int) -> i32 {
    // SAFETY: GETPID and GETVAL take numbers only.
    unsafe { libc::semctl(id, index as libc::c_int, what) }
}

/// key semid perms nsems uid gid cuid cgid otime ctime.
fn semaphores(proc: &Proc, pids: &[i32], fields: &[Vec<u8>]) -> Option<SemaphoreSet> {
    let id = number(fields, 1)? as i32;
    let len = number(fields, 3)? as usize;
    let users: Vec<User> = (0..len).map(|i| user(pids, semaphore(id, i, libc::GETPID))).collect();
    users.contains(&User::Tree).then_some(())?;
    let mut values = vec![0u16; len];
    // SAFETY: the kernel writes one number for each semaphore of the set, whose length is fixed.
    if unsafe { libc::semctl(id, 0, libc::GETALL, values.as_mut_ptr()) } != 0 {
        return None;
    }
    let outside = users.contains(&User::Other);
    Some(SemaphoreSet { object: object(proc, fields, 4, outside)?, values })
}

/// key msqid perms cbytes qnum lspid lrpid uid gid cuid cgid stime rtime ctime.
/// The queue, and whether everything in it that is wanted was read.
fn queue(proc: &Proc, pids: &[i32], fields: &[Vec<u8>], all: bool) -> Option<(MessageQueue, bool)> {
    let last = [5, 6].map(|at| number(fields, at).map_or(0, |pid| pid as i32));
    let users = last.map(|pid| user(pids, pid));
    users.contains(&User::Tree).then_some(())?;
    let object = object(proc, fields, 7, users.contains(&User::Other))?;
    let id = object.id as i32;
    // SAFETY: all zeros is a value of it.
    let mut ds: libc::msqid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes a struct msqid_ds.
    if unsafe { libc::msgctl(id, libc::IPC_STAT, &raw mut ds) } != 0 {
        return None;
    }
    let carried = all || !object.outside;
    let messages = if carried { messages(id, ds.msg_qbytes.max(ds.__msg_cbytes)) } else { vec![] };
    let times = [ds.msg_ctime, ds.msg_stime, ds.msg_rtime].map(|t| t as u64);
    let whole = !carried || messages.len() as u64 == ds.msg_qnum;
    Some((MessageQueue { object, capacity: ds.msg_qbytes, times, messages }, whole))
}

/// Copies of the messages that wait, none of which is longer than `longest` bytes.
fn messages(id: i32, longest: u64) -> Vec<QueuedMessage> {
    let mut all = Vec::new();
    let mut buffer = vec![0u8; 8 + longest as usize];
    loop {
        let (to, number) = (buffer.as_mut_ptr().cast(), all.len() as libc::c_long);
        let flags = MSG_COPY | libc::IPC_NOWAIT;
        // SAFETY: the kernel writes a word and at most `longest` bytes into the buffer.
        let got = unsafe { libc::msgrcv(id, to, longest as usize, number, flags) };
        let Some(text) = usize::try_from(got).ok().and_then(|len| buffer.get(8..8 + len)) else {
            return all;
        };
        let kind = buffer.first_chunk().copied().map_or(0, u64::from_le_bytes);
        all.push(QueuedMessage { kind, data: text.to_vec().into() });
    }
}

/// Whether there are any semaphores.
pub(super) fn has_semaphores() -> bool {
    count(SEM_INFO) > 0
}

/// The ids of all sets.
pub(super) fn sets() -> Vec<u32> {
    list("sem").iter().filter_map(|fields| Some(number(fields, 1)? as u32)).collect()
}

/// The values of a set; none where this user may not read them.
pub(super) fn values(id: u32) -> Vec<u16> {
    let Some(len) =
        list("sem").iter().find(|f| number(f, 1) == Some(id.into())).and_then(|f| number(f, 3))
    else {
        return Vec::new();
    };
    let mut values = vec![0u16; len as usize];
    // SAFETY: the kernel writes one number for each semaphore of the set, whose length is fixed.
    let got = unsafe { libc::semctl(id as i32, 0, libc::GETALL, values.as_mut_ptr()) };
    if got == 0 {
        values
    } else {
        Vec::new()
    }
}

/// Whether a thread has a list of what is to be undone, which may be empty: everyone who has used
/// SEM_UNDO has, or has made threads. We have none (ipc/sem.c, `get_undo_list`).
pub(super) fn has_undo_list(tid: u32) -> bool {
    !same_undo_list(std::process::id(), tid)
}

/// Whether two threads have one such list, or both have none.
pub(super) fn same_undo_list(a: u32, b: u32) -> bool {
    const KCMP_SYSVSEM: libc::c_int = 6;
    // SAFETY: kcmp takes numbers only.
    unsafe { libc::syscall(libc::SYS_kcmp, a, b, KCMP_SYSVSEM, 0, 0) == 0 }
}

/// Makes the kernel forget what the processes would undo at their end, by giving semaphores the
/// value that they have: that clears the adjustments of every process (ipc/sem.c, semctl_setval).
/// Where others use the set as well it is done only for semaphores at which they can but wait, as
/// an operation of theirs in between would be lost. Gives the sets of which this is not known.
pub(super) fn forget_undo(undo: &[Semaphore], pids: &[i32]) -> Vec<u32> {
    let mut doubtful = Vec::new();
    let last = |set: u32, index| user(pids, semaphore(set as i32, index, libc::GETPID));
    // Before anything is changed, as that makes this program the last user.
    let users: Vec<[bool; 2]> = undo
        .iter()
        .map(|&(set, index)| {
            let others = (0..values(set).len()).any(|index| last(set, index) == User::Other);
            [last(set, index as usize) == User::Tree, others]
        })
        .collect();
    for (&(set, index), [ours, others]) in undo.iter().zip(users) {
        let (id, index) = (set as i32, index as usize);
        let value = semaphore(id, index, libc::GETVAL);
        let safe = ours && (value == 0 || value > 0 && !others);
        // SAFETY: SETVAL takes numbers only.
        let set_it = || unsafe { libc::semctl(id, index as libc::c_int, libc::SETVAL, value) };
        if !safe || set_it() != 0 {
            doubtful.push(set);
        }
    }
    doubtful.sort_unstable();
    doubtful.dedup();
    doubtful
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_used_it_last() {
        let own = std::process::id() as i32;
        assert_eq!(user(&[own], own), User::Tree);
        assert_eq!(user(&[own], 0), User::Nobody);
        assert_eq!(user(&[own], 1), User::Other);
        assert_eq!(user(&[own], 0x3f_fff0), User::Nobody);
    }
}
