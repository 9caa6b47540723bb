//! /proc/PID/fdinfo/N.

use super::number::{decimal, hex, lines, radix, words};

/// The fields that matter here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FdInfo {
    /// Offset in bytes.
    pub pos: u64,
    /// Status flags and access mode, with O_CLOEXEC for close-on-exec.
    pub flags: u32,
    /// Inode.
    pub inode: u64,
    /// Counter of an eventfd and whether it is a semaphore, where the kernel says that (6.6).
    pub eventfd: Option<(u64, Option<bool>)>,
    /// What tells one eventfd from another; 0 where the kernel does not say (before 5.2).
    pub eventfd_id: u64,
    /// Locks and leases held through it, as the kernel words them.
    pub locks: Vec<Vec<u8>>,
    /// What an epoll set watches.
    pub epoll: Vec<EpollEntry>,
    /// State of a timerfd.
    pub timer: TimerState,
    /// Signals of a signalfd.
    pub sigmask: Option<u64>,
    /// Watches of an inotify instance.
    pub inotify: Vec<InotifyMark>,
    /// Number of the terminal whose master it is.
    pub tty_index: Option<u32>,
    /// The process behind a pidfd: its id as this program sees it, none if it is gone.
    pub pidfd: Option<Option<u32>>,
    /// Its id as it sees itself.
    pub inner_pid: u32,
}

/// An entry of an epoll set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EpollEntry {
    /// Number under which it was added.
    pub fd: u32,
    /// Events and flags.
    pub events: u32,
    /// The user's datum.
    pub data: u64,
}

/// What is shown of a timerfd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimerState {
    /// Clock.
    pub clock: i32,
    /// Expirations that were not read.
    pub ticks: u64,
    /// Flags of timerfd_settime(2).
    pub flags: u32,
    /// Remaining time in nanoseconds.
    pub remaining_ns: u64,
    /// Interval in nanoseconds.
    pub interval_ns: u64,
}

/// A watch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InotifyMark {
    /// Watch descriptor.
    pub wd: u32,
    /// Inode.
    pub inode: u64,
    /// Device of the file system, in the kernel's own form (12 bits major, 20 bits minor).
    pub device: u64,
    /// Events and flags.
    pub mask: u32,
    /// Type and bytes of the file handle.
    pub handle: (i32, Vec<u8>),
}

/// "tfd: 5 events: 19 data: 5 pos:0 ino:1 sdev:2", without the first word.
fn epoll(value: &[u8]) -> Option<EpollEntry> {
    let mut fields = words(value);
    let fd = decimal(fields.next()?)? as u32;
    let mut named = |name: &[u8]| fields.next().filter(|&w| w == name).and(fields.next());
    let events = hex(named(b"events:")?)? as u32;
    let data = hex(named(b"data:")?)?;
    Some(EpollEntry { fd, events, data })
}

/// "(1, 500)": seconds and nanoseconds.
fn time(value: &[u8]) -> Option<u64> {
    let inside = value.trim_ascii().strip_prefix(b"(")?.strip_suffix(b")")?;
    let comma = inside.iter().position(|&b| b == b',')?;
    let (s, ns) = (decimal(&inside[..comma])?, decimal(inside[comma + 1..].trim_ascii())?);
    s.checked_mul(1_000_000_000)?.checked_add(ns)
}

/// "inotify wd:1 ino:2a sdev:800001 mask:fc6 ignored_mask:0 fhandle-bytes:8 fhandle-type:1
/// f_handle:0123", without the first word.
fn inotify(line: &[u8]) -> Option<InotifyMark> {
    let mut mark = InotifyMark::default();
    for word in words(line) {
        let colon = word.iter().position(|&b| b == b':')?;
        let value = &word[colon + 1..];
        match &word[..colon] {
            b"wd" => mark.wd = hex(value)? as u32,
            b"ino" => mark.inode = hex(value)?,
            b"sdev" => mark.device = hex(value)?,
            b"mask" => mark.mask = hex(value)? as u32,
            b"fhandle-type" => mark.handle.0 = hex(value)? as i32,
            b"f_handle" => {
                let bytes = value.chunks(2).map(|pair| hex(pair).map(|b| b as u8));
                mark.handle.1 = bytes.collect::<Option<_>>()?;
            }
            _ => {}
        }
    }
    (mark.wd != 0).then_some(mark)
}

/// Reads an fdinfo file.
pub fn parse(text: &[u8]) -> Option<FdInfo> {
    let mut info = FdInfo::default();
    let mut seen_flags = false;
    for line in lines(text) {
        if let Some(mark) = line.strip_prefix(b"inotify ") {
            info.inotify.push(inotify(mark)?);
            continue;
        }
        let Some(colon) = line.iter().position(|&b| b == b':') else { continue };
        let value = &line[colon + 1..];
        let first = words(value).next();
        match &line[..colon] {
            // Some devices show a negative offset.
            b"pos" => info.pos = first.and_then(decimal).unwrap_or(0),
            b"flags" => {
                info.flags = radix(first?, 8)? as u32;
                seen_flags = true;
            }
            b"ino" => info.inode = first.and_then(decimal)?,
            b"eventfd-count" => {
                info.eventfd.get_or_insert_default().0 = hex(first?)?;
            }
            b"eventfd-id" => info.eventfd_id = first.and_then(decimal).unwrap_or(0),
            b"eventfd-semaphore" => {
                info.eventfd.get_or_insert_default().1 = Some(decimal(first?)? != 0);
            }
            b"tfd" => info.epoll.push(epoll(value)?),
            b"clockid" => info.timer.clock = first.and_then(decimal)? as i32,
            b"ticks" => info.timer.ticks = first.and_then(decimal)?,
            b"settime flags" => info.timer.flags = radix(first?, 8)? as u32,
            b"it_value" => info.timer.remaining_ns = time(value)?,
            b"it_interval" => info.timer.interval_ns = time(value)?,
            b"sigmask" => info.sigmask = Some(hex(first?)?),
            b"tty-index" => info.tty_index = first.and_then(decimal).map(|n| n as u32),
            b"Pid" => info.pidfd = Some(first.and_then(decimal).map(|pid| pid as u32)),
            b"NSpid" => {
                info.inner_pid = words(value).last().and_then(decimal).unwrap_or(0) as u32;
            }
            b"lock" => info.locks.push(value.trim_ascii().to_vec()),
            _ => {}
        }
    }
    seen_flags.then_some(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eventfd_and_a_lock() {
        let text = b"pos:\t12\nflags:\t02000002\nmnt_id:\t15\nino:\t1044\n\
            eventfd-count:               1f\neventfd-id: 4\neventfd-semaphore: 1\n\
            lock:\t1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF\n";
        let info = parse(text).unwrap();
        assert_eq!((info.pos, info.flags, info.inode), (12, 0o2000002, 1044));
        assert_eq!(info.eventfd, Some((0x1f, Some(true))));
        assert_eq!(info.eventfd_id, 4);
        assert_eq!(info.locks.len(), 1);
        assert_eq!(parse(b"pos:\t1\n"), None);
    }

    #[test]
    fn processes_as_files() {
        let info = parse(b"flags:\t02000002\nPid:\t812\nNSpid:\t812\t3\n").unwrap();
        assert_eq!((info.pidfd, info.inner_pid), (Some(Some(812)), 3));
        let gone = parse(b"flags:\t02000002\nPid:\t-1\nNSpid:\t-1\n").unwrap();
        assert_eq!((gone.pidfd, gone.inner_pid), (Some(None), 0));
        assert_eq!(parse(b"flags:\t02\n").unwrap().pidfd, None);
    }

    #[test]
    fn epoll_timer_signals_and_watches() {
        let text =
            b"flags:\t02\ntfd:        7 events:       19 data: 80000007  pos:0 ino:4a sdev:d\n";
        let entry = EpollEntry { fd: 7, events: 0x19, data: 0x8000_0007 };
        assert_eq!(parse(text).unwrap().epoll, [entry]);
        let text = b"flags:\t02\nclockid: 1\nticks: 3\nsettime flags: 01\n\
            it_value: (1, 500)\nit_interval: (0, 7)\n";
        let timer = TimerState {
            clock: 1,
            ticks: 3,
            flags: 1,
            remaining_ns: 1_000_000_500,
            interval_ns: 7,
        };
        assert_eq!(parse(text).unwrap().timer, timer);
        assert_eq!(parse(b"flags:\t02\nsigmask:\t0000000000000200\n").unwrap().sigmask, Some(512));
        let text = b"flags:\t00\ninotify wd:a ino:2a sdev:800001 mask:fc6 ignored_mask:0 \
            fhandle-bytes:2 fhandle-type:81 f_handle:0aff\n";
        let mark = InotifyMark {
            wd: 10,
            inode: 0x2a,
            device: 0x80_0001,
            mask: 0xfc6,
            handle: (0x81, vec![10, 255]),
        };
        assert_eq!(parse(text).unwrap().inotify, [mark]);
        assert_eq!(parse(b"flags:\t02\ntfd: x\n"), None);
    }
}
