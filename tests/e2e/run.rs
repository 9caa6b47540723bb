//! `dumper run`: images that are started from memory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cli::{directory, dumped, dumper, need, MODE};
use crate::command::{self, Finished};
use crate::mounts::Mount;
use crate::process::{self, Kind, Outcome};
use crate::scratch;
use crate::victims::{Mode, Victim};
use crate::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("run::file", false, run_file),
        Case::new("run::from_pipe", false, run_from_pipe),
        Case::new("run::from_noexec", true, run_from_noexec),
        Case::new("run::ends_early", false, ends_early),
        Case::new("run::of_another_version", false, of_another_version),
        Case::new("run::no_image", false, no_image),
        Case::new("run::forbidden_in_memory", true, forbidden_in_memory),
    ]
}

fn run_file() -> Outcome {
    let (dir, image) = dumped("plain", &[])?;
    fs::set_permissions(&image, fs::Permissions::from_mode(0o600)).map_err(|e| e.to_string())?;
    for options in [&[][..], &["--new-pid"][..]] {
        let mut command = command::dumper(MODE.uid());
        command.args(["run", "resume.elf"]).args(options).current_dir(&dir);
        let mut process = process::start(command, Kind::Pipes, &dir)?;
        process.ping()?;
        process.verify()?;
    }
    Ok(())
}

fn run_from_pipe() -> Outcome {
    let (dir, _) = dumped("stdio_outside", &[])?;
    let mut shell = Command::new("/bin/sh");
    command::as_user(&mut shell, MODE.uid());
    let line = format!("{} run - --new-pid < resume.elf", scratch::dumper().display());
    shell.args(["-c", &line]).current_dir(&dir);
    let done = command::run(&mut shell, &dir)?.expect(0, "dumper run -")?;
    need(&done.stdout, &["OK"])
}

fn run_from_noexec() -> Outcome {
    let dir = directory("noexec")?;
    let _mount = Mount::tmpfs(&dir, libc::MS_NOEXEC, c"mode=777")?;
    let image = dir.join("resume.elf");
    let mut victim = Victim::named("plain")?.start(MODE, scratch::root())?;
    command::dump(victim.pid, &image, MODE.uid(), &[])?;
    command::gone(&mut victim)?;
    let mut command = command::dumper(MODE.uid());
    command.arg("run").arg(&image);
    let mut process = process::start(command, Kind::Pipes, scratch::root())?;
    process.ping()?;
    process.verify()
}

/// `dumper run` of a file, by its name and through standard input.
fn both_ways(dir: &Path, name: &str) -> Outcome<[Finished; 2]> {
    let named = dumper(dir, &["run", name])?;
    let mut command = command::dumper(MODE.uid());
    command.args(["run", "-"]).current_dir(dir);
    let file = fs::File::open(dir.join(name)).map_err(|e| e.to_string())?;
    let begun = command::begin_with(&mut command, dir, Stdio::from(file))?;
    Ok([named, begun.finish(process::LIMIT)?])
}

/// Of an image that ends too early nothing is started, wherever it was cut: what the kernel would map
/// of it is not there.
fn ends_early() -> Outcome {
    let (dir, image) = dumped("plain", &[])?;
    let whole = fs::read(&image).map_err(|e| e.to_string())?;
    let size = whole.len();
    let mut lengths: Vec<usize> = (0..24).map(|i| size * i / 24).collect();
    lengths.extend([1, 64, 607, 608, 4095, 4096, 4097, 30_000, 65_535, 65_536, 65_537, 70_000]);
    lengths.extend([size - 4097, size - 4096, size - 1]);
    for length in lengths {
        fs::write(dir.join("cut.elf"), &whole[..length]).map_err(|e| e.to_string())?;
        for done in both_ways(&dir, "cut.elf")? {
            let tell = |e: String| format!("{length} of {size} bytes: {e}");
            let done = done.expect(1, "run").map_err(tell)?;
            // The image's own header ends at byte 608; what is shorter may be any program.
            let words: &[&str] = match length {
                0..608 => &["holds no image", "images are what `dumper"],
                _ => &["the image ends early", "not whole; copy it again"],
            };
            need(&done.stderr, words).map_err(tell)?;
            if !done.stdout.is_empty() {
                return Err(tell(done.tell()));
            }
        }
    }
    // Bytes behind the end do no harm, as on a stick.
    let longer = [&whole[..], &[7; 9000][..]].concat();
    fs::write(dir.join("longer.elf"), longer).map_err(|e| e.to_string())?;
    let mut command = command::dumper(MODE.uid());
    command.args(["run", "longer.elf"]).current_dir(&dir);
    process::start(command, Kind::Pipes, &dir)?.verify()
}

/// An image of another version is left to the reader that it brings, unless that is not there.
fn of_another_version() -> Outcome {
    let (dir, image) = dumped("plain", &[])?;
    let mut bytes = fs::read(&image).map_err(|e| e.to_string())?;
    bytes[520] = 99;
    fs::write(dir.join("other.elf"), &bytes).map_err(|e| e.to_string())?;
    for done in both_ways(&dir, "other.elf")? {
        need(&done.expect(125, "run of another version")?.stderr, &["resume: format version 99"])?;
    }
    let done = dumper(&dir, &["inspect", "other.elf"])?.expect(1, "inspect")?;
    need(&done.stderr, &["format version 99", "--info"])?;
    fs::write(dir.join("other.elf"), &bytes[..40_000]).map_err(|e| e.to_string())?;
    for done in both_ways(&dir, "other.elf")? {
        need(&done.expect(1, "run of a part")?.stderr, &["format version 99", "not whole"])?;
    }
    Ok(())
}

fn no_image() -> Outcome {
    let dir = directory("no-image")?;
    for command in ["run", "inspect"] {
        let tries: [(&str, &[&str]); 3] = [
            ("nosuch", &["cannot open nosuch: ENOENT", "give the path of an image"]),
            (".", &["cannot open .: EISDIR", "give the path of an image in it"]),
            ("/bin/sh", &["/bin/sh", "images are what `dumper"]),
        ];
        for (file, words) in tries {
            let done = dumper(&dir, &[command, file])?.expect(1, command)?;
            need(&done.stderr, words)?;
        }
    }
    Ok(())
}

/// Where the system forbids programs in memory, that is what is said.
fn forbidden_in_memory() -> Outcome {
    let dir = scratch::directory("forbidden", None).map_err(|e| e.to_string())?;
    let mut victim = Victim::named("plain")?.start(Mode::Root, &dir)?;
    command::dump(victim.pid, &dir.join("resume.elf"), None, &[])?;
    command::gone(&mut victim)?;
    let mut shell = Command::new("/usr/bin/unshare");
    command::as_user(&mut shell, None);
    // The setting belongs to the pid namespace; 6.3 and newer have it.
    let line = format!(
        "test -e /proc/sys/vm/memfd_noexec || exit 77; echo 2 > /proc/sys/vm/memfd_noexec && \
         exec {} run resume.elf",
        scratch::dumper().display()
    );
    shell.args(["--pid", "--fork", "sh", "-c", &line]).current_dir(&dir);
    let done = command::run(&mut shell, &dir)?;
    if done.exit == crate::reaper::Exit::Code(77) {
        eprintln!("run::forbidden_in_memory: this kernel has no vm.memfd_noexec, nothing tried");
        return Ok(());
    }
    need(&done.expect(1, "run")?.stderr, &["in memory: EACCES", "vm.memfd_noexec"])
}
