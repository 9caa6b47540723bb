//! Sockets whose address is taken at the resume, and what a dump says of connections that it breaks.

use std::process::Command;

use crate::command;
use crate::network;
use crate::process::{self, Kind, Outcome};
use crate::refusals;
use crate::scratch;
use crate::surroundings;
use crate::victims::{Mode, Victim};
use crate::Case;

/// Exit status of an image that cannot bring its program back.
const FAILED: i32 = 125;

/// All cases.
pub fn cases() -> Vec<Case> {
    let taken = |victim: &'static str, word: &'static str| {
        Case::new(format!("sockets::taken_{victim}"), false, move || {
            network::alone(|| taken(victim, word))
        })
    };
    vec![
        taken("socket_names", "Unix socket that listens at"),
        taken("socket_inet", "TCP socket that listens at"),
        Case::new("sockets::made_by_a_strange_command", false, made_by_a_strange_command),
        Case::new("sockets::reset_is_said", false, reset_is_said),
        Case::new("sockets::lost_packets_are_said", true, || {
            loss_is_said(None, "raw-waiting", "packets that wait in raw socket ")
        }),
        Case::new("sockets::lost_connections_are_said", false, || {
            loss_is_said(Mode::User.uid(), "connection-waiting", "1 connections that wait at ")
        }),
        Case::new("sockets::lost_events_are_said", false, || {
            loss_is_said(
                Mode::User.uid(),
                "events-waiting",
                "bytes of events that were not read are lost",
            )
        }),
        Case::new("sockets::owners_outside_are_said", false, || {
            loss_is_said(
                Mode::User.uid(),
                "owner-outside",
                "is told by signals of what comes there",
            )
        }),
        Case::new("sockets::held_output_is_said", false, || {
            loss_is_said(Mode::User.uid(), "terminal-held", "the output of this terminal is held")
        }),
        Case::new("sockets::a_line_not_looked_for_is_said", false, || {
            loss_is_said(Mode::User.uid(), "terminal-async", "is lost, if there is one")
        }),
    ]
}

/// The program runs on while its image is tried: the image fails, and disturbs nothing.
fn taken(victim: &str, word: &str) -> Outcome {
    let uid = Mode::User.uid();
    let dir = scratch::directory("taken", uid).map_err(|e| e.to_string())?;
    let mut process = Victim::named(victim)?.start(Mode::User, &dir)?;
    let image = dir.join("resume.elf");
    command::dump(process.pid, &image, uid, &["--leave-running"])?;
    for options in [&["--new-pid"][..], &[]] {
        let mut command = Command::new(&image);
        command::as_user(&mut command, uid);
        command.current_dir(&dir).args(options);
        let done = command::run(&mut command, &dir)?.expect(FAILED, "resume")?;
        done.says(word)?;
        done.says("EADDRINUSE")?;
        process.ping()?;
    }
    process.verify()
}

/// A socket file that its user may not write to, as the command's umask would have it, can't be
/// connected to.
fn made_by_a_strange_command() -> Outcome {
    let uid = Mode::User.uid();
    let dir = scratch::directory("strange", uid).map_err(|e| e.to_string())?;
    let mut process = Victim::named("socket_names")?.start(Mode::User, &dir)?;
    let image = dir.join("resume.elf");
    command::dump(process.pid, &image, uid, &[])?;
    command::gone(&mut process)?;
    let mut command = Command::new(&image);
    command::as_user(&mut command, uid);
    command.current_dir(&dir).arg("--new-pid");
    surroundings::strange(&mut command);
    process::start(command, Kind::Pipes, &dir)?.verify()
}

fn reset_is_said() -> Outcome {
    let uid = Mode::User.uid();
    let dir = scratch::directory("reset", uid).map_err(|e| e.to_string())?;
    let process = Victim::named("socket_outside")?.start(Mode::User, &dir)?;
    let options = ["--external-sockets", "close"];
    let done = command::dump(process.pid, &dir.join("resume.elf"), uid, &options)?;
    done.says("connected with 127.0.0.1:")?;
    done.says("connected with process")?;
    done.says("(outsider)")
}

/// What waits to be received and can only be read by taking it: said without being asked.
fn loss_is_said(uid: Option<u32>, state: &str, words: &str) -> Outcome {
    let dir = scratch::directory("loss", uid).map_err(|e| e.to_string())?;
    let process = refusals::start(&[state], uid, &dir)?;
    let image = dir.join("resume.elf");
    command::dump(process.pid, &image, uid, &["--leave-running"])?.says(words)?;
    std::fs::remove_file(&image).map_err(|e| e.to_string())?;
    command::dump(process.pid, &image, uid, &[])?.says(words)
}
