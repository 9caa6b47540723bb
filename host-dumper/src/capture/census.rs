//! Who belongs to a tree, and the stop of all of them.
//!
//! Parents are stopped before their children are counted, so that nobody is born unseen.

use super::error::{CaptureError, Refusal, Result};
use super::kin;
use super::member::Member;
use super::patience::Patience;
use super::target;
use std::time::Duration;

/// How long the stop of a whole tree may take.
const STOPPING: Duration = Duration::from_secs(10);
/// Processes that a tree may have.
const MOST: usize = 4096;
/// Looks in a row that must find the same in a tree that changed under the stop. The kernel lists
/// children by their position, so that one is passed over where an earlier one goes meanwhile
/// (`get_children_pid` in fs/proc/array.c).
const LOOKS: u32 = 8;

/// Stops everyone, generation by generation; those that are not known yet are added.
pub(super) fn stop(members: &mut Vec<Member>, for_itself: bool) -> Result<()> {
    let mut patience = Patience::new(STOPPING);
    let (mut next, known) = (0, members.len());
    let mut ended = Vec::new();
    let (mut looks, mut restless) = (0, false);
    loop {
        while let Some(member) = members.get_mut(next) {
            let ready = if next < known { Ok(()) } else { member.get_ready(None) };
            match ready.and_then(|()| member.stop()) {
                Ok(()) => next += 1,
                // A child that ended is no loss.
                Err(_) if next != 0 && kin::is_gone(member.pid()) => {
                    restless = true;
                    drop(members.remove(next));
                }
                Err(error) => return Err(error),
            }
            if patience.is_over() {
                return Err(too_fast(members));
            }
        }
        let before = std::mem::take(&mut ended);
        if is_complete(members, for_itself, &mut ended) {
            looks = if ended == before { looks + 1 } else { 0 };
            if looks >= if restless { LOOKS } else { 1 } {
                return Ok(());
            }
        } else {
            (looks, restless) = (0, true);
        }
        if patience.is_over() {
            return Err(too_fast(members));
        }
        add_descendants(members, for_itself)?;
    }
}

/// Whether no process of the tree runs, where all of `members` stand; gives the children that have
/// ended. One that ends while this looks may leave a child of its own to someone who was asked
/// already, so that only a second look that finds the same ones tells. Children are left to ancestors
/// alone, and to their first threads (`find_new_reaper` of the kernel's exit.c): these are asked after
/// the descendants.
fn is_complete(members: &mut [Member], for_itself: bool, ended: &mut Vec<u32>) -> bool {
    let pids: Vec<u32> = members.iter().map(Member::pid).collect();
    members.iter_mut().rev().all(|member| {
        let children = member.count_children(for_itself);
        children.into_iter().filter(|pid| !pids.contains(pid)).all(|pid| {
            ended.push(pid);
            kin::is_gone(pid)
        })
    })
}

/// Adds the descendants that are not there yet, without stopping them. Zombies are counted when
/// everyone stands.
pub(super) fn add_descendants(members: &mut Vec<Member>, for_itself: bool) -> Result<()> {
    let mut next = 0;
    while next < members.len() && members.len() <= MOST {
        for pid in members[next].count_children(for_itself) {
            if members.iter().any(|m| m.pid() == pid) {
                continue;
            }
            let open = |(target, seen)| Member::open(target, Some(seen));
            match target::child(pid).and_then(|child| child.map(open).transpose()) {
                Ok(Some(member)) => members.push(member),
                // A zombie, or gone.
                Ok(None) => {}
                Err(e) if kin::is_gone(pid) => drop(e),
                Err(e) => return Err(e),
            }
        }
        next += 1;
    }
    if members.len() > MOST {
        return Err(too_much(members, format!("has more than {MOST} processes")));
    }
    Ok(())
}

fn too_fast(members: &[Member]) -> CaptureError {
    too_much(members, "makes processes faster than they can be stopped".into())
}

fn too_much(members: &[Member], what: String) -> CaptureError {
    let root = members.first().map_or(0, Member::pid);
    CaptureError::Refused(vec![Refusal::new(
        format!("process {root} ({})", target::name_of(root)),
        what,
        "dump it when it has fewer, or a process that is further down",
    )])
}
