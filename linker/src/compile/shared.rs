//! Memory that is shared or open as a file: made once, before anything is mapped.

use super::arch::nr;
use super::builder::Arg;
use super::descriptors::{Uses, F_SETFL, ONCE, O_ACCMODE, O_APPEND, O_NONBLOCK, O_RDWR};
use super::hugetlb;
use super::memory::{MAP_FIXED, MAP_NORESERVE};
use super::ProcessCompiler;
use crate::LinkError;
use image_format::model::{vma, FileObject, Mapping, SharedMemory, SharedOrigin, Tree};
use image_format::plan::{op, Expect};

const MFD_ALLOW_SEALING: u64 = 2;
const MFD_HUGETLB: u64 = 4;
pub(super) const MAP_SHARED: u64 = 1;
/// F_SEAL_WRITE and F_SEAL_FUTURE_WRITE.
const WRITE_SEALS: u32 = 8 | 16;
const F_ADD_SEALS: u64 = 1033;
/// Permission bits that memfd_create(2) gives.
const MEMFD_MODE: u32 = 0o777;

/// Whether some memory has seals.
pub(super) fn is_sealed(tree: &Tree) -> bool {
    let sealed =
        |m: &SharedMemory| matches!(m.origin, SharedOrigin::Memory { seals, .. } if seals != 0);
    tree.shared.iter().any(sealed)
}

impl ProcessCompiler<'_> {
    /// Number under which memory is open while the plan runs.
    fn shared_fd(&self, index: u32) -> u32 {
        self.first_temporary + super::TEMPORARIES + index
    }

    pub(super) fn shared_at(&self, index: u32) -> Result<&SharedMemory, LinkError> {
        let bad = LinkError::Model { pid: self.process.pid, what: "shared memory" };
        self.tree.shared.get(index as usize).ok_or(bad)
    }

    /// Makes all shared memory, with its contents.
    pub(super) fn shared_memory(&mut self) {
        let tree = self.tree;
        for (index, memory) in tree.shared.iter().enumerate() {
            let fd = self.shared_fd(index as u32);
            let (name, embedded) = match &memory.origin {
                SharedOrigin::Memory { name, embedded, .. } => (name, embedded),
                SharedOrigin::File { path, contents } => {
                    let what = format!("shared file {path}");
                    let plan = self.regular(&path.0, O_RDWR, 0, memory.size, memory.mode, contents);
                    self.open_file(plan, fd, u32::MAX, &what);
                    continue;
                }
                SharedOrigin::Segment { .. } => {
                    self.segment(index as u32, memory);
                    continue;
                }
            };
            let what = format!("shared memory {name}");
            let name = self.b.path(&name.0);
            let pages = match memory.page_shift {
                0 => 0,
                shift => MFD_HUGETLB | hugetlb::size_flag(shift),
            };
            let args = [Arg::data(name), Arg::value(MFD_ALLOW_SEALING | pages)];
            let made = self.make(&what, nr::MEMFD_CREATE, &args);
            self.move_to(Arg::load(made), fd, &what);
            self.belongs_to_user(fd, &what);
            if memory.mode != MEMFD_MODE {
                let args = [u64::from(fd), u64::from(memory.mode), 0, 0, 0, 0];
                self.must(&what, nr::FCHMOD, args);
            }
            if memory.page_shift != 0 {
                self.fill_hugetlb(&what, fd, memory, *embedded);
                continue;
            }
            let args = [u64::from(fd), u64::from(*embedded), memory.size, 0, 0, 0];
            self.b.verb(op::WRITE_EMBEDDED, &what, args);
        }
    }

    /// Maps shared memory.
    pub(super) fn map_shared(
        &mut self,
        m: &Mapping,
        shared: u32,
        offset: u64,
    ) -> Result<(), LinkError> {
        let sealed = match &self.shared_at(shared)?.origin {
            SharedOrigin::Memory { seals, .. } => seals & WRITE_SEALS != 0,
            SharedOrigin::File { .. } => false,
            SharedOrigin::Segment { .. } => return self.attach(m, shared, offset),
        };
        let (held, temporary) = (self.shared_fd(shared), self.first_temporary);
        let what = match self.shared_at(shared)?.page_shift {
            0 => format!("shared memory {:x}-{:x}", m.start, m.end),
            shift => hugetlb::in_need(shift, &format!("{:x}-{:x}", m.start, m.end)),
        };
        let noreserve = if m.flags & vma::NORESERVE != 0 { MAP_NORESERVE } else { 0 };
        let flags = MAP_SHARED | MAP_FIXED | noreserve;
        let prot = u64::from(m.prot);
        let map = |fd: u32| [m.start, m.end - m.start, prot, flags, u64::from(fd), offset];
        if sealed && m.flags & vma::SHARED_READONLY != 0 {
            // A mapping that could become writable keeps the kernel from sealing.
            let path = self.b.path(format!("/proc/self/fd/{held}").as_bytes());
            let made = self.make(&what, nr::OPEN, &[Arg::data(path), Arg::value(0), Arg::value(0)]);
            self.move_to(Arg::load(made), temporary, &what);
            self.b.syscall(&what, nr::MMAP, map(temporary), Expect::Place);
            self.must(&what, nr::CLOSE, [u64::from(temporary), 0, 0, 0, 0, 0]);
        } else {
            self.b.syscall(&what, nr::MMAP, map(held), Expect::Place);
        }
        Ok(())
    }

    /// Seals come after every mapping: some of them forbid to make writable ones.
    pub(super) fn memory_seals(&mut self) {
        let tree = self.tree;
        for (index, memory) in tree.shared.iter().enumerate() {
            let fd = u64::from(self.shared_fd(index as u32));
            let SharedOrigin::Memory { name, seals, .. } = &memory.origin else { continue };
            if *seals != 0 {
                let what = format!("seals of shared memory {name}");
                self.must(&what, nr::FCNTL, [fd, F_ADD_SEALS, u64::from(*seals), 0, 0, 0]);
            }
        }
    }

    /// The open file descriptions of shared memory.
    pub(super) fn shared_files(
        &mut self,
        shared: u32,
        files: &[u32],
        uses: &Uses,
    ) -> Result<(), LinkError> {
        self.shared_at(shared)?;
        let (held, temporary) = (self.shared_fd(shared), self.first_temporary);
        let mut first_taken = false;
        for &index in files {
            let file = self.file_at(index)?;
            if !matches!(file.object, FileObject::Shared { .. }) {
                continue;
            }
            let what = format!("shared memory {shared}");
            let writes = file.flags & O_ACCMODE == O_RDWR;
            if writes && !first_taken {
                first_taken = true;
                let args = [Arg::fd(held), Arg::fd(temporary), Arg::value(0)];
                self.b.call(&what, nr::DUP3, &args, Expect::Success);
                let flags = u64::from(file.flags & (O_NONBLOCK | O_APPEND));
                if flags != 0 {
                    self.must(&what, nr::FCNTL, [u64::from(temporary), F_SETFL, flags, 0, 0, 0]);
                }
            } else {
                // A further description exists only by way of /proc/PID/fd.
                let path = self.b.path(format!("/proc/self/fd/{held}").as_bytes());
                let flags = u64::from(file.flags & !ONCE);
                let args = [Arg::data(path), Arg::value(flags), Arg::value(0)];
                let made = self.make(&what, nr::OPEN, &args);
                self.move_to(Arg::load(made), temporary, &what);
            }
            if file.offset != 0 {
                self.must(&what, nr::LSEEK, [u64::from(temporary), file.offset, 0, 0, 0, 0]);
            }
            self.place(temporary, &uses[&index], &file);
        }
        Ok(())
    }

    /// Number under which an open file description is held for several processes.
    pub(super) fn object_fd(&self, file: u32) -> u32 {
        self.places.end() + file
    }

    /// Lets go of the numbers that were held.
    pub(super) fn release_held(&mut self) {
        let (first, end) = (self.shared_fd(0), self.object_fd(super::held(self.tree)));
        if first < end {
            let args = [u64::from(first), u64::from(end - 1), 0, 0, 0, 0];
            self.must("descriptors held meanwhile", nr::CLOSE_RANGE, args);
        }
    }
}
