//! Objects without a path (epoll, timerfd, signalfd, inotify), named pipes, locks.

use super::arch::{epoll_event, nr};
use super::builder::Arg;
use super::descriptors::{Uses, F_SETFL, ONCE, O_NONBLOCK, O_RDWR};
use super::ProcessCompiler;
use crate::LinkError;
use image_format::model::{lock, FileLock, FileObject, Interest, OpenFile, Watch};
use image_format::plan::Expect;

const EPOLL_CTL_ADD: u64 = 1;
const F_SETLK: u64 = 6;
const F_OFD_SETLK: u64 = 37;
const F_SETLEASE: u64 = 1024;
const F_GETPIPE_SZ: u64 = 1032;
const LOCK_SH: u64 = 1;
const LOCK_EX: u64 = 2;
const LOCK_NB: u64 = 4;
const F_RDLCK: u64 = 0;
const F_WRLCK: u64 = 1;
const TFD_TIMER_ABSTIME: u32 = 1;
/// _IOW('T', 0, u64).
const TFD_IOC_SET_TICKS: u64 = 0x4008_5400;
/// CLOCK_REALTIME and CLOCK_REALTIME_ALARM: an absolute time on them means a time of day.
const TIMES_OF_DAY: [i32; 2] = [0, 8];
/// Bytes of the kernel's sigset_t.
const SIGSET: u64 = 8;
const IN_DELETE_SELF: u64 = 0x400;
const IN_DONT_FOLLOW: u32 = 0x0200_0000;
/// What may be given to inotify_add_watch(2) of what the kernel shows: events, IN_EXCL_UNLINK,
/// IN_ONESHOT.
const IN_SETTABLE: u32 = 0xfff | 0x0400_0000 | 0x8000_0000;
/// Watch numbers that may be left out: each costs two system calls.
const WATCH_GAP: u32 = 10_000;
/// Bytes of the event that tells of a removed watch, and of room for several.
const EVENT: u32 = 16;
const EVENTS: u32 = 4096;
const S_IFIFO: u32 = 0o010_000;

/// struct flock (fcntl(2)) as 64-bit words: type and whence, start, length, pid.
fn flock_words(l: &FileLock) -> [u64; 4] {
    [if l.exclusive { F_WRLCK } else { F_RDLCK }, l.start, l.len, 0]
}

/// Arguments of fcntl(2) that set a lease.
pub(super) fn lease(l: &FileLock, fd: u32) -> [u64; 6] {
    [u64::from(fd), F_SETLEASE, if l.exclusive { F_WRLCK } else { F_RDLCK }, 0, 0, 0]
}

impl ProcessCompiler<'_> {
    /// Makes the object and moves it to number `temporary`; false for objects of other kinds.
    pub(super) fn anonymous(
        &mut self,
        file: &OpenFile,
        temporary: u32,
        what: &str,
    ) -> Result<bool, LinkError> {
        let nonblock = u64::from(file.flags & O_NONBLOCK);
        match &file.object {
            FileObject::Epoll { .. } => {
                let made = self.make(what, nr::EPOLL_CREATE1, &[Arg::value(0)]);
                self.move_to(Arg::load(made), temporary, what);
                if nonblock != 0 {
                    let args = [u64::from(temporary), F_SETFL, nonblock, 0, 0, 0];
                    self.must(what, nr::FCNTL, args);
                }
            }
            FileObject::SignalFd { mask } => {
                let mask = self.b.words(&[*mask]);
                let args = [
                    Arg::value(u64::MAX),
                    Arg::data(mask),
                    Arg::value(SIGSET),
                    Arg::value(nonblock),
                ];
                let made = self.make(what, nr::SIGNALFD4, &args);
                self.move_to(Arg::load(made), temporary, what);
            }
            FileObject::TimerFd { clock, flags, interval_ns, remaining_ns, ticks } => {
                let args = [Arg::value(*clock as u64), Arg::value(nonblock)];
                let made = self.make(what, nr::TIMERFD_CREATE, &args);
                self.move_to(Arg::load(made), temporary, what);
                if *remaining_ns != 0 {
                    let at_time_of_day =
                        flags & TFD_TIMER_ABSTIME != 0 && TIMES_OF_DAY.contains(clock);
                    let (value, flags) = if at_time_of_day {
                        let now = self.tree.source.realtime_ns.max(0) as u64;
                        (now.saturating_add(*remaining_ns), u64::from(*flags))
                    } else {
                        // The clock goes on where it was: what remained is what remains.
                        (*remaining_ns, 0)
                    };
                    let split = |ns: u64| [ns / 1_000_000_000, ns % 1_000_000_000];
                    let at = self.b.words(&[split(*interval_ns), split(value)].concat());
                    let args =
                        [Arg::fd(temporary), Arg::value(flags), Arg::data(at), Arg::value(0)];
                    self.b.call(what, nr::TIMERFD_SETTIME, &args, Expect::Success);
                }
                if *ticks != 0 {
                    let at = self.b.words(&[*ticks]);
                    let args = [Arg::fd(temporary), Arg::value(TFD_IOC_SET_TICKS), Arg::data(at)];
                    let what = format!("expirations of {what}");
                    self.b.call(&what, nr::IOCTL, &args, Expect::Note);
                }
            }
            FileObject::Inotify { watches } => {
                let made = self.make(what, nr::INOTIFY_INIT1, &[Arg::value(nonblock)]);
                self.move_to(Arg::load(made), temporary, what);
                self.watches(watches, temporary)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The kernel numbers watches one after another and never lets one be chosen: numbers in
    /// between are used up by watches that are removed again.
    fn watches(&mut self, watches: &[Watch], temporary: u32) -> Result<(), LinkError> {
        let mut next = 1;
        for watch in watches {
            let path = self.b.path(&watch.path.0);
            let what = format!("watch on {}", watch.path);
            let gap = watch.wd.checked_sub(next).filter(|&gap| gap <= WATCH_GAP).ok_or(
                LinkError::Model { pid: self.process.pid, what: "numbers of inotify watches" },
            )?;
            let mut told = 0;
            for left in (0..gap).rev() {
                let events = Arg::value(IN_DELETE_SELF);
                let word = self.make(
                    &what,
                    nr::INOTIFY_ADD_WATCH,
                    &[Arg::fd(temporary), Arg::data(path), events],
                );
                let args = [Arg::fd(temporary), Arg::load(word)];
                self.b.call(&what, nr::INOTIFY_RM_WATCH, &args, Expect::Success);
                told += EVENT;
                if left == 0 || told == EVENTS {
                    let room = self.b.data(&[0; EVENTS as usize]);
                    let args = [Arg::fd(temporary), Arg::data(room), Arg::value(u64::from(EVENTS))];
                    self.b.call(&what, nr::READ, &args, Expect::Success);
                    told = 0;
                }
            }
            let mask = u64::from(watch.mask & IN_SETTABLE | IN_DONT_FOLLOW);
            let args = [Arg::fd(temporary), Arg::data(path), Arg::value(mask)];
            self.b.call(&what, nr::INOTIFY_ADD_WATCH, &args, Expect::Success);
            next = watch.wd.saturating_add(1);
        }
        Ok(())
    }

    /// Fills the epoll sets, when everything that they watch has its number.
    pub(super) fn interests(&mut self, uses: &Uses) -> Result<(), LinkError> {
        self.interests_of(uses, uses)
    }

    /// The same for the sets in `sets`; what they watch is in `uses`.
    pub(super) fn interests_of(&mut self, sets: &Uses, uses: &Uses) -> Result<(), LinkError> {
        for (&index, places) in sets {
            let file = self.file_at(index)?;
            let FileObject::Epoll { interests } = &file.object else { continue };
            let Some(&(set, _)) = places.first() else { continue };
            for interest in interests {
                self.interest(set, interest, uses)?;
            }
        }
        Ok(())
    }

    fn interest(&mut self, set: u32, interest: &Interest, uses: &Uses) -> Result<(), LinkError> {
        let bad = LinkError::Model { pid: self.process.pid, what: "what an epoll set watches" };
        let watched = uses.get(&interest.file).ok_or(bad)?;
        let (number, spare) = (interest.fd, self.first_temporary);
        let event = self.b.data(&epoll_event(interest.events, interest.data));
        let what = format!("descriptor {number} in epoll set {set}");
        let add = [Arg::fd(set), Arg::value(EPOLL_CTL_ADD), Arg::fd(number), Arg::data(event)];
        if watched.iter().any(|&(fd, _)| fd == number) {
            self.b.call(&what, nr::EPOLL_CTL, &add, Expect::Success);
            return Ok(());
        }
        // The number leads elsewhere by now, or nowhere: the kernel still knows it under that.
        let Some(&(from, _)) = watched.first() else { return Ok(()) };
        let occupant = uses.values().flatten().find(|&&(fd, _)| fd == number).copied();
        let dup = |from: u32, to: u32, cloexec: bool| {
            [u64::from(from), u64::from(to), if cloexec { 0o2_000_000 } else { 0 }, 0, 0, 0]
        };
        if occupant.is_some() {
            self.must(&what, nr::DUP3, dup(number, spare, false));
        }
        self.must(&what, nr::DUP3, dup(from, number, false));
        self.b.call(&what, nr::EPOLL_CTL, &add, Expect::Success);
        if let Some((_, cloexec)) = occupant {
            self.must(&what, nr::DUP3, dup(spare, number, cloexec));
            self.must(&what, nr::CLOSE, [u64::from(spare), 0, 0, 0, 0, 0]);
        } else {
            self.must(&what, nr::CLOSE, [u64::from(number), 0, 0, 0, 0, 0]);
        }
        Ok(())
    }

    /// A named pipe with its contents, and all its descriptions. Held open for both directions
    /// meanwhile, so that no open waits for another.
    pub(super) fn fifo(&mut self, index: u32, ends: &[u32], uses: &Uses) -> Result<(), LinkError> {
        let pid = self.process.pid;
        let pipe = self.tree.pipes.get(index as usize);
        let pipe = pipe.ok_or(LinkError::Model { pid, what: "a pipe that is not there" })?;
        let (holder, end) = (self.first_temporary, self.first_temporary + 1);
        let mut held = false;
        for &index in ends {
            let file = self.file_at(index)?;
            let FileObject::Fifo { path, mode, .. } = &file.object else { continue };
            let what = format!("named pipe {path}");
            let path = self.b.path(&path.0);
            if !held {
                // One that is there already is what is wanted.
                self.must("file mode mask", nr::UMASK, [0; 6]);
                let args = [Arg::data(path), Arg::value(u64::from(S_IFIFO | mode)), Arg::value(0)];
                self.b.call(&what, nr::MKNOD, &args, Expect::Ignore);
                let flags = u64::from(O_RDWR | O_NONBLOCK);
                let args = [Arg::data(path), Arg::value(flags), Arg::value(0)];
                let made = self.make(&what, nr::OPEN, &args);
                self.move_to(Arg::load(made), holder, &what);
                // Fails where something else has the name now.
                self.must(&what, nr::FCNTL, [u64::from(holder), F_GETPIPE_SZ, 0, 0, 0, 0]);
                self.capacity(pipe, holder, &what);
                self.pipe_contents(pipe, holder, &what)?;
                held = true;
            }
            let flags = u64::from(file.flags & !ONCE);
            let args = [Arg::data(path), Arg::value(flags), Arg::value(0)];
            let made = self.make(&what, nr::OPEN, &args);
            self.move_to(Arg::load(made), end, &what);
            self.place(end, &uses[&index], &file);
        }
        if held {
            self.must("named pipe", nr::CLOSE, [u64::from(holder), 0, 0, 0, 0, 0]);
        }
        Ok(())
    }

    /// Locks that belong to the description behind `fd`.
    pub(super) fn description_locks(&mut self, file: &OpenFile, fd: u32, what: &str) {
        for l in &file.locks {
            let what = format!("lock on {what}");
            let fd = u64::from(fd);
            match l.kind {
                lock::FLOCK => {
                    let operation = LOCK_NB | if l.exclusive { LOCK_EX } else { LOCK_SH };
                    self.must(&what, nr::FLOCK, [fd, operation, 0, 0, 0, 0]);
                }
                lock::LEASE => {
                    self.must(&what, nr::FCNTL, lease(l, fd as u32));
                }
                _ => self.record_lock(l, fd, F_OFD_SETLK, &what),
            }
        }
    }

    /// Locks that belong to the process.
    pub(super) fn process_locks(&mut self) {
        let process = self.process;
        for d in &process.descriptors {
            for l in &d.locks {
                let what = format!("lock on descriptor {}", d.fd);
                self.record_lock(l, u64::from(d.fd), F_SETLK, &what);
            }
        }
    }

    fn record_lock(&mut self, l: &FileLock, fd: u64, command: u64, what: &str) {
        let at = self.b.words(&flock_words(l));
        let args = [Arg::value(fd), Arg::value(command), Arg::data(at)];
        self.b.call(what, nr::FCNTL, &args, Expect::Success);
    }
}
