//! Processes: identity, credentials, signals, timers.

use super::{Descriptor, Memory, SigInfo, Thread};
use crate::codec::Bytes;
use crate::record;
use alloc::vec::Vec;

record! {
    /// One process (thread group).
    pub struct Process {
        /// Process id, as the process itself sees it (NSpid's last).
        pub pid: u32,
        /// Index of the parent in [`super::Tree::processes`]; none for the root.
        pub parent: Option<u32>,
        /// Process group, as the process sees it; equal to `pid` for a group leader.
        pub pgid: u32,
        /// Session, likewise.
        pub sid: u32,
        /// Signal that tells the parent of its end (clone(2)); SIGCHLD unless chosen otherwise.
        pub exit_signal: u32,
        /// Threads; the first is the thread-group leader.
        pub threads: Vec<Thread>,
        /// Address space.
        pub memory: Memory,
        /// Descriptors in ascending order.
        pub descriptors: Vec<Descriptor>,
        /// Credentials of the leader, and of every thread that has no others.
        pub credentials: Credentials,
        /// Working directory.
        pub cwd: Bytes,
        /// Root directory, "/" unless chroot(2) was used.
        pub root: Bytes,
        /// File mode creation mask.
        pub umask: u32,
        /// Resource limits in the order of their numbers (getrlimit(2)): soft, hard.
        pub limits: Vec<[u64; 2]>,
        /// personality(2).
        pub personality: u32,
        /// PR_GET_DUMPABLE.
        pub dumpable: u32,
        /// PR_GET_CHILD_SUBREAPER.
        pub subreaper: bool,
        /// PR_GET_THP_DISABLE.
        pub thp_disable: bool,
        /// Bits of the commands by which it registered for memory barriers (membarrier(2)).
        pub barriers: u32,
        /// Control groups of the leader, in those hierarchies where it is not in the topmost one.
        pub cgroups: Vec<Cgroup>,
        /// The whole of /proc/PID/cgroup; empty where that is not there.
        pub cgroup_list: Bytes,
        /// /proc/PID/oom_score_adj.
        pub oom_score_adj: i32,
        /// /proc/PID/coredump_filter.
        pub coredump_filter: u32,
        /// Handlers, ascending by signal; signals with the default action are absent.
        pub actions: Vec<SigAction>,
        /// Pending signals of the whole process, in order.
        pub pending: Vec<SigInfo>,
        /// Stopped by this signal (job control); 0 when not stopped.
        pub stopped: u32,
        /// The parent has been told of that stop: waitpid(2) does not report it again.
        pub stop_told: bool,
        /// ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF: interval and remaining time, microseconds.
        pub itimers: [[u64; 2]; 3],
        /// POSIX timers, ascending by id.
        pub timers: Vec<PosixTimer>,
        /// Some thread holds a robust or priority-inheritance lock (its robust list is not empty):
        /// its tid is in the lock's word, so the process cannot go on under new ids.
        pub locks_held: bool,
        /// Control blocks of programs that want to be asked ([`crate::control`]).
        pub control: Vec<Control>,
        /// Supplementary state in words that resume cannot bring back, for notes.
        pub lost: Vec<Bytes>,
    }
}

record! {
    /// A control group that a process is in (cgroups(7)).
    pub struct Cgroup {
        /// Controllers of its hierarchy as /proc/PID/cgroup lists them; empty for version 2.
        pub controllers: Bytes,
        /// Path within the hierarchy.
        pub path: Bytes,
    }
}

record! {
    /// A control block in the memory of the process.
    pub struct Control {
        /// Its address.
        pub address: u64,
        /// The program was asked, and waits for the outcome.
        pub asked: bool,
    }
}

record! {
    /// A process that has ended and waits for its parent to collect it.
    pub struct Zombie {
        /// Process id, as seen in the tree.
        pub pid: u32,
        /// Index of the parent in [`super::Tree::processes`].
        pub parent: u32,
        /// Process group.
        pub pgid: u32,
        /// Session.
        pub sid: u32,
        /// How it ended, in the form of wait(2).
        pub status: u32,
        /// Its name.
        pub name: Bytes,
    }
}

record! {
    /// What sigaction(2) set for a signal, in the kernel's own form.
    pub struct SigAction {
        /// Signal number.
        pub signal: u32,
        /// Handler address, 1 for SIG_IGN.
        pub handler: u64,
        /// SA_ flags.
        pub flags: u64,
        /// SA_RESTORER address.
        pub restorer: u64,
        /// Signals blocked while it runs.
        pub mask: u64,
    }
}

record! {
    /// A timer of timer_create(2).
    pub struct PosixTimer {
        /// Id.
        pub id: u32,
        /// Clock.
        pub clock: i32,
        /// SIGEV_ value with SIGEV_THREAD_ID as bit 2.
        pub notify: u32,
        /// Signal.
        pub signal: u32,
        /// Value handed to the signal.
        pub value: u64,
        /// Thread that gets it, for SIGEV_THREAD_ID.
        pub thread: u32,
        /// Interval in nanoseconds.
        pub interval_ns: u64,
        /// Time that remained in nanoseconds; 0 when disarmed.
        pub remaining_ns: u64,
        /// Overrun count at the dump.
        pub overrun: u32,
    }
}

record! {
    /// Credentials (credentials(7)). The kernel keeps them for each thread by itself.
    pub struct Credentials {
        /// Real, effective, saved, filesystem user ids as the process sees them.
        pub uids: [u32; 4],
        /// Real, effective, saved, filesystem group ids likewise.
        pub gids: [u32; 4],
        /// Supplementary groups.
        pub groups: Vec<u32>,
        /// Inheritable, permitted, effective, bounding, ambient capability sets.
        pub capabilities: [u64; 5],
        /// Securebits.
        pub securebits: u32,
        /// PR_GET_NO_NEW_PRIVS.
        pub no_new_privs: bool,
    }
}
