//! What is read of a tree that stands.

use super::super::error::{CaptureError, Result};
use super::super::files::{self, Settings};
use super::super::ids::IdMaps;
use super::super::keyrings::Keys;
use super::super::member::Examined;
use super::super::model::{self, Parts};
use super::super::owners::Ids;
use super::super::proc::Proc;
use super::super::programs::Programs;
use super::super::survey::{self, Survey};
use super::super::{kin, memory, seccomp, source, sysv, Captured};
use super::Session;

impl Session {
    /// Reads everything but page contents. The processes are as they were when they stopped
    /// afterwards.
    pub fn capture(&mut self) -> Result<Captured> {
        for i in 0..self.members.len() {
            let (before, rest) = self.members.split_at_mut(i);
            let parent = kin::parent_of(before, &rest[0]).map(|parent| &before[parent as usize]);
            let alone = before.is_empty() && rest.len() == 1;
            let inherited = parent.map_or([].as_slice(), |parent| &parent.survey.descriptors);
            rest[0].look_again((!alone).then_some(inherited))?;
        }
        let mut refusals = self.refusals()?;
        let mut xsave = Vec::with_capacity(self.members.len());
        let mut sandboxes = Vec::with_capacity(self.members.len());
        for member in &self.members {
            let mut own = Vec::new();
            xsave.push(member.xsave(&mut own)?);
            sandboxes.push(member.sandboxes(&mut own)?);
            self.of_process(member, &mut own);
            refusals.append(&mut own);
        }
        if !refusals.is_empty() {
            return Err(CaptureError::Refused(refusals));
        }
        self.undo.clear();
        let mut keys = Keys::default();
        let mut examined = Vec::with_capacity(self.members.len());
        for ((member, xsave), sandboxes) in self.members.iter_mut().zip(xsave).zip(sandboxes) {
            let mut one = member.examine(xsave, sandboxes, &mut keys)?;
            self.undo.append(&mut one.answers.undo);
            examined.push(one);
        }
        let settings = Settings {
            embed_limit: self.options.embed_limit,
            external: self.options.external_sockets,
            pipes: self.options.external_pipes,
            keep: self.options.tcp_established,
            pid: self.pid(),
        };
        let procs: Vec<&Proc> = self.members.iter().map(|m| &m.target.proc).collect();
        let surveys: Vec<&Survey> = self.members.iter().map(|m| &m.survey).collect();
        let mut files = files::capture(&procs, &surveys, settings)?;
        let segments = self.segments();
        let (mut warnings, mut losses) = (segments.notes(self.options.sysv_ipc), Vec::new());
        losses.append(&mut self.apart);
        self.held_outside.retain(|note| !losses.contains(note));
        losses.append(&mut self.held_outside);
        self.quiet = std::mem::take(&mut files.quiet);
        self.live = files.live.take();
        let descriptors = std::mem::take(&mut files.descriptors);
        let mut processes = Vec::with_capacity(self.members.len());
        let (mut filters, mut programs) = (Vec::new(), Programs::default());
        let each = self.members.iter().zip(examined).zip(descriptors);
        let mut owners = Ids::default();
        let ids = IdMaps::of(self.proc());
        for (i, ((member, examined), descriptors)) in each.enumerate() {
            owners.add(member, &examined.threads);
            warnings.extend(survey::notes(&member.survey, self.members.len()));
            losses.extend(survey::losses(&member.survey, self.members.len()));
            tell_of_inside(member.pid(), &examined, &mut warnings, &mut losses);
            let parts = Parts {
                proc: &member.target.proc,
                survey: &member.survey,
                stub: member.stub.as_ref(),
                parent: kin::parent_of(&self.members[..i], member),
                examined,
                descriptors,
                embed_limit: self.options.embed_limit,
                ids: &ids,
                segments: &segments,
                sysv_ipc: self.options.sysv_ipc,
            };
            processes.push(model::process(parts, &mut files, &mut filters, &mut programs)?);
        }
        losses.append(&mut owners.settle(&mut files.open, &self.members, &processes));
        let zombies = kin::zombies(&self.members);
        kin::foreground(&self.members, &processes, &mut files.terminals);
        let embeds = std::mem::take(&mut files.embeds);
        losses.append(&mut files.notes);
        let held = std::mem::take(&mut files.held);
        let attached = std::mem::take(&mut files.attached);
        let surveys = || self.members.iter().map(|m| &m.survey);
        let leased = files::leased(surveys().flat_map(|s| &s.descriptors));
        let mapped_files = surveys().map(|s| memory::mapped_files(&s.table, &leased)).collect();
        let generation = self.members.iter().filter_map(|m| m.stub.as_ref());
        let generation = generation.map(|s| s.header.generation).max().unwrap_or(0);
        let source = source::source(self.proc(), generation);
        let mut found = sysv::look(self.proc(), &self.pids(), self.options.sysv_ipc);
        warnings.append(&mut found.notes);
        let tree = model::tree(source, processes, zombies, files, found, filters);
        files::none_is_own(&tree)?;
        let anonymous = surveys().map(|s| s.status.anonymous).sum();
        Ok(Captured { tree, embeds, warnings, losses, mapped_files, anonymous, held, attached })
    }
}

/// What is to be said of what a process and its threads were asked.
fn tell_of_inside(
    pid: u32,
    examined: &Examined,
    warnings: &mut Vec<String>,
    losses: &mut Vec<String>,
) {
    let keyrings = &examined.answers.keyrings;
    if !keyrings.is_empty() {
        let all = keyrings.join(", ");
        losses.push(format!("process {pid} had {all}: these are lost"));
    }
    for thread in &examined.threads {
        if let Some(visible) = &thread.verdict.visible {
            warnings.push(format!("thread {}: {visible}", thread.outer_tid));
        }
        let (tid, sandbox) = (thread.outer_tid, &thread.sandbox);
        warnings.extend(seccomp::note(tid, sandbox, &thread.status));
        losses.extend(seccomp::loss(tid, sandbox, &thread.status));
    }
}
