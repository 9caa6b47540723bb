//! Machines with less than the one of the dump: fewer process ids, fewer processors, a directory that is
//! not there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::need;
use crate::command;
use crate::process::{self, Kind, Outcome, Process};
use crate::refusals::nobody_left;
use crate::scratch;
use crate::victims::{resume_with, until, Mode, Victim};
use crate::Case;

/// All cases; making a place with less room takes root's rights.
pub fn cases() -> Vec<Case> {
    let case =
        |name: &str, body: fn() -> Outcome| Case::new(format!("narrower::{name}"), true, body);
    vec![
        case("pid_above_the_highest", pid_above_the_highest),
        case("processors_not_allowed", processors),
        case("no_directory_below_the_root", no_directory_below_the_root),
    ]
}

/// The victim `plain`, started by `command` and dumped.
fn dumped(name: &str, mut command: Command) -> Outcome<(PathBuf, i32)> {
    let dir = scratch::directory(name, None).map_err(|e| e.to_string())?;
    command::as_user(&mut command, None);
    command.current_dir(&dir).env("VICTIM", "plain").args(["an argument", ""]);
    let mut process = process::start(command, Kind::Pipes, &dir)?;
    process.expect("READY")?;
    let pid = process.pid;
    command::dump(pid, &dir.join("resume.elf"), None, &[])?;
    command::gone(&mut process)?;
    Ok((dir, pid))
}

/// A process whose working directory is not there any more does not leave its root directory for that.
fn no_directory_below_the_root() -> Outcome {
    let dir = scratch::directory("jail", None).map_err(|e| e.to_string())?;
    let mut command = Command::new(Victim::named("chrooted")?.program());
    command::as_user(&mut command, None);
    command.current_dir(&dir).arg("gone");
    let mut process = process::start(command, Kind::Pipes, &dir)?;
    process.expect("READY")?;
    let image = dir.join("resume.elf");
    command::dump(process.pid, &image, None, &[])?;
    command::gone(&mut process)?;
    fs::remove_dir_all(dir.join("jail/inner")).map_err(|e| e.to_string())?;
    let mut process = resume_with(Mode::Root, &image, &dir, Kind::Pipes, &[])?;
    process.expect("note: not brought back: working directory ")?;
    process.verify()
}

/// Starts the image in a pid namespace that has ids up to this only; 6.14 and newer have such.
fn below(highest: i32, dir: &Path, options: &str) -> Command {
    let mut command = Command::new("/usr/bin/unshare");
    command::as_user(&mut command, None);
    let line =
        format!("echo {highest} > /proc/sys/kernel/pid_max && exec ./resume.elf {options} 2> said");
    command.args(["--pid", "--fork", "sh", "-c", &line]).current_dir(dir);
    command
}

/// A pid that is higher than any of the target's comes back in a namespace; with `--same-pid`, where
/// the target's own namespace has no such pid, that is an error.
fn pid_above_the_highest() -> Outcome {
    let command = Command::new(Victim::named("plain")?.program());
    let (dir, pid) = dumped("highest", command)?;
    if !Path::new("/proc/sys/kernel/pid_max").exists() || pid <= 400 {
        return Err(format!("pid {pid} is not above any limit that there may be"));
    }
    let before = pid_max()?;
    let mut process = process::start(below(350, &dir, "-v"), Kind::Pipes, &dir)?;
    let said = || fs::read_to_string(dir.join("said")).unwrap_or_default();
    let pong = process.ping();
    if pid_max()? != before {
        // An older kernel has one limit for all.
        fs::write("/proc/sys/kernel/pid_max", before).map_err(|e| e.to_string())?;
        eprintln!("narrower: pid namespaces have no limit of their own here, nothing tried");
        return process.end();
    }
    pong.map_err(|e| format!("{e}\n{}", said()))?;
    // The supervisor tells, while the program answers already.
    until("the mode to be told", || said().contains("mode: original pid in pid and "))?;
    process.verify()?;
    let done = command::run(&mut below(350, &dir, "--same-pid"), &dir)?;
    done.expect(125, "--same-pid")?;
    nobody_left(&dir)?;
    need(&said(), &[&pid.to_string(), "--same-pid"])
}

fn pid_max() -> Outcome<String> {
    fs::read_to_string("/proc/sys/kernel/pid_max").map_err(|e| e.to_string())
}

/// A set of processors and no others, for whoever is in it; gone with the value.
struct Cpuset(PathBuf);

impl Cpuset {
    /// The set of the first processor; none where control groups cannot be made.
    fn of_the_first() -> Option<Cpuset> {
        let name =
            format!("dumper-e2e-{}-first-{:?}", std::process::id(), std::thread::current().id());
        let name: String = name.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect();
        for top in ["/sys/fs/cgroup/cpuset", "/sys/fs/cgroup"] {
            let group = Path::new(top).join(&name);
            if !Path::new(top).join("cgroup.procs").exists() || fs::create_dir(&group).is_err() {
                continue;
            }
            let set = Cpuset(group);
            let put = |file: &str| fs::write(set.0.join(file), "0").is_ok();
            if put("cpuset.cpus") && put("cpuset.mems") {
                return Some(set);
            }
        }
        None
    }
}

impl Drop for Cpuset {
    fn drop(&mut self) {
        let _ = until("a group to be empty", || fs::remove_dir(&self.0).is_ok());
    }
}

/// What a process may run on.
fn allowed(pid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap_or_default().trim().to_owned()
}

/// A program for the second processor is resumed where only the first one is allowed.
fn processors() -> Outcome {
    let Some(set) = Cpuset::of_the_first() else {
        eprintln!("narrower: no set of processors can be made here, nothing tried");
        return Ok(());
    };
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("narrower: this machine has one processor, nothing tried");
        return Ok(());
    }
    let mut command = Command::new("/usr/bin/taskset");
    command.args(["-c", "1"]).arg(Victim::named("plain")?.program());
    let (dir, _) = dumped("processors", command)?;
    let mut shell = Command::new("/bin/sh");
    command::as_user(&mut shell, None);
    let line = format!("echo $$ > {}/cgroup.procs && exec ./resume.elf --new-pid", set.0.display());
    shell.args(["-c", &line]).current_dir(&dir);
    let mut process: Process = process::start(shell, Kind::Pipes, &dir)?;
    process.expect("note: none of the program's CPUs may be used here")?;
    process.ping()?;
    if allowed(process.pid) != "0" {
        return Err(format!("it may run on {:?}", allowed(process.pid)));
    }
    process.verify()
}
