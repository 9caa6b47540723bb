//! Pseudo-terminals with both ends in the tree, and the terminals of sessions.
//!
//! The kernel gives a new terminal the lowest number that is free (ida_alloc_max in
//! fs/devpts/inode.c). Programs know the path, so that the old number is tried for: so many
//! terminals are opened that its turn must come, each is put at the descriptor of its own number
//! (F_DUPFD, as a step cannot count), the wanted ones are taken from there and the rest is closed.

use super::arch::nr;
use super::builder::Arg;
use super::descriptors::{F_SETFL, ONCE, O_CLOEXEC, O_NONBLOCK, O_RDWR};
use super::family::Family;
use super::ProcessCompiler;
use image_format::model::{FileObject, OpenFile, Terminal, TerminalPair, Tree};
use image_format::plan::{arg, op, when, Expect};
use std::ops::Range;

const O_NOCTTY: u32 = 0o400;
const F_DUPFD: u64 = 0;
const TIOCEXCL: u64 = 0x540c;
const TIOCSCTTY: u64 = 0x540e;
const TIOCSPGRP: u64 = 0x5410;
const TIOCSWINSZ: u64 = 0x5414;
const TIOCPKT: u64 = 0x5420;
const TCSETS2: u64 = 0x402c_542b;
const TIOCGPTN: u64 = 0x8004_5430;
const TIOCSPTLCK: u64 = 0x4004_5431;
/// Places in struct termios2, and its length.
const INPUT: Range<usize> = 0..4;
const LOCAL: Range<usize> = 12..16;
const KEYS: Range<usize> = 17..36;
const TERMIOS2: usize = 44;
const ICANON: u32 = 0o2;
const IEXTEN: u32 = 0o100_000;
const VLNEXT: usize = 15;
/// ^V.
const QUOTES: u8 = 0x16;
const POLLIN: u64 = 1;
const TIOCGPTPEER: u64 = 0x5441;
/// Higher numbers are not tried for: each below costs an open terminal.
const NUMBERS: u32 = 128;
/// Numbers for each terminal while the plan runs: master and slave.
const ENDS: u32 = 2;

/// Descriptor numbers that must be free for terminals to be sorted by their numbers.
pub(super) fn sorting(tree: &Tree) -> u32 {
    pairs(tree).filter_map(|(_, _, pair)| wanted(pair)).max().map_or(0, |number| number + 1)
}

/// Descriptor numbers at which terminals are held while the plan runs.
pub(super) fn held(tree: &Tree) -> u32 {
    ENDS * tree.terminals.len() as u32
}

/// Whether the root leads its session without the terminal of the resume.
pub(super) fn leads_alone(tree: &Tree) -> bool {
    let outer = tree.terminals.iter().any(|t| t.pair.is_none());
    tree.processes.first().is_some_and(|root| root.sid == root.pid && !outer)
}

fn wanted(pair: &TerminalPair) -> Option<u32> {
    (pair.number < NUMBERS).then_some(pair.number)
}

fn pairs(tree: &Tree) -> impl Iterator<Item = (u32, &Terminal, &TerminalPair)> {
    tree.terminals.iter().zip(0..).filter_map(|(t, i)| t.pair.as_ref().map(|pair| (i, t, pair)))
}

impl ProcessCompiler<'_> {
    fn master(&self, terminal: u32) -> u32 {
        let shared = self.tree.shared.len() as u32;
        self.first_temporary + super::TEMPORARIES + shared + ENDS * terminal
    }

    fn slave(&self, terminal: u32) -> u32 {
        self.master(terminal) + 1
    }

    /// Makes all pairs, before any other descriptor is there.
    pub(super) fn pairs(&mut self) {
        let tree = self.tree;
        if pairs(tree).next().is_none() {
            return;
        }
        for (i, ..) in pairs(tree) {
            // Taken, so that no stray comes to lie there.
            let args = [Arg::kind(arg::IMAGE), Arg::fd(self.master(i)), Arg::value(0)];
            self.b.call("terminals", nr::DUP3, &args, Expect::Success);
        }
        let strays: Vec<u32> = (0..sorting(tree)).map(|_| self.sort_one()).collect();
        for (i, terminal, pair) in pairs(tree) {
            let what = format!("terminal {}", terminal.path);
            let master = self.master(i);
            let made = self.open_master(&what, Expect::Success);
            self.move_to(Arg::load(made), master, &what);
            if let Some(number) = wanted(pair) {
                let args = [u64::from(number), u64::from(master), 0, 0, 0, 0];
                self.b.syscall(&what, nr::DUP3, args, Expect::Ignore);
            }
        }
        for stray in strays {
            self.b.call("terminals", nr::CLOSE, &[Arg::load(stray)], Expect::Ignore);
        }
        for (i, terminal, pair) in pairs(tree) {
            self.make_pair(i, terminal, pair);
        }
    }

    fn open_master(&mut self, what: &str, expect: Expect) -> u32 {
        let path = self.b.path(b"/dev/ptmx");
        // -1 where nothing is kept.
        let word = self.b.words(&[u64::MAX]);
        let flags = u64::from(O_RDWR | O_NOCTTY);
        self.b.call(what, nr::OPEN, &[Arg::data(path), Arg::value(flags), Arg::value(0)], expect);
        self.b.keep_result(word);
        word
    }

    /// Opens one more terminal at the descriptor of its own number, or a higher one, which the word
    /// at the data offset given holds.
    fn sort_one(&mut self) -> u32 {
        const WHAT: &str = "terminals";
        let ignore = Expect::Ignore;
        let temporary = Arg::fd(self.first_temporary);
        let made = Arg::load(self.open_master(WHAT, ignore));
        self.b.call(WHAT, nr::DUP3, &[made, temporary, Arg::value(0)], ignore);
        self.b.call(WHAT, nr::CLOSE, &[made], ignore);
        let number = self.b.words(&[u64::MAX]);
        let args = [temporary, Arg::value(TIOCGPTN), Arg::data(number)];
        self.b.call(WHAT, nr::IOCTL, &args, ignore);
        let place = self.b.words(&[u64::MAX]);
        let args = [temporary, Arg::value(F_DUPFD), Arg::load(number)];
        self.b.call(WHAT, nr::FCNTL, &args, ignore);
        self.b.keep_result(place);
        self.b.call(WHAT, nr::CLOSE, &[temporary], ignore);
        place
    }

    fn set_terminal(&mut self, what: &str, fd: u32, request: u64, data: &[u8]) {
        let at = self.b.data(data);
        let args = [Arg::fd(fd), Arg::value(request), Arg::data(at)];
        self.b.call(what, nr::IOCTL, &args, Expect::Success);
    }

    fn make_pair(&mut self, i: u32, terminal: &Terminal, pair: &TerminalPair) {
        let (master, slave) = (self.master(i), self.slave(i));
        let what = format!("terminal {}", terminal.path);
        self.set_terminal(&what, master, TIOCSPTLCK, &[0; 4]);
        if self.slave_was_open(i, pair) {
            let flags = u64::from(O_RDWR | O_NOCTTY);
            let args = [Arg::fd(master), Arg::value(TIOCGPTPEER), Arg::value(flags)];
            let made = self.make(&what, nr::IOCTL, &args);
            self.move_to(Arg::load(made), slave, &what);
            if pair.mode != 0 {
                let [user, group] = pair.owner.map(u64::from);
                let args = [u64::from(slave), user, group, 0, 0, 0];
                // Who may not give it away has it already, or does without.
                self.b.syscall(&what, nr::FCHOWN, args, Expect::Ignore);
                let args = [u64::from(slave), u64::from(pair.mode), 0, 0, 0, 0];
                self.note(&format!("mode of {what}"), nr::FCHMOD, args);
            }
        } else if pair.mode != 0 {
            self.owner_of_unopened(master, pair, &what);
        }
        if !pair.typed.0.is_empty() || pair.quoting {
            self.type_in(i, terminal, pair);
        }
        self.set_terminal(&format!("modes of {what}"), master, TCSETS2, &terminal.termios.0);
        let size: Vec<u8> = terminal.winsize.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.set_terminal(&what, master, TIOCSWINSZ, &size);
    }

    /// Types a line that is not ended yet, each byte quoted, without an echo. The modes that come after
    /// keep it, as ICANON is set before and then.
    fn type_in(&mut self, i: u32, terminal: &Terminal, pair: &TerminalPair) {
        let what = format!("line begun at terminal {}", terminal.path);
        let mut modes = terminal.termios.0.clone();
        modes.resize(TERMIOS2, 0);
        modes[INPUT].fill(0);
        modes[LOCAL].copy_from_slice(&(ICANON | IEXTEN).to_le_bytes());
        modes[KEYS].fill(0);
        modes[KEYS.start + VLNEXT] = QUOTES;
        self.set_terminal(&what, self.master(i), TCSETS2, &modes);
        let mut keys: Vec<u8> = pair.typed.0.iter().flat_map(|&key| [QUOTES, key]).collect();
        keys.extend(pair.quoting.then_some(QUOTES));
        let at = u64::from(self.b.data(&keys));
        let args = [u64::from(self.master(i)), at, keys.len() as u64, 0, 0, 0];
        self.b.verb(op::WRITE_ALL, &what, args);
        // What was written comes to the slave by and by; polling it waits for that (n_tty_poll).
        let asked = self.b.words(&[u64::from(self.slave(i)) | POLLIN << 32]);
        let args = [Arg::data(asked), Arg::value(1), Arg::value(0)];
        self.b.call(&what, nr::POLL, &args, Expect::Success);
    }

    /// A slave that was never opened must not be now either. O_PATH does not (do_dentry_open in
    /// fs/open.c), and its path may be another terminal's.
    fn owner_of_unopened(&mut self, master: u32, pair: &TerminalPair, what: &str) {
        const O_PATH: u64 = 0o10_000_000;
        const AT_EMPTY_PATH: u64 = 0x1000;
        let slave = self.b.words(&[u64::MAX]);
        let args = [Arg::fd(master), Arg::value(TIOCGPTPEER), Arg::value(O_PATH)];
        self.b.call(what, nr::IOCTL, &args, Expect::Ignore);
        self.b.keep_result(slave);
        let slave = Arg::load(slave);
        let [user, group] = pair.owner.map(|id| Arg::value(u64::from(id)));
        let empty = Arg::data(self.b.path(b""));
        let args = [slave, empty, user, group, Arg::value(AT_EMPTY_PATH)];
        self.b.call(what, nr::FCHOWNAT, &args, Expect::Ignore);
        self.b.call(what, nr::CLOSE, &[slave], Expect::Ignore);
    }

    /// Whether the slave must have been opened once.
    fn slave_was_open(&self, i: u32, pair: &TerminalPair) -> bool {
        let is_it =
            |f: &OpenFile| matches!(f.object, FileObject::Tty { terminal } if terminal == i);
        pair.closed || pair.session != 0 || self.tree.files.iter().any(is_it)
    }

    /// What is to be set when every descriptor of the pairs was opened.
    pub(super) fn settle_pairs(&mut self) {
        for (i, terminal, pair) in pairs(self.tree) {
            let what = format!("terminal {}", terminal.path);
            if pair.packet {
                self.set_terminal(&what, self.master(i), TIOCPKT, &1u32.to_le_bytes());
            }
            if pair.exclusive {
                self.must(&what, nr::IOCTL, [u64::from(self.slave(i)), TIOCEXCL, 0, 0, 0, 0]);
            }
            if pair.locked {
                self.set_terminal(&what, self.master(i), TIOCSPTLCK, &1u32.to_le_bytes());
            }
        }
    }

    /// The master as an open file description.
    pub(super) fn open_tty_master(&mut self, i: u32, flags: u32, temporary: u32, what: &str) {
        let args = [u64::from(self.master(i)), u64::from(temporary), 0, 0, 0, 0];
        self.must(what, nr::DUP3, args);
        let flags = u64::from(flags & !ONCE);
        if flags & u64::from(O_NONBLOCK) != 0 {
            self.must(what, nr::FCNTL, [u64::from(temporary), F_SETFL, flags, 0, 0, 0]);
        }
    }

    /// An open file description of the slave.
    pub(super) fn open_tty_slave(&mut self, i: u32, flags: u32, temporary: u32, what: &str) {
        self.open_peer(self.master(i), flags, temporary, what);
    }

    fn open_peer(&mut self, master: u32, flags: u32, temporary: u32, what: &str) {
        // Without O_CLOEXEC, which would stay in the description and show in fdinfo.
        let flags = u64::from(flags & !ONCE & !O_CLOEXEC | O_NOCTTY);
        let args = [Arg::fd(master), Arg::value(TIOCGPTPEER), Arg::value(flags)];
        let made = self.make(what, nr::IOCTL, &args);
        self.move_to(Arg::load(made), temporary, what);
    }

    /// A terminal that was hung up: the slave of one whose master is closed (pty_close in
    /// drivers/tty/pty.c hangs it up).
    pub(super) fn open_hung_up(&mut self, flags: u32, temporary: u32, what: &str) {
        let master = temporary + 1;
        let made = self.open_master(what, Expect::Success);
        self.move_to(Arg::load(made), master, what);
        self.set_terminal(what, master, TIOCSPTLCK, &[0; 4]);
        self.open_peer(master, flags, temporary, what);
        self.must(what, nr::CLOSE, [u64::from(master), 0, 0, 0, 0, 0]);
    }

    /// A root that led its session without the terminal of the resume leads one again.
    pub(super) fn root_session(&mut self) {
        if leads_alone(self.tree) {
            self.b.only_when(when::OLD_PID, |b| {
                b.syscall("session", nr::SETSID, [0; 6], Expect::Ignore);
            });
        }
    }

    /// The leader of a session takes its terminal.
    pub(super) fn take_terminal(&mut self, session: u32) {
        let tree = self.tree;
        for (i, terminal, _) in pairs(tree).filter(|(.., pair)| pair.session == session) {
            let what = format!("controlling terminal {} of session {session}", terminal.path);
            self.must(&what, nr::IOCTL, [u64::from(self.slave(i)), TIOCSCTTY, 0, 0, 0, 0]);
        }
    }

    /// The leader of a session names its foreground group, when everyone is in his group.
    pub(super) fn name_foreground(&mut self, family: &Family, session: u32) {
        let tree = self.tree;
        for (i, terminal, _) in pairs(tree).filter(|(.., pair)| pair.session == session) {
            let group = terminal.foreground_group;
            if family.0.iter().any(|m| m.pgid == group && m.sid == session) {
                let what = format!("foreground process group of {}", terminal.path);
                self.set_terminal(&what, self.slave(i), TIOCSPGRP, &group.to_le_bytes());
            }
        }
    }
}
