//! What becomes of each object, in words, for `dumper check`.

use super::error::Refusal;
use super::files::{Descriptor, Kind};
use super::member::Member;
use super::memory::{self, Table};
use super::{ExternalSockets, Options};
use serde::Serialize;

/// What becomes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It comes back as it is.
    Travels,
    /// It comes back as something else, or depends on the target machine.
    Differs,
    /// It stands in the way.
    Refused,
}

/// A descriptor and what becomes of it.
#[derive(Debug, Clone, Serialize)]
pub struct DescriptorFate {
    /// Number.
    pub fd: u32,
    /// What it leads to.
    pub object: String,
    /// What becomes of it.
    pub fate: Fate,
    /// The same in words.
    pub words: String,
}

/// Memory in summary.
#[derive(Debug, Clone, Serialize)]
pub struct MemorySummary {
    /// Number of mappings.
    pub mappings: usize,
    /// Of them, those that show files.
    pub of_files: usize,
    /// Of them, those that are shared with whoever maps the same.
    pub shared: usize,
    /// Bytes that travel, roughly.
    pub bytes: u64,
}

/// A process and what becomes of what it holds.
#[derive(Debug, Clone, Serialize)]
pub struct ProcessFate {
    /// Pid.
    pub pid: u32,
    /// Name.
    pub name: String,
    /// Number of threads.
    pub threads: u32,
    /// Its memory.
    pub memory: MemorySummary,
    /// Its descriptors.
    pub descriptors: Vec<DescriptorFate>,
}

/// What becomes of a process, as far as it can be seen from outside.
pub(super) fn of(
    member: &Member,
    processes: usize,
    refusals: &[Refusal],
    options: &Options,
) -> ProcessFate {
    let survey = &member.survey;
    let fate = |d: &Descriptor| descriptor(d, &d.name_among(processes), refusals, options);
    ProcessFate {
        pid: member.pid(),
        name: String::from_utf8_lossy(&survey.status.name).into_owned(),
        threads: survey.status.threads,
        memory: summary(&survey.table),
        descriptors: survey.descriptors.iter().map(fate).collect(),
    }
}

fn summary(table: &Table) -> MemorySummary {
    let areas = || table.iter().map(|(area, _)| area);
    MemorySummary {
        mappings: table.len(),
        of_files: areas().filter(|a| a.inode != 0).count(),
        shared: areas().filter(|a| a.shared).count(),
        bytes: memory::estimate(table),
    }
}

fn descriptor(
    d: &Descriptor,
    name: &str,
    refusals: &[Refusal],
    options: &Options,
) -> DescriptorFate {
    let found = refusals.iter().find(|refusal| refusal.object == name);
    let (fate, words) = match found {
        Some(refusal) => (Fate::Refused, format!("{}; {}", refusal.reason, refusal.remedy)),
        None => words(d, options),
    };
    DescriptorFate { fd: d.fd, object: d.object(), fate, words }
}

fn words(d: &Descriptor, options: &Options) -> (Fate, String) {
    use Fate::{Differs, Travels};
    let size = crate::words::size(d.stat.st_size.max(0) as u64);
    let (fate, words) = match &d.kind {
        Kind::Regular if d.stat.st_size.max(0) as u64 <= options.embed_limit => {
            (Travels, format!("its contents go along ({size})"))
        }
        Kind::Regular => (Differs, format!("must be at its path, unchanged ({size})")),
        Kind::Unlinked | Kind::Memfd => (Travels, format!("its contents go along ({size})")),
        Kind::Directory | Kind::PathOnly => (Differs, "must be at its path".into()),
        Kind::Device => (Travels, "opened again".into()),
        Kind::Pipe | Kind::Fifo | Kind::MessageQueue => (Travels, "with what is inside".into()),
        Kind::PipeOutside { holder } => {
            (Differs, format!("comes back with its other end closed, which {holder}"))
        }
        Kind::EventFd | Kind::Epoll | Kind::TimerFd | Kind::SignalFd | Kind::PidFd => {
            (Travels, String::new())
        }
        Kind::Inotify => (Travels, "without events that were not read".into()),
        Kind::Tty { .. } => {
            (Travels, "with its master, or comes back as the terminal of the resume".into())
        }
        Kind::TtyMaster { .. } => (Travels, "with its terminal".into()),
        Kind::TtyHungUp => (Differs, "comes back as the resuming command's".into()),
        Kind::Socket if d.listens() => (Travels, String::new()),
        Kind::Socket => (Travels, "with what waits in it".into()),
        Kind::SocketOutside { peer } => match options.external_sockets {
            ExternalSockets::Reconnect => (Differs, format!("connects anew with {peer}")),
            _ => (Differs, format!("comes back with its other end closed, which is {peer}")),
        },
        Kind::SocketReset { .. } => {
            (Differs, "comes back as a connection that was reset; see --tcp-established".into())
        }
        Kind::SocketBegun => (Differs, "comes back as a connection that was refused".into()),
        Kind::SocketLive { .. } => (Travels, "lives on, with what is in its queues".into()),
        Kind::Outside { stdio } => {
            (Differs, format!("comes back as descriptor {stdio} of the resuming command"))
        }
        // Listed among the refusals as well.
        Kind::Refused { reason, remedy } => (Fate::Refused, format!("{reason}; {remedy}")),
    };
    (fate, words)
}
