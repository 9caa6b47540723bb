//! An image changes hands: dumped by one user, resumed by another.

use std::fs;
use std::os::unix::fs::chown;

use crate::command;
use crate::network;
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
        Case::new("users::owners", true, || taken_over("owners")),
        Case::new("users::ports", true, || network::alone(|| taken_over("socket_groups"))),
        Case::new("users::socket_files", true, || taken_over("socket_places")),
        Case::new("users::terminals", true, || taken_over("pty_pairs")),
    ]
}

/// A user's program is resumed by root, then by the user, and by root once more.
fn taken_over(victim: &str) -> Outcome {
    let victim = Victim::named(victim)?;
    let dir = scratch::directory("over", Mode::User.uid()).map_err(|e| e.to_string())?;
    let mut process = victim.start(Mode::User, &dir)?;
    for (round, to) in [Mode::Root, Mode::User, Mode::Root].into_iter().enumerate() {
        let tag = |e: String| format!("round {round}: {e}");
        let image = dir.join(format!("resume{round}.elf"));
        command::dump(process.pid, &image, None, &[]).map_err(tag)?;
        command::gone(&mut process).map_err(tag)?;
        chown(&image, to.uid(), to.uid()).map_err(|e| e.to_string())?;
        process = victim.resume(to, &image, &dir, &[]).map_err(tag)?;
        process.ping().map_err(tag)?;
    }
    process.verify()
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
