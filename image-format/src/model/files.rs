//! Open file descriptions, pipes, terminals.

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
    }
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
    /// A terminal that the tree has open.
    pub struct Terminal {
        /// Path at the dump.
        pub path: Bytes,
        /// Device number as st_rdev.
        pub rdev: u64,
        /// It was the controlling terminal of the root process.
        pub controlling: bool,
        /// The root was the foreground process group.
        pub foreground: bool,
        /// The root was a session leader (a shell): it gets a pty of its own.
        pub leader: bool,
        /// Kernel's struct termios2 (ioctl TCGETS2): 44 bytes.
        pub termios: Bytes,
        /// struct winsize (ioctl TIOCGWINSZ): rows, columns, x and y pixels.
        pub winsize: [u16; 4],
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
    }
}
