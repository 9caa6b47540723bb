//! Objects without a path: epoll sets, timers, signals, inotify.

use super::descriptor::{Descriptor, Kind};
use super::scan::info;
use super::watches;
use crate::capture::error::{CaptureError, Refusal, Result};
use crate::capture::proc::fdinfo::{self, FdInfo, TimerState};
use crate::capture::proc::Proc;
use image_format::model::{self, FileObject, Interest};
use std::cmp::Ordering;
use std::os::fd::{AsRawFd, OwnedFd};

const KCMP_EPOLL_TFD: libc::c_int = 7;

/// What epoll sets and inotify instances watch that cannot be found, of processes that run on. Of those
/// that stand it shows when they are described.
pub(in crate::capture) fn refusals(procs: &[&Proc], all: &[&Descriptor]) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for d in all {
        let Some(proc) = procs.iter().find(|proc| proc.pid() == d.pid) else { continue };
        let found = match d.kind {
            Kind::Epoll => watched(d, all, procs.len()).err(),
            Kind::Inotify => {
                let own: Vec<&Descriptor> =
                    all.iter().copied().filter(|o| o.pid == d.pid).collect();
                inotify(proc, d, &own, procs.len()).err()
            }
            _ => continue,
        };
        let Some(refusal) = found else { continue };
        // It may have been changed since it was looked at.
        let now = info(proc, d.fd).ok();
        let same = |now: FdInfo| {
            (now.epoll, now.inotify) == (d.info.epoll.clone(), d.info.inotify.clone())
        };
        if now.is_some_and(same) {
            refusals.push(refusal);
        }
    }
    refusals
}

/// A timerfd. Asking the kernel brings the count of expirations up to date, as reading would.
pub(super) fn timer(proc: &Proc, d: &Descriptor, borrowed: Option<&OwnedFd>) -> FileObject {
    let mut state: TimerState = d.info.timer;
    if let Some(file) = borrowed {
        let mut now = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        };
        // SAFETY: the kernel writes one itimerspec.
        if unsafe { libc::timerfd_gettime(file.as_raw_fd(), &raw mut now) } == 0 {
            let nanos = |t: libc::timespec| t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64;
            let again = proc.read(&format!("fdinfo/{}", d.fd)).ok();
            let again = again.and_then(|text| fdinfo::parse(&text));
            state.ticks = again.map_or(state.ticks, |info| info.timer.ticks);
            state.remaining_ns = nanos(now.it_value);
            state.interval_ns = nanos(now.it_interval);
        }
    }
    FileObject::TimerFd {
        clock: state.clock,
        flags: state.flags,
        interval_ns: state.interval_ns,
        remaining_ns: state.remaining_ns,
        ticks: state.ticks,
    }
}

/// An inotify instance.
pub(super) fn inotify(
    proc: &Proc,
    d: &Descriptor,
    own: &[&Descriptor],
    processes: usize,
) -> std::result::Result<FileObject, Refusal> {
    watches::find(proc, own, &d.info.inotify)
        .map(|watches| FileObject::Inotify { watches })
        .map_err(|mark| {
            Refusal::new(
                d.name_among(processes),
                format!("watches inode {} whose path cannot be found", mark.inode),
                "run dumper as root, or let the program watch something with a path",
            )
        })
}

/// What an epoll set watches: for each entry, the position in `all`.
fn watched(
    d: &Descriptor,
    all: &[&Descriptor],
    processes: usize,
) -> std::result::Result<Vec<usize>, Refusal> {
    let mut places = Vec::with_capacity(d.info.epoll.len());
    for (i, entry) in d.info.epoll.iter().enumerate() {
        // One number can be there several times, if it was closed and used again meanwhile.
        let earlier = d.info.epoll[..i].iter().filter(|e| e.fd == entry.fd).count() as u32;
        let is_it = |other: &Descriptor| is_watched(other, d, entry.fd, earlier);
        let close = |other: &&&Descriptor| other.pid == d.pid && other.fd == entry.fd;
        let same = all.iter().position(|other| close(&other) && is_it(other));
        let found =
            same.or_else(|| all.iter().position(|other| is_it(other))).ok_or_else(|| {
                Refusal::new(
                    d.name_among(processes),
                    format!(
                        "watches what was descriptor {} and is now open elsewhere only",
                        entry.fd
                    ),
                    "let the program remove it from the epoll set",
                )
            })?;
        places.push(found);
    }
    Ok(places)
}

/// Whether `fd` is what the epoll set `set` watches as `watched`, the `nth` with the number.
fn is_watched(fd: &Descriptor, set: &Descriptor, watched: u32, nth: u32) -> bool {
    // struct kcmp_epoll_slot (include/uapi/linux/kcmp.h).
    let slot = [set.fd, watched, nth];
    let number = libc::c_ulong::from(fd.fd);
    // SAFETY: the kernel reads the three words.
    let result = unsafe {
        libc::syscall(libc::SYS_kcmp, fd.pid, set.pid, KCMP_EPOLL_TFD, number, &raw const slot)
    };
    result == Ordering::Equal as libc::c_long
}

/// Events that were not read, in bytes.
pub(super) fn unread(borrowed: Option<&OwnedFd>) -> u32 {
    let mut n: libc::c_int = 0;
    let Some(file) = borrowed else { return 0 };
    // SAFETY: FIONREAD writes one int.
    let got = unsafe { libc::ioctl(file.as_raw_fd(), libc::FIONREAD, &raw mut n) };
    if got == 0 {
        n.max(0) as u32
    } else {
        0
    }
}

/// Puts the indices of what they watch into the epoll sets of so many processes. `index` has the
/// model's index for each of `all`, `groups` tells the first descriptor of each description.
pub(super) fn resolve(
    all: &[&Descriptor],
    index: &[u32],
    groups: &[usize],
    processes: usize,
    open: &mut [model::OpenFile],
) -> Result<()> {
    for (i, d) in all.iter().enumerate().filter(|&(i, _)| groups[i] == i) {
        let Some(file) = open.get_mut(index[i] as usize) else { continue };
        if let FileObject::Epoll { interests: found } = &mut file.object {
            let places = watched(d, all, processes)
                .map_err(|refusal| CaptureError::Refused(vec![refusal]))?;
            let each = d.info.epoll.iter().zip(places).map(|(entry, place)| Interest {
                fd: entry.fd,
                file: index[place],
                events: entry.events,
                data: entry.data,
            });
            *found = each.collect();
        }
    }
    Ok(())
}
