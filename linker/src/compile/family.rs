//! Who starts whom, and when: sessions and process groups can only be had in a certain order.
//!
//! A session is inherited at fork and left by setsid alone, so that children of the session that a
//! process was born into are started before its setsid, and the others after it. A process group
//! must have its leader's process when others join it: a leader that has ended is stood in for by
//! a helper, which ends when all have joined. A leader who has gone to another group makes its own
//! first, and goes when the others have joined. So is the leader of a session, who must start its
//! members: when it ends they come to their parent, which is a subreaper meanwhile
//! (find_new_reaper in kernel/exit.c). Orphans in the session of a leader who is still there, be it
//! as a zombie, are started by a helper that the leader starts: its end brings them past the leader.

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
    Family(kin.iter().map(member).collect()).stand_in_for_sessions(&mut BTreeSet::new())
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
fn free_id(pid: u32, used: &mut BTreeSet<u32>) -> u32 {
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

    /// Adds helpers that start the members of sessions; gives what cannot be had. `used` are the ids
    /// that no helper may have.
    pub(super) fn stand_in_for_sessions(
        &mut self,
        used: &mut BTreeSet<u32>,
    ) -> Vec<SessionObstacle> {
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
                Some((at, leader)) if leader.sid == leader.pid => {
                    self.0[i].starter = Some(self.lost_parent(at, m.pid, used));
                    continue;
                }
                Some(_) => "its leader is in another one",
            };
            obstacles.push(SessionObstacle { pid: m.pid, sid: m.sid, what });
        }
        let lost = (1..self.0.len()).filter(|&i| self.is_reparented_past_others(i));
        obstacles.extend(lost.map(|i| SessionObstacle {
            pid: self.0[i].pid,
            sid: self.0[i].sid,
            what: "between its leader and its parent is one that others came to",
        }));
        obstacles
    }

    /// Adds helpers that stay in a group until everyone is in theirs, where all its members go to it
    /// from groups of their own ids, and its leader from it.
    fn hold_groups(&mut self, used: &mut BTreeSet<u32>) {
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

    /// The helper below the leader of a session that starts those of its members who lost their
    /// parents. Its id is near to that of the orphan `pid`, whose parent had such.
    fn lost_parent(&mut self, leader: usize, pid: u32, used: &mut BTreeSet<u32>) -> usize {
        let sid = self.0[leader].pid;
        let is_it = |m: &Member| {
            (m.role, m.parent) == (Role::Helper, Some(leader)) && m.sid == sid && m.pid != sid
        };
        if let Some(known) = self.0.iter().position(is_it) {
            return known;
        }
        let free = free_id(pid, used);
        self.0.push(Member::new(free, Some(leader), sid, sid, Role::Helper));
        self.0.len() - 1
    }

    /// Whether another than its parent is the first to take in member `i` when its starter ends.
    fn is_reparented_past_others(&self, i: usize) -> bool {
        let m = self.0[i];
        let Some(starter) = m.starter.filter(|_| m.is_reparented()) else { return false };
        let mut above = self.0[starter].parent;
        while let Some(at) = above.filter(|_| above != m.parent) {
            if self.is_given_children(at) {
                return true;
            }
            above = self.0[at].parent;
        }
        above.is_none()
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

    /// Those that take part in the barrier of the helpers' ends: who moves, who takes them in, and
    /// who sees a helper end from which they come.
    pub fn moving(&self) -> BTreeSet<usize> {
        let all = (0..self.0.len()).filter(|&i| self.0[i].is_reparented());
        let starter = |i: usize| self.0[i].starter;
        all.flat_map(|i| {
            let waits = starter(i).and_then(starter);
            [Some(i), self.0[i].parent, waits].into_iter().flatten()
        })
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
        assert_eq!(family.stand_in_for_sessions(&mut BTreeSet::new()), []);
        assert_eq!(family.0.len(), 6, "one helper");
        let helper = family.0[5];
        assert_eq!((helper.pid, helper.sid, helper.starter), (15, 15, Some(1)));
        let starters: Vec<_> = family.0.iter().map(|m| m.starter).collect();
        assert_eq!(starters, [None, Some(0), Some(5), Some(5), Some(2), Some(1)]);
        assert!(family.is_given_children(1) && !family.is_given_children(0));
        assert_eq!(family.moving().len(), 3);
        assert_eq!(family.lasting(), 5);
    }

    #[test]
    fn sessions_that_can_be_had_need_no_stand_in() {
        // The root's, one that a parent made, one that a parent left.
        let mut family = family(&[ROOT, (20, Some(0), 20), (30, Some(1), 20), (31, Some(1), 1)]);
        assert_eq!(family.stand_in_for_sessions(&mut BTreeSet::new()), []);
        assert_eq!((family.0.len(), family.moving().len()), (4, 0));
        assert!(family.is_early(3));
        assert_eq!([1, 2, 3].map(|i| family.born_into_group(i)), [10, 20, 10]);
    }

    #[test]
    fn orphans_come_past_the_leader_of_their_session() {
        let mut family = family(&[
            ROOT,
            (20, Some(0), 1),
            (30, Some(1), 30),
            (40, Some(0), 30),
            (39, Some(0), 30),
            (50, Some(3), 30),
        ]);
        let mut used: BTreeSet<u32> = family.0.iter().map(|m| m.pid).collect();
        assert_eq!(family.stand_in_for_sessions(&mut used), []);
        assert_eq!(family.0.len(), 7, "one helper");
        let helper = family.0[6];
        assert_eq!((helper.pid, helper.pgid, helper.sid, helper.starter), (38, 30, 30, Some(2)));
        let starters: Vec<_> = family.0.iter().map(|m| m.starter).collect();
        assert_eq!(starters, [None, Some(0), Some(1), Some(6), Some(6), Some(3), Some(2)]);
        assert!(family.is_given_children(0) && !family.is_given_children(1));
        let moving = family.moving();
        assert_eq!(moving, [0, 2, 3, 4].into(), "with the leader, who waits for the helper");
        assert!(!family.is_early(6));
        assert_eq!([3, 6].map(|i| family.born_into_group(i)), [30, 30]);
    }

    #[test]
    fn groups_that_only_others_leaders_go_to_are_held() {
        let mut family =
            family(&[ROOT, (20, Some(0), 1), (30, Some(0), 1), (40, Some(0), 1), (50, Some(0), 1)]);
        // 20 and 30 have changed places; 40 has gone to the group of 50, who stays.
        for (i, pgid) in [(1, 30), (2, 20), (3, 50)] {
            family.0[i].pgid = pgid;
        }
        assert_eq!(
            [0, 1, 2, 3, 4].map(|i| family.has_left_its_group(i)),
            [false, true, true, false, false]
        );
        let mut used: BTreeSet<u32> = family.0.iter().map(|m| m.pid).collect();
        family.hold_groups(&mut used);
        let held: Vec<_> = family.0[5..].iter().map(|m| (m.pid, m.pgid, m.starter)).collect();
        assert_eq!(held, [(19, 20, Some(1)), (29, 30, Some(2))]);
        assert!(family.some_left_their_groups());
    }

    #[test]
    fn each_session_that_cannot_be_had_is_told() {
        let mut all = kin(&[
            ROOT,
            (20, Some(0), 20),
            (22, Some(0), 15),
            (23, Some(1), 15),
            (24, Some(0), 0),
            (25, Some(0), 90),
            (30, Some(1), 30),
            (31, Some(1), 30),
            (32, Some(0), 30),
            (90, Some(0), 90),
        ]);
        all[9].ended = true;
        let told: Vec<_> = session_obstacles(&all).iter().map(|o| (o.pid, o.sid)).collect();
        assert_eq!(told, [(23, 15), (24, 0), (32, 30)]);
    }
}
