//! Open file descriptions, pipes.

use crate::codec::Bytes;
use crate::{record, variant};
use alloc::vec::Vec;

record! {
    /// An open file description (open(2)): what duplicated descriptors share.
    pub struct OpenFile {
        /// Status flags and access mode as fcntl(F_GETFL) shows them; O_CLOEXEC is not here.
        pub flags: u32,
        /// Offset in bytes; 0 where the object has none.
        pub offset: u64,
        /// The object.
        pub object: FileObject,
        /// F_SETOWN as fcntl(F_GETOWN_EX) shows it: type and id, 0 and 0 for none.
        pub owner: [i32; 2],
        /// F_SETSIG; 0 is the default.
        pub signal: i32,
        /// Locks and leases that belong to the description.
        pub locks: Vec<FileLock>,
    }
}

record! {
    /// A lock on a file, or a lease.
    pub struct FileLock {
        /// One of [`lock`].
        pub kind: u32,
        /// Exclusive (a write lock or write lease), not shared.
        pub exclusive: bool,
        /// First byte.
        pub start: u64,
        /// Length in bytes; 0 reaches to the end of the file, however it grows.
        pub len: u64,
    }
}

/// Kinds of locks ([`FileLock::kind`]).
pub mod lock {
    /// flock(2).
    pub const FLOCK: u32 = 1;
    /// fcntl(2), F_SETLK: belongs to the process, not to the description.
    pub const POSIX: u32 = 2;
    /// fcntl(2), F_OFD_SETLK.
    pub const OFD: u32 = 3;
    /// fcntl(2), F_SETLEASE.
    pub const LEASE: u32 = 4;
}

variant! {
    /// What an open file description leads to.
    pub enum FileObject {
        /// A regular file that is found under its path.
        1 => Regular {
            /// Absolute path.
            path: Bytes,
            /// Size in bytes.
            size: u64,
            /// Permission bits.
            mode: u32,
            /// What is known of its contents.
            contents: Contents,
        },
        /// A regular file without a name (deleted, or O_TMPFILE): comes back without a name.
        2 => Unlinked {
            /// The path it once had, for messages.
            path: Bytes,
            /// Size in bytes.
            size: u64,
            /// Permission bits.
            mode: u32,
            /// Number under which the contents travel along.
            embedded: u32,
        },
        /// A directory.
        3 => Directory {
            /// Absolute path.
            path: Bytes,
        },
        /// Opened with O_PATH, whatever it is.
        4 => PathOnly {
            /// Absolute path.
            path: Bytes,
        },
        /// A character device without state of its own, such as /dev/null.
        5 => Device {
            /// Absolute path.
            path: Bytes,
            /// Device number as st_rdev.
            rdev: u64,
        },
        /// One end of a pipe of [`super::Tree::pipes`].
        6 => PipeEnd {
            /// Index of the pipe.
            pipe: u32,
        },
        /// An eventfd.
        7 => EventFd {
            /// Counter.
            count: u64,
            /// EFD_SEMAPHORE.
            semaphore: bool,
        },
        /// A terminal of [`super::Tree::terminals`].
        8 => Tty {
            /// Index of the terminal.
            terminal: u32,
        },
        /// Standard input, output or error that led to something outside the tree (a pipe to
        /// another process): takes the resuming command's own.
        9 => Inherited {
            /// 0, 1 or 2: which of the resuming command's descriptors.
            stdio: u32,
            /// What it was, for messages.
            was: Bytes,
        },
        /// An epoll(7) set.
        10 => Epoll {
            /// What it watches, in the kernel's order.
            interests: Vec<Interest>,
        },
        /// A timer of timerfd_create(2).
        11 => TimerFd {
            /// Clock.
            clock: i32,
            /// Flags of timerfd_settime(2).
            flags: u32,
            /// Interval in nanoseconds.
            interval_ns: u64,
            /// Remaining time in nanoseconds; 0 when disarmed.
            remaining_ns: u64,
            /// Expirations that were not read.
            ticks: u64,
        },
        /// A descriptor of signalfd(2).
        12 => SignalFd {
            /// Signals that it takes.
            mask: u64,
        },
        /// An inotify(7) instance; events that were not read are lost.
        13 => Inotify {
            /// Its watches, ascending by descriptor.
            watches: Vec<Watch>,
        },
        /// Memory of [`super::Tree::shared`] as a file (memfd_create(2)).
        14 => Shared {
            /// Index of the memory.
            shared: u32,
        },
        /// A named pipe (fifo(7)).
        15 => Fifo {
            /// Absolute path.
            path: Bytes,
            /// Permission bits.
            mode: u32,
            /// Index of the pipe with its contents.
            pipe: u32,
        },
        /// A socket of [`super::Tree::sockets`].
        16 => Socket {
            /// Index of the socket.
            socket: u32,
        },
        /// The master of a pair of [`super::Tree::terminals`].
        17 => TtyMaster {
            /// Index of the terminal.
            terminal: u32,
        },
        /// A terminal that was hung up: it answers nothing but the end of its input, for good.
        18 => TtyHungUp {
            /// What it was, for messages.
            was: Bytes,
        },
        /// A process as a file (pidfd_open(2)).
        21 => PidFd {
            /// A process or zombie of the tree, as the tree sees it.
            pid: u32,
            /// PIDFD_THREAD: made for the thread that leads it, not for the whole process.
            thread: bool,
        },
        /// A POSIX message queue (mq_open(3)), empty.
        20 => MessageQueue {
            /// Inode number at the dump: the same for all descriptions of one queue.
            inode: u64,
            /// Name, without the slash before it.
            name: Bytes,
            /// It was removed (mq_unlink(3)): nobody else can find it.
            unlinked: bool,
            /// Permission bits.
            mode: u32,
            /// Messages that it holds at most.
            max_messages: u64,
            /// Bytes of a message at most.
            message_size: u64,
            /// Who is told of the next message, if it is a process of the tree.
            notice: Option<QueueNotice>,
        },
    }
}

impl FileObject {
    /// Whether each process that has it opens it by itself when all have been started: processes as
    /// files, and files of /proc in which a process looks at itself. Neither is there before.
    pub fn is_own(&self) -> bool {
        match self {
            Self::PidFd { .. } => true,
            Self::Regular { path, .. } | Self::Directory { path } | Self::PathOnly { path } => {
                let rest = path.0.strip_prefix(b"/proc/self");
                rest.is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
            }
            _ => false,
        }
    }
}

record! {
    /// A registration of mq_notify(3).
    pub struct QueueNotice {
        /// Index of the process in [`super::Tree::processes`].
        pub process: u32,
        /// SIGEV_ value.
        pub notify: u32,
        /// Signal; the value that goes with it is not known.
        pub signal: u32,
    }
}

record! {
    /// What an epoll set watches (epoll_ctl(2)).
    pub struct Interest {
        /// Number under which it was added; it may lead elsewhere by now.
        pub fd: u32,
        /// Index in [`super::Tree::files`] of what is watched.
        pub file: u32,
        /// Events and flags.
        pub events: u32,
        /// The user's datum.
        pub data: u64,
    }
}

record! {
    /// A watch of inotify_add_watch(2).
    pub struct Watch {
        /// Watch descriptor.
        pub wd: u32,
        /// Absolute path of what is watched.
        pub path: Bytes,
        /// Events and flags.
        pub mask: u32,
    }
}

record! {
    /// Memory that may be mapped by several processes, at several places, or be open as a file.
    pub struct SharedMemory {
        /// Device and inode number at the dump.
        pub inode: [u64; 2],
        /// Size in bytes.
        pub size: u64,
        /// Permission bits.
        pub mode: u32,
        /// Bytes of a page as a power of two, where these are hugetlb pages; 0 for ordinary ones, and
        /// for files.
        pub page_shift: u32,
        /// What it is.
        pub origin: SharedOrigin,
    }
}

impl SharedMemory {
    /// Bytes of a page.
    pub fn page(&self) -> u64 {
        match self.page_shift {
            0 => crate::PAGE_SIZE,
            // Larger ones would not fit into any address space.
            shift => 1 << shift.min(46),
        }
    }

    /// Size in bytes of a mapping of all of it.
    pub fn mapped_size(&self) -> u64 {
        let page = self.page();
        self.size.checked_next_multiple_of(page).unwrap_or(u64::MAX / page * page)
    }
}

variant! {
    /// What shared memory is.
    pub enum SharedOrigin {
        /// A memfd, or anonymous memory that is mapped MAP_SHARED: comes back as a memfd.
        1 => Memory {
            /// Name given to memfd_create(2).
            name: Bytes,
            /// Seals (fcntl(2), F_GET_SEALS).
            seals: u32,
            /// Number under which the contents travel along.
            embedded: u32,
        },
        /// A file under its path, mapped MAP_SHARED.
        2 => File {
            /// Absolute path.
            path: Bytes,
            /// What is known of its contents.
            contents: Contents,
        },
        /// A segment of System V shared memory (shmget(2)).
        3 => Segment {
            /// Key; 0 (IPC_PRIVATE) for one that cannot be found by key.
            key: u32,
            /// Id.
            id: u32,
            /// shm_ctime: when it was made or given another owner or mode, seconds. With key and
            /// size it tells whether the segment with this id is still the same one.
            changed: u64,
            /// Owner: user and group as the root process sees them.
            owner: [u32; 2],
            /// Marked for removal (SHM_DEST): goes with the last process that has it attached.
            destroyed: bool,
            /// Locked in memory (SHM_LOCK).
            locked: bool,
            /// Processes outside of the tree have it attached as well.
            outside: bool,
            /// Hash of its contents (`hash_data`, seed 0), whole pages.
            hash: Option<u64>,
            /// Number under which the contents travel along, if they do.
            embedded: Option<u32>,
        },
    }
}

variant! {
    /// How the contents of a regular file are recognised on the target.
    pub enum Contents {
        /// XXH3 of all bytes.
        1 => Whole {
            /// The hash.
            hash: u64,
            /// Number under which the contents travel along, if they do.
            embedded: Option<u32>,
        },
        /// XXH3 over [`crate::container::SAMPLES`] blocks spread evenly over a large file.
        2 => Sampled {
            /// The hash.
            hash: u64,
        },
        /// Could not be read at the dump; only the size is compared.
        3 => Unread,
    }
}

record! {
    /// A pipe (pipe(7)) with both ends inside the tree.
    pub struct Pipe {
        /// Inode number at the dump, for messages.
        pub inode: u64,
        /// Capacity in bytes (F_GETPIPE_SZ).
        pub capacity: u32,
        /// Bytes inside, in order.
        pub data: Bytes,
        /// O_DIRECT: sizes of the packets in `data`; empty for a stream.
        pub packets: Vec<u32>,
    }
}

record! {
    /// A descriptor of a process.
    pub struct Descriptor {
        /// Number.
        pub fd: u32,
        /// Index in [`super::Tree::files`].
        pub file: u32,
        /// FD_CLOEXEC.
        pub cloexec: bool,
        /// POSIX locks of the process on the file that were set through it.
        pub locks: Vec<FileLock>,
    }
}
