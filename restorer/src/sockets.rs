//! Room for Unix sockets that are bound to a path.

use crate::report::Outcome;
use crate::steps::Steps;
use crate::sys::{self, nr, Errno};
use core::ffi::CStr;
use image_format::plan::Step;

const O_PATH: usize = 0o10_000_000;
const O_NOFOLLOW: usize = 0o400_000;
const S_IFMT: u32 = 0o170_000;
const S_IFSOCK: u32 = 0o140_000;
const ECONNREFUSED: Errno = Errno(111);
const EADDRINUSE: Errno = Errno(98);

/// Executes a `SOCKET_PATH` step: only a socket file to which nobody listens is removed.
pub fn make_room(steps: &Steps<'_>, step: &Step) -> Outcome<()> {
    let path = steps.plan.path(step.args[3])?;
    let [address, length, probe, ..] = steps.arguments(step)?;
    steps.judge(step, clear(path, [probe, address, length]), 0)?;
    // A relative one leads elsewhere later.
    if path.to_bytes().first() == Some(&b'/') {
        steps.created.note_file(path);
    }
    Ok(())
}

fn clear(path: &CStr, connect: [usize; 3]) -> Result<usize, Errno> {
    let flags = O_PATH | O_NOFOLLOW | sys::O_CLOEXEC;
    let fd = match sys::openat(sys::AT_FDCWD, path, flags, 0) {
        Err(Errno::ENOENT) => return Ok(0),
        found => found?,
    };
    let found = sys::fstat(fd);
    sys::close(fd);
    if found?.mode & S_IFMT != S_IFSOCK {
        return Err(Errno::EEXIST);
    }
    // With a socket of another type: EPROTOTYPE where somebody listens.
    // SAFETY: the kernel reads the address, which is the plan's.
    match unsafe { sys::call(nr::CONNECT, &connect) } {
        // SAFETY: the kernel reads the path.
        Err(ECONNREFUSED) => unsafe { sys::call(nr::UNLINK, &[path.as_ptr() as usize]) },
        _ => Err(EADDRINUSE),
    }
}
