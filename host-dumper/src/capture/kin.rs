//! What the processes of a tree are to each other.

use super::error::Refusal;
use super::files::Kind;
use super::member::Member;
use super::proc::stat::Stat;
use super::proc::status::Status;
use super::proc::{number, Proc};
use super::survey::Survey;
use super::target;
use image_format::model::{Process, Terminal, Zombie};
use linker::{session_obstacles, Kin, SessionObstacle};
use std::cmp::Ordering;

const KCMP_VM: libc::c_int = 1;
/// kcmp(2) types: what two processes may share without being threads of one.
const SHARED: [(libc::c_int, &str, &str); 3] = [
    (KCMP_VM, "memory", "CLONE_VM"),
    (2, "the table of descriptors", "CLONE_FILES"),
    (3, "working directory and mask", "CLONE_FS"),
];

/// Index of the parent of `member` among those before it.
pub(super) fn parent_of(before: &[Member], member: &Member) -> Option<u32> {
    let parent = member.survey.status.ppid;
    before.iter().position(|m| m.pid() == parent).map(|i| i as u32)
}

/// Whether a process has ended, collected or not.
pub(super) fn is_gone(pid: u32) -> bool {
    let status = Proc::open(pid).ok().and_then(|proc| proc.status().ok());
    status.is_none_or(|s| matches!(s.state, b'Z' | b'X') || !s.has_memory)
}

/// The child for which a thread waits in vfork(2): it cannot be stopped meanwhile.
pub(crate) fn in_vfork(tid: u32) -> Option<u32> {
    let proc = Proc::open(tid).ok()?;
    let call =
        number::decimal(number::words(&proc.read_optional_record("syscall")?).next()?)? as i64;
    if ![libc::SYS_vfork, libc::SYS_clone, libc::SYS_clone3].contains(&call) {
        return None;
    }
    target::children(&proc, [tid]).into_iter().find(|&child| share_memory(tid, child))
}

/// Two processes have one memory, as during a vfork(2).
pub(crate) fn share_memory(a: u32, b: u32) -> bool {
    compare(a, b, KCMP_VM) == Ordering::Equal
}

/// A vfork that takes too long.
pub(super) fn vfork(parent: u32, child: u32) -> Refusal {
    Refusal::new(
        format!("process {parent} ({})", target::name_of(parent)),
        format!("waits in vfork for its child {child} to start a program or to end"),
        "try again when the child has done so",
    )
}

/// The kernel's order of what two processes have of a kind. One that has ended has nothing, and is
/// like no other.
fn compare(a: u32, b: u32, kind: libc::c_int) -> Ordering {
    // SAFETY: kcmp takes numbers only.
    match unsafe { libc::syscall(libc::SYS_kcmp, a, b, kind, 0, 0) } {
        0 => Ordering::Equal,
        2 => Ordering::Greater,
        _ => Ordering::Less,
    }
}

/// Relations that cannot be made again.
pub(super) fn refusals(members: &[Member]) -> Vec<Refusal> {
    let mut all = Vec::new();
    let mut told = Vec::new();
    for (kind, what, flag) in SHARED {
        let mut known: Vec<u32> = Vec::with_capacity(members.len());
        for b in members.iter().map(Member::pid) {
            match known.binary_search_by(|&a| compare(a, b, kind)) {
                Ok(at) => {
                    let a = known[at];
                    if told.contains(&(a, b)) {
                        continue;
                    }
                    told.push((a, b));
                    if in_vfork(a) == Some(b) {
                        all.push(vfork(a, b));
                    } else {
                        all.push(Refusal::new(
                            format!("processes {a} and {b}"),
                            format!("share {what} without being threads of one process ({flag})"),
                            "this cannot be carried: dump the program when it does not do that",
                        ));
                    }
                }
                Err(at) => known.insert(at, b),
            }
        }
    }
    all.extend(sessions(members));
    all.extend(terminals(members));
    all
}

/// The session of a process; 0 for one that has no id in its namespace, as in the model.
fn session_of(status: &Status, stat: &Stat) -> u32 {
    if status.ns_sid.last() == Some(&0) {
        0
    } else {
        stat.session
    }
}

/// Sessions in which processes cannot be put again.
fn sessions(members: &[Member]) -> impl Iterator<Item = Refusal> {
    let mut kin: Vec<Kin> = Vec::with_capacity(members.len());
    for (i, member) in members.iter().enumerate() {
        let parent = parent_of(&members[..i], member).map(|parent| parent as usize);
        let sid = session_of(&member.survey.status, &member.survey.stat);
        kin.push(Kin { pid: member.pid(), parent, sid, ended: false });
    }
    for (parent, member) in members.iter().enumerate() {
        for &pid in member.children.iter().filter(|&&c| members.iter().all(|m| m.pid() != c)) {
            let Ok(proc) = Proc::open(pid) else { continue };
            if let (Ok(status), Ok(stat)) = (proc.status(), proc.stat()) {
                let sid = session_of(&status, &stat);
                kin.push(Kin { pid, parent: Some(parent), sid, ended: true });
            }
        }
    }
    session_obstacles(&kin).into_iter().map(|obstacle| {
        let SessionObstacle { pid, sid, what } = obstacle;
        Refusal::new(
            format!("process {pid} ({})", target::name_of(pid)),
            format!("is in session {sid}, and {what}"),
            "dump the program when it is out of it, or a process that is further down",
        )
    })
}

/// Sessions whose controlling terminal is neither a pair of the tree nor the one to resume in.
fn terminals(members: &[Member]) -> Vec<Refusal> {
    let mut all = Vec::new();
    let inside: Vec<u32> = members
        .iter()
        .flat_map(|m| &m.survey.descriptors)
        .filter_map(|d| match d.kind {
            Kind::TtyMaster { device } => Some(device),
            _ => None,
        })
        .collect();
    let Some(root) = members.first().map(|m| &m.survey.stat) else { return all };
    for (i, member) in members.iter().enumerate() {
        let stat = &member.survey.stat;
        let is_pair = inside.contains(&stat.tty);
        let good = if is_pair {
            members.iter().any(|m| m.pid() == stat.session)
        } else {
            i == 0 || stat.tty == 0 || (stat.tty, stat.session) == (root.tty, root.session)
        };
        if !good {
            let what = if is_pair { "leader" } else { "controlling terminal" };
            all.push(Refusal::new(
                format!("process {} ({})", member.pid(), target::name_of(member.pid())),
                format!("is in a session ({}) whose {what} is outside of the tree", stat.session),
                "dump a process that is further up",
            ));
        }
    }
    all
}

/// The id of a process's group: as this program sees it, and as the process does.
pub(super) fn inner_group(member: &Member) -> (u32, u32) {
    let Survey { status, stat, .. } = &member.survey;
    (stat.pgrp, status.ns_pgid.last().copied().unwrap_or(stat.pgrp))
}

/// The children that have ended and were not collected.
pub(super) fn zombies(members: &[Member]) -> Vec<Zombie> {
    let mut all = Vec::new();
    for (parent, member) in members.iter().enumerate() {
        for &pid in &member.children {
            if members.iter().any(|m| m.pid() == pid) {
                continue;
            }
            let Ok(proc) = Proc::open(pid) else { continue };
            let (Ok(status), Ok(stat)) = (proc.status(), proc.stat()) else { continue };
            let inner = |ids: &[u32], outer: u32| ids.last().copied().unwrap_or(outer);
            all.push(Zombie {
                pid: inner(&status.ns_tgid, pid),
                parent: parent as u32,
                pgid: inner(&status.ns_pgid, stat.pgrp),
                sid: inner(&status.ns_sid, stat.session),
                status: stat.exit_code,
                name: status.name.into(),
            });
        }
    }
    all
}

/// Notes which group of the tree has the terminal.
pub(super) fn foreground(members: &[Member], processes: &[Process], terminals: &mut [Terminal]) {
    let Some(root) = members.first() else { return };
    let group = root.survey.stat.tpgid;
    let holder = members.iter().position(|m| i64::from(m.survey.stat.pgrp) == group);
    let Some(process) = holder.and_then(|i| processes.get(i)) else { return };
    for terminal in terminals.iter_mut().filter(|t| t.controlling) {
        terminal.foreground_group = process.pgid;
    }
}
