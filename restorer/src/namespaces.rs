//! Time, pid and user namespaces: what they need written, and by which way.

use crate::report::{Advice, Fault, Outcome};
use crate::sys::{self, clone, nr, Errno};
use crate::text::{number, words};
use crate::{say, text};
use alloc::vec::Vec;
use core::ffi::CStr;
use image_format::plan::PlanHeader;

const CLOCK_MONOTONIC: usize = 1;
const CLOCK_BOOTTIME: usize = 7;
const FSCONFIG_CMD_CREATE: usize = 6;
const O_WRONLY: usize = 1;

/// Opens a file of this process' /proc, also where none is mounted: a mount of its own that is
/// visible to nobody does as well, and needs no directory.
fn open_own(name: &CStr, flags: usize) -> Result<i32, Errno> {
    let mut path = heapless::Vec::<u8, 64>::new();
    for piece in [&b"/proc/self/"[..], name.to_bytes_with_nul()] {
        path.extend_from_slice(piece).map_err(|_| Errno::EINVAL)?;
    }
    let whole = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::EINVAL)?;
    match sys::openat(sys::AT_FDCWD, whole, flags | sys::O_CLOEXEC, 0) {
        Err(Errno::ENOENT) => {}
        result => return result,
    }
    // SAFETY: the kernel reads the name of the file system.
    let context = unsafe { sys::call(nr::FSOPEN, &[c"proc".as_ptr() as usize, 1]) }?;
    let made = sys::plain(nr::FSCONFIG, &[context, FSCONFIG_CMD_CREATE, 0, 0, 0])
        .and_then(|_| sys::plain(nr::FSMOUNT, &[context, 1, 0]));
    sys::close(context as i32);
    let mount = made? as i32;
    let relative = CStr::from_bytes_until_nul(&path[6..]).map_err(|_| Errno::EINVAL)?;
    let opened = sys::openat(mount, relative, flags | sys::O_CLOEXEC, 0);
    sys::close(mount);
    opened
}

fn write_own(name: &CStr, text: &[u8]) -> Result<(), Errno> {
    let fd = open_own(name, O_WRONLY)?;
    let written = write_once(fd, text);
    sys::close(fd);
    written
}

/// These files take one write.
fn write_once(fd: i32, text: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel reads `text`.
    unsafe { sys::call(nr::WRITE, &[fd as usize, text.as_ptr() as usize, text.len()]) }.map(|_| ())
}

/// Offsets that the clocks of this process already have against the machine's, nanoseconds.
fn offsets(text: &[u8]) -> [i64; 2] {
    let of = |name: &[u8]| {
        let mut words = words(text);
        words.find(|word| *word == name)?;
        let seconds = words.next()?;
        let digits = seconds.strip_prefix(b"-");
        let s = number(digits.unwrap_or(seconds))? as i64;
        let ns = number(words.next()?)? as i64;
        let s = if digits.is_some() { -s } else { s };
        s.checked_mul(1_000_000_000)?.checked_add(ns)
    };
    [&b"monotonic"[..], b"boottime"].map(|name| of(name).unwrap_or(0))
}

fn line(name: &str, ns: i64) -> Vec<u8> {
    let (s, ns) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    let sign = if s < 0 { "-" } else { "" };
    text!(name, " ", sign, s.unsigned_abs(), " ", ns as u64, "\n")
}

/// Puts children of this process into a time namespace in which the clocks go on from where
/// they were at the dump. The namespace itself was made by unshare(2) before.
fn set_clocks(header: &PlanHeader) -> Result<(), Errno> {
    let mut text = [0u8; 128];
    let fd = open_own(c"timens_offsets", sys::O_RDWR)?;
    // Not read(2), which would move on: the file is written at its beginning only.
    let had = sys::pread(fd, &mut text, 0).map(|n| offsets(&text[..n])).unwrap_or_default();
    let mut out = Vec::new();
    for (name, id, was, had) in [
        ("monotonic", CLOCK_MONOTONIC, header.monotonic_ns, had[0]),
        ("boottime", CLOCK_BOOTTIME, header.boottime_ns, had[1]),
    ] {
        out.extend(line(name, was - (sys::clock(id) - had)));
    }
    let written = write_once(fd, &out);
    sys::close(fd);
    written
}

/// Makes a time namespace for the children of this process; false where it cannot be had. Not
/// twice: the offsets that would be taken for this process's are its children's by then.
pub fn keep_clocks(header: &PlanHeader) -> bool {
    sys::plain(nr::UNSHARE, &[clone::NEWTIME as usize]).is_ok() && set_clocks(header).is_ok()
}

/// The same for this process itself, which must have one thread.
pub fn change_clocks(header: &PlanHeader) -> bool {
    keep_clocks(header)
        && open_own(c"ns/time_for_children", 0).is_ok_and(|fd| {
            let entered = sys::plain(nr::SETNS, &[fd as usize, clone::NEWTIME as usize]);
            sys::close(fd);
            entered.is_ok()
        })
}

/// Gives the children of this process a pid namespace of their own (and this process a user and
/// a mount namespace), in which any pid can be chosen. Children, because the first of them
/// becomes the namespace's init. True where a user namespace was needed.
pub fn isolate(header: &PlanHeader) -> Outcome<bool> {
    let failed = |e| {
        Fault::sys(
            "the original process id cannot be had here",
            "pid namespace",
            e,
            Advice::NewPidOrRoot,
        )
    };
    let base = (clone::NEWPID | clone::NEWNS) as usize;
    let (uid, gid) = (sys::plain(nr::GETEUID, &[]), sys::plain(nr::GETEGID, &[]));
    let unshare = |flags: usize| sys::plain(nr::UNSHARE, &[flags]);
    let user = match unshare(base) {
        Ok(_) => false,
        Err(Errno::EPERM) => {
            unshare(base | clone::NEWUSER as usize).map_err(failed)?;
            true
        }
        Err(e) => return Err(failed(e)),
    };
    if user {
        let here = uid.unwrap_or(0);
        if here != header.euid as usize {
            say!(
                "note: the program was user ",
                header.euid,
                "; it has the rights of user ",
                here as u64
            );
        }
        let map = |file: &CStr, inside: u32, outside: usize| {
            write_own(file, &text!(inside, " ", outside as u64, " 1\n"))
        };
        let error = |e| {
            Fault::sys("cannot map user and group id", "user namespace", e, Advice::NewPidOrRoot)
        };
        write_own(c"setgroups", b"deny").map_err(error)?;
        map(c"uid_map", header.euid, here).map_err(error)?;
        map(c"gid_map", header.egid, gid.unwrap_or(0)).map_err(error)?;
    }
    Ok(user)
}

/// In the namespace's init: the /proc of the new namespace, where that is permitted.
pub fn mount_proc() -> bool {
    const MS_SLAVE_REC: usize = 0x80000 | 0x4000;
    const NOSUID_NODEV_NOEXEC: usize = 2 | 4 | 8;
    let (none, root) = (c"none".as_ptr() as usize, c"/".as_ptr() as usize);
    let (proc, place) = (c"proc".as_ptr() as usize, c"/proc".as_ptr() as usize);
    // SAFETY: the kernel reads the names.
    unsafe {
        let _ = sys::call(nr::MOUNT, &[none, root, 0, MS_SLAVE_REC, 0]);
        sys::call(nr::MOUNT, &[proc, place, proc, NOSUID_NODEV_NOEXEC, 0]).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_and_written() {
        let text = b"monotonic           3        500000000\nboottime           -1         7\n";
        assert_eq!(offsets(text), [3_500_000_000, -999_999_993]);
        assert_eq!(offsets(b""), [0, 0]);
        assert_eq!(line("monotonic", -1), b"monotonic -1 999999999\n");
    }
}
