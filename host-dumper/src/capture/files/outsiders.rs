//! Processes outside of the tree that hold what looks wholly inside.

use super::descriptor::{Descriptor, Kind};
use super::sharing::same;
use crate::capture::error::Refusal;
use crate::capture::proc::{number, Proc};
use crate::capture::target::name_of;
use crate::capture::ExternalPipes;
use nix::sys::stat::stat;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

/// Where terminals are found.
const SLAVES: &[u8] = b"/dev/pts/";
const MASTER: &[u8] = b"ptmx";

/// How something is recognised in another process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    /// By its link, of a pipe.
    Link(Vec<u8>),
    /// A terminal: file system of its slave, number.
    Slave(u64, u32),
    /// The same, by device and inode of /dev/ptmx, and the number.
    Master(u64, u64, u32),
    /// A file without a path, by device and inode.
    File(u64, u64),
}

/// What is held outside as well.
#[derive(Debug, Default)]
pub(in crate::capture) struct Held {
    /// What stands in the way of it.
    pub refusals: Vec<Refusal>,
    /// What will not be in common any more.
    pub notes: Vec<String>,
}

/// What looks wholly inside, but is held by another process as well: pipes, terminals, and what else
/// passes events on. Processes that this user may not look at are passed over. All but terminals are in
/// order if their ends outside are to count as closed: the tree gets some of its own. Of memory and files
/// without a path each side has its own afterwards.
pub(in crate::capture) fn foreign_holders<'a>(
    pids: &[u32],
    all: impl Iterator<Item = &'a Descriptor>,
    pipes: ExternalPipes,
) -> Held {
    let mut inside: BTreeMap<Mark, &Descriptor> = BTreeMap::new();
    let mut files = false;
    let mut anonymous = Anonymous::default();
    for d in all {
        match d.kind {
            Kind::EventFd | Kind::TimerFd | Kind::Epoll | Kind::Inotify
                if pipes == ExternalPipes::Refuse =>
            {
                anonymous.add(d);
            }
            Kind::Pipe if pipes == ExternalPipes::Close => {}
            Kind::Pipe => drop(inside.entry(Mark::Link(d.link.clone())).or_insert(d)),
            Kind::TtyMaster { .. } => marks_of_terminal(d).into_iter().for_each(|mark| {
                inside.entry(mark).or_insert(d);
            }),
            // One that nobody of the tree may write to is no way to tell anyone anything.
            Kind::Memfd | Kind::Unlinked if d.writes() => {
                files = true;
                inside.entry(Mark::File(d.stat.st_dev, d.stat.st_ino)).or_insert(d);
            }
            _ => {}
        }
    }
    let mut held = Held::default();
    if inside.is_empty() && anonymous.0.is_empty() {
        return held;
    }
    others(pids, |other, fd, link| {
        let ours = anonymous.take(other, fd, link);
        let ours =
            ours.or_else(|| mark(other, fd, link, files).and_then(|mark| inside.remove(&mark)));
        if let Some(ours) = ours {
            let pid = other.pid();
            let name = name_of(pid);
            let (reason, remedy) = match ours.kind {
                Kind::Memfd | Kind::Unlinked => {
                    held.notes.push(in_common(ours, pid));
                    return true;
                }
                Kind::Pipe | Kind::EventFd | Kind::TimerFd | Kind::Epoll | Kind::Inotify => (
                    format!("is shared with process {pid} ({name})"),
                    "use --external-pipes close, or let that process close it, or end",
                ),
                _ => (
                    format!("is a terminal that process {pid} ({name}) uses, too"),
                    "let that process close it, or end",
                ),
            };
            held.refusals.push(Refusal::new(ours.name_among(pids.len()), reason, remedy));
        }
        !inside.is_empty() || !anonymous.0.is_empty()
    });
    held
}

/// The note on a file without a path that another process has, too.
fn in_common(ours: &Descriptor, pid: u32) -> String {
    let what = if ours.kind == Kind::Memfd { "shared memory" } else { "removed file" };
    let path = String::from_utf8_lossy(ours.path());
    used_outside(&format!("{what} {path}"), pid)
}

/// That a process outside uses something as well that the tree will have for itself.
pub(super) fn used_outside(what: &str, pid: u32) -> String {
    let name = name_of(pid);
    format!("{what} is also used by process {pid} ({name}): a resumed program has it for itself")
}

/// Objects that all have the same inode: only kcmp(2) tells whether another description is this one.
/// By what their links say.
#[derive(Default)]
struct Anonymous<'a>(BTreeMap<&'a [u8], Vec<&'a Descriptor>>);

impl<'a> Anonymous<'a> {
    fn add(&mut self, d: &'a Descriptor) {
        self.0.entry(&d.link).or_default().push(d);
    }

    /// Takes the descriptor out that shares the description of another process's.
    fn take(&mut self, other: &Proc, fd: u32, link: &[u8]) -> Option<&'a Descriptor> {
        let ours = self.0.get_mut(link)?;
        // Each question is a system call. Eventfds have numbers, which are read for a dozen of them.
        let number = if ours.len() > 12 && ours.iter().all(|d| d.info.eventfd.is_some()) {
            Some(super::scan::info(other, fd).ok()?.eventfd_id)
        } else {
            None
        };
        let is_same = |d: &&Descriptor| {
            number.is_none_or(|number| number == d.info.eventfd_id)
                && same((other.pid(), fd), (d.pid, d.fd)).unwrap_or(false)
        };
        let found = ours.iter().position(is_same).map(|at| ours.swap_remove(at));
        if ours.is_empty() {
            self.0.remove(link);
        }
        found
    }
}

/// Both ends of a terminal whose master this is.
fn marks_of_terminal(master: &Descriptor) -> Vec<Mark> {
    let Some(number) = master.info.tty_index else { return Vec::new() };
    let devpts = Proc::open(master.pid).and_then(|proc| proc.path("root/dev/pts").metadata());
    let slave = devpts.ok().map(|dir| Mark::Slave(dir.dev(), number));
    slave
        .into_iter()
        .chain([Mark::Master(master.stat.st_dev, master.stat.st_ino, number)])
        .collect()
}

fn mark(proc: &Proc, fd: u32, link: &[u8], files: bool) -> Option<Mark> {
    if link.starts_with(b"pipe:") {
        return Some(Mark::Link(link.to_vec()));
    }
    if files && link.ends_with(b" (deleted)") {
        let found = stat(&proc.path(&format!("fd/{fd}"))).ok()?;
        return Some(Mark::File(found.st_dev, found.st_ino));
    }
    let slave = link.strip_prefix(SLAVES).and_then(number::decimal);
    if slave.is_none() && !link.ends_with(MASTER) {
        return None;
    }
    let stat = stat(&proc.path(&format!("fd/{fd}"))).ok()?;
    if let Some(slave) = slave {
        return Some(Mark::Slave(stat.st_dev, slave as u32));
    }
    let info = super::scan::info(proc, fd).ok()?;
    Some(Mark::Master(stat.st_dev, stat.st_ino, info.tty_index?))
}

/// Whether a process that can be seen, other than these, has a descriptor that leads there.
pub(super) fn is_held_elsewhere(pids: &[u32], link: &[u8]) -> bool {
    let mut held = false;
    others(pids, |_, _, found| {
        held = found == link;
        !held
    });
    held
}

/// Processes that can be seen, other than these, which hold the end of a pipe that writes, or the
/// one that reads, by the pipe's link. Where several do, the first.
pub(super) fn holders(pids: &[u32], pipes: &[(Vec<u8>, bool)]) -> BTreeMap<(Vec<u8>, bool), u32> {
    let mut found = BTreeMap::new();
    if pipes.is_empty() {
        return found;
    }
    others(pids, |other, fd, link| {
        for wanted in pipes.iter().filter(|(pipe, _)| pipe == link) {
            let info = super::scan::info(other, fd).ok();
            let mode = info.map_or(0, |info| info.flags as i32 & libc::O_ACCMODE);
            let fits = if wanted.1 { mode != libc::O_RDONLY } else { mode != libc::O_WRONLY };
            if fits {
                found.entry(wanted.clone()).or_insert(other.pid());
            }
        }
        found.len() < pipes.len()
    });
    found
}

/// Processes that can be seen, other than these and this program.
pub(super) fn strangers(pids: &[u32]) -> impl Iterator<Item = Proc> + '_ {
    let own = std::process::id();
    let found = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    found
        .filter_map(|e| number::decimal(e.file_name().as_encoded_bytes()))
        .map(|pid| pid as u32)
        .filter(move |pid| !pids.contains(pid) && *pid != own)
        .filter_map(|pid| Proc::open(pid).ok())
}

/// Shows what the descriptors of all other processes lead to, until there is no interest.
fn others(pids: &[u32], mut show: impl FnMut(&Proc, u32, &[u8]) -> bool) {
    for proc in strangers(pids) {
        for fd in proc.numbers("fd").unwrap_or_default() {
            let link = match proc.try_link(&format!("fd/{fd}")) {
                Ok(link) => link,
                // The process is closed to this user, with all that it has.
                Err(e) if e.raw_os_error() == Some(libc::EACCES) => break,
                Err(_) => continue,
            };
            if !show(&proc, fd, &link) {
                return;
            }
        }
    }
}
