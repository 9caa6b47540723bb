//! Between the user's terminal and the pty of a program that leads a session.

use crate::sys::{self, nr, Errno};
use crate::terminal::{self, Terminal};
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};

const POLL: usize = 7;
const SIGNALFD4: usize = 289;
const SIGWINCH: i32 = 28;
const SFD_NONBLOCK_CLOEXEC: usize = 0o2_004_000;
const POLLIN: u16 = 1;

/// 1 + the descriptor on which signals arrive; 0 for none.
static SIGNALS: AtomicI32 = AtomicI32::new(0);
/// Input of the user has ended: not read any more.
static INPUT_ENDED: AtomicU32 = AtomicU32::new(0);

/// Begins: raw modes outside, the size inside; the slave is the program's alone.
pub fn start(terminal: &Terminal) {
    let Some([master, slave]) = terminal.pty else { return };
    if let Some(size) = terminal::size(terminal.fd) {
        terminal::set_size(master, size);
    }
    terminal.make_raw();
    sys::close(slave);
    let all = u64::MAX;
    let args = [usize::MAX, &raw const all as usize, 8, SFD_NONBLOCK_CLOEXEC];
    // SAFETY: the kernel reads eight bytes.
    let fd = unsafe { sys::call(SIGNALFD4, &args) };
    SIGNALS.store(fd.map_or(0, |fd| fd as i32 + 1), Ordering::Relaxed);
}

fn copy(from: i32, to: i32) -> Result<usize, Errno> {
    let mut buffer = [0u8; 4096];
    let n = sys::read(from, &mut buffer)?;
    sys::write_all(to, &buffer[..n])?;
    Ok(n)
}

/// Copies both ways until a signal comes, and gives it.
pub fn next(terminal: &Terminal) -> i32 {
    let Some([master, _]) = terminal.pty else { return 0 };
    let signals = SIGNALS.load(Ordering::Relaxed) - 1;
    loop {
        let input = if INPUT_ENDED.load(Ordering::Relaxed) == 0 { terminal.fd } else { -1 };
        // struct pollfd: descriptor, events, returned events.
        let mut fds = [signals, input, master].map(|fd| (fd, POLLIN, 0u16));
        let mut raw = [0u64; 3];
        for (word, (fd, events, _)) in raw.iter_mut().zip(&fds) {
            *word = u64::from(*fd as u32) | u64::from(*events) << 32;
        }
        // SAFETY: the kernel reads and writes three structures of eight bytes.
        let polled = unsafe { sys::call(POLL, &[raw.as_mut_ptr() as usize, 3, usize::MAX]) };
        if polled.is_err() {
            continue;
        }
        for (word, fd) in raw.iter().zip(&mut fds) {
            fd.2 = (word >> 48) as u16;
        }
        if fds[2].2 & POLLIN != 0 {
            let _ = copy(master, terminal.fd);
        }
        if fds[1].2 != 0 && !matches!(copy(terminal.fd, master), Ok(n) if n > 0) {
            INPUT_ENDED.store(1, Ordering::Relaxed);
        }
        if fds[0].2 != 0 {
            let mut info = [0u8; 128];
            if sys::read(signals, &mut info) == Ok(info.len()) {
                let signal = i32::from_le_bytes([info[0], info[1], info[2], info[3]]);
                if signal != SIGWINCH {
                    return signal;
                }
                // The kernel tells the program when the pty's size changes.
                if let Some(size) = terminal::size(terminal.fd) {
                    terminal::set_size(master, size);
                }
            }
        } else if fds[2].2 & !POLLIN != 0 && fds[2].2 & POLLIN == 0 {
            // Nobody has the slave open: the program's end will be told by a signal.
            let pause = [0u64, 2_000_000];
            // SAFETY: the kernel reads sixteen bytes.
            let _ = unsafe { sys::call(nr::NANOSLEEP, &[pause.as_ptr() as usize, 0]) };
        }
    }
}

/// Shows what the program wrote last.
pub fn drain(terminal: &Terminal) {
    let Some([master, _]) = terminal.pty else { return };
    loop {
        let mut raw = [u64::from(master as u32) | u64::from(POLLIN) << 32];
        // SAFETY: the kernel reads and writes one structure of eight bytes.
        let _ = unsafe { sys::call(POLL, &[raw.as_mut_ptr() as usize, 1, 0]) };
        let ready = (raw[0] >> 48) as u16 & POLLIN != 0;
        if !ready || !matches!(copy(master, terminal.fd), Ok(n) if n > 0) {
            return;
        }
    }
}
