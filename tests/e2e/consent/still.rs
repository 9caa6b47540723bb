//! Nothing runs between consent and dump, at the level of single instructions: see
//! tests/victims/consent_still.c.

use super::{Row, Stage};
use crate::process::Outcome;

/// The cases.
pub const CASES: &[Row] = &[
    ("still_before_the_return", false, || still(&["direct"])),
    ("still_after_the_return", false, || still(&["masked"])),
    ("still_in_handler", false, || still(&["handler"])),
    ("still_with_threads", false, || still(&["direct", "beside"])),
    ("still_with_threads_masked", false, || still(&["masked", "beside"])),
    ("still_in_handler_with_threads", false, || still(&["handler", "beside"])),
    ("still_beside_a_service", false, || still(&["thread", "beside"])),
];

/// Left running, resumed, and resumed again: each time it finds itself where it was.
fn still(words: &[&str]) -> Outcome {
    let mut stage = Stage::new("consent_still", words)?;
    let require = ["--consent", "require"];
    for _ in 0..3 {
        stage.dump(&[&require[..], &["--leave-running", "--force"]].concat())?.expect(0, "dump")?;
        stage.process.ping()?;
    }
    std::fs::remove_file(stage.image()).map_err(|e| e.to_string())?;
    for _ in 0..2 {
        stage.travel(&require, &[])?;
    }
    stage.logs(" suspended 5 wrong 0")?;
    stage.process.verify()
}
