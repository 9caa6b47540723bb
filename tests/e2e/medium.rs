//! Images on media without a file system; a loop device stands for the stick.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{self, Finished};
use crate::process::{self, Kind, Outcome, Process};
use crate::refusals;
use crate::scratch;
use crate::victims::{resume_with, Mode, Victim};
use crate::Case;

const MODE: Mode = Mode::Root;
const MIB: u64 = 1 << 20;
/// Of the first page, where an image's own header lies.
const FRONT: usize = 512;

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("medium::dump_and_run", true, dump_and_run),
        Case::new("medium::send_and_recv", true, send_and_recv),
        Case::new("medium::plain_tools", true, plain_tools),
        Case::new("medium::holds_something", true, holds_something),
        Case::new("medium::too_small", true, too_small),
        Case::new("medium::damaged", true, damaged),
        Case::new("medium::in_use", true, in_use),
        Case::new("medium::not_there", true, not_there),
        Case::new("medium::refused_dump_keeps_it", true, refused_dump_keeps_it),
    ]
}

/// A loop device, gone with the value.
struct Stick {
    device: PathBuf,
    dir: PathBuf,
}

impl Stick {
    fn new(name: &str, bytes: u64) -> Outcome<Stick> {
        let dir = scratch::directory(name, MODE.uid()).map_err(|e| e.to_string())?;
        let backing = dir.join("stick.img");
        File::create(&backing).and_then(|file| file.set_len(bytes)).map_err(|e| e.to_string())?;
        let mut losetup = Command::new("losetup");
        losetup.args(["--find", "--show"]).arg(&backing);
        let made = command::run(&mut losetup, &dir)?;
        let device = made.stdout.trim().to_owned();
        if !device.starts_with('/') {
            return Err(format!("losetup: {} (this test needs loop devices)", made.tell()));
        }
        Ok(Stick { device: device.into(), dir })
    }

    fn path(&self) -> &str {
        self.device.to_str().unwrap_or_default()
    }

    fn open(&self) -> Outcome<File> {
        File::options().read(true).write(true).open(&self.device).map_err(|e| e.to_string())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Outcome {
        let file = self.open()?;
        file.write_all_at(bytes, offset).and_then(|()| file.sync_all()).map_err(|e| e.to_string())
    }

    fn first_page(&self) -> Outcome<Vec<u8>> {
        let mut page = vec![0; 4096];
        self.open()?.read_exact(&mut page).map_err(|e| e.to_string())?;
        Ok(page)
    }

    fn dumper(&self, arguments: &[&str]) -> Outcome<Finished> {
        let mut command = command::dumper(MODE.uid());
        command.args(arguments).current_dir(&self.dir);
        command::run(&mut command, &self.dir)
    }

    fn start(&self, victim: &str) -> Outcome<Process> {
        Victim::named(victim)?.start(MODE, &self.dir)
    }

    /// A file with an image of a process that was ended.
    fn image(&self) -> Outcome<PathBuf> {
        let image = self.dir.join("made.elf");
        let mut process = self.start("plain")?;
        command::dump(process.pid, &image, MODE.uid(), &[])?;
        command::gone(&mut process)?;
        Ok(image)
    }

    fn resume(&self, image: &Path) -> Outcome {
        let mut process = resume_with(MODE, image, &self.dir, Kind::Pipes, &[])?;
        process.ping()?;
        process.verify()
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        let mut losetup = Command::new("losetup");
        let _ = command::run(losetup.arg("--detach").arg(&self.device), &self.dir);
    }
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(otherwise())
    }
}

fn run_from(stick: &Stick) -> Outcome<Process> {
    let mut command = command::dumper(MODE.uid());
    command.args(["run", stick.path()]).current_dir(&stick.dir);
    process::start(command, Kind::Pipes, &stick.dir)
}

fn dump_and_run() -> Outcome {
    let stick = Stick::new("stick-run", 64 * MIB)?;
    let mut process = stick.start("plain")?;
    for options in [&[][..], &["--force"][..]] {
        command::dump(process.pid, &stick.device, MODE.uid(), options)?;
        command::gone(&mut process)?;
        process = run_from(&stick)?;
        process.ping()?;
    }
    process.verify()?;
    stick.dumper(&["inspect", stick.path()])?.expect(0, "inspect of a stick").map(|_| ())
}

fn send_and_recv() -> Outcome {
    let stick = Stick::new("stick-send", 64 * MIB)?;
    // What lay there before does no harm behind the image.
    let image = stick.image()?;
    stick.write(8 * MIB, &vec![0x5a; MIB as usize])?;
    let sent = stick.dumper(&["send", "made.elf", stick.path()])?.expect(0, "send")?;
    check(sent.stdout.contains("read back and right"), || sent.tell())?;
    let got = stick.dumper(&["recv", stick.path(), "-o", "got.elf", "--json"])?;
    let got = got.expect(0, "recv")?;
    let same = fs::read(&image).ok() == fs::read(stick.dir.join("got.elf")).ok();
    check(same && got.stdout.starts_with('{'), || format!("not the same: {}", got.tell()))?;
    // Kept without --force.
    stick.dumper(&["recv", stick.path(), "-o", "got.elf"])?.expect(5, "recv over a file")?;
    let again =
        stick.dumper(&["send", "made.elf", stick.path()])?.expect(5, "send over an image")?;
    again.says("holds an image made on ")?;
    stick
        .dumper(&["send", "--force", "-q", "made.elf", stick.path()])?
        .expect(0, "send --force")?;
    stick.resume(&stick.dir.join("got.elf"))
}

fn plain_tools() -> Outcome {
    let stick = Stick::new("stick-cp", 32 * MIB)?;
    stick.image()?;
    let line = format!(
        "cp made.elf {0} && cat {0} > got.elf && chmod +x got.elf && ls -l got.elf",
        stick.path()
    );
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &line]).current_dir(&stick.dir);
    command::run(&mut shell, &stick.dir)?.expect(0, &line)?;
    stick.resume(&stick.dir.join("got.elf"))?;
    // With all of the stick behind it, too.
    let mut process = run_from(&stick)?;
    process.ping()?;
    process.verify()?;
    stick.dumper(&["recv", "got.elf", "-o", "trimmed.elf"])?.expect(0, "recv of a file")?;
    let lengths = ["made.elf", "trimmed.elf"]
        .map(|name| fs::metadata(stick.dir.join(name)).map(|found| found.len()).ok());
    check(lengths[0] == lengths[1], || format!("{lengths:?}"))
}

fn holds_something() -> Outcome {
    let stick = Stick::new("stick-full", 64 * MIB)?;
    stick.image()?;
    let mut process = stick.start("plain")?;
    let pid = process.pid.to_string();
    for (bytes, offset, name) in [
        (&b"LUKS\xba\xbe"[..], 0, "an encrypted volume (LUKS)"),
        (&b"EFI PART"[..], 512, "a partition table (GPT)"),
        (&b"mine"[..], 20_000, "data of an unknown kind"),
    ] {
        stick.write(0, &vec![0; 128 << 10])?;
        stick.write(offset, bytes)?;
        let before = stick.first_page()?;
        let said = stick.dumper(&["send", "made.elf", stick.path()])?.expect(5, "send")?;
        said.says(name)?;
        let said = stick.dumper(&[&pid, "-o", stick.path()])?.expect(5, "dump")?;
        said.says("--force")?;
        said.says(name)?;
        check(stick.first_page()? == before, || format!("{name} was written over"))?;
        stick.dumper(&["recv", stick.path(), "-o", "x.elf"])?.expect(1, "recv")?.says(name)?;
        stick.dumper(&["run", stick.path()])?.expect(1, "run")?.says(name)?;
    }
    process.ping()?;
    // What an interrupted writer left is worth nothing.
    let mut page = vec![0; 4096];
    page[FRONT..FRONT + 8].copy_from_slice(b"unfinish");
    stick.write(0, &page)?;
    stick.dumper(&["send", "made.elf", stick.path()])?.expect(0, "send").map(|_| ())
}

fn too_small() -> Outcome {
    let stick = Stick::new("stick-small", MIB)?;
    stick.image()?;
    let mut process = stick.start("plain")?;
    let said = stick.dumper(&["send", "made.elf", stick.path()])?.expect(5, "send")?;
    said.says("has room for 1.0 MiB, the image needs at least ")?;
    let said = stick.dumper(&[&process.pid.to_string(), "-o", stick.path()])?.expect(5, "dump")?;
    said.says(stick.path())?;
    check(stick.first_page()?.get(FRONT) != Some(&b'R'), || "a part looks whole".to_owned())?;
    process.ping()?;
    process.verify()
}

fn damaged() -> Outcome {
    let stick = Stick::new("stick-damaged", 64 * MIB)?;
    let image = stick.image()?;
    let length = fs::metadata(&image).map_err(|e| e.to_string())?.len();
    stick.dumper(&["send", "made.elf", stick.path()])?.expect(0, "send")?;
    let file = stick.open()?;
    let mut byte = [0];
    let at = length / 2;
    file.read_exact_at(&mut byte, at).map_err(|e| e.to_string())?;
    stick.write(at, &[byte[0] ^ 1])?;
    let said = stick.dumper(&["recv", stick.path(), "-o", "got.elf"])?.expect(1, "recv")?;
    said.says("send it again")?;
    let left = fs::read_dir(&stick.dir).map_err(|e| e.to_string())?;
    let left: Vec<_> = left.flatten().map(|entry| entry.file_name()).collect();
    check(!left.iter().any(|name| name.to_string_lossy().contains("got")), || format!("{left:?}"))?;
    // A damaged source never becomes an image on a stick.
    let mut bytes = fs::read(&image).map_err(|e| e.to_string())?;
    bytes[at as usize] ^= 1;
    let bad = File::create(stick.dir.join("bad.elf")).and_then(|mut file| file.write_all(&bytes));
    bad.map_err(|e| e.to_string())?;
    stick.dumper(&["send", "--force", "bad.elf", stick.path()])?.expect(1, "send")?;
    check(stick.first_page()?[FRONT..FRONT + 8] == *b"unfinish", || "it was finished".to_owned())
}

fn in_use() -> Outcome {
    let stick = Stick::new("stick-busy", 64 * MIB)?;
    stick.image()?;
    let holder = File::options().read(true).custom_flags(libc::O_EXCL).open(&stick.device);
    let holder = holder.map_err(|e| e.to_string())?;
    let said = stick.dumper(&["send", "made.elf", stick.path()])?.expect(5, "send")?;
    said.says("it is mounted or in use")?;
    drop(holder);
    stick.dumper(&["send", "made.elf", stick.path()])?.expect(0, "send").map(|_| ())
}

fn not_there() -> Outcome {
    let stick = Stick::new("stick-none", MIB)?;
    stick.image()?;
    let mut process = stick.start("plain")?;
    let none = "/dev/pen250";
    let pid = process.pid.to_string();
    for (arguments, code) in [
        (&["send", "made.elf", none][..], 5),
        (&["recv", none, "-o", "x.elf"][..], 1),
        (&[&pid, "-o", none][..], 5),
        (&["run", none][..], 1),
    ] {
        stick.dumper(arguments)?.expect(code, &arguments.join(" "))?.says("plugged in?")?;
        check(!Path::new(none).exists(), || format!("{none} was made"))?;
    }
    stick.dumper(&["send", "made.elf", "made.elf"])?.expect(5, "send")?.says("not a device")?;
    stick
        .dumper(&[&pid, "-o", "/dev/null", "--force"])?
        .expect(5, "dump")?
        .says("keeps nothing")?;
    process.ping()
}

fn refused_dump_keeps_it() -> Outcome {
    let stick = Stick::new("stick-kept", 64 * MIB)?;
    stick.write(0, b"LUKS\xba\xbe")?;
    let process = refusals::start(&["outside-pipe"], MODE.uid(), &stick.dir)?;
    let pid = process.pid.to_string();
    stick.dumper(&[&pid, "-o", stick.path(), "--force"])?.expect(3, "dump")?;
    check(stick.first_page()?.starts_with(b"LUKS"), || "it was written over".to_owned())
}
