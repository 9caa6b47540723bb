//! Descriptors: what each leads to, which share an open file description.

mod anonymous;
mod apart;
mod borrow;
mod contents;
mod describe;
mod descriptor;
mod eventfd;
mod inflight;
mod leased;
mod lines;
mod locks;
mod mqueue;
mod outsiders;
mod own_proc;
mod pidfds;
mod pipe;
mod scan;
mod segment;
pub(super) mod shared;
mod sharing;
mod sockets;
mod terminal;
mod typed;
mod watches;

pub(super) use anonymous::refusals as watch_refusals;
pub(super) use apart::notes as notes_of_shared_memory;
pub use contents::{Embed, Part, Source};
pub(super) use describe::{capture, Files, Settings};
pub(super) use descriptor::{classify_all as classify, Descriptor, Kind};
pub(super) use inflight::none_is_own;
pub(super) use leased::{leased, refusals as leased_refusals};
pub(super) use lines::{doubtful, refusals as terminal_refusals, settle_doubt};
pub(super) use outsiders::foreign_holders;
pub(super) use scan::{scan, settle_inherited, Condition};
pub use segment::Attached;
pub use sockets::TableName;
pub(super) use sockets::{close_quietly, release, Before, Live};

use super::error::Refusal;
use super::{ExternalPipes, ExternalSockets, Options};

/// What of the descriptors stands in the way.
pub(super) fn refusals(all: &[Descriptor], options: &Options) -> Vec<Refusal> {
    let (sockets, pipes) = (options.external_sockets, options.external_pipes);
    let mut refusals = Vec::new();
    for d in all {
        let refuse = |reason: String, remedy: &str| Refusal::new(d.name(), reason, remedy);
        if let Kind::Refused { reason, remedy } = &d.kind {
            refusals.push(refuse(reason.clone(), remedy));
        } else if let (Kind::SocketOutside { peer }, ExternalSockets::Refuse) = (&d.kind, sockets) {
            refusals.push(refuse(
                format!("is connected with {peer}"),
                "use --external-sockets reconnect or close, or let the program close it",
            ));
        } else if let (Kind::PipeOutside { holder }, ExternalPipes::Refuse) = (&d.kind, pipes) {
            refusals.push(refuse(
                format!("is a pipe whose other end {holder}"),
                "use --external-pipes close, or let either of them close it",
            ));
        } else if let Some(lock) = d.info.locks.iter().find(|l| locks::parse(l).is_none()) {
            let lock = String::from_utf8_lossy(lock);
            refusals.push(refuse(
                format!("holds a lock that cannot be set again ({lock})"),
                "dump the program when it does not hold it",
            ));
        } else if matches!(d.kind, Kind::Unlinked | Kind::Memfd) && locks::of_writing(&d.info.locks)
        {
            refusals.push(refuse(
                "holds a write lease on a removed file, which to read would break it".into(),
                "dump the program when it does not hold it",
            ));
        }
    }
    refusals
}

/// Bytes of a file that travel along.
pub(super) fn estimate(d: &Descriptor, embed_limit: u64) -> u64 {
    let size = d.stat.st_size.max(0) as u64;
    match d.kind {
        Kind::Unlinked | Kind::Memfd => size,
        Kind::Regular if size <= embed_limit => size,
        _ => 0,
    }
}
