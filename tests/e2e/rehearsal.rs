//! `./resume.elf --check`: says of a resume here and now what that would say itself.

use std::fs;
use std::os::unix::fs::{chown, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::process::Outcome;
use crate::scratch;
use crate::victims::{Mode, Victim};
use crate::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("rehearsal::missing", false, missing),
        Case::new("rehearsal::changed", false, changed),
        Case::new("rehearsal::changed_not_embedded", false, changed_not_embedded),
        Case::new("rehearsal::unreadable", false, unreadable),
        Case::new("rehearsal::directory", false, directory),
        Case::new("rehearsal::redirected", false, redirected),
        Case::new("rehearsal::root_directory", true, root_directory),
        Case::new("rehearsal::wrong_options", false, wrong_options),
        Case::new("rehearsal::closed_input", false, closed_input),
    ]
}

const MODE: Mode = Mode::User;
/// What the victim `open_file` has open, as its first descriptor after the three.
const FILE: &str = "data.txt";

struct Stage {
    dir: PathBuf,
    image: PathBuf,
}

impl Stage {
    /// `victim`, dumped where [`FILE`] lies.
    fn set(victim: &str, limit: &str) -> Outcome<Stage> {
        let dir = scratch::directory("rehearsal", MODE.uid()).map_err(|e| e.to_string())?;
        let stage = Stage { image: dir.join("resume.elf"), dir };
        stage.write("what it was")?;
        let mut process = Victim::named(victim)?.start(MODE, &stage.dir)?;
        command::dump(process.pid, &stage.image, MODE.uid(), &["--embed-files", limit])?;
        command::gone(&mut process)?;
        stage.is_ready(&[])?;
        Ok(stage)
    }

    fn write(&self, text: &str) -> Outcome {
        let path = self.dir.join(FILE);
        fs::write(&path, text).map_err(|e| e.to_string())?;
        chown(&path, MODE.uid(), MODE.uid()).map_err(|e| e.to_string())
    }

    fn run(&self, mode: Mode, options: &[&str], code: i32, words: &[&str]) -> Outcome {
        let mut command = Command::new(&self.image);
        command::as_user(&mut command, mode.uid());
        command.args(options).current_dir(&self.dir);
        let done = command::run(&mut command, &self.dir)?.expect(code, &options.join(" "))?;
        words.iter().try_for_each(|word| done.says(word))
    }

    fn is_ready(&self, options: &[&str]) -> Outcome {
        self.run(MODE, &[&["--check"], options].concat(), 0, &["ready"])
    }

    /// Both the check and the resume say so.
    fn is_refused(&self, options: &[&str], words: &[&str]) -> Outcome {
        self.run(MODE, &[&["--check"], options].concat(), 125, words)?;
        self.run(MODE, options, 125, words)
    }
}

fn missing() -> Outcome {
    let stage = Stage::set("open_file", "0")?;
    fs::remove_file(stage.dir.join(FILE)).map_err(|e| e.to_string())?;
    stage.is_refused(&[], &[FILE, "missing", "--embed-files"])?;
    let stage = Stage::set("open_file", "1M")?;
    fs::remove_file(stage.dir.join(FILE)).map_err(|e| e.to_string())?;
    stage.is_ready(&[])?;
    if stage.dir.join(FILE).exists() {
        return Err("the check made the file".to_owned());
    }
    Ok(())
}

fn changed() -> Outcome {
    let stage = Stage::set("open_file", "1M")?;
    for text in ["what it is!", "something longer"] {
        stage.write(text)?;
        stage.is_refused(&[], &[FILE, "changed", "accept or embed"])?;
        stage.is_ready(&["--on-changed", "accept"])?;
        stage.is_ready(&["--on-changed", "embed"])?;
    }
    Ok(())
}

/// Nobody is told to choose what is not to be had.
fn changed_not_embedded() -> Outcome {
    let stage = Stage::set("open_file", "0")?;
    stage.write("something longer")?;
    let only = "choose --on-changed accept\n";
    stage.is_refused(&[], &[FILE, "changed", only])?;
    stage.is_refused(&["--on-changed", "embed"], &[FILE, "did not travel along", only])?;
    stage.is_ready(&["--on-changed", "accept"])
}

fn unreadable() -> Outcome {
    let stage = Stage::set("open_file", "1M")?;
    let none = fs::Permissions::from_mode(0o0);
    fs::set_permissions(stage.dir.join(FILE), none).map_err(|e| e.to_string())?;
    // In a namespace of its own the program may do with its user's files what it likes.
    stage.is_ready(&[])?;
    stage.is_refused(&["--new-pid"], &[FILE, "EACCES"])?;
    stage.is_refused(&["--same-pid"], &["no right to choose the process id", "EPERM"])
}

fn directory() -> Outcome {
    let stage = Stage::set("files", "1M")?;
    let directory = stage.dir.join("d");
    fs::remove_dir(&directory).map_err(|e| e.to_string())?;
    let path = directory.display().to_string();
    stage.is_refused(&[], &[&path, "ENOENT", "bring it here"])
}

/// What is not opened is not needed; and a check opens, and empties, nothing.
fn redirected() -> Outcome {
    let stage = Stage::set("open_file", "0")?;
    fs::remove_file(stage.dir.join(FILE)).map_err(|e| e.to_string())?;
    stage.is_ready(&["--inherit-fd", "3=/dev/null"])?;
    let out = stage.dir.join("out");
    fs::write(&out, "precious").map_err(|e| e.to_string())?;
    let out_name = out.display().to_string();
    stage.is_ready(&["--inherit-fd", "3=/dev/null", "--stdout", &out_name])?;
    match fs::read_to_string(&out) {
        Ok(text) if text == "precious" => Ok(()),
        other => Err(format!("the check changed its output file: {other:?}")),
    }
}

/// Paths are looked at in the root directory that the program would get.
fn root_directory() -> Outcome {
    let stage = Stage::set("open_file", "0")?;
    let check = |root: &Path, code, words: &[&str]| {
        let root = root.display().to_string();
        stage.run(Mode::Root, &["--check", "--root-dir", &root], code, words)
    };
    let root = stage.dir.join("root");
    let inside = root.join(stage.dir.strip_prefix("/").map_err(|e| e.to_string())?);
    fs::create_dir_all(&inside).map_err(|e| e.to_string())?;
    check(&root, 125, &[FILE, "missing"])?;
    fs::copy(stage.dir.join(FILE), inside.join(FILE)).map_err(|e| e.to_string())?;
    check(&root, 0, &["ready"])?;
    check(&stage.dir.join("nowhere"), 125, &["nowhere", "ENOENT"])
}

/// Each wrong option is told what is wrong with it.
fn wrong_options() -> Outcome {
    let stage = Stage::set("open_file", "1M")?;
    for (options, said) in [
        (&["--no-such"][..], "no such option: --no-such; --help"),
        (&["--workers"], "lacks its value: --workers"),
        (&["--workers", "many"], "value that makes no sense: --workers"),
        (&["--on-changed", "perhaps"], "value that makes no sense: --on-changed"),
        (&["--inherit-fd", "x"], "value that makes no sense: --inherit-fd"),
        (&["--new-pid", "--same-pid"], "--new-pid and --same-pid exclude each other"),
    ] {
        stage.run(MODE, options, 125, &[said])?;
    }
    Ok(())
}

/// What the resume opens for itself takes the number of a descriptor that is closed: the program must
/// not have that for its input.
fn closed_input() -> Outcome {
    let stage = Stage::set("stdio_outside", "0")?;
    let run = |redirection: &str, options: &[&str], code, words: &[&str]| {
        let mut shell = Command::new("/bin/sh");
        command::as_user(&mut shell, MODE.uid());
        shell.args(["-c", &format!("exec ./resume.elf \"$@\" {redirection}"), "sh"]).args(options);
        let done = command::run(shell.current_dir(&stage.dir), &stage.dir)?;
        let done = done.expect(code, &options.join(" "))?;
        let said = format!("{}{}", done.stdout, done.stderr);
        match words.iter().find(|word| !said.contains(**word)) {
            None => Ok(()),
            Some(word) => Err(format!("{word:?} was not said: {}", done.tell())),
        }
    };
    let refused = ["descriptor 0", "EBADF", "--stdin"];
    for more in [&[][..], &["--copy-all"], &["--new-pid"]] {
        run("<&-", more, 125, &refused)?;
        run("<&-", &[&["--check"], more].concat(), 125, &refused)?;
        run("<&-", &[&["--stdin", FILE], more].concat(), 0, &["OK"])?;
    }
    run(">&-", &[], 125, &["descriptor 1", "EBADF", "--stdout"])?;
    run("<&- >&-", &["--check"], 125, &["descriptor 0", "descriptor 1"])
}
