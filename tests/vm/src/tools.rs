//! Programs of the host, run to their end.

use crate::failure::{Doing, Failure, Outcome};
use std::path::{Path, PathBuf};
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

/// Where a program is.
pub fn find(program: &str) -> Outcome<PathBuf> {
    std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).map(|p| p.join(program)).find(|p| p.exists()))
        .ok_or_else(|| Failure(format!("{program} is missing")))
}

/// Fails with a hint where a program is not installed.
pub fn need(program: &str, package: &str) -> Outcome<()> {
    find(program)
        .map(|_| ())
        .map_err(|failure| Failure(format!("{failure}; on Debian: apt-get install {package}")))
}

/// The cargo that runs this program.
pub fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
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
