//! Threads: registers, kernel-known addresses, interrupted system calls.

use super::{Cgroup, Credentials};
use crate::codec::Bytes;
use crate::{record, variant};
use alloc::vec::Vec;

record! {
    /// One thread (task).
    pub struct Thread {
        /// Thread id as the process sees it.
        pub tid: u32,
        /// Name (comm), at most 15 bytes.
        pub name: Bytes,
        /// General registers with which it goes on in the program: the effect of an interrupted
        /// system call is already worked in (rewound, or result set).
        pub regs: Registers,
        /// XSAVE area as PTRACE_GETREGSET(NT_X86_XSTATE) gives it: uncompacted, source layout.
        pub xsave: Bytes,
        /// A system call to be issued anew before the thread goes on at `regs`.
        pub reissue: Option<Reissue>,
        /// Blocked signals.
        pub sigmask: u64,
        /// Alternate signal stack: address, flags, size in bytes.
        pub altstack: AltStack,
        /// Pending signals of this thread, in order.
        pub pending: Vec<SigInfo>,
        /// get_robust_list: head address and length; 0 for none.
        pub robust_list: [u64; 2],
        /// PR_GET_TID_ADDRESS: cleared and woken at the thread's end; 0 for none.
        pub clear_tid: u64,
        /// Restartable sequences.
        pub rseq: Option<Rseq>,
        /// Scheduling.
        pub sched: Sched,
        /// seccomp(2): 0 for none, 1 for the strict mode, 2 for filters.
        pub seccomp: u32,
        /// Its filters as indices of [`super::Tree::filters`], the oldest first.
        pub filters: Vec<u32>,
        /// Credentials that differ from the leader's.
        pub credentials: Option<Credentials>,
        /// PR_GET_PDEATHSIG.
        pub parent_death_signal: u32,
        /// Timer slack in nanoseconds.
        pub timer_slack_ns: u64,
        /// I/O priority (ioprio_get(2)).
        pub ioprio: u32,
        /// Control groups, in those hierarchies where it is not in the leader's; "/" where it is in
        /// the topmost one.
        pub cgroups: Vec<Cgroup>,
    }
}

record! {
    /// x86-64 user_regs_struct without the segment selectors that never change.
    pub struct Registers {
        /// r15.
        pub r15: u64,
        /// r14.
        pub r14: u64,
        /// r13.
        pub r13: u64,
        /// r12.
        pub r12: u64,
        /// rbp.
        pub rbp: u64,
        /// rbx.
        pub rbx: u64,
        /// r11.
        pub r11: u64,
        /// r10.
        pub r10: u64,
        /// r9.
        pub r9: u64,
        /// r8.
        pub r8: u64,
        /// rax.
        pub rax: u64,
        /// rcx.
        pub rcx: u64,
        /// rdx.
        pub rdx: u64,
        /// rsi.
        pub rsi: u64,
        /// rdi.
        pub rdi: u64,
        /// rip.
        pub rip: u64,
        /// eflags.
        pub eflags: u64,
        /// rsp.
        pub rsp: u64,
        /// fs base.
        pub fs_base: u64,
        /// gs base.
        pub gs_base: u64,
    }
}

record! {
    /// A system call issued anew on behalf of the thread; afterwards every argument register
    /// has its old value again, rax the result, and the thread goes on at `regs.rip`.
    pub struct Reissue {
        /// System call number.
        pub nr: u64,
        /// Arguments in order; those that [`Reissue::patches`] names are replaced.
        pub args: [u64; 6],
        /// What replaces an argument.
        pub patches: Vec<ArgPatch>,
        /// Added to a non-negative result: bytes that were transferred before the dump.
        pub add: u64,
    }
}

variant! {
    /// A replacement for one argument of a system call issued anew.
    pub enum ArgPatch {
        /// The register holds a timeout in milliseconds.
        1 => Millis {
            /// Argument number, 0 to 5.
            arg: u8,
            /// What remains.
            value: u64,
        },
        /// The argument points to a relative timespec; a copy with what remains takes its place.
        2 => Timespec {
            /// Argument number, 0 to 5.
            arg: u8,
            /// What remains, nanoseconds.
            ns: u64,
        },
    }
}

record! {
    /// sigaltstack(2).
    pub struct AltStack {
        /// Lowest address.
        pub sp: u64,
        /// SS_DISABLE 2, SS_AUTODISARM 1 << 31.
        pub flags: u32,
        /// Size in bytes.
        pub size: u64,
    }
}

record! {
    /// A queued signal: the kernel's siginfo_t, 128 bytes.
    pub struct SigInfo {
        /// The raw bytes.
        pub raw: Bytes,
    }
}

record! {
    /// A filter of seccomp(2).
    pub struct SeccompFilter {
        /// Classic BPF: struct sock_filter, 8 bytes each.
        pub program: Bytes,
        /// SECCOMP_FILTER_FLAG_LOG.
        pub log: bool,
    }
}

record! {
    /// PTRACE_GET_RSEQ_CONFIGURATION.
    pub struct Rseq {
        /// Address of struct rseq.
        pub address: u64,
        /// Its registered size in bytes.
        pub size: u32,
        /// Signature before abort handlers.
        pub signature: u32,
    }
}

record! {
    /// struct sched_attr (sched_setattr(2)) and affinity.
    pub struct Sched {
        /// SCHED_ policy.
        pub policy: u32,
        /// SCHED_FLAG_ bits.
        pub flags: u64,
        /// Nice value.
        pub nice: i32,
        /// Static priority of real-time policies.
        pub priority: u32,
        /// Deadline scheduling: runtime, deadline, period in nanoseconds.
        pub deadline: [u64; 3],
        /// Allowed CPUs, bit by bit, least significant first.
        pub affinity: Bytes,
    }
}
