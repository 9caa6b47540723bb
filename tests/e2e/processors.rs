//! What a program needs of the processor that it is resumed on.

use std::fs;
use std::path::Path;
use std::process::Command;

use image_format::container::{hash_data, kind, ChunkHeader, Front};
use image_format::plan::{CpuNeed, CpuPlan, PlanHeader};
use scroll::{Pread, Pwrite, LE};

use crate::cli::need;
use crate::command;
use crate::process::{Kind, Outcome};
use crate::refusals::nobody_left;
use crate::scratch;
use crate::victims::{resume_with, Mode, Victim};
use crate::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("processors::rare_code", false, || rare_code(Mode::User)),
        Case::new("processors::rare_code_left", false, || rare_code(Mode::Leave)),
        Case::new("processors::lacking::user", false, || lacking(Mode::User)),
        Case::new("processors::lacking::root", true, || lacking(Mode::Root)),
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

/// A feature that this processor has not is named, in every way to resume; `--force` goes on. The
/// virtual machines try real processors; here an image is made to need what none has.
fn lacking(mode: Mode) -> Outcome {
    let dir = scratch::directory("lacking", mode.uid()).map_err(|e| e.to_string())?;
    let image = dir.join("resume.elf");
    let mut process = Victim::named("plain")?.start(mode, &dir)?;
    command::dump(process.pid, &image, mode.uid(), &[])?;
    command::gone(&mut process)?;
    let mut bytes = fs::read(&image).map_err(|e| e.to_string())?;
    needs_more(&mut bytes).map_err(|e| format!("changing the image: {e}"))?;
    // In place, so that owner and mode stay.
    fs::write(&image, bytes).map_err(|e| e.to_string())?;
    for options in [&[][..], &["--new-pid"], &["--same-pid"], &["--detach"], &["--check"]] {
        let mut command = Command::new(&image);
        command::as_user(&mut command, mode.uid());
        command.args(options).current_dir(&dir);
        let done = command::run(&mut command, &dir)?.expect(125, "resume")?;
        need(&done.stderr, &["this processor lacks", "not-there", "try --force"])?;
        nobody_left(&dir)?;
    }
    let mut process = resume_with(mode, &image, &dir, Kind::Pipes, &["--force"])?;
    process.ping()?;
    process.verify()
}

/// Makes the first feature that an image needs one that no processor has, and its checksums right.
fn needs_more(image: &mut [u8]) -> Result<(), Box<dyn std::error::Error>> {
    let front = Front::parse(image).map_err(|e| e.to_string())?;
    let (mut at, mut previous, mut seq) = (front.blob_end as usize, 0, 0);
    loop {
        let mut header: ChunkHeader = image.pread_with(at, LE)?;
        let start = at + header.data_start as usize;
        let end = start + header.data_len as usize;
        if header.kind == kind::PLAN {
            let plan: PlanHeader = image.pread_with(start, LE)?;
            let data = start + plan.data_off as usize;
            let cpu: CpuPlan = image.pread_with(data + plan.cpu_off as usize, LE)?;
            let mut name = [0; 22];
            name[..9].copy_from_slice(b"not-there");
            // A bit of the first leaf that is reserved and zero.
            let need = CpuNeed { leaf: 1, subleaf: 0, reg: 2, bit: 16, name };
            image.pwrite_with(need, data + cpu.needs_off as usize, LE)?;
            header.data_hash = hash_data(&image[start..end], 0);
        }
        (header.previous, header.head_hash) = (previous, 0);
        image.pwrite_with(header, at, LE)?;
        let next = at + header.stride() as usize;
        header.head_hash = ChunkHeader::compute_head_hash(&image[at..start], &image[end..next]);
        image.pwrite_with(header, at, LE)?;
        ChunkHeader::parse(&image[at..], at as u64, seq, previous).map_err(|e| e.to_string())?;
        if header.kind == kind::END {
            return Ok(());
        }
        (at, previous, seq) = (next, header.head_hash, seq + 1);
    }
}
