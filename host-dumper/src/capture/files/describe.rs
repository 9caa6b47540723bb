//! From descriptors to the model's open file descriptions.

use super::borrow::{borrow, pidfd};
use super::contents::{recognise, recognise_borrowed, Embed, Source};
use super::descriptor::{Descriptor, Kind};
use super::eventfd;
use super::inflight;
use super::segment::Attached;
use super::sockets::{Gatherer, Live, TableName};
use super::{anonymous, locks, mqueue, own_proc, pidfds, pipe, shared, sharing, terminal};
use crate::capture::error::{CaptureError, Refusal, Result};
use crate::capture::proc::stat::Stat;
use crate::capture::proc::Proc;
use crate::capture::survey::Survey;
use crate::capture::{ExternalPipes, ExternalSockets};
use image_format::model::{
    self, lock, FileLock, FileObject, OpenFile, Pipe, SharedMemory, Socket, Terminal,
};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What of the descriptors goes into the model.
#[derive(Debug, Default)]
pub(in crate::capture) struct Files {
    /// Of each process.
    pub descriptors: Vec<Vec<model::Descriptor>>,
    pub open: Vec<OpenFile>,
    pub pipes: Vec<Pipe>,
    pub terminals: Vec<Terminal>,
    pub shared: Vec<SharedMemory>,
    pub sockets: Vec<Socket>,
    pub embeds: Vec<Embed>,
    /// Device and inode -> what is known of a regular file that was opened before.
    pub regular: BTreeMap<(u64, u64), model::Contents>,
    /// Device and inode -> number of the contents of an unlinked file.
    pub unlinked: BTreeMap<(u64, u64), u32>,
    /// What is lost, in words.
    pub notes: Vec<String>,
    /// Descriptors that must stay open until the image is complete.
    pub held: Vec<OwnedFd>,
    /// The same for segments of System V shared memory.
    pub attached: Vec<Attached>,
    /// TCP connections with both ends in the tree.
    pub quiet: Vec<OwnedFd>,
    /// TCP connections that live on.
    pub live: Option<Live>,
}

/// How files are to be treated.
#[derive(Debug, Clone, Copy)]
pub(in crate::capture) struct Settings {
    /// Files up to this size travel along.
    pub embed_limit: u64,
    /// What becomes of Unix sockets that are connected with another process.
    pub external: ExternalSockets,
    /// What becomes of pipes and their like that another process has, too.
    pub pipes: ExternalPipes,
    /// TCP connections to the outside live on; the table of the packet filter meanwhile.
    pub keep: Option<TableName>,
    /// Translates an id of this program's pid namespace into the process's.
    pub pid: u32,
}

/// Flags that open(2) acts on once and that fcntl shows all the same.
pub(super) const ONCE: u32 = (libc::O_CREAT | libc::O_EXCL | libc::O_NOCTTY | libc::O_TRUNC) as u32;

/// Describes all descriptors of the stopped processes, whose root is the first.
pub(in crate::capture) fn capture(
    procs: &[&Proc],
    surveys: &[&Survey],
    settings: Settings,
) -> Result<Files> {
    let all = || surveys.iter().flat_map(|s| &s.descriptors);
    let fds: Vec<(u32, u32)> = all().map(|d| (d.pid, d.fd)).collect();
    let keys: Vec<_> = all()
        .map(|d| {
            // One file has all eventfds.
            let inode = (d.stat.st_dev, d.stat.st_ino, d.info.eventfd_id);
            (inode, d.info.pos, d.flags(), d.link.clone())
        })
        .collect();
    let groups = sharing::groups(&fds, &keys).map_err(|errno| CaptureError::Ptrace {
        request: "kcmp",
        tid: settings.pid,
        errno,
    })?;
    let Some(survey) = surveys.first() else { return Ok(Files::default()) };
    let pids: Vec<u32> = procs.iter().map(|proc| proc.pid()).collect();
    let mut out = Files::default();
    out.terminals = terminal::pairs(surveys, &mut out.notes)?;
    let mut sockets = Gatherer::default();
    let mut heads = Vec::new();
    let mut index = vec![0u32; fds.len()];
    let mut i = 0;
    for (&proc, own) in procs.iter().zip(surveys) {
        let process = OnceCell::new();
        let around =
            Around { proc, pids: &pids, stat: &survey.stat, settings, all: &own.descriptors };
        let mut descriptors = Vec::with_capacity(own.descriptors.len());
        let mut met = BTreeSet::new();
        for d in &own.descriptors {
            if groups[i] == i {
                let borrowed = if is_asked(d) {
                    if process.get().is_none() {
                        let _ = process.set(pidfd(proc.pid())?);
                    }
                    process.get().and_then(|pidfd| borrow(pidfd, d.fd))
                } else {
                    None
                };
                let mut object = object(&around, d, borrowed.as_ref(), &mut sockets, &mut out)?;
                let is_shared = || fds.iter().zip(&groups).any(|(f, &g)| g == i && f.0 != d.pid);
                own_proc::by_way_of_self(proc, d, is_shared, &mut object);
                let (owner, signal) = d.owner;
                index[i] = out.open.len() as u32;
                heads.push(inflight::Head {
                    pid: proc.pid(),
                    fd: d.fd,
                    place: (d.stat.st_dev, d.stat.st_ino),
                    file: index[i],
                });
                let flags = d.flags() & !ONCE;
                let locks = locks_of(d, |kind| kind != lock::POSIX);
                out.open.push(OpenFile { flags, offset: d.info.pos, object, owner, signal, locks });
            } else {
                index[i] = index[groups[i]];
            }
            // The kernel shows a process's locks with each duplicate of the description.
            let alone = met.insert(groups[i]);
            descriptors.push(model::Descriptor {
                fd: d.fd,
                file: index[i],
                cloexec: d.info.flags & libc::O_CLOEXEC as u32 != 0,
                locks: if alone { locks_of(d, |kind| kind == lock::POSIX) } else { vec![] },
            });
            i += 1;
        }
        out.descriptors.push(descriptors);
    }
    let all: Vec<&Descriptor> = all().collect();
    inflight::gather(procs, &all, sockets, heads, &survey.stat, settings, &mut out)?;
    anonymous::resolve(&all, &index, &groups, pids.len(), &mut out.open)?;
    Ok(out)
}

/// Whether more is to be asked of such a thing than was when it was first looked at.
fn is_asked(d: &Descriptor) -> bool {
    if d.info.eventfd.is_some_and(|(_, semaphore)| semaphore.is_none()) {
        return true;
    }
    !matches!(
        d.kind,
        Kind::Regular
            | Kind::Unlinked
            | Kind::Directory
            | Kind::PathOnly
            | Kind::Device
            | Kind::EventFd
            | Kind::Epoll
            | Kind::SignalFd
            | Kind::PidFd
            | Kind::TtyHungUp
            | Kind::Outside { .. }
            | Kind::Refused { .. }
    )
}

/// What an object is looked at with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    /// The process that has it.
    pub proc: &'a Proc,
    /// All processes.
    pub pids: &'a [u32],
    /// The root's stat.
    pub stat: &'a Stat,
    pub settings: Settings,
    /// Descriptors of the process.
    pub all: &'a [Descriptor],
}

/// The locks of some kinds that fdinfo shows.
pub(super) fn locks_of(d: &Descriptor, wanted: impl Fn(u32) -> bool) -> Vec<FileLock> {
    d.info.locks.iter().filter_map(|text| locks::parse(text)).filter(|l| wanted(l.kind)).collect()
}

/// The contents of a file that has a path: read once, however often it was opened.
fn regular(
    d: &Descriptor,
    open: &Path,
    borrowed: Option<&OwnedFd>,
    embed_limit: u64,
    out: &mut Files,
) -> Result<model::Contents> {
    if locks::of_writing(&d.info.locks) {
        // To open the file would break the lease.
        return recognise_borrowed(borrowed, open, d.stat.st_size.max(0) as u64);
    }
    let file = (d.stat.st_dev, d.stat.st_ino);
    if let Some(known) = out.regular.get(&file) {
        return Ok(known.clone());
    }
    let size = d.stat.st_size.max(0) as u64;
    // Nothing can be written to a file of hugetlb pages.
    let travels = size <= embed_limit && !d.is_of_huge_pages();
    let embedded = travels.then_some(out.embeds.len() as u32);
    let contents = recognise(open, size, embedded)?;
    // An opening that may not be read tells nothing of another.
    if contents != model::Contents::Unread {
        out.regular.insert(file, contents.clone());
    }
    if let model::Contents::Whole { hash, embedded: Some(number) } = contents {
        let what = String::from_utf8_lossy(d.path()).into_owned();
        let source = Source::File(open.to_path_buf());
        out.embeds.push(Embed { number, source, size, hash: Some(hash), what });
    }
    Ok(contents)
}

/// Number of the contents of a file without a name: all that was opened of it is one file.
fn unlinked(d: &Descriptor, open: PathBuf, out: &mut Files) -> u32 {
    let next = out.embeds.len() as u32;
    let number = *out.unlinked.entry((d.stat.st_dev, d.stat.st_ino)).or_insert(next);
    if number == next {
        let what = format!("{} (unlinked)", String::from_utf8_lossy(d.path()));
        let size = d.stat.st_size.max(0) as u64;
        out.embeds.push(Embed { number, source: Source::File(open), size, hash: None, what });
    }
    number
}

pub(super) fn object(
    around: &Around<'_>,
    d: &Descriptor,
    borrowed: Option<&OwnedFd>,
    sockets: &mut Gatherer,
    out: &mut Files,
) -> Result<FileObject> {
    let Around { proc, pids, stat, settings, all } = *around;
    let path = || d.path().to_vec().into();
    let was = || d.link.clone().into();
    let open = proc.path(&format!("fd/{}", d.fd));
    let size = d.stat.st_size.max(0) as u64;
    let mode = d.stat.st_mode & 0o7777;
    Ok(match &d.kind {
        Kind::Regular => {
            let contents = regular(d, &open, borrowed, settings.embed_limit, out)?;
            FileObject::Regular { path: path(), size, mode, contents }
        }
        Kind::Unlinked => {
            let embedded = unlinked(d, open, out);
            FileObject::Unlinked { path: path(), size, mode, embedded }
        }
        Kind::Directory => FileObject::Directory { path: path() },
        Kind::PathOnly => FileObject::PathOnly { path: path() },
        Kind::Device => FileObject::Device { path: path(), rdev: d.stat.st_rdev },
        Kind::Pipe | Kind::PipeOutside { .. } => {
            FileObject::PipeEnd { pipe: pipe_index(proc, d, borrowed, out)? }
        }
        Kind::EventFd => {
            let (count, semaphore) = d.info.eventfd.unwrap_or_default();
            let semaphore = match (semaphore, borrowed) {
                (None, Some(file)) => eventfd::is_semaphore(file, count).map_err(|source| {
                    CaptureError::File { path: d.name(), what: "ask the kind of", source }
                })?,
                (known, _) => known.unwrap_or_default(),
            };
            FileObject::EventFd { count, semaphore }
        }
        Kind::Epoll => FileObject::Epoll { interests: Vec::new() },
        Kind::TimerFd => anonymous::timer(proc, d, borrowed),
        Kind::SignalFd => FileObject::SignalFd { mask: d.info.sigmask.unwrap_or_default() },
        Kind::Inotify => {
            let unread = anonymous::unread(borrowed);
            if unread > 0 {
                out.notes.push(format!(
                    "descriptor {} (inotify): {unread} bytes of events that were not read are lost",
                    d.fd
                ));
            }
            let own: Vec<&Descriptor> = all.iter().collect();
            let made = anonymous::inotify(proc, d, &own, pids.len());
            made.map_err(|refusal| CaptureError::Refused(vec![refusal]))?
        }
        Kind::Memfd => FileObject::Shared { shared: shared::index(proc, d, borrowed, out) },
        Kind::Fifo => {
            FileObject::Fifo { path: path(), mode, pipe: fifo_index(proc, pids, d, borrowed, out)? }
        }
        Kind::Tty { device } | Kind::TtyMaster { device } => {
            let known = out.terminals.iter().position(|t| terminal::is(t, *device));
            let terminal = known.map(|i| i as u32).or_else(|| {
                let terminal = terminal::read(borrowed?, d, *device, stat, settings.pid)?;
                out.terminals.push(terminal);
                Some(out.terminals.len() as u32 - 1)
            });
            match terminal {
                Some(terminal) if d.is_master() => FileObject::TtyMaster { terminal },
                Some(terminal) => FileObject::Tty { terminal },
                None => {
                    let reason = "is a terminal that does not answer (it was hung up just now)";
                    return Err(refused(d, pids, reason, "dump again"));
                }
            }
        }
        Kind::TtyHungUp => FileObject::TtyHungUp { was: was() },
        Kind::Socket
        | Kind::SocketOutside { .. }
        | Kind::SocketReset { .. }
        | Kind::SocketBegun
        | Kind::SocketLive { .. } => {
            let Some(borrowed) = borrowed else {
                return Err(refused(
                    d,
                    pids,
                    "is a socket that may not be looked at",
                    "try as root",
                ));
            };
            FileObject::Socket {
                socket: sockets.add(d.stat.st_ino, borrowed.as_fd(), d.socket.as_deref())?,
            }
        }
        Kind::PidFd => pidfds::describe(d),
        Kind::MessageQueue => {
            let queue = mqueue::describe(proc, d, borrowed, pids);
            let reason = "is a POSIX message queue that may not be looked at";
            queue.ok_or_else(|| refused(d, pids, reason, "try as root"))?
        }
        Kind::Outside { stdio } => FileObject::Inherited { stdio: *stdio, was: was() },
        Kind::Refused { reason, remedy } => {
            return Err(refused(d, pids, reason, remedy));
        }
    })
}

fn refused(d: &Descriptor, pids: &[u32], reason: &str, remedy: &str) -> CaptureError {
    CaptureError::Refused(vec![Refusal::new(d.name_among(pids.len()), reason, remedy)])
}

fn pipe_index(
    proc: &Proc,
    d: &Descriptor,
    borrowed: Option<&OwnedFd>,
    out: &mut Files,
) -> Result<u32> {
    let inode = d.stat.st_ino;
    let packets = d.writes() && d.flags() & libc::O_DIRECT as u32 != 0;
    if let Some(i) = out.pipes.iter().position(|p| p.inode == inode) {
        if packets && out.pipes[i].packets.is_empty() {
            // The read end came first and did not know that these are packets.
            out.pipes[i] = pipe::read(proc, d, borrowed, true)?;
        }
        return Ok(i as u32);
    }
    out.pipes.push(pipe::read(proc, d, borrowed, packets)?);
    Ok(out.pipes.len() as u32 - 1)
}

fn fifo_index(
    proc: &Proc,
    pids: &[u32],
    d: &Descriptor,
    borrowed: Option<&OwnedFd>,
    out: &mut Files,
) -> Result<u32> {
    let inode = d.stat.st_ino;
    if let Some(i) = out.pipes.iter().position(|p| p.inode == inode) {
        return Ok(i as u32);
    }
    out.pipes.push(pipe::read_named(proc, pids, d, borrowed)?);
    Ok(out.pipes.len() as u32 - 1)
}
