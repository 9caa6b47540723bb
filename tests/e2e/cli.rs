//! The command lines of `dumper` and of the image itself, and the policies for open files.

use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{self, Finished};
use crate::process::{self, Kind, Outcome, Process};
use crate::scratch;
use crate::victims::{resume_with, Mode, Victim};
use crate::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("cli::summary", false, summary),
        Case::new("cli::json", false, json),
        Case::new("cli::check", false, check),
        Case::new("cli::inspect", false, inspect),
        Case::new("cli::inspect_plan", false, inspect_plan),
        Case::new("cli::image_options", false, image_options),
        Case::new("cli::output_to_pipe", false, output_to_pipe),
        Case::new("cli::pid_taken", false, || pid_taken(Mode::User)),
        Case::new("cli::pid_taken_as_root", true, || pid_taken(Mode::Root)),
        Case::new("cli::pid_is_original", true, pid_is_original),
        Case::new("cli::file_unchanged", false, file_unchanged),
        Case::new("cli::file_missing", false, file_missing),
        Case::new("cli::file_missing_not_embedded", false, file_missing_not_embedded),
        Case::new("cli::file_changed", false, file_changed),
        Case::new("cli::environment_gone", true, environment_gone),
    ]
}

/// Who does it.
pub const MODE: Mode = Mode::User;

/// A directory of that user.
pub fn directory(name: &str) -> Outcome<PathBuf> {
    scratch::directory(name, MODE.uid()).map_err(|e| e.to_string())
}

/// A dumped victim: its image and the directory it lies in.
pub fn dumped(victim: &str, options: &[&str]) -> Outcome<(PathBuf, PathBuf)> {
    let dir = directory(victim)?;
    let image = dir.join("resume.elf");
    let mut process = Victim::named(victim)?.start(MODE, &dir)?;
    command::dump(process.pid, &image, MODE.uid(), options)?;
    command::gone(&mut process)?;
    Ok((dir, image))
}

/// Runs `dumper` there.
pub fn dumper(dir: &Path, arguments: &[&str]) -> Outcome<Finished> {
    let mut command = command::dumper(MODE.uid());
    command.args(arguments).current_dir(dir);
    command::run(&mut command, dir)
}

fn image_command(image: &Path, dir: &Path, arguments: &[&str]) -> Outcome<Finished> {
    let mut command = Command::new(image);
    command::as_user(&mut command, MODE.uid());
    command.args(arguments).current_dir(dir);
    command::run(&mut command, dir)
}

/// Demands that all of these words are in a text, however they are written.
pub fn need(text: &str, words: &[&str]) -> Outcome {
    let lower = text.to_lowercase();
    match words.iter().find(|w| !lower.contains(&w.to_lowercase())) {
        None => Ok(()),
        Some(word) => Err(format!("{word:?} is missing in:\n{text}")),
    }
}

fn summary() -> Outcome {
    let dir = directory("summary")?;
    let mut process = Victim::named("plain")?.start(MODE, &dir)?;
    let image = dir.join("resume.elf");
    let done = command::dump(process.pid, &image, MODE.uid(), &["--leave-running"])?;
    let said = format!("{}{}", done.stdout, done.stderr);
    if said.lines().count() != 1 {
        return Err(format!("a dump must say one line, said:\n{said}"));
    }
    need(&said, &["plain", "ms"])?;
    let quiet = ["--leave-running", "--force", "--quiet"];
    let done = command::dump(process.pid, &image, MODE.uid(), &quiet)?;
    if !done.stdout.is_empty() || !done.stderr.is_empty() {
        return Err(format!("--quiet says: {}", done.tell()));
    }
    process.verify()
}

fn json() -> Outcome {
    let dir = directory("json")?;
    let mut process = Victim::named("threads8")?.start(MODE, &dir)?;
    let image = dir.join("resume.elf");
    let done = command::dump(process.pid, &image, MODE.uid(), &["--leave-running", "--json"])?;
    let value: serde_json::Value =
        serde_json::from_str(&done.stdout).map_err(|e| format!("{e}: {}", done.tell()))?;
    let size = fs::metadata(&image).map_err(|e| e.to_string())?.len();
    if value["pid"] != process.pid || value["bytes"] != size || value["threads"] != 9 {
        return Err(format!("wrong summary: {value}"));
    }
    process.verify()
}

fn check() -> Outcome {
    let dir = directory("check")?;
    let mut process = Victim::named("plain")?.start(MODE, &dir)?;
    let pid = process.pid.to_string();
    let done = dumper(&dir, &["check", &pid])?.expect(0, "check")?;
    need(&done.stdout, &["process ", "1 thread", "descriptor 0 of the resuming command"])?;
    let done = dumper(&dir, &["check", &pid, "--json"])?.expect(0, "check --json")?;
    let value: serde_json::Value =
        serde_json::from_str(&done.stdout).map_err(|e| format!("{e}: {}", done.tell()))?;
    if value["objects"][0]["descriptors"][2]["fate"] != "differs" {
        return Err(format!("no fate of descriptor 2: {}", done.tell()));
    }
    process.verify()?;
    // Of every kind one, and each on a line of its own.
    let mut process = Victim::named("socket_outside")?.start(MODE, &dir)?;
    let check = ["check", &process.pid.to_string(), "--external-sockets", "close"];
    let done = dumper(&dir, &check)?.expect(0, "check")?;
    need(&done.stdout, &["Unix socket", "other end closed", "TCP 127.0.0.1:", "was reset"])?;
    let done = dumper(&dir, &check[..2])?.expect(3, "check")?;
    need(&done.stdout, &["for one reason", "refused: is connected with process", "(outsider)"])?;
    process.verify()
}

fn inspect() -> Outcome {
    let (dir, _) = dumped("threads8", &[])?;
    let done = dumper(&dir, &["inspect", "resume.elf"])?.expect(0, "inspect")?;
    need(&done.stdout, &["threads8", "worker 3", "[heap]", "[stack]", "libc", "avx"])?;
    let done = dumper(&dir, &["inspect", "resume.elf", "--json"])?.expect(0, "inspect --json")?;
    let _: serde_json::Value =
        serde_json::from_str(&done.stdout).map_err(|e| format!("{e}: {}", done.tell()))?;
    fs::write(dir.join("hostile"), [0x7f; 5000]).map_err(|e| e.to_string())?;
    let done = dumper(&dir, &["inspect", "hostile"])?.expect(1, "inspect of no image")?;
    need(&done.stderr, &["hostile"])
}

fn inspect_plan() -> Outcome {
    let (dir, _) = dumped("plain", &[])?;
    let done = dumper(&dir, &["inspect", "resume.elf", "--plan"])?.expect(0, "inspect --plan")?;
    need(&done.stdout, &["mmap", "mprotect"])
}

fn image_options() -> Outcome {
    let (dir, image) = dumped("plain", &[])?;
    let done = image_command(&image, &dir, &["--help"])?.expect(0, "--help")?;
    let options = ["--info", "--check", "--new-pid", "--same-pid", "--force", "--copy-all"];
    need(&format!("{}{}", done.stdout, done.stderr), &options)?;
    let done = image_command(&image, &dir, &["--info"])?.expect(0, "--info")?;
    need(&done.stdout, &["plain"])?;
    let done = image_command(&image, &dir, &["--check"])?.expect(0, "--check")?;
    need(&format!("{}{}", done.stdout, done.stderr), &["ready"])?;
    for both in [["--info", "--check"], ["--check", "--info"]] {
        let done = image_command(&image, &dir, &both)?.expect(0, "--info --check")?;
        need(&done.stdout, &["plain"])?;
        need(&done.stderr, &["ready"])?;
    }
    let done = image_command(&image, &dir, &["--no-such-option"])?.expect(125, "wrong option")?;
    need(&done.stderr, &["--no-such-option"])
}

/// `-o -` writes the image to standard output and lets the process run, unless told otherwise.
fn output_to_pipe() -> Outcome {
    let dir = directory("to-pipe")?;
    let mut process = Victim::named("plain")?.start(MODE, &dir)?;
    for kill in [false, true] {
        let mut shell = Command::new("/bin/sh");
        command::as_user(&mut shell, MODE.uid());
        let image = dir.join(if kill { "second.elf" } else { "first.elf" });
        let line = format!(
            "{} {} -o - {} | cat > {} && chmod 700 {}",
            scratch::dumper().display(),
            process.pid,
            if kill { "--kill" } else { "" },
            image.display(),
            image.display(),
        );
        shell.args(["-c", &line]).current_dir(&dir);
        command::run(&mut shell, &dir)?.expect(0, "dump to a pipe")?;
        if kill {
            command::gone(&mut process)?;
            process = resume_with(MODE, &image, &dir, Kind::Pipes, &[])?;
        }
        process.ping()?;
    }
    process.verify()
}

/// Two of one image at once: the second finds its pid taken.
fn pid_taken(mode: Mode) -> Outcome {
    let dir = scratch::directory("taken", mode.uid()).map_err(|e| e.to_string())?;
    let victim = Victim::named("plain")?;
    let mut process = victim.start(mode, &dir)?;
    let image = dir.join("resume.elf");
    command::dump(process.pid, &image, mode.uid(), &["--leave-running"])?;
    let mut clones: Vec<Process> = Vec::new();
    for _ in 0..3 {
        let mut clone = resume_with(mode, &image, &dir, Kind::Pipes, &[])?;
        clone.ping()?;
        clones.push(clone);
    }
    for clone in &mut clones {
        clone.ping()?;
        clone.verify()?;
    }
    if mode == Mode::Root {
        let mut command = Command::new(&image);
        command::as_user(&mut command, None);
        command.arg("--same-pid").current_dir(&dir);
        let done = command::run(&mut command, &dir)?.expect(125, "--same-pid, taken")?;
        need(&done.stderr, &["pid", &process.pid.to_string()])?;
    }
    process.verify()
}

fn pid_is_original() -> Outcome {
    let dir = scratch::directory("original", None).map_err(|e| e.to_string())?;
    let mut process = Victim::named("threads8")?.start(Mode::Root, &dir)?;
    let pid = process.pid;
    let threads = |pid: i32| -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let mut all: Vec<String> =
            tasks.map(|t| t.file_name().to_string_lossy().into_owned()).collect();
        all.sort();
        all
    };
    let before = threads(pid);
    let image = dir.join("resume.elf");
    command::dump(pid, &image, None, &[])?;
    command::gone(&mut process)?;
    let mut process = resume_with(Mode::Root, &image, &dir, Kind::Pipes, &["--same-pid"])?;
    process.ping()?;
    let after = threads(pid);
    if before != after {
        return Err(format!("the threads are {after:?}, were {before:?}"));
    }
    process.verify()
}

/// A victim that holds `data.txt` open, dumped; the file can then be changed.
fn with_file(limit: &str) -> Outcome<(PathBuf, PathBuf)> {
    let dir = directory("with-file")?;
    let data = dir.join("data.txt");
    fs::write(&data, "what it was").map_err(|e| e.to_string())?;
    if let Some(uid) = MODE.uid() {
        chown(&data, Some(uid), Some(uid)).map_err(|e| e.to_string())?;
    }
    let image = dir.join("resume.elf");
    let mut process = Victim::named("open_file")?.start(MODE, &dir)?;
    command::dump(process.pid, &image, MODE.uid(), &["--embed-files", limit])?;
    command::gone(&mut process)?;
    Ok((dir, image))
}

fn content_is(image: &Path, dir: &Path, options: &[&str], content: &str) -> Outcome {
    let mut process = resume_with(MODE, image, dir, Kind::Pipes, options)?;
    process.send("verify")?;
    process.expect(&format!("CONTENT {content}\n"))?;
    process.exit_code(0)
}

fn refused_for_file(image: &Path, dir: &Path) -> Outcome {
    let done = image_command(image, dir, &[])?.expect(125, "resume with another file")?;
    crate::refusals::nobody_left(dir)?;
    need(&done.stderr, &["data.txt"])
}

fn file_unchanged() -> Outcome {
    let (dir, image) = with_file("1M")?;
    content_is(&image, &dir, &[], "what it was")
}

fn file_missing() -> Outcome {
    let (dir, image) = with_file("1M")?;
    fs::remove_file(dir.join("data.txt")).map_err(|e| e.to_string())?;
    content_is(&image, &dir, &[], "what it was")
}

fn file_missing_not_embedded() -> Outcome {
    let (dir, image) = with_file("0")?;
    content_is(&image, &dir, &[], "what it was")?;
    fs::remove_file(dir.join("data.txt")).map_err(|e| e.to_string())?;
    refused_for_file(&image, &dir)
}

fn file_changed() -> Outcome {
    let (dir, image) = with_file("1M")?;
    let change = |text: &str| -> Outcome {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(dir.join("data.txt"))
            .map_err(|e| e.to_string())?;
        file.write_all(text.as_bytes()).map_err(|e| e.to_string())
    };
    // The same size, another content; then another size.
    for text in ["what it is!", "something longer than it was"] {
        change(text)?;
        refused_for_file(&image, &dir)?;
        content_is(&image, &dir, &["--on-changed", "accept"], text)?;
        content_is(&image, &dir, &["--on-changed", "embed"], "what it was")?;
    }
    Ok(())
}

/// The directory and the program it came from are gone; the image is all there is.
fn environment_gone() -> Outcome {
    let dir = scratch::directory("gone", None).map_err(|e| e.to_string())?;
    let victim = Victim::named("locale")?;
    let program = dir.join("program");
    scratch::copy_program(&victim.program(), &program)?;
    let mut command = Command::new(&program);
    command::as_user(&mut command, None);
    command.current_dir("/").env("VICTIM", "locale");
    let mut process = process::start(command, Kind::Pipes, &dir)?;
    process.expect("READY")?;
    let image = dir.join("resume.elf");
    command::dump(process.pid, &image, None, &[])?;
    command::gone(&mut process)?;
    fs::remove_file(&program).map_err(|e| e.to_string())?;
    for _ in 0..2 {
        let mut process = resume_with(Mode::Empty, &image, &dir, Kind::Pipes, &[])?;
        process.ping()?;
        process.verify()?;
    }
    Ok(())
}
