//! `cargo xtask library`: builds suspend-api for C programs and installs it.
//!
//! Cargo's static library holds everything that Rust could need; what this one does need is linked
//! into one object, of which only the functions of suspend.h are visible.

use crate::{cargo, packages, Failure};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Interface version of the shared library.
const SONAME: &str = "libsuspend.so.0";
/// Cargo's arguments but for the kind of library; it is built apart from the workspace's features.
const BUILD: [&str; 10] = [
    "rustc",
    "--locked",
    "--quiet",
    "--package=suspend-api",
    "--lib",
    "--profile=c-library",
    "--no-default-features",
    "--features=c-library",
    "--target-dir",
    "--crate-type",
];

/// Arguments of `library`.
#[derive(Args)]
pub struct Options {
    /// Where include/, lib/ and share/man/ are; target/suspend without it
    #[arg(long)]
    prefix: Option<PathBuf>,
}

/// Builds and installs.
pub fn run(options: &Options) -> Result<(), Failure> {
    packages::install(&[packages::COMPILERS])?;
    let prefix = match &options.prefix {
        Some(prefix) => std::path::absolute(prefix)?,
        None => cargo::target().join("suspend"),
    };
    install(&prefix)?;
    println!("installed in {}", prefix.display());
    Ok(())
}

/// Builds and installs below `prefix`.
pub fn install(prefix: &Path) -> Result<(), Failure> {
    let sources = cargo::root().join("suspend-api");
    let (include, lib, man) =
        (prefix.join("include"), prefix.join("lib"), prefix.join("share/man/man3"));
    for dir in [&include, &lib.join("pkgconfig"), &man] {
        fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    let header = sources.join("include/suspend.h");
    let functions = functions(&fs::read_to_string(&header)?);
    fs::copy(&header, include.join("suspend.h"))?;
    fs::copy(sources.join("man/suspend.3"), man.join("suspend.3"))?;
    fs::write(lib.join("pkgconfig/suspend.pc"), pkgconfig(prefix))?;
    let built = cargo::target().join("library");
    archive(&build("staticlib", &[], &built)?, &functions, &lib, &built)?;
    let soname = format!("-Clink-arg=-Wl,-soname,{SONAME}");
    // Handlers, a thread and a destructor of thread data point into it: dlclose must not unmap it.
    let shared = build("cdylib", &[&soname, "-Clink-arg=-Wl,-z,nodelete"], &built)?;
    let full = lib.join(format!("{SONAME}.1.0"));
    fs::copy(shared, &full)?;
    for name in [SONAME, "libsuspend.so"] {
        let link = lib.join(name);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(full.file_name().unwrap_or_default(), &link)?;
    }
    Ok(())
}

/// Builds one kind of library; gives its file.
fn build(kind: &str, flags: &[&str], built: &Path) -> Result<PathBuf, Failure> {
    let mut command = cargo::command(&BUILD[..9]);
    command.arg(built).args([BUILD[9], kind, "--"]).args(flags);
    // The workspace's path is nobody's business who links with the library.
    command.arg(format!("--remap-path-prefix={}=.", cargo::root().display()));
    let status = command.status()?;
    if !status.success() {
        return Err(format!("building suspend-api as {kind} failed ({status})").into());
    }
    let name = if kind == "cdylib" { "libsuspend_api.so" } else { "libsuspend_api.a" };
    Ok(built.join("c-library").join(name))
}

/// One object of what is needed, in an archive.
fn archive(from: &Path, functions: &[String], lib: &Path, work: &Path) -> Result<(), Failure> {
    let object = work.join("suspend.o");
    let mut link = Command::new("ld");
    link.arg("-r").arg("-o").arg(&object);
    for function in functions {
        link.args(["-u", function]);
    }
    tool(link.arg(from))?;
    let mut hide = Command::new("objcopy");
    hide.args(["--strip-unneeded"]);
    for function in functions {
        hide.arg(format!("--keep-global-symbol={function}"));
    }
    tool(hide.arg(&object))?;
    let archive = lib.join("libsuspend.a");
    let _ = fs::remove_file(&archive);
    tool(Command::new("ar").arg("crs").arg(&archive).arg(&object))
}

fn tool(command: &mut Command) -> Result<(), Failure> {
    let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?} failed ({status})").into())
    }
}

/// The functions that a header declares: a name of ours at the beginning of a declaration.
fn functions(header: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in header.lines().filter(|l| !l.starts_with([' ', '\t', '#', '/'])) {
        let Some(at) = line.find("suspend_").filter(|_| line.contains('(')) else { continue };
        let name: String =
            line[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        if line[at + name.len()..].starts_with('(') {
            found.push(name);
        }
    }
    found
}

fn pkgconfig(prefix: &Path) -> String {
    format!(
        "prefix={}\n\
         includedir=${{prefix}}/include\n\
         libdir=${{prefix}}/lib\n\
         \n\
         Name: suspend\n\
         Description: for programs that want a say in their suspension by dumper\n\
         Version: {}\n\
         Cflags: -I${{includedir}} -pthread\n\
         Libs: -L${{libdir}} -lsuspend -pthread\n",
        prefix.display(),
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_found() {
        let header = fs::read_to_string(cargo::root().join("suspend-api/include/suspend.h"));
        assert_eq!(
            functions(&header.unwrap_or_default()),
            [
                "suspend_init",
                "suspend_register",
                "suspend_unregister",
                "suspend_hold",
                "suspend_release",
                "suspend_hold_for",
                "suspend_try_hold",
                "suspend_self",
                "suspend_error"
            ]
        );
    }
}
