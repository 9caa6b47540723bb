//! What `dumper` refuses: with the right status, naming the reasons, and without the process
//! noticing.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::process::{self, Kind, Outcome, Process};
use crate::reaper::Exit;
use crate::scratch::{self, NOBODY};
use crate::victims::{resume_with, until, Mode, Victim};
use crate::Case;

mod states;

use states::{FOUND_LATE, OF_ROOT, STATES, TWOFOLD};

/// Exit status for a process that exists but holds what cannot be carried.
const REFUSED: i32 = 3;
/// Exit status for a pid that is none, or not ours to dump.
const NO_PROCESS: i32 = 4;

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    // Root may look at more, and has other ways to ask.
    for (user, uid) in [("user", own_user()), ("root", None)] {
        let case = |state, words: Vec<&'static [&'static str]>| {
            Case::new(format!("refused::{state}::{user}"), user == "root", move || {
                refused(uid, &[state], &words)
            })
        };
        // Root may read filters, so that they travel.
        let stands = |state: &str| user == "user" || state != "seccomp";
        let states = STATES.iter().filter(|(state, _)| stands(state));
        all.extend(states.map(|(state, words)| case(state, vec![words])));
        // `check` does not tell of these.
        all.extend(FOUND_LATE.iter().map(|(state, words)| {
            Case::new(format!("refused::{state}::{user}"), user == "root", move || {
                refused_by_dump(uid, &[state], &[&[words]])?.verify()
            })
        }));
        all.extend(
            TWOFOLD.iter().map(|(state, words)| case(state, vec![&words[..1], &words[1..]])),
        );
    }
    for (state, words) in OF_ROOT {
        all.push(Case::new(format!("refused::{state}"), true, move || {
            refused(None, &[state], &[&[words]])
        }));
    }
    all.push(Case::new("refused::protection_key", false, protection_key));
    all.push(Case::new("refused::raw_of_root", true, raw_of_root));
    let together = ["asynchronous", "netlink", "seccomp", "pidfd"];
    let states = ["aio", "netlink", "seccomp", "pidfd"];
    all.push(Case::new("refused::all_at_once", false, move || {
        let words: Vec<&[&str]> = together.iter().map(std::slice::from_ref).collect();
        refused(own_user(), &states, &words)
    }));
    all.push(Case::new("refused::namespaces", false, || {
        // All of them at once.
        let kinds = ["pid:[", "mnt:[", "net:[", "ipc:[", "uts:[", "user:[", "cgroup:[", "time:["];
        let words: Vec<&[&str]> = kinds.iter().map(std::slice::from_ref).collect();
        refused(own_user(), &["namespaces"], &words)
    }));
    all.push(Case::new("refused::vfork_that_never_ends", false, || {
        refused_once(own_user(), &["vfork-never"], &[&["vfork"]])?.verify()
    }));
    all.push(Case::new("refused::not_a_vfork_that_ends_soon", false, vfork_soon));
    all.push(Case::new("refused::too_many_processes", false, || bomb("4200", "4096 processes")));
    all.push(Case::new("refused::processes_that_are_too_fast", false, || bomb("0", "faster")));
    all.push(Case::new("refused::traced", false, traced));
    all.push(Case::new("refused::leader_gone", false, leader_gone));
    all.push(Case::new("refused::undumpable", true, undumpable));
    all.push(Case::new("refused::no_such_pid", false, no_such_pid));
    all.push(Case::new("refused::kernel_thread", true, kernel_thread));
    all.push(Case::new("refused::zombie", false, zombie));
    all.push(Case::new("refused::itself", false, itself));
    all.push(Case::new("refused::parent", false, parent));
    all.push(Case::new("refused::other_user", true, other_user));
    all.push(Case::new("refused::thirty_two_bit", false, thirty_two_bit));
    all
}

fn own_user() -> Option<u32> {
    Mode::User.uid()
}

/// Starts the victim `refused` in these states.
pub fn start(states: &[&str], uid: Option<u32>, dir: &Path) -> Outcome<Process> {
    let mut command = Command::new(Victim::named("refused")?.program());
    command::as_user(&mut command, uid);
    command.current_dir(dir).args(states);
    let mut process = process::start(command, Kind::Pipes, dir)?;
    process.expect("READY")?;
    Ok(process)
}

/// Nothing but what was there before may be in the directory.
pub fn nothing_left(dir: &Path, allowed: &[&str]) -> Outcome {
    let names: Vec<String> = fs::read_dir(dir)
        .map_err(|e| e.to_string())?
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| !allowed.contains(&n.as_str()))
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(format!("left behind in {}: {names:?}", dir.display()))
}

/// Of an image that could not be resumed no process is left, and nothing is mounted below its
/// directory.
pub fn nobody_left(dir: &Path) -> Outcome {
    let below = |path: &Path| path.starts_with(dir);
    let left = || {
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        all.filter(|entry| fs::read_link(entry.path().join("exe")).is_ok_and(|exe| below(&exe)))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect::<Vec<_>>()
    };
    until("the processes of a resume to end", || left().is_empty())
        .map_err(|e| format!("{e}: {:?} are left", left()))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|e| e.to_string())?;
    let place = |line: &&str| line.split(' ').nth(4).is_some_and(|at| below(Path::new(at)));
    match mounts.lines().find(place) {
        None => Ok(()),
        Some(line) => Err(format!("left mounted: {line}")),
    }
}

fn contains_one(text: &str, words: &[&str]) -> Outcome {
    let text = text.to_lowercase();
    if words.iter().any(|w| text.contains(w)) {
        return Ok(());
    }
    Err(format!("none of {words:?} in the message: {text}"))
}

fn refused(uid: Option<u32>, states: &[&str], words: &[&[&str]]) -> Outcome {
    let dir = scratch::directory("refused", uid).map_err(|e| e.to_string())?;
    let mut process = refused_by_dump(uid, states, words)?;
    let mut command = command::dumper(uid);
    command.args(["check", &process.pid.to_string()]);
    let done = command::run(&mut command, &dir)?.expect(REFUSED, "check")?;
    for words in words {
        contains_one(&format!("{}{}", done.stdout, done.stderr), words)?;
    }
    process.verify()
}

/// Demands that the dump of a process in these states is refused, in these words, and not noticed.
pub fn refused_by_dump(uid: Option<u32>, states: &[&str], words: &[&[&str]]) -> Outcome<Process> {
    refused_with(&[&[], &["--leave-running"]], uid, states, words)
}

fn refused_once(uid: Option<u32>, states: &[&str], words: &[&[&str]]) -> Outcome<Process> {
    refused_with(&[&[]], uid, states, words)
}

fn refused_with(
    options: &[&[&str]],
    uid: Option<u32>,
    states: &[&str],
    words: &[&[&str]],
) -> Outcome<Process> {
    let dir = scratch::directory("refused", uid).map_err(|e| e.to_string())?;
    let mut process = start(states, uid, &dir)?;
    let pid = process.pid.to_string();
    for extra in options {
        let mut command = command::dumper(uid);
        command.arg(&pid).arg("-o").arg(dir.join("resume.elf")).args(*extra);
        let done = command::run(&mut command, &dir)?.expect(REFUSED, "dump")?;
        for words in words {
            contains_one(&done.stderr, words)?;
        }
        nothing_left(&dir, &["locked.txt"])?;
        process.ping()?;
    }
    Ok(process)
}

/// Dumps `pid` and demands a status and one of these words.
fn fails(pid: i32, uid: Option<u32>, status: &[i32], words: &[&str]) -> Outcome {
    let dir = scratch::directory("fails", uid).map_err(|e| e.to_string())?;
    let mut command = command::dumper(uid);
    command.arg(pid.to_string()).arg("-o").arg(dir.join("resume.elf"));
    let done = command::run(&mut command, &dir)?;
    if !status.iter().any(|s| done.exit == crate::reaper::Exit::Code(*s)) {
        return Err(format!("expected status {status:?}, got {}", done.tell()));
    }
    contains_one(&done.stderr, words)?;
    nothing_left(&dir, &[])
}

/// The dump waits for a program that is just being started.
fn vfork_soon() -> Outcome {
    let uid = own_user();
    let dir = scratch::directory("vfork", uid).map_err(|e| e.to_string())?;
    let mut process = start(&["vfork-soon"], uid, &dir)?;
    let image = dir.join("resume.elf");
    command::dump(process.pid, &image, uid, &[])?;
    command::gone(&mut process)?;
    process = resume_with(Mode::User, &image, &dir, Kind::Pipes, &[])?;
    process.ping()?;
    process.verify()
}

/// A tree that grows too large or changes too fast: that is said, in time, and everyone let go.
fn bomb(size: &str, words: &str) -> Outcome {
    let uid = own_user();
    let dir = scratch::directory("bomb", uid).map_err(|e| e.to_string())?;
    let mut command = Command::new(Victim::named("bomb")?.program());
    command::as_user(&mut command, uid);
    command.current_dir(&dir).arg(size);
    let mut process = process::start(command, Kind::Pipes, &dir)?;
    process.expect("READY")?;
    let image = dir.join("resume.elf");
    let mut command = command::dumper(uid);
    command.arg(process.pid.to_string()).arg("-o").arg(&image);
    let done = command::run(&mut command, &dir)?;
    if done.exit == Exit::Code(0) && size == "0" {
        // A lucky moment: then nobody got away.
        command::gone(&mut process)?;
        let link = |pid: &str| fs::read_link(format!("/proc/{pid}/cwd"));
        let here = |e: &fs::DirEntry| {
            e.file_name().to_str().map(link).is_some_and(|l| l.is_ok_and(|l| l == dir))
        };
        let all = fs::read_dir("/proc").map_err(|e| e.to_string())?;
        if let Some(left) = all.flatten().find(here) {
            return Err(format!(
                "process {} got away: {}",
                left.file_name().display(),
                done.tell()
            ));
        }
        process = resume_with(Mode::User, &image, &dir, Kind::Pipes, &[])?;
    } else {
        contains_one(&done.expect(REFUSED, "dump")?.stderr, &[words])?;
        nothing_left(&dir, &[])?;
    }
    process.ping()?;
    process.verify()
}

fn traced() -> Outcome {
    let dir = scratch::directory("traced", own_user()).map_err(|e| e.to_string())?;
    let mut process = start(&["traced"], own_user(), &dir)?;
    let words = ["traced", "debugger"];
    fails(process.pid, own_user(), &[REFUSED, NO_PROCESS], &words)?;
    process.verify()
}

/// The first thread has ended, others go on.
fn leader_gone() -> Outcome {
    let dir = scratch::directory("leader", own_user()).map_err(|e| e.to_string())?;
    let mut process = Victim::named("leader_gone")?.start(Mode::User, &dir)?;
    let words = ["thread", "ended"];
    fails(process.pid, own_user(), &[REFUSED, NO_PROCESS], &words)?;
    process.verify()
}

fn undumpable() -> Outcome {
    let dir = scratch::directory("undumpable", own_user()).map_err(|e| e.to_string())?;
    let mut process = start(&["undumpable"], own_user(), &dir)?;
    fails(process.pid, own_user(), &[REFUSED, NO_PROCESS], &["pr_set_dumpable", "as root"])?;
    process.verify()
}

fn no_such_pid() -> Outcome {
    fails(0x3f_ffff, own_user(), &[NO_PROCESS], &["no process", "no such", "does not exist"])
}

fn kernel_thread() -> Outcome {
    let found = fs::read_dir("/proc").map_err(|e| e.to_string())?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().any(|l| l == "Kthread:\t1").then_some(pid)
    });
    let Some(pid) = found else {
        eprintln!("refused::kernel_thread: no kernel thread is visible here, nothing tried");
        return Ok(());
    };
    fails(pid, None, &[REFUSED, NO_PROCESS], &["kernel"])
}

fn zombie() -> Outcome {
    let dir = scratch::directory("zombie", own_user()).map_err(|e| e.to_string())?;
    let mut process = start(&["zombie-child"], own_user(), &dir)?;
    let children = process::children(process.pid);
    let pid = *children.first().ok_or("the victim has no child")?;
    fails(pid, own_user(), &[REFUSED, NO_PROCESS], &["zombie", "ended", "exited"])?;
    process.verify()
}

fn itself() -> Outcome {
    let dir = scratch::directory("itself", own_user()).map_err(|e| e.to_string())?;
    let mut command = Command::new("/bin/sh");
    command::as_user(&mut command, own_user());
    let line = format!("exec {} $$ -o {}/x.elf", scratch::dumper().display(), dir.display());
    command.args(["-c", &line]);
    let done = command::run(&mut command, &dir)?;
    contains_one(&done.stderr, &["itself"])?;
    if ![REFUSED, NO_PROCESS].iter().any(|s| done.exit == crate::reaper::Exit::Code(*s)) {
        return Err(done.tell());
    }
    nothing_left(&dir, &[])
}

fn parent() -> Outcome {
    let dir = scratch::directory("parent", own_user()).map_err(|e| e.to_string())?;
    let mut command = Command::new("/bin/sh");
    command::as_user(&mut command, own_user());
    let dumper = scratch::dumper().display();
    let line = format!("{dumper} $$ -o {}/x.elf; echo status $?", dir.display());
    command.args(["-c", &line]);
    let done = command::run(&mut command, &dir)?.expect(0, "the shell that dumps itself")?;
    contains_one(&done.stderr, &["parent", "ancestor"])?;
    if !done.stdout.contains("status 3") && !done.stdout.contains("status 4") {
        return Err(done.tell());
    }
    nothing_left(&dir, &[])
}

fn protection_key() -> Outcome {
    let processor = fs::read_to_string("/proc/cpuinfo").map_err(|e| e.to_string())?;
    if !processor.split_ascii_whitespace().any(|flag| flag == "ospke") {
        eprintln!("refused::protection_key: this processor has none, nothing tried");
        return Ok(());
    }
    refused(own_user(), &["pkey"], &[&["has a protection key"]])
}

/// What root made for a user cannot be made again by the user.
fn raw_of_root() -> Outcome {
    let dir = scratch::directory("raw", None).map_err(|e| e.to_string())?;
    let mut process = start(&["raw-of-root"], None, &dir)?;
    let words = ["a raw socket, which you may not make again"];
    fails(process.pid, Some(NOBODY), &[REFUSED], &words)?;
    process.verify()
}

fn other_user() -> Outcome {
    let dir = scratch::directory("other", None).map_err(|e| e.to_string())?;
    let mut process = start(&["nothing"], None, &dir)?;
    fails(process.pid, Some(NOBODY), &[REFUSED, NO_PROCESS], &["user", "permi", "owner"])?;
    process.verify()
}

/// A 32-bit program by hand, as a machine may have no compiler for one: it waits for signals.
fn program_of_32_bits(path: &Path) -> std::io::Result<()> {
    let code: [u8; 9] = [0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7];
    let base = 0x0804_8000u32;
    let mut file = Vec::new();
    file.extend_from_slice(b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2u16, 3] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    for word in [1u32, base + 84, 52, 0, 0] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for half in [52u16, 32, 1, 0, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    let size = 84 + code.len() as u32;
    for word in [1u32, 0, base, base, size, size, 5, 4096] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&code);
    let mut out = fs::File::create(path)?;
    out.write_all(&file)?;
    out.set_permissions(fs::Permissions::from_mode(0o755))
}

fn thirty_two_bit() -> Outcome {
    let dir = scratch::directory("thirty-two", None).map_err(|e| e.to_string())?;
    let path: PathBuf = dir.join("program");
    program_of_32_bits(&path).map_err(|e| e.to_string())?;
    let mut command = Command::new(&path);
    command::as_user(&mut command, own_user());
    let process = match process::start(command, Kind::Pipes, &dir) {
        Ok(process) => process,
        Err(why) => {
            eprintln!("refused::thirty_two_bit: this kernel runs no 32-bit programs: {why}");
            return Ok(());
        }
    };
    until("the 32-bit program to run", || {
        fs::read_to_string(format!("/proc/{}/comm", process.pid)).is_ok_and(|c| c == "program\n")
    })?;
    fails(process.pid, own_user(), &[REFUSED, NO_PROCESS], &["32-bit"])
}
