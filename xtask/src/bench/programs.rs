//! The programs in tests/bench: built, started, dumped and resumed.

use super::clock::{stamp, Rate};
use super::launch::{self, Ended, Running};
use super::series::Series;
use super::{floors, ANSWERED, TREES};
use crate::{cargo, library, Failure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Pauses shorter than this are the machine's, not ours, in microseconds.
const GAP_US: f64 = 100.0;

/// Where everything is.
pub struct Bench {
    /// The dumper, built with optimisation.
    pub dumper: PathBuf,
    /// The built programs.
    programs: PathBuf,
    /// A directory in memory for the images.
    pub images: PathBuf,
    /// The counter's speed.
    pub rate: Rate,
}

/// What one kind of program cost, round after round; times in microseconds.
#[derive(Default)]
pub struct Costs {
    /// Lines of /proc/PID/maps.
    pub mappings: usize,
    /// Size of the image.
    pub image_bytes: u64,
    /// The restorer's part of it.
    pub restorer_bytes: u64,
    /// The dumper's peak memory, in bytes.
    pub peak: Series,
    /// The whole dump command, the process ended.
    pub dump: Series,
    /// The same with --leave-running.
    pub leave: Series,
    /// How long the program itself did not run, with --leave-running.
    pub stopped: Series,
    /// The stop as the dumper tells it.
    pub frozen: Series,
    /// execve of the image to the program's first instruction, original pid.
    pub resume: Series,
    /// The same with --new-pid.
    pub new_pid: Series,
    /// What the kernel's answers alone cost, of programs in [`ANSWERED`].
    pub answers: Series,
}

impl Bench {
    /// Builds everything.
    pub fn prepare() -> Result<Bench, Failure> {
        let dumper = cargo::release_dumper()?;
        let programs = cargo::target().join("bench");
        std::fs::create_dir_all(&programs)?;
        let library = programs.join("suspend");
        library::install(&library)?;
        let sources = cargo::root().join("tests/bench");
        for entry in std::fs::read_dir(&sources)? {
            let source = entry?.path();
            if source.extension().is_some_and(|e| e == "c") {
                build(&source, &programs, &library)?;
            }
        }
        let images = PathBuf::from(format!("/dev/shm/dumper-bench-{}", std::process::id()));
        std::fs::create_dir(&images).map_err(|e| {
            format!("{}: {e}; images are measured in memory, on /dev/shm", images.display())
        })?;
        Ok(Bench { dumper, programs, images, rate: Rate::measure() })
    }

    /// A built program of tests/bench.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    fn dump(&self, pid: u32, image: &Path, leave: bool, workers: u32) -> Result<Ended, Failure> {
        let mut command = Command::new(&self.dumper);
        command.arg(pid.to_string()).arg("-o").arg(image);
        command.args(["--no-sync", "--json", "--workers", &workers.to_string()]);
        if leave {
            command.arg("--leave-running");
        }
        launch::run(&mut command)
    }

    /// Measures one program; the first round warms up and does not count.
    pub fn measure(&self, name: &str, rounds: u32, workers: u32) -> Result<Costs, Failure> {
        let mut costs = Costs::default();
        for round in 0..=rounds {
            let mut fresh = Costs::default();
            let into = if round == 0 { &mut fresh } else { &mut costs };
            self.round(name, workers, round % 2 == 1, into)
                .map_err(|e| format!("{name}, round {round}: {e}"))?;
            eprint!(".");
        }
        eprintln!(" {name}");
        Ok(costs)
    }

    /// The first resume after a dump gets memory that the machine had not in use, which is slow where
    /// a hypervisor must find it; so each mode is the first in every other round.
    fn round(
        &self,
        name: &str,
        workers: u32,
        new_pid_first: bool,
        costs: &mut Costs,
    ) -> Result<(), Failure> {
        let gap = self.rate.ticks(GAP_US).to_string();
        let mut program = Running::start(Command::new(self.program(name)).arg(&gap))?;
        program.ready()?;
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", program.pid()))?;
        costs.mappings = maps.lines().count();

        let image = self.images.join("left.elf");
        let from = stamp();
        let left = self.dump(program.pid(), &image, true, workers)?;
        let to = stamp();
        costs.leave.add(left.wall_us);
        costs.frozen.add(frozen_us(&left.output)?);
        if let Some(ticks) = program.longest_gap(from, to) {
            costs.stopped.add(self.rate.micros(ticks));
        }
        std::fs::remove_file(&image)?;

        // Right beside the dump, so that both meet the same machine, and the same entries of /proc.
        if ANSWERED.contains(&name) {
            if let Some(time) = floors::answers(self, &mut program)? {
                costs.answers.add(time);
            }
        }

        let image = self.images.join("resume.elf");
        let dumped = self.dump(program.pid(), &image, false, workers)?;
        program.gone()?;
        costs.dump.add(dumped.wall_us);
        costs.peak.add(dumped.peak_bytes.max(left.peak_bytes) as f64);
        costs.image_bytes = std::fs::metadata(&image)?.len();
        costs.restorer_bytes = restorer_bytes(&image)?;

        let both = [new_pid_first, !new_pid_first];
        for new_pid in both.into_iter().filter(|new_pid| !(*new_pid && TREES.contains(&name))) {
            let mut command = Command::new(&image);
            command.args(["--workers", &workers.to_string()]);
            if new_pid {
                command.arg("--new-pid");
            }
            let mut resumed = Running::start(&mut command)?;
            let gap = resumed.gap_at(resumed.started)?;
            let time = self.rate.micros(gap.to - resumed.started);
            resumed.end()?;
            let series = if new_pid { &mut costs.new_pid } else { &mut costs.resume };
            series.add(time);
        }
        std::fs::remove_file(&image)?;
        Ok(())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.images);
    }
}

fn build(source: &Path, programs: &Path, library: &Path) -> Result<(), Failure> {
    let name = source.file_stem().unwrap_or_default();
    let mut command = Command::new("cc");
    command.args(["-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]);
    if name == "empty" {
        command.args(["-static", "-nostdlib"]);
    }
    if name == "floor_answers" {
        // No dumper needs to be found by a dynamic linker.
        command.arg("-static");
    }
    command.arg("-o").arg(programs.join(name)).arg(source);
    if name == "hold" || name == "asked" {
        command.arg("-I").arg(library.join("include")).arg(library.join("lib/libsuspend.a"));
    }
    let done = command.status()?;
    if done.success() {
        Ok(())
    } else {
        Err(format!("building {} failed ({done})", source.display()).into())
    }
}

fn frozen_us(summary: &str) -> Result<f64, Failure> {
    let value: serde_json::Value = serde_json::from_str(summary.trim())?;
    value["frozen_us"].as_f64().ok_or_else(|| format!("no frozen_us in {summary}").into())
}

/// What the kernel loads of an image is the restorer and nothing else.
fn restorer_bytes(image: &Path) -> Result<u64, Failure> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(image)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, 1 << 20), &mut bytes)?;
    let header = goblin::elf::Elf::parse_header(&bytes)?;
    let context = goblin::container::Ctx::new(header.container()?, header.endianness()?);
    let segments = goblin::elf::ProgramHeader::parse(
        &bytes,
        header.e_phoff as usize,
        usize::from(header.e_phnum),
        context,
    )?;
    let loaded = segments.iter().filter(|s| s.p_type == goblin::elf::program_header::PT_LOAD);
    Ok(loaded.map(|s| s.p_filesz).sum())
}
