//! Pipes: which are wholly inside, and what is in them.

use super::borrow::{borrow, pidfd};
use super::descriptor::Descriptor;
use super::outsiders::{holders, is_held_elsewhere};
use crate::capture::error::{CaptureError, Result};
use crate::capture::proc::Proc;
use image_format::model::Pipe;
use nix::fcntl::OFlag;
use nix::fcntl::{tee, SpliceFFlags};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::unistd::pipe2;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Bytes that a pipe holds unless told otherwise (pipe(7)).
const PIPE_SIZE: u32 = 64 << 10;

/// What the descriptors of a process say about each pipe: read ends, write ends, standard ones.
#[derive(Debug, Default)]
pub(super) struct Ends {
    by_inode: BTreeMap<u64, (Vec<u32>, Vec<u32>)>,
    abandoned: BTreeSet<u64>,
    /// Who outside has the end that is not here, if it can be seen: by the pipe's link, and whether
    /// that end writes.
    holders: BTreeMap<(Vec<u8>, bool), u32>,
}

impl Ends {
    /// Collects the pipes of a list of descriptors; `root` is the process whose standard input,
    /// output and error may lead outside.
    pub fn of<'a>(all: impl IntoIterator<Item = &'a Descriptor>, root: u32) -> Self {
        let mut ends = Self::default();
        for d in all.into_iter().filter(|d| d.link.starts_with(b"pipe:")) {
            let (readers, writers) = ends.by_inode.entry(d.stat.st_ino).or_default();
            let number = if d.pid == root { d.fd } else { u32::MAX };
            match (d.flags() as i32) & libc::O_ACCMODE {
                libc::O_RDONLY => readers.push(number),
                libc::O_WRONLY => writers.push(number),
                _ => {
                    readers.push(number);
                    writers.push(number);
                }
            }
        }
        ends
    }

    /// A pipe of which only one end is there.
    pub fn one_sided(&self, d: &Descriptor) -> bool {
        d.link.starts_with(b"pipe:") && !self.both(d.stat.st_ino)
    }

    /// The other end of this one is closed everywhere, or nowhere but in a message.
    pub fn abandoned(&mut self, inode: u64) {
        self.abandoned.insert(inode);
    }

    /// Looks for whoever outside has the other ends of `pipes`.
    pub fn look_outside(&mut self, pids: &[u32], pipes: &[Descriptor]) {
        let wanted: BTreeSet<_> = pipes.iter().map(|d| (d.link.clone(), !d.writes())).collect();
        self.holders = holders(pids, &wanted.into_iter().collect::<Vec<_>>());
    }

    /// The process outside that has the other end, if it can be seen.
    pub fn holder(&self, d: &Descriptor) -> Option<u32> {
        self.holders.get(&(d.link.clone(), !d.writes())).copied()
    }

    /// Both ends are there, or nowhere else.
    pub fn both(&self, inode: u64) -> bool {
        self.abandoned.contains(&inode)
            || self.by_inode.get(&inode).is_some_and(|(r, w)| !r.is_empty() && !w.is_empty())
    }

    /// The standard descriptor that is the same end of the same pipe.
    pub fn stdio(&self, inode: u64, writes: bool) -> Option<u32> {
        let (readers, writers) = self.by_inode.get(&inode)?;
        let side = if writes { writers } else { readers };
        side.iter().copied().find(|&fd| fd <= 2)
    }
}

/// The other end of a pipe is closed everywhere: poll(2) says so at once.
pub(super) fn is_abandoned(pid: u32, d: &Descriptor) -> Result<bool> {
    let Some(end) = borrow(&pidfd(pid)?, d.fd) else { return Ok(false) };
    let mut asked = [PollFd::new(end.as_fd(), PollFlags::empty())];
    if poll(&mut asked, PollTimeout::ZERO).is_err() {
        return Ok(false);
    }
    let hung_up = PollFlags::POLLHUP | PollFlags::POLLERR;
    Ok(asked[0].revents().is_some_and(|r| r.intersects(hung_up)))
}

/// Reads a named pipe. What is inside goes along only if nobody else has it open: the others go
/// on with it otherwise.
pub(super) fn read_named(
    proc: &Proc,
    pids: &[u32],
    d: &Descriptor,
    end: Option<&OwnedFd>,
) -> Result<Pipe> {
    let mut pipe = empty(d, PIPE_SIZE);
    let Some(end) = end else { return Ok(pipe) };
    let failed = |source: io::Error| CaptureError::File {
        path: String::from_utf8_lossy(&d.link).into_owned(),
        what: "look into",
        source,
    };
    pipe.capacity = pipe_size(end).map_err(failed)?;
    let mut alone = bytes_inside(end).map_err(failed)? > 0;
    if alone {
        alone = !is_held_elsewhere(pids, &d.link);
    }
    if alone {
        pipe = read(proc, d, Some(end), d.flags() & libc::O_DIRECT as u32 != 0)?;
    }
    Ok(pipe)
}

/// Reads a pipe without taking anything out of it: its contents are copied into one of ours.
/// `end` is a duplicate of the descriptor.
pub(super) fn read(
    proc: &Proc,
    d: &Descriptor,
    end: Option<&OwnedFd>,
    packets: bool,
) -> Result<Pipe> {
    let path = proc.path(&format!("fd/{}", d.fd));
    let failed = |what: &'static str| {
        let path = path.display().to_string();
        move |source: io::Error| CaptureError::File { path, what, source }
    };
    if let Some(end) = end {
        // Either end tells.
        let capacity = pipe_size(end).map_err(failed("ask the size of"))?;
        if bytes_inside(end).map_err(failed("look into"))? == 0 {
            return Ok(empty(d, capacity));
        }
    }
    // Opened anew for reading, whichever end the descriptor is; non-blocking, for an empty one.
    let source = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(&path)
        .map_err(failed("open"))?;
    let capacity = pipe_size(&source).map_err(failed("ask the size of"))?;
    let mut pipe = empty(d, capacity);
    let waiting = bytes_inside(&source).map_err(failed("look into"))?;
    if waiting == 0 {
        return Ok(pipe);
    }
    // Ours takes as many buffers as theirs has, so that one tee copies everything.
    let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_DIRECT;
    let (reader, writer) = pipe2(flags).map_err(|e| failed("copy")(e.into()))?;
    set_pipe_size(writer.as_raw_fd(), capacity).map_err(failed("copy"))?;
    let copied = tee(&source, &writer, capacity as usize, SpliceFFlags::SPLICE_F_NONBLOCK)
        .map_err(|e| failed("copy")(e.into()))?;
    if copied < waiting {
        let e = io::Error::other(format!("{copied} of {waiting} bytes could be copied"));
        return Err(failed("copy")(e));
    }
    let mut reader = File::from(reader);
    let mut data = Vec::with_capacity(copied);
    let mut buf = vec![0; capacity.max(4096) as usize];
    while data.len() < copied {
        // One read returns one packet; a stream's buffers come as if they were packets.
        let n = reader.read(&mut buf).map_err(failed("copy"))?;
        if n == 0 {
            break;
        }
        data.extend_from_slice(&buf[..n]);
        if packets {
            pipe.packets.push(n as u32);
        }
    }
    pipe.data = data.into();
    Ok(pipe)
}

fn empty(d: &Descriptor, capacity: u32) -> Pipe {
    Pipe { inode: d.stat.st_ino, capacity, data: Vec::new().into(), packets: Vec::new() }
}

fn pipe_size(file: &impl AsRawFd) -> io::Result<u32> {
    // SAFETY: F_GETPIPE_SZ takes no pointer.
    let size = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETPIPE_SZ) };
    if size < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(size as u32)
    }
}

fn set_pipe_size(fd: i32, size: u32) -> io::Result<()> {
    // SAFETY: F_SETPIPE_SZ takes a number, no pointer.
    let result = unsafe { libc::fcntl(fd, libc::F_SETPIPE_SZ, size as libc::c_int) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn bytes_inside(file: &impl AsRawFd) -> io::Result<usize> {
    let mut n: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, which lives over the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::FIONREAD, &mut n) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(n as usize)
    }
}
