//! Boots Debian's kernels under QEMU and proves the pen-drive driver there.
//!
//! `cargo xtask vm` runs it; see the scenarios for what is proven.

mod failure;
mod initramfs;
mod kernel;
mod lab;
mod machine;
mod scenarios;
mod tools;
mod wire;

use clap::Parser;
use failure::{Doing, Outcome};
use lab::{Bench, Lab};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Proves the pen-drive driver in virtual machines.
#[derive(Parser)]
struct Options {
    /// Only scenarios whose name contains one of these
    filters: Vec<String>,
    /// Only this kernel series
    #[arg(long, value_parser = ["6.1", "6.12"])]
    kernel: Option<String>,
    /// Names the scenarios and ends
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        for scenario in scenarios::all() {
            println!("{:2}  {}", scenario.number, scenario.name);
        }
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("vm: {failed} scenarios failed");
            ExitCode::FAILURE
        }
        Err(failure) => {
            eprintln!("vm: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Outcome<usize> {
    for (program, package) in [
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("make", "make"),
        ("xz", "xz-utils"),
        ("zstd", "zstd"),
        ("busybox", "busybox-static"),
    ] {
        tools::need(program, package)?;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .doing(|| "finding the project".to_owned())?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| source.join("target"), PathBuf::from);
    let work = target.join("vm");
    tools::folder(&work)?;
    let agent = build_agent(&source, &work)?;
    let mut failed = 0;
    for series in ["6.12", "6.1"] {
        if options.kernel.as_deref().is_some_and(|only| only != series) {
            continue;
        }
        let lab = Lab::prepare(series, &work, &source, &agent)?;
        failed += run_all(&lab, options)?;
    }
    Ok(failed)
}

/// The agent is this package's other program, linked without a dynamic
/// loader, which the guest does not have.
fn build_agent(source: &Path, work: &Path) -> Outcome<PathBuf> {
    let target = "x86_64-unknown-linux-gnu";
    let folder = work.join("agent");
    tools::run(
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "-q", "-p", "vm", "--bin", "guest", "--target", target])
            .arg("--target-dir")
            .arg(&folder)
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .current_dir(source),
    )?;
    Ok(folder.join(target).join("debug/guest"))
}

fn run_all(lab: &Lab, options: &Options) -> Outcome<usize> {
    let mut bench: Option<Bench> = None;
    let mut failed = 0;
    for scenario in scenarios::all() {
        let wanted = options.filters.iter().any(|part| scenario.name.contains(part.as_str()));
        if !wanted && !options.filters.is_empty() {
            continue;
        }
        let start = Instant::now();
        let outcome = match bench.take().map_or_else(|| lab.boot(&[]), Ok) {
            Ok(mut guest) => {
                let outcome = (scenario.run)(&mut guest)
                    .and_then(|figures| guest.clean_up().map(|()| figures));
                if outcome.is_ok() {
                    bench = Some(guest);
                }
                outcome
            }
            Err(failure) => Err(failure),
        };
        let took = start.elapsed().as_secs_f32();
        let head = format!("{:5} {:2} {}", lab.kernel.series, scenario.number, scenario.name);
        match outcome {
            Ok(figures) => println!("ok     {head}: {figures} ({took:.1} s)"),
            Err(failure) => {
                failed += 1;
                lab.keep_log(scenario.name);
                println!("FAILED {head}: {failure} ({took:.1} s)");
            }
        }
    }
    if let Some(guest) = bench {
        guest.machine.shut_down()?;
    }
    Ok(failed)
}
