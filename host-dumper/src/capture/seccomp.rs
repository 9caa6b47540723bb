//! seccomp: a thread's filters read, and kept off the calls that are made inside the process.
//!
//! Both take CAP_SYS_ADMIN where the machine began, and a reader that is under no filter itself
//! (kernel/seccomp.c: seccomp_get_filter, kernel/ptrace.c: check_ptrace_options).

use super::error::{CaptureError, Refusal, Result};
use super::proc::status::Status;
use super::proc::Proc;
use super::survey::ThreadStatus;
use super::thread::Thread;
use image_format::model::SeccompFilter;
use nix::errno::Errno;

const CAP_SYS_ADMIN: u32 = 21;
const MODE_FILTER: u32 = 2;

/// What holds for one thread.
#[derive(Debug, Clone, Default)]
pub(super) struct Sandbox {
    /// Mode as in /proc/PID/status; 0 where the filters are the container's.
    pub mode: u32,
    /// The oldest first.
    pub filters: Vec<SeccompFilter>,
}

fn status_of(pid: u32) -> Option<Status> {
    Proc::open(pid).ok()?.status().ok()
}

/// Whether the thread's filters are those of the container in which this program runs as well: as
/// many as its first process has, and none of its own on top. Filters are inherited, and none is
/// ever taken away.
pub(super) fn is_the_containers(status: &Status) -> bool {
    let same = |pid: u32| {
        status_of(pid).is_some_and(|s| {
            (s.seccomp, s.seccomp_filters) == (status.seccomp, status.seccomp_filters)
        })
    };
    status.seccomp == MODE_FILTER && same(std::process::id()) && same(1)
}

fn lacks_right(tid: u32, name: &[u8]) -> Refusal {
    Refusal::new(
        format!("thread {tid} ({})", String::from_utf8_lossy(name)),
        "is under seccomp: its filters may not be read, and would end it for our calls",
        "run dumper as root, outside of any container or sandbox",
    )
}

/// What can be told before the stop.
pub(super) fn refusals(threads: &[ThreadStatus], all: &mut Vec<Refusal>) {
    if threads.iter().all(|(_, status)| status.seccomp == 0) {
        return;
    }
    let able = |own: &Status| own.seccomp == 0 && own.capabilities[2] >> CAP_SYS_ADMIN & 1 == 1;
    let able = status_of(std::process::id()).is_some_and(|own| able(&own));
    let under = |s: &Status| s.seccomp != 0 && !able && !is_the_containers(s);
    all.extend(threads.iter().filter(|(_, s)| under(s)).map(|(tid, s)| lacks_right(*tid, &s.name)));
}

/// Reads the filters of stopped threads, and suspends seccomp until they are let go.
pub(super) fn read(
    threads: &[Thread],
    statuses: &[ThreadStatus],
    refusals: &mut Vec<Refusal>,
) -> Result<Vec<Sandbox>> {
    let mut all = Vec::with_capacity(threads.len());
    for (thread, (tid, status)) in threads.iter().zip(statuses) {
        let mut sandbox = Sandbox::default();
        if status.seccomp != 0 && !is_the_containers(status) {
            sandbox = match read_one(thread, status)? {
                Ok(sandbox) => sandbox,
                Err(Errno::EPERM | Errno::EACCES) => {
                    refusals.push(lacks_right(*tid, &status.name));
                    Sandbox::default()
                }
                Err(errno) => {
                    return Err(CaptureError::Ptrace { request: "seccomp", tid: *tid, errno })
                }
            };
            let filters: Vec<&SeccompFilter> = sandbox.filters.iter().collect();
            if let Some(obstacle) = linker::seccomp_obstacle(&filters) {
                refusals.push(Refusal::new(
                    format!("thread {tid} ({})", String::from_utf8_lossy(&status.name)),
                    obstacle.to_string(),
                    "run the program without its sandbox",
                ));
            }
        }
        all.push(sandbox);
    }
    Ok(all)
}

fn read_one(thread: &Thread, status: &Status) -> Result<nix::Result<Sandbox>> {
    let stopped = thread.stopped()?;
    let read = || {
        stopped.suspend_seccomp()?;
        let mut filters = Vec::new();
        if status.seccomp == MODE_FILTER {
            while let Some(filter) = stopped.seccomp_filter(filters.len())? {
                filters.push(filter);
            }
        }
        Ok(Sandbox { mode: status.seccomp, filters })
    };
    Ok(read())
}

/// What the user may like to know.
pub(super) fn note(tid: u32, sandbox: &Sandbox, status: &Status) -> Option<String> {
    (status.seccomp != 0 && sandbox.mode == 0)
        .then(|| format!("thread {tid}: the container's seccomp filter is not carried"))
}

/// What will be different.
pub(super) fn loss(tid: u32, sandbox: &Sandbox, status: &Status) -> Option<String> {
    let may = status.no_new_privs || status.capabilities[2] >> CAP_SYS_ADMIN & 1 == 1;
    (sandbox.mode == MODE_FILTER && !may).then(|| {
        format!("thread {tid}: a resume sets no_new_privs, without which its filter needs root")
    })
}

/// Number of each filter in the list of all, to which it is added where it is not there yet.
pub(super) fn number(all: &mut Vec<SeccompFilter>, filters: Vec<SeccompFilter>) -> Vec<u32> {
    let each = filters.into_iter().map(|filter| {
        let known = all.iter().position(|f| *f == filter);
        known.unwrap_or_else(|| {
            all.push(filter);
            all.len() - 1
        }) as u32
    });
    each.collect()
}
