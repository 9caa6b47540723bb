//! Regular files: the one at the path if it is what it was, the embedded one if there is none,
//! an error with a choice if it changed.

use crate::chain::Chunk;
use crate::hash::hash_data;
use crate::image::Image;
use crate::options::OnChanged;
use crate::planfile::Plan;
use crate::process::Setup;
use crate::report::{Advice, Fault, Outcome};
use crate::steps::{advice, Steps};
use crate::sys::{self, nr, Errno};
use crate::window::Window;
use crate::{say, text, verify};
use alloc::boxed::Box;
use alloc::ffi::CString;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ffi::CStr;
use image_format::container::{kind, HASH_BLOCK, SAMPLES, SAMPLE_SIZE};
use image_format::plan::{file_flag, hash_kind, FilePlan, NeedPlan, Step};

const O_ACCMODE: usize = 3;
const O_CREAT: usize = 0o100;
const O_EXCL: usize = 0o200;
const O_NONBLOCK: usize = 0o4000;
const O_TMPFILE: usize = 0o20_200_000;
const F_SETFD: usize = 2;
const F_SETFL: usize = 4;
const FCHMOD: usize = 91;
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
const MFD_CLOEXEC: usize = 1;
const NONE: u32 = u32::MAX;

/// System calls that take away again what was made outside, should the resume fail: numbers and
/// arguments. Paths in them lie in the plan, which stays.
#[derive(Debug, Default)]
pub struct Created(RefCell<Vec<[usize; 4]>>);

// SAFETY: files are opened, and so noted, by the first thread alone, before others start; any
// thread that fails ends the process after `undo`.
unsafe impl Sync for Created {}

impl Created {
    /// Notes how to undo what is about to be made, or was.
    #[inline(never)]
    pub fn note(&self, call: [usize; 4]) {
        self.0.borrow_mut().push(call);
    }

    /// The same for a file with a name.
    pub fn note_file(&self, path: &CStr) {
        self.note([nr::UNLINK, path.as_ptr() as usize, 0, 0]);
    }

    /// Removes what was made.
    pub fn undo(&self) {
        for [nr, args @ ..] in self.0.borrow().iter() {
            // SAFETY: the kernel reads a path, at most.
            let _ = unsafe { sys::call(*nr, args) };
        }
    }
}

/// How the file at the path stands to the one at the dump.
enum Found {
    Same,
    Missing,
    Changed,
}

struct Opening<'a> {
    setup: &'a Setup<'a>,
    plan: FilePlan,
    path: &'a CStr,
}

/// Looks whether a resume would find what it needs, for `--check`.
pub fn look(setup: &Setup<'_>, need: &NeedPlan) -> Outcome<()> {
    if setup.outside.redirected.iter().any(|(fd, _)| *fd == need.fd) {
        return Ok(());
    }
    if need.file_off != 0 {
        let plan: FilePlan = setup.plan.record(need.file_off.into())?;
        let path = setup.plan.path(plan.path_off.into())?;
        return Opening { setup, plan, path }.look().map(|_| ());
    }
    let path = setup.plan.path(need.path_off.into())?;
    if need.stdio != u32::MAX {
        let closed = setup.outside.closed.get(need.stdio as usize);
        return match closed {
            Some(true) => Err(Fault::sys("closed", path.to_bytes(), Errno::EBADF, Advice::OpenIt)),
            _ => Ok(()),
        };
    }
    // SAFETY: the kernel reads the path.
    let may = unsafe { sys::call(nr::ACCESS, &[path.as_ptr() as usize, need.mode as usize]) };
    may.map(|_| ()).map_err(|e| Fault::sys("cannot open", path.to_bytes(), e, advice(e)))
}

/// Executes an `OPEN_FILE` step.
pub fn open(setup: &Setup<'_>, steps: &Steps<'_>, step: &Step) -> Outcome<()> {
    let plan: FilePlan = steps.plan.record(step.args[0])?;
    let path = steps.plan.path(u64::from(plan.path_off))?;
    let opening = Opening { setup, plan, path };
    let fd = opening.descriptor(steps)?;
    let (to, flags) = (step.args[1] as usize, step.args[2] as usize);
    let placed = sys::plain(nr::LSEEK, &[fd as usize, plan.offset as usize, 0]);
    let placed = if fd as usize == to {
        // It was the lowest free number; duplicating it to itself would be an error.
        let flag = usize::from(flags & sys::O_CLOEXEC != 0);
        placed.and_then(|_| sys::plain(nr::FCNTL, &[to, F_SETFD, flag]))
    } else {
        let placed = placed.and_then(|_| sys::plain(nr::DUP3, &[fd as usize, to, flags]));
        sys::close(fd);
        placed
    };
    placed.map_err(|e| steps.fault(step, e))?;
    Ok(())
}

/// Executes a `WRITE_EMBEDDED` step.
pub fn write_embedded(setup: &Setup<'_>, plan: &Plan, step: &Step) -> Outcome<()> {
    let [fd, embedded, size, ..] = step.args;
    let file = FilePlan { embedded: embedded as u32, size, ..FilePlan::default() };
    let path = plan.path(u64::from(step.object))?;
    Opening { setup, plan: file, path }.write(fd as i32)
}

impl Opening<'_> {
    fn name(&self) -> &[u8] {
        self.path.to_bytes()
    }

    fn fault(&self, what: &'static str, errno: Errno, advice: Advice) -> Box<Fault> {
        Fault::sys(what, self.name(), errno, advice)
    }

    fn descriptor(&self, steps: &Steps<'_>) -> Outcome<i32> {
        if self.plan.file_flags & file_flag::UNLINKED != 0 {
            return self.unnamed();
        }
        match self.look()? {
            Found::Same => self.by_path(),
            Found::Missing => match self.create(steps) {
                Ok(()) => self.by_path(),
                Err(_) => {
                    say!("note: ", self.name(), " comes back without a name");
                    self.unnamed()
                }
            },
            Found::Changed => {
                let accepted = self.choice() == OnChanged::Accept;
                let old = if accepted { "" } else { "; the program goes on with the old contents" };
                say!("note: ", self.name(), " changed since the dump", old);
                if accepted {
                    self.by_path()
                } else {
                    self.unnamed()
                }
            }
        }
    }

    /// How the file is found, where the program can go on with it.
    fn look(&self) -> Outcome<Found> {
        let (found, size) = self.find()?;
        let embedded = self.plan.embedded != NONE;
        match (&found, self.choice()) {
            (Found::Missing, _) if !embedded => Err(Fault::new(
                "an open file is missing and did not travel along",
                self.name(),
                Advice::BringFile,
            )),
            (Found::Changed, OnChanged::AsDumped | OnChanged::Refuse) => Err(Fault::new(
                "an open file changed since the dump",
                text!(self.name(), " (", self.plan.size, " bytes then, ", size, " now)"),
                if embedded { Advice::OldFile } else { Advice::OldFileAlone },
            )),
            (Found::Changed, OnChanged::Embed) if !embedded => Err(Fault::new(
                "an open file changed since the dump and did not travel along",
                self.name(),
                Advice::OldFileAlone,
            )),
            _ => Ok(found),
        }
    }

    fn choice(&self) -> OnChanged {
        match self.setup.options.on_changed {
            OnChanged::AsDumped if self.plan.file_flags & file_flag::ACCEPT != 0 => {
                OnChanged::Accept
            }
            OnChanged::AsDumped if self.plan.file_flags & file_flag::EMBED != 0 => OnChanged::Embed,
            choice => choice,
        }
    }

    fn by_path(&self) -> Outcome<i32> {
        let flags = self.plan.flags as usize | sys::O_CLOEXEC | sys::O_NOCTTY;
        sys::openat(sys::AT_FDCWD, self.path, flags, 0)
            .map_err(|e| self.fault("cannot open", e, Advice::GiveRight))
    }

    /// And its size.
    fn find(&self) -> Outcome<(Found, u64)> {
        let flags = sys::O_CLOEXEC | sys::O_NOCTTY | O_NONBLOCK;
        let (fd, readable) = match sys::openat(sys::AT_FDCWD, self.path, flags, 0) {
            Ok(fd) => (fd, true),
            // ENOENT, ENOTDIR.
            Err(Errno(2 | 20)) => return Ok((Found::Missing, 0)),
            // A file that the program may only write to: its size must do.
            Err(_) => (self.by_path()?, false),
        };
        let found = self.compare(fd, readable);
        sys::close(fd);
        found
    }

    fn compare(&self, fd: i32, readable: bool) -> Outcome<(Found, u64)> {
        let failed = |e| self.fault("cannot examine a file", e, Advice::None);
        let stat = sys::fstat(fd).map_err(failed)?;
        if stat.mode & S_IFMT != S_IFREG || stat.size != self.plan.size {
            return Ok((Found::Changed, stat.size));
        }
        if !readable || self.plan.hash_kind == hash_kind::NONE {
            return Ok((Found::Same, stat.size));
        }
        let hash = hash_file(fd, &self.plan, self.setup.window)?.map_err(failed)?;
        let found = if hash == self.plan.hash { Found::Same } else { Found::Changed };
        Ok((found, stat.size))
    }

    /// Makes the file at its path, with the embedded contents.
    fn create(&self, steps: &Steps<'_>) -> Outcome<()> {
        let flags = O_CREAT | O_EXCL | sys::O_RDWR | sys::O_CLOEXEC;
        let mode = self.plan.mode as usize & 0o7777;
        let fd = sys::openat(sys::AT_FDCWD, self.path, flags, mode & 0o777)
            .map_err(|e| self.fault("cannot make a file", e, Advice::None))?;
        steps.created.note_file(self.path);
        let _ = sys::plain(FCHMOD, &[fd as usize, mode]);
        let written = self.write(fd);
        sys::close(fd);
        written
    }

    /// A file without a name and with the embedded contents.
    fn unnamed(&self) -> Outcome<i32> {
        let flags = O_TMPFILE | sys::O_RDWR | sys::O_CLOEXEC;
        let directory = self.path.to_bytes();
        let end = directory.iter().rposition(|b| *b == b'/').unwrap_or(0).max(1);
        let directory = CString::new(&directory[..end.min(directory.len())]).unwrap_or_default();
        let made = [directory.as_c_str(), c"/tmp", c"/var/tmp"]
            .into_iter()
            .find_map(|d| sys::openat(sys::AT_FDCWD, d, flags, 0o600).ok());
        let fd = match made {
            Some(fd) => fd,
            None => {
                let args = [c"unlinked".as_ptr() as usize, MFD_CLOEXEC];
                // SAFETY: the kernel reads the name.
                let made = unsafe { sys::call(nr::MEMFD_CREATE, &args) };
                made.map_err(|e| self.fault("cannot make a file", e, Advice::FreeMemory))? as i32
            }
        };
        let _ = sys::plain(FCHMOD, &[fd as usize, self.plan.mode as usize & 0o7777]);
        self.write(fd)?;
        // The access mode belongs to the description: a new one, by way of /proc.
        let own = CString::new(text!("/proc/self/fd/", fd as u32)).unwrap_or_default();
        let flags = self.plan.flags as usize & !(O_TMPFILE & !0o200_000);
        match sys::openat(sys::AT_FDCWD, &own, flags | sys::O_CLOEXEC, 0) {
            Ok(new) => {
                sys::close(fd);
                Ok(new)
            }
            Err(_) => {
                let _ = sys::plain(nr::FCNTL, &[fd as usize, F_SETFL, flags & !O_ACCMODE]);
                Ok(fd)
            }
        }
    }

    fn write(&self, fd: i32) -> Outcome<()> {
        let image: &Image = self.setup.image;
        let mine = |c: &&Chunk| c.header.kind == kind::FILE && c.header.owner == self.plan.embedded;
        for chunk in image.chain.chunks.iter().filter(mine) {
            if !chunk.data_is_good(image.bytes) {
                return Err(verify::damaged(chunk));
            }
            let (_, data) = chunk.parts(image.bytes);
            pwrite_all(fd, data, chunk.header.offset)
                .map_err(|e| self.fault("cannot write a file", e, Advice::MakeRoom))?;
        }
        sys::plain(nr::FTRUNCATE, &[fd as usize, self.plan.size as usize])
            .map_err(|e| self.fault("cannot write a file", e, Advice::MakeRoom))?;
        Ok(())
    }
}

fn pwrite_all(fd: i32, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let args = [fd as usize, bytes.as_ptr() as usize, bytes.len(), offset as usize];
        // SAFETY: the kernel reads `bytes`.
        match unsafe { sys::call(nr::PWRITE64, &args) } {
            Ok(0) => return Err(Errno::EIO),
            Ok(n) => {
                bytes = &bytes[n.min(bytes.len())..];
                offset += n as u64;
            }
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads `out.len()` bytes at `offset`; fewer only at the end of the file.
fn pread_full(fd: i32, out: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut done = 0;
    while done < out.len() {
        match sys::pread(fd, &mut out[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

fn hash_file(fd: i32, plan: &FilePlan, window: &Window) -> Outcome<Result<u64, Errno>> {
    let memory = window.memory(HASH_BLOCK as u64, "reading a file")?;
    // SAFETY: just mapped with this length, for good.
    let buffer = unsafe { core::slice::from_raw_parts_mut(memory, HASH_BLOCK) };
    let mut hash = 0;
    let mut block = |offset: u64, len: usize| -> Result<(), Errno> {
        let n = pread_full(fd, &mut buffer[..len], offset)?;
        hash = hash_data(&buffer[..n], hash);
        Ok(())
    };
    let result = if plan.hash_kind == hash_kind::SAMPLED {
        let step = plan.size.saturating_sub(SAMPLE_SIZE) / (SAMPLES - 1);
        (0..SAMPLES).try_for_each(|i| block(step * i, SAMPLE_SIZE as usize))
    } else {
        (0..plan.size)
            .step_by(HASH_BLOCK)
            .try_for_each(|at| block(at, (plan.size - at).min(HASH_BLOCK as u64) as usize))
    };
    Ok(result.map(|()| hash))
}
