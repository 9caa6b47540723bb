//! Who starts whom, and when: sessions and process groups can only be had in a certain order.
//!
//! A session is inherited at fork and left by setsid alone, so that children of the session that a
//! process was born into are started before its setsid, and the others after it. A process group
//! must have its leader's process when others join it: a leader that has ended is stood in for by
//! a helper, which ends when all have joined.

use super::arch::nr;
use super::builder::Arg;
use super::ProcessCompiler;
use crate::LinkError;
use image_format::model::{Process, Tree};
use image_format::plan::{arg, op, Expect, ProcessPlan};

const SIGCHLD: u64 = 17;
/// wait4(2): also children whose end is told by no signal.
const WALL: u64 = 0x4000_0000;
const TIOCSPGRP: u64 = 0x5410;

/// waitid(2).
const WSTOPPED: u32 = 2;
const WEXITED: u32 = 4;
const WNOWAIT: u32 = 0x100_0000;
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
    /// A stand-in for a group leader that has ended.
    Helper,
}

/// A process to be started.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    pub pid: u32,
    /// Index in the family.
    pub parent: Option<usize>,
    pub pgid: u32,
    pub sid: u32,
    pub exit_signal: u64,
    pub role: Role,
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
            let exit_signal = u64::from(p.exit_signal);
            let (pid, pgid, sid) = (p.pid, p.pgid, p.sid);
            all.push(Member { pid, parent, pgid, sid, exit_signal, role: Role::Process });
        }
        for z in &tree.zombies {
            if z.parent as usize >= tree.processes.len() {
                return Err(bad(z.pid, "its parent"));
            }
            all.push(Member {
                pid: z.pid,
                parent: Some(z.parent as usize),
                pgid: z.pgid,
                sid: z.sid,
                exit_signal: SIGCHLD,
                role: Role::Zombie(z.status),
            });
        }
        let outside = all.first().map_or(0, |root| root.pgid);
        for i in 1..all.len() {
            let Member { pgid, parent, sid, pid, .. } = all[i];
            if pgid == outside || all.iter().any(|m| m.pid == pgid) {
                continue;
            }
            if sid == pid {
                return Err(bad(pid, "its process group"));
            }
            let role = Role::Helper;
            all.push(Member { pid: pgid, parent, pgid, sid, exit_signal: 0, role });
        }
        let family = Self(all);
        for i in 1..family.0.len() {
            let m = family.0[i];
            if m.sid != m.pid && m.sid != family.born_into(i) {
                return Err(bad(m.pid, "its session, whose leader has ended"));
            }
        }
        Ok(family)
    }

    /// The session that a process is in when it was just started.
    fn born_into(&self, i: usize) -> u32 {
        let m = self.0[i];
        let Some(parent) = m.parent else { return m.sid };
        let above = self.0[parent];
        if self.is_early(i) {
            self.born_into(parent)
        } else {
            above.sid
        }
    }

    /// Whether it is started before its parent makes a session of its own.
    fn is_early(&self, i: usize) -> bool {
        let m = self.0[i];
        let Some(parent) = m.parent.map(|parent| self.0[parent]) else { return false };
        parent.sid == parent.pid && m.sid != parent.pid && m.sid != m.pid
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

    fn children(&self, i: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.0.len()).filter(move |&c| self.0[c].parent == Some(i))
    }

    /// Those that take part in the first two barriers.
    fn all(&self) -> u64 {
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

impl ProcessCompiler<'_> {
    /// Starts the children of member `me`, and makes its session and group.
    pub(super) fn relations(&mut self, family: &Family, me: usize) {
        let m = family.0[me];
        let root = family.0[0];
        if me == 0 {
            self.root_session();
        }
        if family.0.len() == 1 {
            return;
        }
        self.start_children(family, me, true);
        if m.sid == m.pid && me != 0 {
            self.must("session", nr::SETSID, [0; 6]);
        }
        if m.sid == m.pid {
            // Whoever is started from here on inherits it.
            self.take_terminal(m.sid);
        }
        self.start_children(family, me, false);
        if m.pgid == m.pid && m.sid != m.pid && me != 0 {
            self.must("process group", nr::SETPGID, [0; 6]);
        }
        self.barrier(0, family.all());
        let above = m.parent.map_or(m, |parent| family.0[parent]);
        if m.pgid != m.pid && m.pgid != above.pgid {
            if m.pgid == root.pgid && root.pgid != root.pid {
                // The root's group is the one that the resume gave it.
                let args = [Arg::value(u64::from(root.pid))];
                let group = self.make("process group", nr::GETPGID, &args);
                let args = [Arg::value(0), Arg::load(group)];
                self.b.call("process group", nr::SETPGID, &args, Expect::Success);
            } else {
                let args = [0, u64::from(m.pgid), 0, 0, 0, 0];
                self.must("process group", nr::SETPGID, args);
            }
        }
        self.barrier(1, family.all());
        for helper in family.children(me).filter(|&c| family.0[c].role == Role::Helper) {
            let pid = u64::from(family.0[helper].pid);
            self.must("end of a group's leader", nr::WAIT4, [pid, 0, WALL, 0, 0, 0]);
        }
        if m.sid == m.pid {
            self.name_foreground(family, m.sid);
        }
        if me == 0 {
            self.foreground(family);
        }
    }

    /// The foreground group of the terminal, where the root is a shell that runs a job.
    fn foreground(&mut self, family: &Family) {
        let root = family.0[0];
        let terminal = self.tree.terminals.iter().find(|t| t.controlling && t.leader);
        let Some(group) = terminal.map(|t| t.foreground_group).filter(|&g| g != 0) else { return };
        if group == root.pgid || !family.0.iter().any(|m| m.pgid == group) {
            return;
        }
        let at = self.b.data(&group.to_le_bytes());
        let args = [Arg::kind(arg::TERMINAL), Arg::value(TIOCSPGRP), Arg::data(at)];
        self.b.call("foreground process group", nr::IOCTL, &args, Expect::Note);
    }

    fn start_children(&mut self, family: &Family, me: usize, early: bool) {
        for child in family.children(me).filter(|&c| family.is_early(c) == early) {
            let m = family.0[child];
            let what = format!("process {}", m.pid);
            self.b.verb(op::FORK, &what, [child as u64, m.exit_signal, 0, 0, 0, 0]);
        }
    }

    fn barrier(&mut self, index: u64, members: u64) {
        self.b.verb(op::BARRIER, "the other processes", [index, members, 0, 0, 0, 0]);
    }

    /// The plan of a zombie or a helper.
    pub(super) fn ended(&mut self, family: &Family, me: usize) -> ProcessPlan {
        let m = family.0[me];
        let first_step = self.b.begin_steps();
        self.relations(family, me);
        let (status, members) = match m.role {
            Role::Zombie(status) => (u64::from(status), family.lasting()),
            _ => (0, 0),
        };
        self.b.verb(op::EXIT, "the end of a process", [status, members, 0, 0, 0, 0]);
        ProcessPlan {
            pid: m.pid,
            parent: m.parent.map_or(u32::MAX, |parent| parent as u32),
            first_step,
            step_count: self.b.steps_since(first_step),
            awaited: if m.role == Role::Helper { 0 } else { WEXITED | WNOWAIT },
            ..ProcessPlan::default()
        }
    }
}
