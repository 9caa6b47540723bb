//! How processes come into their sessions: who has to be started before whom leaves which.
//!
//! A session is inherited at fork and left by setsid alone, so that children of the session that a
//! process was born into are started before its setsid, and the others after it; it may have been
//! born before its parent's setsid itself. The leader of a session must start its members: where it
//! has ended, a stand-in does, and when that ends they come to their parent, which is a subreaper
//! meanwhile (find_new_reaper in kernel/exit.c). Orphans in the session of a leader who is still
//! there, be it as a zombie, are started by a helper that the leader starts: its end brings them past
//! the leader, to whom they came. Who takes in orphans does so in a round of its own, with those as
//! deep in the tree; in another round they would come to the nearest of them.

use super::family::{free_id, Family, Member, Role};
use std::collections::BTreeSet;

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
    // A helper's id must not be taken for that of a leader who has ended and was collected.
    let mut used = kin.iter().flat_map(|k| [k.pid, k.sid]).collect();
    Family(kin.iter().map(member).collect()).stand_in_for_sessions(&mut used)
}

impl Family {
    /// Adds helpers that start the members of sessions; gives what cannot be had. `used` are the ids
    /// that no helper may have.
    pub(super) fn stand_in_for_sessions(
        &mut self,
        used: &mut BTreeSet<u32>,
    ) -> Vec<SessionObstacle> {
        let mut obstacles = Vec::new();
        for i in 1..self.0.len() {
            let Some(sid) = self.wanted(i).filter(|&sid| sid != self.born_into(i)) else {
                continue;
            };
            let found = self.0.iter().position(|leader| leader.pid == sid);
            let done = match found.map(|at| (at, self.0[at])) {
                None if sid == 0 => Err("its leader is outside of the namespace"),
                None => {
                    let parent = self.deepest_parent(sid).or(self.0[i].parent);
                    self.0.push(Member::new(sid, parent, sid, sid, Role::Helper));
                    self.start_in_session(i, self.0.len() - 1, used)
                }
                Some((at, leader)) if leader.sid == leader.pid => {
                    self.start_in_session(i, at, used)
                }
                Some(_) => Err("its leader is in another one"),
            };
            if let Err(what) = done {
                obstacles.push(SessionObstacle { pid: self.0[i].pid, sid, what });
            }
        }
        obstacles
    }

    /// The session in which a process must be born: its own, or where it leads one itself, that of
    /// children whom it had before. Others have no such parent: orphans of a session come to who is
    /// above its leader, also where that has ended, unless they came to several that are apart.
    fn wanted(&self, i: usize) -> Option<u32> {
        let m = self.0[i];
        if m.sid != m.pid {
            return Some(m.sid);
        }
        let leads_to_me = |sid: u32| match self.0.iter().position(|leader| leader.pid == sid) {
            Some(leader) => leader != i && !self.is_above(i, leader),
            None => sid == self.0[0].sid || self.came_apart(sid),
        };
        self.started_by(i).filter_map(|c| self.wanted(c)).find(|&sid| leads_to_me(sid))
    }

    /// Has member `i` started in the session of `leader`, from where it can come to its parent.
    fn start_in_session(
        &mut self,
        i: usize,
        leader: usize,
        used: &mut BTreeSet<u32>,
    ) -> Result<(), &'static str> {
        let m = self.0[i];
        let has_ended = self.0[leader].role == Role::Helper;
        self.0[i].starter = if has_ended && self.0[leader].parent == m.parent {
            Some(leader)
        } else if m.parent.is_some_and(|parent| self.is_above(parent, leader)) {
            Some(self.lost_parent(leader, i, used))
        } else if has_ended {
            return Err("its leader has ended, and others in it have another parent");
        } else {
            return Err("its leader is not below its parent");
        };
        Ok(())
    }

    /// Whether members of a session have parents outside of it of whom neither is above the other.
    fn came_apart(&self, sid: u32) -> bool {
        let parents = self.0.iter().filter(|m| m.sid == sid).filter_map(|m| m.parent);
        let parents: BTreeSet<usize> = parents.filter(|&p| self.0[p].sid != sid).collect();
        let apart = |a: usize, b: usize| a != b && !self.is_above(a, b) && !self.is_above(b, a);
        parents.iter().any(|&a| parents.iter().any(|&b| apart(a, b)))
    }

    /// Of the parents of those who must be started in a session of which they have nobody above
    /// them, the one that is furthest down.
    fn deepest_parent(&self, sid: u32) -> Option<usize> {
        let is_born_to = |i: usize| self.0[i].parent.is_some_and(|p| self.wanted(p) == Some(sid));
        let members = (1..self.0.len()).filter(|&i| self.wanted(i) == Some(sid) && !is_born_to(i));
        let parents =
            members.filter(|&i| self.born_into(i) != sid).filter_map(|i| self.0[i].parent);
        parents.max_by_key(|&parent| self.depth(parent))
    }

    /// The helper below the leader of a session that starts the members who lost their parents and
    /// came to the parent of member `i`. Its id is near to that of `i`, whose parent had such.
    fn lost_parent(&mut self, leader: usize, i: usize, used: &mut BTreeSet<u32>) -> usize {
        let Member { pid, parent, .. } = self.0[i];
        let known = self.0.iter().find_map(|m| {
            let starter = m.starter.filter(|_| m.is_reparented() && m.parent == parent)?;
            (self.0[starter].starter == Some(leader)).then_some(starter)
        });
        if let Some(known) = known {
            return known;
        }
        let sid = self.0[leader].pid;
        let free = free_id(pid, used);
        self.0.push(Member::new(free, Some(leader), sid, sid, Role::Helper));
        self.0.len() - 1
    }

    /// Whether `above` is an ancestor of member `i`.
    fn is_above(&self, above: usize, i: usize) -> bool {
        std::iter::successors(self.0[i].parent, |&i| self.0[i].parent).any(|i| i == above)
    }

    /// How many members are above it.
    pub(super) fn depth(&self, i: usize) -> usize {
        std::iter::successors(Some(i), |&i| self.0[i].parent).count() - 1
    }

    /// The session that a process is in when it was just started.
    pub(super) fn born_into(&self, i: usize) -> u32 {
        let m = self.0[i];
        let Some(parent) = m.starter else { return m.sid };
        let above = self.0[parent];
        if self.is_early(i) {
            self.born_into(parent)
        } else {
            above.sid
        }
    }

    /// Whether it is started before its parent makes a session of its own.
    pub fn is_early(&self, i: usize) -> bool {
        let m = self.0[i];
        let Some(parent) = m.starter.map(|parent| self.0[parent]) else { return false };
        parent.sid == parent.pid && self.wanted(i).is_some_and(|sid| sid != parent.pid)
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
        assert!(family.is_given_children(1, 0) && !family.is_given_children(0, 0));
        assert_eq!(family.moving(0).len(), 3);
        assert_eq!(family.lasting(), 5);
    }

    /// The id next to an orphan's is that of a leader of whom nothing is left but his session.
    #[test]
    fn helpers_do_not_take_the_place_of_leaders_that_have_ended() {
        let orphans =
            [ROOT, (20, Some(0), 1), (30, Some(1), 30), (40, Some(0), 30), (60, Some(1), 39)];
        assert_eq!(session_obstacles(&kin(&orphans)), []);
    }

    #[test]
    fn sessions_that_can_be_had_need_no_stand_in() {
        // The root's, one that a parent made, one that a parent left.
        let mut family = family(&[ROOT, (20, Some(0), 20), (30, Some(1), 20), (31, Some(1), 1)]);
        assert_eq!(family.stand_in_for_sessions(&mut BTreeSet::new()), []);
        assert_eq!((family.0.len(), family.moving(0).len()), (4, 0));
        assert!(family.is_early(3));
        assert_eq!([1, 2, 3].map(|i| family.born_into_group(i)), [10, 20, 10]);
    }

    #[test]
    fn children_of_a_session_that_their_ancestors_left() {
        // 50 and 51 were born before 40 left the session, 40 before 30 did, and so on; 41 was not.
        let mut family = family(&[
            ROOT,
            (20, Some(0), 20),
            (30, Some(1), 30),
            (40, Some(2), 40),
            (41, Some(2), 30),
            (50, Some(3), 1),
            (51, Some(3), 1),
        ]);
        assert_eq!(family.stand_in_for_sessions(&mut BTreeSet::new()), []);
        assert_eq!(family.0.len(), 7, "no helper");
        let early: Vec<_> = (0..7).filter(|&i| family.is_early(i)).collect();
        assert_eq!(early, [2, 3, 5, 6], "20 is started by the root, which leads no session");
        assert_eq!([3, 4, 5].map(|i| family.born_into(i)), [1, 30, 1]);
        assert_eq!(family.born_into_group(5), 10);
    }

    #[test]
    fn orphans_who_lead_sessions_and_have_children_of_the_old_one() {
        // 40 was below 30, left its session after it had made 50, and came to 20.
        let mut family = family(&[
            ROOT,
            (20, Some(0), 1),
            (30, Some(1), 30),
            (40, Some(1), 40),
            (50, Some(3), 30),
        ]);
        let mut used: BTreeSet<u32> = family.0.iter().map(|m| m.pid).collect();
        assert_eq!(family.stand_in_for_sessions(&mut used), []);
        assert_eq!(family.0.len(), 6, "one helper");
        assert_eq!(
            (family.0[5].sid, family.0[5].starter, family.0[3].starter),
            (30, Some(2), Some(5))
        );
        assert!(family.is_early(4) && family.is_given_children(1, 0));
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
        assert!(family.is_given_children(0, 0) && !family.is_given_children(1, 0));
        let moving = family.moving(0);
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
    fn orphans_come_past_those_who_take_in_others() {
        // 40 and 41 came to the root, 42 to 20; 50 and 51 are of a session without its leader.
        let mut family = family(&[
            ROOT,
            (20, Some(0), 1),
            (30, Some(1), 30),
            (40, Some(0), 30),
            (41, Some(0), 30),
            (42, Some(1), 30),
            (50, Some(0), 15),
            (51, Some(1), 15),
        ]);
        let mut used: BTreeSet<u32> = family.0.iter().map(|m| m.pid).collect();
        assert_eq!(family.stand_in_for_sessions(&mut used), []);
        let helpers: Vec<_> = family.0[8..].iter().map(|m| (m.pid, m.sid, m.parent)).collect();
        let wanted = [(39, 30, Some(2)), (38, 30, Some(2)), (15, 15, Some(1)), (49, 15, Some(10))];
        assert_eq!(helpers, wanted);
        let starters: Vec<_> = family.0[3..8].iter().map(|m| m.starter).collect();
        assert_eq!(starters, [Some(8), Some(8), Some(9), Some(11), Some(10)]);
        // First to the root, then to 20; the stand-in of a leader ends after its helper.
        assert_eq!(family.rounds(), 2);
        assert_eq!([8, 9, 10, 11].map(|i| family.round(i)), [0, 1, 1, 0]);
        assert!(family.is_given_children(0, 0) && !family.is_given_children(0, 1));
        assert!(family.is_given_children(1, 1) && !family.is_given_children(1, 0));
        let all = BTreeSet::from([0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(family.moving(1), all);
        assert_eq!(family.moving(0), &all | &BTreeSet::from([9, 10]));
    }

    #[test]
    fn heirs_of_a_session_who_have_left_it() {
        // 20 and 30 were of session 15, whose leader has ended, as 25 and 35 were born.
        let mut family = family(&[
            ROOT,
            (20, Some(0), 20),
            (25, Some(1), 15),
            (30, Some(0), 30),
            (35, Some(3), 15),
        ]);
        assert_eq!(family.stand_in_for_sessions(&mut BTreeSet::new()), []);
        assert_eq!(family.0.len(), 6, "one helper");
        let helper = family.0[5];
        assert_eq!((helper.pid, helper.sid, helper.parent), (15, 15, Some(0)));
        assert_eq!([1, 3].map(|i| family.0[i].starter), [Some(5); 2]);
        assert_eq!([2, 4].map(|i| family.born_into(i)), [15; 2]);
    }

    #[test]
    fn each_session_that_cannot_be_had_is_told() {
        let mut all = kin(&[
            ROOT,
            (20, Some(0), 20),
            (22, Some(0), 22),
            (23, Some(12), 15),
            (24, Some(11), 15),
            (25, Some(0), 0),
            (26, Some(0), 90),
            (30, Some(1), 30),
            (32, Some(2), 30),
            (90, Some(0), 90),
            (91, Some(1), 92),
            (92, Some(1), 1),
            (93, Some(0), 1),
            (94, Some(12), 30),
        ]);
        all[9].ended = true;
        let told: Vec<_> = session_obstacles(&all).iter().map(|o| (o.pid, o.sid)).collect();
        assert_eq!(told, [(23, 15), (25, 0), (91, 92), (94, 30)]);
    }
}
