//! What the machine itself can do: no dump and no resume can be faster.

use super::launch::{self, Running};
use super::programs::Bench;
use super::series::Series;
use crate::tree::descendants;
use crate::Failure;
use std::process::Command;
use std::time::{Duration, Instant};

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

/// How long a process may take to be asleep again.
const ASLEEP: Duration = Duration::from_secs(10);

/// Has the kernel answer what no dump of this program can leave unasked, and nothing else; gives the time
/// of the whole command in microseconds, or none where the kernel has no such answers. The program goes
/// on afterwards.
pub fn answers(bench: &Bench, program: &mut Running) -> Result<Option<f64>, Failure> {
    let (pid, file) = (program.pid(), bench.images.join("answers"));
    let children = descendants(pid);
    let mut command = Command::new(bench.program("floor_answers"));
    let ended = launch::run(command.arg(pid.to_string()).arg(&file))?;
    std::fs::remove_file(&file)?;
    if ended.output.starts_with("missing") {
        eprintln!("floors: {}", ended.output.trim());
        return Ok(None);
    }
    let line = ended.output.lines().find_map(|line| line.strip_prefix("stood "));
    let stood = line.ok_or_else(|| format!("floor_answers said {:?}", ended.output))?.parse()?;
    // It tells of the pause when it runs again.
    program.gap_at(stood)?;
    await_sleep(&children)?;
    if descendants(pid) != children {
        return Err("the children of a program did not outlive what they were asked".into());
    }
    Ok(Some(ended.wall_us))
}

/// Waits until all of these, which did nothing but sleep before, are asleep once more.
fn await_sleep(pids: &[i32]) -> Result<(), Failure> {
    let deadline = Instant::now() + ASLEEP;
    for pid in pids {
        loop {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            let state = status.lines().find_map(|line| line.strip_prefix("State:"));
            let state = state.map_or("unknown", str::trim);
            match state.chars().next() {
                Some('S') => break,
                Some('R' | 'D') if Instant::now() < deadline => std::thread::yield_now(),
                _ => {
                    return Err(
                        format!("process {pid} is not asleep after it was asked: {state}").into()
                    )
                }
            }
        }
    }
    Ok(())
}
