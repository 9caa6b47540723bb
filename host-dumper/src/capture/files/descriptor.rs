//! One descriptor as /proc shows it, and what kind of thing it leads to.

use super::lines::Lines;
use super::mqueue;
use super::outsiders::is_held_elsewhere;
use super::own_proc;
use super::pidfds;
use super::pipe::{self, Ends};
use super::sockets::{self, Facts};
use crate::capture::error::Result;
use crate::capture::proc::fdinfo::FdInfo;
use crate::capture::proc::Proc;
use crate::capture::target::{name_among, name_of};
use image_format::PAGE_SIZE;
use nix::sys::stat::FileStat;
use nix::sys::statfs::statfs;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Device numbers of character devices without state: null, zero, full, random, urandom.
const STATELESS: [(u64, u64); 5] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9)];
/// statfs(2) type of /proc.
const PROC_MAGIC: i64 = 0x9fa0;
/// statfs(2) type of hugetlbfs.
const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;

/// What a descriptor leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::capture) enum Kind {
    /// A regular file with a name.
    Regular,
    /// A regular file without a name.
    Unlinked,
    /// A directory.
    Directory,
    /// Opened with O_PATH.
    PathOnly,
    /// A character device without state.
    Device,
    /// A pipe with both ends in the process.
    Pipe,
    /// A pipe whose other end is elsewhere.
    PipeOutside {
        /// Who has it, in words.
        holder: String,
    },
    /// An eventfd.
    EventFd,
    /// An epoll set.
    Epoll,
    /// A timer.
    TimerFd,
    /// Signals as a file.
    SignalFd,
    /// An inotify instance.
    Inotify,
    /// Memory as a file.
    Memfd,
    /// A named pipe.
    Fifo,
    /// A POSIX message queue.
    MessageQueue,
    /// A terminal whose other side is in the tree, too, or the one to resume in.
    Tty {
        /// Device number, in the form that /proc/PID/stat has.
        device: u32,
    },
    /// The master of a terminal.
    TtyMaster {
        /// Device number of its slave, likewise.
        device: u32,
    },
    /// A terminal that was hung up.
    TtyHungUp,
    /// A process of the tree as a file.
    PidFd,
    /// A socket.
    Socket,
    /// A Unix socket that is connected with another process.
    SocketOutside {
        /// Which, in words.
        peer: String,
    },
    /// A TCP connection that leads outside and is lost.
    SocketReset {
        /// The address at its other end.
        peer: String,
    },
    /// A TCP connection that is being made, which is given up.
    SocketBegun,
    /// A TCP connection that leads outside and lives on.
    SocketLive {
        /// The address at its other end.
        peer: String,
    },
    /// One of standard input, output and error, leading outside.
    Outside {
        /// 0, 1 or 2.
        stdio: u32,
    },
    /// Something that cannot be carried.
    Refused {
        /// Why.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
}

/// A descriptor.
#[derive(Debug, Clone)]
pub(in crate::capture) struct Descriptor {
    /// The process that has it.
    pub pid: u32,
    /// Number.
    pub fd: u32,
    /// Where the link leads, as the kernel words it.
    pub link: Vec<u8>,
    /// fdinfo.
    pub info: FdInfo,
    /// stat of what it leads to.
    pub stat: FileStat,
    /// What it is.
    pub kind: Kind,
    /// Whom its signals go to (type and id), and which.
    pub owner: ([i32; 2], i32),
    /// What the kernel tells of a socket.
    pub socket: Option<Arc<Facts>>,
    /// Nobody holds a lock of fcntl(2) on it, so that no process that has it needs to be asked.
    pub unlocked: bool,
    /// All of this is what the parent's shows: whether this one is closed on exec is not known yet.
    pub inherited: bool,
}

impl Descriptor {
    /// The path without the mark of a deleted file.
    pub fn path(&self) -> &[u8] {
        self.link.strip_suffix(b" (deleted)").unwrap_or(&self.link)
    }

    /// Open flags without O_CLOEXEC.
    pub fn flags(&self) -> u32 {
        self.info.flags & !(libc::O_CLOEXEC as u32)
    }

    /// Major and minor number of a device; zero for none.
    pub fn device(&self) -> (u64, u64) {
        if self.stat.st_mode & libc::S_IFMT != libc::S_IFCHR {
            return (0, 0);
        }
        let rdev = self.stat.st_rdev;
        (libc::major(rdev).into(), libc::minor(rdev).into())
    }

    /// A file of hugetlb pages, or such memory as a file.
    pub fn is_of_huge_pages(&self) -> bool {
        let path = || format!("/proc/{}/fd/{}", self.pid, self.fd);
        self.stat.st_blksize > PAGE_SIZE as i64
            && statfs(path().as_str()).is_ok_and(|s| s.filesystem_type().0 == HUGETLBFS_MAGIC)
    }

    /// What it is called where it stands in the way.
    pub fn name(&self) -> String {
        let link = String::from_utf8_lossy(&self.link);
        if self.pid == std::process::id() {
            // Seen in a queue, at a number of this program's.
            return format!("a descriptor in a message ({link})");
        }
        format!("descriptor {} ({link})", self.fd)
    }

    /// [`Descriptor::name`], of one process of `processes`.
    pub fn name_among(&self, processes: usize) -> String {
        name_among(self.name(), self.pid, processes)
    }

    /// What it leads to, in words.
    pub fn object(&self) -> String {
        match &self.socket {
            Some(facts) => sockets::text(facts),
            None => String::from_utf8_lossy(&self.link).into_owned(),
        }
    }

    /// A socket that waits for connections.
    pub fn listens(&self) -> bool {
        self.socket.as_ref().is_some_and(|facts| facts.is_listening())
    }

    /// A socket, of whatever kind.
    pub fn is_socket(&self) -> bool {
        self.stat.st_mode & libc::S_IFMT == libc::S_IFSOCK
    }

    /// Open for writing.
    pub fn writes(&self) -> bool {
        self.flags() & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32
    }
}

/// Finds out what the descriptors of several processes lead to: the other end of one may be in
/// another process. The first is the root. With `keep`, TCP connections to the outside live on.
pub(in crate::capture) fn classify_all(
    procs: &[&Proc],
    all: &mut [Vec<Descriptor>],
    keep: bool,
) -> Result<()> {
    let pids: Vec<u32> = procs.iter().map(|proc| proc.pid()).collect();
    let root = pids.first().copied().unwrap_or(0);
    let mut ends = Ends::of(all.iter().flatten(), root);
    // What leads outside as a standard descriptor of the root is the resuming command's.
    let leads_outside = |d: &Descriptor| {
        d.pid == root && d.fd <= 2 || ends.stdio(d.stat.st_ino, d.writes()).is_some()
    };
    let lone = all.iter().flatten().filter(|d| ends.one_sided(d) && !leads_outside(d));
    let lone: Vec<_> = lone.cloned().collect();
    let with_sockets = all.iter().flatten().any(Descriptor::is_socket);
    let mut outside = Vec::new();
    for d in lone {
        // Nobody at the other end any more: it will never matter to anyone else.
        if pipe::is_abandoned(d.pid, &d)? {
            ends.abandoned(d.stat.st_ino);
        } else if with_sockets && !is_held_elsewhere(&pids, &d.link) {
            // It must be in flight; whether it is shows when the queues are read.
            ends.abandoned(d.stat.st_ino);
        } else {
            outside.push(d);
        }
    }
    ends.look_outside(&pids, &outside);
    let each: Vec<_> = procs.iter().copied().zip(all.iter().map(Vec::as_slice)).collect();
    let (sockets, facts) = sockets::kinds(&each, keep)?;
    let lines = Lines::of(procs, all)?;
    let mut systems = FileSystems::default();
    for (proc, all) in procs.iter().zip(all) {
        for d in all {
            d.kind = pidfds::kind(d, &pids)
                .unwrap_or_else(|| classify(proc, d, &ends, &sockets, &lines, &mut systems));
            d.socket = facts.get(&d.stat.st_ino).filter(|_| d.is_socket()).cloned();
        }
    }
    Ok(())
}

pub(super) fn refused(reason: impl Into<String>, remedy: &'static str) -> Kind {
    Kind::Refused { reason: reason.into(), remedy }
}

pub(super) fn classify(
    proc: &Proc,
    d: &Descriptor,
    ends: &Ends,
    sockets: &BTreeMap<u64, Kind>,
    lines: &Lines,
    systems: &mut FileSystems,
) -> Kind {
    if d.info.flags & libc::O_PATH as u32 != 0 {
        return if d.link.ends_with(b" (deleted)") {
            refused("leads to a path that is gone (O_PATH)", "close it first")
        } else {
            Kind::PathOnly
        };
    }
    match d.stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => regular(proc, d, systems),
        libc::S_IFDIR if d.link.ends_with(b" (deleted)") => {
            refused("is a directory that was removed", "close it first")
        }
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFCHR => character(d, lines),
        libc::S_IFIFO => fifo(d, ends),
        libc::S_IFSOCK => sockets.get(&d.stat.st_ino).cloned().unwrap_or(Kind::Socket),
        libc::S_IFBLK => refused("is a block device", "close it first"),
        _ => anonymous(d),
    }
}

/// Types of file systems (statfs(2)) by device: those that matter here have devices of their own.
#[derive(Debug, Default)]
pub(super) struct FileSystems(BTreeMap<u64, i64>);

impl FileSystems {
    fn of(&mut self, proc: &Proc, d: &Descriptor) -> i64 {
        *self.0.entry(d.stat.st_dev).or_insert_with(|| {
            let path = proc.path(&format!("fd/{}", d.fd));
            statfs(&path).map_or(0, |s| s.filesystem_type().0)
        })
    }
}

fn regular(proc: &Proc, d: &Descriptor, systems: &mut FileSystems) -> Kind {
    let kind = systems.of(proc, d);
    if d.link.starts_with(b"/memfd:") {
        return Kind::Memfd;
    }
    if d.link.starts_with(b"/secretmem") {
        return refused(
            "is secret memory (memfd_secret), which nobody else can read",
            "let the program close it",
        );
    }
    if kind == mqueue::MQUEUE_MAGIC {
        return mqueue::kind(proc, d);
    }
    let about_another = own_proc::is_of_process(&d.link) && own_proc::path(proc, d).is_none();
    if kind == PROC_MAGIC && about_another {
        return refused("is a file about another process, or a thread, in /proc", "close it first");
    }
    if d.stat.st_nlink == 0 || d.link.ends_with(b" (deleted)") {
        if kind == HUGETLBFS_MAGIC {
            return refused(
                "is a removed file of hugetlb pages, which can only be mapped",
                "let the program close it, or use memfd_create (MFD_HUGETLB)",
            );
        }
        Kind::Unlinked
    } else {
        Kind::Regular
    }
}

fn character(d: &Descriptor, lines: &Lines) -> Kind {
    let device = d.device();
    if STATELESS.contains(&device) {
        Kind::Device
    } else if d.is_terminal() {
        lines.kind(d)
    } else if d.fd <= 2 {
        Kind::Outside { stdio: d.fd }
    } else {
        refused(
            format!("is a device ({}:{}) whose state is not known", device.0, device.1),
            "close it first",
        )
    }
}

fn fifo(d: &Descriptor, ends: &Ends) -> Kind {
    if !d.link.starts_with(b"pipe:") {
        return match d.fd {
            0..=2 => Kind::Outside { stdio: d.fd },
            _ if d.link.ends_with(b" (deleted)") => {
                refused("is a named pipe that was removed", "close it first")
            }
            _ => Kind::Fifo,
        };
    }
    if ends.both(d.stat.st_ino) {
        Kind::Pipe
    } else if let Some(stdio) = ends.stdio(d.stat.st_ino, d.writes()) {
        Kind::Outside { stdio }
    } else {
        let holder = match ends.holder(d) {
            Some(pid) => format!("process {pid} ({}) has", name_of(pid)),
            None => String::from("a process has that this user may not look at"),
        };
        Kind::PipeOutside { holder }
    }
}

/// Kinds of anonymous inodes, by the name that their link shows.
fn anonymous(d: &Descriptor) -> Kind {
    const REMEDY: &str = "it cannot be carried yet: dump the program before it opens it";
    let name = d.link.strip_prefix(b"anon_inode:").unwrap_or(&d.link);
    match name {
        b"[eventfd]" if d.info.eventfd.is_some() => Kind::EventFd,
        b"[eventfd]" => refused("is an eventfd whose counter this kernel does not show", REMEDY),
        b"[eventpoll]" => Kind::Epoll,
        b"[timerfd]" => Kind::TimerFd,
        b"[signalfd]" if d.info.sigmask.is_some() => Kind::SignalFd,
        b"[signalfd]" => refused("is a signalfd whose signals this kernel does not show", REMEDY),
        b"inotify" => Kind::Inotify,
        b"[fanotify]" => refused(
            "is a fanotify group, whose marks and permission events belong to this machine",
            "let the program close it, or use inotify",
        ),
        b"[io_uring]" => refused(
            "is an io_uring, whose operations are under way in the kernel",
            "run the program without io_uring; many have an option for that",
        ),
        b"[userfaultfd]" => refused(
            "is a userfaultfd, whose faults wait in the kernel",
            "let the program close it, or dump it before it watches memory",
        ),
        b"[pidfd]" => refused("refers to a process (pidfd)", "let the program receive it first"),
        other => refused(
            format!("is of a kind that is not known ({})", String::from_utf8_lossy(other)),
            REMEDY,
        ),
    }
}
