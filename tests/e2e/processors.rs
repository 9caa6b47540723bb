//! What a program needs of the processor that it is resumed on.

use std::fs;
use std::path::Path;

use crate::command;
use crate::process::{Kind, Outcome};
use crate::scratch;
use crate::victims::{resume_with, Mode, Victim};
use crate::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("processors::rare_code", false, || rare_code(Mode::User)),
        Case::new("processors::rare_code_left", false, || rare_code(Mode::Leave)),
    ]
}

/// SSE4a is a need of programs that have instructions of it, and of no others: a program may go on
/// on a processor of another maker.
fn rare_code(mode: Mode) -> Outcome {
    const RARE: &str = "sse4a";
    let flags = fs::read_to_string("/proc/cpuinfo").map_err(|e| e.to_string())?;
    let has = flags.split_ascii_whitespace().any(|flag| flag == RARE);
    for (victim, wanted) in [("plain", false), ("rare_code", has)] {
        let dir = scratch::directory("rare", mode.uid()).map_err(|e| e.to_string())?;
        let image = dir.join("resume.elf");
        let mut process = Victim::named(victim)?.start(mode, &dir)?;
        let options: &[&str] = if mode == Mode::Leave { &["--leave-running"] } else { &[] };
        command::dump(process.pid, &image, mode.uid(), options)?;
        let needs = needs(&image, &dir)?;
        if needs.iter().any(|need| need == RARE) != wanted {
            return Err(format!("{victim} needs {needs:?}"));
        }
        if mode != Mode::Leave {
            command::gone(&mut process)?;
            process = resume_with(mode, &image, &dir, Kind::Pipes, &["--new-pid"])?;
        }
        process.verify()?;
    }
    Ok(())
}

/// The processor's features that an image needs.
fn needs(image: &Path, dir: &Path) -> Outcome<Vec<String>> {
    let mut command = command::dumper(None);
    command.arg("inspect").arg(image).current_dir(dir);
    let done = command::run(&mut command, dir)?.expect(0, "inspect")?;
    let line = done.stdout.lines().find(|line| line.trim_start().starts_with("processor "));
    let line = line.ok_or_else(|| format!("no processor in {}", done.stdout))?;
    Ok(line.split_ascii_whitespace().map(str::to_owned).collect())
}
