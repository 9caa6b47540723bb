//! The bag that is carried between machines: a folder of the host, seen by a guest over 9p while it
//! is mounted there.
//!
//! It holds the images of those who travel that way, and below `tools` the dumper and the victims
//! with all they need, for the machines that dump.

use crate::failure::{ensure, Doing, Outcome};
use crate::tools;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The victims that travel.
pub const VICTIMS: [&str; 10] = [
    "journey",
    "registers",
    "threads8",
    "vdso",
    "files",
    "interrupted",
    "plain",
    "big",
    "two_inputs",
    "consent",
];

/// Where a Python is, for a script that needs nothing but its own library.
pub const PYTHON: &str = "/usr/bin/python3";

/// The dumper, the victims and their libraries, at the places where a guest's root shall have them.
pub fn pack(to: &Path, source: &Path, target: &Path) -> Outcome<()> {
    let bin = to.join("bin");
    tools::folder(&bin)?;
    let dumper = if let Some(path) = std::env::var_os("DUMPER_BIN") {
        PathBuf::from(path)
    } else {
        tools::run(
            Command::new(tools::cargo())
                .args(["build", "-q", "--locked", "-p", "host-dumper", "--bin", "dumper"])
                .current_dir(source),
        )?;
        target.join("debug/dumper")
    };
    // Tens of MiB of line tables have no place in a guest's memory.
    tools::run(Command::new("strip").arg("-o").arg(bin.join("dumper")).arg(dumper))?;
    let mut programs = vec![bin.join("dumper")];
    for name in VICTIMS {
        programs.push(build_victim(source, name, &bin)?);
    }
    copy_libraries(&programs, to)
}

/// A victim that runs on pipes.
pub struct Victim {
    /// Its name, for the length of the run.
    pub name: &'static str,
    /// The modes that it is for.
    pub modes: Vec<String>,
    /// Options for the dumper.
    pub dump: String,
    /// Options for the image.
    pub resume: Vec<String>,
}

/// Builds all victims in C that need no terminal, no library of ours and nobody who stops them.
pub fn pack_victims(to: &Path, source: &Path) -> Outcome<Vec<Victim>> {
    let bin = to.join("bin");
    tools::folder(&bin)?;
    let folder = source.join("tests/victims");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .doing(|| format!("reading {}", folder.display()))?
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".c")?.to_owned()))
        .collect();
    names.sort();
    let (mut victims, mut programs) = (Vec::new(), Vec::new());
    for name in names {
        let text = tools::read(&folder.join(format!("{name}.c")))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let directive = |which: &str| {
            let start = format!("//#{which}:");
            text.lines()
                .find_map(|line| line.strip_prefix(&start))
                .map(|rest| rest.trim().to_owned())
        };
        let elsewhere = directive("Stdio").is_some_and(|kind| kind != "pipes")
            || directive("Before").is_some()
            || directive("Library").is_some();
        let words = |text: String| text.split_ascii_whitespace().map(str::to_owned).collect();
        let modes: Vec<String> =
            words(directive("Modes").unwrap_or_else(|| "root user newpid".to_owned()));
        if elsewhere || modes == ["none"] {
            continue;
        }
        let program = build_victim(source, &name, &bin)?;
        if !directive("Flags").is_some_and(|flags| flags.contains("-static")) {
            programs.push(program);
        }
        victims.push(Victim {
            name: name.leak(),
            modes,
            dump: directive("Dump").unwrap_or_default(),
            resume: words(directive("Resume").unwrap_or_default()),
        });
    }
    copy_libraries(&programs, to)?;
    Ok(victims)
}

fn copy_libraries(programs: &[PathBuf], to: &Path) -> Outcome<()> {
    for program in programs {
        for library in libraries(program)? {
            copy(&library, to)?;
        }
    }
    Ok(())
}

/// Builds a victim of the end-to-end tests as they do.
fn build_victim(source: &Path, name: &str, bin: &Path) -> Outcome<PathBuf> {
    let folder = source.join("tests/victims");
    let (file, compiler) = match folder.join(format!("{name}.c")) {
        file if file.exists() => (file, "cc"),
        _ => (folder.join(format!("{name}.cc")), "g++"),
    };
    let text = String::from_utf8_lossy(&tools::read(&file)?).into_owned();
    let flags = text.lines().find_map(|line| line.strip_prefix("//#Flags:")).unwrap_or_default();
    let program = bin.join(name);
    let mut command = Command::new(compiler);
    command.args(["-O2", "-pthread", "-o"]).arg(&program).arg(&file);
    command.args(flags.split_ascii_whitespace());
    if text.contains("\n//#Library: suspend\n") {
        let library = bin.with_file_name("suspend");
        tools::run(
            Command::new(tools::cargo())
                .args(["run", "-q", "--locked", "-p", "xtask", "--", "library", "--prefix"])
                .arg(&library)
                .current_dir(source),
        )?;
        command.arg("-I").arg(library.join("include")).arg(library.join("lib/libsuspend.a"));
        tools::run(&mut command)?;
        // No part of what the machines get.
        std::fs::remove_dir_all(&library).doing(|| format!("removing {}", library.display()))?;
    } else {
        tools::run(&mut command)?;
    }
    Ok(program)
}

/// What a program is linked with, the dynamic loader included.
fn libraries(program: &Path) -> Outcome<Vec<PathBuf>> {
    let text = tools::run(Command::new("ldd").arg(program))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    ensure(!text.contains("not found"), || format!("ldd: {text}"))?;
    let path = |line: &str| {
        line.split_ascii_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from)
    };
    Ok(text.lines().filter_map(path).collect())
}

/// An interpreter, the travelling script, and those parts of the library that it uses; what is
/// loaded while it runs has libraries of its own.
pub fn pack_python(to: &Path, source: &Path) -> Outcome<()> {
    const LIST: &str = "import sys, runpy, hashlib, threading, encodings.utf_8\n\
        for module in list(sys.modules.values()):\n\
        \x20   for name in ('__file__', '__cached__'):\n\
        \x20       print(getattr(module, name, None) or '')";
    let script = source.join("tests/victims/digest.py");
    copy_as(&script, &to.join("bin/digest.py"))?;
    let text = tools::run(Command::new(PYTHON).args(["-I", "-S", "-c", LIST]))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut programs = vec![PathBuf::from(PYTHON)];
    for path in text.lines().map(Path::new).filter(|path| path.exists()) {
        copy(path, to)?;
        if path.extension().is_some_and(|extension| extension == "so") {
            programs.push(path.to_owned());
        }
    }
    copy(Path::new(PYTHON), to)?;
    copy_libraries(&programs, to)
}

/// Copies a file of the host to the same place below `to`, unless it is there.
fn copy(file: &Path, to: &Path) -> Outcome<()> {
    let place = to.join(file.strip_prefix("/").unwrap_or(file));
    if place.exists() {
        return Ok(());
    }
    copy_as(file, &place)
}

fn copy_as(file: &Path, place: &Path) -> Outcome<()> {
    if let Some(folder) = place.parent() {
        tools::folder(folder)?;
    }
    std::fs::copy(file, place).map(|_| ()).doing(|| format!("copying {}", file.display()))
}
