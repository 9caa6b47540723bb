//! Open file descriptions and descriptors, working directory, root.
//!
//! Every description is made once, moved to a temporary number above all of the program's, and
//! duplicated from there to each of its descriptors: no order of creation can then collide with
//! a number that is still to come.

use super::arch::nr;
use super::builder::{Arg, Skip};
use super::{OnChanged, ProcessCompiler};
use crate::LinkError;
use image_format::model::{Contents, FileObject, OpenFile, Pipe, Process};
use image_format::plan::{arg, file_flag, hash_kind, op, Expect, FilePlan};
use std::collections::BTreeMap;

const O_WRONLY: u32 = 1;
pub(super) const O_RDWR: u32 = 2;
pub(super) const O_ACCMODE: u32 = 3;
pub(super) const O_CREAT: u32 = 0o100;
pub(super) const O_EXCL: u32 = 0o200;
const O_TRUNC: u32 = 0o1000;
pub(super) const O_APPEND: u32 = 0o2000;
pub(super) const O_NONBLOCK: u32 = 0o4000;
const O_ASYNC: u32 = 0o20000;
const O_DIRECT: u32 = 0o40000;
const O_DIRECTORY: u32 = 0o200_000;
pub(super) const O_CLOEXEC: u32 = 0o2_000_000;
const O_PATH: u32 = 0o10_000_000;
const O_TMPFILE: u32 = 0o20_200_000;
pub(super) const F_SETFL: u64 = 4;
const F_SETSIG: u64 = 10;
const F_SETOWN_EX: u64 = 15;
const F_SETPIPE_SZ: u64 = 1031;
const EFD_SEMAPHORE: u64 = 1;
/// What stands for a descriptor that was not redirected.
const NO_DESCRIPTOR: u64 = u32::MAX as u64;
/// Descriptors of one description that are looked at one by one.
const FEW: usize = 4;
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
            self.redirections();
        } else {
            self.close_inherited();
            let made = self.with_flights(uses.clone());
            self.create_all(&made)?;
            self.take_terminal(self.process.pid);
            self.memory_seals();
            self.redirections();
            self.interests(&uses)?;
        }
        self.process_locks();
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
        self.own_pidfds(uses)?;
        for (&index, places) in uses {
            let file = self.file_at(index)?;
            let held = self.object_fd(index);
            if self.is_first_user(index) {
                self.ownership(held, &file, &name(&file, places));
            }
            self.duplicate(held, places);
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

    /// The word of what the command's options put in the place of a descriptor of the root process.
    fn redirected(&self, fd: u32) -> Option<Arg> {
        let root = self.tree.processes.first()?;
        let at = root.descriptors.iter().position(|d| d.fd == fd)?;
        Some(Arg::load(self.redirected + 8 * at as u32 + 4))
    }

    /// Puts that in place: for the root process, and for others that have the same description
    /// under the same number.
    fn redirections(&mut self) {
        let root = self.tree.processes.first().map_or(&[][..], |p| &p.descriptors);
        for d in &self.process.descriptors {
            if !root.iter().any(|r| (r.fd, r.file) == (d.fd, d.file)) {
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

    /// Passes over the making of what nobody will have. In a tree others may share it.
    fn unless_redirected(&mut self, uses: &[(u32, bool)]) -> Option<Skip> {
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

    /// Shared memory is open already, between the two ranges.
    fn close_inherited(&mut self) {
        let last = self.first_temporary + super::TEMPORARIES - 1;
        for range in [0..=last, self.places.numbers()] {
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
                FileObject::PidFd { .. } if super::is_family(self.tree) => continue,
                _ => {
                    let temporary = self.first_temporary;
                    // Later descriptions of an unlinked file may need this one.
                    let unless = match file.object {
                        FileObject::Unlinked { .. } => None,
                        _ => self.unless_redirected(&uses[&index]),
                    };
                    if !self.reopen_unlinked(file, temporary, &uses[&index], &unlinked) {
                        self.open(file, temporary, &name(file, &uses[&index]))?;
                    }
                    if let FileObject::Unlinked { embedded, .. } = &file.object {
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

    /// Duplicates `temporary` to every descriptor of the description and closes it.
    pub(super) fn place(&mut self, temporary: u32, uses: &[(u32, bool)], file: &OpenFile) {
        let what = name(file, uses);
        if !super::is_family(self.tree) {
            self.ownership(temporary, file, &what);
        }
        self.description_locks(file, temporary, &what);
        self.duplicate(temporary, uses);
        self.must(&what, nr::CLOSE, [u64::from(temporary), 0, 0, 0, 0, 0]);
    }

    fn duplicate(&mut self, from: u32, uses: &[(u32, bool)]) {
        for &(fd, cloexec) in uses {
            let flags = if cloexec { u64::from(O_CLOEXEC) } else { 0 };
            let args = [u64::from(from), u64::from(fd), flags, 0, 0, 0];
            self.must(&format!("descriptor {fd}"), nr::DUP3, args);
        }
    }

    /// Who is told of what happens to the description: the ids must be there already.
    fn ownership(&mut self, fd: u32, file: &OpenFile, what: &str) {
        if file.owner != [0, 0] {
            let at =
                self.b.data(&file.owner.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>());
            let args = [Arg::fd(fd), Arg::value(F_SETOWN_EX), Arg::data(at)];
            self.b.call(&format!("owner of {what}"), nr::FCNTL, &args, Expect::Note);
        }
        if file.signal != 0 {
            let args = [u64::from(fd), F_SETSIG, file.signal as u64, 0, 0, 0];
            self.note(&format!("signal of {what}"), nr::FCNTL, args);
        }
        if file.flags & O_ASYNC != 0 {
            // Not settable by open(2).
            let args = [u64::from(fd), F_SETFL, u64::from(file.flags), 0, 0, 0];
            self.note(&format!("O_ASYNC of {what}"), nr::FCNTL, args);
        }
    }

    /// Makes the description and moves it to number `temporary`.
    fn open(&mut self, file: &OpenFile, temporary: u32, what: &str) -> Result<(), LinkError> {
        let flags = file.flags & !ONCE;
        match &file.object {
            FileObject::Regular { path, size, mode, contents } => {
                let plan = self.regular(&path.0, flags, file.offset, *size, *mode, contents);
                self.open_file(plan, temporary, what);
            }
            FileObject::Unlinked { path, size, mode, embedded } => {
                let plan = FilePlan {
                    path_off: self.b.path(&path.0),
                    flags,
                    offset: file.offset,
                    size: *size,
                    hash: 0,
                    hash_kind: hash_kind::NONE,
                    embedded: *embedded,
                    mode: *mode,
                    file_flags: file_flag::UNLINKED,
                    reserved: [0; 2],
                };
                self.open_file(plan, temporary, what);
            }
            FileObject::Directory { path } => {
                self.open_path(&path.0, flags | O_DIRECTORY, temporary, what);
                if file.offset != 0 {
                    let args = [u64::from(temporary), file.offset, 0, 0, 0, 0];
                    self.note(&format!("position in {what}"), nr::LSEEK, args);
                }
            }
            FileObject::PathOnly { path } => {
                self.open_path(&path.0, flags | O_PATH, temporary, what);
            }
            FileObject::Device { path, .. } => self.open_path(&path.0, flags, temporary, what),
            FileObject::EventFd { count, semaphore } => {
                let mode =
                    u64::from(flags & O_NONBLOCK) | if *semaphore { EFD_SEMAPHORE } else { 0 };
                let first = (*count).min(u64::from(u32::MAX));
                let made = Arg::load(self.make(
                    what,
                    nr::EVENTFD2,
                    &[Arg::value(first), Arg::value(mode)],
                ));
                self.move_to(made, temporary, what);
                if *count > first {
                    let at = self.b.words(&[count - first]);
                    self.b.verb(
                        op::WRITE_ALL,
                        what,
                        [u64::from(temporary), u64::from(at), 8, 0, 0, 0],
                    );
                }
            }
            FileObject::Tty { terminal } => match self.tree.terminals.get(*terminal as usize) {
                Some(found) if found.pair.is_some() => {
                    self.open_tty_slave(*terminal, flags, temporary, what);
                }
                _ => self.borrow(Arg::kind(arg::TERMINAL), flags, temporary, what),
            },
            FileObject::TtyMaster { terminal } => {
                self.open_tty_master(*terminal, flags, temporary, what);
            }
            FileObject::TtyHungUp { .. } => self.open_hung_up(flags, temporary, what),
            FileObject::Inherited { stdio, .. } => {
                self.borrow(Arg(u64::from(*stdio), arg::STDIO), 0, temporary, what);
            }
            _ => {
                let made = self.message_queue(file, temporary, what)
                    || self.pidfd(file, temporary, what)?;
                if !made && !self.anonymous(file, temporary, what)? {
                    let what = "an object out of place";
                    return Err(LinkError::Model { pid: self.process.pid, what });
                }
            }
        }
        Ok(())
    }

    /// A further description of an unlinked file that is open already: the file itself is found only
    /// by way of the descriptor. `open` leads from the contents' number to that.
    fn reopen_unlinked(
        &mut self,
        file: &OpenFile,
        temporary: u32,
        uses: &[(u32, bool)],
        open: &BTreeMap<u32, u32>,
    ) -> bool {
        let FileObject::Unlinked { embedded, .. } = &file.object else { return false };
        let Some(held) = open.get(embedded) else { return false };
        let what = name(file, uses);
        let path = self.b.path(format!("/proc/self/fd/{held}").as_bytes());
        let flags = file.flags & !ONCE & !O_TMPFILE;
        let args = [Arg::data(path), Arg::value(u64::from(flags)), Arg::value(0)];
        let made = self.make(&what, nr::OPEN, &args);
        self.move_to(Arg::load(made), temporary, &what);
        if file.offset != 0 {
            self.must(&what, nr::LSEEK, [u64::from(temporary), file.offset, 0, 0, 0, 0]);
        }
        true
    }

    /// How to open a file that is found under its path.
    pub(super) fn regular(
        &mut self,
        path: &[u8],
        flags: u32,
        offset: u64,
        size: u64,
        mode: u32,
        contents: &Contents,
    ) -> FilePlan {
        let (hash_kind, hash, embedded) = match *contents {
            Contents::Whole { hash, embedded } => (hash_kind::WHOLE, hash, embedded),
            Contents::Sampled { hash } => (hash_kind::SAMPLED, hash, None),
            Contents::Unread => (hash_kind::NONE, 0, None),
        };
        let file_flags = match self.options.on_changed {
            OnChanged::Refuse => 0,
            OnChanged::Accept => file_flag::ACCEPT,
            OnChanged::Embed => file_flag::EMBED,
        };
        FilePlan {
            path_off: self.b.path(path),
            flags,
            offset,
            size,
            hash,
            hash_kind,
            embedded: embedded.unwrap_or(u32::MAX),
            mode,
            file_flags,
            reserved: [0; 2],
        }
    }

    pub(super) fn open_file(&mut self, plan: FilePlan, temporary: u32, what: &str) {
        let embedded = plan.embedded;
        let at = self.b.record(plan);
        if embedded != u32::MAX {
            self.b.embedded(embedded, at);
        }
        self.b.verb(op::OPEN_FILE, what, [u64::from(at), u64::from(temporary), 0, 0, 0, 0]);
    }

    fn open_path(&mut self, path: &[u8], flags: u32, temporary: u32, what: &str) {
        let path = self.b.path(path);
        let made = self.make(
            what,
            nr::OPEN,
            &[Arg::data(path), Arg::value(u64::from(flags)), Arg::value(0)],
        );
        self.move_to(Arg::load(made), temporary, what);
    }

    /// A call that makes a descriptor; its number is kept, and the data offset of the word that
    /// holds it is given.
    pub(super) fn make(&mut self, what: &str, nr: u32, args: &[Arg]) -> u32 {
        let word = self.b.words(&[0]);
        self.b.call(what, nr, args, Expect::Success);
        self.b.keep_result(word);
        word
    }

    pub(super) fn move_to(&mut self, made: Arg, temporary: u32, what: &str) {
        self.b.call(what, nr::DUP3, &[made, Arg::fd(temporary), Arg::value(0)], Expect::Success);
        self.b.call(what, nr::CLOSE, &[made], Expect::Success);
    }

    /// A descriptor of the resuming command. O_NONBLOCK belongs to the description, which the
    /// shell may share: set only where the program had it.
    fn borrow(&mut self, from: Arg, flags: u32, temporary: u32, what: &str) {
        self.b.call(what, nr::DUP3, &[from, Arg::fd(temporary), Arg::value(0)], Expect::Success);
        if flags & O_NONBLOCK != 0 {
            let flags = u64::from(flags & (O_NONBLOCK | O_APPEND));
            self.note(
                &format!("flags of {what}"),
                nr::FCNTL,
                [u64::from(temporary), F_SETFL, flags, 0, 0, 0],
            );
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
        if process.root.0 != b"/" {
            let root = self.b.path(&process.root.0);
            let what = format!("root directory {}", process.root);
            self.b.call(&what, nr::CHROOT, &[Arg::data(root)], Expect::Success);
        }
        let cwd = self.b.path(&process.cwd.0);
        let what = format!("working directory {}", process.cwd);
        self.b.call(&what, nr::CHDIR, &[Arg::data(cwd)], Expect::Note);
        self.must("file mode mask", nr::UMASK, [u64::from(process.umask), 0, 0, 0, 0, 0]);
    }
}

/// What messages call a description.
fn name(file: &OpenFile, uses: &[(u32, bool)]) -> String {
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
