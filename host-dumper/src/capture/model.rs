//! From what was found to the model's process.

use super::error::{CaptureError, Result};
use super::files::{shared, Files};
use super::hugetlb;
use super::ids::IdMaps;
use super::inside::ThreadAnswers;
use super::member::Examined;
use super::memory;
use super::outside::Outside;
use super::proc::maps::Area;
use super::proc::status::Status;
use super::proc::{cgroup, limits, number, Proc};
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
fn credentials(ids: &IdMaps, threads: &[ThreadParts]) -> Vec<Credentials> {
    let each = threads.iter().map(|ThreadParts { status, answers, .. }| Credentials {
        uids: status.uids.map(|id| ids.user(id)),
        gids: status.gids.map(|id| ids.group(id)),
        groups: status.groups.iter().map(|&id| ids.group(id)).collect(),
        capabilities: status.capabilities,
        securebits: answers.securebits,
        no_new_privs: status.no_new_privs,
    });
    each.collect()
}

fn auxv(proc: &Proc) -> Result<Vec<u64>> {
    let bytes = proc.read_record("auxv")?;
    Ok(bytes.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes)).collect())
}

fn hex_file(proc: &Proc, name: &str) -> Option<u32> {
    let text = proc.read_optional_record(name)?;
    number::hex(text.trim_ascii()).map(|n| n as u32)
}

/// Everything about a process.
pub(super) struct Parts<'a> {
    pub proc: &'a Proc,
    pub survey: &'a Survey,
    pub stub: Option<&'a Stub>,
    /// Index of its parent.
    pub parent: Option<u32>,
    pub examined: Examined,
    pub descriptors: Vec<Descriptor>,
    /// Files up to this size travel along.
    pub embed_limit: u64,
    /// The same for all processes, as none has a user namespace of its own.
    pub ids: &'a IdMaps,
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
    let Parts { proc, survey, stub, parent, examined, descriptors, .. } = parts;
    let Examined { threads, mut answers, pending, stopped, lock_future } = examined;
    let (status, stat) = (&survey.status, &survey.stat);
    let [cwd, root] = survey.directories.clone();
    let inner = |ids: &[u32]| ids.last().copied().unwrap_or(0);
    let limits = limits::parse(&proc.read_record("limits")?)
        .ok_or_else(|| proc.format("limits", "a limit is missing"))?;
    let oom = proc.read_record("oom_score_adj")?;
    for timer in &mut answers.timers {
        let named = threads.iter().find(|t| t.outer_tid == timer.thread);
        timer.thread = named.map_or(timer.thread, |t| t.tid);
    }
    let all = credentials(parts.ids, &threads);
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
    // A kernel may have no control groups.
    let cgroup_list = proc.read_optional_record("cgroup").unwrap_or_default();
    let cgroups = cgroup::parse(&cgroup_list);
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
            auxv: auxv(proc)?,
            vdso: vdso::read(proc.pid(), &survey.table, stub)?,
            exe: exe.into(),
            lock_future,
        },
        threads: threads
            .into_iter()
            .zip(others)
            .map(|(parts, other)| {
                let name = format!("task/{}/cgroup", parts.outer_tid);
                let own = (parts.outer_tid != proc.pid()).then(|| proc.read_optional_record(&name));
                let apart = own.flatten().map_or(vec![], |text| cgroup::apart(&cgroups, &text));
                Thread { cgroups: apart, ..thread(parts, other, filters) }
            })
            .collect(),
        descriptors,
        credentials: leader,
        cwd: cwd.into(),
        root: root.into(),
        umask: status.umask,
        limits,
        personality: hex_file(proc, "personality").unwrap_or(0),
        dumpable: answers.dumpable,
        subreaper: answers.subreaper,
        barriers: answers.barriers,
        cgroups,
        cgroup_list: cgroup_list.into(),
        thp_disable: answers.thp_disable,
        oom_score_adj: number::signed(oom.trim_ascii()).unwrap_or(0) as i32,
        coredump_filter: hex_file(proc, "coredump_filter").unwrap_or(0x33),
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

/// The process's directories, checked: it must be possible to come back to them.
pub(super) fn directories(survey: &Survey) -> Vec<super::Refusal> {
    let mut all = Vec::new();
    for (link, what) in survey.directories.iter().zip(["working directory", "root directory"]) {
        if link.ends_with(b" (deleted)") {
            all.push(super::Refusal::new(
                format!("{what} ({})", String::from_utf8_lossy(link)),
                "was removed",
                "let the program change to another directory",
            ));
        }
    }
    all
}

impl From<Vec<super::Refusal>> for CaptureError {
    fn from(refusals: Vec<super::Refusal>) -> Self {
        Self::Refused(refusals)
    }
}
