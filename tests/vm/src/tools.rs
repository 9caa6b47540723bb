//! Programs of the host, run to their end.

use crate::failure::{Doing, Failure, Outcome};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a command; its standard output when it succeeds.
pub fn run(command: &mut Command) -> Outcome<Vec<u8>> {
    let name = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().doing(|| format!("starting {name}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stdout));
    Err(Failure(format!("{name}: {}: {}", output.status, text.trim())))
}

/// Fails with a hint where a program is not installed.
pub fn need(program: &str, package: &str) -> Outcome<()> {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|p| p.join(program).exists()));
    if found {
        return Ok(());
    }
    Err(Failure(format!("{program} is missing; on Debian: apt-get install {package}")))
}

/// Reads a file, naming it on failure.
pub fn read(path: &Path) -> Outcome<Vec<u8>> {
    std::fs::read(path).doing(|| format!("reading {}", path.display()))
}

/// Writes a file, naming it on failure.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Outcome<()> {
    std::fs::write(path, bytes).doing(|| format!("writing {}", path.display()))
}

/// Creates a folder and its parents.
pub fn folder(path: &Path) -> Outcome<()> {
    std::fs::create_dir_all(path).doing(|| format!("creating {}", path.display()))
}
