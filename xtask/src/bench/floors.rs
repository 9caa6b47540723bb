//! What the machine itself can do: no dump and no resume can be faster.

use super::launch;
use super::programs::Bench;
use super::series::Series;
use crate::Failure;
use std::process::Command;

/// Floors of one run; times in microseconds, for 1 GiB where memory is concerned.
pub struct Floors {
    /// Start, execve and end of a static program that does nothing.
    pub exec: Series,
    /// Copying memory to memory that is there.
    pub memcpy: Series,
    /// Copying memory to fresh anonymous memory.
    pub memcpy_fresh: Series,
    /// Writing to a file in the page cache.
    pub write: Series,
}

/// Measures them with this many threads.
pub fn measure(bench: &Bench, rounds: u32, threads: u32) -> Result<Floors, Failure> {
    let mut exec = Series::default();
    for _ in 0..rounds * 20 {
        exec.add(launch::run(&mut Command::new(bench.program("empty")))?.wall_us);
    }
    let mut command = Command::new(bench.program("floors"));
    command.arg(bench.images.join("floor"));
    command.args([rounds.to_string(), threads.to_string()]);
    let output = launch::run(&mut command)?.output;
    let series = |name: &str| {
        let mut series = Series::default();
        for line in output.lines() {
            if let Some((found, time)) = line.split_once(' ') {
                if found == name {
                    series.add(time.parse::<f64>().unwrap_or(f64::NAN) / 1e3);
                }
            }
        }
        series
    };
    eprintln!(". floors");
    Ok(Floors {
        exec,
        memcpy: series("memcpy"),
        memcpy_fresh: series("memcpy_fresh"),
        write: series("write"),
    })
}
