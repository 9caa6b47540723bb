//! A shell that gives its job the terminal after the resumed program got it already, as bash can
//! on a busy machine: the program must not be stopped for that.

use std::path::Path;
use std::process::Command;

use crate::command;
use crate::process::{self, Kind, Outcome, Process};
use crate::scratch;
use crate::victims::{Mode, Victim};
use crate::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("slow_shell::root", true, || gives_late(Mode::Root)),
        Case::new("slow_shell::user", false, || gives_late(Mode::User)),
    ]
}

fn shell(mode: Mode, dir: &Path, program: &Path, when: &str) -> Outcome<Process> {
    let mut command = Command::new(Victim::named("slow_shell")?.program());
    command::as_user(&mut command, mode.uid());
    command.arg(program).arg(when).current_dir(dir);
    process::start(command, Kind::Pty, dir)
}

fn gives_late(mode: Mode) -> Outcome {
    let dir = scratch::directory("slow-shell", mode.uid()).map_err(|e| e.to_string())?;
    let image = dir.join("resume.elf");
    let mut outer = shell(mode, &dir, &Victim::named("terminal")?.program(), "once")?;
    outer.expect("READY")?;
    let [job] = process::children(outer.pid)[..] else {
        return Err("the shell has not one job".to_owned());
    };
    command::dump(job, &image, mode.uid(), &[])?;
    outer.exit_code(128 + libc::SIGKILL)?;

    let mut outer = shell(mode, &dir, &image, "late")?;
    outer.expect("LATE")?;
    outer.ping()?;
    outer.send("group")?;
    outer.expect("GROUP foreground")?;
    outer.send("quit 7")?;
    outer.exit_code(7)
}
