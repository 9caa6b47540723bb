//! Whom the signals of open files go to (F_SETOWN): carried where that is in the tree.

use super::kin;
use super::member::Member;
use super::model::ThreadParts;
use super::target::{name_among, name_of};
use image_format::model::{OpenFile, Process};
use std::collections::BTreeMap;

/// struct f_owner_ex: a process group is told.
const F_OWNER_PGRP: i32 = 2;

/// Ids as this program sees them, and as the tree does.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// Of threads, the first of each process among them.
    threads: BTreeMap<u32, u32>,
    groups: BTreeMap<u32, u32>,
}

impl Ids {
    /// Notes those of a process.
    pub fn add(&mut self, member: &Member, threads: &[ThreadParts]) {
        self.threads.extend(threads.iter().map(|t| (t.outer_tid, t.tid)));
        self.groups.extend([kin::inner_group(member)]);
    }

    /// Puts in what the tree calls those who are told. An id outside could be anybody's at the resume: it
    /// is left out, and that is said. `processes` are those of the members.
    pub fn settle(
        &self,
        files: &mut [OpenFile],
        members: &[Member],
        processes: &[Process],
    ) -> Vec<String> {
        let mut losses = Vec::new();
        for (file, index) in files.iter_mut().zip(0..) {
            let [kind, id] = file.owner;
            if id == 0 {
                continue;
            }
            let known = if kind == F_OWNER_PGRP { &self.groups } else { &self.threads };
            if let Some(&inner) = known.get(&id.unsigned_abs()) {
                file.owner[1] = inner as i32;
                continue;
            }
            file.owner = [0; 2];
            let holders = members.iter().zip(processes);
            let holder = holders.into_iter().find_map(|(member, process)| {
                let d = process.descriptors.iter().find(|d| d.file == index)?;
                Some(name_among(format!("descriptor {}", d.fd), member.pid(), members.len()))
            });
            let object = holder.unwrap_or_else(|| "a descriptor in a message".into());
            let told = match kind {
                F_OWNER_PGRP => format!("process group {id}"),
                _ => format!("process {id} ({})", name_of(id.unsigned_abs())),
            };
            losses.push(format!(
                "{object}: {told}, outside, is told by signals of what comes there (F_SETOWN): \
                 after a resume nobody is"
            ));
        }
        losses
    }
}
