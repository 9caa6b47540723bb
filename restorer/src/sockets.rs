//! Room for Unix sockets that are bound to a path.

use crate::files::Created;
use crate::report::{Fault, Outcome};
use crate::steps::Steps;
use crate::sys::{self, nr, Errno};
use alloc::ffi::CString;
use image_format::plan::Step;

const O_PATH: usize = 0o10_000_000;
const O_NOFOLLOW: usize = 0o400_000;
const S_IFMT: u32 = 0o170_000;
const S_IFSOCK: u32 = 0o140_000;
const AF_UNIX: usize = 1;
/// SOCK_NONBLOCK and SOCK_CLOEXEC.
const FLAGS: usize = 0o4000 | 0o2_000_000;
const ECONNREFUSED: Errno = Errno(111);
const EADDRINUSE: Errno = Errno(98);

/// Executes a `SOCKET_PATH` step: only a socket file to which nobody listens is removed.
pub fn make_room(steps: &Steps<'_>, created: &Created, step: &Step) -> Outcome<()> {
    let failed = |errno| {
        let object = steps.plan.text(step.object);
        let advice = "end the program that uses this address, or remove the file";
        Fault::sys("cannot bring back", object, errno, advice)
    };
    let address = steps.plan.data(step.args[0], step.args[1])?;
    let name = address.get(2..).unwrap_or(&[]);
    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    let path = CString::new(&name[..end]).map_err(|_| failed(Errno::EINVAL))?;
    match sys::openat(sys::AT_FDCWD, &path, O_PATH | O_NOFOLLOW | sys::O_CLOEXEC, 0) {
        Err(Errno::ENOENT) => {}
        Err(e) => return Err(failed(e)),
        Ok(fd) => {
            let mode = sys::fstat(fd).map(|found| found.mode);
            sys::close(fd);
            if mode.map_err(failed)? & S_IFMT != S_IFSOCK {
                return Err(failed(Errno::EEXIST));
            }
            let probe = sys::plain(nr::SOCKET, &[AF_UNIX, step.args[2] as usize | FLAGS, 0]);
            let probe = probe.map_err(failed)?;
            // With a socket of another type: EPROTOTYPE where somebody listens.
            // SAFETY: the kernel reads the address.
            let answer = unsafe {
                sys::call(nr::CONNECT, &[probe, address.as_ptr() as usize, address.len()])
            };
            sys::close(probe as i32);
            if answer != Err(ECONNREFUSED) {
                return Err(failed(EADDRINUSE));
            }
            // SAFETY: the kernel reads the path.
            unsafe { sys::call(nr::UNLINK, &[path.as_ptr() as usize]) }.map_err(failed)?;
        }
    }
    if name.first() == Some(&b'/') {
        created.note(path);
    }
    Ok(())
}
