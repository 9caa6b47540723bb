//! Terminals.

use crate::codec::Bytes;
use crate::record;

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
        /// The foreground process group; 0 when it is not in the tree.
        pub foreground_group: u32,
        /// The root was a session leader (a shell): it gets a pty of its own.
        pub leader: bool,
        /// Kernel's struct termios2 (ioctl TCGETS2): 44 bytes.
        pub termios: Bytes,
        /// struct winsize (ioctl TIOCGWINSZ): rows, columns, x and y pixels.
        pub winsize: [u16; 4],
        /// Its master is in the tree, too. The one terminal of which that is not so is the one
        /// that becomes the terminal of the resume.
        pub pair: Option<TerminalPair>,
    }
}

record! {
    /// What there is to a pseudo-terminal (pty(7)) with both ends in the tree.
    pub struct TerminalPair {
        /// Number of the slave, N of /dev/pts/N: at the resume it is tried for, not promised.
        pub number: u32,
        /// Session whose controlling terminal it is; 0 for none.
        pub session: u32,
        /// The slave may not be opened (TIOCSPTLCK).
        pub locked: bool,
        /// The master reads packets (TIOCPKT).
        pub packet: bool,
        /// The slave may be opened by root only (TIOCEXCL).
        pub exclusive: bool,
        /// The slave was open and is not any more: reading the master gives EIO.
        pub closed: bool,
        /// Permission bits of the slave's file; 0 if not known.
        pub mode: u32,
        /// User and group that own it.
        pub owner: [u32; 2],
        /// A line that was begun and not ended, where the kernel edits lines (ICANON).
        pub typed: Bytes,
        /// The key that quotes the next one (VLNEXT) was typed last.
        pub quoting: bool,
    }
}
