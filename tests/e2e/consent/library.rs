//! What the built library needs, shows and promises to those who link with it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use goblin::elf::dynamic::{DF_1_NODELETE, DF_1_PIE};
use goblin::elf::Elf;

use super::{Row, Stage};
use crate::command;
use crate::library::installed;
use crate::process::Outcome;
use crate::scratch;

/// The cases.
pub const CASES: &[Row] = &[
    ("library_needs_libc_alone", false, shared_needs),
    ("library_archive_needs_libc_alone", false, archive_needs),
    ("library_stays_loaded", false, stays_loaded),
    ("library_twice", false, twice),
    ("library_manual", false, manual),
];

/// The functions of suspend.h.
const FUNCTIONS: [&str; 9] = [
    "suspend_error",
    "suspend_hold",
    "suspend_hold_for",
    "suspend_init",
    "suspend_register",
    "suspend_release",
    "suspend_self",
    "suspend_try_hold",
    "suspend_unregister",
];

fn read(path: &PathBuf) -> Outcome<Vec<u8>> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, wanted: &T) -> Outcome {
    if found == wanted {
        return Ok(());
    }
    Err(format!("{what}: {found:?}, not {wanted:?}"))
}

fn shared_needs() -> Outcome {
    let bytes = read(&installed()?.join("lib/libsuspend.so"))?;
    let elf = Elf::parse(&bytes).map_err(|e| e.to_string())?;
    same("DT_NEEDED", &elf.libraries, &vec!["libc.so.6"])?;
    same("DT_SONAME", &elf.soname, &Some("libsuspend.so.0"))?;
    let flags = elf.dynamic.as_ref().map_or(0, |d| d.info.flags_1);
    same("flags", &(flags & (DF_1_NODELETE | DF_1_PIE)), &DF_1_NODELETE)?;
    let defined = elf.dynsyms.iter().filter(|s| s.st_name != 0 && !s.is_import());
    let mut shown: Vec<&str> = defined.filter_map(|s| elf.dynstrtab.get_at(s.st_name)).collect();
    shown.sort_unstable();
    same("symbols", &shown, &FUNCTIONS.to_vec())
}

/// What it lacks, the C library has; what others see of it are the functions of the header.
fn archive_needs() -> Outcome {
    let dir = scratch::directory("library", None).map_err(|e| e.to_string())?;
    let mut ar = Command::new("ar");
    ar.current_dir(&dir).arg("x").arg(installed()?.join("lib/libsuspend.a"));
    command::run(&mut ar, &dir)?.expect(0, "ar")?;
    // Its one member.
    let bytes = read(&dir.join("suspend.o"))?;
    let elf = Elf::parse(&bytes).map_err(|e| e.to_string())?;
    let (mut lacks, mut shown) = (BTreeSet::new(), BTreeSet::new());
    for symbol in elf.syms.iter().filter(|s| s.st_name != 0 && s.st_bind() != 0) {
        let name = elf.strtab.get_at(symbol.st_name).unwrap_or_default().to_owned();
        if symbol.st_shndx == 0 { &mut lacks } else { &mut shown }.insert(name);
    }
    same("symbols", &shown.iter().map(String::as_str).collect(), &FUNCTIONS.to_vec())?;
    // Made by the linker, or part of what the C library adds to every program.
    for own in ["_GLOBAL_OFFSET_TABLE_", "pthread_atfork"] {
        lacks.remove(own);
    }
    let done = command::run(Command::new("cc").arg("-print-file-name=libc.so.6"), &dir)?;
    let bytes = read(&PathBuf::from(done.stdout.trim()))?;
    let libc = Elf::parse(&bytes).map_err(|e| e.to_string())?;
    let has: BTreeSet<&str> = libc
        .dynsyms
        .iter()
        .filter(|s| !s.is_import())
        .filter_map(|s| libc.dynstrtab.get_at(s.st_name))
        .collect();
    lacks.retain(|name| !has.contains(name.as_str()));
    same("not in the C library", &lacks, &BTreeSet::new())
}

/// dlclose leaves handlers and thread where they are.
fn stays_loaded() -> Outcome {
    let library = installed()?.join("lib/libsuspend.so.0").display().to_string();
    let mut stage = Stage::new("consent_dl", &[&library])?;
    stage.dump(&["--leave-running", "--force"])?.expect(0, "dump")?;
    stage.logs(" asked 1 event 2")?;
    fs::remove_file(stage.image()).map_err(|e| e.to_string())?;
    stage.travel(&[], &[])?;
    stage.logs(" asked 2 event 1")?;
    stage.process.verify()
}

/// A program and a plugin, each with a library of its own: both are asked.
fn twice() -> Outcome {
    let library = installed()?.join("lib/libsuspend.so.0").display().to_string();
    let mut stage = Stage::new("consent_two", &[&library])?;
    stage.dump(&["--leave-running", "--force"])?.expect(0, "dump")?;
    stage.logs(" 1 1 1 1")?;
    fs::remove_file(stage.image()).map_err(|e| e.to_string())?;
    for _ in 0..2 {
        stage.travel(&[], &[])?;
    }
    stage.logs(" 3 3 3 3")?;
    stage.process.verify()
}

/// The manual is installed, and is one without a warning.
fn manual() -> Outcome {
    let page = installed()?.join("share/man/man3/suspend.3");
    let dir = scratch::directory("manual", None).map_err(|e| e.to_string())?;
    let mut groff = Command::new("groff");
    groff.args(["-man", "-ww", "-Tutf8", "-P-cbou"]).arg(&page);
    let done = command::run(&mut groff, &dir)?.expect(0, "groff")?;
    same("warnings", &done.stderr.as_str(), &"")?;
    // Every function has its place, and errors have theirs.
    match FUNCTIONS
        .iter()
        .chain(&["EALREADY", "EBUSY", "ENOMEM"])
        .find(|f| !done.stdout.contains(**f))
    {
        None => Ok(()),
        Some(missing) => Err(format!("{missing} is not in the manual")),
    }
}
