//! What a while between dump and resume does to a program, and what it does not.

use std::process::Command;
use std::time::Duration;

use crate::command;
use crate::process::{self, Kind, Outcome};
use crate::scratch;
use crate::victims::{resume_with, Mode, Victim};
use crate::Case;

/// More than the second that the victims look for.
const WHILE: Duration = Duration::from_millis(1500);

/// All cases.
pub fn cases() -> Vec<Case> {
    let case = |name: &str, root: bool, body: fn() -> Outcome| {
        Case::new(format!("pause::{name}"), root, body)
    };
    vec![
        case("monotonic_root", true, || paused("monotonic", "pause", Mode::Root)),
        case("monotonic_user", false, || paused("monotonic", "pause", Mode::User)),
        case("monotonic_beside_another", true, monotonic_beside_another),
        case("monotonic_jump_is_said", false, || paused("monotonic", "", Mode::NewPid)),
        case("rseq_root", true, || paused("rseq", "", Mode::Root)),
        case("rseq_user", false, || paused("rseq", "", Mode::User)),
    ]
}

fn paused(victim: &str, word: &str, mode: Mode) -> Outcome {
    let dir = scratch::directory("pause", mode.uid()).map_err(|e| e.to_string())?;
    let image = dir.join("resume.elf");
    let mut command = Command::new(Victim::named(victim)?.program());
    command::as_user(&mut command, mode.uid());
    command.current_dir(&dir).arg(word);
    let mut process = process::start(command, Kind::Pipes, &dir)?;
    process.expect("READY")?;
    command::dump(process.pid, &image, mode.uid(), &[])?;
    command::gone(&mut process)?;
    // That time passes is what is tried.
    std::thread::sleep(WHILE);
    let options: &[&str] = if mode == Mode::NewPid { &["--new-pid"] } else { &[] };
    let mut process = resume_with(mode, &image, &dir, Kind::Pipes, options)?;
    if mode == Mode::NewPid {
        process.expect("CLOCK_MONOTONIC jumps")?;
        return process.end();
    }
    process.verify()
}

/// Root tries the original pid first, and makes a namespace when that is taken.
fn monotonic_beside_another() -> Outcome {
    let dir = scratch::directory("beside", None).map_err(|e| e.to_string())?;
    let image = dir.join("resume.elf");
    let mut command = Command::new(Victim::named("monotonic")?.program());
    command::as_user(&mut command, None);
    command.current_dir(&dir).arg("pause");
    let mut left = process::start(command, Kind::Pipes, &dir)?;
    left.expect("READY")?;
    command::dump(left.pid, &image, None, &["--leave-running"])?;
    // That time passes is what is tried.
    std::thread::sleep(WHILE);
    resume_with(Mode::Root, &image, &dir, Kind::Pipes, &[])?.verify()?;
    left.end()
}
