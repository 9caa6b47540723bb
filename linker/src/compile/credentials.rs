//! Credentials: the kernel keeps them for each thread, so each takes on its own.
//!
//! The order follows from what each change costs: groups and ids need capabilities, which the
//! change of ids would clear, and what capabilities are left must come last.

use super::arch::nr;
use super::builder::Arg;
use super::ProcessCompiler;
use image_format::model::{Credentials, Thread};
use image_format::plan::{op, Expect};

const PR_SET_KEEPCAPS: u64 = 8;
const PR_SET_SECUREBITS: u64 = 28;
const PR_SET_NO_NEW_PRIVS: u64 = 38;
const SECCOMP_MODE_FILTER: u32 = 2;
const CAP_SYS_ADMIN: u32 = 21;
/// _LINUX_CAPABILITY_VERSION_3, with process 0: this one.
const CAPABILITY_VERSION_3: u64 = 0x2008_0522;
/// capabilities(7).
const SECBIT_NO_SETUID_FIXUP: u64 = 1 << 2;
const SECBIT_KEEP_CAPS: u32 = 1 << 4;

impl ProcessCompiler<'_> {
    /// What could not be had is said by the leader, and by threads that are something else.
    pub(super) fn credentials(&mut self, thread: &Thread, leader: bool) {
        let own = thread.credentials.as_ref();
        let expect = if leader || own.is_some() { Expect::Note } else { Expect::Ignore };
        let whose = own.map_or_else(String::new, |_| format!(" of thread {}", thread.tid));
        let what = |name: &str| format!("{name}{whose}");
        let c: &Credentials = own.unwrap_or(&self.process.credentials);
        let groups: Vec<u8> = c.groups.iter().flat_map(|g| g.to_le_bytes()).collect();
        let count = c.groups.len() as u64;
        let list = self.b.data(&groups);
        let args = [Arg::value(count), Arg::data(list)];
        self.b.step(op::GROUPS, &what("supplementary groups"), nr::SETGROUPS, &args, expect);
        let [real, effective, saved, fs] = c.gids.map(u64::from);
        let args = [real, effective, saved, 0, 0, 0];
        self.b.syscall(&what("group ids"), nr::SETGID_RES, args, expect);
        if fs != effective {
            let args = [fs, 0, 0, 0, 0, 0];
            self.b.syscall(&what("filesystem group id"), nr::SETFSGID, args, expect);
        }
        // Without these, leaving user id 0 would clear the capabilities that are set next; with the
        // first alone, the effective ones, without which no bounding set is made smaller.
        let keep = [PR_SET_KEEPCAPS, 1, 0, 0, 0, 0];
        self.b.syscall("capabilities", nr::PRCTL, keep, Expect::Ignore);
        let fixup = [PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0, 0];
        self.b.syscall("capabilities", nr::PRCTL, fixup, Expect::Ignore);
        let [real, effective, saved, fs] = c.uids.map(u64::from);
        let args = [real, effective, saved, 0, 0, 0];
        self.b.syscall(&what("user ids"), nr::SETUID_RES, args, expect);
        if fs != effective {
            let args = [fs, 0, 0, 0, 0, 0];
            self.b.syscall(&what("filesystem user id"), nr::SETFSUID, args, expect);
        }
        let [inheritable, permitted, effective, bounding, ambient] = c.capabilities;
        let securebits = u64::from(c.securebits);
        let args = [inheritable, permitted, effective, bounding, ambient, securebits];
        let args = args.map(Arg::value);
        self.b.step(op::CAPABILITIES, &what("capabilities"), 0, &args, expect);
        // Who may not set securebits may set this one of them.
        let keep = u64::from(c.securebits & SECBIT_KEEP_CAPS != 0);
        let args = [PR_SET_KEEPCAPS, keep, 0, 0, 0, 0];
        self.b.syscall("capabilities", nr::PRCTL, args, Expect::Ignore);
        let filtered = thread.seccomp == SECCOMP_MODE_FILTER && !c.no_new_privs;
        let may_filter = c.capabilities[2] >> CAP_SYS_ADMIN & 1 == 1;
        if filtered && may_filter {
            // Without no_new_privs it takes CAP_SYS_ADMIN to install a filter (seccomp(2)). The
            // thread is to have it; this fails where it could not be had, while that can be told.
            let halves = [effective, permitted, inheritable];
            let words: Vec<u8> = halves
                .iter()
                .map(|set| *set as u32)
                .chain(halves.iter().map(|set| (set >> 32) as u32))
                .flat_map(u32::to_le_bytes)
                .collect();
            let (header, sets) = (self.b.words(&[CAPABILITY_VERSION_3]), self.b.data(&words));
            let args = [Arg::data(header), Arg::data(sets)];
            let object = "the right to install its seccomp filter";
            self.b.call(object, nr::CAPSET, &args, Expect::Success);
        }
        if c.no_new_privs || filtered && !may_filter {
            self.must("no_new_privs", nr::PRCTL, [PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0]);
        }
    }
}
