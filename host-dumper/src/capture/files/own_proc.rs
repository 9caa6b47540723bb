//! Files of /proc in which a program looks at itself: browsers and monitors keep statm, status or
//! the directory of their descriptors open. They are opened anew by way of /proc/self, whatever the
//! pid is then.

use super::descriptor::Descriptor;
use crate::capture::proc::{number, Proc};
use image_format::model::{Contents, FileObject};
use nix::sys::stat::{stat, FileStat};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The number of a process in a path of /proc, and what follows it.
fn split(link: &[u8]) -> Option<(u32, &[u8])> {
    let rest = link.strip_prefix(b"/proc/")?;
    let end = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
    Some((number::decimal(&rest[..end])? as u32, &rest[end..]))
}

/// Whether the path is that of a process in /proc.
pub(super) fn is_of_process(link: &[u8]) -> bool {
    split(link).is_some()
}

/// The path by way of /proc/self; none for what is about another process or a thread.
pub(super) fn path(proc: &Proc, d: &Descriptor) -> Option<Vec<u8>> {
    let (number, rest) = split(&d.link)?;
    if rest.starts_with(b"/task/") {
        return None;
    }
    // An inode of /proc is kept while it is open, and belongs to one process. The number may be
    // that of an inner pid namespace, in the /proc that the process sees.
    let is_same = |path: PathBuf| stat(&path).is_ok_and(|found| same(&found, &d.stat));
    let inside = proc.path("root").join("proc").join(number.to_string());
    let ours = is_same(join(&proc.path(""), rest)) || {
        inner_pid(proc) == Some(number) && is_same(join(&inside, rest))
    };
    ours.then(|| [b"/proc/self", rest].concat())
}

/// Has such a file opened by the process itself, unless others have it as well.
pub(super) fn by_way_of_self(
    proc: &Proc,
    d: &Descriptor,
    is_shared: impl Fn() -> bool,
    object: &mut FileObject,
) {
    let Some(own) = path(proc, d).filter(|_| !is_shared()) else { return };
    match object {
        FileObject::Regular { path, contents, .. } => {
            *path = own.into();
            *contents = Contents::Unread;
        }
        FileObject::Directory { path } | FileObject::PathOnly { path } => *path = own.into(),
        _ => {}
    }
}

fn same(a: &FileStat, b: &FileStat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

fn join(base: &Path, rest: &[u8]) -> PathBuf {
    base.join(OsStr::from_bytes(rest.strip_prefix(b"/").unwrap_or(rest)))
}

fn inner_pid(proc: &Proc) -> Option<u32> {
    let status = proc.read_optional("status")?;
    let line = status.split(|&byte| byte == b'\n').find_map(|l| l.strip_prefix(b"NSpid:"))?;
    number::words(line).last().and_then(number::decimal).map(|pid| pid as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_paths() {
        assert_eq!(split(b"/proc/12/fd"), Some((12, b"/fd".as_slice())));
        assert_eq!(split(b"/proc/12"), Some((12, b"".as_slice())));
        assert_eq!(split(b"/proc/stat"), None);
        assert_eq!(split(b"/proc/1x/stat"), None);
        assert_eq!(split(b"/procs/12/stat"), None);
    }
}
