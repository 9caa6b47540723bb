//! The kind of an eventfd, which kernels before 6.6 do not tell.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Whether an eventfd that counts `count` is a semaphore: a read takes one from it then, and
/// all otherwise (eventfd(2)). What is read is put back at once; all who could see it stand still.
///
/// # Errors
///
/// What the system says to a read or write.
pub(super) fn is_semaphore(file: &OwnedFd, count: u64) -> io::Result<bool> {
    // At least two, so that both differ, and so that no read waits.
    let lent = 2u64.saturating_sub(count);
    add(file, lent)?;
    let taken = take(file)?;
    if taken != 1 {
        return add(file, count).map(|()| false);
    }
    if lent == 0 {
        return add(file, 1).map(|()| true);
    }
    (1..lent).try_for_each(|_| take(file).map(drop)).map(|()| true)
}

fn add(file: &OwnedFd, n: u64) -> io::Result<()> {
    if n != 0 {
        nix::unistd::write(file.as_fd(), &n.to_ne_bytes())?;
    }
    Ok(())
}

fn take(file: &OwnedFd) -> io::Result<u64> {
    let mut count = 0u64;
    let place = libc::iovec { iov_base: (&raw mut count).cast(), iov_len: size_of::<u64>() };
    // Never waits, should a process outside have it as well and be faster.
    // SAFETY: the kernel writes eight bytes to `count`; -1 is for files without a position.
    match unsafe { libc::preadv2(file.as_raw_fd(), &raw const place, 1, -1, libc::RWF_NOWAIT) } {
        8 => Ok(count),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::eventfd::{EfdFlags, EventFd};

    #[test]
    fn the_kind_is_found_and_the_count_stays() {
        for (flags, wanted) in [(EfdFlags::empty(), false), (EfdFlags::EFD_SEMAPHORE, true)] {
            for count in [0, 1, 2, 3, 1000] {
                let made = EventFd::from_value_and_flags(count, flags | EfdFlags::EFD_NONBLOCK);
                let file = OwnedFd::from(made.unwrap());
                assert_eq!(is_semaphore(&file, u64::from(count)).unwrap(), wanted);
                let mut total = 0;
                while let Ok(n) = take(&file) {
                    total += n;
                }
                assert_eq!(total, u64::from(count));
            }
        }
    }
}
