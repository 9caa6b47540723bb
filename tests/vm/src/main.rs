//! Boots Debian's kernels under QEMU and proves there that programs travel between them, and that
//! the pen-drive driver holds.
//!
//! `cargo xtask vm` runs it; see the journeys and the scenarios for what is proven.

mod bench;
mod debian;
mod failure;
mod initramfs;
mod journey;
mod kernel;
mod lab;
mod machine;
mod remains;
mod scenarios;
mod style;
mod tools;
mod wire;

use bench::Bench;
use clap::Parser;
use failure::{Doing, Outcome};
use journey::World;
use lab::Lab;
use scenarios::Scenario;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;
use style::Workshop;

/// The kernels, the one of the short form first.
const SERIES: [&str; 2] = ["6.12", "6.1"];

/// Ends the program where machines cannot be had at all; not a failure of what is tested.
const NO_MACHINES: u8 = 77;

/// Proves journeys between kernels and the pen-drive driver in virtual machines.
#[derive(Parser)]
struct Options {
    /// Only scenarios and journeys with one of these names, or with one of these in their name
    filters: Vec<String>,
    /// Only this kernel series; journeys need both
    #[arg(long, value_parser = ["6.1", "6.12"])]
    kernel: Option<String>,
    /// The first journeys, and the driver's scenarios on one kernel
    #[arg(long)]
    short: bool,
    /// Long counts: hundreds of pulled sticks, a thousand plugged in
    #[arg(long)]
    soak: bool,
    /// Names the scenarios and the journeys, and ends
    #[arg(long)]
    list: bool,
}

impl Options {
    fn wants(&self, name: &str, in_short: bool) -> bool {
        (in_short || !self.short)
            && (self.filters.is_empty() || self.filters.iter().any(|word| means(word, name)))
    }
}

/// Whether a word of the command line means a test: a whole name means that one only, though it may
/// be the beginning of another's.
fn means(word: &str, name: &str) -> bool {
    if names().any(|one| one == word) {
        name == word
    } else {
        name.contains(word)
    }
}

/// What can be run.
fn names() -> impl Iterator<Item = &'static str> {
    let scenarios = scenarios::all().into_iter().map(|scenario| scenario.name);
    let journeys = journey::all().into_iter().map(|journey| journey.name);
    scenarios.chain(journeys).chain(style::all().into_iter().map(|check| check.name))
}

/// What became of the tests.
#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
}

impl Count {
    /// Notes and tells how one went; `tail` is what the guest's kernel said last.
    fn tell(
        &mut self,
        head: &str,
        start: Instant,
        outcome: Outcome<String>,
        tail: impl FnOnce() -> String,
    ) {
        let took = start.elapsed().as_secs_f32();
        match outcome {
            Ok(figures) => {
                self.passed += 1;
                println!("ok     {head}: {figures} ({took:.1} s)");
            }
            Err(failure) => {
                self.failed += 1;
                println!("FAILED {head}: {failure} ({took:.1} s)");
                println!("------ the guest's kernel said last:\n{}\n------", tail());
            }
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        for scenario in scenarios::all() {
            println!("{:2}  {}", scenario.number, scenario.name);
        }
        for journey in journey::all() {
            println!("    {}", journey.name);
        }
        for check in style::all() {
            println!("    {}", check.name);
        }
        return ExitCode::SUCCESS;
    }
    let place = match Place::prepare() {
        Ok(place) => place,
        Err(failure) => {
            eprintln!("vm: {failure}");
            return ExitCode::from(NO_MACHINES);
        }
    };
    match run(&options, &place) {
        Ok(count) => {
            let verdict = if count.failed == 0 { "ok" } else { "FAILED" };
            println!("test result: {verdict}. {} passed; {} failed", count.passed, count.failed);
            if count.failed == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(failure) => {
            eprintln!("vm: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Where everything lies.
struct Place {
    source: PathBuf,
    target: PathBuf,
    work: PathBuf,
}

impl Place {
    /// Finds programs and packages; what is missing here is no fault of what is tested.
    fn prepare() -> Outcome<Self> {
        for (program, package) in [
            ("qemu-system-x86_64", "qemu-system-x86"),
            ("apt-get", "apt"),
            ("dpkg", "dpkg"),
            ("make", "make"),
            ("xz", "xz-utils"),
            ("zstd", "zstd"),
            ("strip", "binutils"),
            ("busybox", "busybox-static"),
        ] {
            tools::need(program, package)?;
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .canonicalize()
            .doing(|| "finding the project".to_owned())?;
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| source.join("target"), PathBuf::from);
        let work = target.join("vm");
        tools::folder(&work)?;
        for series in SERIES {
            kernel::Kernel::prepare(series, &work)?;
        }
        debian::Debian::prepare(&work)?;
        Ok(Self { source, target, work })
    }
}

fn run(options: &Options, place: &Place) -> Outcome<Count> {
    let mut count = Count::default();
    let agent = build_agent(&place.source, &place.work)?;
    if options.kernel.is_none() {
        travel(options, place, &agent, &mut count)?;
        inspect(options, place, &mut count)?;
    }
    for series in SERIES {
        let wanted = match &options.kernel {
            Some(only) => only == series,
            None => !options.short || series == SERIES[0],
        };
        let any = |scenario: &Scenario| options.wants(scenario.name, in_short(scenario));
        if wanted && scenarios::all().iter().any(any) {
            let lab = Lab::prepare(series, &place.work, &place.source, &agent)?;
            run_all(&lab, options, &mut count)?;
        }
    }
    Ok(count)
}

fn in_short(scenario: &Scenario) -> bool {
    !scenarios::NOT_SHORT.contains(&scenario.name)
}

/// The agent is this package's other program, linked without a dynamic
/// loader, which the guest does not have.
fn build_agent(source: &Path, work: &Path) -> Outcome<PathBuf> {
    let target = "x86_64-unknown-linux-gnu";
    let folder = work.join("agent");
    tools::run(
        Command::new(tools::cargo())
            .args(["build", "-q", "-p", "vm", "--bin", "guest", "--target", target])
            .arg("--target-dir")
            .arg(&folder)
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .current_dir(source),
    )?;
    Ok(folder.join(target).join("debug/guest"))
}

fn travel(options: &Options, place: &Place, agent: &Path, count: &mut Count) -> Outcome<()> {
    let wanted: Vec<_> = journey::all()
        .into_iter()
        .filter(|journey| options.wants(journey.name, journey.short))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let world = World::prepare(&place.work, &place.source, &place.target, agent)?;
    for journey in wanted {
        let start = Instant::now();
        let outcome = (journey.run)(&world, options.short);
        count.tell(journey.name, start, outcome, || world.tail());
    }
    Ok(())
}

/// Looks at the driver's sources, for the newest kernel.
fn inspect(options: &Options, place: &Place, count: &mut Count) -> Outcome<()> {
    let wanted: Vec<_> =
        style::all().into_iter().filter(|check| options.wants(check.name, false)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let shop = Workshop {
        kernel: kernel::Kernel::prepare(SERIES[0], &place.work)?,
        driver: place.source.join("kmod"),
        nomem: place.source.join("tests/vm/nomem/nomem.c"),
        work: place.work.clone(),
    };
    for check in wanted {
        let start = Instant::now();
        count.tell(check.name, start, (check.run)(&shop), || "(none was booted)".to_owned());
    }
    Ok(())
}

fn run_all(lab: &Lab, options: &Options, count: &mut Count) -> Outcome<()> {
    let mut bench: Option<Bench> = None;
    for scenario in scenarios::all() {
        if !options.wants(scenario.name, in_short(&scenario)) {
            continue;
        }
        let start = Instant::now();
        let outcome = match bench.take().map_or_else(|| lab.boot(options.soak), Ok) {
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
        if outcome.is_err() {
            lab.keep_log(scenario.name);
        }
        let head = format!("{:5} {:2} {}", lab.kernel.series, scenario.number, scenario.name);
        count.tell(&head, start, outcome, || lab.tail());
    }
    if let Some(guest) = bench {
        guest.machine.shut_down()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_name_means_one_test() {
        assert!(means("every-victim-on-6.1", "every-victim-on-6.1"));
        assert!(!means("every-victim-on-6.1", "every-victim-on-6.12"));
        assert!(means("every-victim", "every-victim-on-6.12"));
        assert!(!means("evil-", "every-victim-on-6.1"));
    }

    #[test]
    fn no_name_is_used_twice() {
        let mut all: Vec<_> = names().collect();
        let before = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), before);
    }
}
