//! Reads descriptors as /proc and duplicates of them show them.

use super::borrow::{borrow, pidfd};
use super::descriptor::{Descriptor, Kind};
use crate::capture::error::{CaptureError, Result};
use crate::capture::proc::fdinfo::{self, FdInfo};
use crate::capture::proc::{Directory, Proc};
use nix::fcntl::OFlag;
use nix::sys::stat::{fstat, FileStat};
use nix::unistd::pipe2;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

/// fcntl(2) commands that the libc crate does not name.
const F_GETOWN_EX: libc::c_int = 16;
const F_GETSIG: libc::c_int = 11;

/// Reads all descriptors of a process, without finding out what they lead to; none if there are
/// more than `most`. Only where the process `stands` are duplicates made: in a running one, what it
/// closes would stay open until they are closed as well, a port be taken or a pipe without its end.
pub(in crate::capture) fn scan(proc: &Proc, most: usize, stands: bool) -> Result<Vec<Descriptor>> {
    let mut all = Vec::new();
    if proc.count_descriptors().is_some_and(|n| n > most) {
        return Ok(all);
    }
    let reader = Reader::of(proc)?;
    // What is listed there gets an entry in the kernel's memory, which it needs here anyway.
    let numbers = reader.infos.numbers()?;
    if numbers.len() > most {
        return Ok(all);
    }
    let pidfd = if stands { pidfd(proc.pid()).ok() } else { None };
    for fd in numbers {
        let duplicate = pidfd.as_ref().and_then(|pidfd| borrow(pidfd, fd));
        match reader.read(fd, duplicate.as_ref()) {
            Ok(d) => all.push(d),
            // Closed since the directory was read: possible only while the process runs.
            Err(CaptureError::Proc { source, .. })
                if source.raw_os_error() == Some(libc::ENOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(all)
}

/// Reads one descriptor, of which this is a duplicate.
pub(super) fn read(proc: &Proc, fd: u32, duplicate: &OwnedFd) -> Result<Descriptor> {
    Reader::of(proc)?.read(fd, Some(duplicate))
}

/// The fdinfo of a descriptor.
pub(super) fn info(proc: &Proc, fd: u32) -> Result<FdInfo> {
    let name = format!("fdinfo/{fd}");
    fdinfo::parse(&proc.read_record(&name)?).ok_or_else(|| proc.format(&name, "a field is missing"))
}

/// Where the descriptors of a process are read from.
struct Reader<'a> {
    proc: &'a Proc,
    infos: Directory<'a>,
    /// Opened when it is needed.
    links: OnceLock<Directory<'a>>,
}

impl<'a> Reader<'a> {
    fn of(proc: &'a Proc) -> Result<Self> {
        Ok(Self { proc, infos: proc.directory("fdinfo")?, links: OnceLock::new() })
    }

    fn links(&self) -> Result<&Directory<'a>> {
        if let Some(links) = self.links.get() {
            return Ok(links);
        }
        let links = self.proc.directory("fd")?;
        Ok(self.links.get_or_init(|| links))
    }

    /// A duplicate tells in half the time of a look into /proc, which it spares the making of an
    /// entry besides.
    fn read(&self, fd: u32, duplicate: Option<&OwnedFd>) -> Result<Descriptor> {
        let info = fdinfo::parse(&self.infos.read_record(fd)?);
        let info =
            info.ok_or_else(|| self.proc.format(&format!("fdinfo/{fd}"), "a field is missing"))?;
        let stat = duplicate.and_then(|file| fstat(file).ok());
        let stat = stat.map_or_else(|| self.links()?.stat_of(fd), Ok)?;
        let link = name(&info, &stat).map_or_else(|| self.links()?.link(fd), Ok)?;
        let owner = duplicate.map_or(([0; 2], 0), owner);
        let (pid, kind, socket) = (self.proc.pid(), Kind::Regular, None);
        Ok(Descriptor { pid, fd, link, info, stat, kind, owner, socket })
    }
}

/// What the link of a descriptor says, where that can be told without reading it.
fn name(info: &FdInfo, stat: &FileStat) -> Option<Vec<u8>> {
    if info.flags & libc::O_PATH as u32 != 0 {
        return None;
    }
    if info.eventfd.is_some() {
        return Some(b"anon_inode:[eventfd]".to_vec());
    }
    match stat.st_mode & libc::S_IFMT {
        // One with a path cannot be opened but as that path.
        libc::S_IFSOCK => Some(format!("socket:[{}]", stat.st_ino).into()),
        libc::S_IFIFO if Some(stat.st_dev) == device_of_pipes() => {
            Some(format!("pipe:[{}]", stat.st_ino).into())
        }
        _ => None,
    }
}

/// The device that all pipes without a name are on.
fn device_of_pipes() -> Option<u64> {
    static KNOWN: OnceLock<Option<u64>> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let (end, _) = pipe2(OFlag::O_CLOEXEC).ok()?;
        Some(fstat(&end).ok()?.st_dev)
    })
}

/// F_GETOWN_EX and F_GETSIG.
fn owner(file: &OwnedFd) -> ([i32; 2], i32) {
    let mut owner = [0i32; 2];
    // SAFETY: F_GETOWN_EX writes struct f_owner_ex, two ints.
    let got = unsafe { libc::fcntl(file.as_raw_fd(), F_GETOWN_EX, owner.as_mut_ptr()) };
    if got != 0 || owner[1] == 0 {
        owner = [0; 2];
    }
    // SAFETY: F_GETSIG takes no argument.
    let signal = unsafe { libc::fcntl(file.as_raw_fd(), F_GETSIG) };
    (owner, signal.max(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{socketpair, AddressFamily, SockFlag, SockType};
    use std::fs::File;

    #[test]
    fn names_are_those_of_the_links() {
        let pipe = pipe2(OFlag::O_CLOEXEC).unwrap();
        let pair =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::empty()).unwrap();
        let file = File::open("/dev/null").unwrap();
        let own = Proc::open(std::process::id()).unwrap();
        let all = scan(&own, usize::MAX, true).unwrap();
        for fd in [pipe.0.as_raw_fd(), pair.1.as_raw_fd(), file.as_raw_fd()] {
            let found = all.iter().find(|d| d.fd == fd as u32).unwrap();
            let link = own.link(&format!("fd/{fd}")).unwrap();
            assert_eq!(found.link, link);
            assert_eq!(name(&found.info, &found.stat).is_some(), fd != file.as_raw_fd());
        }
    }
}
