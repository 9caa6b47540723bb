//! Messages on standard error, and the error that ends a resume.

use crate::sys::{write_all, Errno};
use alloc::boxed::Box;
use alloc::string::String;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicI32, Ordering};

/// Why the resume failed: one line for the user.
#[derive(Debug)]
pub struct Fault {
    /// What happened.
    pub what: &'static str,
    /// To which object.
    pub object: String,
    /// Error of the kernel, if it was one.
    pub errno: Option<Errno>,
    /// What to do.
    pub advice: &'static str,
}

/// Result of everything that can end a resume.
pub type Outcome<T> = Result<T, Box<Fault>>;

impl Fault {
    /// A fault without error number.
    pub fn new(what: &'static str, object: impl Into<String>, advice: &'static str) -> Box<Self> {
        Box::new(Self { what, object: object.into(), errno: None, advice })
    }

    /// A fault with the kernel's error number.
    pub fn sys(
        what: &'static str,
        object: impl Into<String>,
        errno: Errno,
        advice: &'static str,
    ) -> Box<Self> {
        Box::new(Self { what, object: object.into(), errno: Some(errno), advice })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)?;
        if !self.object.is_empty() {
            write!(f, ": {}", self.object)?;
        }
        if let Some(errno) = self.errno {
            f.write_str(": ")?;
            write_errno(f, errno)?;
        }
        if !self.advice.is_empty() {
            write!(f, "; {}", self.advice)?;
        }
        Ok(())
    }
}

/// Where messages go: 2, until the program's own descriptors take the place of ours.
static STDERR: AtomicI32 = AtomicI32::new(2);

/// Sends messages to `fd` from now on.
pub fn set_stderr(fd: i32) {
    STDERR.store(fd, Ordering::Relaxed);
}

/// A line built in a fixed place, so that a message needs no allocation and one write.
type Line = heapless::String<1024>;

/// Writes `resume: ` and the text as one line.
pub fn say(text: fmt::Arguments<'_>) {
    let mut line = Line::new();
    // A line that is too long is cut; the beginning says most.
    let _ = line.push_str("resume: ");
    let _ = line.write_fmt(text);
    if line.push('\n').is_err() {
        line.pop();
        let _ = line.push('\n');
    }
    // Nowhere to say that standard error is closed.
    let _ = write_all(STDERR.load(Ordering::Relaxed), line.as_bytes());
}

/// Writes text to standard output as it is.
pub fn print(text: &[u8]) {
    let _ = write_all(1, text);
}

/// Writes the kernel's name of an error number.
pub fn write_errno(f: &mut impl Write, errno: Errno) -> fmt::Result {
    match name(errno.0) {
        Some(name) => f.write_str(name),
        None => write!(f, "error {}", errno.0),
    }
}

/// The usual names, from 1 on, separated by blanks: a table of pointers would be larger and
/// would need relocation.
const NAMES: &str = "EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM \
    EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY \
    ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS \
    ENOTEMPTY ELOOP";

fn name(errno: i32) -> Option<&'static str> {
    let at = usize::try_from(errno).ok()?.checked_sub(1)?;
    match errno {
        75 => Some("EOVERFLOW"),
        87 => Some("EUSERS"),
        95 => Some("EOPNOTSUPP"),
        110 => Some("ETIMEDOUT"),
        116 => Some("ESTALE"),
        122 => Some("EDQUOT"),
        _ => NAMES.split(' ').nth(at),
    }
}

/// Says something, when `-v` was given.
#[macro_export]
macro_rules! verbose {
    ($options:expr, $($arg:tt)*) => {
        if $options.verbose {
            $crate::report::say(format_args!($($arg)*));
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_fault_reads_as_a_sentence() {
        let fault = Fault::sys("cannot open", "/tmp/x", Errno(2), "create it");
        assert_eq!(fault.to_string(), "cannot open: /tmp/x: ENOENT; create it");
        assert_eq!(name(38), Some("ENOSYS"));
        assert_eq!(name(40), Some("ELOOP"));
        assert_eq!(name(41), None);
    }
}
