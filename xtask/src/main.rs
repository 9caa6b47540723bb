//! The project's chores: `cargo xtask demo | test | bench | library | soak | vm | fuzz`.

mod bench;
mod cargo;
mod checks;
mod demo;
mod library;
mod packages;
mod soak;
mod terminal;
mod tree;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's chores", version)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Shows a program travel from one terminal to another, for real
    Demo,
    /// Runs every test: format, lints, documentation, unit tests and end-to-end tests
    Test,
    /// Measures dumps and resumes beside what the machine can do; writes docs/performance.md
    Bench(bench::Options),
    /// Builds suspend-api for C and C++ programs: header, static and shared library, pkg-config file,
    /// manual page
    Library(library::Options),
    /// Runs the tests with long counts: hundreds of kills, flips over whole images, sticks pulled and
    /// plugged in
    Soak(soak::Options),
    /// Proves journeys between kernels and the pen-drive driver in virtual machines; arguments go
    /// to tests/vm, --help tells which
    Vm {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Feeds hostile bytes to the readers of images and control blocks (installs a nightly toolchain and cargo-fuzz where missing)
    Fuzz(soak::FuzzOptions),
}

/// What a chore could not do, told to the one who asked for it.
pub type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Demo => demo::run(),
        Chore::Test => checks::run(),
        Chore::Bench(options) => bench::run(&options),
        Chore::Library(options) => library::run(&options),
        Chore::Soak(options) => soak::run(&options),
        Chore::Vm { arguments } => return machines(&arguments),
        Chore::Fuzz(options) => soak::fuzz(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failed(failure.as_ref(), 1),
    }
}

fn failed(why: &dyn std::error::Error, status: u8) -> ExitCode {
    eprintln!("xtask: {why}");
    ExitCode::from(status)
}

/// The virtual machines, whose exit status tells what failed from what cannot be had.
fn machines(arguments: &[String]) -> ExitCode {
    if let Err(why) = packages::install(&[packages::COMPILERS, packages::MACHINES]) {
        return failed(why.as_ref(), checks::NO_MACHINES);
    }
    let mut words = checks::MACHINES.to_vec();
    words.extend(arguments.iter().map(String::as_str));
    match cargo::command(&words).status() {
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1).into(),
        Err(why) => failed(&why, 1),
    }
}
