//! The workspace and the running of cargo in it.

use std::path::Path;
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
