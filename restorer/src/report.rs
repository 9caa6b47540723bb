//! Messages on standard error, and the error that ends a resume.

use crate::sys::{write_all, Errno};
use crate::text;
use crate::text::{each, Piece};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, Ordering};

/// Why the resume failed: one line for the user.
#[derive(Debug)]
pub struct Fault {
    /// What happened.
    pub what: &'static str,
    /// To which object.
    pub object: Vec<u8>,
    /// Error of the kernel; 0 if it was none.
    pub errno: Errno,
    /// What to do.
    pub advice: Advice,
}

/// Result of everything that can end a resume.
pub type Outcome<T> = Result<T, Box<Fault>>;

/// What to do; one number where a text would be two arguments in each of the many calls.
macro_rules! advice {
    ($($name:ident $text:literal,)+) => {
        /// What to do about a [`Fault`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Advice { $($name),+ }

        /// The texts, in order: a table of pointers would be larger and would need relocation.
        const ADVICE: &[u8] = concat!($($text, "\n"),+).as_bytes();
    };
}

advice! {
    None "",
    AsRoot "; try as root",
    BringFile "; bring it here, or dump with a larger --embed-files",
    BringIt "; bring it here, then resume again",
    CheckpointRestore "; use a kernel with CHECKPOINT_RESTORE",
    DumpAgain "; dump the program again, or resume it on a machine like its own",
    EndOther "; end the other process, or leave --same-pid out",
    FreeAddress "; end the program that uses this address, then resume again",
    FreeMemory "; free memory, then resume again",
    GiveRight "; give the right to it",
    GoodCopy "; get a good copy of the file",
    Help "; --help lists them",
    LikeSource "; resume on a processor like the source's",
    MakeRoom "; make room",
    MoreRights "; more rights are needed: try as root",
    NewPid "; use --new-pid",
    NewPidOrRoot "; use --new-pid, or resume as root",
    NewerKernel "; a newer kernel is needed",
    NoNewPid "; leave --new-pid out",
    OldFile "; bring the old one back, or choose --on-changed accept or embed",
    OldFileAlone "; bring the old one back, or choose --on-changed accept",
    OpenIt "; open it for this command, or give --stdin, --stdout or --stderr",
    OriginalPid "; resume with the original process id",
    OtherMedium "; copy it to another medium, or free memory",
    OtherProcessor "; resume on a processor that has them, or try --force",
    RaiseFiles "; raise the limit (ulimit -n)",
    RaiseProcesses "; raise the limit of processes",
    Report "; report this",
    ReportKernel "; report this kernel",
    RootOrAnyPid "; resume as root, or leave --same-pid out",
    StartByPath "; start it by its path, or make it readable",
}

impl Fault {
    /// A fault without error number.
    pub fn new(what: &'static str, object: impl AsRef<[u8]>, advice: Advice) -> Box<Self> {
        Self::make(what, object.as_ref(), Errno(0), advice)
    }

    /// A fault with the kernel's error number.
    pub fn sys(
        what: &'static str,
        object: impl AsRef<[u8]>,
        errno: Errno,
        advice: Advice,
    ) -> Box<Self> {
        Self::make(what, object.as_ref(), errno, advice)
    }

    #[cold]
    #[inline(never)]
    fn make(what: &'static str, object: &[u8], errno: Errno, advice: Advice) -> Box<Self> {
        Box::new(Self { what, object: object.to_vec(), errno, advice })
    }

    /// The line, without its end.
    pub fn text(&self) -> Vec<u8> {
        let mut text = text!(self.what);
        let mut add = |piece: Piece<'_>| {
            text.extend_from_slice(b": ");
            each(&[piece], &mut |bytes| text.extend_from_slice(bytes));
        };
        if !self.object.is_empty() {
            add(Piece::Bytes(&self.object));
        }
        if self.errno.0 != 0 {
            add(self.errno.into());
        }
        let advice = ADVICE.split(|byte| *byte == b'\n').nth(self.advice as usize);
        text.extend_from_slice(advice.unwrap_or_default());
        text
    }

    /// Says it.
    pub fn say(&self) {
        say(&[Piece::Bytes(&self.text())]);
    }
}

/// Where messages go: 2, until the program's own descriptors take the place of ours. Kept as the
/// distance from it: a blob whose variables all begin as zero has no pages of them in the file.
static STDERR: AtomicI32 = AtomicI32::new(0);

/// Sends messages to `fd` from now on.
pub fn set_stderr(fd: i32) {
    STDERR.store(fd - 2, Ordering::Relaxed);
}

/// A line built in a fixed place, so that a message needs no allocation and one write.
type Line = heapless::Vec<u8, 1024>;

/// Writes `resume: ` and the text as one line.
pub fn say(pieces: &[Piece<'_>]) {
    let mut line = Line::new();
    let mut add = |bytes: &[u8]| {
        // A line that is too long is cut; the beginning says most.
        let room = line.capacity() - 1 - line.len();
        let _ = line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    };
    add(b"resume: ");
    each(pieces, &mut add);
    let _ = line.push(b'\n');
    // Nowhere to say that standard error is closed.
    let _ = write_all(STDERR.load(Ordering::Relaxed) + 2, &line);
}

/// Writes text to standard output as it is.
pub fn print(text: &[u8]) {
    let _ = write_all(1, text);
}

/// The kernel's name of an error number, or the number.
impl From<Errno> for Piece<'_> {
    fn from(errno: Errno) -> Self {
        name(errno.0).map_or(Self::Number(errno.0 as u64), Self::Bytes)
    }
}

/// The usual names, from 1 on, separated by blanks: a table of pointers would be larger and
/// would need relocation.
const NAMES: &[u8] =
    b"EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM \
    EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY \
    ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS \
    ENOTEMPTY ELOOP";

fn name(errno: i32) -> Option<&'static [u8]> {
    let at = usize::try_from(errno).ok()?.checked_sub(1)?;
    match errno {
        75 => Some(b"EOVERFLOW"),
        87 => Some(b"EUSERS"),
        95 => Some(b"EOPNOTSUPP"),
        98 => Some(b"EADDRINUSE"),
        99 => Some(b"EADDRNOTAVAIL"),
        110 => Some(b"ETIMEDOUT"),
        111 => Some(b"ECONNREFUSED"),
        116 => Some(b"ESTALE"),
        122 => Some(b"EDQUOT"),
        _ => NAMES.split(|b| *b == b' ').nth(at),
    }
}

/// Says a line of pieces ([`Piece`]).
#[macro_export]
macro_rules! say {
    ($($piece:expr),+ $(,)?) => {
        $crate::report::say(&[$($crate::text::Piece::from($piece)),+])
    };
}

/// The same, when `-v` was given.
#[macro_export]
macro_rules! verbose {
    ($options:expr, $($piece:expr),+ $(,)?) => {
        if $options.verbose {
            $crate::say!($($piece),+);
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reads_as_a_sentence() {
        let fault = Fault::sys("cannot open", "/tmp/x", Errno(2), Advice::Report);
        assert_eq!(fault.text(), b"cannot open: /tmp/x: ENOENT; report this");
        assert_eq!(Fault::sys("x", "", Errno(131), Advice::None).text(), b"x: 131");
        assert_eq!(Fault::new("x", "", Advice::None).text(), b"x");
        assert_eq!(name(38), Some(&b"ENOSYS"[..]));
        assert_eq!(name(40), Some(&b"ELOOP"[..]));
        assert_eq!(name(41), None);
    }
}
