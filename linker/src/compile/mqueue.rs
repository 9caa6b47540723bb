//! POSIX message queues: opened by name, or made anew where there is none.

use super::arch::nr;
use super::builder::Arg;
use super::descriptors::{O_ACCMODE, O_CREAT, O_EXCL, O_NONBLOCK};
use super::sysv::NONE;
use super::ProcessCompiler;
use image_format::model::{FileObject, OpenFile};
use image_format::plan::{op, Expect};
use std::collections::BTreeSet;

/// Words of struct mq_attr: flags, messages at most, bytes of one at most, messages now, reserved.
const ATTRIBUTES: usize = 8;
/// struct sigevent: value, signal and kind of notification; 64 bytes.
const SIGEVENT: usize = 8;

/// What a queue that was removed is called meanwhile.
fn temporary_name(inode: u64) -> Vec<u8> {
    format!(".resume-{inode}").into_bytes()
}

impl ProcessCompiler<'_> {
    /// Opens the queue of a description and moves it to number `temporary`; false for objects of
    /// other kinds.
    pub(super) fn message_queue(&mut self, file: &OpenFile, temporary: u32, what: &str) -> bool {
        let FileObject::MessageQueue {
            inode,
            ref name,
            unlinked,
            mode,
            max_messages,
            message_size,
            ..
        } = file.object
        else {
            return false;
        };
        // One that was removed has a name again, until all its descriptions are there.
        let path =
            if unlinked { self.b.path(&temporary_name(inode)) } else { self.b.path(&name.0) };
        let flags = u64::from(file.flags & (O_ACCMODE | O_NONBLOCK));
        let fd = self.b.words(&[NONE]);
        let args = [Arg::data(path), Arg::value(flags), Arg::value(0), Arg::value(0)];
        self.b.call(what, nr::MQ_OPEN, &args, Expect::Ignore);
        self.b.keep_result(fd);
        let there = self.b.skip_unless_equal(Arg::load(fd), Arg::value(NONE));
        let mut attributes = [0; ATTRIBUTES];
        (attributes[1], attributes[2]) = (max_messages, message_size);
        let attributes = self.b.words(&attributes);
        self.must("file mode mask", nr::UMASK, [0; 6]);
        let flags = flags | u64::from(O_CREAT | O_EXCL);
        let args = [
            Arg::data(path),
            Arg::value(flags),
            Arg::value(u64::from(mode)),
            Arg::data(attributes),
        ];
        self.b.call(what, nr::MQ_OPEN, &args, Expect::Success);
        self.b.keep_result(fd);
        self.b.step(op::UNDO, what, nr::MQ_UNLINK, &[Arg::data(path)], Expect::Success);
        self.b.land([there]);
        let here = self.b.words(&[0; ATTRIBUTES]);
        let args = [Arg::load(fd), Arg::value(0), Arg::data(here)];
        self.b.call(what, nr::MQ_GETSETATTR, &args, Expect::Success);
        let sizes = [(8, max_messages), (16, message_size)];
        let differs = self.unless(here, &sizes);
        let same = self.b.skip_always();
        self.b.land(differs);
        let told = format!("{what}: one of another size is here, remove it (mq_unlink) or wait");
        self.fail(&told, nr::MKDIR, b"/");
        self.b.land([same]);
        self.move_to(Arg::load(fd), temporary, what);
        true
    }

    /// When all their descriptions are there: removes the names of queues that have none.
    pub(super) fn remove_queue_names(&mut self) {
        let queues: BTreeSet<u64> = self
            .tree
            .files
            .iter()
            .filter_map(|file| match file.object {
                FileObject::MessageQueue { inode, unlinked: true, .. } => Some(inode),
                _ => None,
            })
            .collect();
        for inode in queues {
            let path = self.b.path(&temporary_name(inode));
            self.b.call("message queue", nr::MQ_UNLINK, &[Arg::data(path)], Expect::Success);
        }
    }

    /// The process is told of messages again (mq_notify(3)), by whichever of its descriptors.
    pub(super) fn queue_notices(&mut self) {
        let process = self.process;
        for d in &process.descriptors {
            let Some(file) = self.tree.files.get(d.file as usize) else { continue };
            let FileObject::MessageQueue { ref name, inode, notice: Some(ref notice), .. } =
                file.object
            else {
                continue;
            };
            let earlier = process.descriptors.iter().take_while(|e| e.fd != d.fd).any(|e| {
                matches!(
                    self.tree.files.get(e.file as usize).map(|f| &f.object),
                    Some(FileObject::MessageQueue { inode: other, .. }) if *other == inode
                )
            });
            if notice.process as usize != self.index || earlier {
                continue;
            }
            let mut event = [0; SIGEVENT];
            event[1] = u64::from(notice.signal) | u64::from(notice.notify) << 32;
            let event = self.b.words(&event);
            let what = format!("notification of message queue /{name}");
            let args = [Arg::fd(d.fd), Arg::data(event)];
            self.b.call(&what, nr::MQ_NOTIFY, &args, Expect::Note);
        }
    }
}
