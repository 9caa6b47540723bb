//! The tracer process: the order of a dump.
//!
//! Everything before the commit can be undone by letting go; the process is ended only after
//! it. docs/guarantees.md walks through every point at which something may die.

use super::compose::Composer;
use super::meter::{estimate, Meter};
use super::wire::{tell, Message, Summary};
use crate::abort;
use crate::capture::{self, CaptureError, Captured, Refusal, Session, TableName};
use crate::cli::{DumpArgs, OnChanged};
use crate::consent::{self, ConsentError, Round};
use crate::failure::{status, Failure, Reason};
use crate::pages::{Buffer, PageError, Part};
use crate::sink::{Sink, SinkError};
use linker::PlanOptions;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Bytes from which several threads are faster than one: they write to one file, which the kernel
/// locks for each, and each has buffers to fill with memory first.
const WORTH_THREADS: u64 = 4 << 20;

/// How often a tree is stopped anew that could not be read; the waits between grow by a
/// millisecond each.
const TRIES: u64 = 12;

/// Why a dump failed.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// Stopping or reading the process.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// A program was asked, and this is what came of it.
    #[error(transparent)]
    Consent(#[from] ConsentError),
    /// Reading pages, composing.
    #[error(transparent)]
    Pages(#[from] PageError),
    /// The output.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// Called off.
    #[error("interrupted")]
    Aborted,
}

impl DumpError {
    /// As it is told.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Capture(error) => capture_failure(error),
            Self::Consent(error) => error.failure(),
            Self::Sink(error) | Self::Pages(PageError::Sink(error)) => error.failure(),
            Self::Pages(error) => Failure::new(status::FAILED, error.to_string(), error.advice()),
            Self::Aborted => Failure::new(status::FAILED, self.to_string(), ""),
        }
    }
}

/// Everything that stands in the way, as it is told; also for `check`.
pub fn refusal(refusals: &[Refusal]) -> Failure {
    Failure {
        status: status::REFUSED,
        message: match refusals.len() {
            1 => String::from("the process cannot be dumped, for one reason:"),
            n => format!("the process cannot be dumped, for {n} reasons:"),
        },
        advice: String::new(),
        reasons: refusals
            .iter()
            .map(|refusal| Reason {
                object: refusal.object.clone(),
                reason: refusal.reason.clone(),
                remedy: refusal.remedy.clone(),
            })
            .collect(),
    }
}

/// A capture's error as it is told; also for `check`.
pub fn capture_failure(error: &CaptureError) -> Failure {
    match error {
        CaptureError::Refused(refusals) => refusal(refusals),
        CaptureError::Target { pid, reason, remedy } => {
            Failure::new(status::NO_ACCESS, format!("process {pid}: {reason}"), remedy.clone())
        }
        // Both say all that there is to say.
        CaptureError::Died { .. } | CaptureError::NotStopping { .. } => {
            Failure::new(status::FAILED, error.to_string(), "")
        }
        CaptureError::Proc { source, .. } | CaptureError::File { source, .. }
            if source.raw_os_error() == Some(libc::EMFILE) =>
        {
            let advice = "the process runs on; raise the limit of open files (ulimit -n)";
            Failure::new(status::FAILED, error.to_string(), advice)
        }
        other => {
            let advice = "the process runs on; try again, and report this if it comes again";
            Failure::new(status::FAILED, other.to_string(), advice)
        }
    }
}

/// Makes the dump; `start` is when the command began, `table` the one that holds packets back.
/// Whoever was asked is told what came of it.
pub fn run(
    args: &DumpArgs,
    sink: &dyn Sink,
    control: BorrowedFd<'_>,
    start: Instant,
    table: Option<TableName>,
) -> Result<Summary, DumpError> {
    if let Ok(control) = control.try_clone_to_owned() {
        consent::limit(args.consent_timeout, move |error| {
            let _ = tell(control.as_fd(), &Message::Failed(error.failure()));
            // SAFETY: ends this process without its exit handlers: a thread of it is in the middle of a call.
            unsafe { libc::_exit(0) }
        });
    }
    let mut round = Round::new(args.consent.into(), args.consent_timeout, !kills(args, sink));
    let outcome = run_round(args, sink, control, (start, table), &mut round);
    match &outcome {
        Ok(_) => round.over(),
        Err(error) => round.cancelled(&error.failure().line()),
    }
    outcome
}

/// Whether the process is ended once its image is complete.
fn kills(args: &DumpArgs, sink: &dyn Sink) -> bool {
    !args.leave_running && (sink.durable() || args.kill)
}

fn run_round(
    args: &DumpArgs,
    sink: &dyn Sink,
    control: BorrowedFd<'_>,
    (start, table): (Instant, Option<TableName>),
    round: &mut Round,
) -> Result<Summary, DumpError> {
    let step = |text: String| {
        if args.verbose {
            let _ = tell(control, &Message::Step(text));
        }
    };
    let options = capture_options(args, table);
    let kill = kills(args, sink);

    let buffer = Buffer::ready();
    let (mut session, mut captured) = stop_and_read(args.pid, &options, round, &step)?;
    round.enter(&session, &mut captured);
    if !kill {
        session.let_packets_through();
    }
    let frozen = session.stopped_at();
    let pids = session.pids();
    let mut composer = Composer::begin(sink, &captured, buffer)?;
    composer.look(&mut captured, &pids, !kill)?;
    let total = estimate(&captured).saturating_sub(composer.spared());
    // Zero pages are not stored, so that only a gross lack is known beforehand.
    sink.expect(total / 2)?;
    if !sink.durable() {
        let _ = abort::start_ticking();
    }
    step(format!("copying about {} of memory", crate::words::size(total)));
    let meter = Meter::new(control, total);
    let workers = workers(args, total);
    let mut warnings = std::mem::take(&mut captured.losses);
    warnings.extend(composer.pages(&captured, &pids, workers, Part::Stopped, &meter)?);
    composer.files(&captured, &meter)?;

    let mut session = Some(session);
    let mut frozen_us = 0;
    if !kill {
        // What follows needs the process no more.
        if let Some(session) = session.take() {
            round.continued();
            session.release()?;
        }
        frozen_us = micros(frozen);
        step(String::from("the process runs on"));
        warnings.extend(composer.pages(&captured, &pids, workers, Part::Clean, &meter)?);
    }
    step(String::from("writing model and plan"));
    let bytes = composer.end(&captured, plan_options(args))?;
    if abort::requested() {
        return Err(DumpError::Aborted);
    }
    if sink.doubtful() && !args.no_sync {
        step(String::from("reading the image back"));
        sink.reread(bytes)?;
    }
    if let Some(session) = session.as_mut() {
        let kept = session.hold_packets()?;
        if let (1.., Some(table)) = (kept, table) {
            captured.warnings.push(format!(
                "packets of {kept} TCP connections are held back until the image is resumed \
                 (nftables table inet {table})"
            ));
        }
    }
    step(String::from("committing the image"));
    // From here on a front process that dies changes nothing; one that is dead already is
    // noticed here.
    tell(control, &Message::Committing).map_err(|_| DumpError::Aborted)?;
    sink.commit(!args.no_sync)?;
    if let Some(session) = session.take() {
        warnings.extend(session.forget_undo());
        match session.kill() {
            Ok(()) | Err(CaptureError::Died { .. }) => {}
            Err(error) => warnings.push(format!("the process could not be ended: {error}")),
        }
        frozen_us = micros(frozen);
    }
    let root = captured.tree.processes.first();
    Ok(Summary {
        pid: args.pid,
        name: root
            .and_then(|root| root.threads.first())
            .map_or_else(String::new, |thread| thread.name.text()),
        processes: captured.tree.processes.len(),
        threads: captured.tree.processes.iter().map(|p| p.threads.len()).sum(),
        image: args.output.display().to_string(),
        bytes,
        pages: composer.pages,
        frozen_us,
        total_us: micros(start),
        killed: kill,
        notes: captured.warnings,
        warnings,
    })
}

/// Asks whoever wants to be asked, stops the processes and reads everything but page contents; again
/// after a moment where one of them was just being started (it has no C library yet, only its loader)
/// or just ending (it is no longer counted, and still holds the other end of something), or has turned up
/// without having been asked.
fn stop_and_read(
    pid: u32,
    options: &capture::Options,
    round: &mut Round,
    step: &dyn Fn(String),
) -> Result<(Session, Captured), DumpError> {
    let mut tries = 0;
    loop {
        let mut session = Session::look(pid, options)?;
        match round.ask(&mut session, step) {
            // What stands in the way is looked for afterwards: callbacks may have cleared it away.
            Ok(true) => session.look_anew()?,
            Ok(false) => {}
            Err(error) => {
                round.tidy(&mut session);
                return Err(error.into());
            }
        }
        session.prepare()?;
        step(format!("stopping process {pid}"));
        session.stop()?;
        if abort::requested() {
            return Err(DumpError::Aborted);
        }
        let error = if round.confirm(&session)? {
            step(String::from("reading its state"));
            match session.capture() {
                Ok(captured) => return Ok((session, captured)),
                Err(error) => DumpError::Capture(error),
            }
        } else {
            DumpError::Consent(ConsentError::Restless)
        };
        let tree = session.pids().len() > 1;
        let passing = match error {
            DumpError::Consent(_) => tries < TRIES && round.has_time(),
            DumpError::Capture(CaptureError::NoFooting { .. }) => tries < TRIES,
            DumpError::Capture(CaptureError::Refused(_)) => tries < TRIES / 4 && tree,
            DumpError::Capture(CaptureError::Died { .. }) => tries < TRIES && tree,
            _ => false,
        };
        if !passing {
            return Err(error);
        }
        // What has died cannot be let go; whoever is left is.
        let _ = session.release();
        round.loosen();
        tries += 1;
        std::thread::sleep(Duration::from_millis(tries));
    }
}

fn capture_options(args: &DumpArgs, table: Option<TableName>) -> capture::Options {
    capture::Options {
        embed_limit: match args.on_changed {
            // Whatever may have changed has to travel along.
            OnChanged::Embed => u64::MAX,
            OnChanged::Refuse | OnChanged::Accept => args.embed_files,
        },
        external_sockets: args.external_sockets.into(),
        external_pipes: args.external_pipes.into(),
        tcp_established: table,
        sysv_ipc: args.sysv_ipc,
        for_itself: args.for_itself,
    }
}

fn plan_options(args: &DumpArgs) -> PlanOptions {
    PlanOptions {
        on_changed: match args.on_changed {
            OnChanged::Refuse => linker::OnChanged::Refuse,
            OnChanged::Accept => linker::OnChanged::Accept,
            OnChanged::Embed => linker::OnChanged::Embed,
        },
        ..PlanOptions::default()
    }
}

fn micros(since: Instant) -> u64 {
    since.elapsed().as_micros() as u64
}

/// As many as asked for, or one for each processor that this process may use, at most 4: beyond
/// that the memory bus is the limit. A small process is done before a thread has started.
fn workers(args: &DumpArgs, bytes: u64) -> usize {
    if bytes < WORTH_THREADS {
        return 1;
    }
    if let Some(workers) = args.workers {
        return workers as usize;
    }
    let own = nix::unistd::Pid::from_raw(0);
    let Ok(set) = nix::sched::sched_getaffinity(own) else {
        return 1;
    };
    (0..nix::sched::CpuSet::count())
        .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
        .take(4)
        .count()
        .max(1)
}
