//! One terminal: modes and size, and what there is to a pair.

use super::borrow::{borrow, pidfd};
use super::descriptor::{Descriptor, Kind};
use super::lines::masters;
use super::typed::{self, Typed, Untold};
use crate::capture::error::Result;
use crate::capture::proc::stat::Stat;
use crate::capture::survey::Survey;
use image_format::codec::Bytes;
use image_format::model::{Terminal, TerminalPair};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// struct termios2 in bytes.
pub(super) const TERMIOS2: usize = 44;
pub(super) const TCGETS2: libc::c_ulong = 0x802c_542a;
/// ioctl_tty(2) requests that the libc crate does not name.
const TIOCGDEV: libc::c_ulong = 0x8004_5432;
const TIOCGPKT: libc::c_ulong = 0x8004_5438;
const TIOCGPTLCK: libc::c_ulong = 0x8004_5439;
const TIOCGEXCL: libc::c_ulong = 0x8004_5440;
const TIOCGPTPEER: libc::c_ulong = 0x5441;

/// Reads the terminal that becomes the one of the resume, through a duplicate of the process's own
/// descriptor.
pub(super) fn read(
    file: &OwnedFd,
    d: &Descriptor,
    device: u32,
    stat: &Stat,
    pid: u32,
) -> Option<Terminal> {
    let controlling = stat.tty != 0 && device == stat.tty;
    let (termios, winsize) = modes(file)?;
    Some(Terminal {
        path: d.path().to_vec().into(),
        rdev: decode(device),
        controlling,
        foreground: controlling && stat.tpgid == i64::from(stat.pgrp),
        foreground_group: 0,
        leader: controlling && stat.session == pid,
        termios,
        winsize,
        pair: None,
    })
}

/// Reads all pairs of a tree; what is lost of them comes to the notes.
pub(super) fn pairs(surveys: &[&Survey], notes: &mut Vec<String>) -> Result<Vec<Terminal>> {
    let inner = |ids: Ids| {
        let found = surveys.iter().find(|s| match ids {
            Ids::Session(outer) => s.stat.session == outer,
            Ids::Group(outer) => s.stat.pgrp == outer,
        });
        let list = found.map(|s| match ids {
            Ids::Session(_) => &s.status.ns_sid,
            Ids::Group(_) => &s.status.ns_pgid,
        });
        list.and_then(|ids| ids.last()).copied().unwrap_or(0)
    };
    let all = || surveys.iter().flat_map(|s| &s.descriptors);
    let mut pairs: Vec<Terminal> = Vec::new();
    for (d, device) in masters(all()) {
        if pairs.iter().any(|t| is(t, device)) {
            continue;
        }
        let slave =
            all().find(|d| d.stat.st_rdev == decode(device) && d.kind == Kind::Tty { device });
        let slave = match slave {
            Some(slave) => borrow(&pidfd(slave.pid)?, slave.fd).map(|file| (slave, file)),
            None => None,
        };
        let Some(master) = borrow(&pidfd(d.pid)?, d.fd) else { continue };
        // Whose signals tell of input would get one for what is asked.
        let ends = [Kind::Tty { device }, Kind::TtyMaster { device }];
        let signals = |d: &Descriptor| d.flags() & libc::O_ASYNC as u32 != 0;
        let asynchronous = all().any(|d| ends.contains(&d.kind) && signals(d));
        let typed = match &slave {
            Some(_) if asynchronous => Err(Untold::Asynchronous),
            Some((_, slave)) => typed::read(&master, slave),
            None => Ok(Typed::default()),
        };
        let Some(mut terminal) = read_pair(&master, device, slave, inner) else { continue };
        match (typed, &mut terminal.pair) {
            (Ok(Typed { line, quoting }), Some(pair)) => {
                (pair.typed, pair.quoting) = (line.into(), quoting);
            }
            (Err(untold), _) => notes.extend(untold.told(d, surveys.len())?),
            _ => {}
        }
        pairs.push(terminal);
    }
    Ok(pairs)
}

/// Whether this is the terminal with that device number.
pub(super) fn is(terminal: &Terminal, device: u32) -> bool {
    terminal.rdev == decode(device)
}

/// Reads a pair through its master. `slave` is some descriptor of its slave, `inner` translates
/// sessions and process groups into what the tree calls them.
pub(super) fn read_pair(
    master: &OwnedFd,
    device: u32,
    slave: Option<(&Descriptor, OwnedFd)>,
    inner: impl Fn(Ids) -> u32,
) -> Option<Terminal> {
    let (termios, winsize) = modes(master)?;
    let number = decode(device);
    let number = libc::minor(number);
    let flag = |request| number_of(master, request).is_some_and(|set| set != 0);
    let stat = slave.as_ref().map(|(d, _)| d.stat).or_else(|| stat_of_slave(master));
    Some(Terminal {
        path: format!("/dev/pts/{number}").into_bytes().into(),
        rdev: decode(device),
        controlling: false,
        foreground: false,
        foreground_group: number_of(master, libc::TIOCGPGRP).map_or(0, |g| inner(Ids::Group(g))),
        leader: false,
        termios,
        winsize,
        pair: Some(TerminalPair {
            number,
            session: session(master).map_or(0, |s| inner(Ids::Session(s))),
            locked: flag(TIOCGPTLCK),
            packet: in_packets(master),
            exclusive: slave
                .is_some_and(|(_, slave)| number_of(&slave, TIOCGEXCL).is_some_and(|set| set != 0)),
            closed: polled(master).contains(PollFlags::POLLHUP),
            mode: stat.map_or(0, |s| s.st_mode & 0o7777),
            owner: stat.map_or([0; 2], |s| [s.st_uid, s.st_gid]),
            typed: Vec::new().into(),
            quoting: false,
        }),
    })
}

/// The slave's file, which is not opened by that: O_PATH.
fn stat_of_slave(master: &OwnedFd) -> Option<libc::stat> {
    // SAFETY: makes a descriptor, and touches no memory.
    let fd =
        unsafe { libc::ioctl(master.as_raw_fd(), TIOCGPTPEER, libc::O_PATH | libc::O_CLOEXEC) };
    // SAFETY: the descriptor was just made, and nobody else knows it.
    let fd = (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })?;
    nix::sys::stat::fstat(&fd).ok()
}

/// An id as this program sees it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ids {
    /// Of a session.
    Session(u32),
    /// Of a process group.
    Group(u32),
}

fn modes(file: &OwnedFd) -> Option<(Bytes, [u16; 4])> {
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
    Some((termios.to_vec().into(), size))
}

/// Asks a question that is answered by a number.
pub(super) fn number_of(file: &OwnedFd, request: libc::c_ulong) -> Option<u32> {
    let mut number = 0u32;
    // SAFETY: each request used here writes four bytes.
    let got = unsafe { libc::ioctl(file.as_raw_fd(), request, &raw mut number) };
    (got == 0).then_some(number)
}

/// The device of a terminal, by whatever path it was opened; of a master, that of its slave. None
/// for one that was hung up.
pub(super) fn device(file: &OwnedFd) -> Option<u32> {
    number_of(file, TIOCGDEV)
}

/// The session whose controlling terminal it is, asked of the master.
pub(super) fn session(master: &OwnedFd) -> Option<u32> {
    number_of(master, libc::TIOCGSID)
}

/// Whether a read would return at once. What was written just now has reached the reader then:
/// polling waits for it (n_tty_poll).
pub(super) fn is_readable(file: &OwnedFd) -> bool {
    let mut asked = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut asked, PollTimeout::ZERO);
    asked[0].revents().is_some_and(|events| events == PollFlags::POLLIN)
}

/// Bytes that wait to be read.
pub(super) fn waiting(file: &OwnedFd) -> u32 {
    number_of(file, libc::FIONREAD).unwrap_or(0)
}

/// The state of the pair that a master in packet mode has not told yet.
pub(super) fn untold(master: &OwnedFd) -> bool {
    polled(master).contains(PollFlags::POLLPRI)
}

/// Whether a master reads packets.
pub(super) fn in_packets(master: &OwnedFd) -> bool {
    number_of(master, TIOCGPKT).is_some_and(|set| set != 0)
}

/// Line discipline; 0 is the usual one, N_TTY.
pub(super) fn discipline(file: &OwnedFd) -> u32 {
    number_of(file, libc::TIOCGETD).unwrap_or(0)
}

pub(super) fn polled(file: &OwnedFd) -> PollFlags {
    let all = PollFlags::POLLPRI | PollFlags::POLLIN | PollFlags::POLLOUT;
    let mut asked = [PollFd::new(file.as_fd(), all)];
    let _ = poll(&mut asked, PollTimeout::ZERO);
    asked[0].revents().unwrap_or(PollFlags::empty())
}

/// A device number from the form that stat's tty_nr has.
fn decode(device: u32) -> u64 {
    libc::makedev(device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00)
}

/// A device number as stat's tty_nr has it: minor in bits 0 to 7 and 20 to 31, major between.
#[cfg(test)]
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
        for number in [libc::makedev(136, 2), libc::makedev(136, 0x1_0102), libc::makedev(4, 64)] {
            assert_eq!(decode(encode(number)), number);
        }
    }
}
