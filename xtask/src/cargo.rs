//! The workspace and the running of cargo in it.

use crate::Failure;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace's root directory.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// A cargo command in the workspace, with the lock file as it is.
///
/// The variables that cargo has set for this program are taken away: a nested cargo that sees
/// another `CARGO_MANIFEST_DIR` than its caller's shell takes the build scripts for stale.
pub fn command(words: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root()).args(words);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_MANIFEST_")
            || text.starts_with("CARGO_BIN_")
        {
            command.env_remove(&name);
        }
    }
    command
}
/// Runs cargo and demands success.
pub fn run(words: &[&str]) -> Result<(), Failure> {
    let status = command(words).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cargo {} failed ({status})", words.join(" ")).into())
    }
}

/// Where builds land.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Builds `dumper` with optimisation and tells where it is.
pub fn release_dumper() -> Result<PathBuf, Failure> {
    run(&["build", "--locked", "--release", "--package", "host-dumper", "--bin", "dumper"])?;
    Ok(target().join("release/dumper"))
}
