//! suspend-api, built and installed for the victims that want to be asked.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::process::Outcome;
use crate::scratch;

fn cargo(words: &[&str]) -> Outcome {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(scratch::sources()).args(words);
    // A nested cargo is not to take our variables for its own.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_MANIFEST_")
            || text.starts_with("CARGO_BIN_")
        {
            command.env_remove(&name);
        }
    }
    let done = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}:\n{}", String::from_utf8_lossy(&done.stderr)))
}

/// Where the C library is installed, as `cargo xtask library` does it.
pub fn installed() -> Outcome<&'static Path> {
    static PREFIX: OnceLock<Outcome<PathBuf>> = OnceLock::new();
    let made = PREFIX.get_or_init(|| {
        let prefix = scratch::root().join("suspend");
        let text = prefix.display().to_string();
        cargo(&["run", "--locked", "--quiet", "-p", "xtask", "--", "library", "--prefix", &text])?;
        Ok(prefix)
    });
    made.as_deref().map_err(Clone::clone)
}

/// The compiler's arguments for a C or C++ program; `shared` for the shared library.
pub fn for_c(shared: bool) -> Outcome<Vec<String>> {
    let prefix = installed()?;
    let lib = prefix.join("lib");
    let mut words = vec![format!("-I{}", prefix.join("include").display())];
    if shared {
        let lib = lib.display();
        words.extend([format!("-L{lib}"), format!("-Wl,-rpath,{lib}"), "-lsuspend".into()]);
    } else {
        words.push(lib.join("libsuspend.a").display().to_string());
    }
    Ok(words)
}

/// The compiler's arguments for a Rust program.
pub fn for_rust() -> Outcome<Vec<String>> {
    static BUILT: OnceLock<Outcome> = OnceLock::new();
    let program = Path::new(env!("CARGO_BIN_EXE_dumper"));
    let built = program.parent().unwrap_or(Path::new("."));
    // Into the folder that the dumper lies in: `cargo xtask soak` tests what is optimised.
    let profile = if built.ends_with("release") { "release" } else { "dev" };
    let words = ["build", "--locked", "--quiet", "-p", "suspend-api", "--profile", profile];
    BUILT.get_or_init(|| cargo(&words)).clone()?;
    Ok(vec![
        "--extern".into(),
        format!("suspend_api={}", built.join("libsuspend_api.rlib").display()),
        "-L".into(),
        format!("dependency={}", built.join("deps").display()),
    ])
}
