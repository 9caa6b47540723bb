//! What the resuming command puts in the place of descriptors: by its options, and where it has no
//! terminal.

use super::arch::nr;
use super::builder::{Arg, Skip};
use super::descriptors::O_CLOEXEC;
use super::ProcessCompiler;
use image_format::model::{FileObject, OpenFile};
use image_format::plan::{arg, Expect};
use std::collections::BTreeSet;

/// What stands for a descriptor that was not redirected.
const NO_DESCRIPTOR: u64 = u32::MAX as u64;
/// Descriptors of one description that are looked at one by one.
const FEW: usize = 4;

impl ProcessCompiler<'_> {
    /// The word of what the command's options put in the place of a descriptor of the root process.
    fn redirected(&self, fd: u32) -> Option<Arg> {
        let root = self.tree.processes.first()?;
        let at = root.descriptors.iter().position(|d| d.fd == fd)?;
        Some(Arg::load(self.redirected + 8 * at as u32 + 4))
    }

    /// Puts that in place: for the root process, and for others that have the same description
    /// under the same number.
    pub(super) fn redirections(&mut self) {
        let root = self.tree.processes.first().map_or(&[][..], |p| &p.descriptors);
        let root: BTreeSet<(u32, u32)> = root.iter().map(|d| (d.fd, d.file)).collect();
        for d in &self.process.descriptors {
            if !root.contains(&(d.fd, d.file)) {
                continue;
            }
            let Some(by) = self.redirected(d.fd) else { continue };
            let none = self.b.skip_if_equal(by, Arg::value(NO_DESCRIPTOR));
            let flags = if d.cloexec { u64::from(O_CLOEXEC) } else { 0 };
            let args = [by, Arg::fd(d.fd), Arg::value(flags)];
            let what = format!("descriptor {} of the command's options", d.fd);
            self.b.call(&what, nr::DUP3, &args, Expect::Success);
            self.b.land([none]);
        }
    }

    /// The one descriptor that uses a description, as [`NeedPlan::fd`].
    pub(super) fn alone(&self, uses: &[(u32, bool)]) -> u32 {
        match uses {
            [(fd, _)] if !super::is_family(self.tree) => *fd,
            _ => u32::MAX,
        }
    }

    /// Passes over the making of what nobody will have. In a tree others may share it.
    pub(super) fn unless_redirected(&mut self, uses: &[(u32, bool)]) -> Option<Skip> {
        let words: Vec<Arg> = uses.iter().filter_map(|(fd, _)| self.redirected(*fd)).collect();
        if super::is_family(self.tree) || uses.len() > FEW || words.len() != uses.len() {
            return None;
        }
        let none = Arg::value(NO_DESCRIPTOR);
        let wanted: Vec<Skip> =
            words.into_iter().map(|word| self.b.skip_if_equal(word, none)).collect();
        let skip = self.b.skip_always();
        self.b.land(wanted);
        Some(skip)
    }

    /// Where the program is resumed without a terminal, what it had of its own comes from the command,
    /// each descriptor from that of the same number: in a terminal they are one description,
    /// usually, and the command's input is for reading only.
    pub(super) fn without_terminal(&mut self, file: &OpenFile, uses: &[(u32, bool)]) {
        let FileObject::Tty { terminal } = file.object else { return };
        let outer = self.tree.terminals.get(terminal as usize).is_some_and(|t| t.pair.is_none());
        let standard = || uses.iter().filter(|(fd, _)| *fd <= 2);
        if !outer || standard().next().is_none() {
            return;
        }
        // Then the first that the command has open stands for it.
        let stdio = |fd: u64| Arg(fd, arg::STDIO);
        let none = [0, 1, 2].map(|fd| self.b.skip_if_equal(Arg::kind(arg::TERMINAL), stdio(fd)));
        let there = self.b.skip_always();
        self.b.land(none);
        for &(fd, cloexec) in standard() {
            let flags = if cloexec { u64::from(O_CLOEXEC) } else { 0 };
            let args = [stdio(fd.into()), Arg::fd(fd), Arg::value(flags)];
            // One that the command has closed stays what it is.
            self.b.call(&format!("descriptor {fd}"), nr::DUP3, &args, Expect::Ignore);
        }
        self.b.land([there]);
    }
}
