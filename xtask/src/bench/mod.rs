//! `cargo xtask bench`: what a dump and a resume cost, beside what the machine itself can do.

// Figures are shown with three digits; a double keeps fifteen.
#![allow(clippy::cast_precision_loss)]

mod clock;
mod consent;
mod floors;
mod launch;
mod programs;
mod report;
mod series;

use crate::{cargo, packages, Failure};
use clap::Args;
use programs::{Bench, Costs};

/// Memory that the programs and floors need: source, target, image and a file, 1 GiB each.
const NEEDED: u64 = 6 << 30;

/// Arguments of `bench`.
#[derive(Args)]
pub struct Options {
    /// Three rounds, and nothing written
    #[arg(long)]
    quick: bool,
    /// Rounds that count
    #[arg(long, default_value_t = 9, conflicts_with = "quick")]
    rounds: u32,
    /// Threads of the dumper and of the restorer
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// Only this program of tests/bench; nothing written
    #[arg(long)]
    only: Option<String>,
}

/// The programs that are measured, each with what it stands for.
const PROGRAMS: [(&str, &str); 8] = [
    ("tiny", "tiny process"),
    ("threads64", "64 threads"),
    ("mappings10k", "10,000 mappings"),
    ("touched1g", "1 GiB touched"),
    ("sparse", "64 GiB sparse"),
    ("tree50", "50 processes"),
    ("descriptors", "1,000 descriptors"),
    ("shared10", "64 MiB shared by 10 processes"),
];

/// Those of several processes, which cannot be resumed with `--new-pid`.
const TREES: [&str; 2] = ["tree50", "shared10"];

/// Those beside which the kernel's answers alone are measured: they are bound by the number of these.
const ANSWERED: [&str; 2] = ["tree50", "descriptors"];

/// Everything measured.
pub struct Results {
    /// What the machine can do.
    pub floors: floors::Floors,
    /// What it costs to be asked.
    pub consent: consent::Consent,
    /// The programs' costs, in the order of [`PROGRAMS`]; the ones asked for.
    pub programs: Vec<(&'static str, &'static str, Costs)>,
    /// Rounds that counted.
    pub rounds: u32,
    /// Threads of dumper and restorer.
    pub workers: u32,
}

/// Measures, prints a table, and writes it to docs/performance.md if all was measured.
pub fn run(options: &Options) -> Result<(), Failure> {
    packages::install(&[packages::COMPILERS])?;
    let available = report::memory("MemAvailable").unwrap_or(u64::MAX);
    if available < NEEDED {
        return Err(format!(
            "the measurement needs {} GiB of memory, {} are available",
            NEEDED >> 30,
            available >> 30
        )
        .into());
    }
    let rounds = if options.quick { 3 } else { options.rounds.max(1) };
    let bench = Bench::prepare()?;
    let floors = floors::measure(&bench, rounds, options.workers)?;
    let consent = consent::measure(&bench, rounds)?;
    let mut programs = Vec::new();
    for (name, title) in PROGRAMS {
        if options.only.as_deref().is_none_or(|only| only == name) {
            programs.push((name, title, bench.measure(name, rounds, options.workers)?));
        }
    }
    let all = options.only.is_none();
    let results = Results { floors, consent, programs, rounds, workers: options.workers };
    let text = report::text(&results);
    print!("{text}");
    if all && !options.quick {
        let path = cargo::root().join("docs/performance.md");
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        eprintln!("written to {}", path.display());
    }
    Ok(())
}
