//! Reads descriptors as /proc and duplicates of them show them.

use super::borrow::{borrow, pidfd};
use super::descriptor::{Descriptor, Kind};
use super::sharing::same;
use crate::capture::error::{CaptureError, Result};
use crate::capture::proc::fdinfo::{self, FdInfo};
use crate::capture::proc::{Directory, Proc};
use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::sys::stat::{fstat, FileStat};
use nix::unistd::pipe2;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

/// fcntl(2) commands that the libc crate does not name.
const F_GETOWN_EX: libc::c_int = 16;
const F_GETSIG: libc::c_int = 11;

/// How a process is that is looked at.
#[derive(Debug, Clone, Copy)]
pub(in crate::capture) enum Condition<'a> {
    /// It runs on. No duplicates of its descriptors are made: what it closes would stay open until they
    /// are closed as well, a port be taken or a pipe without its end.
    Running,
    /// It stands.
    Standing {
        /// The descriptors of its parent, which stands as well: what a process has from its parent need
        /// not be looked at twice.
        inherited: &'a [Descriptor],
        /// There are other processes, which may have theirs from this one.
        in_tree: bool,
    },
}

/// Reads all descriptors of a process, without finding out what they lead to; none if there are
/// more than `most`.
pub(in crate::capture) fn scan(
    proc: &Proc,
    most: usize,
    condition: Condition<'_>,
) -> Result<Vec<Descriptor>> {
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
    let (stands, inherited, in_tree) = match condition {
        Condition::Running => (false, [].as_slice(), false),
        Condition::Standing { inherited, in_tree } => (true, inherited, in_tree),
    };
    let process = OnceLock::new();
    for fd in numbers {
        let of_parent = inherited.binary_search_by_key(&fd, |d| d.fd).ok().map(|at| &inherited[at]);
        let of_parent = of_parent.filter(|d| same((d.pid, fd), (proc.pid(), fd)) == Ok(true));
        let found = if let Some(same) = of_parent {
            reader.inherit(same)
        } else {
            let open = || stands.then(|| pidfd(proc.pid()).ok()).flatten();
            let pidfd = process.get_or_init(open).as_ref();
            let duplicate = pidfd.and_then(|pidfd| borrow(pidfd, fd));
            reader.read(fd, duplicate.as_ref(), in_tree)
        };
        match found {
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
    Reader::of(proc)?.read(fd, Some(duplicate), false)
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

    /// One that leads to the same description as a parent's does. Close-on-exec and the locks that
    /// fcntl(2) sets are the process's own: where there can be none of these, the other is asked later,
    /// with what only the process itself can tell.
    fn inherit(&self, same: &Descriptor) -> Result<Descriptor> {
        let d = Descriptor { pid: self.proc.pid(), inherited: true, ..same.clone() };
        if same.unlocked {
            return Ok(d);
        }
        Ok(Descriptor { info: self.info(same.fd)?, inherited: false, ..d })
    }

    fn info(&self, fd: u32) -> Result<FdInfo> {
        let info = fdinfo::parse(&self.infos.read_record(fd)?);
        info.ok_or_else(|| self.proc.format(&format!("fdinfo/{fd}"), "a field is missing"))
    }

    /// A duplicate tells in half the time of a look into /proc, which it spares the making of an
    /// entry besides.
    fn read(&self, fd: u32, duplicate: Option<&OwnedFd>, in_tree: bool) -> Result<Descriptor> {
        let info = self.info(fd)?;
        let stat = duplicate.and_then(|file| fstat(file).ok());
        let stat = stat.map_or_else(|| self.links()?.stat_of(fd), Ok)?;
        let link = name(&info, &stat).map_or_else(|| self.links()?.link(&fd.to_string()), Ok)?;
        let owner = duplicate.map_or(([0; 2], 0), owner);
        let unlocked = in_tree && duplicate.is_some_and(|file| is_unlocked(file, &stat));
        Ok(Descriptor {
            pid: self.proc.pid(),
            fd,
            link,
            info,
            stat,
            kind: Kind::Regular,
            owner,
            socket: None,
            unlocked,
            inherited: false,
        })
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

/// Whether nobody has a lock of fcntl(2) on what is no file of a file system. Those may have to ask
/// a server, which may be gone.
fn is_unlocked(file: &OwnedFd, stat: &FileStat) -> bool {
    if matches!(stat.st_mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR) {
        return false;
    }
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let told = fcntl(file, FcntlArg::F_GETLK(&mut lock));
    told.is_ok() && lock.l_type == libc::F_UNLCK as i16
}

/// Finds out by fdinfo which of those that are like a parent's are closed on exec.
pub(in crate::capture) fn settle_inherited(proc: &Proc, all: &mut [Descriptor]) -> Result<()> {
    for d in all.iter_mut().filter(|d| d.inherited) {
        d.info = info(proc, d.fd)?;
        d.inherited = false;
    }
    Ok(())
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
        let all =
            scan(&own, usize::MAX, Condition::Standing { inherited: &[], in_tree: true }).unwrap();
        for fd in [pipe.0.as_raw_fd(), pair.1.as_raw_fd(), file.as_raw_fd()] {
            let found = all.iter().find(|d| d.fd == fd as u32).unwrap();
            let link = own.link(&format!("fd/{fd}")).unwrap();
            assert_eq!(found.link, link);
            assert_eq!(name(&found.info, &found.stat).is_some(), fd != file.as_raw_fd());
        }
    }
}
