//! What each process of a tree opens by itself when all have been started, instead of taking what
//! the first one made ([`FileObject::is_own`]).

use super::descriptors::{name, Uses};
use super::ProcessCompiler;
use crate::LinkError;
use image_format::model::FileObject;
use std::collections::BTreeSet;

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
            if file.object.is_own() {
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
