//! Which machine this is, to tell after a resume whether it is another one.
//!
//! A kernel that still runs is the same machine, whatever else has changed. After a reboot it is the
//! same if everything agrees that can be known: the id of the installation, the host's name and,
//! where it may be read, the firmware's id of the hardware. The first alone does not do: copies of one
//! disk share it. In doubt it is another machine, as one thing renewed too many does no harm.

use core::ffi::CStr;
use core::sync::atomic::{AtomicU64, Ordering};

/// The running kernel.
const BOOT: &CStr = c"/proc/sys/kernel/random/boot_id";
/// The installation.
const INSTALLATION: &CStr = c"/etc/machine-id";
/// The hardware, virtual machines included; for root's eyes.
const HARDWARE: &CStr = c"/sys/class/dmi/id/product_uuid";

/// What is known of a machine; 0 is what could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    boot: u64,
    installation: u64,
    name: u64,
    hardware: u64,
}

/// An identity in four words.
static KNOWN: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// Notes where this process is.
pub fn remember() {
    let Identity { boot, installation, name, hardware } = look();
    for (known, now) in KNOWN.iter().zip([boot, installation, name, hardware]) {
        known.store(now, Ordering::Relaxed);
    }
}

/// Whether it is another machine than the one noted last. One that does not say who it is counts as
/// another.
pub fn is_another() -> bool {
    let [boot, installation, name, hardware] =
        core::array::from_fn(|i| KNOWN[i].load(Ordering::Relaxed));
    !is_same(&Identity { boot, installation, name, hardware }, &look())
}

fn is_same(then: &Identity, now: &Identity) -> bool {
    if now.boot != 0 && then.boot == now.boot {
        return true;
    }
    let unknown = then.hardware == 0 || now.hardware == 0;
    now.installation != 0
        && then.installation == now.installation
        && then.name == now.name
        && (unknown || then.hardware == now.hardware)
}

fn look() -> Identity {
    Identity {
        boot: file(BOOT),
        installation: file(INSTALLATION),
        name: host_name(),
        hardware: file(HARDWARE),
    }
}

/// A digest of what a file begins with; 0 if nothing can be read.
fn file(path: &CStr) -> u64 {
    let mut bytes = [0u8; 64];
    // SAFETY: the path ends with a zero byte; open, read and close are async-signal-safe.
    let got = unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return 0;
        }
        let got = libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len());
        libc::close(fd);
        got
    };
    digest(usize::try_from(got).ok().and_then(|n| bytes.get(..n)).unwrap_or(&[]))
}

fn host_name() -> u64 {
    // SAFETY: a zeroed structure is completed by uname, which ends each text by a zero byte.
    unsafe {
        let mut names: libc::utsname = core::mem::zeroed();
        match libc::uname(&raw mut names) {
            0 => digest(CStr::from_ptr(names.nodename.as_ptr()).to_bytes()),
            _ => 0,
        }
    }
}

/// FNV-1a; 0 of nothing, and of nothing else.
fn digest(text: &[u8]) -> u64 {
    if text.is_empty() {
        return 0;
    }
    let hash = text.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Identity = Identity { boot: 3, installation: 5, name: 7, hardware: 9 };

    #[test]
    fn where_it_is_noted_is_the_same_machine() {
        remember();
        assert!(!is_another());
        KNOWN[0].fetch_add(2, Ordering::Relaxed);
        KNOWN[2].fetch_add(2, Ordering::Relaxed);
        assert!(is_another());
        remember();
        assert!(!is_another());
    }

    #[test]
    fn a_kernel_that_runs_on_is_the_same_machine() {
        // In another container, with another name.
        assert!(is_same(&HOME, &Identity { installation: 0, name: 1, hardware: 0, ..HOME }));
    }

    #[test]
    fn a_reboot_is_the_same_machine() {
        assert!(is_same(&HOME, &Identity { boot: 1, ..HOME }));
        // An ordinary user does not see the hardware's id.
        assert!(is_same(&HOME, &Identity { boot: 1, hardware: 0, ..HOME }));
    }

    #[test]
    fn a_copy_of_the_disk_is_another_machine() {
        assert!(!is_same(&HOME, &Identity { boot: 1, hardware: 1, ..HOME }));
        assert!(!is_same(&HOME, &Identity { boot: 1, hardware: 0, name: 1, ..HOME }));
    }

    #[test]
    fn what_says_nothing_is_another_machine() {
        let nothing = Identity { boot: 0, installation: 0, name: 7, hardware: 9 };
        assert!(!is_same(&nothing, &nothing));
        assert!(!is_same(&HOME, &Identity { boot: 1, installation: 0, ..HOME }));
    }
}
