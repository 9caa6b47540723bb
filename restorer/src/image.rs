//! The image: found, opened, mapped, its heads verified.

use crate::chain::{self, Chain, Chunk};
use crate::hash::hash_without_word;
use crate::planfile::Plan;
use crate::report::{Advice, Fault, Outcome};
use crate::sys::{self, mm, nr, Errno};
use crate::text::{number, text, Piece};
use crate::verbose;
use crate::window::Window;
use alloc::boxed::Box;
use core::ffi::CStr;
use image_format::container::{kind, ContainerError, Front, Word, FRONT_OFFSET};

/// The file we run from.
#[derive(Debug)]
pub struct Image {
    /// Its descriptor.
    pub fd: i32,
    /// All its bytes.
    pub bytes: &'static [u8],
    /// The chunks.
    pub chain: Chain,
}

const BLKGETSIZE64: usize = 0x8008_1272;
const S_IFMT: u32 = 0o170_000;
const S_IFBLK: u32 = 0o060_000;

/// The fault of an image that cannot be read.
pub fn damaged(error: ContainerError) -> Box<Fault> {
    let words = error.words().map(|word| match word {
        Word::Text(text) => Piece::from(text),
        Word::Number(number) => Piece::Number(number),
    });
    Fault::new("cannot resume", text(&words), Advice::GoodCopy)
}

/// The descriptor that a path like `/dev/fd/3` names: the kernel calls a program so that was
/// started by descriptor (execveat(2)).
fn named_descriptor(path: &CStr) -> Option<i32> {
    let path = path.to_bytes();
    let rest = path.strip_prefix(b"/dev/fd/").or(path.strip_prefix(b"/proc/self/fd/"))?;
    number(rest).and_then(|fd| i32::try_from(fd).ok())
}

fn is_this(fd: i32, front: &[u8]) -> bool {
    let mut found = [0u8; Front::SIZE];
    sys::pread(fd, &mut found, FRONT_OFFSET as u64) == Ok(Front::SIZE) && found == front[..]
}

/// Opens the file that the kernel started; `name` is what execve(2) was given. `front` are the
/// bytes of the header in memory, by which the file is recognised.
pub fn open(name: Option<&CStr>, front: &[u8]) -> Outcome<i32> {
    let mut error = Errno::ENOENT;
    if let Some(fd) = name.and_then(named_descriptor) {
        if is_this(fd, front) {
            return Ok(fd);
        }
    }
    for path in [name, Some(c"/proc/self/exe")].into_iter().flatten() {
        match sys::openat(sys::AT_FDCWD, path, sys::O_CLOEXEC | sys::O_NOCTTY, 0) {
            Ok(fd) if is_this(fd, front) => return Ok(fd),
            Ok(fd) => sys::close(fd),
            Err(e) => error = e,
        }
    }
    Err(Fault::sys(
        "cannot open the image",
        name.map_or(&[][..], CStr::to_bytes),
        error,
        Advice::StartByPath,
    ))
}

/// Starts the program that was dumped, from where it was; `path` is ended by a zero byte. Comes back
/// with why not.
pub fn start_program(path: &[u8], [argv, envp]: [usize; 2]) -> Box<Fault> {
    // SAFETY: the kernel reads the path, and the vectors that it made itself.
    let done = unsafe { sys::call(nr::EXECVEAT, &[0, path.as_ptr() as usize, argv, envp, 0]) };
    Fault::sys("cannot start", path, done.err().unwrap_or_default(), Advice::None)
}

/// For `--copy-all`: the same command from a copy of the image in memory, so that nothing keeps the
/// medium busy, this process' /proc/PID/exe included. Comes back at once from such a copy: of all
/// files only it can be sealed and is not (memfd_create(2)).
pub fn start_over_in_memory(fd: i32, [argv, envp]: [usize; 2]) -> Outcome<()> {
    const F_DUPFD: usize = 0;
    const F_GET_SEALS: usize = 1034;
    const MFD_ALLOW_SEALING: usize = 2;
    const MFD_EXEC: usize = 16;
    const AT_EMPTY_PATH: usize = 0x1000;
    const MOST: usize = 1 << 30;
    if sys::plain(nr::FCNTL, &[fd as usize, F_GET_SEALS]) == Ok(0) {
        return Ok(());
    }
    let name = c"resume.elf".as_ptr() as usize;
    // SAFETY: the kernel reads the name.
    let make = |flags| unsafe { sys::call(nr::MEMFD_CREATE, &[name, flags]) };
    let moved = || {
        // Kernels before 6.3 do not know MFD_EXEC, and need it only where vm.memfd_noexec asks for it.
        let made = make(MFD_ALLOW_SEALING | MFD_EXEC).or_else(|_| make(MFD_ALLOW_SEALING))?;
        // Not in the place of a closed one of the command's.
        let memory = sys::plain(nr::FCNTL, &[made, F_DUPFD, 3])?;
        sys::close(made as i32);
        let mut offset = 0u64;
        // SAFETY: the kernel reads and writes the offset.
        while unsafe {
            sys::call(nr::SENDFILE, &[memory, fd as usize, &raw mut offset as usize, MOST])
        }? != 0
        {}
        let args = [memory, c"".as_ptr() as usize, argv, envp, AT_EMPTY_PATH];
        // SAFETY: the kernel reads the vectors that it made itself.
        unsafe { sys::call(nr::EXECVEAT, &args) }
    };
    let error = |e| Fault::sys("cannot copy the image into memory", "", e, Advice::FreeMemory);
    moved().map(|_| ()).map_err(error)
}

impl Image {
    /// Gives the memory of such a copy back, but for what is still in use.
    pub fn give_back(&self, fd: i32) {
        const PUNCH_HOLE_KEEP_SIZE: usize = 3;
        // The model tells the next dump what the program was before it came from an image.
        let is_done = |c: &&Chunk| !matches!(c.header.kind, kind::PLAN | kind::MODEL);
        for chunk in self.chain.chunks.iter().filter(is_done) {
            let data = chunk.at as usize + chunk.header.data_start as usize;
            let args = [fd as usize, PUNCH_HOLE_KEEP_SIZE, data, chunk.header.data_len as usize];
            let _ = sys::plain(nr::FALLOCATE, &args);
        }
    }

    /// Maps the file and verifies header, blob and the head of every chunk.
    pub fn map(fd: i32, front: &Front, window: &Window) -> Outcome<Self> {
        let len = size(fd)?;
        if len < front.blob_end {
            return Err(damaged(ContainerError::Truncated { offset: len }));
        }
        let at = window
            .map(len, 4096, mm::READ, mm::PRIVATE, fd, 0)
            .map_err(|e| Fault::sys("cannot map the image", "", e, Advice::OtherMedium))?;
        // SAFETY: mapped over its whole length just now, for good.
        let bytes = unsafe { core::slice::from_raw_parts(at.cast_const(), len as usize) };
        if hash_without_word(&bytes[..front.blob_end as usize], Front::HASH_OFFSET) != front.hash {
            return Err(damaged(ContainerError::Damaged { offset: 0, what: "image header" }));
        }
        let chain = chain::walk(bytes, front.blob_end).map_err(damaged)?;
        Ok(Self { fd, bytes, chain })
    }

    /// The plan, verified, in writable memory.
    pub fn plan(&self, window: &Window) -> Outcome<Plan> {
        let chunk = self.chain.chunks.iter().find(|c| c.header.kind == kind::PLAN);
        let chunk = chunk.ok_or_else(|| {
            damaged(ContainerError::Damaged { offset: self.chain.len, what: "no plan" })
        })?;
        if !chunk.data_is_good(self.bytes) {
            return Err(damaged(chunk.damaged()));
        }
        let len = chunk.header.raw_len;
        // A private writable mapping: pages that steps write to are copied, no others.
        let offset = chunk.at + u64::from(chunk.header.data_start);
        let base = window
            .map(len, 4096, mm::READ | mm::WRITE, mm::PRIVATE, self.fd, offset)
            .map_err(|e| Fault::sys("cannot map the image", "", e, Advice::FreeMemory))?;
        // SAFETY: mapped for good, writable.
        unsafe { Plan::new(base, len as usize) }
    }

    /// Verifies the data of every chunk, for `--check`.
    pub fn verify(&self, options: &crate::options::Options) -> Outcome<()> {
        for chunk in &self.chain.chunks {
            if !chunk.data_is_good(self.bytes) {
                return Err(damaged(chunk.damaged()));
            }
        }
        verbose!(options, self.chain.chunks.len() as u64, " chunks verified");
        Ok(())
    }
}

fn size(fd: i32) -> Outcome<u64> {
    let stat = sys::fstat(fd)
        .map_err(|e| Fault::sys("cannot examine the image", "", e, Advice::GoodCopy))?;
    if stat.mode & S_IFMT != S_IFBLK {
        return Ok(stat.size);
    }
    let mut len = 0u64;
    // SAFETY: the call writes eight bytes into `len`.
    unsafe { sys::call(nr::IOCTL, &[fd as usize, BLKGETSIZE64, &raw mut len as usize]) }
        .map_err(|e| Fault::sys("cannot examine the image", "its device", e, Advice::GoodCopy))?;
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_descriptors() {
        assert_eq!(named_descriptor(c"/dev/fd/7"), Some(7));
        assert_eq!(named_descriptor(c"/proc/self/fd/12"), Some(12));
        assert_eq!(named_descriptor(c"/dev/fd/x"), None);
        assert_eq!(named_descriptor(c"./resume.elf"), None);
    }
}
