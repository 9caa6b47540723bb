//! Open file descriptions that are made by opening a path or by a call of their own.

use super::arch::nr;
use super::builder::Arg;
use super::descriptors::{name, F_SETFL, ONCE, O_ACCMODE, O_APPEND, O_NONBLOCK, O_RDWR, O_WRONLY};
use super::{OnChanged, ProcessCompiler};
use crate::LinkError;
use image_format::model::{Contents, FileObject, OpenFile};
use image_format::plan::{arg, file_flag, hash_kind, op, Expect, FilePlan, NeedPlan};
use std::collections::BTreeMap;
const O_RDONLY: u32 = 0;
const O_DIRECTORY: u32 = 0o200_000;
const O_PATH: u32 = 0o10_000_000;
const O_TMPFILE: u32 = 0o20_200_000;
/// access(2).
const R_OK: u32 = 4;
const W_OK: u32 = 2;
const EFD_SEMAPHORE: u64 = 1;

impl ProcessCompiler<'_> {
    /// Makes the description and moves it to number `temporary`.
    pub(super) fn open(
        &mut self,
        file: &OpenFile,
        temporary: u32,
        alone: u32,
        what: &str,
    ) -> Result<(), LinkError> {
        let flags = file.flags & !ONCE;
        match &file.object {
            FileObject::Regular { path, size, mode, contents } => {
                let plan = self.regular(&path.0, flags, file.offset, *size, *mode, contents);
                self.open_file(plan, temporary, alone, what);
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
                self.open_file(plan, temporary, alone, what);
            }
            FileObject::Directory { path } => {
                self.open_path(&path.0, flags | O_DIRECTORY, temporary, alone, what);
                if file.offset != 0 {
                    let args = [u64::from(temporary), file.offset, 0, 0, 0, 0];
                    self.note(&format!("position in {what}"), nr::LSEEK, args);
                }
            }
            FileObject::PathOnly { path } => {
                self.open_path(&path.0, flags | O_PATH, temporary, alone, what);
            }
            FileObject::Device { path, .. } => {
                self.open_path(&path.0, flags, temporary, alone, what);
            }
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
                let path_off = self.b.path(what.as_bytes());
                self.b.need(NeedPlan { fd: alone, file_off: 0, path_off, mode: 0, stdio: *stdio });
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
    pub(super) fn reopen_unlinked(
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

    /// Makes a descriptor of a regular file; `alone` as [`NeedPlan::fd`].
    pub(super) fn open_file(&mut self, plan: FilePlan, temporary: u32, alone: u32, what: &str) {
        let FilePlan { embedded, file_flags, .. } = plan;
        let at = self.b.record(plan);
        if embedded != u32::MAX {
            self.b.embedded(embedded, at);
        }
        if file_flags & file_flag::UNLINKED == 0 {
            self.b.need(NeedPlan {
                fd: alone,
                file_off: at,
                path_off: 0,
                mode: 0,
                stdio: u32::MAX,
            });
        }
        self.b.verb(op::OPEN_FILE, what, [u64::from(at), u64::from(temporary), 0, 0, 0, 0]);
    }

    fn open_path(&mut self, path: &[u8], flags: u32, temporary: u32, alone: u32, what: &str) {
        let path = self.b.path(path);
        let mode = match flags & (O_ACCMODE | O_PATH) {
            O_RDONLY => R_OK,
            O_WRONLY => W_OK,
            O_RDWR => R_OK | W_OK,
            _ => 0,
        };
        self.b.need(NeedPlan { fd: alone, file_off: 0, path_off: path, mode, stdio: u32::MAX });
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
}
