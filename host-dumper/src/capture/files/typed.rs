//! A line that was begun and not ended, in a terminal whose lines the kernel edits (ICANON).
//!
//! No call tells of it: FIONREAD counts ended lines only (inq_canon in drivers/tty/n_tty.c), and
//! without ICANON it could be seen, but would be an ended line when that is set again
//! (n_tty_set_termios). But a terminal that echoes shows the line when the key for that is typed
//! (VREPRINT): it writes the key, a newline and the line to its master, and keeps the line as it is.
//! So, while all who could see it stand still, the terminal is made to echo what it gets as it is,
//! that key is typed, and the modes are put back. Nothing that is made to change here starts the
//! line anew: for that only ICANON and EXTPROC do.

use super::descriptor::Descriptor;
use super::terminal::{is_readable, polled, TCGETS2, TERMIOS2};
use crate::capture::error::{CaptureError, Refusal, Result};
use nix::poll::PollFlags;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const TCSETS2: libc::c_ulong = 0x402c_542b;
/// Offsets in struct termios2.
const OUTPUT: usize = 4;
const LOCAL: usize = 12;
const KEYS: std::ops::Range<usize> = 17..36;
/// Bytes of a line that is shown whole: of more than 3,808 the first are dropped, a byte of all
/// ones counting twice (ECHO_DISCARD_WATERMARK).
const SHOWN: usize = 3500;

/// What was typed since the last line was ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Typed {
    /// The line, without what was erased.
    pub line: Vec<u8>,
    /// The key that quotes the next one (VLNEXT, ^V) came last.
    pub quoting: bool,
}

/// Why it cannot be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Untold {
    /// The line is too long to be shown.
    Long,
    /// What is written stays in the terminal (^S), and so would the echo.
    Held,
    /// A signal tells of everything that is typed or written (O_ASYNC).
    Asynchronous,
    /// Both ends are not as they were a moment ago.
    Disturbed,
}

impl Untold {
    /// What that means for the terminal of this master, one of so many processes' descriptors: what
    /// is lost, or why it cannot be carried.
    pub fn told(self, master: &Descriptor, processes: usize) -> Result<Option<String>> {
        let name = master.name_among(processes);
        let refused = |reason: &str, remedy| {
            let refusal = Refusal::new(name.clone(), reason, remedy);
            Err(CaptureError::Refused(vec![refusal]))
        };
        match self {
            Self::Long => refused(
                "is the master of a terminal with a line of more than 3,500 bytes, not ended yet",
                "dump again when the line was ended",
            ),
            Self::Disturbed => refused(
                "is the master of a terminal at which something has just come",
                "dump again",
            ),
            Self::Held => Ok(Some(format!(
                "{name}: the output of this terminal is held (^S): it goes on after a resume, and a \
                 line that was begun there is lost"
            ))),
            Self::Asynchronous => Ok(Some(format!(
                "{name}: a line that was begun at this terminal is lost, if there is one: nobody can \
                 look without a signal to the program (O_ASYNC)"
            ))),
        }
    }
}

/// Reads the line through a master and a slave of stopped processes.
pub(super) fn read(master: &OwnedFd, slave: &OwnedFd) -> std::result::Result<Typed, Untold> {
    let modes = Modes::of(master).map_err(|_| Untold::Disturbed)?;
    // A slave that may not be written to now was stopped, as nothing of its output waits.
    if !polled(slave).contains(PollFlags::POLLOUT) {
        return Err(Untold::Held);
    }
    if !modes.edits_lines() {
        return Ok(Typed::default());
    }
    // What was typed a moment ago is echoed now.
    let quiet = !is_readable(slave) && polled(master) & PollFlags::POLLIN == PollFlags::empty();
    if !quiet || !polled(master).contains(PollFlags::POLLOUT) {
        return Err(Untold::Disturbed);
    }
    let keys = modes.free_keys();
    let shown = Shown { master, slave, keys, packets: super::terminal::in_packets(master) };
    let result = modes.showing(keys).set(master).and_then(|()| shown.ask(&modes));
    // Whatever came of it.
    let back = modes.set(master);
    match result.and_then(|typed| back.map(|()| typed)) {
        Ok(typed) => typed,
        Err(_) => Err(Untold::Disturbed),
    }
}

/// Keys of a terminal that shows its line: to show it, to erase, to quote.
#[derive(Debug, Clone, Copy)]
struct Keys {
    shows: u8,
    erases: u8,
    quotes: u8,
}

/// A terminal that shows its line.
struct Shown<'a> {
    master: &'a OwnedFd,
    slave: &'a OwnedFd,
    keys: Keys,
    packets: bool,
}

impl Shown<'_> {
    fn ask(&self, modes: &Modes) -> io::Result<std::result::Result<Typed, Untold>> {
        let Keys { shows, erases, quotes } = self.keys;
        let mut echo = self.press(&[shows])?;
        let quoting = echo == [shows];
        if quoting {
            // It was taken for a part of the line.
            echo = self.press(&[shows])?;
        }
        // The end of what was being erased (ECHOPRT).
        let echo = echo.strip_prefix(b"/").unwrap_or(&echo);
        let line = echo.strip_prefix(&[shows, b'\n']);
        let line = if quoting { line.and_then(|l| l.strip_suffix(&[shows])) } else { line };
        if quoting {
            modes.silent(self.keys).set(self.master)?;
            self.press(&[erases, quotes])?;
        }
        let cost = |l: &[u8]| l.iter().map(|&byte| 1 + usize::from(byte == 0xff)).sum::<usize>();
        Ok(match line {
            Some(line) if cost(line) <= SHOWN => Ok(Typed { line: line.to_vec(), quoting }),
            _ if cost(echo) > SHOWN => Err(Untold::Long),
            _ => Err(Untold::Disturbed),
        })
    }

    /// Types keys and gives what is echoed. Polling waits until what was written has come through
    /// (n_tty_poll), first to the slave and then back.
    fn press(&self, keys: &[u8]) -> io::Result<Vec<u8>> {
        nix::unistd::write(self.master.as_fd(), keys)?;
        let _ = is_readable(self.slave);
        let mut echo = Vec::new();
        let mut piece = [0; 8192];
        while is_readable(self.master) {
            let n = nix::unistd::read(self.master.as_fd(), &mut piece)?;
            let skip = usize::from(self.packets).min(n);
            if n == skip {
                break;
            }
            echo.extend_from_slice(&piece[skip..n]);
        }
        Ok(echo)
    }
}

/// struct termios2.
#[derive(Debug, Clone, Copy)]
struct Modes([u8; TERMIOS2]);

impl Modes {
    fn of(file: &OwnedFd) -> io::Result<Self> {
        let mut modes = [0; TERMIOS2];
        // SAFETY: TCGETS2 writes the 44 bytes of struct termios2, which the buffer has.
        match unsafe { libc::ioctl(file.as_raw_fd(), TCGETS2, modes.as_mut_ptr()) } {
            0 => Ok(Self(modes)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Takes effect at once, and throws nothing away that waits.
    fn set(&self, file: &OwnedFd) -> io::Result<()> {
        // SAFETY: TCSETS2 reads the 44 bytes of struct termios2.
        match unsafe { libc::ioctl(file.as_raw_fd(), TCSETS2, self.0.as_ptr()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn word(&self, at: usize) -> u32 {
        self.0.get(at..at + 4).and_then(|w| w.try_into().ok()).map_or(0, u32::from_ne_bytes)
    }

    fn with(mut self, at: usize, word: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        self
    }

    fn with_key(mut self, index: usize, key: u8) -> Self {
        self.0[KEYS.start + index] = key;
        self
    }

    /// With EXTPROC others edit them, and FIONREAD counts everything.
    fn edits_lines(&self) -> bool {
        self.word(LOCAL) & (libc::ICANON | libc::EXTPROC) == libc::ICANON
    }

    /// Three that mean nothing to the terminal.
    fn free_keys(&self) -> Keys {
        let used = |key: &u8| self.0[KEYS].contains(key) || [b'\t', b'\n', b'\r'].contains(key);
        let mut free = (1..b' ').filter(|key| !used(key));
        // There are 28 of these, and 19 keys.
        let mut next = || free.next().unwrap_or(0x7f);
        Keys { shows: next(), erases: next(), quotes: next() }
    }

    /// The terminal echoes every byte as it is.
    fn showing(&self, keys: Keys) -> Self {
        let lines = self.word(LOCAL) | libc::ECHO | libc::IEXTEN;
        self.with(LOCAL, lines & !libc::ECHOCTL)
            .with(OUTPUT, self.word(OUTPUT) & !libc::OPOST)
            .with_key(libc::VREPRINT, keys.shows)
            .with_key(libc::VERASE, keys.erases)
            .with_key(libc::VLNEXT, keys.quotes)
    }

    /// The same without any echo.
    fn silent(&self, keys: Keys) -> Self {
        let showing = self.showing(keys);
        showing.with(LOCAL, showing.word(LOCAL) & !libc::ECHO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::{openpty, OpenptyResult};

    /// A terminal into which this was typed.
    fn pair(typed: &[u8]) -> OpenptyResult {
        let pair = openpty(None, None).unwrap();
        type_in(&pair, typed);
        pair
    }

    fn type_in(pair: &OpenptyResult, typed: &[u8]) -> Vec<u8> {
        let keys = Keys { shows: 0, erases: 0, quotes: 0 };
        let (master, slave) = (&pair.master, &pair.slave);
        Shown { master, slave, keys, packets: false }.press(typed).unwrap()
    }

    fn told(pair: &OpenptyResult) -> std::result::Result<Typed, Untold> {
        let before = Modes::of(&pair.slave).unwrap().0;
        let typed = read(&pair.master, &pair.slave);
        assert_eq!(Modes::of(&pair.slave).unwrap().0, before);
        typed
    }

    fn line(pair: &OpenptyResult) -> Vec<u8> {
        let mut bytes = [0; 8192];
        let n = nix::unistd::read(pair.slave.as_fd(), &mut bytes).unwrap();
        bytes[..n].to_vec()
    }

    #[test]
    fn a_line_is_seen_and_stays() {
        let long = [b'l'; SHOWN];
        let all: [(&[u8], &[u8]); 5] = [
            (b"", b""),
            (b"begun\x7fs", b"begus"),
            (b"/", b"/"),
            (b"\x16\n\x16\xff\t\xc3\xa9\x16\x01\x16\x02", b"\n\xff\t\xc3\xa9\x01\x02"),
            (&long, &long),
        ];
        for (typed, wanted) in all {
            let pair = pair(typed);
            for _ in 0..2 {
                let wanted = Typed { line: wanted.to_vec(), quoting: false };
                assert_eq!(told(&pair), Ok(wanted));
            }
            assert_eq!(type_in(&pair, b"!\n"), b"!\r\n");
            assert_eq!(line(&pair), [wanted, b"!\n"].concat());
        }
    }

    #[test]
    fn a_quoting_key_stays() {
        let pair = pair(b"a\x16");
        for _ in 0..2 {
            assert_eq!(told(&pair), Ok(Typed { line: b"a".to_vec(), quoting: true }));
        }
        type_in(&pair, b"\x03\n");
        assert_eq!(line(&pair), b"a\x03\n");
    }

    #[test]
    fn what_is_not_seen_stays_too() {
        let long = pair(&[b'l'; SHOWN + 1]);
        assert_eq!(told(&long), Err(Untold::Long));
        assert_eq!(type_in(&long, b"\n"), b"\r\n");
        assert_eq!(line(&long).len(), SHOWN + 2);
        let double = pair(&[0xff; 4000]);
        assert_eq!(told(&double), Err(Untold::Long));
        let held = pair(b"held");
        type_in(&held, b"\x13");
        assert_eq!(told(&held), Err(Untold::Held));
        assert_eq!(type_in(&held, b"\x11\n"), b"\r\n");
        assert_eq!(line(&held), b"held\n");
        let ended = pair(b"ended\n");
        assert_eq!(told(&ended), Err(Untold::Disturbed));
        assert_eq!(line(&ended), b"ended\n");
    }
}
