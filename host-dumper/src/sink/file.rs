//! A regular file: written without a name (O_TMPFILE) where the file system can, so that
//! nothing stays behind even after SIGKILL; else under a hidden name beside the output.

use super::{reread, Sink, SinkError};
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::Mode;
use nix::unistd::{linkat, UnlinkatFlags};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// An image holds the memory of a process: nobody else may read it.
const MODE: u32 = 0o700;

/// An image on its way into a file.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    directory: OwnedFd,
    name: OsString,
    /// Name under which the unfinished or the unrenamed image may be found in `directory`.
    hidden: OsString,
    /// Whether the file has that name from the beginning.
    named: bool,
    replace: bool,
    file: File,
}

impl FileSink {
    /// Opens the output's directory and an unnamed file in it. `force` allows to replace a file.
    pub fn create(path: &Path, force: bool) -> Result<Self, SinkError> {
        Self::create_as(path, force, open_unnamed)
    }

    fn create_as(path: &Path, force: bool, open: Open) -> Result<Self, SinkError> {
        let kind = |what| SinkError::Kind { path: path.to_owned(), what };
        let name = path.file_name().ok_or(kind("not the name of a file"))?;
        match std::fs::symlink_metadata(path) {
            Ok(found) => {
                let file_type = found.file_type();
                if file_type.is_dir() {
                    return Err(kind("a directory"));
                }
                if file_type.is_block_device() || file_type.is_char_device() {
                    return Err(kind("a device"));
                }
                if let Some(what) = stream(path) {
                    return Err(SinkError::Stream { path: path.to_owned(), what });
                }
                if !force {
                    return Err(SinkError::Exists { path: path.to_owned() });
                }
            }
            // A file there would be one in memory, gone with the next start of the machine.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && parent(path) == Path::new("/dev") =>
            {
                return Err(SinkError::Open { path: path.to_owned(), source: nodev() });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(SinkError::Create { path: parent(path).to_owned(), source }),
        }
        let create = |errno: nix::errno::Errno| SinkError::Create {
            path: parent(path).to_owned(),
            source: errno.into(),
        };
        let directory = nix::fcntl::open(
            parent(path),
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(create)?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", std::process::id()));
        let (file, named) = open(&directory, &hidden).map_err(create)?;
        let file = File::from(file);
        // The umask must neither widen nor narrow it.
        file.set_permissions(std::fs::Permissions::from_mode(MODE))
            .map_err(|source| SinkError::Create { path: parent(path).to_owned(), source })?;
        Ok(Self {
            path: path.to_owned(),
            directory,
            name: name.to_owned(),
            hidden,
            named,
            replace: force,
            file,
        })
    }

    fn error(&self, action: &'static str, source: io::Error) -> SinkError {
        if source.raw_os_error() == Some(libc::EEXIST) {
            return SinkError::Exists { path: self.path.clone() };
        }
        SinkError::Write { action, path: self.path.clone(), source }
    }

    /// Gives the unnamed file the name `to`; fails where that exists.
    fn link(&self, to: &OsStr) -> nix::Result<()> {
        // AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH; the way through /proc needs nothing.
        let from = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        linkat(nix::fcntl::AT_FDCWD, from.as_str(), &self.directory, to, AtFlags::AT_SYMLINK_FOLLOW)
    }

    fn rename(&self, replace: bool) -> nix::Result<()> {
        if replace {
            return nix::fcntl::renameat(
                &self.directory,
                self.hidden.as_os_str(),
                &self.directory,
                self.name.as_os_str(),
            );
        }
        let renamed = nix::fcntl::renameat2(
            &self.directory,
            self.hidden.as_os_str(),
            &self.directory,
            self.name.as_os_str(),
            nix::fcntl::RenameFlags::RENAME_NOREPLACE,
        );
        if renamed == Err(nix::errno::Errno::EINVAL) {
            // File systems without RENAME_NOREPLACE; FAT is one of them. A file that appears
            // between the two calls would be replaced.
            if nix::sys::stat::fstatat(
                &self.directory,
                self.name.as_os_str(),
                AtFlags::AT_SYMLINK_NOFOLLOW,
            )
            .is_ok()
            {
                return Err(nix::errno::Errno::EEXIST);
            }
            return self.rename(true);
        }
        renamed
    }
}

impl Sink for FileSink {
    fn write_at(&self, mut offset: u64, parts: &[&[u8]]) -> Result<(), SinkError> {
        let mut slices: Vec<IoSlice<'_>> =
            parts.iter().filter(|part| !part.is_empty()).map(|part| IoSlice::new(part)).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            match nix::sys::uio::pwritev(self.file.as_fd(), rest, offset as libc::off_t) {
                Ok(0) => return Err(self.error("write", io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(self.error("write", errno.into())),
            }
        }
        Ok(())
    }

    fn parallel(&self) -> bool {
        true
    }

    fn expect(&self, bytes: u64) -> Result<(), SinkError> {
        let Ok(stat) = nix::sys::statvfs::fstatvfs(&self.file) else {
            return Ok(());
        };
        // Some file systems report no sizes at all.
        if stat.blocks() == 0 {
            return Ok(());
        }
        let free = stat.blocks_available() * stat.fragment_size();
        if free < bytes {
            return Err(SinkError::Space { path: self.path.clone(), free, needed: bytes });
        }
        Ok(())
    }

    fn reread(&self, length: u64) -> Result<(), SinkError> {
        self.file.sync_all().map_err(|error| self.error("sync", error))?;
        reread::verify(&self.path, &self.file, &[], length)
    }

    fn commit(&self, sync: bool) -> Result<(), SinkError> {
        if sync {
            self.file.sync_all().map_err(|error| self.error("sync", error))?;
        }
        let linked = if self.named {
            self.rename(self.replace)
        } else if self.replace {
            self.link(&self.hidden).and_then(|()| self.rename(true))
        } else {
            self.link(&self.name)
        };
        linked.map_err(|errno| self.error("name", errno.into()))?;
        if sync {
            nix::unistd::fsync(&self.directory).map_err(|errno| {
                // The caller will let the process run on, so there must be no image of it.
                self.retract();
                self.error("sync the directory of", errno.into())
            })?;
        }
        Ok(())
    }

    fn durable(&self) -> bool {
        true
    }

    fn discard(&self) {
        let _ = nix::unistd::unlinkat(
            &self.directory,
            self.hidden.as_os_str(),
            UnlinkatFlags::NoRemoveDir,
        );
    }

    fn is_committed(&self) -> bool {
        let found = nix::sys::stat::fstatat(
            &self.directory,
            self.name.as_os_str(),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        );
        match (found, self.file.metadata()) {
            (Ok(found), Ok(own)) => found.st_ino == own.ino() && found.st_dev == own.dev(),
            _ => false,
        }
    }

    fn retract(&self) {
        if self.is_committed() {
            let _ = nix::unistd::unlinkat(
                &self.directory,
                self.name.as_os_str(),
                UnlinkatFlags::NoRemoveDir,
            );
        }
    }
}

/// Opens a file in a directory, if need be under the name given; tells whether it needed it.
type Open = fn(&OwnedFd, &OsStr) -> nix::Result<(OwnedFd, bool)>;

fn open_unnamed(directory: &OwnedFd, hidden: &OsStr) -> nix::Result<(OwnedFd, bool)> {
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let unnamed = nix::fcntl::openat(
        directory,
        ".",
        OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC,
        mode,
    );
    match unnamed {
        Ok(fd) => Ok((fd, false)),
        // Not every file system has O_TMPFILE, and each says so differently.
        Err(
            nix::errno::Errno::EOPNOTSUPP
            | nix::errno::Errno::EISDIR
            | nix::errno::Errno::ENOENT
            | nix::errno::Errno::EINVAL,
        ) => open_named(directory, hidden),
        Err(errno) => Err(errno),
    }
}

fn open_named(directory: &OwnedFd, hidden: &OsStr) -> nix::Result<(OwnedFd, bool)> {
    nix::fcntl::openat(
        directory,
        hidden,
        OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_CLOEXEC,
        Mode::S_IRUSR | Mode::S_IWUSR,
    )
    .map(|fd| (fd, true))
}

/// What is at `path`, or what a link there leads to, if it is not for us to replace: pipes and
/// sockets, and the names of open descriptors, such as /dev/stdout.
fn stream(path: &Path) -> Option<&'static str> {
    if let Ok(kind) = std::fs::metadata(path).map(|found| found.file_type()) {
        if kind.is_fifo() {
            return Some("a pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
    }
    let of_the_system = |place: PathBuf| place == Path::new("/dev") || place.starts_with("/proc");
    let is_name = path.is_symlink() && parent(path).canonicalize().is_ok_and(of_the_system);
    is_name.then_some("the name of an open file")
}

fn nodev() -> io::Error {
    io::Error::from_raw_os_error(libc::ENODEV)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_visible_before_the_commit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.elf");
        let sink = FileSink::create(&path, false).unwrap();
        sink.write_at(0, &[b"ab", b"", b"cd"]).unwrap();
        sink.write_at(2, &[b"X"]).unwrap();
        assert!(!sink.is_committed());
        assert!(!path.exists());
        sink.commit(true).unwrap();
        assert!(sink.is_committed());
        assert_eq!(std::fs::read(&path).unwrap(), b"abXd");
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o700);
        sink.discard();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        sink.retract();
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.elf");
        let sink = FileSink::create(&path, false).unwrap();
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(sink.commit(false), Err(SinkError::Exists { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        assert!(matches!(FileSink::create(&path, false), Err(SinkError::Exists { .. })));
        let sink = FileSink::create(&path, true).unwrap();
        sink.write_at(0, &[b"new"]).unwrap();
        sink.commit(false).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_system_without_unnamed_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.elf");
        let names = || std::fs::read_dir(dir.path()).unwrap().count();
        let sink = FileSink::create_as(&path, false, open_named).unwrap();
        assert_eq!((names(), path.exists()), (1, false));
        sink.discard();
        assert_eq!(names(), 0);
        for force in [false, true] {
            let sink = FileSink::create_as(&path, force, open_named).unwrap();
            sink.write_at(0, &[b"new"]).unwrap();
            sink.commit(true).unwrap();
            assert!(sink.is_committed());
            assert_eq!(std::fs::read(&path).unwrap(), b"new");
            assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o700);
            assert_eq!(names(), 1);
        }
        let sink = FileSink::create_as(&dir.path().join("y.elf"), false, open_named).unwrap();
        std::fs::write(dir.path().join("y.elf"), "mine").unwrap();
        assert!(matches!(sink.commit(false), Err(SinkError::Exists { .. })));
        assert_eq!(std::fs::read(dir.path().join("y.elf")).unwrap(), b"mine");
    }

    #[test]
    fn places_that_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            FileSink::create(&dir.path().join("no/x"), false),
            Err(SinkError::Create { .. })
        ));
        assert!(matches!(FileSink::create(dir.path(), true), Err(SinkError::Kind { .. })));
        assert!(matches!(
            FileSink::create(Path::new("/dev/null"), true),
            Err(SinkError::Kind { .. })
        ));
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("fifo", dir.path().join("link")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        let places = ["fifo", "link", "socket"].map(|name| dir.path().join(name));
        for path in [&places[..], &["/dev/stdout", "/dev/fd/0"].map(PathBuf::from)].concat() {
            let made = FileSink::create(&path, true);
            assert!(matches!(made, Err(SinkError::Stream { .. })), "{made:?}");
        }
        assert!(std::fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
        drop(socket);
        let sink = FileSink::create(&dir.path().join("x"), false).unwrap();
        assert!(matches!(sink.expect(1 << 62), Err(SinkError::Space { .. })));
    }
}
