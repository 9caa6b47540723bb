//! Held sections, and answers that do not come in time.

use std::time::{Duration, Instant};

use super::{Row, Stage, NO_ANSWER, VETO};
use crate::command;
use crate::process::{self, Outcome};

/// The cases.
pub const CASES: &[Row] = &[
    ("section_refuses_c", false, || section_refuses("consent")),
    ("section_refuses_cc", false, || section_refuses("consent_cc")),
    ("section_refuses_rs", false, || section_refuses("consent_rs")),
    ("section_refuses_handler", false, || section_refuses("consent_handler")),
    ("section_is_waited_for_c", false, || section_is_waited_for("consent")),
    ("section_is_waited_for_cc", false, || section_is_waited_for("consent_cc")),
    ("section_is_waited_for_rs", false, || section_is_waited_for("consent_rs")),
    ("section_is_waited_for_handler", false, || section_is_waited_for("consent_handler")),
    ("section_with_a_limit", false, section_with_a_limit),
    ("too_slow", false, || too_slow("consent")),
    ("too_slow_handler", false, || too_slow("consent_handler")),
    ("default_timeout", false, default_timeout),
];

fn section_is_waited_for(victim: &str) -> Outcome {
    let mut stage = Stage::new(victim, &[])?;
    stage.ask("hold", "DONE")?;
    stage.fails(&["--consent-timeout", "300ms"], NO_ANSWER, "section")?;
    stage.logs("")?;
    let begun = command::begin(&mut stage.dumper(&[]), &stage.dir)?;
    std::thread::sleep(Duration::from_millis(200));
    if stage.image().exists() {
        return Err("it was suspended in a section".into());
    }
    // In the handler's mode the thread that answers is the one that was asked: it answers later.
    stage.process.send("release")?;
    begun.finish(process::LIMIT)?.expect(0, "dump")?;
    command::gone(&mut stage.process)?;
    stage.resume(&[])?;
    stage.logs(" Bs As A1 B1")?;
    stage.process.verify()
}

fn section_refuses(victim: &str) -> Outcome {
    let mut stage = Stage::new(victim, &[])?;
    stage.ask("refuse", "DONE")?;
    stage.fails(&[], VETO, "burning a disc")?;
    stage.ask("release", "DONE")?;
    stage.travel(&[], &[])?;
    stage.logs(" Bs As A1 B1")?;
    stage.process.verify()
}

fn section_with_a_limit() -> Outcome {
    let mut stage = Stage::new("consent", &[])?;
    stage.ask("short", "DONE")?;
    let begin = Instant::now();
    stage.fails(&[], VETO, "nearly done")?;
    let took = begin.elapsed();
    if took < Duration::from_millis(200) || took > Duration::from_secs(20) {
        return Err(format!("refused after {took:?}"));
    }
    stage.ask("release", "DONE")?;
    stage.process.verify()
}

fn too_slow(victim: &str) -> Outcome {
    let mut stage = Stage::new(victim, &["slow"])?;
    stage.fails(&["--consent-timeout", "200ms"], NO_ANSWER, "did not answer within 200 ms")?;
    stage.logs(" Bs As A3 B3")?;
    stage.process.ping()?;
    stage.process.verify()
}

/// Nothing else is said, and nobody answers: half a minute. (How long, callbacks are told in `told_c`.)
fn default_timeout() -> Outcome {
    if !crate::soak() {
        return Ok(());
    }
    let mut stage = Stage::new("consent", &[])?;
    stage.ask("hold", "DONE")?;
    let begin = Instant::now();
    stage.fails(&[], NO_ANSWER, "did not answer within 30 s")?;
    let took = begin.elapsed();
    if took < Duration::from_secs(30) || took > Duration::from_secs(50) {
        return Err(format!("gave up after {took:?}"));
    }
    stage.ask("release", "DONE")?;
    stage.process.verify()
}
