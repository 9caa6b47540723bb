//! What only the process itself can ask the kernel for.

use super::chain::Chains;
use super::error::{CaptureError, Result};
use super::footing::Code;
use super::keyrings::Ring;
use super::proc::status::Status;
use super::proc::timers::TimerEntry;
use super::proc::Proc;
use super::questions::{self, Answer, Question};
use super::remote::{self, checked, Call};
use super::thread::Thread;
use super::undo::Semaphore;
use image_format::model::{AltStack, PosixTimer, SigAction};
use image_format::PAGE_SIZE;
use nix::errno::Errno;
use std::os::unix::fs::FileExt;

/// Bytes for results of one thread.
pub(super) const SCRATCH: u64 = 512;
const PR_GET_TID_ADDRESS: u64 = 40;
const PR_GET_THP_DISABLE: u64 = 42;
const SIGNALS: u32 = 64;
const SS_ONSTACK: u32 = 1;
/// Bytes of the kernel's sigset_t.
const SIGSET: u64 = 8;
/// Commands of membarrier(2): the one that tells of registrations, since Linux 6.3, and those that fail
/// without theirs, each with the command that registers.
const GET_REGISTRATIONS: u64 = 1 << 9;
const BARRIERS: [(u64, u32); 3] = [(1 << 3, 1 << 4), (1 << 5, 1 << 6), (1 << 7, 1 << 8)];

/// Process-wide answers.
#[derive(Debug, Default)]
pub(super) struct ProcessAnswers {
    pub actions: Vec<SigAction>,
    pub itimers: [[u64; 2]; 3],
    pub timers: Vec<PosixTimer>,
    pub dumpable: u32,
    pub subreaper: bool,
    pub thp_disable: bool,
    pub barriers: u32,
    pub brk: u64,
    /// Keyrings that hold keys, in words.
    pub keyrings: Vec<String>,
    /// System V semaphores of which its end would undo something.
    pub undo: Vec<Semaphore>,
    /// Of the descriptors in doubt: those that are not closed on exec.
    pub open_at_exec: Vec<u32>,
}

/// Answers of one thread.
#[derive(Debug, Default, Clone)]
pub(super) struct ThreadAnswers {
    pub altstack: Option<AltStack>,
    pub clear_tid: u64,
    pub parent_death_signal: u32,
    pub timer_slack: u64,
    pub securebits: u32,
    /// Its keyrings by their serials; none where it was not asked.
    pub rings: Vec<(Ring, i64)>,
}

/// One thing to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    AltStack,
    TidAddress,
    DeathSignal,
    TimerSlack,
    Securebits,
    Keyring(Ring),
    /// Of a signal.
    Action(u32),
    /// One of the three.
    Interval(usize),
    Subreaper,
    /// How long a timer has to run, and how often it was late: by its place in the list.
    TimerLeft(usize),
    TimerOverrun(usize),
    Dumpable,
    HugePages,
    Barriers,
    /// Whether a descriptor is closed on exec.
    CloseOnExec(u32),
    Break,
}

/// What is known about a process before it is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub status: &'a Status,
    pub timers: &'a [TimerEntry],
    /// Descriptors of which it must be asked whether they are closed on exec.
    pub doubtful: &'a [u32],
    /// Its user has keys.
    pub keys: bool,
}

impl Known<'_> {
    /// What each thread is asked, and what one of them is asked for all.
    fn items(&self, for_all: bool) -> Vec<Item> {
        let mut items = vec![
            Item::AltStack,
            Item::TidAddress,
            Item::DeathSignal,
            Item::TimerSlack,
            Item::Securebits,
        ];
        let rings = [Ring::Thread, Ring::Process, Ring::Session];
        // The others are alike in all threads, but for those that took care to differ.
        let asked = if for_all { 3 } else { 1 };
        items.extend(rings[..asked].iter().filter(|_| self.keys).map(|&r| Item::Keyring(r)));
        if !for_all {
            return items;
        }
        let status = self.status;
        // The default action of SIGCHLD has flags that matter (SA_NOCLDWAIT).
        let asked = status.caught | status.ignored | 1 << (libc::SIGCHLD - 1);
        items.extend((1..=SIGNALS).filter(|s| asked >> (s - 1) & 1 == 1).map(Item::Action));
        items.extend((0..3).map(Item::Interval));
        items.push(Item::Subreaper);
        let timer = |n| [Item::TimerLeft(n), Item::TimerOverrun(n)];
        items.extend((0..self.timers.len()).flat_map(timer));
        items.push(Item::Dumpable);
        // A kernel that says nothing about it (before 5.0) is asked.
        if status.thp_enabled != Some(true) {
            items.push(Item::HugePages);
        }
        items.push(Item::Barriers);
        items.extend(self.doubtful.iter().map(|&fd| Item::CloseOnExec(fd)));
        items.push(Item::Break);
        items
    }

    fn question(&self, item: Item) -> Question {
        const PRCTL: i64 = libc::SYS_prctl;
        let timer = |n: usize| self.timers.get(n).map_or(0, |t| u64::from(t.id));
        match item {
            Item::AltStack => Question::words("sigaltstack", libc::SYS_sigaltstack, &[0, 0], 1, 3),
            Item::TidAddress => {
                let name = "prctl(PR_GET_TID_ADDRESS)";
                Question::words(name, PRCTL, &[PR_GET_TID_ADDRESS, 0], 1, 1)
            }
            Item::DeathSignal => {
                let get = libc::PR_GET_PDEATHSIG as u64;
                Question::words("prctl(PR_GET_PDEATHSIG)", PRCTL, &[get, 0], 1, 1)
            }
            Item::TimerSlack => {
                let get = libc::PR_GET_TIMERSLACK as u64;
                Question::value("prctl(PR_GET_TIMERSLACK)", PRCTL, &[get])
            }
            Item::Securebits => {
                let get = libc::PR_GET_SECUREBITS as u64;
                Question::value("prctl(PR_GET_SECUREBITS)", PRCTL, &[get])
            }
            Item::Keyring(ring) => ring.question(),
            Item::Action(signal) => {
                let args = [u64::from(signal), 0, 0, SIGSET];
                Question::words("rt_sigaction", libc::SYS_rt_sigaction, &args, 2, 4)
            }
            Item::Interval(which) => {
                Question::words("getitimer", libc::SYS_getitimer, &[which as u64, 0], 1, 4)
            }
            Item::Subreaper => {
                let get = libc::PR_GET_CHILD_SUBREAPER as u64;
                Question::words("prctl(PR_GET_CHILD_SUBREAPER)", PRCTL, &[get, 0], 1, 1)
            }
            Item::TimerLeft(n) => {
                Question::words("timer_gettime", libc::SYS_timer_gettime, &[timer(n), 0], 1, 4)
            }
            Item::TimerOverrun(n) => {
                Question::value("timer_getoverrun", libc::SYS_timer_getoverrun, &[timer(n)])
            }
            Item::Dumpable => {
                let get = libc::PR_GET_DUMPABLE as u64;
                Question::value("prctl(PR_GET_DUMPABLE)", PRCTL, &[get])
            }
            // The kernel refuses it where the others are not zero.
            Item::HugePages => {
                let args = [PR_GET_THP_DISABLE, 0, 0, 0];
                Question::value("prctl(PR_GET_THP_DISABLE)", PRCTL, &args)
            }
            Item::Barriers => barrier(GET_REGISTRATIONS),
            Item::CloseOnExec(fd) => {
                let args = [u64::from(fd), libc::F_GETFD as u64];
                Question::value("fcntl(F_GETFD)", libc::SYS_fcntl, &args)
            }
            Item::Break => Question::value("brk", libc::SYS_brk, &[0]),
        }
    }
}

fn barrier(command: u64) -> Question {
    Question::value("membarrier", libc::SYS_membarrier, &[command, 0])
}

/// A time of seconds and a fraction, of which a second has `parts`.
fn time([whole, part]: [u64; 2], parts: u64) -> u64 {
    whole.saturating_mul(parts).saturating_add(part)
}

/// Everything that the threads and the process told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub process: ProcessAnswers,
    pub threads: Vec<ThreadAnswers>,
    /// The kernel did not tell of registrations for barriers.
    barriers_unknown: bool,
}

impl Told {
    fn take(
        &mut self,
        known: &Known<'_>,
        thread: &mut ThreadAnswers,
        tid: u32,
        item: Item,
        answer: &Answer,
    ) -> Result<()> {
        let process = &mut self.process;
        let words = answer.words;
        let [every, every_part, left, left_part] = words;
        let value = || checked(tid, known.question(item).name, answer.result);
        match item {
            // These fail where a kernel does not know them.
            Item::TidAddress if answer.result == -i64::from(libc::EINVAL) => {}
            Item::Barriers if answer.result < 0 => self.barriers_unknown = true,
            Item::Keyring(_) if answer.result < 0 => {}
            Item::AltStack => {
                value()?;
                // Being on it is a matter of the stack pointer, not a setting.
                let [sp, flags, size, _] = words;
                let flags = flags as u32 & !SS_ONSTACK;
                thread.altstack = Some(AltStack { sp, flags, size });
            }
            Item::TidAddress => {
                value()?;
                thread.clear_tid = every;
            }
            Item::DeathSignal => {
                value()?;
                thread.parent_death_signal = every as u32;
            }
            Item::TimerSlack => thread.timer_slack = value()?,
            Item::Securebits => thread.securebits = value()? as u32,
            Item::Keyring(ring) => thread.rings.push((ring, answer.result)),
            Item::Action(signal) => {
                value()?;
                let [handler, flags, restorer, mask] = words;
                if [handler, flags, mask] != [0; 3] {
                    process.actions.push(SigAction { signal, handler, flags, restorer, mask });
                }
            }
            Item::Interval(which) => {
                value()?;
                process.itimers[which] =
                    [[every, every_part], [left, left_part]].map(|t| time(t, 1_000_000));
            }
            Item::Subreaper => {
                value()?;
                process.subreaper = every as u32 != 0;
            }
            Item::TimerLeft(n) => {
                value()?;
                let t = &known.timers[n];
                process.timers.push(PosixTimer {
                    id: t.id,
                    clock: t.clock,
                    notify: t.notify,
                    signal: t.signal,
                    value: t.value,
                    thread: t.target,
                    interval_ns: time([every, every_part], 1_000_000_000),
                    remaining_ns: time([left, left_part], 1_000_000_000),
                    overrun: 0,
                });
            }
            Item::TimerOverrun(_) => {
                let overrun = value()? as u32;
                if let Some(timer) = process.timers.last_mut() {
                    timer.overrun = overrun;
                }
            }
            Item::Dumpable => process.dumpable = value()? as u32,
            Item::HugePages => process.thp_disable = value()? != 0,
            Item::Barriers => process.barriers = value()? as u32,
            Item::CloseOnExec(fd) => {
                if value()? & libc::FD_CLOEXEC as u64 == 0 {
                    process.open_at_exec.push(fd);
                }
            }
            Item::Break => process.brk = value()?,
        }
        Ok(())
    }
}

/// Asks all threads, each what concerns it alone, and the first about the process as well. `ids` are the
/// threads' ids as they see them themselves.
pub(super) fn ask(
    threads: &mut [Thread],
    code: Code,
    chains: Option<&Chains>,
    ids: &[u32],
    known: &Known<'_>,
) -> Result<Told> {
    let items: Vec<Vec<Item>> = (0..threads.len()).map(|i| known.items(i == 0)).collect();
    let lists: Vec<Vec<Question>> =
        items.iter().map(|all| all.iter().map(|&item| known.question(item)).collect()).collect();
    let answers = match chains {
        Some(chains) => chains.ask(threads, code, ids, &lists)?,
        None => questions::one_by_one(threads, code, &lists)?,
    };
    let mut told = Told::default();
    for ((thread, items), answers) in threads.iter().zip(items).zip(answers) {
        let mut own = ThreadAnswers::default();
        for (item, answer) in items.into_iter().zip(&answers) {
            told.take(known, &mut own, thread.tid(), item, answer)?;
        }
        told.threads.push(own);
    }
    if told.barriers_unknown {
        told.process.barriers = barriers(&mut threads[0], code)?;
    }
    Ok(told)
}

/// What the process has registered for, where the kernel does not tell: it is asked for each barrier.
/// That for all processes it does not refuse to anyone, so it stays unknown.
fn barriers(thread: &mut Thread, code: Code) -> Result<u32> {
    let list = vec![BARRIERS.map(|(command, _)| barrier(command)).to_vec()];
    let answers = questions::one_by_one(std::slice::from_mut(thread), code, &list)?;
    let each = answers.iter().flatten().zip(BARRIERS);
    Ok(each.filter(|(answer, _)| answer.result >= 0).fold(0, |all, (_, (_, bit))| all | bit))
}

/// mlockall(MCL_FUTURE) is shown nowhere: a page is mapped, and the kernel locks it or does not.
/// The result is bit 0 for MCL_FUTURE, bit 1 for MCL_ONFAULT.
pub(super) fn ask_lock_future(
    thread: &mut Thread,
    code: Code,
    proc: &Proc,
    locked: u64,
) -> Result<u8> {
    let mut call = |name, nr, args: &[u64]| remote::call(thread, code, Call::new(name, nr, args));
    let prot = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
    let args = [0, PAGE_SIZE, prot, flags, u64::MAX, 0];
    let page = match call("mmap", libc::SYS_mmap, &args) {
        Ok(page) => page,
        // No room left under the limit for locked memory: so it would have been locked.
        Err(CaptureError::Remote { errno: Errno::EAGAIN, .. }) => return Ok(1),
        Err(e) => return Err(e),
    };
    let now = proc.status().map(|s| s.locked);
    let present = proc.file("pagemap").and_then(|map| {
        let mut entry = [0; 8];
        map.read_exact_at(&mut entry, page / PAGE_SIZE * 8)?;
        Ok(u64::from_le_bytes(entry) >> 63 == 1)
    });
    call("munmap", libc::SYS_munmap, &[page, PAGE_SIZE])?;
    if now? <= locked {
        return Ok(0);
    }
    Ok(if present.unwrap_or(true) { 1 } else { 3 })
}
