//! A small tree, consistent in itself, for the tests of everything that handles models.

use super::{
    vma, AddressRange, AltStack, ArgPatch, Backing, Cgroup, Connection, Cpu, Credentials,
    Descriptor, FileObject, IpcObject, Layout, Mapping, Membership, Memory, Message, OpenFile,
    Process, Registers, Reissue, Rseq, Sched, SigInfo, Socket, SocketLink, SocketOption, Source,
    Thread, Tree,
};
use crate::codec::Bytes;
use alloc::vec;

/// A thread that waits in poll with half a second left, with a signal pending.
pub fn thread(tid: u32) -> Thread {
    Thread {
        tid,
        name: "main".into(),
        regs: Registers {
            r15: 1,
            r14: 2,
            r13: 3,
            r12: 4,
            rbp: 5,
            rbx: 6,
            r11: 7,
            r10: 8,
            r9: 9,
            r8: 10,
            rax: 11,
            rcx: 12,
            rdx: 13,
            rsi: 14,
            rdi: 15,
            rip: 16,
            eflags: 17,
            rsp: 18,
            fs_base: 19,
            gs_base: 20,
        },
        xsave: Bytes(vec![0; 832]),
        reissue: Some(Reissue {
            nr: 7,
            args: [1, 2, 3, 4, 5, 6],
            patches: vec![ArgPatch::Millis { arg: 2, value: 500 }],
            add: 0,
        }),
        sigmask: 0xf0,
        altstack: AltStack { sp: 0, flags: 2, size: 0 },
        pending: vec![SigInfo { raw: Bytes(vec![1; 128]) }],
        robust_list: [1, 24],
        clear_tid: 9,
        rseq: Some(Rseq { address: 64, size: 32, signature: 0x53053053 }),
        sched: Sched {
            policy: 0,
            flags: 0,
            nice: 3,
            priority: 0,
            deadline: [0; 3],
            affinity: Bytes(vec![3]),
        },
        seccomp: 0,
        filters: vec![],
        credentials: None,
        parent_death_signal: 0,
        timer_slack_ns: 50_000,
        cgroups: vec![],
        ioprio: 0,
    }
}

/// A process of one thread, two pages of a file and one descriptor.
pub fn process(pid: u32) -> Process {
    Process {
        pid,
        parent: None,
        pgid: pid,
        sid: 1,
        exit_signal: 17,
        threads: vec![thread(pid)],
        memory: Memory {
            mappings: vec![Mapping {
                start: 0x40_0000,
                end: 0x40_2000,
                prot: 5,
                flags: vma::LOCKED,
                backing: Backing::File { path: "/bin/true".into(), offset: 0, from_image: true },
            }],
            guards: vec![AddressRange { start: 0x40_1000, end: 0x40_2000 }],
            layout: Layout {
                start_code: 1,
                end_code: 2,
                start_data: 3,
                end_data: 4,
                start_brk: 5,
                brk: 6,
                start_stack: 7,
                arg_start: 8,
                arg_end: 9,
                env_start: 10,
                env_end: 11,
            },
            auxv: vec![33, 0x7000, 0, 0],
            vdso: None,
            exe: "/bin/true".into(),
            lock_future: 0,
        },
        descriptors: vec![Descriptor { fd: 0, file: 0, cloexec: false, locks: vec![] }],
        credentials: Credentials {
            uids: [0; 4],
            gids: [0; 4],
            groups: vec![4, 5],
            capabilities: [0, 1, 1, 1, 0],
            securebits: 0,
            no_new_privs: true,
        },
        cwd: "/".into(),
        root: "/".into(),
        umask: 0o22,
        limits: vec![[1, 2]; 16],
        personality: 0,
        dumpable: 1,
        subreaper: false,
        barriers: 0,
        cgroup_list: "0::/some.slice\n".into(),
        cgroups: vec![Cgroup { controllers: "".into(), path: "/some.slice".into() }],
        thp_disable: false,
        oom_score_adj: 0,
        coredump_filter: 0x33,
        actions: vec![],
        pending: vec![],
        stopped: 0,
        stop_told: false,
        itimers: [[0; 2]; 3],
        timers: vec![],
        locks_held: false,
        control: vec![],
        lost: vec![],
    }
}

/// A tree of that one process.
pub fn tree() -> Tree {
    Tree {
        source: Source {
            kernel: "6.1".into(),
            host: "a".into(),
            boot: "b".into(),
            realtime_ns: 1,
            monotonic_ns: 2,
            boottime_ns: 3,
            cpu: Cpu { name: "x".into(), leaves: vec![], xcr0: 7, xsave: vec![] },
            generation: 0,
        },
        processes: vec![process(7)],
        zombies: vec![],
        files: vec![OpenFile {
            flags: 0,
            offset: 0,
            object: FileObject::EventFd { count: 3, semaphore: false },
            owner: [0; 2],
            signal: 0,
            locks: vec![],
        }],
        pipes: vec![],
        terminals: vec![],
        shared: vec![],
        sockets: vec![],
        semaphores: vec![],
        queues: vec![],
        filters: vec![],
    }
}

/// A System V object with the key 0x1234.
pub fn ipc_object(id: u32) -> IpcObject {
    IpcObject { key: 0x1234, id, mode: 0o600, owner: [5; 2], outside: false }
}

/// A connection that lives on.
pub fn connection() -> Socket {
    Socket {
        inode: 77,
        family: 2,
        kind: 1,
        protocol: 6,
        name: Bytes(b"\x02\0\x1f\x90\x0a\0\0\x01\0\0\0\0\0\0\0\0".to_vec()),
        file: None,
        options: vec![SocketOption { level: 6, name: 1, value: Bytes(vec![1, 0, 0, 0]) }],
        memberships: vec![Membership {
            interface: "lo".into(),
            level: 0,
            filter: Bytes(vec![0; 144]),
        }],
        link: SocketLink::Live {
            connection: Connection {
                peer: Bytes(b"\x02\0\x23\x28\x0a\0\0\x02\0\0\0\0\0\0\0\0".to_vec()),
                table: Bytes(b"resume-0".to_vec()),
                send_seq: 1000,
                receive_seq: 2000,
                mss: 1460,
                agreed: 7,
                scales: [7, 7],
                timestamp: 12345,
                window: [1999, 65536, 65536, 64240, 2000],
                sent: Bytes(b"sent".to_vec()),
                unsent: Bytes(b"unsent".to_vec()),
                buffers: [87040, 131_072],
                locked: 0,
            },
        },
        shutdown: 0,
        peek_offset: -1,
        queue: vec![Message {
            data: Bytes(b"received".to_vec()),
            files: vec![],
            from: Bytes(vec![]),
        }],
    }
}
