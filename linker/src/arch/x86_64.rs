//! x86-64: system call numbers, signal frame, slot code.

use image_format::arch::x86_64::frame;
use image_format::model::{AltStack, ArgPatch, Registers, Thread};
use image_format::stub::{SlotData, SLOT_DATA, SLOT_SIZE};
use scroll::{Pwrite, LE};

macro_rules! calls {
    ($($(#[$meta:meta])* $name:ident $nr:literal $text:literal;)*) => {
        /// System call numbers (arch/x86/entry/syscalls/syscall_64.tbl).
        pub mod nr {
            $($(#[$meta])* pub const $name: u32 = $nr;)*
        }
        /// The same with their names.
        pub const NAMES: &[(u32, &str)] = &[$(($nr, $text)),*];
    };
}

calls! {
    READ 0 "read";
    OPEN 2 "open";
    CLOSE 3 "close";
    POLL 7 "poll";
    LSEEK 8 "lseek";
    MMAP 9 "mmap";
    MPROTECT 10 "mprotect";
    MUNMAP 11 "munmap";
    RT_SIGACTION 13 "rt_sigaction";
    IOCTL 16 "ioctl";
    PREAD64 17 "pread64";
    MREMAP 25 "mremap";
    MADVISE 28 "madvise";
    SHMGET 29 "shmget";
    SHMAT 30 "shmat";
    SHMCTL 31 "shmctl";
    SETITIMER 38 "setitimer";
    SOCKET 41 "socket";
    CONNECT 42 "connect";
    SENDTO 44 "sendto";
    SENDMSG 46 "sendmsg";
    SHUTDOWN 48 "shutdown";
    FTRUNCATE 77 "ftruncate";
    BIND 49 "bind";
    LISTEN 50 "listen";
    GETSOCKNAME 51 "getsockname";
    SOCKETPAIR 53 "socketpair";
    SETSOCKOPT 54 "setsockopt";
    WAIT4 61 "wait4";
    SEMGET 64 "semget";
    SEMCTL 66 "semctl";
    SHMDT 67 "shmdt";
    MSGGET 68 "msgget";
    MSGSND 69 "msgsnd";
    MSGRCV 70 "msgrcv";
    MSGCTL 71 "msgctl";
    FCNTL 72 "fcntl";
    FLOCK 73 "flock";
    CHDIR 80 "chdir";
    MKDIR 83 "mkdir";
    CHMOD 90 "chmod";
    FCHMOD 91 "fchmod";
    FCHOWN 93 "fchown";
    LCHOWN 94 "lchown";
    UMASK 95 "umask";
    SETPGID 109 "setpgid";
    SETSID 112 "setsid";
    SETUID_RES 117 "setresuid";
    SETGID_RES 119 "setresgid";
    SETGROUPS 116 "setgroups";
    GETPGID 121 "getpgid";
    SETFSUID 122 "setfsuid";
    SETFSGID 123 "setfsgid";
    CAPSET 126 "capset";
    RT_SIGQUEUEINFO 129 "rt_sigqueueinfo";
    SIGALTSTACK 131 "sigaltstack";
    MKNOD 133 "mknod";
    PERSONALITY 135 "personality";
    SETPRIORITY 141 "setpriority";
    MLOCKALL 151 "mlockall";
    PRCTL 157 "prctl";
    CHROOT 161 "chroot";
    FUTEX 202 "futex";
    SET_TID_ADDRESS 218 "set_tid_address";
    EPOLL_CTL 233 "epoll_ctl";
    MQ_OPEN 240 "mq_open";
    MQ_UNLINK 241 "mq_unlink";
    MQ_NOTIFY 244 "mq_notify";
    MQ_GETSETATTR 245 "mq_getsetattr";
    IOPRIO_SET 251 "ioprio_set";
    INOTIFY_ADD_WATCH 254 "inotify_add_watch";
    INOTIFY_RM_WATCH 255 "inotify_rm_watch";
    FCHOWNAT 260 "fchownat";
    UNLINKAT 263 "unlinkat";
    FACCESSAT 269 "faccessat";
    SET_ROBUST_LIST 273 "set_robust_list";
    TIMERFD_CREATE 283 "timerfd_create";
    TIMERFD_SETTIME 286 "timerfd_settime";
    ACCEPT4 288 "accept4";
    SIGNALFD4 289 "signalfd4";
    EVENTFD2 290 "eventfd2";
    EPOLL_CREATE1 291 "epoll_create1";
    DUP3 292 "dup3";
    PIPE2 293 "pipe2";
    INOTIFY_INIT1 294 "inotify_init1";
    RT_TGSIGQUEUEINFO 297 "rt_tgsigqueueinfo";
    PRLIMIT64 302 "prlimit64";
    SCHED_SETATTR 314 "sched_setattr";
    GETRANDOM 318 "getrandom";
    MEMFD_CREATE 319 "memfd_create";
    MEMBARRIER 324 "membarrier";
    MLOCK2 325 "mlock2";
    RSEQ 334 "rseq";
    PIDFD_OPEN 434 "pidfd_open";
    CLOSE_RANGE 436 "close_range";
    MSEAL 462 "mseal";
}

/// Order of the argument registers of a system call.
fn arguments(r: &Registers) -> [u64; 6] {
    [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9]
}

fn set_arguments(r: &mut Registers, args: [u64; 6]) {
    [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] = args;
}

/// The code at the beginning of a slot: the system call, the argument registers and rcx as the
/// program knows them, and the jump back. No instruction changes the flags, which the program
/// may rely on across a system call.
///
/// With `add` the flags do change (a test and an addition of what had been transferred already).
fn slot_code(add: bool) -> Vec<u8> {
    let field = |n: u8| -> i32 { SLOT_DATA as i32 + i32::from(n) * 8 };
    let mut code: Vec<u8> = vec![0x0f, 0x05]; // syscall
    if add {
        code.extend([0x48, 0x85, 0xc0]); // test rax, rax
        code.extend([0x78, 0x07]); // js over the addition
        code.extend([0x48, 0x03, 0x05]); // add rax, [rip + add]
        let to = field(10) - (code.len() as i32 + 4);
        code.extend(to.to_le_bytes());
    }
    // mov reg, [rip + field]: rdi, rsi, rdx, r10, r8, r9, and rcx (the address after the
    // program's own syscall instruction, which is where it goes on).
    for (prefix, modrm, n) in [
        (0x48, 0x3d, 1),
        (0x48, 0x35, 2),
        (0x48, 0x15, 3),
        (0x4c, 0x15, 4),
        (0x4c, 0x05, 5),
        (0x4c, 0x0d, 6),
        (0x48, 0x0d, 0),
    ] {
        code.extend([prefix, 0x8b, modrm]);
        let to = field(n) - (code.len() as i32 + 4);
        code.extend(to.to_le_bytes());
    }
    code.extend([0xff, 0x25]); // jmp [rip + resume]
    let to = field(0) - (code.len() as i32 + 4);
    code.extend(to.to_le_bytes());
    code
}

/// The slot of a thread whose system call is issued anew, for address `slot`, and the registers
/// with which the thread enters it.
pub fn slot(thread: &Thread, slot: u64) -> Option<(Vec<u8>, Registers)> {
    let reissue = thread.reissue.as_ref()?;
    let mut data = SlotData {
        resume: thread.regs.rip,
        args: arguments(&thread.regs),
        nr: reissue.nr,
        add: reissue.add,
        ..Default::default()
    };
    let mut args = reissue.args;
    for patch in &reissue.patches {
        let (index, value, bit) = match *patch {
            ArgPatch::Millis { arg, value } => (arg, value, 8),
            ArgPatch::Timespec { arg, ns } => {
                data.timespec = [(ns / 1_000_000_000) as i64, (ns % 1_000_000_000) as i64];
                let field = core::mem::offset_of!(SlotData, timespec) as u64;
                (arg, slot + SLOT_DATA + field, 0)
            }
        };
        *args.get_mut(usize::from(index))? = value;
        data.patched |= 1 << (bit + index);
    }
    let mut bytes = slot_code(reissue.add != 0);
    bytes.resize(SLOT_SIZE as usize, 0);
    bytes.pwrite_with(data, SLOT_DATA as usize, LE).ok()?;
    let mut regs = thread.regs.clone();
    set_arguments(&mut regs, args);
    regs.rax = reissue.nr;
    regs.rip = slot;
    Some((bytes, regs))
}

/// The kernel's struct epoll_event, which is packed here: events, then the user's datum.
pub fn epoll_event(events: u32, data: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&events.to_le_bytes());
    bytes[4..].copy_from_slice(&data.to_le_bytes());
    bytes
}

/// The kernel's struct ucontext for `regs`; the restorer adds the floating-point state.
pub fn ucontext(regs: &Registers, sigmask: u64, altstack: &AltStack) -> Vec<u8> {
    let mut bytes = vec![0; frame::SIZE];
    let r = regs;
    let words = [
        r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rbp, r.rbx, r.rdx,
        r.rax, r.rcx, r.rsp, r.rip, r.eflags,
    ];
    for (i, word) in words.iter().enumerate() {
        put(&mut bytes, frame::MCONTEXT + i * 8, *word);
    }
    put(&mut bytes, frame::STACK, altstack.sp);
    // SS_ONSTACK says where the thread is, it is not to be set.
    put(&mut bytes, frame::STACK + 8, u64::from(altstack.flags & !1));
    put(&mut bytes, frame::STACK + 16, altstack.size);
    put(&mut bytes, frame::SIGMASK, sigmask);
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_code_fits_and_ends_in_the_jump() {
        for add in [false, true] {
            let code = slot_code(add);
            assert!(code.len() <= SLOT_DATA as usize);
            let jump = code.len() - 6;
            assert_eq!(code[jump..jump + 2], [0xff, 0x25]);
            let to = i32::from_le_bytes(code[jump + 2..].try_into().unwrap());
            assert_eq!(code.len() as i32 + to, SLOT_DATA as i32);
        }
    }
}
