//! Processes as files (pidfd_open(2)): carried if they lead into the tree.

use super::descriptor::{refused, Descriptor, Kind};
use crate::capture::proc::Proc;
use crate::capture::target::name_of;
use image_format::model::FileObject;
use std::path::Path;

/// Flag of a pidfd for a thread; the kernel shows it among the open flags.
const PIDFD_THREAD: u32 = libc::O_EXCL as u32;

/// What kind of descriptor it is, for a tree of processes `pids`; none for all other kinds.
pub(super) fn kind(d: &Descriptor, pids: &[u32]) -> Option<Kind> {
    let Some(pid) = d.info.pidfd? else {
        return Some(refused(
            "refers to a process that has ended and was collected (pidfd)",
            "let the program close it",
        ));
    };
    if pids.contains(&pid) || is_zombie_of(pid, pids) {
        return Some(Kind::PidFd);
    }
    let is_thread = |process: &u32| Path::new(&format!("/proc/{process}/task/{pid}")).exists();
    let thread = pids.iter().any(is_thread);
    Some(if thread {
        refused(
            format!("refers to thread {pid}, and not to the first of its process (pidfd)"),
            "let the program close it",
        )
    } else {
        refused(
            format!("refers to process {pid} ({}) outside (pidfd)", name_of(pid)),
            "let the program close it, or dump a process that is a parent of both",
        )
    })
}

fn is_zombie_of(pid: u32, parents: &[u32]) -> bool {
    let status = Proc::open(pid).ok().and_then(|proc| proc.status().ok());
    status.is_some_and(|status| status.state == b'Z' && parents.contains(&status.ppid))
}

/// The object.
pub(super) fn describe(d: &Descriptor) -> FileObject {
    FileObject::PidFd { pid: d.info.inner_pid, thread: d.info.flags & PIDFD_THREAD != 0 }
}
