//! `cargo xtask soak` and `cargo xtask fuzz`: what takes too long for every change.

use crate::{cargo, checks, packages, Failure};
use clap::Args;

/// Arguments of `soak`.
#[derive(Args)]
pub struct Options {
    /// Only the end-to-end tests whose name contains this, and no virtual machines
    filter: Option<String>,
}

/// Arguments of `fuzz`.
#[derive(Args)]
pub struct FuzzOptions {
    /// The target: inspect, model or control (fuzz/fuzz_targets)
    #[arg(default_value = "inspect")]
    target: String,
    /// How long
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// The scenarios of the virtual machines that have long counts: 200 pulled sticks, 1,000 plugged in
/// and out, and four processes that write at random.
const CHAOS: &[&str] = &["--soak", "unplug-during-copy", "plug-rounds", "random-against-a-model"];

/// How long hostile bytes are fed to the driver's decoders, in seconds.
const FUZZ_OF_DRIVER: &str = "600";

/// Runs the end-to-end tests with long counts, and the chaos of the virtual machines.
pub fn run(options: &Options) -> Result<(), Failure> {
    packages::install(&[packages::COMPILERS, packages::VICTIMS])?;
    if options.filter.as_ref().is_none_or(|filter| filter.starts_with("runtime")) {
        packages::install(&[packages::RUNTIMES])?;
    }
    let mut words =
        vec!["test", "--locked", "--release", "--package", "host-dumper", "--test", "e2e"];
    if let Some(filter) = &options.filter {
        words.extend(["--", filter]);
    }
    let status = cargo::command(&words).env("DUMPER_SOAK", "1").status()?;
    if !status.success() {
        return Err(format!("the end-to-end tests failed ({status})").into());
    }
    if options.filter.is_some() {
        return Ok(());
    }
    let status = cargo::command(&["test", "--locked", "--package", "pen-proto", "--test", "fuzz"])
        .env("PEN_FUZZ_SECONDS", FUZZ_OF_DRIVER)
        .status()?;
    if !status.success() {
        return Err(format!("the driver's decoders failed ({status})").into());
    }
    packages::install(&[packages::MACHINES])?;
    let mut words = checks::MACHINES.to_vec();
    words.extend(CHAOS);
    cargo::run(&words)
}

/// Bytes of memory that a reader of hostile images may take, in MiB: some copies of the largest.
const FUZZ_MEMORY: u32 = 512;

/// Runs one fuzz target; it is no member of the workspace, as it needs a nightly toolchain.
pub fn fuzz(options: &FuzzOptions) -> Result<(), Failure> {
    let bin = fuzzer()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(bin).chain(std::env::split_paths(&path));
    let status = nightly(&["fuzz", "run"])
        .env("PATH", std::env::join_paths(paths)?)
        // Memory safety is the compiler's: there is no unsafe code in these readers.
        .args(["--sanitizer", "none", &options.target, "--"])
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-rss_limit_mb={FUZZ_MEMORY}"))
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} failed ({status}); what it found is in fuzz/artifacts/", options.target)
            .into())
    }
}

/// The nightly toolchain's cargo. Not cargo::command: CARGO names the stable one, which knows no
/// "+nightly".
fn nightly(words: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new("cargo");
    command.current_dir(cargo::root()).env_remove("RUSTUP_TOOLCHAIN").arg("+nightly").args(words);
    command
}

/// Where cargo-fuzz is; toolchain and program are installed where they are missing, the program
/// below target/.
fn fuzzer() -> Result<std::path::PathBuf, Failure> {
    let root = cargo::target().join("tools");
    if !nightly(&["--version"]).output()?.status.success() {
        println!("installing the nightly toolchain, which fuzzing needs");
        let words = ["toolchain", "install", "nightly", "--profile", "minimal"];
        let status = std::process::Command::new("rustup").args(words).status()?;
        if !status.success() {
            return Err(format!("rustup could not install the nightly toolchain ({status})").into());
        }
    }
    if !root.join("bin/cargo-fuzz").exists() {
        println!("installing cargo-fuzz to {}", root.display());
        let status =
            cargo::command(&["install", "--locked", "cargo-fuzz", "--root"]).arg(&root).status()?;
        if !status.success() {
            return Err(format!("cargo could not install cargo-fuzz ({status})").into());
        }
    }
    Ok(root.join("bin"))
}
