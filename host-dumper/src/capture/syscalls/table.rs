//! How each system call is interrupted by a stop, and what makes it go on.

/// How a call's finite timeout is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// Milliseconds in an argument; negative is for ever.
    Millis(u8),
    /// An argument points to a relative struct timespec; null is for ever.
    Timespec(u8),
}

/// What a stop does to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The kernel keeps what remained to itself (ERESTART_RESTARTBLOCK). Resumed, it is issued
    /// anew with what remained.
    RestartBlock {
        /// Where the timeout is.
        timeout: Timeout,
        /// The argument that points to where the kernel writes what remained, if any.
        remainder: Option<u8>,
    },
    /// Fails with EINTR although no signal was handled. It is issued anew with what remained.
    Interrupted {
        /// Where the timeout is; none if the call has no timeout.
        timeout: Option<Timeout>,
    },
    /// The kernel writes what remained over the timeout given; the call is repeated as it stands.
    WritesBack,
    /// A transfer that may have been partly done: issued anew for the rest.
    Transfer,
}

/// An entry of the table.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Number.
    pub nr: i64,
    /// Name.
    pub name: &'static str,
    /// What a stop does to it.
    pub class: Class,
}

/// Not named by the libc crate.
const SYS_IO_PGETEVENTS: i64 = 333;

const fn entry(nr: i64, name: &'static str, class: Class) -> Entry {
    Entry { nr, name, class }
}

const fn interrupted(timeout: Timeout) -> Class {
    Class::Interrupted { timeout: Some(timeout) }
}

/// Calls that need more than to be repeated; every other one is repeated as it stands when the
/// kernel says that it was interrupted (ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND).
pub const TABLE: &[Entry] = &[
    entry(libc::SYS_write, "write", Class::Transfer),
    entry(
        libc::SYS_poll,
        "poll",
        Class::RestartBlock { timeout: Timeout::Millis(2), remainder: None },
    ),
    entry(libc::SYS_select, "select", Class::WritesBack),
    entry(
        libc::SYS_nanosleep,
        "nanosleep",
        Class::RestartBlock { timeout: Timeout::Timespec(0), remainder: Some(1) },
    ),
    entry(libc::SYS_semop, "semop", Class::Interrupted { timeout: None }),
    entry(libc::SYS_rt_sigtimedwait, "rt_sigtimedwait", interrupted(Timeout::Timespec(2))),
    entry(
        libc::SYS_futex,
        "futex",
        Class::RestartBlock { timeout: Timeout::Timespec(3), remainder: None },
    ),
    entry(libc::SYS_io_getevents, "io_getevents", interrupted(Timeout::Timespec(4))),
    entry(libc::SYS_semtimedop, "semtimedop", interrupted(Timeout::Timespec(3))),
    entry(
        libc::SYS_clock_nanosleep,
        "clock_nanosleep",
        Class::RestartBlock { timeout: Timeout::Timespec(2), remainder: Some(3) },
    ),
    entry(libc::SYS_epoll_wait, "epoll_wait", interrupted(Timeout::Millis(3))),
    entry(libc::SYS_pselect6, "pselect6", Class::WritesBack),
    entry(libc::SYS_ppoll, "ppoll", Class::WritesBack),
    entry(libc::SYS_epoll_pwait, "epoll_pwait", interrupted(Timeout::Millis(3))),
    entry(SYS_IO_PGETEVENTS, "io_pgetevents", interrupted(Timeout::Timespec(4))),
    entry(libc::SYS_epoll_pwait2, "epoll_pwait2", interrupted(Timeout::Timespec(3))),
];

/// Looks a call up.
pub fn find(nr: i64) -> Option<&'static Entry> {
    TABLE.iter().find(|e| e.nr == nr)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published table (docs/syscalls.md) says what this one does.
    #[test]
    fn published() {
        let timeout = |t: Timeout| match t {
            Timeout::Millis(arg) => format!(" milliseconds, argument {arg} "),
            Timeout::Timespec(arg) => format!(" timespec, argument {arg} "),
        };
        let rows: Vec<String> = TABLE
            .iter()
            .map(|e| {
                let (kind, timeout) = match e.class {
                    Class::RestartBlock { timeout: t, .. } => ("restart block", timeout(t)),
                    Class::Interrupted { timeout: t } => {
                        ("interrupted", t.map_or(" ".into(), timeout))
                    }
                    Class::WritesBack => ("writes back", " ".into()),
                    Class::Transfer => ("transfer", " ".into()),
                };
                format!("| {} | {kind} |{timeout}|", e.name)
            })
            .collect();
        let page = include_str!("../../../../docs/syscalls.md");
        let from = page.find("| call | kind | timeout |").unwrap();
        let published: Vec<&str> =
            page[from..].lines().skip(2).take_while(|l| l.starts_with('|')).collect();
        assert_eq!(published, rows);
    }

    #[test]
    fn ascending_and_each_once() {
        assert!(TABLE.windows(2).all(|w| w[0].nr < w[1].nr));
    }
}
