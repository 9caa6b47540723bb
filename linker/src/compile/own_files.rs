//! What each process of a tree opens by itself when all have been started, instead of taking what
//! the first one made: processes as files, and files of /proc in which a process looks at itself.
//! Neither is there before.

use super::descriptors::{name, Uses};
use super::ProcessCompiler;
use crate::LinkError;
use image_format::model::{FileObject, OpenFile};
use std::collections::BTreeSet;

/// Whether it is one of these.
pub(super) fn is_own(file: &OpenFile) -> bool {
    match &file.object {
        FileObject::PidFd { .. } => true,
        FileObject::Regular { path, .. }
        | FileObject::Directory { path }
        | FileObject::PathOnly { path } => {
            path.0.strip_prefix(b"/proc/self").is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
        }
        _ => false,
    }
}

impl ProcessCompiler<'_> {
    /// In each process of several: those that it has, and those that sets of its own watch, where
    /// everything else is held that the first process made.
    pub(super) fn own_files(&mut self, uses: &Uses) -> Result<(), LinkError> {
        let mut wanted: BTreeSet<u32> = uses.keys().copied().collect();
        for &index in uses.keys() {
            if let FileObject::Epoll { interests } = &self.file_at(index)?.object {
                wanted.extend(interests.iter().map(|interest| interest.file));
            }
        }
        for index in wanted {
            let file = self.file_at(index)?;
            if is_own(&file) {
                let what = match &file.object {
                    FileObject::PidFd { .. } => "process as a file".to_owned(),
                    _ => name(&file, uses.get(&index).map_or(&[], Vec::as_slice)),
                };
                self.open(&file, self.object_fd(index), self.alone(&[]), &what)?;
            }
        }
        Ok(())
    }
}
