//! What the dump is told to do about what is not the tree's own, and what `dumper check` tells of it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::command;
use crate::process::{self, children, Kind, Outcome, Process};
use crate::refusals;
use crate::scratch;
use crate::victims::{resume_with, Mode, Victim};
use crate::Case;

const MODE: Mode = Mode::User;
const FAILED: i32 = 125;
const REFUSED: i32 = 3;

/// Victims which hold objects of many kinds, alone and in trees.
const MANY: &[&str] = &[
    "files",
    "pipes",
    "epoll",
    "socket_pairs",
    "socket_inet",
    "socket_netlink",
    "tree",
    "memfd",
    "deleted",
    "fifo",
    "locks",
    "timerfd",
    "signalfd",
    "inotify",
    "mqueue",
    "pidfd",
    "pty_pairs",
];

/// All cases.
pub fn cases() -> Vec<Case> {
    let case =
        |name: &str, body: fn() -> Outcome| Case::new(format!("policies::{name}"), false, body);
    let mut all = vec![
        case("on_changed_of_the_dump", on_changed_of_the_dump),
        case("external_sockets_refused", external_sockets_refused),
        case("external_pipes", external_pipes),
        case("external_events", external_events),
        case("check_counts_shared_memory_once", shared_memory_counts_once),
    ];
    all.extend(MANY.iter().map(|victim| {
        Case::new(format!("policies::check_lists_all_of_{victim}"), false, move || {
            check_lists_all(victim)
        })
    }));
    all
}

fn directory(name: &str) -> Outcome<PathBuf> {
    scratch::directory(name, MODE.uid()).map_err(|e| e.to_string())
}

fn content_is(image: &Path, dir: &Path, options: &[&str], content: &str) -> Outcome {
    let mut process = resume_with(MODE, image, dir, Kind::Pipes, options)?;
    process.send("verify")?;
    process.expect(&format!("CONTENT {content}\n"))?;
    process.exit_code(0)
}

fn fails(image: &Path, dir: &Path, options: &[&str]) -> Outcome {
    let mut process = resume_with(MODE, image, dir, Kind::Pipes, options)?;
    process.expect("data.txt")?;
    process.exit_code(FAILED)
}

/// What the dump was told holds at a plain resume; what the resume is told goes before it.
fn on_changed_of_the_dump() -> Outcome {
    for policy in ["refuse", "accept", "embed"] {
        let dir = directory("on-changed")?;
        let data = dir.join("data.txt");
        let write = |text: &str| fs::write(&data, text).map_err(|e| e.to_string());
        write("what it was")?;
        chown(&data, MODE.uid(), MODE.uid()).map_err(|e| e.to_string())?;
        let image = dir.join("resume.elf");
        let mut process = Victim::named("open_file")?.start(MODE, &dir)?;
        command::dump(process.pid, &image, MODE.uid(), &["--on-changed", policy])?;
        command::gone(&mut process)?;
        content_is(&image, &dir, &[], "what it was")?;
        write("what it is by now")?;
        let tag = |why: String| format!("dumped with {policy}: {why}");
        match policy {
            "accept" => content_is(&image, &dir, &[], "what it is by now"),
            "embed" => content_is(&image, &dir, &[], "what it was"),
            _ => fails(&image, &dir, &[]),
        }
        .map_err(tag)?;
        // Whatever was said at the dump.
        write("what it is by now")?;
        fails(&image, &dir, &["--on-changed", "refuse"]).map_err(tag)?;
        content_is(&image, &dir, &["--on-changed", "accept"], "what it is by now").map_err(tag)?;
        content_is(&image, &dir, &["--on-changed", "embed"], "what it was").map_err(tag)?;
    }
    Ok(())
}

/// To refuse is the default, and can be said; the other process is named.
fn external_sockets_refused() -> Outcome {
    let dir = directory("external")?;
    let mut process = Victim::named("socket_outside")?.start(MODE, &dir)?;
    for options in [&[][..], &["--external-sockets", "refuse"]] {
        let mut command = command::dumper(MODE.uid());
        command.arg(process.pid.to_string()).arg("-o").arg(dir.join("resume.elf")).args(options);
        let done = command::run(&mut command, &dir)?.expect(REFUSED, "dump")?;
        done.says("is connected with process")?;
        done.says("(outsider)")?;
        process.ping()?;
    }
    process.verify()
}

/// The same of pipes; where they are closed, `check` and the dump say so, and the resume may put
/// something else in the place of one.
fn external_pipes() -> Outcome {
    let dir = directory("external-pipes")?;
    let image = dir.join("resume.elf");
    let process = Victim::named("pipe_outside")?.start(MODE, &dir)?;
    let pid = process.pid.to_string();
    let dumper = |arguments: &[&str], code| {
        let mut command = command::dumper(MODE.uid());
        command.args(arguments).arg(&pid);
        command::run(&mut command, &dir)?.expect(code, "dumper")
    };
    let output = image.display().to_string();
    for options in [&[][..], &["--external-pipes", "refuse"]] {
        let done = dumper(&[&["-o", &output], options].concat(), REFUSED)?;
        done.says("for 3 reasons")?;
        done.says("descriptor 3 (pipe:")?;
        done.says("is a pipe whose other end process")?;
        done.says("is shared with process")?;
        done.says("(outsider); use --external-pipes close")?;
    }
    let done = dumper(&["check", "--external-pipes", "close"], 0)?;
    if !done.stdout.contains("a resumed program sees that that was closed") {
        return Err(done.tell());
    }
    dumper(&["-o", &output, "--external-pipes", "close"], 0)?.says("that that was closed")?;
    fs::write(dir.join("words"), "first words").map_err(|e| e.to_string())?;
    let mut command = Command::new(&image);
    command::as_user(&mut command, MODE.uid());
    command.args(["--inherit-fd", "3=words"]).current_dir(&dir);
    let mut process = process::start(command, Kind::Pipes, &dir)?;
    process.send("verify")?;
    process.expect("the data is not there").map(drop)
}

/// The same policy holds for what else passes events on: each side has its own afterwards.
fn external_events() -> Outcome {
    for state in ["shared-eventfd", "shared-timerfd", "shared-epoll", "shared-inotify"] {
        let dir = directory("external-events")?;
        let image = dir.join("resume.elf");
        let mut process = refusals::start(&[state], MODE.uid(), &dir)?;
        command::dump(process.pid, &image, MODE.uid(), &["--external-pipes", "close"])?;
        command::gone(&mut process)?;
        resume_with(MODE, &image, &dir, Kind::Pipes, &[])?.verify()?;
    }
    Ok(())
}

/// What ten processes share counts once, as it is stored once.
fn shared_memory_counts_once() -> Outcome {
    let dir = directory("shared")?;
    let mut process = Victim::named("shared_by_ten")?.start(MODE, &dir)?;
    let mut command = command::dumper(MODE.uid());
    command.args(["check", "--json", &process.pid.to_string()]);
    let told = command::run(&mut command, &dir)?.expect(0, "check")?.stdout;
    let told: Value = serde_json::from_str(&told).map_err(|e| e.to_string())?;
    let bytes = told["bytes"].as_u64().ok_or("no bytes")?;
    let image = dir.join("resume.elf");
    command::dump(process.pid, &image, MODE.uid(), &["--leave-running"])?;
    let size = fs::metadata(&image).map_err(|e| e.to_string())?.len();
    if bytes.abs_diff(size) > size / 4 {
        return Err(format!("told of {bytes} bytes, the image has {size}"));
    }
    process.verify()
}

/// A process and its descendants.
fn tree(pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(&pid) = all.get(next) {
        all.extend(children(pid));
        next += 1;
    }
    all
}

/// The descriptors that /proc shows.
fn descriptors(pid: i32) -> Outcome<BTreeSet<i64>> {
    let list = fs::read_dir(format!("/proc/{pid}/fd")).map_err(|e| format!("{pid}: {e}"))?;
    Ok(list.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect())
}

/// Every process, and every descriptor of it with a verdict, as values and in words.
fn check_lists_all(victim: &str) -> Outcome {
    let dir = directory("check")?;
    let mut process: Process = Victim::named(victim)?.start(MODE, &dir)?;
    let pid = process.pid.to_string();
    let check = |options: &[&str]| -> Outcome<String> {
        let mut command = command::dumper(MODE.uid());
        command.args(["check", &pid]).args(options);
        Ok(command::run(&mut command, &dir)?.expect(0, "check")?.stdout)
    };
    let told: Value = serde_json::from_str(&check(&["--json"])?).map_err(|e| e.to_string())?;
    let words = check(&[])?;
    let objects = told["objects"].as_array().ok_or("no objects")?;
    // A zombie holds nothing.
    let holds = |pid: &i32| descriptors(*pid).is_ok_and(|all| !all.is_empty());
    let living: Vec<i32> = tree(process.pid).into_iter().filter(holds).collect();
    if living.len() < objects.len() {
        return Err(format!("the living are {living:?}, told is of more: {told}"));
    }
    for &pid in &living {
        let of_it = objects.iter().find(|o| o["pid"] == pid);
        let of_it = of_it.ok_or_else(|| format!("process {pid} is not told of: {told}"))?;
        let list = of_it["descriptors"].as_array().ok_or("no descriptors")?;
        let listed: BTreeSet<i64> = list.iter().filter_map(|d| d["fd"].as_i64()).collect();
        let held = descriptors(pid)?;
        if listed != held {
            return Err(format!("process {pid} holds {held:?}, listed are {listed:?}"));
        }
        if let Some(d) = list.iter().find(|d| !is_verdict(&d["fate"])) {
            return Err(format!("no verdict: {d}"));
        }
        let head = format!("process {pid} (");
        let (_, rest) = words.split_once(&head).ok_or_else(|| format!("no {head}:\n{words}"))?;
        let section = rest.split("\nprocess ").next().unwrap_or_default();
        for fd in held {
            let start = format!("  {fd:>4}  ");
            let line = section.lines().find_map(|l| l.strip_prefix(&start));
            // The object, and what becomes of it.
            if line.is_none_or(|line| line.split_ascii_whitespace().count() < 2) {
                return Err(format!("no verdict on descriptor {fd} of {pid}:\n{words}"));
            }
        }
    }
    process.verify()
}

fn is_verdict(fate: &Value) -> bool {
    ["travels", "differs", "refused"].iter().any(|wanted| fate == wanted)
}
