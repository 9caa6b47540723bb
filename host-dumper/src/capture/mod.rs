//! Capture: stops a process, reads it into [`image_format::model::Tree`], lets it go or ends it.
//!
//! ```text
//! target    from a pid to a process that can be dumped
//! survey    everything visible from outside, and what stands in the way
//! session   seize, stop, capture, release or kill
//!   stop      ptrace requests        thread    one thread and the way back
//!   outside   asked about a thread   inside    asked by the process itself (questions,
//!                                                  chain, remote, footing)
//!   syscalls  interrupted system calls          stub      traces of an earlier resume
//! candidate a process as one that may be asked before
//! ```
//!
//! Nothing in the process changes before everything visible from outside was found fit, and what
//! changes then is undone by `Drop`. Should this program be killed, the process undoes it itself.

mod arch;
mod candidate;
mod census;
mod chain;
mod error;
mod estimate;
mod fates;
mod files;
mod footing;
mod hugetlb;
mod ids;
mod inside;
mod keyrings;
mod kin;
mod knowledge;
pub(crate) mod mem;
mod member;
mod memory;
mod model;
mod namespaces;
mod outside;
mod owners;
mod patience;
pub mod proc;
mod programs;
mod questions;
mod remote;
mod resuming;
mod seccomp;
mod segments;
mod session;
mod source;
mod stop;
mod stub;
mod supervisor;
mod survey;
pub mod syscalls;
mod sysv;
mod target;
mod thread;
mod undo;
mod vdso;

pub(crate) use candidate::has_block;
pub use candidate::Candidate;
pub use error::{CaptureError, Refusal};
pub use fates::{DescriptorFate, Fate, MemorySummary, ProcessFate};
pub use files::{Attached, Embed, Part, Source, TableName};
pub(crate) use kin::{in_vfork, share_memory};
pub use member::{queued, Handled, TakenBack};
pub use session::Session;
pub(crate) use target::name_of;

use image_format::model::Tree;
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// What becomes of Unix sockets that are connected with a process outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExternalSockets {
    /// The dump is refused.
    #[default]
    Refuse,
    /// They connect anew, by name, at the resume.
    Reconnect,
    /// The program sees that the other end was closed.
    Close,
}

/// What becomes of pipes of which a process outside has an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExternalPipes {
    /// The dump is refused.
    #[default]
    Refuse,
    /// The program sees that it was closed there.
    Close,
}

/// Choices that concern capture.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Open regular files up to this size in bytes travel along.
    pub embed_limit: u64,
    /// `--external-sockets`.
    pub external_sockets: ExternalSockets,
    /// `--external-pipes`.
    pub external_pipes: ExternalPipes,
    /// `--tcp-established`: TCP connections to the outside live on; their packets are held back by
    /// this table of the packet filter between dump and resume.
    pub tcp_established: Option<TableName>,
    /// `--sysv-ipc`: what others use as well travels along, too.
    pub sysv_ipc: bool,
    /// The process started this program to dump it: this program is no part of its tree.
    pub for_itself: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            embed_limit: 1 << 20,
            external_sockets: ExternalSockets::Refuse,
            external_pipes: ExternalPipes::Refuse,
            tcp_established: None,
            sysv_ipc: false,
            for_itself: false,
        }
    }
}

/// A file of this machine: device (major, minor) and inode.
pub type FileId = ((u32, u32), u64);

/// What a capture found.
#[derive(Debug)]
pub struct Captured {
    /// The model.
    pub tree: Tree,
    /// Files whose contents travel along.
    pub embeds: Vec<Embed>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// What a resumed program will find broken.
    pub losses: Vec<String>,
    /// For each process: which files its mappings show, by their first addresses, but for those that
    /// may not be opened, as they have write leases.
    pub mapped_files: Vec<BTreeMap<u64, FileId>>,
    /// Bytes of anonymous memory, of all processes together.
    pub anonymous: u64,
    /// Descriptors kept open until the image is complete: those that were found in flight.
    pub held: Vec<OwnedFd>,
    /// Segments of System V shared memory that this program has to read, likewise.
    pub attached: Vec<Attached>,
}

/// What is visible without stopping a process.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The process that would be dumped: the program, where the pid given was its supervisor's.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Number of processes: it and its descendants.
    pub processes: u32,
    /// Number of threads, of all of them.
    pub threads: u32,
    /// Number of mappings.
    pub mappings: usize,
    /// Rough size of an image in bytes.
    pub estimate: u64,
    /// What stands in the way.
    pub refusals: Vec<Refusal>,
    /// What a resumed program will find broken.
    pub losses: Vec<String>,
    /// What will differ after a resume.
    pub notes: Vec<String>,
    /// Those of the notes that concern no object of the list.
    pub aside: Vec<String>,
    /// The processes as those that may be asked before.
    #[serde(skip)]
    pub candidates: Vec<Candidate>,
    /// Every process with what it holds, and what becomes of it.
    pub objects: Vec<ProcessFate>,
}

impl Verdict {
    /// What stands in the way and is no descriptor.
    pub fn other_refusals(&self) -> impl Iterator<Item = &Refusal> {
        let told = |refusal: &Refusal| {
            let words = format!("{}; {}", refusal.reason, refusal.remedy);
            let mut all = self.objects.iter().flat_map(|process| &process.descriptors);
            all.any(|d| d.fate == Fate::Refused && d.words == words)
        };
        self.refusals.iter().filter(move |refusal| !told(refusal))
    }
}

/// What a front process does for the TCP connections of a process whose tracer was killed in the
/// middle of a dump with `--tcp-established`.
#[derive(Debug)]
pub struct Rescue {
    pid: u32,
    table: TableName,
    before: files::Before,
}

impl Rescue {
    /// Notes the state before the dump.
    pub fn new(pid: u32) -> Self {
        let mut before = files::Before::default();
        each_process(pid, |proc| before.note(proc));
        Self { pid, table: TableName::random(), before }
    }

    /// The table that the dump uses.
    pub fn table(&self) -> TableName {
        self.table
    }

    /// Lets packets through and leaves repair mode.
    pub fn heal(&self) {
        files::release(self.table);
        each_process(self.pid, |proc| self.before.heal(proc));
    }
}

/// A process and its descendants, as far as they can be seen; a dump tells what is the matter.
fn each_process(pid: u32, what: impl FnMut(&proc::Proc)) {
    if let Ok(session) = Session::look(pid, &Options::default()) {
        session.members().iter().map(|m| &m.target.proc).for_each(what);
    }
}

/// Looks at a process and its descendants without stopping them.
pub fn check(pid: u32, options: &Options) -> Result<Verdict, CaptureError> {
    let mut session = Session::look(pid, options)?;
    session.while_it_runs(Session::look_closely)?;
    let mut refusals = session.while_it_runs(Session::refusals)?;
    refusals.append(&mut session.watch_refusals());
    let members = session.members();
    let surveys = || members.iter().map(|m| &m.survey);
    let Some(root) = members.first() else {
        return Err(CaptureError::Died { pid, during: "a look" });
    };
    let mut users: Vec<u32> = surveys().map(|s| s.status.uids[0]).collect();
    users.sort_unstable();
    users.dedup();
    let mut aside = session.sharing_notes();
    aside.extend(users.into_iter().filter_map(keyrings::guess));
    Ok(Verdict {
        pid: root.pid(),
        name: String::from_utf8_lossy(&root.survey.status.name).into_owned(),
        processes: members.len() as u32,
        threads: surveys().map(|s| s.status.threads).sum(),
        mappings: surveys().map(|s| s.table.len()).sum(),
        estimate: estimate::of(surveys(), options.embed_limit),
        objects: members.iter().map(|m| fates::of(m, members.len(), &refusals, options)).collect(),
        refusals,
        losses: surveys().flat_map(|s| survey::losses(s, members.len())).collect(),
        notes: surveys()
            .flat_map(|s| survey::notes(s, members.len()))
            .chain(aside.iter().cloned())
            .collect(),
        aside,
        candidates: session.candidates(),
    })
}
