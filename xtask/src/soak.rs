//! `cargo xtask soak` and `cargo xtask fuzz`: what takes too long for every change.

use crate::{cargo, packages, Failure};
use clap::Args;

/// Arguments of `soak`.
#[derive(Args)]
pub struct Options {
    /// Only the end-to-end tests whose name contains this
    filter: Option<String>,
}

/// Arguments of `fuzz`.
#[derive(Args)]
pub struct FuzzOptions {
    /// The target, a file of fuzz/fuzz_targets
    #[arg(default_value = "inspect")]
    target: String,
    /// How long
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Runs the end-to-end tests with long counts.
pub fn run(options: &Options) -> Result<(), Failure> {
    packages::install(&[packages::COMPILERS, packages::VICTIMS])?;
    let mut words =
        vec!["test", "--locked", "--release", "--package", "host-dumper", "--test", "e2e"];
    if let Some(filter) = &options.filter {
        words.extend(["--", filter]);
    }
    let status = cargo::command(&words).env("DUMPER_SOAK", "1").status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the end-to-end tests failed ({status})").into())
    }
}

/// Runs one fuzz target; it is no member of the workspace, as it needs a nightly toolchain.
pub fn fuzz(options: &FuzzOptions) -> Result<(), Failure> {
    // Not cargo::command: CARGO names the stable toolchain's cargo, which knows no "+nightly".
    let status = std::process::Command::new("cargo")
        .current_dir(cargo::root())
        .env_remove("RUSTUP_TOOLCHAIN")
        .args(["+nightly", "fuzz", "run", &options.target, "--"])
        .arg(format!("-max_total_time={}", options.seconds))
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!(
            "cargo fuzz failed ({status}); it needs \"rustup toolchain install nightly\" and \
             \"cargo install cargo-fuzz\", and it leaves what it found in fuzz/artifacts/"
        )
        .into())
    }
}
