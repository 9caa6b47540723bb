//! `dumper check`: what becomes of every object of a process, and what stands in the way of a dump,
//! as far as it is visible from outside.

use crate::capture::{self, Fate, Options, ProcessFate, Verdict};
use crate::cli::CheckArgs;
use crate::consent::{self, outlook};
use crate::console;
use crate::dump::{capture_failure, refusal};
use crate::failure::{status, Failure};
use crate::words::{printable, size};
use std::fmt::Write as _;
use std::time::Duration;

/// Objects longer than this push the words to the right.
const COLUMN: usize = 34;

/// How long a look at a control block may take.
const LOOK: Duration = Duration::from_secs(5);

/// Prints the verdict; returns the exit status.
pub fn check(args: &CheckArgs) -> Result<u8, Failure> {
    let options = Options {
        embed_limit: args.embed_files,
        external_sockets: args.external_sockets.into(),
        external_pipes: args.external_pipes.into(),
        tcp_established: args.tcp_established.then(capture::TableName::random),
        sysv_ipc: args.sysv_ipc,
        ..Options::default()
    };
    let mut verdict =
        capture::check(args.pid, &options).map_err(|error| capture_failure(&error))?;
    let json = args.json;
    consent::limit(LOOK, move |error| {
        let failure = error.failure();
        if json {
            // Nobody may be listening; the exit status tells all the same.
            let _ = console::answer(&format!("{}\n", failure.json()));
        }
        console::tell(&failure.text());
        // SAFETY: ends this process without its exit handlers: its other thread is in the middle of a call.
        unsafe { libc::_exit(i32::from(failure.status)) }
    });
    let consent = match outlook(args.consent.into(), &verdict.candidates) {
        Ok(asked) => {
            verdict.notes.extend(asked.iter().cloned());
            verdict.aside.extend(asked);
            None
        }
        Err(error) => Some(error.failure()),
    };
    let obstacle = match (&consent, verdict.refusals.is_empty()) {
        (_, true) => consent.clone(),
        (None, false) => Some(refusal(&verdict.refusals)),
        (Some(unasked), false) => {
            let mut failure = refusal(&verdict.refusals);
            failure.reasons.extend(unasked.reasons.iter().cloned());
            Some(failure)
        }
    };
    let text = if args.json {
        let value = serde_json::json!({
            "pid": verdict.pid,
            "name": verdict.name,
            "processes": verdict.processes,
            "threads": verdict.threads,
            "bytes": verdict.estimate,
            "possible": obstacle.is_none(),
            // As a dump tells it.
            "error": obstacle,
            "warnings": verdict.losses,
            "notes": verdict.notes,
            "objects": verdict.objects,
        });
        format!("{value}\n")
    } else {
        describe(&verdict, obstacle.as_ref(), consent.as_ref())
    };
    console::answer(&text)?;
    Ok(obstacle.map_or(status::OK, |failure| failure.status))
}

fn describe(verdict: &Verdict, obstacle: Option<&Failure>, unasked: Option<&Failure>) -> String {
    let threads = count(verdict.threads as usize, "thread", "threads");
    let threads = match verdict.processes {
        0 | 1 => threads,
        n => format!("{n} processes, {threads}"),
    };
    let mut out = format!(
        "{} (pid {}, {threads}): {}; image about {}\n",
        verdict.name,
        verdict.pid,
        match obstacle.map(|failure| failure.reasons.len()) {
            None => String::from("nothing visible stands in the way"),
            Some(1) => String::from("cannot be dumped, for one reason"),
            Some(n) => format!("cannot be dumped, for {n} reasons"),
        },
        size(verdict.estimate)
    );
    // Writing to a String cannot fail.
    for refusal in verdict.other_refusals() {
        let _ =
            writeln!(out, "  {}: refused: {}; {}", refusal.object, refusal.reason, refusal.remedy);
    }
    if let Some(failure) = unasked {
        for reason in &failure.reasons {
            let _ = writeln!(out, "  {}: refused: {}", reason.object, reason.reason);
        }
        let _ = writeln!(out, "  {}", failure.advice);
    }
    for warning in &verdict.losses {
        let _ = writeln!(out, "  warning: {warning}");
    }
    for note in &verdict.aside {
        let _ = writeln!(out, "  note: {note}");
    }
    for process in &verdict.objects {
        let _ = write!(out, "{}", processes(process));
    }
    printable(&out)
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn processes(process: &ProcessFate) -> String {
    let m = &process.memory;
    let mut out = format!(
        "process {} ({}): {}; {}, {} of them of files, {} shared, about {}\n",
        process.pid,
        process.name,
        count(process.threads as usize, "thread", "threads"),
        count(m.mappings, "mapping", "mappings"),
        m.of_files,
        m.shared,
        size(m.bytes),
    );
    for d in &process.descriptors {
        let fate = match d.fate {
            Fate::Travels if d.words.is_empty() => String::from("travels"),
            Fate::Travels => format!("travels: {}", d.words),
            Fate::Differs => d.words.clone(),
            Fate::Refused => format!("refused: {}", d.words),
        };
        let _ = writeln!(out, "  {:>4}  {:<COLUMN$}  {fate}", d.fd, d.object);
    }
    out
}
