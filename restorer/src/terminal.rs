//! The terminal of the resume becomes that of the program, and is the shell's again afterwards.

use crate::sys::{self, nr};
use core::sync::atomic::{AtomicBool, Ordering};
use image_format::plan::{plan_flag, PlanHeader};

const TCGETS2: usize = 0x802c_542a;
const TCSETS2: usize = 0x402c_542b;
const TIOCGPGRP: usize = 0x540f;
const TIOCSPGRP: usize = 0x5410;
const TIOCGWINSZ: usize = 0x5413;
const TIOCSWINSZ: usize = 0x5414;
const TIOCSCTTY: usize = 0x540e;
const TIOCSPTLCK: usize = 0x4004_5431;
const TIOCGPTPEER: usize = 0x5441;

/// struct termios2.
pub type Modes = [u8; 44];

/// The terminal.
#[derive(Debug)]
pub struct Terminal {
    /// The user's terminal.
    pub fd: i32,
    /// Its modes before us.
    saved: Modes,
    /// Our process group, the foreground one if `foreground`.
    group: i32,
    /// We were in the foreground.
    foreground: bool,
    /// The program held the terminal at the dump, so that its modes are the program's.
    held: bool,
    /// The program gets a process group of its own.
    own_group: bool,
    /// The program holds the terminal, given by us.
    given: AtomicBool,
    /// A pty for a program that leads a session: master and slave.
    pub pty: Option<[i32; 2]>,
}

fn modes(fd: i32) -> Option<Modes> {
    let mut modes = [0u8; 44];
    // SAFETY: the call writes 44 bytes.
    unsafe { sys::call(nr::IOCTL, &[fd as usize, TCGETS2, modes.as_mut_ptr() as usize]) }.ok()?;
    Some(modes)
}

fn set_modes(fd: i32, modes: &[u8]) {
    // SAFETY: the call reads 44 bytes, which every caller has.
    let _ = unsafe { sys::call(nr::IOCTL, &[fd as usize, TCSETS2, modes.as_ptr() as usize]) };
}

/// Foreground process group of a terminal.
pub fn foreground(fd: i32) -> Option<i32> {
    let mut group = 0i32;
    // SAFETY: the call writes four bytes.
    unsafe { sys::call(nr::IOCTL, &[fd as usize, TIOCGPGRP, &raw mut group as usize]) }.ok()?;
    Some(group)
}

fn set_foreground(fd: i32, group: i32) {
    // SAFETY: the call reads four bytes. SIGTTOU is blocked in every caller.
    let _ = unsafe { sys::call(nr::IOCTL, &[fd as usize, TIOCSPGRP, &raw const group as usize]) };
}

/// Rows, columns and pixels of a terminal.
pub fn size(fd: i32) -> Option<[u16; 4]> {
    let mut size = [0u16; 4];
    // SAFETY: the call writes eight bytes.
    unsafe { sys::call(nr::IOCTL, &[fd as usize, TIOCGWINSZ, size.as_mut_ptr() as usize]) }.ok()?;
    Some(size)
}

/// Sets rows, columns and pixels.
pub fn set_size(fd: i32, size: [u16; 4]) {
    // SAFETY: the call reads eight bytes.
    let _ = unsafe { sys::call(nr::IOCTL, &[fd as usize, TIOCSWINSZ, size.as_ptr() as usize]) };
}

impl Terminal {
    /// The terminal of this command, if the program had one and there is one here.
    pub fn find(header: &PlanHeader, own_group: bool) -> Option<Self> {
        if header.flags & plan_flag::TERMINAL == 0 {
            return None;
        }
        let fd = (0..3).find(|fd| modes(*fd).is_some()).or_else(|| {
            let flags = sys::O_RDWR | sys::O_NOCTTY | sys::O_CLOEXEC;
            sys::openat(sys::AT_FDCWD, c"/dev/tty", flags, 0).ok()
        })?;
        let group = sys::plain(nr::GETPGRP, &[]).unwrap_or(0) as i32;
        let leader = header.flags & plan_flag::LEADER != 0;
        let foreground = foreground(fd) == Some(group);
        let held = leader || header.flags & plan_flag::FOREGROUND != 0;
        Some(Self {
            fd,
            saved: modes(fd)?,
            group,
            foreground,
            held,
            own_group,
            given: AtomicBool::new(foreground && held && own_group),
            pty: if leader && own_group { open_pty() } else { None },
        })
    }

    /// The descriptor that becomes the program's.
    pub fn program_fd(&self) -> i32 {
        self.pty.map_or(self.fd, |p| p[1])
    }

    /// In the program's process: a process group, or a session, of its own. Signals are blocked.
    pub fn enter_program(&self) {
        if let Some([_, slave]) = self.pty {
            let _ = sys::plain(nr::SETSID, &[]);
            let _ = sys::plain(nr::IOCTL, &[slave as usize, TIOCSCTTY, 0]);
            return;
        }
        let _ = sys::plain(nr::SETPGID, &[0, 0]);
        if self.given.load(Ordering::Relaxed) {
            let own = sys::plain(nr::GETPID, &[]).unwrap_or(0) as i32;
            set_foreground(self.fd, own);
        }
    }

    /// Sets the program's modes; true if the window has another size than at the dump.
    pub fn set_program_modes(&self, fd: i32, modes: &[u8], was: [u16; 4]) -> bool {
        if modes.len() == 44 && (self.foreground && self.held || self.pty.is_some()) {
            set_modes(fd, modes);
        }
        size(fd).is_some_and(|now| now != was)
    }

    /// Takes the terminal back for the shell, if the program holds it; gives the modes that the
    /// program had.
    pub fn take_back(&self) -> Option<Modes> {
        if self.pty.is_some() {
            set_modes(self.fd, &self.saved);
        } else if self.given.swap(false, Ordering::Relaxed) {
            let modes = modes(self.fd);
            set_modes(self.fd, &self.saved);
            set_foreground(self.fd, self.group);
            return modes;
        }
        None
    }

    /// Whether the shell gave the terminal to us, and the program has a group of its own.
    pub fn is_ours(&self) -> bool {
        self.own_group && foreground(self.fd) == Some(self.group)
    }

    /// Gives the terminal to the program again, if the shell gave it to us.
    pub fn hand_over(&self, program: i32, modes: Option<Modes>) {
        if self.pty.is_none() && self.is_ours() {
            self.given.store(true, Ordering::Relaxed);
            set_foreground(self.fd, program);
            if let Some(modes) = modes {
                set_modes(self.fd, &modes);
            }
        }
    }

    /// Raw modes outside, while a pty has the program's.
    pub fn make_raw(&self) {
        let mut raw = self.saved;
        let word = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        // As cfmakeraw(3).
        let input = word(0) & !0o2753;
        let output = word(4) & !1;
        let control = word(8) & !0o460 | 0o60;
        let local = word(12) & !0o100_113;
        for (at, value) in [(0, input), (4, output), (8, control), (12, local)] {
            raw[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        // c_cc from byte 17: VTIME is 5, VMIN is 6.
        (raw[17 + 5], raw[17 + 6]) = (0, 1);
        set_modes(self.fd, &raw);
    }
}

fn open_pty() -> Option<[i32; 2]> {
    let flags = sys::O_RDWR | sys::O_NOCTTY | sys::O_CLOEXEC;
    let master = sys::openat(sys::AT_FDCWD, c"/dev/ptmx", flags, 0).ok()?;
    let unlock = 0i32;
    // SAFETY: the call reads four bytes.
    unsafe { sys::call(nr::IOCTL, &[master as usize, TIOCSPTLCK, &raw const unlock as usize]) }
        .ok()?;
    // Without O_CLOEXEC, which would stay in the description and show in fdinfo.
    let flags = flags & !sys::O_CLOEXEC;
    let slave = sys::plain(nr::IOCTL, &[master as usize, TIOCGPTPEER, flags]).ok()?;
    Some([master, slave as i32])
}
