//! Which machine this is, to tell after a resume whether it is another one.

use core::ffi::CStr;
use core::sync::atomic::{AtomicU64, Ordering};

/// Where machines say who they are: an id of the installation, and one of the running kernel.
const FILES: [&CStr; 2] = [c"/etc/machine-id", c"/proc/sys/kernel/random/boot_id"];

static KNOWN: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// Notes where this process is.
pub fn remember() {
    for (known, now) in KNOWN.iter().zip(look()) {
        known.store(now, Ordering::Relaxed);
    }
}

/// Whether it is another machine than the one noted last. One that does not say who it is counts as
/// another.
pub fn is_another() -> bool {
    let same = |(known, now): (&AtomicU64, u64)| now != 0 && known.load(Ordering::Relaxed) == now;
    !KNOWN.iter().zip(look()).any(same)
}

fn look() -> [u64; 2] {
    FILES.map(|path| digest(path).unwrap_or(0))
}

/// FNV-1a of what a file begins with; not 0.
fn digest(path: &CStr) -> Option<u64> {
    let mut bytes = [0u8; 64];
    // SAFETY: the path ends with a zero byte; open, read and close are async-signal-safe.
    let got = unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return None;
        }
        let got = libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len());
        libc::close(fd);
        got
    };
    let text = bytes.get(..usize::try_from(got).ok()?)?;
    if text.is_empty() {
        return None;
    }
    let hash = text.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Some(hash | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_known_again_by_either_id() {
        remember();
        assert!(!is_another());
        let [installation, kernel] = &KNOWN;
        kernel.fetch_add(2, Ordering::Relaxed);
        // As after a reboot; where there is no id of the installation, that is another machine.
        assert_eq!(is_another(), look()[0] == 0);
        installation.fetch_add(2, Ordering::Relaxed);
        assert!(is_another());
        remember();
        assert!(!is_another());
    }
}
