//! Open file descriptions and descriptors, working directory, root.
//!
//! Every description is made once, moved to a temporary number above all of the program's, and
//! duplicated from there to each of its descriptors: no order of creation can then collide with
//! a number that is still to come.

use super::arch::nr;
use super::builder::Arg;
use super::ProcessCompiler;
use crate::LinkError;
use image_format::model::{FileObject, OpenFile, Pipe, Process};
use image_format::plan::{op, Expect};
use std::collections::BTreeMap;

pub(super) const O_WRONLY: u32 = 1;
pub(super) const O_RDWR: u32 = 2;
pub(super) const O_ACCMODE: u32 = 3;
pub(super) const O_CREAT: u32 = 0o100;
pub(super) const O_EXCL: u32 = 0o200;
const O_TRUNC: u32 = 0o1000;
pub(super) const O_APPEND: u32 = 0o2000;
pub(super) const O_NONBLOCK: u32 = 0o4000;
pub(super) const O_ASYNC: u32 = 0o20000;
const O_DIRECT: u32 = 0o40000;
pub(super) const O_CLOEXEC: u32 = 0o2_000_000;
pub(super) const F_SETFL: u64 = 4;
const F_SETPIPE_SZ: u64 = 1031;
/// Flags that are not given to open(2): they act once, or cannot be set by it.
pub(super) const ONCE: u32 = O_CREAT | O_EXCL | O_TRUNC | O_ASYNC;

/// Index of an open file description -> its descriptors: number, close-on-exec.
pub(super) type Uses = BTreeMap<u32, Vec<(u32, bool)>>;

impl ProcessCompiler<'_> {
    /// Gives the process its descriptors.
    pub(super) fn descriptors(&mut self) -> Result<(), LinkError> {
        let mut uses = Uses::new();
        for d in &self.process.descriptors {
            uses.entry(d.file).or_default().push((d.fd, d.cloexec));
        }
        if super::is_family(self.tree) {
            if self.index == 0 {
                self.memory_seals();
            }
            self.take(&uses)?;
            self.asynchronous(&uses)?;
            self.redirections();
        } else {
            self.close_inherited();
            let made = self.with_flights(uses.clone());
            self.create_all(&made)?;
            self.take_terminal(self.process.pid);
            self.memory_seals();
            self.asynchronous(&uses)?;
            self.redirections();
            self.interests(&uses)?;
        }
        self.queue_notices();
        Ok(())
    }

    /// In the first process: makes every open file description of the tree, for all processes.
    pub(super) fn objects(&mut self) -> Result<(), LinkError> {
        self.close_inherited();
        let all = 0..self.tree.files.len() as u32;
        let uses = all.map(|i| (i, vec![(self.object_fd(i), false)])).collect();
        let uses = self.with_flights(uses);
        self.create_all(&uses)
    }

    /// Takes the descriptions that the first process made.
    fn take(&mut self, uses: &Uses) -> Result<(), LinkError> {
        self.own_files(uses)?;
        for (&index, places) in uses {
            let file = self.file_at(index)?;
            let held = self.object_fd(index);
            if self.is_first_user(index) {
                self.ownership(held, &file, &name(&file, places));
            }
            self.duplicate(held, places);
            self.without_terminal(&file, places);
        }
        let mut own = uses.clone();
        own.retain(|&index, _| self.is_first_user(index));
        // What an epoll set watches may be nobody's descriptor here.
        let all = 0..self.tree.files.len() as u32;
        let mut watched = uses.clone();
        for index in all {
            watched.entry(index).or_insert_with(|| vec![(self.object_fd(index), false)]);
        }
        self.interests_of(&own, &watched)
    }

    /// Whether no earlier process has the description.
    pub(super) fn is_first_user(&self, file: u32) -> bool {
        let uses = |p: &Process| p.descriptors.iter().any(|d| d.file == file);
        !self.tree.processes[..self.index].iter().any(uses)
    }

    /// Shared memory is open already, between the first two ranges.
    fn close_inherited(&mut self) {
        let last = self.first_temporary + super::TEMPORARIES - 1;
        let mut ranges = vec![0..=last, self.places.numbers()];
        if self.scratch_end < u32::MAX {
            ranges.push(self.scratch_end..=u32::MAX);
        }
        for range in ranges {
            let (first, last) = (u64::from(*range.start()), u64::from(*range.end()));
            if first <= last {
                let args = [first, last, 0, 0, 0, 0];
                self.must("inherited descriptors", nr::CLOSE_RANGE, args);
            }
        }
    }

    /// What travels in messages between sockets is at a number of its own meanwhile.
    fn with_flights(&self, mut uses: Uses) -> Uses {
        for (file, number) in self.places.flights() {
            uses.entry(file).or_default().push((number, false));
        }
        uses
    }

    /// Makes open file descriptions and puts them at their descriptors.
    fn create_all(&mut self, uses: &Uses) -> Result<(), LinkError> {
        self.pairs();
        // Descriptions of one object are made together.
        let [mut pipes, mut fifos, mut shared] = [const { BTreeMap::<u32, Vec<u32>>::new() }; 3];
        let mut unlinked = BTreeMap::new();
        for &index in uses.keys() {
            let file = &self.file_at(index)?;
            let together = match file.object {
                FileObject::PipeEnd { pipe } => pipes.entry(pipe),
                FileObject::Fifo { pipe, .. } => fifos.entry(pipe),
                FileObject::Shared { shared: memory } => shared.entry(memory),
                FileObject::Socket { .. } => continue,
                // Not before all processes are there.
                _ if super::is_family(self.tree) && file.object.is_own() => continue,
                _ => {
                    let temporary = self.first_temporary;
                    let alone = self.alone(&uses[&index]);
                    // Later descriptions of an unlinked file may need this one.
                    let unless = match file.object {
                        FileObject::Unlinked { .. } => None,
                        _ => self.unless_redirected(&uses[&index]),
                    };
                    if !self.reopen_unlinked(file, temporary, &uses[&index], &unlinked) {
                        self.open(file, temporary, alone, &name(file, &uses[&index]))?;
                    }
                    if let FileObject::Unlinked { embedded, .. } = &file.object {
                        self.belongs_to_user(temporary, &name(file, &uses[&index]));
                        unlinked.entry(*embedded).or_insert(uses[&index][0].0);
                    }
                    self.place(temporary, &uses[&index], file);
                    self.b.land(unless);
                    continue;
                }
            };
            together.or_default().push(index);
        }
        for (pipe, ends) in &pipes {
            self.pipe(*pipe, ends, uses)?;
        }
        for (pipe, ends) in &fifos {
            self.fifo(*pipe, ends, uses)?;
        }
        for (memory, files) in &shared {
            self.shared_files(*memory, files, uses)?;
        }
        self.remove_queue_names();
        self.sockets(uses)?;
        self.settle_pairs();
        Ok(())
    }

    /// Gives what was just made to the program's user, where root resumes: only the owner may open
    /// it anew by way of /proc/self/fd, or change its mode, and sockets share a port with those of
    /// one user alone.
    pub(super) fn belongs_to_user(&mut self, fd: u32, what: &str) {
        let ids = &self.process.credentials;
        let [user, group] = [ids.uids[1], ids.gids[1]].map(u64::from);
        if (user, group) != (0, 0) {
            let args = [u64::from(fd), user, group, 0, 0, 0];
            // Who has no right to has no other user's program either.
            self.b.syscall(&format!("owner of {what}"), nr::FCHOWN, args, Expect::Ignore);
        }
    }

    /// Duplicates `temporary` to every descriptor of the description and closes it.
    pub(super) fn place(&mut self, temporary: u32, uses: &[(u32, bool)], file: &OpenFile) {
        let what = name(file, uses);
        if !super::is_family(self.tree) {
            self.ownership(temporary, file, &what);
        }
        self.description_locks(file, temporary, &what);
        self.duplicate(temporary, uses);
        self.without_terminal(file, uses);
        self.must(&what, nr::CLOSE, [u64::from(temporary), 0, 0, 0, 0, 0]);
    }

    fn duplicate(&mut self, from: u32, uses: &[(u32, bool)]) {
        for &(fd, cloexec) in uses {
            let flags = if cloexec { u64::from(O_CLOEXEC) } else { 0 };
            let args = [u64::from(from), u64::from(fd), flags, 0, 0, 0];
            self.must(&format!("descriptor {fd}"), nr::DUP3, args);
        }
    }

    fn pipe(&mut self, index: u32, ends: &[u32], uses: &Uses) -> Result<(), LinkError> {
        let bad = |what| LinkError::Model { pid: self.process.pid, what };
        let pipe: &Pipe =
            self.tree.pipes.get(index as usize).ok_or(bad("a pipe that is not there"))?;
        let what = format!("pipe {}", pipe.inode);
        let (reader, writer, extra) =
            (self.first_temporary, self.first_temporary + 1, self.first_temporary + 2);
        let direct = if pipe.packets.is_empty() { 0 } else { O_DIRECT };
        let both = self.b.words(&[0]);
        self.b.call(
            &what,
            nr::PIPE2,
            &[Arg::data(both), Arg::value(u64::from(direct))],
            Expect::Success,
        );
        self.move_to(Arg::load(both), reader, &what);
        self.move_to(Arg::load(both + 4), writer, &what);
        self.belongs_to_user(writer, &what);
        self.capacity(pipe, writer, &what);
        self.pipe_contents(pipe, writer, &what)?;
        let mut taken = [false; 2];
        for &end in ends {
            let file = self.file_at(end)?;
            let side = usize::from(file.flags & O_ACCMODE == O_WRONLY);
            let held = if side == 1 { writer } else { reader };
            let from = if taken[side] || file.flags & O_ACCMODE == O_RDWR {
                // A further description of the same end exists only by way of /proc/PID/fd.
                let path = self.b.path(format!("/proc/self/fd/{held}").as_bytes());
                let flags = file.flags & !ONCE;
                let args = [Arg::data(path), Arg::value(u64::from(flags)), Arg::value(0)];
                let made = self.make(&what, nr::OPEN, &args);
                self.move_to(Arg::load(made), extra, &what);
                extra
            } else {
                taken[side] = true;
                let args = [Arg::fd(held), Arg::fd(extra), Arg::value(0)];
                self.b.call(&what, nr::DUP3, &args, Expect::Success);
                let flags = u64::from(file.flags & (O_NONBLOCK | O_APPEND | O_DIRECT));
                if flags != u64::from(direct) {
                    self.must(&what, nr::FCNTL, [u64::from(extra), F_SETFL, flags, 0, 0, 0]);
                }
                extra
            };
            self.place(from, &uses[&end], &file);
        }
        for held in [reader, writer] {
            self.must(&what, nr::CLOSE, [u64::from(held), 0, 0, 0, 0, 0]);
        }
        Ok(())
    }

    /// Unprivileged users cannot always have the larger sizes (fs.pipe-max-size).
    pub(super) fn capacity(&mut self, pipe: &Pipe, fd: u32, what: &str) {
        let args = [u64::from(fd), F_SETPIPE_SZ, u64::from(pipe.capacity), 0, 0, 0];
        self.note(&format!("capacity of {what}"), nr::FCNTL, args);
    }

    pub(super) fn pipe_contents(
        &mut self,
        pipe: &Pipe,
        writer: u32,
        what: &str,
    ) -> Result<(), LinkError> {
        let at = self.b.data(&pipe.data.0);
        let whole = [pipe.data.0.len() as u32];
        let pieces: &[u32] = if pipe.packets.is_empty() { &whole } else { &pipe.packets };
        let mut done = 0u64;
        for &piece in pieces.iter().filter(|&&n| n > 0) {
            let end = done + u64::from(piece);
            if end > pipe.data.0.len() as u64 {
                return Err(LinkError::Model { pid: self.process.pid, what: "packets of a pipe" });
            }
            let args = [u64::from(writer), u64::from(at) + done, u64::from(piece), 0, 0, 0];
            self.b.verb(op::WRITE_ALL, &format!("contents of {what}"), args);
            done = end;
        }
        Ok(())
    }

    pub(super) fn file_at(&self, index: u32) -> Result<OpenFile, LinkError> {
        self.tree
            .files
            .get(index as usize)
            .cloned()
            .ok_or(LinkError::Model { pid: self.process.pid, what: "a descriptor without a file" })
    }

    pub(super) fn directories(&mut self) {
        let process = self.process;
        // Both paths are those of the outside. A working directory that is not there must not leave the
        // process outside of its root, from where ".." would lead anywhere.
        let what = format!("root directory {}", process.root);
        let root = (process.root.0 != b"/").then(|| self.b.path(&process.root.0));
        if let Some(root) = root {
            self.b.call(&what, nr::CHDIR, &[Arg::data(root)], Expect::Success);
        }
        let cwd = self.b.path(&process.cwd.0);
        let directory = format!("working directory {}", process.cwd);
        self.b.call(&directory, nr::CHDIR, &[Arg::data(cwd)], Expect::Note);
        if let Some(root) = root {
            self.b.call(&what, nr::CHROOT, &[Arg::data(root)], Expect::Success);
        }
        self.must("file mode mask", nr::UMASK, [u64::from(process.umask), 0, 0, 0, 0, 0]);
    }
}

/// What messages call a description.
pub(super) fn name(file: &OpenFile, uses: &[(u32, bool)]) -> String {
    let fd = uses.first().map_or(0, |u| u.0);
    match &file.object {
        FileObject::Regular { path, .. } | FileObject::Unlinked { path, .. } => {
            format!("file {path} (descriptor {fd})")
        }
        FileObject::Directory { path } => format!("directory {path} (descriptor {fd})"),
        FileObject::PathOnly { path } => format!("{path} (descriptor {fd}, O_PATH)"),
        FileObject::Device { path, .. } => format!("device {path} (descriptor {fd})"),
        FileObject::PipeEnd { .. } => format!("pipe (descriptor {fd})"),
        FileObject::EventFd { .. } => format!("eventfd (descriptor {fd})"),
        FileObject::Tty { .. } => format!("terminal (descriptor {fd})"),
        FileObject::TtyMaster { .. } => format!("master of a terminal (descriptor {fd})"),
        FileObject::TtyHungUp { was } => format!("hung-up terminal {was} (descriptor {fd})"),
        FileObject::Inherited { was, .. } => format!("{was} (descriptor {fd})"),
        FileObject::Epoll { .. } => format!("epoll set (descriptor {fd})"),
        FileObject::TimerFd { .. } => format!("timerfd (descriptor {fd})"),
        FileObject::SignalFd { .. } => format!("signalfd (descriptor {fd})"),
        FileObject::Inotify { .. } => format!("inotify (descriptor {fd})"),
        FileObject::Shared { .. } => format!("shared memory (descriptor {fd})"),
        FileObject::Fifo { path, .. } => format!("named pipe {path} (descriptor {fd})"),
        FileObject::Socket { .. } => format!("socket (descriptor {fd})"),
        FileObject::PidFd { pid, .. } => format!("process {pid} as a file (descriptor {fd})"),
        FileObject::MessageQueue { name, .. } => {
            format!("message queue /{name} (descriptor {fd})")
        }
    }
}
