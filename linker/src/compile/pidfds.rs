//! Processes as files (pidfd_open(2)).
//!
//! What several processes had in common is one for each of them afterwards ([`super::own_files`]);
//! there is nothing in it by which they could tell.

use super::arch::nr;
use super::builder::Arg;
use super::descriptors::O_NONBLOCK;
use super::ProcessCompiler;
use crate::LinkError;
use image_format::model::{FileObject, OpenFile};
use image_format::plan::arg;

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
}
