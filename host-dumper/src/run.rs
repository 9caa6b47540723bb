//! `dumper run`: starts an image from memory, for media where execution is not permitted (noexec
//! mounts, FAT) and for images that come through a pipe.

use crate::cli::RunArgs;
use crate::failure::{errno_text, status, Failure};
use crate::medium;
use nix::fcntl::{AtFlags, FcntlArg, SealFlag};
use nix::sys::memfd::{memfd_create, MFdFlags};
use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Copies the image into memory and becomes it.
pub fn run(args: &RunArgs) -> Result<Infallible, Failure> {
    let name = args.command.first().map_or(OsStr::new("-"), |name| name.as_os_str());
    let shown = name.to_string_lossy();
    let fail = |what: &str, error: &io::Error, advice: &str| {
        Failure::new(status::FAILED, format!("cannot {what}: {}", errno_text(error)), advice)
    };
    let source = if name == "-" { None } else { Some(medium::open(Path::new(name))?) };
    let mut length = u64::MAX;
    if let Some(file) = &source {
        // A stick is longer than the image on it, and so may be what was copied from one.
        match medium::length(file) {
            Ok(found) => length = found,
            Err(error) if medium::is_device(file) => {
                return Err(medium::unreadable(Path::new(name), file, &error));
            }
            // The kernel tells what is wrong with it.
            Err(_) => {}
        }
    }
    let memory = copy(source, length).map_err(|error| {
        fail(&format!("copy {shown} into memory"), &error, "is there enough memory?")
    })?;
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
            fail(
                &format!("start {shown}"),
                &errno.into(),
                "is it an image for this machine? `dumper inspect` tells",
            )
        },
    )
}

/// Copies at most `length` bytes of an open file, or all of standard input.
fn copy(source: Option<File>, length: u64) -> io::Result<OwnedFd> {
    // Not MFD_CLOEXEC: the restorer reads the image again through this descriptor. Kernels before
    // 6.3 do not know MFD_EXEC, and need it only where vm.memfd_noexec asks for it.
    let flags = MFdFlags::MFD_ALLOW_SEALING;
    let fd = memfd_create(c"resume.elf", flags | MFdFlags::from_bits_retain(libc::MFD_EXEC))
        .or_else(|errno| match errno {
            nix::errno::Errno::EINVAL => memfd_create(c"resume.elf", flags),
            other => Err(other),
        })?;
    let mut memory = File::from(fd);
    match source {
        None => io::copy(&mut io::stdin().lock(), &mut memory)?,
        Some(file) => io::copy(&mut file.take(length), &mut memory)?,
    };
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    nix::fcntl::fcntl(&memory, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(memory.into())
}

/// Makes the terminal, if there is one, standard input again.
fn restore_stdin() {
    if let Ok(terminal) = File::options().read(true).write(true).open("/dev/tty") {
        let _ = nix::unistd::dup2_stdin(&terminal);
    } else if let Ok(null) = File::open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
    }
}
