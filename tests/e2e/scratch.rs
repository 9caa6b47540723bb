//! Directories for single tests, and the programs that all tests share.

use std::fs;
use std::io;
use std::os::unix::fs::{chown, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::OnceLock;
use std::time::Duration;

use crate::reaper::{self, Exit};

/// The user an unprivileged test runs as.
pub const NOBODY: u32 = 65534;

/// The directory of this run; everything the tests make is below it.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("dumper-e2e-{}", std::process::id()));
        fs::create_dir_all(&path).expect("the directory for temporary files can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("own directory");
        path
    })
}

/// Removes the directory of this run.
pub fn clean() {
    let _ = fs::remove_dir_all(root());
}

/// The `dumper` under test, copied to where every user can execute it.
pub fn dumper() -> &'static Path {
    static DUMPER: OnceLock<PathBuf> = OnceLock::new();
    DUMPER.get_or_init(|| {
        let to = root().join("dumper");
        let from = std::env::var_os("DUMPER_BIN")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_dumper")), PathBuf::from);
        fs::copy(&from, &to).expect("the dumper was built");
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).expect("own file");
        to
    })
}

/// How long a copy may take on a busy machine.
const COPYING: Duration = Duration::from_secs(60);

/// Copies a program that is to be executed. Another process does it: a child that some other thread forks
/// meanwhile inherits what is open for writing here until it executes something, and the kernel
/// executes nothing that anyone may write to (ETXTBSY).
pub fn copy_program(from: &Path, to: &Path) -> Result<(), String> {
    let mut cp = Command::new("cp");
    cp.arg("--").args([from, to]);
    let pid = reaper::spawn(&mut cp).map_err(|e| format!("cp: {e}"))?;
    match reaper::wait(pid, COPYING) {
        Some(Exit::Code(0)) => Ok(()),
        other => Err(format!("{cp:?}: {other:?}")),
    }
}

/// A fresh directory that `uid` can write.
pub fn directory(name: &str, uid: Option<u32>) -> io::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = root().join(format!("{number}-{}", name.replace([':', '/'], "-")));
    fs::create_dir(&path)?;
    if let Some(uid) = uid {
        chown(&path, Some(uid), Some(uid))?;
    }
    Ok(path)
}

/// The top of the project's sources.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Whether this process may do everything the tests want.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
