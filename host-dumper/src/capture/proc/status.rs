//! /proc/PID/status, of a process or of one thread.

use super::number::{decimal, hex, lines, radix, words};

/// The fields that matter here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Name, escapes undone.
    pub name: Vec<u8>,
    /// State letter.
    pub state: u8,
    /// Umask.
    pub umask: u32,
    /// Thread group, in the reader's pid namespace.
    pub tgid: u32,
    /// Parent, likewise.
    pub ppid: u32,
    /// Tracer, likewise; 0 for none.
    pub tracer: u32,
    /// Real, effective, saved, filesystem user ids, in the reader's user namespace.
    pub uids: [u32; 4],
    /// Group ids likewise.
    pub gids: [u32; 4],
    /// Supplementary groups likewise.
    pub groups: Vec<u32>,
    /// Process id in each pid namespace, the reader's first.
    pub ns_tgid: Vec<u32>,
    /// Thread id likewise.
    pub ns_pid: Vec<u32>,
    /// Process group likewise; 0 where it is not visible.
    pub ns_pgid: Vec<u32>,
    /// Session likewise.
    pub ns_sid: Vec<u32>,
    /// A kernel thread (6.8 and newer say so).
    pub kernel_thread: bool,
    /// It has an address space.
    pub has_memory: bool,
    /// Locked memory in bytes.
    pub locked: u64,
    /// Anonymous memory in bytes, in memory and in swap.
    pub anonymous: u64,
    /// Number of threads.
    pub threads: u32,
    /// Signals pending for the thread, for the process, blocked, ignored, caught.
    pub pending: u64,
    /// Signals pending for the whole process.
    pub shared_pending: u64,
    /// Signals blocked.
    pub blocked: u64,
    /// Signals ignored.
    pub ignored: u64,
    /// Signals caught.
    pub caught: u64,
    /// Inheritable, permitted, effective, bounding, ambient.
    pub capabilities: [u64; 5],
    /// no_new_privs.
    pub no_new_privs: bool,
    /// Seccomp mode.
    pub seccomp: u32,
    /// Number of seccomp filters.
    pub seccomp_filters: u32,
    /// Transparent huge pages are not switched off for the process (5.0 and newer say so).
    pub thp_enabled: Option<bool>,
    /// x86_Thread_features lists a shadow stack.
    pub shadow_stack: bool,
}

impl Status {
    /// Whether the process is the first one of its pid namespace.
    pub fn is_init(&self) -> bool {
        self.ns_tgid.last() == Some(&1)
    }
}

fn numbers(value: &[u8]) -> Option<Vec<u32>> {
    words(value).map(|w| decimal(w).map(|n| n as u32)).collect()
}

fn four(value: &[u8]) -> Option<[u32; 4]> {
    numbers(value)?.try_into().ok()
}

/// Reads a status file; a field that every supported kernel has must be there.
pub fn parse(text: &[u8]) -> Option<Status> {
    let mut s = Status::default();
    let mut seen_uid = false;
    for line in lines(text) {
        let colon = line.iter().position(|&b| b == b':')?;
        let value = &line[colon + 1..];
        let first = words(value).next();
        let number = || first.and_then(decimal);
        let mask = || first.and_then(hex);
        match &line[..colon] {
            b"Name" => s.name = unescape(value.strip_prefix(b"\t").unwrap_or(value)),
            b"State" => s.state = *first?.first()?,
            b"Umask" => s.umask = radix(first?, 8)? as u32,
            b"Tgid" => s.tgid = number()? as u32,
            b"PPid" => s.ppid = number()? as u32,
            b"TracerPid" => s.tracer = number()? as u32,
            b"Uid" => {
                s.uids = four(value)?;
                seen_uid = true;
            }
            b"Gid" => s.gids = four(value)?,
            b"Groups" => s.groups = numbers(value)?,
            b"NStgid" => s.ns_tgid = numbers(value)?,
            b"NSpid" => s.ns_pid = numbers(value)?,
            b"NSpgid" => s.ns_pgid = numbers(value)?,
            b"NSsid" => s.ns_sid = numbers(value)?,
            b"Kthread" => s.kernel_thread = number()? != 0,
            b"VmSize" => s.has_memory = true,
            b"VmLck" => s.locked = number()?.checked_mul(1024)?,
            b"RssAnon" | b"VmSwap" => {
                s.anonymous = s.anonymous.checked_add(number()?.checked_mul(1024)?)?;
            }
            b"Threads" => s.threads = number()? as u32,
            b"SigPnd" => s.pending = mask()?,
            b"ShdPnd" => s.shared_pending = mask()?,
            b"SigBlk" => s.blocked = mask()?,
            b"SigIgn" => s.ignored = mask()?,
            b"SigCgt" => s.caught = mask()?,
            b"CapInh" => s.capabilities[0] = mask()?,
            b"CapPrm" => s.capabilities[1] = mask()?,
            b"CapEff" => s.capabilities[2] = mask()?,
            b"CapBnd" => s.capabilities[3] = mask()?,
            b"CapAmb" => s.capabilities[4] = mask()?,
            b"NoNewPrivs" => s.no_new_privs = number()? != 0,
            b"Seccomp" => s.seccomp = number()? as u32,
            b"Seccomp_filters" => s.seccomp_filters = number()? as u32,
            b"THP_enabled" => s.thp_enabled = Some(number()? != 0),
            b"x86_Thread_features" => s.shadow_stack = words(value).any(|w| w == b"shstk"),
            _ => {}
        }
    }
    (seen_uid && s.state != 0 && !s.ns_pid.is_empty()).then_some(s)
}

/// Undoes the escapes of a name: \n and \\.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = name.iter();
    while let Some(&b) = bytes.next() {
        out.push(match b {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(&other) => other,
                None => b,
            },
            _ => b,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_status() {
        let s = parse(&std::fs::read("/proc/self/status").unwrap()).unwrap();
        assert_eq!(s.tgid, std::process::id());
        assert_eq!(s.ns_tgid.first(), Some(&std::process::id()));
        assert!(s.has_memory && !s.kernel_thread && s.threads > 0);
    }

    #[test]
    fn names_and_namespaces() {
        let text = b"Name:\ta\\nb\\\\c\nState:\tS (sleeping)\nUid:\t1\t2\t3\t4\nGid:\t0\t0\t0\t0\n\
            NSpid:\t500\t7\nSigCgt:\t0000000180014a07\nGroups:\t4 20 \nUmask:\t0022\n\
            RssAnon:\t     128 kB\nVmSwap:\t  4 kB\n";
        let s = parse(text).unwrap();
        assert_eq!(s.name, b"a\nb\\c");
        assert_eq!((s.state, s.uids, s.umask), (b'S', [1, 2, 3, 4], 0o22));
        assert_eq!((s.ns_pid, s.groups), (vec![500, 7], vec![4, 20]));
        assert_eq!((s.caught, s.anonymous), (0x1_8001_4a07, 132 << 10));
    }

    #[test]
    fn missing_fields_are_noticed() {
        assert_eq!(parse(b"Name:\tx\n"), None);
        assert_eq!(parse(b"garbage"), None);
        assert_eq!(parse(b"Uid:\t1\t2\n"), None);
    }
}
