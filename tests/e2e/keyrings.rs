//! Keyrings are lost: that is said.

use std::path::Path;

use crate::command;
use crate::process::{Kind, Outcome};
use crate::programs::as_both;
use crate::scratch;
use crate::victims::{resume_with, Mode, Victim};
use crate::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    as_both("keyrings", &[("said", said), ("none", none)])
}

/// Whether this kernel has keys.
fn exist() -> bool {
    let exist = Path::new("/proc/keys").exists();
    if !exist {
        eprintln!("e2e: this kernel has no keys");
    }
    exist
}

const LOST: [&str; 3] = [
    "a session keyring (a name) with 3 keys",
    "a process keyring (_pid) with 2 keys",
    "a thread keyring (_tid) with 1 key",
];

/// By the dump, whoever makes it, by the check, by inspect and by the image.
fn said(mode: Mode) -> Outcome {
    if !exist() {
        return Ok(());
    }
    let dir = scratch::directory("keyrings", mode.uid()).map_err(|e| e.to_string())?;
    let victim = Victim::named("keyrings")?;
    let mut process = victim.start(mode, &dir)?;
    let pid = process.pid.to_string();
    let mut check = command::dumper(mode.uid());
    let done = command::run(check.args(["check", &pid]), &dir)?.expect(0, "check")?;
    for name in ["note: keys in keyrings", "a name", "_pid", "_tid"] {
        if !done.stdout.contains(name) {
            return Err(format!("the check does not say {name:?}: {}", done.tell()));
        }
    }
    let image = dir.join("resume.elf");
    let others: &[Option<u32>] = if scratch::is_root() { &[None, mode.uid()] } else { &[None] };
    for &uid in others {
        let mut dump = command::dumper(uid);
        dump.arg(&pid).arg("-o").arg(&image).args(["--leave-running", "--no-sync", "--force"]);
        let done = command::run(&mut dump, &dir)?.expect(0, "dump")?;
        LOST.iter().try_for_each(|words| done.says(words))?;
        process.ping()?;
    }
    process.end()?;
    let mut inspect = command::dumper(mode.uid());
    let done = command::run(inspect.arg("inspect").arg(&image), &dir)?.expect(0, "inspect")?;
    if !done.stdout.contains(LOST[0]) {
        return Err(format!("not shown: {}", done.tell()));
    }
    let mut process = resume_with(mode, &image, &dir, Kind::Pipes, &[])?;
    process.ping()?;
    process.verify()?;
    if process.seen().contains(LOST[0]) {
        return Ok(());
    }
    Err(format!("the image does not tell: {}", process.seen()))
}

/// Without keyrings nothing is said, also while others have some.
fn none(mode: Mode) -> Outcome {
    let dir = scratch::directory("keyrings", mode.uid()).map_err(|e| e.to_string())?;
    let mut other = Victim::named("keyrings")?.start(mode, &dir)?;
    let mut process = Victim::named("plain")?.start(mode, &dir)?;
    let done = command::dump(process.pid, &dir.join("resume.elf"), mode.uid(), &[])?;
    command::gone(&mut process)?;
    if !done.stderr.is_empty() {
        return Err(done.tell());
    }
    other.verify()
}
