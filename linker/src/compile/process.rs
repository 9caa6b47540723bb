//! Handlers, limits, attributes, timers, pending signals: what belongs to the whole process.

use super::arch::nr;
use super::builder::Arg;
use super::ProcessCompiler;
use crate::LinkError;
use image_format::control::offset;
use image_format::model::SigInfo;
use image_format::plan::{arg, op, when, Expect, TimerPlan};

const FUTEX_WAKE_OP: u64 = 5;
/// futex(2), FUTEX_WAKE_OP: FUTEX_OP_ADD with operand 1; the comparison only decides who is woken.
const FUTEX_ADD_ONE: u64 = 1 << 28 | 1 << 12;
const RANDOM_LEN: u64 = 16;
pub(super) const PR_SET_CHILD_SUBREAPER: u64 = 36;
const PR_SET_THP_DISABLE: u64 = 41;
/// Size of the kernel's sigset_t in bytes.
const SIGSET: u64 = 8;
const ITIMERS: [&str; 3] = ["ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"];
const LIMITS: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

/// A resource limit, soft and hard, for whoever reads that it could not be set.
fn limit_in_words(number: usize, [soft, hard]: [u64; 2]) -> String {
    let name = LIMITS.get(number).copied().unwrap_or("?");
    let [soft, hard] = [soft, hard].map(|value| match value {
        u64::MAX => String::from("unlimited"),
        value => value.to_string(),
    });
    format!("limit {name} of {soft}, at most {hard} (`prlimit --{name}` raises it, as root)")
}

impl ProcessCompiler<'_> {
    pub(super) fn actions(&mut self) {
        let process = self.process;
        for action in &process.actions {
            let words = [action.handler, action.flags, action.restorer, action.mask];
            let at = self.b.words(&words);
            let what = format!("handler of signal {}", action.signal);
            let args = [
                Arg::value(u64::from(action.signal)),
                Arg::data(at),
                Arg::value(0),
                Arg::value(SIGSET),
            ];
            self.b.call(&what, nr::RT_SIGACTION, &args, Expect::Success);
        }
    }

    pub(super) fn attributes(&mut self) {
        let process = self.process;
        if process.personality != 0 {
            let value = u64::from(process.personality);
            self.note("personality", nr::PERSONALITY, [value, 0, 0, 0, 0, 0]);
        }
        if process.subreaper {
            self.must("child subreaper", nr::PRCTL, [PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0, 0]);
        }
        if process.thp_disable {
            self.must("transparent huge pages", nr::PRCTL, [PR_SET_THP_DISABLE, 1, 0, 0, 0, 0]);
        }
        for bit in (0..u32::BITS).map(|i| 1 << i).filter(|bit| process.barriers & bit != 0) {
            self.note("memory barriers", nr::MEMBARRIER, [u64::from(bit), 0, 0, 0, 0, 0]);
        }
        for (i, limit) in process.limits.iter().enumerate() {
            let at = self.b.words(limit);
            let what = limit_in_words(i, *limit);
            let args = [Arg::value(0), Arg::value(i as u64), Arg::data(at), Arg::value(0)];
            self.b.call(&what, nr::PRLIMIT64, &args, Expect::Note);
        }
        for (path, value, default) in [
            ("/proc/self/oom_score_adj", i64::from(process.oom_score_adj), 0),
            ("/proc/self/coredump_filter", i64::from(process.coredump_filter), 0x33),
        ] {
            if value != default {
                let text = self.b.path(path.as_bytes());
                let contents = value.to_string();
                let at = self.b.data(contents.as_bytes());
                self.b.step(
                    op::PROC_WRITE,
                    path,
                    0,
                    &[
                        Arg::data(text),
                        Arg::value(u64::from(at)),
                        Arg::value(contents.len() as u64),
                    ],
                    Expect::Note,
                );
            }
        }
        self.b.only_when(when::CLOCK_JUMP, |b| {
            let text = b.text(
                "CLOCK_MONOTONIC jumps to this machine's, as no time namespace could be had: root gets \
                 one, and so does a user without --new-pid, where user namespaces are permitted",
            );
            b.verb(op::NOTE, "clocks", [u64::from(text), 0, 0, 0, 0, 0]);
        });
        for lost in &process.lost {
            let text = self.b.text(&lost.text());
            self.b.verb(op::NOTE, "state", [u64::from(text), 0, 0, 0, 0, 0]);
        }
    }

    /// Tells programs that were asked that they are resumed: the words of their control blocks
    /// that belong to the plan. Adding to a word in memory is what FUTEX_WAKE_OP does.
    pub(super) fn control_blocks(&mut self) {
        for control in &self.process.control {
            let at = control.address;
            let random = [at + offset::RANDOM, RANDOM_LEN, 0, 0, 0, 0];
            self.must("random bits of the control block", nr::GETRANDOM, random);
            let mut add_one = |what: &str, word: u64| {
                let args = [word, FUTEX_WAKE_OP, 1, 1, word, FUTEX_ADD_ONE];
                self.must(what, nr::FUTEX, args);
            };
            add_one("resumes of the control block", at + offset::RESUMES);
            if control.asked {
                add_one("outcome in the control block", at + offset::OUTCOME);
            }
        }
    }

    pub(super) fn timers(&mut self) {
        let process = self.process;
        // Before Linux 6.15 a process cannot choose the id of a timer: the kernel counts up, so
        // that a lower id never comes again. /proc lists the newest first there.
        let mut timers: Vec<_> = process.timers.iter().collect();
        timers.sort_by_key(|timer| timer.id);
        for timer in timers {
            let at = self.b.record(TimerPlan {
                id: timer.id,
                clock: timer.clock,
                notify: timer.notify,
                signal: timer.signal,
                value: timer.value,
                thread: timer.thread,
                reserved: 0,
                interval_ns: timer.interval_ns,
                // As with the interval timers: expired, its signal still pending.
                remaining_ns: match timer.remaining_ns {
                    0 => timer.interval_ns,
                    left => left,
                },
                reserved2: [0; 2],
            });
            let what = format!("timer {}", timer.id);
            self.b.verb(op::TIMER, &what, [u64::from(at), 0, 0, 0, 0, 0]);
        }
        for (which, [interval, remaining]) in process.itimers.iter().enumerate() {
            if *remaining == 0 && *interval == 0 {
                continue;
            }
            // An interval without time left: it has expired and its signal is not yet delivered,
            // upon which the kernel would start it again (setitimer(2) clears the interval of a
            // timer that is disarmed).
            let remaining = if *remaining == 0 { interval } else { remaining };
            let split = |us: u64| [us / 1_000_000, us % 1_000_000];
            let at = self.b.words(&[split(*interval), split(*remaining)].concat());
            let args = [Arg::value(which as u64), Arg::data(at), Arg::value(0)];
            let what = ITIMERS.get(which).copied().unwrap_or("interval timer");
            self.b.call(what, nr::SETITIMER, &args, Expect::Success);
        }
    }

    pub(super) fn pending(&mut self) -> Result<(), LinkError> {
        let process = self.process;
        for info in &process.pending {
            let signal = signal_of(info, process.pid)?;
            let at = self.b.data(&info.raw.0);
            let args = [Arg::kind(arg::PID), Arg::value(signal), Arg::data(at)];
            let what = format!("pending signal {signal}");
            self.b.call(&what, nr::RT_SIGQUEUEINFO, &args, Expect::Success);
        }
        Ok(())
    }
}

/// Number of a queued signal: the first word of siginfo_t.
pub(super) fn signal_of(info: &SigInfo, pid: u32) -> Result<u64, LinkError> {
    info.raw
        .0
        .first_chunk::<4>()
        .filter(|_| info.raw.0.len() == 128)
        .map(|b| u64::from(u32::from_le_bytes(*b)))
        .ok_or(LinkError::Model { pid, what: "a queued signal" })
}
