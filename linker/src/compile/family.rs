//! Who starts whom, and when: sessions and process groups can only be had in a certain order.
//!
//! A session is inherited at fork and left by setsid alone, so that children of the session that a
//! process was born into are started before its setsid, and the others after it. A process group
//! must have its leader's process when others join it: a leader that has ended is stood in for by
//! a helper, which ends when all have joined. So is the leader of a session, who must start its
//! members: when it ends they come to their parent, which is a subreaper meanwhile
//! (find_new_reaper in kernel/exit.c).

use crate::LinkError;
use image_format::model::{Process, Tree};

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
    /// A stand-in for the leader of a group or session, who has ended.
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
    fn new(pid: u32, parent: Option<usize>, pgid: u32, sid: u32, role: Role) -> Self {
        let exit_signal = if role == Role::Helper { 0 } else { SIGCHLD };
        Self { pid, parent, starter: parent, pgid, sid, exit_signal, role }
    }

    /// Whether it loses the one that starts it, and comes to its parent.
    pub fn is_reparented(&self) -> bool {
        self.starter != self.parent
    }
}

/// What a process is to others, as far as it matters for sessions.
#[derive(Debug, Clone, Copy)]
pub struct Kin {
    /// Its id.
    pub pid: u32,
    /// Index of its parent; `None` for the root, which is the first.
    pub parent: Option<usize>,
    /// Its session.
    pub sid: u32,
    /// It has ended, and was not collected.
    pub ended: bool,
}

/// A session in which a process cannot be put again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionObstacle {
    /// The process.
    pub pid: u32,
    /// Its session.
    pub sid: u32,
    /// Why not.
    pub what: &'static str,
}

/// The sessions of a tree in which processes cannot be put again.
pub fn session_obstacles(kin: &[Kin]) -> Vec<SessionObstacle> {
    let member = |k: &Kin| {
        let role = if k.ended { Role::Zombie(0) } else { Role::Process };
        Member::new(k.pid, k.parent, 0, k.sid, role)
    };
    Family(kin.iter().map(member).collect()).stand_in_for_sessions()
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
        if let Some(obstacle) = family.stand_in_for_sessions().first() {
            return Err(bad(obstacle.pid, obstacle.what));
        }
        family.stand_in_for_groups()?;
        Ok(family)
    }

    /// Adds helpers for the leaders of sessions who have ended; gives those that cannot be had.
    pub(super) fn stand_in_for_sessions(&mut self) -> Vec<SessionObstacle> {
        let mut obstacles = Vec::new();
        for i in 1..self.0.len() {
            let m = self.0[i];
            if m.sid == m.pid || m.sid == self.born_into(i) {
                continue;
            }
            let found = self.0.iter().position(|leader| leader.pid == m.sid);
            let what = match found.map(|at| (at, self.0[at])) {
                None if m.sid == 0 => "its leader is outside of the namespace",
                None => {
                    let helper = Member::new(m.sid, m.parent, m.sid, m.sid, Role::Helper);
                    self.0[i].starter = Some(self.0.len());
                    self.0.push(helper);
                    continue;
                }
                Some((at, leader)) if leader.role == Role::Helper => {
                    if leader.parent == m.parent {
                        self.0[i].starter = Some(at);
                        continue;
                    }
                    "its leader has ended, and others in it have another parent"
                }
                Some((_, leader)) if leader.role == Role::Process => {
                    "its leader is not among those that the process comes from"
                }
                Some(_) => "its leader has ended, and its parent did not collect it yet",
            };
            obstacles.push(SessionObstacle { pid: m.pid, sid: m.sid, what });
        }
        obstacles
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

    /// The session that a process is in when it was just started.
    fn born_into(&self, i: usize) -> u32 {
        let m = self.0[i];
        let Some(parent) = m.starter else { return m.sid };
        let above = self.0[parent];
        if self.is_early(i) {
            self.born_into(parent)
        } else {
            above.sid
        }
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

    /// Whether it is started before its parent makes a session of its own.
    pub fn is_early(&self, i: usize) -> bool {
        let m = self.0[i];
        let Some(parent) = m.starter.map(|parent| self.0[parent]) else { return false };
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

    /// Those that member `i` starts.
    pub fn started_by(&self, i: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.0.len()).filter(move |&c| self.0[c].starter == Some(i))
    }

    /// Whether processes come to member `i` that others started.
    pub fn is_given_children(&self, i: usize) -> bool {
        self.0.iter().any(|m| m.is_reparented() && m.parent == Some(i))
    }

    /// Those that take part in the barrier of the helpers' ends.
    pub fn moving(&self) -> u64 {
        let given = (0..self.0.len()).filter(|&i| self.is_given_children(i)).count();
        (given + self.0.iter().filter(|m| m.is_reparented()).count()) as u64
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

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: (u32, Option<usize>, u32) = (10, None, 1);

    fn kin(all: &[(u32, Option<usize>, u32)]) -> Vec<Kin> {
        all.iter().map(|&(pid, parent, sid)| Kin { pid, parent, sid, ended: false }).collect()
    }

    fn family(all: &[(u32, Option<usize>, u32)]) -> Family {
        let member = |k: Kin| Member::new(k.pid, k.parent, k.pid, k.sid, Role::Process);
        Family(kin(all).into_iter().map(member).collect())
    }

    #[test]
    fn members_of_a_session_have_one_stand_in() {
        let mut family = family(&[
            ROOT,
            (20, Some(0), 20),
            (30, Some(1), 15),
            (31, Some(1), 15),
            (40, Some(2), 15),
        ]);
        assert_eq!(family.stand_in_for_sessions(), []);
        assert_eq!(family.0.len(), 6, "one helper");
        let helper = family.0[5];
        assert_eq!((helper.pid, helper.sid, helper.starter), (15, 15, Some(1)));
        let starters: Vec<_> = family.0.iter().map(|m| m.starter).collect();
        assert_eq!(starters, [None, Some(0), Some(5), Some(5), Some(2), Some(1)]);
        assert!(family.is_given_children(1) && !family.is_given_children(0));
        assert_eq!(family.moving(), 3);
        assert_eq!(family.lasting(), 5);
    }

    #[test]
    fn sessions_that_can_be_had_need_no_stand_in() {
        // The root's, one that a parent made, one that a parent left.
        let mut family = family(&[ROOT, (20, Some(0), 20), (30, Some(1), 20), (31, Some(1), 1)]);
        assert_eq!(family.stand_in_for_sessions(), []);
        assert_eq!((family.0.len(), family.moving()), (4, 0));
        assert!(family.is_early(3));
        assert_eq!([1, 2, 3].map(|i| family.born_into_group(i)), [10, 20, 10]);
    }

    #[test]
    fn each_session_that_cannot_be_had_is_told() {
        let mut all = kin(&[
            ROOT,
            (20, Some(0), 20),
            (21, Some(0), 20),
            (22, Some(0), 15),
            (23, Some(1), 15),
            (24, Some(0), 0),
            (25, Some(0), 90),
            (90, Some(0), 90),
        ]);
        all[7].ended = true;
        let told: Vec<_> = session_obstacles(&all).iter().map(|o| (o.pid, o.sid)).collect();
        assert_eq!(told, [(21, 20), (23, 15), (24, 0), (25, 90)]);
    }
}
