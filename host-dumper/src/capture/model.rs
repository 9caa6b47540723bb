//! From what was found to the model's process.

use super::error::{CaptureError, Result};
use super::files::{shared, Files};
use super::hugetlb;
use super::inside::ThreadAnswers;
use super::member::Examined;
use super::memory;
use super::outside::Outside;
use super::particulars::{inward, Particulars};
use super::proc::maps::Area;
use super::proc::status::Status;
use super::proc::{cgroup, Proc};
use super::programs::Programs;
use super::seccomp::{self, Sandbox};
use super::segments::Segments;
use super::stub::Stub;
use super::survey::Survey;
use super::syscalls::Verdict;
use super::sysv::Found;
use super::vdso;
use image_format::model::{
    AltStack, Credentials, Descriptor, Memory, Process, Reissue, SeccompFilter, Thread, Tree,
    Zombie,
};

/// Everything about one thread.
#[derive(Debug)]
pub(super) struct ThreadParts {
    /// Id as the process sees it.
    pub tid: u32,
    /// Id as this program sees it.
    pub outer_tid: u32,
    pub verdict: Verdict,
    pub xsave: Vec<u8>,
    pub sigmask: u64,
    pub outside: Outside,
    pub answers: ThreadAnswers,
    pub status: Status,
    pub sandbox: Sandbox,
}

/// SS_DISABLE.
const SS_DISABLE: u32 = 2;

fn thread(
    parts: ThreadParts,
    credentials: Option<Credentials>,
    filters: &mut Vec<SeccompFilter>,
) -> Thread {
    let ThreadParts { tid, verdict, xsave, sigmask, outside, answers, status, sandbox, .. } = parts;
    let reissue: Option<Reissue> = verdict.reissue;
    Thread {
        tid,
        name: status.name.into(),
        regs: verdict.regs,
        xsave: xsave.into(),
        reissue,
        sigmask,
        altstack: answers.altstack.unwrap_or(AltStack { sp: 0, flags: SS_DISABLE, size: 0 }),
        pending: outside.pending,
        robust_list: outside.robust_list,
        clear_tid: answers.clear_tid,
        rseq: outside.rseq,
        sched: outside.sched,
        seccomp: sandbox.mode,
        filters: seccomp::number(filters, sandbox.filters),
        credentials,
        parent_death_signal: answers.parent_death_signal,
        timer_slack_ns: answers.timer_slack,
        ioprio: outside.ioprio,
        cgroups: Vec::new(),
    }
}

/// Credentials of each thread.
fn credentials(particulars: &Particulars, threads: &[ThreadParts]) -> Vec<Credentials> {
    let Particulars { users, groups, .. } = particulars;
    let each = threads.iter().map(|ThreadParts { status, answers, .. }| Credentials {
        uids: status.uids.map(|id| inward(users, id)),
        gids: status.gids.map(|id| inward(groups, id)),
        groups: status.groups.iter().map(|&id| inward(groups, id)).collect(),
        capabilities: status.capabilities,
        securebits: answers.securebits,
        no_new_privs: status.no_new_privs,
    });
    each.collect()
}

/// Everything about a process.
pub(super) struct Parts<'a> {
    pub proc: &'a Proc,
    pub survey: &'a Survey,
    pub particulars: Particulars,
    pub stub: Option<&'a Stub>,
    /// Index of its parent.
    pub parent: Option<u32>,
    pub examined: Examined,
    pub descriptors: Vec<Descriptor>,
    /// Files up to this size travel along.
    pub embed_limit: u64,
    /// What the tree has attached.
    pub segments: &'a Segments,
    /// `--sysv-ipc`.
    pub sysv_ipc: bool,
}

/// Puts a process together.
pub(super) fn process(
    parts: Parts<'_>,
    files: &mut Files,
    filters: &mut Vec<SeccompFilter>,
    programs: &mut Programs,
) -> Result<Process> {
    let Parts { proc, survey, particulars, stub, parent, examined, descriptors, .. } = parts;
    let Examined { threads, mut answers, pending, stopped, lock_future } = examined;
    let (status, stat) = (&survey.status, &survey.stat);
    let inner = |ids: &[u32]| ids.last().copied().unwrap_or(0);
    for timer in &mut answers.timers {
        let named = threads.iter().find(|t| t.outer_tid == timer.thread);
        timer.thread = named.map_or(timer.thread, |t| t.tid);
    }
    let all = credentials(&particulars, &threads);
    let leader = all.first().cloned().ok_or_else(|| proc.format("task", "no thread"))?;
    let others: Vec<_> = all.into_iter().map(|c| (c != leader).then_some(c)).collect();
    let exe = programs.path(proc, inner(&status.ns_pid))?;
    let sharing = shared::Sharing {
        proc,
        embed_limit: parts.embed_limit,
        segments: parts.segments,
        sysv_ipc: parts.sysv_ipc,
    };
    let known = sharing.mappings(&survey.table, files)?;
    let cgroups = cgroup::parse(&particulars.cgroups);
    let ours = |a: &Area| stub.is_some_and(|s| s.owns(a));
    let shared = |a: &Area| shared::index_of(&known, a);
    let mut mappings = memory::mappings(&survey.table, ours, shared);
    mappings.extend(stub.and_then(|s| s.kept(status.caught)));
    mappings.sort_by_key(|m| m.start);
    hugetlb::embed(proc, &mut mappings, &mut files.embeds)?;
    Ok(Process {
        pid: inner(&status.ns_tgid),
        parent,
        pgid: inner(&status.ns_pgid),
        sid: inner(&status.ns_sid),
        exit_signal: stat.exit_signal,
        locks_held: threads.iter().any(|t| t.outside.locks_held),
        memory: Memory {
            mappings,
            guards: Vec::new(),
            layout: memory::layout(stat, answers.brk),
            auxv: particulars.auxv,
            vdso: vdso::read(proc.pid(), &survey.table, stub)?,
            exe: exe.into(),
            lock_future,
        },
        threads: threads
            .into_iter()
            .zip(others)
            .map(|(parts, other)| {
                let name = format!("task/{}/cgroup", parts.outer_tid);
                let own = (parts.outer_tid != proc.pid()).then(|| proc.read_optional(&name));
                let apart = own.flatten().map_or(vec![], |text| cgroup::apart(&cgroups, &text));
                Thread { cgroups: apart, ..thread(parts, other, filters) }
            })
            .collect(),
        descriptors,
        credentials: leader,
        cwd: particulars.cwd.into(),
        root: particulars.root.into(),
        umask: status.umask,
        limits: particulars.limits,
        personality: particulars.personality,
        dumpable: answers.dumpable,
        subreaper: answers.subreaper,
        barriers: answers.barriers,
        cgroups,
        cgroup_list: particulars.cgroups.into(),
        thp_disable: answers.thp_disable,
        oom_score_adj: particulars.oom_score_adj,
        coredump_filter: particulars.coredump_filter,
        actions: answers.actions,
        pending,
        stopped,
        // The status that waitpid(2) would give, taken away when it was given (wait_task_stopped in
        // kernel/exit.c).
        stop_told: stopped != 0 && stat.exit_code == 0,
        itimers: answers.itimers,
        timers: answers.timers,
        control: Vec::new(),
        lost: answers.keyrings.into_iter().map(|k| k.as_str().into()).collect(),
    })
}

/// The tree.
pub(super) fn tree(
    source: image_format::model::Source,
    processes: Vec<Process>,
    zombies: Vec<Zombie>,
    files: Files,
    found: Found,
    filters: Vec<SeccompFilter>,
) -> Tree {
    Tree {
        source,
        processes,
        zombies,
        files: files.open,
        pipes: files.pipes,
        terminals: files.terminals,
        shared: files.shared,
        sockets: files.sockets,
        semaphores: found.semaphores,
        queues: found.queues,
        filters,
    }
}

impl From<Vec<super::Refusal>> for CaptureError {
    fn from(refusals: Vec<super::Refusal>) -> Self {
        Self::Refused(refusals)
    }
}
