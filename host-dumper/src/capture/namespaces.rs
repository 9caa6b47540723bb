//! Namespaces that a resume would not make again.

use super::error::{CaptureError, Refusal, Result};
use super::member::Member;
use super::proc::Proc;

/// Namespaces that must be the dumper's own, and what they are called.
const KINDS: [(&str, &str); 8] = [
    ("pid", "process ids"),
    ("mnt", "mounts"),
    ("net", "network"),
    ("ipc", "System V IPC and message queues"),
    ("uts", "host name"),
    ("user", "users"),
    ("cgroup", "control groups"),
    ("time", "clocks"),
];
/// Those of them that a resume makes.
const MADE_BY_RESUME: [&str; 4] = ["pid", "mnt", "user", "time"];
/// Those that threads are known to change by themselves.
const OF_THREADS: [&str; 2] = ["net", "mnt"];
/// Those in which children begin, where that was changed.
const OF_CHILDREN: [&str; 2] = ["pid", "time"];

/// A namespace, what it holds, and who is in it.
struct Found {
    link: String,
    what: &'static str,
    who: Vec<String>,
}

/// Every namespace that is another one than the dumper's. In a tree that was `resumed`, those that
/// a resume makes are the root's.
pub(super) fn refusals(members: &[Member], resumed: bool) -> Result<Vec<Refusal>> {
    let own = Proc::open(std::process::id())
        .map_err(|source| CaptureError::Proc { path: "/proc/self".into(), source })?;
    let Some(root) = members.first().map(|m| &m.target.proc) else { return Ok(Vec::new()) };
    let mut wanted = Vec::with_capacity(KINDS.len());
    for (kind, what) in KINDS {
        let entry = format!("ns/{kind}");
        // A kernel without this kind has no link.
        let Ok(mine) = own.try_link(&entry) else { continue };
        let made = resumed && MADE_BY_RESUME.contains(&kind);
        wanted.push((kind, what, if made { root.link(&entry)? } else { mine }));
    }
    let mut all: Vec<Found> = Vec::new();
    for member in members {
        let proc = &member.target.proc;
        let links = proc.directory("ns")?;
        for (kind, what, wanted) in &wanted {
            let theirs = links.link(kind)?;
            if theirs != *wanted {
                add(&mut all, &theirs, what, format!("process {}", proc.pid()));
            }
            if OF_CHILDREN.contains(kind) {
                // No link where nobody was born there yet.
                let born = links.link(&format!("{kind}_for_children")).unwrap_or_default();
                if born != theirs && (*kind == "pid" || !born.is_empty()) {
                    let link = if born.is_empty() { b"pid:[new]".to_vec() } else { born };
                    add(&mut all, &link, what, format!("each child of process {}", proc.pid()));
                }
            }
            let others = member.statuses.iter().map(|(tid, _)| *tid).filter(|&t| t != proc.pid());
            for tid in others.filter(|_| OF_THREADS.contains(kind)) {
                // A thread that has ended is in none.
                let Ok(theirs) = proc.try_link(&format!("task/{tid}/ns/{kind}")) else { continue };
                if theirs != *wanted {
                    add(&mut all, &theirs, what, format!("thread {tid}"));
                }
            }
        }
    }
    Ok(all.into_iter().map(refusal).collect())
}

fn add(all: &mut Vec<Found>, link: &[u8], what: &'static str, who: String) {
    let link = String::from_utf8_lossy(link).into_owned();
    match all.iter_mut().find(|found| found.link == link) {
        Some(found) => found.who.push(who),
        None => all.push(Found { link, what, who: vec![who] }),
    }
}

fn refusal(found: Found) -> Refusal {
    let Found { link, what, who } = found;
    let more = match who.len() - 1 {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    Refusal::new(
        format!("namespace {link}"),
        format!("{}{more}: has {what} of its own (a container)", who[0]),
        "run dumper inside of that container",
    )
}
