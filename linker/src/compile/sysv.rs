//! System V semaphores and message queues (semget(2), msgget(2)), and what they have in common with
//! segments of shared memory: an object may still be there, or another one under its key.
//!
//! What is there is taken if it is as it was at the dump, or if others use it as well and it
//! certainly is the same; what is not there is made anew; anything else is an error with a choice.

use super::arch::nr;
use super::builder::{Arg, Skip};
use super::compare::halves;
use super::{OnChanged, ProcessCompiler};
use image_format::container::hash_data;
use image_format::model::{IpcObject, MessageQueue, SemaphoreSet};
use image_format::plan::{op, when, Expect};

pub(super) const IPC_CREAT: u64 = 0o1000;
pub(super) const IPC_EXCL: u64 = 0o2000;
const IPC_NOWAIT: u64 = 0o4000;
pub(super) const IPC_RMID: u64 = 0;
pub(super) const IPC_SET: u64 = 1;
pub(super) const IPC_STAT: u64 = 2;
const GETALL: u64 = 13;
const SETALL: u64 = 17;
/// What no id is: there is no such object.
pub(super) const NONE: u64 = 0xffff_ffff;
/// Reading and writing for the owner, until all is as it was.
pub(super) const OWNER: u64 = 0o600;
/// struct ipc64_perm (include/uapi/asm-generic/ipcbuf.h), with which every structure begins.
pub(super) const DS_KEY: u32 = 0;
const DS_UID: usize = 4;
const DS_GID: usize = 8;
const DS_MODE: usize = 20;
/// struct semid64_ds (arch/x86/include/uapi/asm/sembuf.h): 104 bytes.
const SEM_DS: usize = 104;
const SEM_NSEMS: u32 = 80;
/// struct msqid64_ds (include/uapi/asm-generic/msgbuf.h): 120 bytes.
const MSG_DS: usize = 120;
const MSG_STIME: u32 = 48;
const MSG_RTIME: u32 = 56;
const MSG_CTIME: u32 = 64;
const MSG_CBYTES: u32 = 72;
const MSG_QNUM: u32 = 80;
const MSG_QBYTES: usize = 88;
const BOOT_ID: &[u8] = b"/proc/sys/kernel/random/boot_id";

/// One of the three kinds of objects.
#[derive(Clone, Copy)]
pub(super) struct Facility {
    what: &'static str,
    /// Names the id that the next new object shall have.
    next_id: &'static [u8],
    /// Of ipcrm(1): by id, by key.
    options: [&'static str; 2],
}

pub(super) const SEGMENT: Facility = Facility {
    what: "shared memory",
    next_id: b"/proc/sys/kernel/shm_next_id",
    options: ["-m", "-M"],
};
const SEMAPHORES: Facility = Facility {
    what: "semaphores",
    next_id: b"/proc/sys/kernel/sem_next_id",
    options: ["-s", "-S"],
};
const QUEUE: Facility = Facility {
    what: "message queue",
    next_id: b"/proc/sys/kernel/msg_next_id",
    options: ["-q", "-Q"],
};

impl Facility {
    /// What messages call an object.
    pub fn name(self, key: u32, id: u32) -> String {
        match key {
            0 => format!("System V {} {id} (IPC_PRIVATE)", self.what),
            key => format!("System V {} {id} (key {key:#010x})", self.what),
        }
    }
}

/// A structure of `len` bytes that sets owner and mode.
pub(super) fn owner_of(owner: [u32; 2], mode: u32, len: usize) -> Vec<u8> {
    let mut ds = vec![0; len];
    for (at, value) in [(DS_UID, owner[0]), (DS_GID, owner[1]), (DS_MODE, mode)] {
        ds[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    ds
}

impl ProcessCompiler<'_> {
    /// In the first process: the semaphores and message queues that the tree used.
    pub(super) fn sysv_objects(&mut self) {
        let tree = self.tree;
        if tree.semaphores.is_empty() && tree.queues.is_empty() {
            return;
        }
        let boot = self.boot();
        for set in &tree.semaphores {
            self.semaphores(set, boot);
        }
        for queue in &tree.queues {
            self.queue(queue);
        }
    }

    /// Data offset of a word that is the hash of the boot id here, and that at the dump. An id leads
    /// to the same object only while the machine runs.
    fn boot(&mut self) -> (u32, u64) {
        let then = &self.tree.source.boot.0;
        (self.hash_of_file("id of this boot", BOOT_ID, then.len()), hash_data(then, 0))
    }

    fn semaphores(&mut self, set: &SemaphoreSet, (boot, then): (u32, u64)) {
        let IpcObject { key, id, mode, owner, outside } = set.object;
        let what = SEMAPHORES.name(key, id);
        let word = self.b.words(&[u64::from(id)]);
        let stat = self.b.data(&[0; SEM_DS]);
        let values: Vec<u8> = set.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let count = set.values.len() as u64;
        let mut another = self.unless_word(boot, then);
        self.semctl(&what, word, IPC_STAT, stat, Expect::Ignore);
        another.extend(self.unless(stat, &[(DS_KEY, u64::from(key)), (SEM_NSEMS, count)]));
        let same = self.b.skip_always();
        self.b.land(another);
        let missing = self.by_key(&what, nr::SEMGET, key, word);
        self.semctl(&what, word, IPC_STAT, stat, Expect::Ignore);
        let mut differs = self.unless(stat, &[(SEM_NSEMS, count)]);
        let mut done = Vec::new();
        let comparable = if outside {
            // Whatever the values are, they are right.
            let comparable = self.b.skip_always();
            self.b.land([same]);
            done.push(self.b.skip_always());
            comparable
        } else {
            same
        };
        self.b.land([comparable]);
        let (here, computed) = (self.b.data(&vec![0; values.len()]), self.b.words(&[0]));
        self.semctl(&what, word, GETALL, here, Expect::Ignore);
        self.hash(&what, here, values.len(), computed);
        differs.extend(self.unless_word(computed, hash_data(&values, 0)));
        let wanted = self.b.data(&values);
        // So that the next dump knows whose it is.
        self.semctl(&what, word, SETALL, wanted, Expect::Note);
        done.push(self.b.skip_always());
        self.b.land(differs);
        done.push(self.changed(&what, SEMAPHORES, key, id));
        self.b.land([missing]);
        self.choose_id(&what, SEMAPHORES, id);
        let flags = IPC_CREAT | IPC_EXCL | u64::from(mode) | OWNER;
        self.must(&what, nr::SEMGET, [u64::from(key), count, flags, 0, 0, 0]);
        self.b.keep_result(word);
        let undo = [Arg::load(word), Arg::value(0), Arg::value(IPC_RMID)];
        self.b.step(op::UNDO, &what, nr::SEMCTL, &undo, Expect::Success);
        self.semctl(&what, word, SETALL, wanted, Expect::Success);
        let ds = self.b.data(&owner_of(owner, mode, SEM_DS));
        self.semctl(&what, word, IPC_SET, ds, Expect::Ignore);
        self.tell_id(&what, word, id);
        self.b.land(done);
    }

    fn semctl(&mut self, what: &str, word: u32, command: u64, data: u32, expect: Expect) {
        let args = [Arg::load(word), Arg::value(0), Arg::value(command), Arg::data(data)];
        self.b.call(what, nr::SEMCTL, &args, expect);
    }

    fn queue(&mut self, queue: &MessageQueue) {
        let IpcObject { key, id, mode, owner, outside } = queue.object;
        let what = QUEUE.name(key, id);
        let word = self.b.words(&[u64::from(id)]);
        let stat = self.b.data(&[0; MSG_DS]);
        let low = queue.times.map(|time| halves(time)[0]);
        let control = |c: &mut Self, command, data, expect| {
            let args = [Arg::load(word), Arg::value(command), Arg::data(data)];
            c.b.call(&what, nr::MSGCTL, &args, expect);
        };
        control(self, IPC_STAT, stat, Expect::Ignore);
        let another = self.unless(stat, &[(DS_KEY, u64::from(key)), (MSG_CTIME, low[0])]);
        let mut done = Vec::new();
        let mut differs = Vec::new();
        if !outside {
            let bytes = queue.messages.iter().map(|m| m.data.0.len() as u64).sum();
            let number = queue.messages.len() as u64;
            let wanted =
                [(MSG_STIME, low[1]), (MSG_RTIME, low[2]), (MSG_CBYTES, bytes), (MSG_QNUM, number)];
            differs = self.unless(stat, &wanted);
        }
        done.push(self.b.skip_always());
        self.b.land(another);
        let missing = self.by_key(&what, nr::MSGGET, key, word);
        control(self, IPC_STAT, stat, Expect::Ignore);
        if queue.messages.is_empty() {
            differs.extend(self.unless(stat, &[(MSG_QNUM, 0)]));
            done.push(self.b.skip_always());
        }
        self.b.land(differs);
        done.push(self.changed(&what, QUEUE, key, id));
        self.b.land([missing]);
        self.choose_id(&what, QUEUE, id);
        let flags = IPC_CREAT | IPC_EXCL | u64::from(mode) | OWNER;
        self.must(&what, nr::MSGGET, [u64::from(key), flags, 0, 0, 0, 0]);
        self.b.keep_result(word);
        let undo = [Arg::load(word), Arg::value(IPC_RMID), Arg::value(0)];
        self.b.step(op::UNDO, &what, nr::MSGCTL, &undo, Expect::Success);
        self.messages(&what, word, queue);
        let mut ds = owner_of(owner, mode, MSG_DS);
        ds[MSG_QBYTES..MSG_QBYTES + 8].copy_from_slice(&queue.capacity.to_le_bytes());
        let ds = self.b.data(&ds);
        control(self, IPC_SET, ds, Expect::Ignore);
        self.tell_id(&what, word, id);
        self.b.land(done);
    }

    fn messages(&mut self, what: &str, word: u32, queue: &MessageQueue) {
        let mut ds = owner_of(queue.object.owner, queue.object.mode | OWNER as u32, MSG_DS);
        ds[MSG_QBYTES..MSG_QBYTES + 8].copy_from_slice(&queue.capacity.to_le_bytes());
        let message = |b: &mut super::Builder, kind: u64, data: &[u8]| {
            b.data(&[&kind.to_le_bytes()[..], data].concat())
        };
        let nothing = message(self.b, 1, &[]);
        let send = |b: &mut super::Builder, at, len: usize| {
            let args =
                [Arg::load(word), Arg::data(at), Arg::value(len as u64), Arg::value(IPC_NOWAIT)];
            b.call(&format!("messages of {what}"), nr::MSGSND, &args, Expect::Success);
        };
        // More than the usual capacity takes privilege (CAP_SYS_RESOURCE).
        let ds = self.b.data(&ds);
        let args = [Arg::load(word), Arg::value(IPC_SET), Arg::data(ds)];
        self.b.call(what, nr::MSGCTL, &args, Expect::Ignore);
        for m in &queue.messages {
            let at = message(self.b, m.kind, &m.data.0);
            send(self.b, at, m.data.0.len());
        }
        if queue.messages.is_empty() {
            // So that the next dump knows whose it is.
            send(self.b, nothing, 0);
            let args = [Arg::load(word), Arg::data(nothing), Arg::value(0), Arg::value(0)];
            self.b.call(what, nr::MSGRCV, &args, Expect::Success);
        }
    }

    /// Looks for an object under its key, and puts its id into a word. What it gives is taken where
    /// there is none.
    pub(super) fn by_key(&mut self, what: &str, get: u32, key: u32, word: u32) -> Skip {
        if key == 0 {
            return self.b.skip_always();
        }
        let found = self.b.words(&[NONE]);
        let args = [Arg::value(u64::from(key)), Arg::value(0), Arg::value(0)];
        self.b.call(what, get, &args, Expect::Ignore);
        self.b.keep_result(found);
        let missing = self.b.skip_if_equal(Arg::load(found), Arg::value(NONE));
        self.b.call(what, get, &args, Expect::Success);
        self.b.keep_result(word);
        missing
    }

    /// There is one that is not as it was at the dump.
    pub(super) fn changed(&mut self, what: &str, kind: Facility, key: u32, id: u32) -> Skip {
        let note = self.b.text(&format!("{what}: not as at the dump"));
        let when = if self.options.on_changed == OnChanged::Accept { 0 } else { when::ACCEPT };
        let mut accepted = None;
        self.b.only_when(when, |b| {
            b.verb(op::NOTE, what, [u64::from(note), 0, 0, 0, 0, 0]);
            accepted = Some(b.skip_always());
        });
        let [by_id, by_key] = kind.options;
        let remove = match key {
            0 => format!("ipcrm {by_id} {id}"),
            key => format!("ipcrm {by_key} {key:#x}"),
        };
        let told = format!(
            "{what}: one with other contents is here (remove it by {remove}, or use --on-changed \
             accept)"
        );
        self.fail(&told, nr::MKDIR, b"/");
        accepted.unwrap_or_else(|| self.b.skip_always())
    }

    /// A step that fails: mkdir("/") with EEXIST, open("") with ENOENT.
    pub(super) fn fail(&mut self, what: &str, nr: u32, path: &[u8]) {
        let path = self.b.path(path);
        self.b.call(what, nr, &[Arg::data(path), Arg::value(0), Arg::value(0)], Expect::Success);
    }

    /// The next new object gets this id, where this user may choose it and it is free.
    pub(super) fn choose_id(&mut self, what: &str, kind: Facility, id: u32) {
        let path = self.b.path(kind.next_id);
        let text = id.to_string();
        let at = self.b.data(text.as_bytes());
        let args = [Arg::data(path), Arg::value(u64::from(at)), Arg::value(text.len() as u64)];
        self.b.step(op::PROC_WRITE, what, 0, &args, Expect::Ignore);
    }

    /// Says so where the id is another one.
    pub(super) fn tell_id(&mut self, what: &str, word: u32, id: u32) {
        let same = self.b.skip_if_equal(Arg::load(word), Arg::value(u64::from(id)));
        let note = self.b.text(&format!("{what} has another id here"));
        self.b.verb(op::NOTE, what, [u64::from(note), 0, 0, 0, 0, 0]);
        self.b.land([same]);
    }
}
