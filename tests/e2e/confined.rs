//! Resumes where little is permitted: an unprivileged user in a root directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::process::{self, Kind, Outcome};
use crate::refusals::nobody_left;
use crate::scratch::{self, NOBODY};
use crate::victims::{Mode, Victim};
use crate::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("confined::original_pid", true, original_pid),
        Case::new("confined::new_pid", true, new_pid),
    ]
}

/// A root directory that holds an image and nothing else.
fn root_with_image(name: &str) -> Outcome<(PathBuf, PathBuf)> {
    let dir = scratch::directory(name, Some(NOBODY)).map_err(|e| e.to_string())?;
    let mut process = Victim::named("plain")?.start(Mode::User, &dir)?;
    let root = dir.join("root");
    fs::create_dir(&root).map_err(|e| e.to_string())?;
    let image = dir.join("resume.elf");
    command::dump(process.pid, &image, Some(NOBODY), &[])?;
    command::gone(&mut process)?;
    let inside = root.join("resume.elf");
    scratch::copy_program(&image, &inside)?;
    std::os::unix::fs::chown(&inside, Some(NOBODY), Some(NOBODY)).map_err(|e| e.to_string())?;
    Ok((dir, root))
}

fn confined(root: &Path, options: &[&str]) -> Command {
    let mut command = Command::new("/resume.elf");
    command.args(options).env_clear();
    command::confine(&mut command, root.to_path_buf(), Some(NOBODY));
    command
}

/// The kernel gives no user namespace inside a chroot (current_chrooted in create_user_ns), so the
/// original pid cannot be had: that is said, with the way out.
fn original_pid() -> Outcome {
    let (dir, root) = root_with_image("confined")?;
    for (options, advice) in [(&[][..], "--new-pid"), (&["--same-pid"], "leave --same-pid out")] {
        let done = command::run(&mut confined(&root, options), &dir)?;
        let done = done.expect(125, "resume in a chroot without privilege")?;
        nobody_left(&dir)?;
        if !done.stdout.is_empty() || !done.stderr.contains(advice) {
            return Err(done.tell());
        }
    }
    Ok(())
}

fn new_pid() -> Outcome {
    let (dir, root) = root_with_image("confined-new")?;
    let mut process = process::start(confined(&root, &["--new-pid"]), Kind::Pipes, &dir)?;
    process.ping()?;
    process.verify()
}
