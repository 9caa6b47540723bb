//! The process tree as data: what is there, not how to redo it.
//!
//! Objects that processes can share (open file descriptions, pipes) are
//! entries of lists of their own in [`Tree`]; processes point to them by
//! index. A single process is a tree of one.

mod files;
mod memory;
mod process;
mod sockets;
mod source;
mod sysv;
mod terminals;
mod thread;

pub use files::*;
pub use memory::*;
pub use process::*;
pub use sockets::*;
pub use source::*;
pub use sysv::*;
pub use terminals::*;
pub use thread::*;

use crate::record;
use alloc::vec::Vec;

record! {
    /// A process tree with everything it holds, page contents aside.
    pub struct Tree {
        /// The machine and the moment of the dump.
        pub source: Source,
        /// Processes, parents before children; the first is the root.
        pub processes: Vec<Process>,
        /// Processes that have ended and were not collected yet.
        pub zombies: Vec<Zombie>,
        /// Open file descriptions, each once however many descriptors lead to it.
        pub files: Vec<OpenFile>,
        /// Pipes whose two ends are both in the tree.
        pub pipes: Vec<Pipe>,
        /// Terminals, controlling or merely open.
        pub terminals: Vec<Terminal>,
        /// Memory that is shared or open as a file, each once.
        pub shared: Vec<SharedMemory>,
        /// Sockets, those in flight between others among them.
        pub sockets: Vec<Socket>,
        /// Sets of System V semaphores that the tree used.
        pub semaphores: Vec<SemaphoreSet>,
        /// System V message queues that the tree used.
        pub queues: Vec<MessageQueue>,
        /// Filters of seccomp(2), each once.
        pub filters: Vec<SeccompFilter>,
    }
}

#[cfg(any(test, feature = "sample"))]
pub mod sample;
#[cfg(test)]
mod tests;
