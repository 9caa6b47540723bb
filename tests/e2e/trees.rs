//! Real programs of several processes.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::command;
use crate::process::{Kind, Outcome, Process};
use crate::programs::{as_both, Stage};
use crate::scratch;
use crate::victims::{resume_with, until, Mode, Victim};
use crate::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut all = of_both();
    // Others have no right to choose ids.
    all.push(Case::new("tree::id_is_a_group_of_others", true, || ids_of_others(&[])));
    all.push(Case::new("tree::id_is_a_session_of_others", true, || ids_of_others(&["session"])));
    all
}

fn of_both() -> Vec<Case> {
    as_both(
        "tree",
        &[
            ("shell_with_jobs", shell_with_jobs),
            ("pipeline", pipeline),
            ("python_pool", python_pool),
            ("make_in_the_middle", make),
            ("sqlite_in_memory", sqlite),
            ("orphans_live_on", orphans),
        ],
    )
}

/// The root process ends, and with it the command; a child of it goes on and on.
fn orphans(mode: Mode) -> Outcome {
    let mut stage = Stage::new("orphans", mode)?;
    let program = Victim::named("orphans")?.program();
    let mut process = stage.start(&program, &[], Kind::Pipes)?;
    process.expect("READY")?;
    process = stage.travel(process, Kind::Pipes)?;
    process.verify()?;
    let sign = stage.dir.join("orphan");
    until("the orphan's sign of life", || sign.exists())
}

/// A child's id is used outside of the tree when it is resumed, but by no process as its own.
fn ids_of_others(arguments: &[&str]) -> Outcome {
    let stage = Stage::new("ids", Mode::Root)?;
    let program = Victim::named("outside_ids")?.program();
    let mut process = stage.start(&program, arguments, Kind::Pipes)?;
    process.expect("OUTSIDER ")?;
    let number = |text: String| text.trim().parse::<i32>().map_err(|e| format!("{text:?}: {e}"));
    let outsider = number(process.expect(" CHILD ")?)?;
    let child = number(process.expect("\n")?)?;
    process.expect("READY")?;
    let image = stage.dir.join("resume.elf");
    command::dump(process.pid, &image, None, &[])?;
    command::gone(&mut process)?;
    let kill = |signal| nix::sys::signal::kill(Pid::from_raw(outsider), signal);
    let outcome = (|| {
        kill(None).map_err(|e| format!("the outsider is gone: {e}"))?;
        let mut command = Command::new(&image);
        command.arg("--same-pid");
        let done = command::run(&mut command, &stage.dir)?.expect(125, "--same-pid")?;
        done.says(&format!("the original process id is taken: {child}"))?;
        let mut process = resume_with(Mode::Root, &image, &stage.dir, Kind::Pipes, &["--verbose"])?;
        process.expect("in pid and mount namespaces of its own")?;
        process.ping()?;
        process.verify()
    })();
    let _ = kill(Some(Signal::SIGKILL));
    outcome?;
    until("the outsider to end", || kill(None).is_err())?;
    let mut process = resume_with(Mode::Root, &image, &stage.dir, Kind::Pipes, &["--same-pid"])?;
    process.verify()
}

const PROMPT: &str = "@prompt@ ";

/// An interactive shell with a variable, a running and a stopped job.
fn shell_with_jobs(mode: Mode) -> Outcome {
    let mut stage = Stage::new("jobs", mode)?;
    let arguments = ["--norc", "--noprofile", "--noediting", "-i"];
    let bash = Path::new("/bin/bash");
    let mut process = stage.start_with(bash, &arguments, Kind::Pty, &[("PS1", PROMPT)])?;
    process.expect(PROMPT)?;
    process.send("kept=before; sleep 1000 &")?;
    process.expect(PROMPT)?;
    let job = Victim::named("terminal")?.program();
    process.send(&job.display().to_string())?;
    process.expect("READY")?;
    process.send_raw(b"\x1a")?;
    process.expect("Stopped")?;
    process.expect(PROMPT)?;
    for _ in 0..2 {
        process = stage.travel(process, Kind::Pty)?;
        process.send("echo \"<$kept $(jobs -p | wc -l)>\"")?;
        process.expect("<before 2>")?;
        process.expect(PROMPT)?;
        // Not only what a substitution reads, but also what a pipeline writes to the terminal.
        process.send("jobs -r | grep -c 1000; jobs -s | grep -c terminal; echo \"<o\"ver\">\"")?;
        let told = process.expect("<over>")?;
        let lines: Vec<&str> = told.lines().map(str::trim).collect();
        if lines.iter().filter(|l| **l == "1").count() != 2 {
            return Err(format!("the jobs are {told:?}"));
        }
        if told.contains("Stopped") {
            return Err(format!("the stop is told once more: {told:?}"));
        }
        process.expect(PROMPT)?;
    }
    process.send("kill %1 && wait %1; echo \"<status $?>\"")?;
    process.expect("<status 143>")?;
    process.expect(PROMPT)?;
    process.send("fg %2")?;
    process.ping()?;
    process.send_raw(b"\x03")?;
    process.expect(PROMPT)?;
    process.send("echo \"<status $?>\"; exit 5")?;
    process.expect("<status 130>")?;
    process.exit_code(5)
}

/// Three stages with data between them; the result must be the one of an undisturbed run.
fn pipeline(mode: Mode) -> Outcome {
    let mut stage = Stage::new("pipeline", mode)?;
    let script = "seq 1 3000000 | tee seen | sort -r | md5sum; echo over";
    let shell = Path::new("/bin/sh");
    let mut process = stage.start(shell, &["-c", script], Kind::Pipes)?;
    let seen = stage.dir.join("seen");
    let size = || fs::metadata(&seen).map_or(0, |m| m.len());
    for mebibytes in [1, 8] {
        until("data to flow", || size() > mebibytes << 20)?;
        process = stage.travel(process, Kind::Pipes)?;
    }
    // printf '%s\n' of the numbers, sorted as text in reverse: the C locale's order.
    process.expect("over")?;
    let told = process.seen();
    let mut plain = stage.start(shell, &["-c", "seq 1 3000000 | sort -r | md5sum"], Kind::Pipes)?;
    plain.exit_code(0)?;
    let wanted = plain.seen();
    if told.contains(wanted.trim()) {
        return process.exit_code(0);
    }
    Err(format!("the sum is {told:?}, should be {wanted:?}"))
}

/// A pool of processes that share locks, queues and a result.
fn python_pool(mode: Mode) -> Outcome {
    let mut stage = Stage::new("pool", mode)?;
    let source = scratch::sources().join("tests/victims/pool.py");
    fs::copy(source, stage.dir.join("pool.py")).map_err(|e| e.to_string())?;
    let python = Path::new("/usr/bin/python3");
    let digest = |p: &mut Process| -> Outcome<String> {
        p.expect("digest ")?;
        p.expect("\n")
    };
    let mut plain = stage.start(python, &["pool.py"], Kind::Pipes)?;
    let wanted = digest(&mut plain)?;
    plain.exit_code(0)?;
    let mut process = stage.start(python, &["pool.py"], Kind::Pipes)?;
    for part in ["part 20\n", "part 60\n"] {
        process.expect(part)?;
        process = stage.travel(process, Kind::Pipes)?;
    }
    let got = digest(&mut process)?;
    if wanted != got {
        return Err(format!("the digest is {got}, should be {wanted}"));
    }
    process.exit_code(0)
}

/// make with two jobs, in the middle of its work.
fn make(mode: Mode) -> Outcome {
    let mut stage = Stage::new("make", mode)?;
    let mut text = String::from("all: sum\n\n");
    let parts: Vec<String> = (0..12).map(|i| format!("part{i}")).collect();
    for (i, part) in parts.iter().enumerate() {
        text.push_str(part);
        text.push_str(":\n\tseq ");
        text.push_str(&i.to_string());
        text.push_str(" 400000 | sort -r | md5sum > $@.new && mv $@.new $@\n\n");
    }
    let all = parts.join(" ");
    let sum = format!("{text}sum: {all}\n\tcat {all} | md5sum > sum\n");
    fs::write(stage.dir.join("Makefile"), sum).map_err(|e| e.to_string())?;
    let program = Path::new("/usr/bin/make");
    let mut plain = stage.start(program, &["-s", "-j2"], Kind::Pipes)?;
    plain.exit_code(0)?;
    let sum = || fs::read_to_string(stage.dir.join("sum")).map_err(|e| e.to_string());
    let wanted = sum()?;
    for name in parts.iter().map(String::as_str).chain(["sum"]) {
        fs::remove_file(stage.dir.join(name)).map_err(|e| e.to_string())?;
    }
    let mut process = stage.start(program, &["-s", "-j2"], Kind::Pipes)?;
    for count in [2, 6] {
        let done = || parts.iter().filter(|p| stage.dir.join(p).exists()).count();
        until("make to come that far", || done() >= count)?;
        process = stage.travel(process, Kind::Pipes)?;
    }
    process.exit_code(0)?;
    let sum = fs::read_to_string(stage.dir.join("sum")).map_err(|e| e.to_string())?;
    if sum == wanted {
        return Ok(());
    }
    Err(format!("the result is {sum:?}, should be {wanted:?}"))
}

/// A database that exists in memory only, at its prompt.
fn sqlite(mode: Mode) -> Outcome {
    let mut stage = Stage::new("sqlite", mode)?;
    let program = Path::new("/usr/bin/sqlite3");
    let mut process = stage.start(program, &["-interactive", ":memory:"], Kind::Pty)?;
    process.expect("sqlite> ")?;
    process.send("create table kept as with recursive n(i) as (values(1) union all select i+1 from n limit 5000) select i, i*i as square from n;")?;
    process.expect("sqlite> ")?;
    for _ in 0..2 {
        process = stage.travel(process, Kind::Pty)?;
        process.send("select 'sum', sum(square) from kept;")?;
        process.expect("sum|41679167500")?;
        process.expect("sqlite> ")?;
    }
    process.send(".quit")?;
    process.exit_code(0)
}
