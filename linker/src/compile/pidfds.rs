//! Processes as files (pidfd_open(2)).
//!
//! One can be opened only when the process is there: each process of the tree opens its own, when
//! all have been started, instead of taking what the first one made. What several processes had in
//! common is one for each of them afterwards; there is nothing in it by which they could tell.

use super::arch::nr;
use super::builder::Arg;
use super::descriptors::{Uses, O_NONBLOCK};
use super::ProcessCompiler;
use crate::LinkError;
use image_format::model::{FileObject, OpenFile};
use image_format::plan::arg;
use std::collections::BTreeSet;

const PIDFD_THREAD: u32 = 0o200;

impl ProcessCompiler<'_> {
    /// Opens it and moves it to number `temporary`; false for objects of other kinds.
    pub(super) fn pidfd(
        &mut self,
        file: &OpenFile,
        temporary: u32,
        what: &str,
    ) -> Result<bool, LinkError> {
        let FileObject::PidFd { pid, thread } = file.object else { return Ok(false) };
        let there = self.tree.processes.iter().any(|p| p.pid == pid)
            || self.tree.zombies.iter().any(|z| z.pid == pid);
        if !there {
            return Err(LinkError::Model { pid: self.process.pid, what: "a process as a file" });
        }
        let target =
            if pid == self.process.pid { Arg::kind(arg::PID) } else { Arg::value(u64::from(pid)) };
        let flags = file.flags & O_NONBLOCK | if thread { PIDFD_THREAD } else { 0 };
        let made = self.make(what, nr::PIDFD_OPEN, &[target, Arg::value(u64::from(flags))]);
        self.move_to(Arg::load(made), temporary, what);
        Ok(true)
    }

    /// In each process of several: those that it has, and those that sets of its own watch, where
    /// everything else is held that the first process made.
    pub(super) fn own_pidfds(&mut self, uses: &Uses) -> Result<(), LinkError> {
        let mut wanted: BTreeSet<u32> = uses.keys().copied().collect();
        for &index in uses.keys() {
            if let FileObject::Epoll { interests } = &self.file_at(index)?.object {
                wanted.extend(interests.iter().map(|interest| interest.file));
            }
        }
        for index in wanted {
            let file = self.file_at(index)?;
            let held = self.object_fd(index);
            self.pidfd(&file, held, "process as a file")?;
        }
        Ok(())
    }
}
