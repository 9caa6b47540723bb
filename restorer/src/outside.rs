//! What the program gets from outside: descriptors of the resuming command, files that take their
//! place, another root directory.

use crate::options::Outside;
use crate::process::Setup;
use crate::report::{self, Advice, Fault, Outcome};
use crate::steps::Descriptors;
use crate::sys::{self, nr, Errno};
use crate::text;
use core::ffi::CStr;

const F_DUPFD_CLOEXEC: usize = 1030;
const RLIMIT_NOFILE: usize = 7;
/// Numbers of ours from `scratch_fd` on; the plan's scratch numbers follow them.
const OWN_DESCRIPTORS: i32 = 64;

/// Moves the descriptors that we still need to where the program has none.
pub fn move_descriptors(setup: &Setup<'_>) -> Outcome<Descriptors> {
    let base = setup.plan.header.scratch_fd as i32;
    // The soft limit of the resuming shell may lie below the program's numbers.
    let mut limit = [0u64; 2];
    let read = [0, RLIMIT_NOFILE, 0, limit.as_mut_ptr() as usize];
    // SAFETY: the kernel writes two words.
    if unsafe { sys::call(nr::PRLIMIT64, &read) }.is_ok() {
        limit[0] = limit[1];
        let write = [0, RLIMIT_NOFILE, limit.as_ptr() as usize, 0];
        // SAFETY: the kernel reads two words.
        let _ = unsafe { sys::call(nr::PRLIMIT64, &write) };
    }
    let up = |fd: i32| sys::plain(nr::FCNTL, &[fd as usize, F_DUPFD_CLOEXEC, base as usize]);
    let mut stdio = [-1; 3];
    for (fd, (moved, closed)) in (0..).zip(stdio.iter_mut().zip(setup.outside.closed)) {
        if !closed {
            *moved = up(fd).map_or(-1, |n| n as i32);
        }
    }
    if stdio[2] >= 0 {
        report::set_stderr(stdio[2]);
    }
    let error =
        |e| Fault::sys("no descriptor number above the program's", "", e, Advice::RaiseFiles);
    let image = up(setup.image.fd).map_err(error)? as i32;
    let terminal = match setup.terminal {
        Some(t) => up(t.program_fd()).map_err(error)? as i32,
        None => -1,
    };
    for &(number, value) in &setup.outside.redirected {
        redirect(setup, number, value, up)
            .map_err(|e| Fault::sys("cannot redirect to", value.to_bytes(), e, Advice::None))?;
    }
    Ok(Descriptors { stdio, image, terminal, scratch: base + OWN_DESCRIPTORS })
}

impl Outside<'_> {
    /// Makes `--root-dir` the root directory.
    pub fn enter_root(&self) -> Outcome<()> {
        let Some(root) = self.root else { return Ok(()) };
        // SAFETY: the kernel reads the paths.
        let entered = unsafe {
            sys::call(nr::CHROOT, &[root.as_ptr() as usize])
                .and_then(|_| sys::call(nr::CHDIR, &[c"/".as_ptr() as usize]))
        };
        entered.map_err(|e| Fault::sys("no root directory", root.to_bytes(), e, Advice::AsRoot))?;
        Ok(())
    }
}

/// Opens what takes the place of a descriptor of the program, and tells the plan.
fn redirect(
    setup: &Setup<'_>,
    number: u32,
    value: &CStr,
    up: impl Fn(i32) -> Result<usize, Errno>,
) -> Result<(), Errno> {
    let header = &setup.plan.header;
    let pairs = (0..header.fds_count).map(|i| u64::from(header.fds_off + 8 * i));
    let is_it = |pair: &u64| setup.plan.record::<u32>(*pair).is_ok_and(|fd| fd == number);
    let pair = pairs.into_iter().find(is_it).ok_or(Errno::EBADF)?;
    let fd = match value.to_bytes().strip_prefix(b"fd:").and_then(text::number) {
        Some(own) => own as i32,
        None => {
            let open = |flags| sys::openat(sys::AT_FDCWD, value, flags, 0o666);
            match number {
                0 => open(0)?,
                // Made or emptied: O_WRONLY, O_CREAT, O_TRUNC.
                1 | 2 => open(0o1101)?,
                _ => open(sys::O_RDWR).or_else(|_| open(0))?,
            }
        }
    };
    let fd = up(fd)? as u32;
    let word = setup.plan.address(pair + 4).map_err(|_| Errno::EIO)?;
    // SAFETY: four bytes of writable data, in the table that was just read.
    unsafe { word.cast::<u32>().write_unaligned(fd) };
    Ok(())
}
