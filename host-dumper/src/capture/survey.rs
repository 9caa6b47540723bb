//! What is visible of a process from outside, running or stopped, and what stands in the way.

use super::error::{CaptureError, Refusal, Result};
use super::files::{self, Condition, Descriptor};
use super::memory::{self, Table};
use super::proc::stat::Stat;
use super::proc::status::{self, Status};
use super::proc::Proc;
use super::seccomp;
use super::target::{Seen, Target};
use super::Options;

/// A process as seen from outside.
#[derive(Debug)]
pub(super) struct Survey {
    pub status: Status,
    pub stat: Stat,
    pub table: Table,
    pub descriptors: Vec<Descriptor>,
    /// Working directory and root, where the links lead; read with the refusals.
    pub directories: [Vec<u8>; 2],
}

impl Survey {
    /// Reads where the directories are.
    pub fn look_at_directories(&mut self, proc: &Proc) -> Result<()> {
        self.directories = [proc.link("cwd")?, proc.link("root")?];
        Ok(())
    }
}

/// The first look at a process, which runs. The descriptors are left for later.
pub(super) fn begin(target: &Target, seen: Option<Seen>) -> Result<Survey> {
    let proc = &target.proc;
    let Seen { status, stat } = match seen {
        Some(seen) => seen,
        None => Seen { status: proc.status()?, stat: proc.stat()? },
    };
    let table = memory::read_details(proc)?;
    Ok(Survey { status, stat, table, descriptors: Vec::new(), directories: Default::default() })
}

/// Looks again at a process. `table` is an earlier one that may still hold.
pub(super) fn look(target: &Target, table: Table, condition: Condition<'_>) -> Result<Survey> {
    let proc = &target.proc;
    let table = memory::settle(proc, table)?;
    let descriptors = files::scan(proc, usize::MAX, condition)?;
    let (status, stat) = (proc.status()?, proc.stat()?);
    Ok(Survey { status, stat, table, descriptors, directories: Default::default() })
}

/// Status of one thread, by its id.
pub(super) type ThreadStatus = (u32, Status);

/// Status of the threads `tids`; the leader's is in the survey already. A thread that has ended
/// is passed over.
pub(super) fn threads(target: &Target, survey: &Survey, tids: &[u32]) -> Result<Vec<ThreadStatus>> {
    let mut all = Vec::with_capacity(tids.len());
    for &tid in tids {
        if tid == target.proc.pid() {
            all.push((tid, survey.status.clone()));
            continue;
        }
        let name = format!("task/{tid}/status");
        match target.proc.read_record(&name) {
            Ok(text) => {
                let status = status::parse(&text)
                    .ok_or_else(|| target.proc.format(&name, "a field is missing"))?;
                all.push((tid, status));
            }
            Err(CaptureError::Died { .. } | CaptureError::Proc { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(all)
}

/// Everything that stands in the way, of what can change while the process runs, as far as these
/// threads are concerned.
pub(super) fn refusals(
    target: &Target,
    survey: &Survey,
    threads: &[ThreadStatus],
    options: &Options,
) -> Vec<Refusal> {
    let mut all = memory::refusals(&survey.table);
    all.extend(files::refusals(&survey.descriptors, options));
    seccomp::refusals(threads, &mut all);
    thread_refusals(target.proc.pid(), threads, &mut all);
    all
}

fn thread_refusals(pid: u32, threads: &[ThreadStatus], all: &mut Vec<Refusal>) {
    for (tid, status) in threads {
        let object = || format!("thread {tid} ({})", String::from_utf8_lossy(&status.name));
        if status.shadow_stack {
            all.push(Refusal::new(
                object(),
                "uses a shadow stack, which cannot be carried",
                "start the program with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off",
            ));
        }
        if matches!(status.state, b'Z' | b'X') && *tid == pid {
            all.push(Refusal::new(
                object(),
                "the first thread has ended while others go on",
                "this cannot be carried",
            ));
        }
    }
}

/// What a resume cannot bring back and nobody needs to be stopped for, of one process of `processes`.
pub(super) fn notes(survey: &Survey, processes: usize) -> Vec<String> {
    let mut notes = Vec::new();
    for d in &survey.descriptors {
        if let files::Kind::Outside { stdio } = &d.kind {
            notes.push(format!(
                "{} leads outside: it becomes the resuming command's descriptor {stdio}",
                d.name_among(processes)
            ));
        }
    }
    notes
}

/// Connections that a dump breaks, of one process of `processes`.
pub(super) fn losses(survey: &Survey, processes: usize) -> Vec<String> {
    let mut losses = Vec::new();
    for d in &survey.descriptors {
        let (what, fate) = match &d.kind {
            files::Kind::SocketReset { peer } => {
                (format!("is connected with {peer}"), "the connection was reset")
            }
            files::Kind::SocketBegun => ("is making a connection".into(), "it was refused"),
            files::Kind::SocketOutside { peer } => {
                (format!("is connected with {peer}"), "its other end was closed or changed")
            }
            files::Kind::PipeOutside { holder } => {
                (format!("is a pipe whose other end {holder}"), "that was closed")
            }
            _ => continue,
        };
        let name = d.name_among(processes);
        losses.push(format!("{name} {what}: a resumed program sees that {fate}"));
    }
    losses
}
