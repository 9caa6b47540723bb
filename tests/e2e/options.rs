//! What a program gets from the command that resumes it: descriptors, a root directory, a place in
//! the background.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::command::{self, Finished};
use crate::process::Outcome;
use crate::scratch;
use crate::victims::{until, Mode, Victim};
use crate::Case;

/// Exit status of an image that cannot bring its program back.
const FAILED: i32 = 125;

/// All cases.
pub fn cases() -> Vec<Case> {
    let case = |name: &str, root: bool, body: fn() -> Outcome| {
        Case::new(format!("options::{name}"), root, body)
    };
    vec![
        case("standard_files", false, || standard_files(Mode::User, &[])),
        case("standard_files_new_pid", false, || standard_files(Mode::User, &["--new-pid"])),
        case("standard_files_as_root", true, || standard_files(Mode::Root, &[])),
        case("standard_files_of_a_tree", false, standard_files_of_a_tree),
        case("inherited_file", false, inherited_file),
        case("inherited_descriptor", false, inherited_descriptor),
        case("wrong_redirections", false, wrong_redirections),
        case("detached", false, || detached(Mode::User, &["--detach"])),
        case("detached_as_root", true, || detached(Mode::Root, &["--detach"])),
        case("detached_new_pid", false, || detached(Mode::User, &["--detach", "--new-pid"])),
        case("detached_in_vain", false, detached_in_vain),
        case("root_directory", true, || root_directory(Mode::Root)),
        case("root_directory_of_a_user", false, || root_directory(Mode::User)),
    ]
}

/// A dumped victim: the directory in which it ran, and its image.
fn dumped(victim: &str, mode: Mode, options: &[&str]) -> Outcome<(PathBuf, PathBuf)> {
    let dir = scratch::directory("options", mode.uid()).map_err(|e| e.to_string())?;
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).map_err(|e| e.to_string());
    write("data.txt", "what it was")?;
    write("questions.txt", "ping\nverify\n")?;
    let image = dir.join("resume.elf");
    let mut process = Victim::named(victim)?.start(mode, &dir)?;
    command::dump(process.pid, &image, mode.uid(), options)?;
    command::gone(&mut process)?;
    Ok((dir, image))
}

fn resume(image: &Path, mode: Mode, dir: &Path) -> Command {
    let mut command = Command::new(image);
    command::as_user(&mut command, mode.uid());
    command.current_dir(dir);
    command
}

fn contains(dir: &Path, name: &str, wanted: &str) -> Outcome {
    match fs::read_to_string(dir.join(name)) {
        Ok(text) if text.contains(wanted) => Ok(()),
        other => Err(format!("{wanted:?} is not in {name}: {other:?}")),
    }
}

const STANDARD: [&str; 6] =
    ["--stdin", "questions.txt", "--stdout", "answers.txt", "--stderr", "errors.txt"];

fn standard_files(mode: Mode, options: &[&str]) -> Outcome {
    let (dir, image) = dumped("counter", mode, &[])?;
    let mut command = resume(&image, mode, &dir);
    command.args(STANDARD).args(options);
    let done = command::run(&mut command, &dir)?.expect(0, "resume")?;
    if !done.stdout.is_empty() {
        return Err(format!("the command's own output was used: {}", done.tell()));
    }
    contains(&dir, "answers.txt", "PONG\nOK\n")?;
    contains(&dir, "errors.txt", "")
}

/// The children have other descriptors under these numbers, or the same.
fn standard_files_of_a_tree() -> Outcome {
    let (dir, image) = dumped("tree", Mode::User, &[])?;
    let mut command = resume(&image, Mode::User, &dir);
    command.args(STANDARD);
    command::run(&mut command, &dir)?.expect(0, "resume")?;
    contains(&dir, "answers.txt", "PONG\nOK\n")
}

/// Has the program tell the content of its descriptor 3, whose file is gone.
fn content(dir: &Path, image: &Path, content: &str, change: impl Fn(&mut Command)) -> Outcome {
    let mut command = resume(image, Mode::User, dir);
    command.args(["--stdin", "questions.txt"]);
    change(&mut command);
    let done = command::run(&mut command, dir)?.expect(0, "resume")?;
    if done.stdout.contains(&format!("CONTENT {content}\n")) {
        return Ok(());
    }
    Err(format!("expected {content:?}, got {}", done.tell()))
}

fn without_its_file() -> Outcome<(PathBuf, PathBuf)> {
    let (dir, image) = dumped("open_file", Mode::User, &["--embed-files", "0"])?;
    fs::remove_file(dir.join("data.txt")).map_err(|e| e.to_string())?;
    fs::write(dir.join("other.txt"), "another content").map_err(|e| e.to_string())?;
    Ok((dir, image))
}

/// Opened anew, it is read from its beginning, which this program notices.
fn inherited_file() -> Outcome {
    let (dir, image) = without_its_file()?;
    let mut command = resume(&image, Mode::User, &dir);
    command.args(["--stdin", "questions.txt", "--inherit-fd", "3=other.txt"]);
    let done = command::run(&mut command, &dir)?.expect(1, "resume")?;
    if done.stdout.contains("lseek(fd, 0, SEEK_CUR) is 0x0, was 0x3") {
        return Ok(());
    }
    Err(format!("expected the beginning of a file, got {}", done.tell()))
}

/// With the offset that it has here.
fn inherited_descriptor() -> Outcome {
    /// Above what this process and the start of another have open.
    const NUMBER: i32 = 190;
    let (dir, image) = without_its_file()?;
    let other = fs::File::open(dir.join("other.txt")).map_err(|e| e.to_string())?;
    content(&dir, &image, "another content", |c| {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&other);
        // SAFETY: both calls are async-signal-safe and touch no memory of ours.
        unsafe {
            c.pre_exec(move || {
                // The number may be the file's own, which closes when a program starts.
                if libc::dup2(fd, NUMBER) == NUMBER
                    && libc::fcntl(NUMBER, libc::F_SETFD, 0) == 0
                    && libc::lseek(NUMBER, 3, libc::SEEK_SET) == 3
                {
                    return Ok(());
                }
                Err(std::io::Error::last_os_error())
            });
        }
        c.args(["--inherit-fd", "3=fd:190"]);
    })
}

fn fails(image: &Path, dir: &Path, options: &[&str], word: &str) -> Outcome<Finished> {
    let mut command = resume(image, Mode::User, dir);
    command.args(options);
    let done = command::run(&mut command, dir)?.expect(FAILED, "resume")?;
    done.says(word)?;
    Ok(done)
}

fn wrong_redirections() -> Outcome {
    let (dir, image) = without_its_file()?;
    fails(&image, &dir, &["--inherit-fd", "77=other.txt"], "EBADF")?;
    fails(&image, &dir, &["--inherit-fd", "3=fd:88"], "EBADF")?;
    fails(&image, &dir, &["--inherit-fd", "3=nowhere.txt"], "nowhere.txt")?;
    fails(&image, &dir, &["--inherit-fd", "other.txt"], "--inherit-fd")?;
    fails(&image, &dir, &["--stdin"], "--stdin")?;
    // Nothing of that is needed where the file is not replaced.
    fails(&image, &dir, &["--stdin", "questions.txt"], "data.txt").map(drop)
}

/// Session and controlling terminal (stat fields 6 and 7).
fn session(pid: i32) -> Outcome<(i32, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|e| e.to_string())?;
    let rest = text.rsplit(')').next().unwrap_or_default();
    let mut numbers = rest.split_ascii_whitespace().skip(3).filter_map(|n| n.parse().ok());
    numbers.next().zip(numbers.next()).ok_or(text)
}

fn detached(mode: Mode, options: &[&str]) -> Outcome {
    let (dir, image) = dumped("counter", mode, &[])?;
    let questions = dir.join("questions.fifo");
    nix::unistd::mkfifo(&questions, nix::sys::stat::Mode::from_bits_truncate(0o666))
        .and_then(|()| nix::unistd::chown(&questions, mode.uid().map(Into::into), None))
        .map_err(|e| e.to_string())?;
    // Open both ways, so that nobody waits.
    let input = fs::OpenOptions::new().read(true).write(true).open(&questions);
    let mut input = input.map_err(|e| e.to_string())?;
    let mut command = resume(&image, mode, &dir);
    command.args(["--inherit-fd", "0=questions.fifo", "--stdout", "answers.txt"]).args(options);
    let done = command::run(&mut command, &dir)?.expect(0, "resume")?;
    let pid: i32 = done.stdout.trim().parse().map_err(|_| format!("no pid: {}", done.tell()))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).map_err(|e| e.to_string())?;
    if name.trim() != "counter" {
        return Err(format!("process {pid} is {name}"));
    }
    let (own, _) = session(std::process::id() as i32)?;
    let (theirs, terminal) = session(pid)?;
    if own == theirs || terminal != 0 {
        return Err(format!("it is in session {theirs}, with terminal {terminal}"));
    }
    std::io::Write::write_all(&mut input, b"ping\n").map_err(|e| e.to_string())?;
    until("an answer", || contains(&dir, "answers.txt", "PONG\n").is_ok())?;
    kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(|e| e.to_string())?;
    until("its end", || !Path::new(&format!("/proc/{pid}")).exists())
}

fn detached_in_vain() -> Outcome {
    let (dir, image) = without_its_file()?;
    for options in [&["--detach"][..], &["--detach", "--new-pid"]] {
        let done = fails(&image, &dir, options, "data.txt")?;
        if !done.stdout.is_empty() {
            return Err(format!("a pid was printed: {}", done.tell()));
        }
    }
    Ok(())
}

/// The file at the path below the directory is taken.
fn root_directory(mode: Mode) -> Outcome {
    let (dir, image) = dumped("open_file", mode, &[])?;
    let below = dir.join("new-root").join(dir.strip_prefix("/").unwrap_or(&dir));
    fs::create_dir_all(&below).map_err(|e| e.to_string())?;
    fs::write(below.join("data.txt"), "what is below").map_err(|e| e.to_string())?;
    let options = ["--stdin", "questions.txt", "--root-dir", "new-root", "--on-changed", "accept"];
    let mut command = resume(&image, mode, &dir);
    command.args(options);
    let done = command::run(&mut command, &dir)?.expect(0, "resume")?;
    if !done.stdout.contains("CONTENT what is below\n") {
        return Err(format!("another file was opened: {}", done.tell()));
    }
    // A user has no right to it without a namespace.
    if mode == Mode::User {
        let options = [&options[..], &["--new-pid"]].concat();
        fails(&image, &dir, &options, "try as root")?;
    }
    Ok(())
}
