//! Terminals: modes and size.

use super::descriptor::Descriptor;
use crate::capture::proc::stat::Stat;
use image_format::model::Terminal;
use std::os::fd::{AsRawFd, OwnedFd};

/// struct termios2 in bytes.
const TERMIOS2: usize = 44;
const TCGETS2: libc::c_ulong = 0x802c_542a;
/// Device number of /dev/tty, which means the controlling terminal.
const DEV_TTY: u64 = 5 << 8;

/// Reads a terminal through a duplicate of the process's own descriptor.
pub(super) fn read(file: &OwnedFd, d: &Descriptor, stat: &Stat, pid: u32) -> Option<Terminal> {
    let mut termios = [0u8; TERMIOS2];
    // SAFETY: TCGETS2 writes the 44 bytes of struct termios2, which the buffer has.
    let got = unsafe { libc::ioctl(file.as_raw_fd(), TCGETS2, termios.as_mut_ptr()) };
    if got != 0 {
        return None;
    }
    let mut size = [0u16; 4];
    // SAFETY: TIOCGWINSZ writes four 16-bit words.
    let sized = unsafe { libc::ioctl(file.as_raw_fd(), libc::TIOCGWINSZ, size.as_mut_ptr()) };
    if sized != 0 {
        size = [0; 4];
    }
    let rdev = d.stat.st_rdev;
    let controlling = stat.tty != 0 && (rdev == DEV_TTY || encode(rdev) == stat.tty);
    Some(Terminal {
        path: d.path().to_vec().into(),
        rdev,
        controlling,
        foreground: controlling && stat.tpgid == i64::from(stat.pgrp),
        foreground_group: 0,
        leader: controlling && stat.session == pid,
        termios: termios.to_vec().into(),
        winsize: size,
    })
}

/// A device number as stat's tty_nr has it: minor in bits 0 to 7 and 20 to 31, major between.
fn encode(rdev: u64) -> u32 {
    let (major, minor) = (libc::major(rdev), libc::minor(rdev));
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers() {
        assert_eq!(encode(libc::makedev(136, 2)), 0x8802);
        assert_eq!(encode(libc::makedev(136, 258)), 0x0010_8802);
        assert_eq!(libc::makedev(5, 0), DEV_TTY);
    }
}
