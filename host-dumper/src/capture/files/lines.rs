//! Terminals of a tree: which have both ends in it, which is the one to resume in.

use super::borrow::{borrow, pidfd};
use super::descriptor::{Descriptor, Kind};
use super::terminal;
use crate::capture::error::{Refusal, Result};
use crate::capture::proc::Proc;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// Majors of terminals: consoles and serial lines, /dev/tty and friends, pseudo-terminals.
const TTY_MAJORS: [RangeInclusive<u64>; 3] = [4..=5, 136..=143, 204..=204];
/// /dev/ptmx: the other side of a terminal.
const PTMX: (u64, u64) = (5, 2);

const CLOEXEC: u32 = libc::O_CLOEXEC as u32;

/// What a descriptor is of a terminal, which is named by its device number in the form that
/// /proc/PID/stat has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Master(u32),
    Slave(u32),
    HungUp,
}

/// What the descriptors of a tree say about terminals.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// By process and number.
    ends: BTreeMap<(u32, u32), End>,
    /// Terminals whose masters are there.
    inside: BTreeSet<u32>,
    /// The one to resume in.
    outer: Option<u32>,
    /// Standard descriptors of the root, by the device that the link shows.
    stdio: BTreeMap<u64, u32>,
}

impl Lines {
    /// Looks at all descriptors; the first process is the root.
    pub fn of(procs: &[&Proc], all: &[Vec<Descriptor>]) -> Result<Self> {
        let mut lines = Self::default();
        for (proc, own) in procs.iter().zip(all) {
            let mut terminals = own.iter().filter(|d| d.is_terminal()).peekable();
            if terminals.peek().is_none() {
                continue;
            }
            let pidfd = pidfd(proc.pid())?;
            for d in terminals {
                let Some(file) = borrow(&pidfd, d.fd) else { continue };
                let end = match terminal::device(&file) {
                    Some(device) if d.is_master() => {
                        lines.inside.insert(device);
                        End::Master(device)
                    }
                    Some(device) => End::Slave(device),
                    None => End::HungUp,
                };
                lines.ends.insert((d.pid, d.fd), end);
            }
        }
        let (Some(root), false) = (procs.first(), lines.ends.is_empty()) else { return Ok(lines) };
        let known = Some(root.stat()?.tty).filter(|tty| *tty != 0 && !lines.inside.contains(tty));
        let found = all.iter().flatten().find_map(|d| match lines.end(d) {
            Some(End::Slave(device)) if !lines.inside.contains(&device) => Some(device),
            _ => None,
        });
        lines.outer = known.or(found);
        for d in all.iter().flatten().filter(|d| d.pid == root.pid() && d.fd <= 2) {
            match lines.end(d) {
                Some(End::Slave(device)) if lines.outer == Some(device) => {}
                _ => {
                    lines.stdio.entry(d.stat.st_rdev).or_insert(d.fd);
                }
            }
        }
        Ok(lines)
    }

    fn end(&self, d: &Descriptor) -> Option<End> {
        self.ends.get(&(d.pid, d.fd)).copied()
    }

    /// What kind of thing a terminal is.
    pub fn kind(&self, d: &Descriptor) -> Kind {
        let refused = |reason: &str, remedy| Kind::Refused { reason: reason.into(), remedy };
        match self.end(d) {
            None => refused("is a terminal that may not be looked at", "try as root"),
            Some(End::Master(device)) => Kind::TtyMaster { device },
            Some(End::Slave(device)) if self.inside.contains(&device) => Kind::Tty { device },
            Some(End::Slave(device)) if self.outer == Some(device) => Kind::Tty { device },
            // Whoever resumes has standard descriptors of their own.
            Some(end) => match self.stdio.get(&d.stat.st_rdev) {
                Some(&stdio) => Kind::Outside { stdio },
                None if end == End::HungUp => Kind::TtyHungUp,
                None => refused(
                    "is a terminal besides the one that the program runs in, and its other side \
                     is outside",
                    "let the program close it; a multiplexer, detach its clients",
                ),
            },
        }
    }
}

/// What of the terminals cannot be carried, though both ends are there.
/// `sessions` are those of the tree, one for each process, as this program sees them.
pub(in crate::capture) fn refusals<'a>(
    all: impl Iterator<Item = &'a Descriptor> + Clone,
    sessions: &[u32],
) -> Result<Vec<Refusal>> {
    let processes = sessions.len();
    let inside: BTreeSet<u32> = masters(all.clone()).map(|(_, device)| device).collect();
    let mut refusals = Vec::new();
    let mut asked = BTreeSet::new();
    for d in all {
        let (device, master) = match d.kind {
            Kind::TtyMaster { device } => (device, true),
            Kind::Tty { device } => (device, false),
            _ => continue,
        };
        if !inside.contains(&device) {
            // The one to resume in.
            continue;
        }
        if !asked.insert((device, master)) {
            continue;
        }
        let Some(file) = borrow(&pidfd(d.pid)?, d.fd) else { continue };
        let mut refuse = |reason: String, remedy| {
            refusals.push(Refusal::new(d.name_among(processes), reason, remedy));
        };
        if terminal::discipline(&file) != 0 {
            let which = terminal::discipline(&file);
            refuse(
                format!("is a terminal with a line discipline of its own (number {which})"),
                "dump the program when it has given that back",
            );
        }
        let input = terminal::is_readable(&file);
        let bytes = terminal::waiting(&file);
        if bytes > 0 {
            let what = if master { "output of" } else { "input for" };
            refuse(
                format!(
                    "holds {bytes} bytes of {what} a terminal's program that nobody has read yet: \
                     they could only be read by taking them"
                ),
                "dump again when they were read",
            );
        } else if input && !master {
            refuse(
                "holds an end of input (^D) that nobody has read yet".into(),
                "dump again when it was read",
            );
        }
        if !master {
            continue;
        }
        let foreign = terminal::session(&file).filter(|session| !sessions.contains(session));
        if let Some(session) = foreign {
            refuse(
                format!("is the master of a terminal that controls session {session}, outside"),
                "let that session end",
            );
        }
        if terminal::untold(&file) {
            refuse(
                "is the master of a terminal with a change of state not told yet".into(),
                "dump again when its program has read it",
            );
        }
    }
    Ok(refusals)
}

/// Descriptors of which /proc does not tell whether they are closed on exec: a slave that was opened
/// by TIOCGPTPEER with O_CLOEXEC keeps that flag in its description (ptm_open_peer in
/// drivers/tty/pty.c), and fdinfo shows it for every duplicate. And those of which it was not read.
pub(in crate::capture) fn doubtful(all: &[Descriptor]) -> Vec<u32> {
    all.iter().filter(|d| is_doubtful(d)).map(|d| d.fd).collect()
}

fn is_doubtful(d: &Descriptor) -> bool {
    d.inherited || d.info.flags & CLOEXEC != 0 && d.is_terminal() && !d.is_master()
}

/// Notes which of them are not.
pub(in crate::capture) fn settle_doubt(all: &mut [Descriptor], open_at_exec: &[u32]) {
    for d in all.iter_mut().filter(|d| is_doubtful(d)) {
        d.info.flags |= CLOEXEC;
        if open_at_exec.contains(&d.fd) {
            d.info.flags &= !CLOEXEC;
        }
        d.inherited = false;
    }
}

/// The masters among descriptors, with the devices of their slaves.
pub(super) fn masters<'a>(
    all: impl Iterator<Item = &'a Descriptor>,
) -> impl Iterator<Item = (&'a Descriptor, u32)> {
    all.filter_map(|d| match d.kind {
        Kind::TtyMaster { device } => Some((d, device)),
        _ => None,
    })
}

impl Descriptor {
    /// A terminal, or the master of one.
    pub fn is_terminal(&self) -> bool {
        let (major, _) = self.device();
        self.is_master() || TTY_MAJORS.iter().any(|majors| majors.contains(&major))
    }

    /// The master of a terminal, by the device that was opened.
    pub fn is_master(&self) -> bool {
        self.device() == PTMX
    }
}
