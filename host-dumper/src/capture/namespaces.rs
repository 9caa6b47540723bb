//! Namespaces that a resume would not make again, and directories that are not there any more.

use super::error::{CaptureError, Refusal, Result};
use super::member::Member;
use super::proc::Proc;

/// A kind of namespace by its link, and what it holds.
type Kind = (&'static str, &'static str);

/// Namespaces that must be the dumper's own.
const KINDS: [Kind; 8] = [
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

/// The namespaces of a process: links, in the order of the kinds that were asked for.
struct Links {
    own: Vec<Vec<u8>>,
    /// In which children begin: empty where nobody was born there yet.
    of_children: Vec<Vec<u8>>,
    /// Those of its other threads.
    of_threads: Vec<(u32, Vec<Vec<u8>>)>,
}

impl Links {
    fn read(proc: &Proc, tids: &[u32], kinds: &[Kind]) -> Result<Self> {
        // What has ended, or has none, is in none; nor are those that were not asked for.
        let of = |some: &[&str], name: &dyn Fn(&str) -> String| -> Vec<Vec<u8>> {
            let wanted = |kind| some.contains(&kind);
            let link = |kind| proc.try_link(&name(kind)).unwrap_or_default();
            kinds.iter().map(|&(k, _)| if wanted(k) { link(k) } else { Vec::new() }).collect()
        };
        let own = kinds.iter().map(|(kind, _)| proc.link(&format!("ns/{kind}")));
        let others = tids.iter().filter(|&&tid| tid != proc.pid());
        Ok(Self {
            own: own.collect::<Result<_>>()?,
            of_children: of(&OF_CHILDREN, &|kind| format!("ns/{kind}_for_children")),
            of_threads: others
                .map(|&tid| (tid, of(&OF_THREADS, &|kind| format!("task/{tid}/ns/{kind}"))))
                .collect(),
        })
    }
}

/// Every namespace that is another one than the dumper's. In a tree that was `resumed`, those that
/// a resume makes are the root's.
pub(super) fn refusals(members: &[Member], resumed: bool) -> Result<Vec<Refusal>> {
    let own = Proc::open(std::process::id())
        .map_err(|source| CaptureError::Proc { path: "/proc/self".into(), source })?;
    // A kernel without one of these kinds has no link.
    let mine: Vec<(Kind, Vec<u8>)> = KINDS
        .into_iter()
        .filter_map(|kind| Some((kind, own.try_link(&format!("ns/{}", kind.0)).ok()?)))
        .collect();
    let kinds: Vec<Kind> = mine.iter().map(|(kind, _)| *kind).collect();
    let links = members.iter().map(|member| {
        let tids: Vec<u32> = member.statuses.iter().map(|(tid, _)| *tid).collect();
        Links::read(&member.target.proc, &tids, &kinds)
    });
    let links: Vec<Links> = links.collect::<Result<_>>()?;
    let Some(root) = links.first() else { return Ok(Vec::new()) };
    let mut all: Vec<Found> = Vec::new();
    for (n, ((kind, what), mine)) in mine.iter().enumerate() {
        let made = resumed && MADE_BY_RESUME.contains(kind);
        let wanted = if made { &root.own[n] } else { mine };
        for (member, links) in members.iter().zip(&links) {
            let (pid, theirs) = (member.pid(), &links.own[n]);
            if theirs != wanted {
                add(&mut all, theirs, what, format!("process {pid}"));
            }
            if OF_CHILDREN.contains(kind) {
                let born = &links.of_children[n];
                if born != theirs && (*kind == "pid" || !born.is_empty()) {
                    let link = if born.is_empty() { b"pid:[new]" } else { born.as_slice() };
                    add(&mut all, link, what, format!("each child of process {pid}"));
                }
            }
            for (tid, theirs) in &links.of_threads {
                if !theirs[n].is_empty() && theirs[n] != *wanted {
                    add(&mut all, &theirs[n], what, format!("thread {tid}"));
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

/// The process's directories, checked: it must be possible to come back to them.
pub(super) fn directories(proc: &Proc) -> Result<Vec<Refusal>> {
    let mut all = Vec::new();
    for (name, what) in [("cwd", "working directory"), ("root", "root directory")] {
        let link = proc.link(name)?;
        if link.ends_with(b" (deleted)") {
            all.push(Refusal::new(
                format!("{what} ({})", String::from_utf8_lossy(&link)),
                "was removed",
                "let the program change to another directory",
            ));
        }
    }
    Ok(all)
}
