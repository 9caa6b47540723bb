//! What `refused.c` can hold, and how the refusal words it.

/// States of `refused.c`, and words of which one must be in the message.
pub const STATES: &[(&str, &[&str])] = &[
    ("urgent", &["urgent"]),
    ("socket", &["outsider"]),
    ("netlink", &["netlink"]),
    ("aio", &["asynchronous"]),
    ("outside-pipe", &["(outsider) has"]),
    ("seccomp", &["seccomp"]),
    ("fanotify", &["use inotify"]),
    ("shared-eventfd", &["is shared with process"]),
    ("shared-timerfd", &["(outsider)"]),
    ("shared-epoll", &["is shared with process"]),
    ("shared-inotify", &["(outsider)"]),
    ("epoll-elsewhere", &["and is now open elsewhere only"]),
    ("watch-gone", &["whose path cannot be found"]),
    ("pidfd", &["outside (pidfd)"]),
    ("pidfd-gone", &["collected (pidfd)"]),
    ("mqueue", &["by taking it"]),
    ("terminal-output", &["nobody has read"]),
    ("two-terminals", &["besides"]),
    ("terminal-in-use", &["outsider"]),
    ("data-not-accepted", &["sent data already"]),
    ("fifo-gone", &["is a named pipe that was removed"]),
    ("directory-gone", &["is a directory that was removed"]),
    ("path-gone", &["leads to a path that is gone"]),
    ("file-of-another", &["about another process"]),
    ("file-of-a-thread", &["or a thread, in /proc"]),
    ("mqueue-thread", &["told to a thread (sigev_thread)"]),
    ("family", &["is a socket of address family 40"]),
    ("lease-breaking", &["holds a lock that cannot be set again"]),
    ("lease-removed", &["holds a write lease on a removed file"]),
    ("lease-mapped", &["shows a file that has a write lease"]),
    ("terminal-line", &["holds 4 bytes of input"]),
    ("terminal-raw", &["holds 3 bytes of input"]),
    ("terminal-end", &["holds an end of input"]),
    ("clone-vm", &["clone_vm"]),
    ("clone-files", &["clone_files"]),
    ("clone-fs", &["clone_fs"]),
];

/// States of which descriptor and memory are named, each with its remedy.
pub const TWOFOLD: &[(&str, [&str; 2])] = &[
    ("secretmem", ["is secret memory (memfd_secret)", "is secret memory, which nobody"]),
    ("userfaultfd", ["before it watches memory", "end the program that watches it"]),
    ("io_uring", ["without io_uring; many have", "belongs to an io_uring"]),
];

/// States that only a dump finds: what is in messages.
pub const FOUND_LATE: &[(&str, &str)] = &[
    ("own-in-message", "on its way in a message"),
    ("process-in-message", "on its way in a message"),
    ("terminal-long", "is the master of a terminal with a line of more than"),
    ("flight-outside", "is shared with process"),
    ("epoll-in-message", "is an epoll set that nobody holds but a message"),
    ("pipe-in-message", "is a pipe whose other end no process that can be seen holds"),
];

/// States that only root makes.
pub const OF_ROOT: &[(&str, &str)] = &[
    ("packet", "is a packet socket; let the program close it"),
    ("device", "is a device (1:11) whose state is not known"),
    ("routing", "is a raw socket of internet protocol 2; it may hold state"),
];
