//! An image changes hands: dumped by one user, resumed by another.

use std::fs;
use std::os::unix::fs::chown;

use crate::command;
use crate::process::{self, Kind, Outcome, Process};
use crate::scratch::{self, NOBODY};
use crate::victims::{resume_with, Mode, Victim};
use crate::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("users::root_to_user", true, || {
            let (mut supervisor, program) = handed_on(Mode::Root, Mode::User)?;
            let note = format!("note: the program was user 0; it has the rights of user {NOBODY}");
            if !supervisor.seen().contains(&note) {
                return Err(format!("no {note:?} in {:?}", supervisor.seen()));
            }
            // Its namespace shows the program root, and us the user.
            has_uid(program, NOBODY)?;
            supervisor.verify()
        }),
        Case::new("users::user_to_root", true, || {
            let (mut supervisor, program) = handed_on(Mode::User, Mode::Root)?;
            if supervisor.seen().contains("note:") {
                return Err(format!("a note where nothing is amiss: {:?}", supervisor.seen()));
            }
            has_uid(program, NOBODY)?;
            supervisor.verify()
        }),
    ]
}

/// Comes back when the program runs again, which `to` resumed.
fn handed_on(from: Mode, to: Mode) -> Outcome<(Process, i32)> {
    let dir = scratch::directory("users", from.uid()).map_err(|e| e.to_string())?;
    let image = dir.join("resume.elf");
    let mut process = Victim::named("plain")?.start(from, &dir)?;
    command::dump(process.pid, &image, from.uid(), &[])?;
    command::gone(&mut process)?;
    for path in [&dir, &image] {
        chown(path, to.uid(), to.uid()).map_err(|e| e.to_string())?;
    }
    let mut supervisor = resume_with(to, &image, &dir, Kind::Pipes, &[])?;
    supervisor.ping()?;
    let program = process::children(supervisor.pid).into_iter().find(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() != "resume-init"
    });
    Ok((supervisor, program.ok_or("the supervisor has no program")?))
}

fn has_uid(pid: i32, uid: u32) -> Outcome {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|e| e.to_string())?;
    let line = status.lines().find(|line| line.starts_with("Uid:")).unwrap_or_default();
    if line.split_ascii_whitespace().nth(1) == Some(&uid.to_string()) {
        return Ok(());
    }
    Err(format!("the program has {line:?}, wanted {uid}"))
}
