//! Trees: every process that opted in is asked, children before parents.

use std::fs;

use super::{Row, Stage, NOT_OPTED_IN, VETO};
use crate::command;
use crate::process::{Kind, Outcome};
use crate::victims::{resume_with, until};

/// The cases.
pub const CASES: &[Row] = &[
    ("tree_in_order", false, tree_in_order),
    ("tree_vetoed", false, tree_vetoed),
    ("tree_of_some", false, tree_of_some),
    ("tree_loses_one", false, tree_loses_one),
];

fn tree_in_order() -> Outcome {
    let mut stage = Stage::new("consent", &["tree"])?;
    stage.dump(&["--leave-running", "--force"])?.expect(0, "dump")?;
    fs::remove_file(stage.image()).map_err(|e| e.to_string())?;
    tree_notes(&mut stage, "log", 0, &["gscsps", "g2", "c2", "p2"])?;
    stage.dump(&["--consent", "require"])?.expect(0, "dump")?;
    command::gone(&mut stage.process)?;
    let image = stage.image();
    stage.process = resume_with(stage.mode, &image, &stage.dir, Kind::Pipes, &[])?;
    tree_notes(&mut stage, "log", 12, &["gscsps", "g1", "c1", "p1"])?;
    stage.process.verify()
}

/// From `from` on, the members of the tree note these: the first first, the others in any order.
fn tree_notes(stage: &mut Stage, line: &str, from: usize, wanted: &[&str]) -> Outcome {
    let (mut all, process) = (String::new(), &mut stage.process);
    let len = from + wanted.iter().map(|w| w.len()).sum::<usize>();
    until("the tree to be told", || {
        let asked = process.send(line).and_then(|()| process.expect("LOG ").map(drop));
        all = asked.and_then(|()| process.expect(".")).unwrap_or_else(|e| e);
        all.len() >= len
    })
    .map_err(|e| format!("{e}; it noted {all:?}"))?;
    let new = all.get(from..).unwrap_or_default();
    let good = all.len() == len && wanted.iter().all(|w| new.contains(w));
    if good && new.starts_with(wanted[0]) {
        return Ok(());
    }
    Err(format!("the tree noted {all:?}"))
}

fn tree_vetoed() -> Outcome {
    let mut stage = Stage::new("consent", &["tree"])?;
    stage.ask("veto", "LOG .")?;
    stage.fails(&[], VETO, "the parent has a say")?;
    tree_notes(&mut stage, "veto", 0, &["gscsps", "g3", "c3"])?;
    stage.process.verify()
}

/// Those that opted in are asked, though the one that is named has not.
fn tree_of_some() -> Outcome {
    let mut stage = Stage::new("consent", &["tree", "some"])?;
    stage.fails(&["--consent", "require"], NOT_OPTED_IN, "has no handler")?;
    tree_notes(&mut stage, "log", 0, &[""])?;
    stage.dump(&["--leave-running"])?.expect(0, "dump")?;
    tree_notes(&mut stage, "log", 0, &["gscs", "g2", "c2"])?;
    stage.process.verify()
}

/// One that ends instead of an answer is no obstacle for the others.
fn tree_loses_one() -> Outcome {
    let mut stage = Stage::new("consent", &["tree", "ends"])?;
    stage.dump(&["--leave-running"])?.expect(0, "dump")?;
    tree_notes(&mut stage, "log", 0, &["gscsps", "c2", "p2"])?;
    stage.process.verify()
}
