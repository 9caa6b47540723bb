//! Who is told of what happens to open file descriptions, and by which signal.

use super::arch::nr;
use super::builder::Arg;
use super::descriptors::{Uses, F_SETFL, O_ASYNC};
use super::objects::lease;
use super::ProcessCompiler;
use crate::LinkError;
use image_format::model::{lock, OpenFile, Process, Tree};
use image_format::plan::{arg, op, when, Expect};

const F_SETSIG: u64 = 10;
const F_SETOWN: u64 = 8;
const F_SETOWN_EX: u64 = 15;
/// Who is told, by F_SETOWN_EX.
const F_OWNER_TID: i32 = 0;
const F_OWNER_PID: i32 = 1;
const F_OWNER_PGRP: i32 = 2;

impl ProcessCompiler<'_> {
    /// Who is told of what happens to the description: the ids must be there already.
    pub(super) fn ownership(&mut self, fd: u32, file: &OpenFile, what: &str) {
        let [kind, id] = file.owner;
        let what_owner = format!("owner of {what}");
        if kind == F_OWNER_TID {
            // Threads come later, and see to it themselves.
        } else if kind == F_OWNER_PID && id as u32 == self.process.pid {
            let args = [Arg::fd(fd), Arg::value(F_SETOWN), Arg::kind(arg::PID)];
            self.b.call(&what_owner, nr::FCNTL, &args, Expect::Note);
        } else if kind == F_OWNER_PGRP && is_roots_group(self.tree, id) {
            self.owned_by_roots_group(fd, &what_owner);
        } else {
            let at = self.owner(file.owner);
            let args = [Arg::fd(fd), Arg::value(F_SETOWN_EX), Arg::data(at)];
            self.b.call(&what_owner, nr::FCNTL, &args, Expect::Note);
        }
        if file.signal != 0 {
            let args = [u64::from(fd), F_SETSIG, file.signal as u64, 0, 0, 0];
            self.note(&format!("signal of {what}"), nr::FCNTL, args);
        }
    }

    /// struct f_owner_ex, with room for the eight bytes that STORE writes over the id.
    fn owner(&mut self, [kind, id]: [i32; 2]) -> u32 {
        let words = [kind.to_le_bytes(), id.to_le_bytes(), [0; 4], [0; 4]];
        self.b.data(&words.concat())
    }

    /// The group of the root is the one that the resume gave it. In a namespace it has no id if it
    /// is that of the command outside: the root alone is told then.
    fn owned_by_roots_group(&mut self, fd: u32, what: &str) {
        let root = self.tree.processes.first().map_or(0, |root| root.pid);
        let is_root = self.index == 0;
        let leads = leads_its_group(self.tree);
        if !leads {
            self.b.only_when(when::NAMESPACE, |b| {
                let own = if is_root { Arg::kind(arg::PID) } else { Arg::value(u64::from(root)) };
                let args = [Arg::fd(fd), Arg::value(F_SETOWN), own];
                b.call(what, nr::FCNTL, &args, Expect::Note);
            });
        }
        let at = self.owner([F_OWNER_PGRP, root as i32]);
        let group = self.b.words(&[0]);
        let asked = if is_root { 0 } else { u64::from(root) };
        let circumstances: &[u16] = if leads { &[0] } else { &[when::IN_PLACE, when::NEW_PID] };
        for &when in circumstances {
            self.b.only_when(when, |b| {
                b.call(what, nr::GETPGID, &[Arg::value(asked)], Expect::Success);
                b.keep_result(group);
                let store = [Arg::value(u64::from(at) + 4), Arg::load(group)];
                b.step(op::STORE, what, 0, &store, Expect::Success);
                let args = [Arg::fd(fd), Arg::value(F_SETOWN_EX), Arg::data(at)];
                b.call(what, nr::FCNTL, &args, Expect::Note);
            });
        }
    }

    /// In the root, before it starts others: it leads a group again that is told of something.
    pub(super) fn root_group(&mut self) {
        let told = |file: &OpenFile| {
            file.owner[0] == F_OWNER_PGRP && is_roots_group(self.tree, file.owner[1])
        };
        if leads_its_group(self.tree) && self.tree.files.iter().any(told) {
            // It may lead a session, or the group already.
            self.b.syscall("process group", nr::SETPGID, [0; 6], Expect::Ignore);
        }
    }

    /// What tells the number of a descriptor with its signal: O_ASYNC, which open(2) does not set, and
    /// leases. The kernel keeps the number by which it was set (fasync_insert_entry in fs/fcntl.c), so
    /// that it has to be one of the program's.
    pub(super) fn asynchronous(&mut self, uses: &Uses) -> Result<(), LinkError> {
        for (&index, places) in uses {
            let file = self.file_at(index)?;
            let Some(&(fd, _)) = places.first() else { continue };
            if !self.is_first_user(index) {
                continue;
            }
            if file.flags & O_ASYNC != 0 {
                let args = [u64::from(fd), F_SETFL, u64::from(file.flags), 0, 0, 0];
                self.note(&format!("O_ASYNC of descriptor {fd}"), nr::FCNTL, args);
            }
            for l in file.locks.iter().filter(|l| l.kind == lock::LEASE) {
                self.must(&format!("lease of descriptor {fd}"), nr::FCNTL, lease(l, fd));
            }
        }
        Ok(())
    }

    /// In a thread: it is the one that is told of what happens to descriptions.
    pub(super) fn owned_by_thread(&mut self, tid: u32) {
        let (tree, process) = (self.tree, self.process);
        let owned =
            tree.files.iter().enumerate().filter(|(_, f)| f.owner == [F_OWNER_TID, tid as i32]);
        for (index, _) in owned {
            let Some(d) = process.descriptors.iter().find(|d| d.file as usize == index) else {
                continue;
            };
            let at = self.owner([F_OWNER_TID, 0]);
            let what = format!("owner of descriptor {}", d.fd);
            let store = [Arg::value(u64::from(at) + 4), Arg::kind(arg::TID)];
            self.b.step(op::STORE, &what, 0, &store, Expect::Success);
            let args = [Arg::fd(d.fd), Arg::value(F_SETOWN_EX), Arg::data(at)];
            self.b.call(&what, nr::FCNTL, &args, Expect::Note);
        }
    }
}

fn is_roots_group(tree: &Tree, id: i32) -> bool {
    tree.processes.first().is_some_and(|root| root.pgid == id as u32)
}

fn leads_its_group(tree: &Tree) -> bool {
    tree.processes.first().is_some_and(|root: &Process| root.pgid == root.pid)
}
