//! Programs that suspend themselves.

use std::fs;

use super::{Row, Stage};
use crate::command;
use crate::process::{Kind, Outcome};
use crate::victims::{resume_with, until};

/// The cases.
pub const CASES: &[Row] = &[
    ("suspends_itself_c", false, || suspends_itself("consent", &[])),
    ("suspends_itself_cc", false, || suspends_itself("consent_cc", &[])),
    ("suspends_itself_rs", false, || suspends_itself("consent_rs", &[])),
    ("suspends_itself_handler", false, || suspends_itself("consent_handler", &[])),
    ("suspends_itself_subreaper", false, || suspends_itself("consent", &["subreaper"])),
    ("suspends_itself_subreaper_handler", false, || {
        suspends_itself("consent_handler", &["subreaper"])
    }),
    ("suspends_itself_and_stays_c", false, || suspends_itself_and_stays("consent", &[])),
    ("suspends_itself_and_stays_cc", false, || suspends_itself_and_stays("consent_cc", &[])),
    ("suspends_itself_and_stays_rs", false, || suspends_itself_and_stays("consent_rs", &[])),
    ("suspends_itself_and_stays_handler", false, || {
        suspends_itself_and_stays("consent_handler", &[])
    }),
    ("suspends_itself_and_stays_subreaper", false, || {
        suspends_itself_and_stays("consent", &["subreaper"])
    }),
    ("suspends_itself_and_stays_subreaper_handler", false, || {
        suspends_itself_and_stays("consent_handler", &["subreaper"])
    }),
    ("suspends_itself_in_vain", false, suspends_itself_in_vain),
];

/// Twice, each time out of what the image before brought back.
fn suspends_itself(victim: &str, words: &[&str]) -> Outcome {
    let mut stage = Stage::new(victim, words)?;
    for round in 1..=2 {
        stage.process.send(&format!("self own{round}.elf"))?;
        command::gone(&mut stage.process)?;
        let image = stage.dir.join(format!("own{round}.elf"));
        // Nobody waits for that dumper, which closes the image a moment later.
        until("the image to be closed", || {
            let resumed = resume_with(stage.mode, &image, &stage.dir, Kind::Pipes, &[]);
            resumed.map(|process| stage.process = process).is_ok()
        })?;
        stage.process.expect("SELF 1\n")?;
        stage.process.ping()?;
    }
    stage.logs(" Bs As A1 B1 Bs As A1 B1")?;
    no_children(&mut stage, words)?;
    stage.process.verify()
}

/// Twice; each image brings back another one that knows which side it is on.
fn suspends_itself_and_stays(victim: &str, words: &[&str]) -> Outcome {
    let mut stage = Stage::new(victim, words)?;
    let mut log = String::new();
    for round in 1..=2 {
        let name = format!("own{round}.elf");
        stage.ask(&format!("left {name}"), "SELF 0\n")?;
        let image = stage.dir.join(&name);
        let options = ["--new-pid"];
        let mut other = resume_with(stage.mode, &image, &stage.dir, Kind::Pipes, &options)?;
        other.expect("SELF 1\n")?;
        // The image has what was noted before, and its own end of it.
        other.send("log")?;
        other.expect(&format!("LOG{log} Bs As A1 B1."))?;
        other.verify()?;
        log.push_str(" Bs As A2 B2");
        stage.logs(&log)?;
    }
    no_children(&mut stage, words)?;
    stage.process.verify()
}

/// A subreaper gets orphans for children: the dumper is collected.
fn no_children(stage: &mut Stage, words: &[&str]) -> Outcome {
    if words == ["subreaper"] {
        stage.ask("children", "CHILDREN 0")?;
    }
    Ok(())
}

fn suspends_itself_in_vain() -> Outcome {
    let mut stage = Stage::new("consent", &[])?;
    fs::write(stage.dir.join("there.elf"), "kept").map_err(|e| e.to_string())?;
    stage.ask("left there.elf", "SELF -1 ")?;
    stage.process.expect("exists")?;
    stage.ask("veto", "DONE")?;
    stage.ask("self own.elf", "SELF -1 a transaction is open")?;
    stage.ask("refuse", "DONE")?;
    stage.ask("self own.elf", "SELF -1 it was called in a section")?;
    stage.ask("release", "DONE")?;
    stage.ask("lost", "DONE")?;
    stage.ask("self own.elf", "SELF -1 dumper cannot be started")?;
    stage.process.ping()
}
