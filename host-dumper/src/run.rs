//! `dumper run`: starts an image from memory, for media where execution is not permitted (noexec
//! mounts, FAT) and for images that come through a pipe.

use crate::cli::RunArgs;
use crate::failure::{errno_text, status, Failure};
use crate::inspect::InspectError;
use crate::medium;
use goblin::container::{Container, Ctx, Endian};
use goblin::elf::{Elf, ProgramHeader};
use image_format::container::ContainerError;
use image_format::PAGE_SIZE;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, SealFlag};
use nix::sys::memfd::{memfd_create, MFdFlags};
use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Copies the image into memory and becomes it.
pub fn run(args: &RunArgs) -> Result<Infallible, Failure> {
    let name = args.command.first().map_or(OsStr::new("-"), |name| name.as_os_str());
    let path = if name == "-" { Path::new("standard input") } else { Path::new(name) };
    let source = if name == "-" { None } else { Some(medium::open(path)?) };
    let length = match &source {
        Some(file) => length_of_file(path, file)?,
        None => u64::MAX,
    };
    let memory = in_memory().map_err(|error| {
        let advice = match error.raw_os_error() {
            Some(libc::EACCES) => {
                "the system forbids programs in memory (sysctl vm.memfd_noexec): start the image \
                 itself, from where execution is permitted"
            }
            _ => "",
        };
        fail("make a file in memory", &error, advice)
    })?;
    let mut memory = File::from(memory);
    copy(source, length, &mut memory).map_err(|error| {
        let advice = match error.raw_os_error() {
            Some(libc::ENOMEM | libc::ENOSPC) => {
                "it takes as much memory as the image is long: free some, or start the image itself, \
                 from where execution is permitted"
            }
            _ => "copy the image again from where it was made",
        };
        fail(&format!("copy {} into memory", path.display()), &error, advice)
    })?;
    // A file may have become shorter meanwhile, and nobody knows how long a pipe is.
    is_whole(path, &memory)?;
    seal(&memory).map_err(|error| fail("seal a file in memory", &error, ""))?;
    let argv: Vec<CString> =
        args.command.iter().filter_map(|arg| CString::new(arg.as_bytes()).ok()).collect();
    let environment: Vec<CString> = std::env::vars_os()
        .filter_map(|(key, value)| {
            let mut pair = key.into_encoded_bytes();
            pair.push(b'=');
            pair.extend_from_slice(value.as_bytes());
            CString::new(pair).ok()
        })
        .collect();
    // A pipe that brought the image is at its end; the program gets what the shell had instead.
    if name == "-" {
        restore_stdin();
    }
    nix::unistd::execveat(&memory, c"", &argv, &environment, AtFlags::AT_EMPTY_PATH).map_err(
        |errno| {
            let advice = match errno {
                Errno::ENOEXEC => "was it made for this kind of machine? `dumper inspect` tells",
                Errno::ENOMEM => "free some memory",
                _ => "",
            };
            fail(&format!("start {}", path.display()), &errno.into(), advice)
        },
    )
}

fn fail(what: &str, error: &io::Error, advice: &str) -> Failure {
    Failure::new(status::FAILED, format!("cannot {what}: {}", errno_text(error)), advice)
}

/// How many bytes of a file are to be copied, in bytes. A stick is longer than the image on it, and
/// so may be what was copied from one.
fn length_of_file(path: &Path, file: &File) -> Result<u64, Failure> {
    match medium::length(file) {
        // A named pipe is looked at when all of it is in memory.
        Err(InspectError::Read(error)) if error.raw_os_error() == Some(libc::ESPIPE) => {
            Ok(u64::MAX)
        }
        // The image brings its own reader.
        Err(InspectError::Container(ContainerError::Version { .. })) => Ok(u64::MAX),
        found => found.map_err(|error| medium::unreadable(path, file, &error)),
    }
}

/// The image is complete: what the kernel maps of a file that ends too early is there, and ends
/// whoever touches it by SIGBUS.
fn is_whole(path: &Path, memory: &File) -> Result<(), Failure> {
    match medium::length(memory) {
        Ok(_) => Ok(()),
        Err(InspectError::Container(error @ ContainerError::Version { .. })) => {
            if has_what_the_kernel_loads(memory) {
                return Ok(());
            }
            let text = format!("{}: {error}; it ends early", path.display());
            let advice = "the image is not whole; copy it again from where it was made";
            Err(Failure::new(status::FAILED, text, advice))
        }
        Err(error) => Err(medium::unreadable(path, memory, &error)),
    }
}

/// Whether the part that the kernel loads is there, in an image of another version.
fn has_what_the_kernel_loads(memory: &File) -> bool {
    let mut page = [0; PAGE_SIZE as usize];
    if memory.read_exact_at(&mut page, 0).is_err() {
        return false;
    }
    let Ok(header) = Elf::parse_header(&page) else { return false };
    let context = Ctx::new(Container::Big, Endian::Little);
    let (offset, count) = (header.e_phoff as usize, usize::from(header.e_phnum));
    let length = memory.metadata().map_or(0, |found| found.len());
    ProgramHeader::parse(&page, offset, count, context).is_ok_and(|all| {
        all.iter()
            .all(|part| part.p_offset.checked_add(part.p_filesz).is_some_and(|end| end <= length))
    })
}

/// A file in memory that can be executed.
fn in_memory() -> io::Result<OwnedFd> {
    // Not MFD_CLOEXEC: the restorer reads the image again through this descriptor. Kernels before
    // 6.3 do not know MFD_EXEC, and need it only where vm.memfd_noexec asks for it.
    let flags = MFdFlags::MFD_ALLOW_SEALING;
    let fd = memfd_create(c"resume.elf", flags | MFdFlags::from_bits_retain(libc::MFD_EXEC))
        .or_else(|errno| match errno {
            Errno::EINVAL => memfd_create(c"resume.elf", flags),
            other => Err(other),
        })?;
    Ok(fd)
}

/// Copies at most `length` bytes of an open file, or all of standard input.
fn copy(source: Option<File>, length: u64, memory: &mut File) -> io::Result<u64> {
    match source {
        None => io::copy(&mut io::stdin().lock(), memory),
        Some(file) => io::copy(&mut file.take(length), memory),
    }
}

fn seal(memory: &File) -> io::Result<()> {
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    nix::fcntl::fcntl(memory, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(())
}

/// Makes the terminal, if there is one, standard input again.
fn restore_stdin() {
    if let Ok(terminal) = File::options().read(true).write(true).open("/dev/tty") {
        let _ = nix::unistd::dup2_stdin(&terminal);
    } else if let Ok(null) = File::open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
    }
}
