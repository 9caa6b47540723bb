//! Who starts whom, and when: sessions and process groups can only be had in a certain order.
//!
//! Sessions have a page of their own (`sessions.rs`). A process group must have its leader's process
//! when others join it: a leader that has ended is stood in for by a helper, which ends when all have
//! joined. A leader who has gone to another group makes its own first, and goes when the others have
//! joined. Helpers end in rounds, in which those whom they started come to their parents.

use crate::LinkError;
use image_format::model::{Process, Tree};
use std::collections::BTreeSet;

const SIGCHLD: u64 = 17;
/// waitid(2).
const WSTOPPED: u32 = 2;
pub(super) const WEXITED: u32 = 4;
pub(super) const WNOWAIT: u32 = 0x100_0000;
const SIGSTOP: u32 = 19;

/// How the parent of a stopped process waits for it. What it was told already is taken off, or it
/// would be told again.
pub(super) fn awaited_stop(process: &Process) -> u32 {
    match (process.parent, process.stopped) {
        (None, _) | (_, 0) => 0,
        _ if process.stop_told => WSTOPPED,
        _ => WSTOPPED | WNOWAIT,
    }
}

/// What an entry of the family stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A process of the tree.
    Process,
    /// One that has ended, with its status.
    Zombie(u32),
    /// A stand-in for the leader of a group or session, who has ended; or for the parent that an
    /// orphan lost.
    Helper,
}

/// A process to be started.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    pub pid: u32,
    /// Index in the family.
    pub parent: Option<usize>,
    /// Index of the one that starts it: its parent, or a helper that it loses.
    pub starter: Option<usize>,
    pub pgid: u32,
    pub sid: u32,
    pub exit_signal: u64,
    pub role: Role,
}

impl Member {
    pub(super) fn new(pid: u32, parent: Option<usize>, pgid: u32, sid: u32, role: Role) -> Self {
        let exit_signal = if role == Role::Helper { 0 } else { SIGCHLD };
        Self { pid, parent, starter: parent, pgid, sid, exit_signal, role }
    }

    /// Whether it loses the one that starts it, and comes to its parent.
    pub fn is_reparented(&self) -> bool {
        self.starter != self.parent
    }
}

/// All ids that mean something in a tree.
fn ids(tree: &Tree) -> BTreeSet<u32> {
    let processes = tree
        .processes
        .iter()
        .flat_map(|p| p.threads.iter().map(|t| t.tid).chain([p.pid, p.pgid, p.sid]));
    let zombies = tree.zombies.iter().flat_map(|z| [z.pid, z.pgid, z.sid]);
    processes.chain(zombies).collect()
}

/// An id that nobody has, near to `pid`; it is used then.
pub(super) fn free_id(pid: u32, used: &mut BTreeSet<u32>) -> u32 {
    // 1 is the init of a namespace.
    let free = (2..pid).rev().chain(pid..u32::MAX).find(|id| !used.contains(id)).unwrap_or(pid);
    used.insert(free);
    free
}

/// All processes, in the order of the plan: those of the tree first, with their own indices.
pub struct Family(pub Vec<Member>);

impl Family {
    /// The family of a tree.
    pub fn of(tree: &Tree) -> Result<Self, LinkError> {
        let bad = |pid, what| LinkError::Model { pid, what };
        let mut all: Vec<Member> = Vec::new();
        for (i, p) in tree.processes.iter().enumerate() {
            let parent = p.parent.map(|parent| parent as usize);
            if parent.is_some() == (i == 0) || parent.is_some_and(|parent| parent >= i) {
                return Err(bad(p.pid, "its parent"));
            }
            let member = Member::new(p.pid, parent, p.pgid, p.sid, Role::Process);
            all.push(Member { exit_signal: u64::from(p.exit_signal), ..member });
        }
        for z in &tree.zombies {
            if z.parent as usize >= tree.processes.len() {
                return Err(bad(z.pid, "its parent"));
            }
            let parent = Some(z.parent as usize);
            all.push(Member::new(z.pid, parent, z.pgid, z.sid, Role::Zombie(z.status)));
        }
        let mut family = Self(all);
        let mut used = ids(tree);
        if let Some(obstacle) = family.stand_in_for_sessions(&mut used).first() {
            return Err(bad(obstacle.pid, obstacle.what));
        }
        family.stand_in_for_groups()?;
        family.hold_groups(&mut used);
        Ok(family)
    }

    /// Adds helpers that stay in a group until everyone is in theirs, where all its members go to it
    /// from groups of their own ids, and its leader from it.
    pub(super) fn hold_groups(&mut self, used: &mut BTreeSet<u32>) {
        for leader in 1..self.0.len() {
            let Member { pid, sid, .. } = self.0[leader];
            let all_come_late =
                (0..self.0.len()).all(|i| self.0[i].pgid != pid || self.has_left_its_group(i));
            if self.has_left_its_group(leader) && all_come_late {
                let free = free_id(pid, used);
                self.0.push(Member::new(free, Some(leader), pid, sid, Role::Helper));
            }
        }
    }

    /// Whether others are in the group with the id of member `i`, who is in another one itself.
    pub fn has_left_its_group(&self, i: usize) -> bool {
        let m = self.0[i];
        i != 0 && m.pgid != m.pid && self.0.iter().any(|other| other.pgid == m.pid)
    }

    /// Whether that is so of anyone.
    pub fn some_left_their_groups(&self) -> bool {
        (0..self.0.len()).any(|i| self.has_left_its_group(i))
    }

    /// Adds helpers for the leaders of process groups who have ended.
    fn stand_in_for_groups(&mut self) -> Result<(), LinkError> {
        let outside = self.0.first().map_or(0, |root| root.pgid);
        for i in 1..self.0.len() {
            let Member { pgid, starter, sid, pid, .. } = self.0[i];
            if pgid == outside || self.0.iter().any(|m| m.pid == pgid) {
                continue;
            }
            if sid == pid {
                return Err(LinkError::Model { pid, what: "its process group" });
            }
            self.0.push(Member::new(pgid, starter, pgid, sid, Role::Helper));
        }
        Ok(())
    }

    /// The process group that a process is in when it was just started: groups are made when all
    /// children were started, but that of a session is there at once.
    pub fn born_into_group(&self, i: usize) -> u32 {
        let m = self.0[i];
        let Some(parent) = m.starter else { return m.pgid };
        let above = self.0[parent];
        if above.sid == above.pid && !self.is_early(i) {
            above.pid
        } else {
            self.born_into_group(parent)
        }
    }

    /// The signal that stops process `i`, which was stopped by `signal`. In an orphaned process group
    /// the kernel drops all of them but SIGSTOP (get_signal in kernel/signal.c).
    pub fn stop_signal(&self, i: usize, signal: u32) -> u32 {
        if signal == 0 || !self.is_orphaned(i) {
            signal
        } else {
            SIGSTOP
        }
    }

    /// Whether nobody in the group of process `i` has a parent in another group of its session. The
    /// root's parent is the resuming command, in its session unless the root leads one itself.
    fn is_orphaned(&self, i: usize) -> bool {
        let group = self.0[i].pgid;
        !self.0.iter().filter(|m| m.pgid == group && m.role == Role::Process).any(|m| {
            m.parent.map_or(m.sid != m.pid, |parent| {
                let above = self.0[parent];
                above.pgid != group && above.sid == m.sid
            })
        })
    }

    /// Those that member `i` starts.
    pub fn started_by(&self, i: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.0.len()).filter(move |&c| self.0[c].starter == Some(i))
    }

    /// How deep those are to whom others come, the highest first: each depth is a round of its own,
    /// in which nobody else takes in orphans.
    fn depths(&self) -> BTreeSet<usize> {
        let parents = self.0.iter().filter(|m| m.is_reparented()).filter_map(|m| m.parent);
        parents.map(|parent| self.depth(parent)).collect()
    }

    /// Number of rounds in which helpers end from whom others come.
    pub fn rounds(&self) -> usize {
        self.depths().len()
    }

    /// The round in which helper `i` ends.
    pub fn round(&self, i: usize) -> usize {
        let starts = self.started_by(i).find(|&c| self.0[c].is_reparented());
        let target = starts.and_then(|c| self.0[c].parent).map(|parent| self.depth(parent));
        let depths = self.depths();
        target.and_then(|depth| depths.iter().position(|&d| d == depth)).unwrap_or(0)
    }

    /// Whether processes come to member `i` in a round that others started.
    pub fn is_given_children(&self, i: usize, round: usize) -> bool {
        self.0.iter().any(|m| m.is_reparented() && m.parent == Some(i))
            && self.depths().iter().nth(round) == Some(&self.depth(i))
    }

    /// Those that take part in the barrier at the end of a round: who moves in any of them, who takes
    /// them in, who sees a helper end from which they come; and the helpers that are still there.
    pub fn moving(&self, round: usize) -> BTreeSet<usize> {
        let all = (0..self.0.len()).filter(|&i| self.0[i].is_reparented());
        let starter = |i: usize| self.0[i].starter;
        all.flat_map(|i| {
            let waits = starter(i).and_then(starter);
            [Some(i), self.0[i].parent, waits, starter(i)].into_iter().flatten()
        })
        .filter(|&i| self.0[i].role != Role::Helper || self.round(i) > round)
        .collect()
    }

    /// Those that take part in the first two barriers.
    pub fn all(&self) -> u64 {
        self.0.len() as u64
    }

    /// Those that take part in the last barrier; 0 for a process alone.
    pub fn lasting(&self) -> u64 {
        match self.0.iter().filter(|m| m.role != Role::Helper).count() as u64 {
            1 => 0,
            n => n,
        }
    }
}
