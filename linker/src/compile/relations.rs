//! The steps by which processes start each other, and make sessions and process groups.

use super::arch::nr;
use super::builder::Arg;
use super::family::{Family, Member, Role, WEXITED, WNOWAIT};
use super::process::PR_SET_CHILD_SUBREAPER;
use super::threads::PR_SET_PDEATHSIG;
use super::ProcessCompiler;
use image_format::plan::{arg, op, Expect, ProcessPlan};

const SIGKILL: u64 = 9;
/// wait4(2): also children whose end is told by no signal.
const WALL: u64 = 0x4000_0000;
const TIOCSPGRP: u64 = 0x5410;
/// The barrier at which helpers have ended that others come from.
const HELPERS_GONE: u64 = 3;
/// The barrier at which groups have all members but those who give other groups their ids.
const GROUPS_MADE: u64 = 4;

impl ProcessCompiler<'_> {
    /// Starts the children of member `me`, and makes its session and group.
    pub(super) fn relations(&mut self, family: &Family, me: usize) {
        let m = family.0[me];
        let root = family.0[0];
        if me == 0 {
            self.root_session();
            self.root_group();
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
        self.take_in_orphans(family, me, 0, true);
        self.start_children(family, me, false);
        let left = family.has_left_its_group(me);
        if (m.pgid == m.pid || left) && m.sid != m.pid && me != 0 {
            self.must("process group", nr::SETPGID, [0; 6]);
        }
        self.barrier(0, family.all());
        if m.pgid != m.pid && m.pgid != family.born_into_group(me) && !left {
            self.join_group(m.pgid, &root);
        }
        if family.some_left_their_groups() {
            self.barrier(GROUPS_MADE, family.all());
            if left {
                self.join_group(m.pgid, &root);
            }
        }
        if m.is_reparented() {
            self.must("parent-death signal", nr::PRCTL, [PR_SET_PDEATHSIG, 0, 0, 0, 0, 0]);
        }
        self.barrier(1, family.all());
        self.end_helpers(family, me);
        if m.is_reparented() {
            // As everyone has it until the end.
            self.must("parent-death signal", nr::PRCTL, [PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0]);
        }
        if m.sid == m.pid {
            self.name_foreground(family, m.sid);
        }
        if me == 0 {
            self.foreground(family);
        }
    }

    /// The rounds in which helpers end, and those whom they started come to their parents.
    fn end_helpers(&mut self, family: &Family, me: usize) {
        let is_helper = |i: usize| family.0[i].role == Role::Helper;
        let rounds = family.rounds();
        // The barrier is met more than once: it counts all who have come.
        let mut met = 0;
        for round in 0..rounds.max(1) {
            let ending = |&c: &usize| is_helper(c) && family.round(c) == round;
            for helper in family.started_by(me).filter(ending) {
                let pid = u64::from(family.0[helper].pid);
                self.must("end of a stand-in", nr::WAIT4, [pid, 0, WALL, 0, 0, 0]);
            }
            let moving = family.moving(round);
            if !moving.contains(&me) {
                // It ends now itself, or has nothing to do with all this.
                break;
            }
            met += moving.len() as u64;
            self.barrier(HELPERS_GONE, met);
            self.take_in_orphans(family, me, round, false);
            if round + 1 < rounds {
                self.take_in_orphans(family, me, round + 1, true);
                met += moving.len() as u64;
                self.barrier(HELPERS_GONE, met);
            }
        }
    }

    fn take_in_orphans(&mut self, family: &Family, me: usize, round: usize, does: bool) {
        if family.is_given_children(me, round) {
            let args = [PR_SET_CHILD_SUBREAPER, u64::from(does), 0, 0, 0, 0];
            self.must("child subreaper", nr::PRCTL, args);
        }
    }

    /// Enters a group in which somebody is.
    fn join_group(&mut self, group: u32, root: &Member) {
        if group == root.pgid && root.pgid != root.pid {
            // The root's group is the one that the resume gave it.
            let args = [Arg::value(u64::from(root.pid))];
            let group = self.make("process group", nr::GETPGID, &args);
            let args = [Arg::value(0), Arg::load(group)];
            self.b.call("process group", nr::SETPGID, &args, Expect::Success);
        } else {
            self.must("process group", nr::SETPGID, [0, u64::from(group), 0, 0, 0, 0]);
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
        for child in family.started_by(me).filter(|&c| family.is_early(c) == early) {
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
