//! `dumper check`: what stands in the way of a dump, as far as it is visible from outside.

use crate::capture::{self, Options};
use crate::cli::CheckArgs;
use crate::dump::capture_failure;
use crate::failure::{status, Failure};
use crate::words::size;
use std::io::Write;

/// Prints the verdict; returns the exit status.
pub fn check(args: &CheckArgs) -> Result<u8, Failure> {
    let options = Options { embed_limit: args.embed_files, ..Options::default() };
    let verdict = capture::check(args.pid, &options).map_err(|error| capture_failure(&error))?;
    let possible = verdict.refusals.is_empty();
    let mut out = std::io::stdout().lock();
    // Nobody may be listening; the exit status tells all the same.
    if args.json {
        let value = serde_json::json!({
            "pid": verdict.pid,
            "name": verdict.name,
            "processes": verdict.processes,
            "threads": verdict.threads,
            "bytes": verdict.estimate,
            "possible": possible,
            "refusals": verdict.refusals,
            "notes": verdict.notes,
        });
        let _ = writeln!(out, "{value}");
    } else {
        let threads = if verdict.threads == 1 {
            String::from("1 thread")
        } else {
            format!("{} threads", verdict.threads)
        };
        let threads = match verdict.processes {
            0 | 1 => threads,
            n => format!("{n} processes, {threads}"),
        };
        let _ = writeln!(
            out,
            "{} (pid {}, {threads}): {}; image about {}",
            verdict.name,
            verdict.pid,
            match verdict.refusals.len() {
                0 => String::from("nothing visible stands in the way"),
                1 => String::from("cannot be dumped, for one reason"),
                n => format!("cannot be dumped, for {n} reasons"),
            },
            size(verdict.estimate)
        );
        for refusal in &verdict.refusals {
            let _ = writeln!(out, "  {}: {}; {}", refusal.object, refusal.reason, refusal.remedy);
        }
        for note in &verdict.notes {
            let _ = writeln!(out, "  note: {note}");
        }
    }
    Ok(if possible { status::OK } else { status::REFUSED })
}
