//! What it costs to be asked: a held section, and the whole round of question and answer.

use super::launch::{self, Running};
use super::programs::Bench;
use super::series::Series;
use crate::Failure;
use std::process::Command;

/// Costs of programs that opted in.
pub struct Consent {
    /// Beginning and ending a section, nanoseconds.
    pub hold: Series,
    /// The same, the slowest of 16 threads at once.
    pub together: Series,
    /// What asking adds to a dump, microseconds.
    pub round: Series,
}

/// Dumps per round, with and without asking in turn: what they differ by is less than what the machine
/// varies.
const PAIRS: u32 = 25;

/// Measures them.
pub fn measure(bench: &Bench, rounds: u32) -> Result<Consent, Failure> {
    let (mut hold, mut together, mut round) =
        (Series::default(), Series::default(), Series::default());
    for _ in 0..rounds {
        let output = launch::run(&mut Command::new(bench.program("hold")))?.output;
        let mut figures = output.split_ascii_whitespace().map(str::parse::<f64>);
        let (Some(Ok(alone)), Some(Ok(all))) = (figures.next(), figures.next()) else {
            return Err(format!("hold said {output:?}").into());
        };
        hold.add(alone);
        together.add(all);
        round.add(added(bench)?);
    }
    eprintln!(". consent");
    Ok(Consent { hold, together, round })
}

/// By how much the median dump that asks is longer.
fn added(bench: &Bench) -> Result<f64, Failure> {
    let mut program = Running::start(&mut Command::new(bench.program("asked")))?;
    program.ready()?;
    let image = bench.images.join("asked.elf");
    let (mut asking, mut without) = (Series::default(), Series::default());
    for pair in 0..2 * PAIRS {
        let asks = pair % 2 == 0;
        let mut command = Command::new(&bench.dumper);
        command.arg(program.pid().to_string()).arg("-o").arg(&image);
        command.args(["--no-sync", "--leave-running", "--json", "--workers", "1"]);
        command.args(["--consent", if asks { "auto" } else { "ignore" }]);
        let took = launch::run(&mut command)?.wall_us;
        if asks { &mut asking } else { &mut without }.add(took);
        std::fs::remove_file(&image)?;
    }
    program.end()?;
    let median = |series: &Series| series.median().unwrap_or(f64::NAN);
    Ok(median(&asking) - median(&without))
}
