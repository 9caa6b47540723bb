//! Descriptors that are on their way in messages between sockets: descriptions that processes hold
//! as well, or that nobody holds any more.

use super::describe::{locks_of, object, Around, Files, Settings, ONCE};
use super::descriptor::{classify, Descriptor, FileSystems, Kind};
use super::lines::Lines;
use super::outsiders::foreign_holders;
use super::pipe::{is_abandoned, Ends};
use super::scan::read;
use super::sharing::same;
use super::sockets::{Gathered, Gatherer, Places};
use crate::capture::error::{CaptureError, Refusal, Result};
use crate::capture::proc::stat::Stat;
use crate::capture::proc::Proc;
use image_format::model::{lock, FileObject, OpenFile, Tree};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, OwnedFd};

/// One descriptor of each description that is known.
#[derive(Debug)]
pub(super) struct Head {
    /// The process that has it.
    pub pid: u32,
    /// Its number there.
    pub fd: u32,
    /// Device and inode.
    pub place: (u64, u64),
    /// Index in the model's files.
    pub file: u32,
}

/// Reads the queues of all sockets and describes what is in flight in them.
pub(super) fn gather(
    procs: &[&Proc],
    all: &[&Descriptor],
    mut sockets: Gatherer,
    mut heads: Vec<Head>,
    stat: &Stat,
    settings: Settings,
    out: &mut Files,
) -> Result<()> {
    if sockets.is_empty() {
        return Ok(());
    }
    sockets.keep_connections(settings.keep)?;
    let own = std::process::id();
    let here = Proc::open(own)
        .map_err(|source| CaptureError::Proc { path: "/proc/self".into(), source })?;
    let mut flying = Vec::new();
    sockets.read_queues(&mut |sockets, fd: OwnedFd| {
        let number = fd.as_raw_fd() as u32;
        let mut d = read(&here, number, &fd)?;
        let place = (d.stat.st_dev, d.stat.st_ino);
        for head in heads.iter().filter(|head| head.place == place) {
            let equal = same((own, number), (head.pid, head.fd));
            if equal.map_err(|errno| CaptureError::Ptrace { request: "kcmp", tid: own, errno })? {
                return Ok(head.file);
            }
        }
        // Of a pipe, the other end may be anywhere.
        d.kind = if d.link.starts_with(b"pipe:") {
            Kind::Pipe
        } else {
            let ends = Ends::of([&d], own);
            // A terminal would be one to resume in, or the end of a pair: nobody can tell.
            let mut systems = FileSystems::default();
            classify(&here, &d, &ends, &BTreeMap::new(), &Lines::default(), &mut systems)
        };
        if d.kind == Kind::Epoll && !d.info.epoll.is_empty() {
            let refusal = Refusal::new(
                d.name(),
                "is an epoll set that nobody holds but a message",
                "let the program receive it first",
            );
            return Err(CaptureError::Refused(vec![refusal]));
        }
        let around =
            Around { proc: &here, pids: &[], stat, settings, all: std::slice::from_ref(&d) };
        let object = object(&around, &d, Some(&fd), sockets, out)?;
        let file = out.open.len() as u32;
        let (owner, signal) = d.owner;
        let flags = d.flags() & !ONCE;
        let locks = locks_of(&d, |kind| kind != lock::POSIX);
        out.open.push(OpenFile { flags, offset: d.info.pos, object, owner, signal, locks });
        heads.push(Head { pid: own, fd: number, place, file });
        out.held.push(fd);
        flying.push(d);
        Ok(file)
    })?;
    whole_pipes(&all.iter().copied().chain(&flying).collect::<Vec<_>>(), out)?;
    let pids: Vec<u32> = procs.iter().map(|proc| proc.pid()).collect();
    let held = foreign_holders(&pids, flying.iter(), settings.pipes);
    if !held.refusals.is_empty() {
        return Err(CaptureError::Refused(held.refusals));
    }
    out.notes.extend(held.notes);
    let holders = heads.iter().map(|head| (head.pid, head.place.1));
    let places = Places::of(procs, holders);
    let Gathered { sockets, warnings, quiet, live } = sockets.finish(&places, settings.external)?;
    out.sockets = sockets;
    out.notes.extend(warnings);
    (out.quiet, out.live) = (quiet, live);
    debug_assert!(out.open.iter().all(|f| match f.object {
        FileObject::Socket { socket } => (socket as usize) < out.sockets.len(),
        _ => true,
    }));
    Ok(())
}

/// In a tree the first process fills the queues, before any other is there to open what is its own.
pub(in crate::capture) fn none_is_own(tree: &Tree) -> Result<()> {
    if tree.processes.len() + tree.zombies.len() == 1 {
        return Ok(());
    }
    let messages = tree.sockets.iter().flat_map(|socket| &socket.queue);
    let is_own = |&file: &u32| tree.files.get(file as usize).is_some_and(|f| f.object.is_own());
    let own: BTreeSet<u32> =
        messages.flat_map(|message| &message.files).copied().filter(is_own).collect();
    let holder = |file: u32| {
        let all = tree.processes.iter().flat_map(|p| p.descriptors.iter().map(move |d| (p.pid, d)));
        let found = all.into_iter().find(|(_, d)| d.file == file);
        found.map_or("a descriptor".into(), |(pid, d)| {
            format!("descriptor {} of process {pid}", d.fd)
        })
    };
    let refusal = |&file: &u32| {
        Refusal::new(
            holder(file),
            "is on its way in a message, and only its process can open it (/proc/self, pidfd)",
            "let the program receive it first",
        )
    };
    let refusals: Vec<Refusal> = own.iter().map(refusal).collect();
    if refusals.is_empty() {
        Ok(())
    } else {
        Err(CaptureError::Refused(refusals))
    }
}

/// A pipe of which one end was nowhere to be seen must have it in a message, or nowhere.
fn whole_pipes(all: &[&Descriptor], out: &Files) -> Result<()> {
    let mut refusals = Vec::new();
    for (index, pipe) in out.pipes.iter().enumerate() {
        let mut ends = [false; 2];
        for file in &out.open {
            if matches!(file.object, FileObject::PipeEnd { pipe } if pipe as usize == index) {
                match file.flags as i32 & libc::O_ACCMODE {
                    libc::O_RDONLY => ends[0] = true,
                    libc::O_WRONLY => ends[1] = true,
                    _ => ends = [true; 2],
                }
            }
        }
        let Some(d) = all.iter().find(|d| d.kind == Kind::Pipe && d.stat.st_ino == pipe.inode)
        else {
            continue;
        };
        if ends != [true; 2] && !is_abandoned(d.pid, d)? {
            refusals.push(Refusal::new(
                d.name(),
                "is a pipe whose other end no process that can be seen holds",
                "let the program close it, or try as root",
            ));
        }
    }
    if refusals.is_empty() {
        Ok(())
    } else {
        Err(CaptureError::Refused(refusals))
    }
}
