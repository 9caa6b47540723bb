//! What only the process itself can ask the kernel for.

use super::chain::{Chains, Link};
use super::error::{CaptureError, Result};
use super::footing::Code;
use super::mem;
use super::proc::status::Status;
use super::proc::timers::TimerEntry;
use super::proc::Proc;
use super::remote::{call_each, checked, Call};
use super::thread::Thread;
use super::undo::Semaphore;
use image_format::model::{AltStack, PosixTimer, SigAction};
use image_format::PAGE_SIZE;
use nix::errno::Errno;
use std::os::unix::fs::FileExt;

/// Bytes for results of one thread.
pub(super) const SCRATCH: u64 = 256;
const PR_GET_TID_ADDRESS: u64 = 40;
const PR_GET_THP_DISABLE: u64 = 42;
/// Where results lie in the room of a thread: alternate stack, clear_child_tid, parent-death signal,
/// the result that is kept (timer slack or securebits), subreaper, three interval timers.
const ALTSTACK: u64 = 0;
const TID_ADDRESS: u64 = 32;
const DEATH_SIGNAL: u64 = 40;
const KEPT: u64 = 48;
const SUBREAPER: u64 = 56;
const ITIMERS: u64 = 64;
/// Bytes of them, and of one struct itimerval.
const RESULTS: usize = 160;
const ITIMER: u64 = 32;
/// struct sigaltstack where no call has written one.
const UNWRITTEN: u64 = 0x5a5a_5a5a_5a5a_5a5a;
const SIGNALS: u32 = 64;
const SS_ONSTACK: u32 = 1;
/// Bytes of the kernel's sigset_t.
const SIGSET: u64 = 8;

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
    /// None where the thread was not asked for them.
    pub securebits: Option<u32>,
    /// What concerns the whole process, of the thread that was asked for it.
    shared: Option<Shared>,
}

/// What a chain finds out about the process.
#[derive(Debug, Default, Clone, Copy)]
struct Shared {
    subreaper: bool,
    itimers: [[u64; 2]; 3],
}

/// Microseconds of a struct itimerval: interval, remaining.
fn itimer([every_s, every_us, left_s, left_us]: [u64; 4]) -> [u64; 2] {
    let micros = |s: u64, us: u64| s.saturating_mul(1_000_000).saturating_add(us);
    [micros(every_s, every_us), micros(left_s, left_us)]
}

/// Asks one thread.
struct Asker<'a> {
    thread: &'a mut Thread,
    code: Code,
}

impl Asker<'_> {
    fn scratch(&self) -> u64 {
        self.thread.undo.as_ref().map_or(0, |u| u.scratch)
    }

    /// A call without a result in memory.
    fn value(&mut self, name: &'static str, nr: i64, args: &[u64]) -> Result<u64> {
        super::remote::call(self.thread, self.code, Call::new(name, nr, args))
    }

    /// A call that fills a structure of `N` 64-bit words, whose address is argument `place`.
    fn words<const N: usize>(
        &mut self,
        name: &'static str,
        nr: i64,
        args: &[u64],
        place: usize,
    ) -> Result<[u64; N]> {
        let scratch = self.scratch();
        let mut call = Call::new(name, nr, args);
        call.args[place] = scratch;
        super::remote::call(self.thread, self.code, call)?;
        let mut bytes = vec![0; N * 8];
        mem::read_into(self.thread.tid(), scratch, &mut bytes)?;
        let mut words = [0; N];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
        }
        Ok(words)
    }
}

/// Commands of membarrier(2): the one that tells of registrations, since Linux 6.3, and those that fail
/// without theirs, each with the command that registers.
const GET_REGISTRATIONS: u64 = 1 << 9;
const BARRIERS: [(u64, u32); 3] = [(1 << 3, 1 << 4), (1 << 5, 1 << 6), (1 << 7, 1 << 8)];

impl Asker<'_> {
    /// What the process has registered for. A kernel that does not tell is asked for each barrier; that
    /// for all processes it does not refuse to anyone, so it stays unknown.
    fn barriers(&mut self) -> Result<u32> {
        const NAME: &str = "membarrier";
        let mut has = |command| match self.value(NAME, libc::SYS_membarrier, &[command]) {
            Ok(result) => Ok(Some(result)),
            Err(CaptureError::Remote { .. }) => Ok(None),
            Err(other) => Err(other),
        };
        if let Some(all) = has(GET_REGISTRATIONS)? {
            return Ok(all as u32);
        }
        let mut all = 0;
        for (barrier, registers) in BARRIERS {
            if has(barrier)?.is_some() {
                all |= registers;
            }
        }
        Ok(all)
    }
}

/// Asks everything that concerns the process as a whole, in one of its threads, as far as `known`,
/// that thread's answers, does not hold it already. Of the descriptors in `doubtful` it is asked
/// whether they are closed on exec.
pub(super) fn ask_process(
    thread: &mut Thread,
    code: Code,
    status: &Status,
    timers: &[TimerEntry],
    doubtful: &[u32],
    known: &ThreadAnswers,
) -> Result<ProcessAnswers> {
    let mut ask = Asker { thread, code };
    let mut answers = ProcessAnswers::default();
    // The default action of SIGCHLD has flags that matter (SA_NOCLDWAIT).
    let asked = status.caught | status.ignored | 1 << (libc::SIGCHLD - 1);
    for signal in (1..=SIGNALS).filter(|s| asked >> (s - 1) & 1 == 1) {
        let args = [u64::from(signal), 0, 0, SIGSET];
        let [handler, flags, restorer, mask] =
            ask.words("rt_sigaction", libc::SYS_rt_sigaction, &args, 2)?;
        if [handler, flags, mask] == [0; 3] {
            continue;
        }
        answers.actions.push(SigAction { signal, handler, flags, restorer, mask });
    }
    let prctl = libc::SYS_prctl;
    if let Some(shared) = known.shared {
        (answers.subreaper, answers.itimers) = (shared.subreaper, shared.itimers);
    } else {
        for which in 0..3u64 {
            answers.itimers[which as usize] =
                itimer(ask.words("getitimer", libc::SYS_getitimer, &[which], 1)?);
        }
        let [subreaper] = ask.words("prctl", prctl, &[libc::PR_GET_CHILD_SUBREAPER as u64], 1)?;
        answers.subreaper = subreaper as u32 != 0;
    }
    for t in timers {
        let id = u64::from(t.id);
        let [every_s, every_ns, left_s, left_ns] =
            ask.words("timer_gettime", libc::SYS_timer_gettime, &[id], 1)?;
        let nanos = |s: u64, ns: u64| s.saturating_mul(1_000_000_000).saturating_add(ns);
        answers.timers.push(PosixTimer {
            id: t.id,
            clock: t.clock,
            notify: t.notify,
            signal: t.signal,
            value: t.value,
            thread: t.target,
            interval_ns: nanos(every_s, every_ns),
            remaining_ns: nanos(left_s, left_ns),
            overrun: ask.value("timer_getoverrun", libc::SYS_timer_getoverrun, &[id])? as u32,
        });
    }
    answers.dumpable = ask.value("prctl", prctl, &[libc::PR_GET_DUMPABLE as u64])? as u32;
    // A kernel that says nothing about it (before 5.0) is asked.
    if status.thp_enabled != Some(true) {
        answers.thp_disable = ask.value("prctl", prctl, &[PR_GET_THP_DISABLE])? != 0;
    }
    answers.barriers = ask.barriers()?;
    for &fd in doubtful {
        let args = [u64::from(fd), libc::F_GETFD as u64];
        if ask.value("fcntl", libc::SYS_fcntl, &args)? & libc::FD_CLOEXEC as u64 == 0 {
            answers.open_at_exec.push(fd);
        }
    }
    answers.brk = ask.value("brk", libc::SYS_brk, &[0])?;
    Ok(answers)
}

/// mlockall(MCL_FUTURE) is shown nowhere: a page is mapped, and the kernel locks it or does not.
/// The result is bit 0 for MCL_FUTURE, bit 1 for MCL_ONFAULT.
pub(super) fn ask_lock_future(
    thread: &mut Thread,
    code: Code,
    proc: &Proc,
    locked: u64,
) -> Result<u8> {
    let mut ask = Asker { thread, code };
    let prot = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
    let args = [0, PAGE_SIZE, prot, flags, u64::MAX, 0];
    let page = match ask.value("mmap", libc::SYS_mmap, &args) {
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
    ask.value("munmap", libc::SYS_munmap, &[page, PAGE_SIZE])?;
    if now? <= locked {
        return Ok(0);
    }
    Ok(if present.unwrap_or(true) { 1 } else { 3 })
}

/// Asks all threads, each what concerns it alone, and the first about the process, in one run of
/// each. `ids` are the threads' ids as they see them themselves. With `slack`, timer slacks known
/// already, each is asked for its securebits instead.
pub(super) fn ask_threads_at_once(
    threads: &mut [Thread],
    code: Code,
    chains: &Chains,
    ids: &[u32],
    slack: &[Option<u64>],
) -> Result<Vec<ThreadAnswers>> {
    let known = slack.iter().all(Option::is_some);
    let mut blank = [0; RESULTS];
    blank[..TID_ADDRESS as usize].fill(UNWRITTEN as u8);
    for thread in threads.iter() {
        let scratch = thread.undo.as_ref().map_or(0, |u| u.scratch);
        mem::write(thread.tid(), scratch, &blank)?;
    }
    let prctl = libc::SYS_prctl;
    let links = |i: usize, s: u64| {
        let mut links = vec![
            Link::new(libc::SYS_sigaltstack, [0, s + ALTSTACK]),
            Link::new(prctl, [PR_GET_TID_ADDRESS, s + TID_ADDRESS]),
            Link::new(prctl, [libc::PR_GET_PDEATHSIG as u64, s + DEATH_SIGNAL]),
        ];
        if chains.keeps() {
            let get = if known { libc::PR_GET_SECUREBITS } else { libc::PR_GET_TIMERSLACK };
            links.push(Link { nr: prctl, args: [get as u64, 0], keep: true });
        }
        if i == 0 {
            links.push(Link::new(prctl, [libc::PR_GET_CHILD_SUBREAPER as u64, s + SUBREAPER]));
            links.extend((0..3).map(|which| {
                Link::new(libc::SYS_getitimer, [which, s + ITIMERS + which * ITIMER])
            }));
        }
        links
    };
    chains.run(threads, code, ids, links, KEPT)?;
    let mut answers = Vec::with_capacity(threads.len());
    for (i, thread) in threads.iter().enumerate() {
        let mut out = [0u8; RESULTS];
        let scratch = thread.undo.as_ref().map_or(0, |u| u.scratch);
        mem::read_into(thread.tid(), scratch, &mut out)?;
        let word =
            |at: u64| out[at as usize..].first_chunk().copied().map_or(0, u64::from_le_bytes);
        if word(ALTSTACK + 16) == UNWRITTEN {
            let reason = "a chain of calls of ours had no effect";
            return Err(CaptureError::NoFooting { tid: thread.tid(), reason });
        }
        answers.push(ThreadAnswers {
            altstack: Some(alternate_stack([word(ALTSTACK), word(ALTSTACK + 8), word(16)])),
            // Still zero from kernels without CONFIG_CHECKPOINT_RESTORE, which do not tell.
            clear_tid: word(TID_ADDRESS),
            parent_death_signal: word(DEATH_SIGNAL) as u32,
            timer_slack: word(KEPT),
            securebits: (known && chains.keeps()).then(|| word(KEPT) as u32),
            shared: (i == 0).then(|| Shared {
                subreaper: word(SUBREAPER) as u32 != 0,
                itimers: [0, 1, 2].map(|which| {
                    itimer([0, 8, 16, 24].map(|at| word(ITIMERS + which * ITIMER + at)))
                }),
            }),
        });
    }
    Ok(answers)
}

/// From the words of a struct sigaltstack.
fn alternate_stack([sp, flags, size]: [u64; 3]) -> AltStack {
    // Being on it is a matter of the stack pointer, not a setting.
    AltStack { sp, flags: flags as u32 & !SS_ONSTACK, size }
}

/// Asks all threads, each what concerns it alone, call by call. `slack` are timer slacks known
/// already.
pub(super) fn ask_threads(
    threads: &mut [Thread],
    code: Code,
    slack: &[Option<u64>],
) -> Result<Vec<ThreadAnswers>> {
    let mut answers = vec![ThreadAnswers::default(); threads.len()];
    let scratch: Vec<u64> =
        threads.iter().map(|t| t.undo.as_ref().map_or(0, |u| u.scratch)).collect();
    let each = |name, nr, args: &dyn Fn(u64) -> Vec<u64>| -> Vec<Option<Call>> {
        scratch.iter().map(|&s| Some(Call::new(name, nr, &args(s)))).collect()
    };
    let alt = each("sigaltstack", libc::SYS_sigaltstack, &|s| vec![0, s]);
    let tid = each("prctl", libc::SYS_prctl, &|s| vec![PR_GET_TID_ADDRESS, s + 32]);
    let death = each("prctl", libc::SYS_prctl, &|s| vec![libc::PR_GET_PDEATHSIG as u64, s + 40]);
    let alt = call_each(threads, code, &alt)?;
    let tid = call_each(threads, code, &tid)?;
    let death = call_each(threads, code, &death)?;
    for (i, thread) in threads.iter().enumerate() {
        checked(thread.tid(), "sigaltstack", alt[i])?;
        checked(thread.tid(), "prctl(PR_GET_PDEATHSIG)", death[i])?;
        let mut out = [0u8; 48];
        mem::read_into(thread.tid(), scratch[i], &mut out)?;
        let word = |at: usize| {
            out.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
        };
        answers[i] = ThreadAnswers {
            altstack: Some(alternate_stack([word(0), word(8), word(16)])),
            // Kernels without CONFIG_CHECKPOINT_RESTORE do not tell.
            clear_tid: match checked(thread.tid(), "prctl(PR_GET_TID_ADDRESS)", tid[i]) {
                Ok(_) => word(32),
                Err(CaptureError::Remote { errno: Errno::EINVAL, .. }) => 0,
                Err(e) => return Err(e),
            },
            parent_death_signal: word(40) as u32,
            timer_slack: slack[i].unwrap_or(0),
            securebits: None,
            shared: None,
        };
    }
    if slack.iter().any(Option::is_none) {
        let calls: Vec<Option<Call>> = slack
            .iter()
            .map(|s| match s {
                Some(_) => None,
                None => {
                    Some(Call::new("prctl", libc::SYS_prctl, &[libc::PR_GET_TIMERSLACK as u64]))
                }
            })
            .collect();
        let results = call_each(threads, code, &calls)?;
        for i in (0..threads.len()).filter(|&i| slack[i].is_none()) {
            answers[i].timer_slack = checked(threads[i].tid(), "prctl", results[i])?;
        }
    }
    Ok(answers)
}

/// Asks the threads for their securebits: the leader, and with `all` every other one too. The
/// others have the leader's otherwise.
pub(super) fn ask_securebits(
    threads: &mut [Thread],
    code: Code,
    answers: &mut [ThreadAnswers],
    all: bool,
) -> Result<()> {
    let get = Call::new("prctl", libc::SYS_prctl, &[libc::PR_GET_SECUREBITS as u64]);
    let ask = |threads: &mut [Thread], answers: &mut [ThreadAnswers]| -> Result<()> {
        let calls = vec![Some(get); threads.len()];
        let results = call_each(threads, code, &calls)?;
        for ((thread, answer), result) in threads.iter().zip(answers).zip(results) {
            answer.securebits = Some(checked(thread.tid(), "prctl", result)? as u32);
        }
        Ok(())
    };
    if answers.iter().any(|a| a.securebits.is_none()) {
        ask(&mut threads[..1], &mut answers[..1])?;
        let bits = answers[0].securebits;
        if all || bits != Some(0) {
            ask(&mut threads[1..], &mut answers[1..])?;
        }
        for answer in answers.iter_mut() {
            answer.securebits = answer.securebits.or(bits);
        }
    }
    Ok(())
}
