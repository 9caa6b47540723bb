//! System V shared memory (shmget(2)): found again or made, filled, attached.
//!
//! A segment belongs to the machine, so that it may still be there:
//!
//! ```text
//! the id leads to one with the same key, size and shm_ctime?     the same segment
//!     others use it as well: taken as it is; else its contents must be those of the dump
//! another one has the key?      its contents must be those of the dump
//! none                          made anew from the contents that travelled along
//! ```
//!
//! One that was marked for removal is always made anew: the mark came off with the last process.

use super::arch::nr;
use super::builder::{Arg, Skip};
use super::compare::halves;
use super::hugetlb;
use super::sysv::{
    owner_of, DS_KEY, IPC_CREAT, IPC_EXCL, IPC_RMID, IPC_SET, IPC_STAT, OWNER, SEGMENT,
};
use super::ProcessCompiler;
use crate::LinkError;
use image_format::model::{vma, Backing, Mapping, SharedMemory, SharedOrigin, Tree};
use image_format::plan::{op, Expect};

const PROT_WRITE: u32 = 2;
const PROT_EXEC: u32 = 4;
const SHM_LOCK: u64 = 11;
const SHM_RDONLY: u64 = 0o10_000;
const MREMAP_MAYMOVE: u64 = 1;
const MREMAP_FIXED: u64 = 2;
const SHM_EXEC: u64 = 0o100_000;
const SHM_HUGETLB: u64 = 0o4000;
/// struct shmid64_ds (include/uapi/asm-generic/shmbuf.h, ipcbuf.h): 112 bytes.
const DS: usize = 112;
const DS_SIZE: u32 = 48;
const DS_CTIME: u32 = 72;

/// Whether the tree has any attached.
pub(super) fn are_there(tree: &Tree) -> bool {
    tree.shared.iter().any(|m| matches!(m.origin, SharedOrigin::Segment { .. }))
}

impl ProcessCompiler<'_> {
    /// In the first process: finds a segment or makes it. Its id is in a word of data afterwards.
    pub(super) fn segment(&mut self, index: u32, memory: &SharedMemory) {
        let SharedOrigin::Segment { key, id, destroyed, outside, .. } = memory.origin else {
            return;
        };
        let what = SEGMENT.name(key, id);
        let word = self.b.words(&[u64::from(id)]);
        let made = self.b.words(&[0]);
        self.b.segments.insert(index, [word, made]);
        let found =
            if destroyed && !outside { Vec::new() } else { self.find_segment(&what, memory, word) };
        self.make_segment(&what, memory, [word, made]);
        self.b.land(found);
    }

    /// Looks for the segment: what it gives is taken where one was found that will do.
    fn find_segment(&mut self, what: &str, memory: &SharedMemory, word: u32) -> Vec<Skip> {
        let place = self.layout.segment_room;
        let SharedOrigin::Segment { key, id, changed, outside, hash, .. } = memory.origin else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let stat = self.b.data(&[0; DS]);
        let size = halves(memory.size);
        self.control(what, Arg::value(u64::from(id)), IPC_STAT, Arg::data(stat));
        let identity =
            [(DS_KEY, u64::from(key)), (DS_CTIME, halves(changed)[0]), (DS_SIZE, size[0])];
        let another = self.unless(stat, &identity);
        let mut comparable = Vec::new();
        let same = self.b.skip_always();
        if outside {
            found.push(same);
        } else {
            comparable.push(same);
        }
        self.b.land(another);
        let mut differs = Vec::new();
        let missing = if key == 0 {
            self.b.skip_always()
        } else {
            let missing = self.by_key(what, nr::SHMGET, key, word);
            self.control(what, Arg::load(word), IPC_STAT, Arg::data(stat));
            differs = self.unless(stat, &[(DS_SIZE, size[0]), (DS_SIZE + 4, size[1])]);
            missing
        };
        self.b.land(comparable);
        if let Some(hash) = hash {
            let computed = self.b.words(&[0]);
            self.attach_whole(what, word, place, SHM_RDONLY);
            let args = [place, memory.mapped_size(), u64::from(computed), 0, 0, 0];
            self.b.verb(op::HASH, what, args);
            self.must(what, nr::SHMDT, [place, 0, 0, 0, 0, 0]);
            differs.extend(self.unless_word(computed, hash));
            found.push(self.b.skip_always());
        }
        self.b.land(differs);
        found.push(self.changed(what, SEGMENT, key, id));
        self.b.land([missing]);
        found
    }

    /// Makes the segment, under its old id where this user may choose it.
    fn make_segment(&mut self, what: &str, memory: &SharedMemory, [word, made]: [u32; 2]) {
        let place = self.layout.segment_room;
        let SharedOrigin::Segment { key, id, destroyed, embedded, .. } = memory.origin else {
            return;
        };
        let Some(number) = embedded else {
            self.fail(&format!("{what}, which other processes used as well"), nr::OPEN, b"");
            return;
        };
        self.choose_id(what, SEGMENT, id);
        let mut flags = IPC_CREAT | IPC_EXCL | u64::from(memory.mode) | OWNER;
        let key = if destroyed { 0 } else { u64::from(key) };
        if memory.page_shift == 0 {
            self.must(what, nr::SHMGET, [key, memory.size, flags, 0, 0, 0]);
        } else {
            flags |= SHM_HUGETLB | hugetlb::size_flag(memory.page_shift);
            let what = hugetlb::in_need(memory.page_shift, what);
            self.must(&what, nr::SHMGET, [key, memory.size, flags, 0, 0, 0]);
        }
        self.b.keep_result(word);
        let undo = [Arg::load(word), Arg::value(IPC_RMID), Arg::value(0)];
        self.b.step(op::UNDO, what, nr::SHMCTL, &undo, Expect::Success);
        self.b.verb(op::STORE, what, [u64::from(made), 1, 0, 0, 0, 0]);
        self.attach_whole(what, word, place, 0);
        for piece in self.map.embedded.get(&number).map_or(&[][..], Vec::as_slice) {
            self.read_piece(what, place, piece);
        }
        self.must(what, nr::SHMDT, [place, 0, 0, 0, 0, 0]);
        if !destroyed {
            self.tell_id(what, word, id);
        }
    }

    /// In the first process, when every process has attached what it had: owner and mode, which may
    /// forbid that, and the mark of removal.
    pub(super) fn settle_segments(&mut self) {
        let tree = self.tree;
        for (index, memory) in tree.shared.iter().enumerate() {
            let SharedOrigin::Segment { key, id, owner, destroyed, locked, .. } = memory.origin
            else {
                continue;
            };
            let Some(&[word, made]) = self.b.segments.get(&(index as u32)) else { continue };
            let what = SEGMENT.name(key, id);
            let found = self.b.skip_if_equal(Arg::load(made), Arg::value(0));
            let ds = owner_of(owner, memory.mode, DS);
            let ds = self.b.data(&ds);
            self.control(&format!("owner of {what}"), Arg::load(word), IPC_SET, Arg::data(ds));
            if locked {
                let args = [Arg::load(word), Arg::value(SHM_LOCK), Arg::value(0)];
                self.b.call(&format!("lock of {what}"), nr::SHMCTL, &args, Expect::Note);
            }
            if destroyed {
                self.control(&what, Arg::load(word), IPC_RMID, Arg::value(0));
            }
            self.b.land([found]);
        }
    }

    /// Attaches a segment where the process had it, less what it has unmapped since.
    pub(super) fn attach(
        &mut self,
        m: &Mapping,
        shared: u32,
        offset: u64,
    ) -> Result<(), LinkError> {
        let bad = LinkError::Model { pid: self.process.pid, what: "a segment's mapping" };
        let base = m.start.checked_sub(offset).ok_or(bad)?;
        let size = self.shared_at(shared)?.mapped_size();
        let process = self.process;
        let is_part = |other: &&Mapping| match other.backing {
            Backing::Shared { shared: s, offset } => {
                s == shared && other.start.checked_sub(offset) == Some(base)
            }
            _ => false,
        };
        let parts: Vec<&Mapping> = process.memory.mappings.iter().filter(is_part).collect();
        if parts.first().is_none_or(|first| first.start != m.start) {
            return Ok(());
        }
        let bad = LinkError::Model { pid: self.process.pid, what: "a segment that is not there" };
        let &[word, _] = self.b.segments.get(&shared).ok_or(bad)?;
        let what = format!("System V shared memory at {base:x}");
        let (mut flags, mut prot) = (0, 1 | PROT_WRITE);
        if parts.iter().any(|part| part.flags & vma::SHARED_READONLY != 0) {
            flags |= SHM_RDONLY;
            prot &= !PROT_WRITE;
        }
        if parts.iter().any(|part| part.prot & PROT_EXEC != 0) {
            flags |= SHM_EXEC;
            prot |= PROT_EXEC;
        }
        if m.start == base && m.end - m.start == size {
            self.attach_whole(&what, word, base, flags);
        } else {
            // The rest may be other memory by now.
            let room = self.layout.segment_room;
            self.attach_whole(&what, word, room, flags);
            for part in &parts {
                let (len, from) = (part.end - part.start, part.start - base + room);
                let args = [from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, part.start, 0];
                self.b.syscall(&what, nr::MREMAP, args, Expect::Success);
            }
            self.must(&what, nr::MUNMAP, [room, size, 0, 0, 0, 0]);
        }
        for part in parts.iter().filter(|part| part.prot != prot) {
            let args = [part.start, part.end - part.start, u64::from(part.prot), 0, 0, 0];
            self.must(&what, nr::MPROTECT, args);
        }
        Ok(())
    }

    /// shmat(2) at an address that nothing takes yet.
    fn attach_whole(&mut self, what: &str, word: u32, at: u64, flags: u64) {
        let args = [Arg::load(word), Arg::value(at), Arg::value(flags)];
        self.b.call(what, nr::SHMAT, &args, Expect::Success);
    }

    fn control(&mut self, what: &str, id: Arg, command: u64, buffer: Arg) {
        self.b.call(what, nr::SHMCTL, &[id, Arg::value(command), buffer], Expect::Ignore);
    }
}
