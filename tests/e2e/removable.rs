//! `--copy-all`: the medium that the image lies on can go while the program runs.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::mounts::Mount;
use crate::process::{self, Kind, Outcome, Process};
use crate::scratch;
use crate::victims::{resume_with, Mode, Victim};
use crate::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    let of = |victim: &'static str, mode| move || unmounted(victim, mode);
    vec![
        Case::new("removable::root", true, of("plain", Mode::Root)),
        Case::new("removable::user", true, of("plain", Mode::User)),
        Case::new("removable::newpid", true, of("plain", Mode::NewPid)),
        Case::new("removable::tree", true, of("tree", Mode::Root)),
        Case::new("removable::itself", true, of("itself", Mode::Root)),
        Case::new("removable::busy", true, busy),
        Case::new("removable::memory", true, memory),
    ]
}

/// Dumped to a file system of its own and resumed from there, which can then be unmounted; a second
/// time from an image of the process that came out of it.
fn unmounted(victim: &str, mode: Mode) -> Outcome {
    let dir = scratch::directory("removable", mode.uid()).map_err(|e| e.to_string())?;
    let (stick, image) = stick(&dir)?;
    let mut process = Victim::named(victim)?.start(mode, &dir)?;
    for _ in 0..2 {
        let mount = Mount::tmpfs(&stick, 0, c"mode=777")?;
        command::dump(process.pid, &image, mode.uid(), &[])?;
        command::gone(&mut process)?;
        process = resume(mode, &image, &dir, &["--copy-all"])?;
        mount.take_away()?;
        process.ping()?;
    }
    process.verify()
}

/// What the test above would see if the option did nothing.
fn busy() -> Outcome {
    let dir = scratch::directory("busy", None).map_err(|e| e.to_string())?;
    let (stick, image) = stick(&dir)?;
    let mut process = Victim::named("plain")?.start(Mode::Root, &dir)?;
    let mount = Mount::tmpfs(&stick, 0, c"mode=777")?;
    command::dump(process.pid, &image, None, &[])?;
    command::gone(&mut process)?;
    process = resume(Mode::Root, &image, &dir, &[])?;
    match mount.take_away() {
        Ok(()) => Err("without --copy-all nothing keeps the medium busy".to_owned()),
        Err(_) => process.verify(),
    }
}

/// The copy's memory is given back once the program has its own.
fn memory() -> Outcome {
    for mode in [Mode::Root, Mode::NewPid] {
        let dir = scratch::directory("copied", mode.uid()).map_err(|e| e.to_string())?;
        let image = dir.join("resume.elf");
        let mut command = Command::new(Victim::named("big")?.program());
        command::as_user(&mut command, mode.uid());
        let mut process = process::start(command, Kind::Pipes, &dir)?;
        process.expect("READY")?;
        command::dump(process.pid, &image, mode.uid(), &[])?;
        command::gone(&mut process)?;
        let size = fs::metadata(&image).map_err(|e| e.to_string())?.len();
        process = resume(mode, &image, &dir, &["--copy-all"])?;
        let copy = fs::metadata(format!("/proc/{}/exe", process.pid)).map_err(|e| e.to_string())?;
        let held = copy.st_blocks() * 512;
        if copy.len() != size || size < 32 << 20 || held > 1 << 20 {
            return Err(format!("{mode:?}: of a copy of {size} bytes {held} are held"));
        }
        process.verify()?;
    }
    Ok(())
}

fn stick(dir: &Path) -> Outcome<(PathBuf, PathBuf)> {
    let stick = dir.join("stick");
    fs::create_dir(&stick).map_err(|e| e.to_string())?;
    let image = stick.join("resume.elf");
    Ok((stick, image))
}

/// Comes back when the program runs.
fn resume(mode: Mode, image: &Path, dir: &Path, options: &[&str]) -> Outcome<Process> {
    let mut options = options.to_vec();
    if mode == Mode::NewPid {
        options.push("--new-pid");
    }
    let mut process = resume_with(mode, image, dir, Kind::Pipes, &options)?;
    process.ping()?;
    Ok(process)
}
