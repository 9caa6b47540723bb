//! From the memory of a stopped process to chunks of pages in the image.
//!
//! * `scan`: which pages hold something;
//! * `batch`: which of them become a chunk together;
//! * `copy`: reading, dropping of zero pages, hashing, writing; by several threads;
//! * `clean`: pages that are a file's own, read without the process;
//! * `code`: instructions that only some processors know;
//! * `common`: those that several mappings show, stored once;
//! * `guard`: guard regions;
//! * `zero`: the test for a page of zeroes.
//!
//! What is stored: of anonymous memory the pages in memory or in swap that are not all zero; of
//! private file mappings every page within the file, since the file need not exist on the
//! target; of MAP_DROPPABLE memory nothing.

mod arch;
mod batch;
mod clean;
mod code;
mod common;
mod copy;
mod guard;
mod scan;
mod zero;

pub use batch::Part;
pub use clean::CleanFiles;
pub use code::Found;
pub use common::Common;
pub use copy::{copy_pages, Buffer, Copied, CopyOptions, Progress};
pub use guard::find_guards;
pub use scan::{Scanner, Want};

use std::io;

/// Why pages cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The list of pages cannot be had.
    #[error("cannot list the pages of process {pid}: {}", crate::failure::errno_text(source))]
    Scan {
        /// The process.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
    /// A page cannot be read.
    #[error("cannot read process {pid} at {address:#x}: {}", crate::failure::errno_text(source))]
    Read {
        /// The process.
        pid: i32,
        /// Where.
        address: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// A thread that reads could not be started.
    #[error("cannot start a thread: {}", crate::failure::errno_text(source))]
    Thread {
        /// What the kernel said.
        source: io::Error,
    },
    /// The output failed.
    #[error(transparent)]
    Sink(#[from] crate::sink::SinkError),
    /// The chain of chunks cannot be continued.
    #[error(transparent)]
    Link(#[from] linker::LinkError),
    /// A file that travels along cannot be read.
    #[error("cannot read {what}: {}", crate::failure::errno_text(source))]
    File {
        /// The file.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file that travels along was changed meanwhile by another process.
    #[error("{what} changed while it was copied")]
    FileChanged {
        /// The file.
        what: String,
    },
    /// The dump was called off.
    #[error("interrupted")]
    Aborted,
}

impl PageError {
    /// What to do about it; empty where nothing can be advised.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Scan { source, .. } | Self::Thread { source } | Self::File { source, .. }
                if source.raw_os_error() == Some(libc::EMFILE) =>
            {
                "the process runs on; raise the limit of open files (ulimit -n)"
            }
            Self::Read { .. } | Self::Scan { .. } => {
                "the process runs on, unless something else ended it meanwhile"
            }
            Self::Thread { .. } => "try --workers 1; the process runs on",
            Self::File { .. } => "the process runs on; --embed-files 0 leaves small files out",
            Self::FileChanged { .. } => "the process runs on; try again when nobody writes to it",
            _ => "",
        }
    }
}
