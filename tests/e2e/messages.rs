//! What `dumper` says: that it names what it speaks of, and what can be done.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::cli::{directory, dumped, dumper, need, MODE};
use crate::command;
use crate::process::{self, Kind, Outcome};
use crate::refusals;
use crate::victims::{Mode, Victim};
use crate::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("messages::pid_that_is_none", false, pid_that_is_none),
        Case::new("messages::proc_that_is_not_there", true, without_proc),
        Case::new("messages::proc_that_hides", true, hidden),
        Case::new("messages::usage_of_run", false, usage_of_run),
        Case::new("messages::errors_as_json", false, errors_as_json),
        Case::new("messages::refusals_as_json", false, refusals_as_json),
        Case::new("messages::refusal_in_a_tree", false, refusal_in_a_tree),
        Case::new("messages::check_tells_what_breaks", false, check_tells_what_breaks),
        Case::new("messages::check_of_consent", false, check_of_consent),
        Case::new("messages::needs_are_told_once", false, needs_are_told_once),
        Case::new("messages::limit_not_brought_back", false, limit_not_brought_back),
        Case::new("messages::clock_that_jumps", false, clock_that_jumps),
        Case::new("messages::steps_of_a_dump", false, steps_of_a_dump),
        Case::new("messages::bar_on_a_terminal", false, bar_on_a_terminal),
        Case::new("messages::size_to_expect", false, size_to_expect),
        Case::new("messages::damage_passed_over", false, damage_passed_over),
    ]
}

fn json(text: &str) -> Outcome<serde_json::Value> {
    serde_json::from_str(text).map_err(|e| format!("{e}: {text}"))
}

fn pid_that_is_none() -> Outcome {
    let dir = directory("none")?;
    for arguments in [&["check", "abc"][..], &["abc", "-o", "x.elf"], &["check", "-5"]] {
        let done = dumper(&dir, arguments)?.expect(2, &format!("{arguments:?}"))?;
        let words = ["not a process id", "`ps`"];
        need(&done.stderr, if arguments[1] == "-5" { &["--help"] } else { &words })?;
    }
    Ok(())
}

fn usage_of_run() -> Outcome {
    let done = dumper(&directory("usage")?, &["run", "--help"])?.expect(0, "run --help")?;
    need(&done.stdout, &["Usage: dumper run <FILE> [ARGS]...", "`dumper run FILE --help` lists"])
}

/// An error is one shape of JSON, whatever was asked for, beside the words on standard error.
fn errors_as_json() -> Outcome {
    let dir = directory("errors")?;
    for (arguments, status) in [
        (&["check", "4194303", "--json"][..], 4),
        (&["4194303", "-o", "x.elf", "--json"], 4),
        (&["inspect", "nosuch", "--json"], 1),
        (&["recv", "nosuch", "-o", "x.elf", "--json"], 1),
        (&["send", "nosuch", "/dev/null", "--json"], 1),
    ] {
        let done = dumper(&dir, arguments)?;
        let tell = |e: String| format!("{arguments:?}: {e}");
        let done = done.expect(status, "a failure").map_err(tell)?;
        let error = &json(&done.stdout).map_err(tell)?["error"];
        let message = error["message"].as_str().unwrap_or_default();
        if error["status"] != status || message.is_empty() || !done.stderr.contains(message) {
            return Err(tell(done.tell()));
        }
    }
    Ok(())
}

/// `check` and a dump give the same reasons in the same words.
fn refusals_as_json() -> Outcome {
    let dir = directory("reasons")?;
    let mut process = refusals::start(&["outside-pipe", "netlink"], MODE.uid(), &dir)?;
    let pid = process.pid.to_string();
    let mut told = Vec::new();
    for arguments in [&["check", &pid, "--json"][..], &[&pid, "-o", "x.elf", "--json"]] {
        let done = dumper(&dir, arguments)?.expect(3, &format!("{arguments:?}"))?;
        told.push(json(&done.stdout)?["error"].clone());
    }
    if told[0] != told[1] || told[0]["reasons"].as_array().map(Vec::len) != Some(2) {
        return Err(format!("{:#}\n{:#}", told[0], told[1]));
    }
    process.verify()
}

/// In a tree each refusal says of which process it speaks, and `check` puts it where it belongs.
fn refusal_in_a_tree() -> Outcome {
    let dir = directory("in-a-tree")?;
    let mut shell = Command::new("/bin/sh");
    command::as_user(&mut shell, MODE.uid());
    let program = Victim::named("refused")?.program();
    let line = format!("{} outside-pipe netlink; exit $?", program.display());
    shell.args(["-c", &line]).current_dir(&dir);
    let mut shell = process::start(shell, Kind::Pipes, &dir)?;
    shell.expect("READY")?;
    let child = *process::children(shell.pid).first().ok_or("the shell has no child")?;
    let pid = shell.pid.to_string();
    let of_child = format!("of process {child} (refused): is a ");
    let dump = dumper(&dir, &[&pid, "-o", "x.elf"])?.expect(3, "dump")?;
    need(&dump.stderr, &[&format!("{of_child}pipe"), &format!("{of_child}netlink")])?;
    let check = dumper(&dir, &["check", &pid])?.expect(3, "check")?;
    need(&check.stdout, &["for 2 reasons", "refused: is a pipe whose other end process"])?;
    if check.stdout.contains("  descriptor ") {
        return Err(format!("said twice:\n{}", check.stdout));
    }
    shell.verify()
}

/// What a resumed program will find broken is told in words, as the dump tells it.
fn check_tells_what_breaks() -> Outcome {
    let dir = directory("breaks")?;
    let mut process = Victim::named("socket_outside")?.start(MODE, &dir)?;
    let pid = process.pid.to_string();
    let arguments = ["check", &pid, "--external-sockets", "close"];
    let done = dumper(&dir, &arguments)?.expect(0, "check")?;
    need(&done.stdout, &["warning: descriptor ", "sees that the connection was reset"])?;
    let done = dumper(&dir, &[&arguments[..], &["--json"]].concat())?.expect(0, "check --json")?;
    let value = json(&done.stdout)?;
    if value["warnings"].as_array().is_none_or(Vec::is_empty) || !value["error"].is_null() {
        return Err(done.tell());
    }
    process.verify()
}

/// `check` tells who would be asked, and asks nobody.
fn check_of_consent() -> Outcome {
    let dir = directory("check-consent")?;
    let mut process = Victim::named("plain")?.start(MODE, &dir)?;
    let pid = process.pid.to_string();
    let done = dumper(&dir, &["check", &pid, "--consent", "require"])?.expect(6, "check")?;
    need(&done.stdout, &["for one reason", &format!("process {pid} (plain): refused: has no ha")])?;
    process.verify()?;
    let mut process = Victim::named("consent_plain")?.start(MODE, &dir)?;
    let pid = process.pid.to_string();
    let done = dumper(&dir, &["check", &pid, "--consent", "require"])?.expect(0, "check")?;
    need(&done.stdout, &["is asked first, by its handler for SIGUSR1"])?;
    let done = dumper(&dir, &["check", &pid])?.expect(0, "check")?;
    if done.stdout.contains("is asked first") {
        return Err(done.tell());
    }
    process.end()?;
    let mut process = Victim::named("consent")?.start(MODE, &dir)?;
    let pid = process.pid.to_string();
    let done = dumper(&dir, &["check", &pid])?.expect(0, "check")?;
    need(&done.stdout, &["is asked first, as it registered for that"])?;
    let done = dumper(&dir, &["check", &pid, "--consent", "ignore"])?.expect(0, "check")?;
    if done.stdout.contains("is asked first") {
        return Err(done.tell());
    }
    process.end()
}

/// Runs `dumper check` where `line` has made another /proc.
fn check_after(line: &str, pid: i32, dir: &Path) -> Outcome<command::Finished> {
    let mut command = Command::new("/usr/bin/unshare");
    command::as_user(&mut command, None);
    let line = format!("{line} {} check {pid}", crate::scratch::dumper().display());
    command.args(["--mount", "sh", "-c", &line]).current_dir(dir);
    command::run(&mut command, dir)
}

/// Without /proc it is not said that there were no such process.
fn without_proc() -> Outcome {
    let dir = directory("without-proc")?;
    let mut process = Victim::named("plain")?.start(Mode::User, &dir)?;
    let done = check_after("umount -l /proc && exec", process.pid, &dir)?.expect(4, "check")?;
    need(&done.stderr, &["/proc is not mounted here", "mount -t proc"])?;
    process.verify()
}

/// Nor where /proc hides the processes of others.
fn hidden() -> Outcome {
    let dir = directory("hidden")?;
    let mut process = Victim::named("plain")?.start(Mode::Root, &dir)?;
    let user = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    for how in ["noaccess", "invisible", "ptraceable"] {
        let line = format!("mount -t proc -o hidepid={how} proc /proc && exec {user}");
        let done = check_after(&line, process.pid, &dir)?.expect(4, "check")?;
        need(&done.stderr, &["is hidden from this user", "as root"])?;
        let done = check_after(&line, 0x3f_ffff, &dir)?.expect(4, "check")?;
        need(&done.stderr, &["there is no such process"])?;
    }
    process.verify()
}

fn needs_are_told_once() -> Outcome {
    let (dir, _) = dumped("files", &["--embed-files", "0"])?;
    let done = dumper(&dir, &["inspect", "resume.elf"])?.expect(0, "inspect")?;
    let mut needs: Vec<&str> =
        done.stdout.lines().filter(|line| line.starts_with("  file ")).collect();
    let all = needs.len();
    needs.sort_unstable();
    needs.dedup();
    // The victim has a.txt open twice.
    if needs.len() == all && needs.iter().any(|line| line.ends_with("/a.txt")) {
        return Ok(());
    }
    Err(done.stdout)
}

/// Resumes an image and waits for words of its notes.
fn resume_says(dir: &Path, mut command: Command, words: &[&str]) -> Outcome {
    command::as_user(&mut command, MODE.uid());
    command.current_dir(dir);
    let mut process = process::start(command, Kind::Pipes, dir)?;
    for word in words {
        process.expect(word)?;
    }
    process.verify()
}

/// A limit that may not be raised again is told with its value and the way out.
fn limit_not_brought_back() -> Outcome {
    let (dir, image) = dumped("plain", &[])?;
    let limits = fs::read_to_string("/proc/self/limits").map_err(|e| e.to_string())?;
    let files = limits.lines().find(|line| line.starts_with("Max open files"));
    let mut files = files.unwrap_or_default().split_ascii_whitespace().skip(3);
    let (Some(soft), Some(hard)) = (files.next(), files.next()) else {
        return Err(format!("no limit of open files:\n{limits}"));
    };
    let told = format!("limit nofile of {soft}, at most {hard} (`prlimit --nofile` raises it");
    let mut command = Command::new(&image);
    command.arg("--new-pid");
    let lower = libc::rlimit { rlim_cur: 200, rlim_max: 200 };
    // SAFETY: setrlimit is async-signal-safe and reads only the value moved in.
    unsafe {
        command.pre_exec(move || {
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const lower) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    resume_says(&dir, command, &["note: not brought back: ", &told])
}

/// Where there are no namespaces for an ordinary user, the jump is told with the way out.
fn clock_that_jumps() -> Outcome {
    let (dir, image) = dumped("plain", &[])?;
    let mut command = Command::new(image);
    command.arg("--new-pid");
    resume_says(
        &dir,
        command,
        &["note: CLOCK_MONOTONIC jumps", "root gets one", "without --new-pid"],
    )
}

/// `-v` tells what is done, in its order, and nothing of it goes to standard output.
fn steps_of_a_dump() -> Outcome {
    let dir = directory("steps")?;
    let mut process = Victim::named("plain")?.start(MODE, &dir)?;
    let pid = process.pid.to_string();
    let done =
        dumper(&dir, &[&pid, "-o", "x.elf", "-v", "--leave-running"])?.expect(0, "dump -v")?;
    let stopping = format!("dumper: stopping process {pid}\n");
    let steps = [
        &stopping,
        "dumper: reading its state\n",
        "dumper: copying about ",
        "dumper: the process runs on\n",
        "dumper: writing model and plan\n",
        "dumper: committing the image\n",
        "dumper: note: descriptor 0 (pipe:",
    ];
    let mut rest = done.stderr.as_str();
    for step in steps {
        let at =
            rest.find(step).ok_or_else(|| format!("no {step:?} in its place: {}", done.tell()))?;
        rest = &rest[at + step.len()..];
    }
    if done.stdout.lines().count() != 1 {
        return Err(done.tell());
    }
    process.verify()
}

/// A dump that takes its time shows on a terminal how far it is, and takes that away again.
fn bar_on_a_terminal() -> Outcome {
    let dir = directory("bar")?;
    let mut command = Command::new(Victim::named("big")?.program());
    command::as_user(&mut command, MODE.uid());
    let mut victim = process::start(command, Kind::Pipes, &dir)?;
    victim.expect("READY")?;
    // Whoever reads the image is slow until the bar was seen.
    let mut command = Command::new("/bin/bash");
    command::as_user(&mut command, MODE.uid());
    let line = format!(
        "{} {} -o - | {{ while test ! -e seen; do head -c 65536; sleep 0.02; done; cat; }} > x.elf",
        crate::scratch::dumper().display(),
        victim.pid
    );
    command.args(["-o", "pipefail", "-c", &line]).current_dir(&dir);
    let mut dump = process::start(command, Kind::Pty, &dir)?;
    dump.expect("% of 6")?;
    let bar = dump.seen();
    if !bar.contains("\r[#") && !bar.contains("\r[ ") {
        return Err(format!("no bar: {bar:?}"));
    }
    fs::write(dir.join("seen"), "").map_err(|e| e.to_string())?;
    dump.expect("\r\u{1b}[K")?;
    dump.expect("the process runs on")?;
    dump.exit_code(0)?;
    // Where standard error is no terminal there is none, however long it takes.
    let done = dumper(&dir, &["inspect", "x.elf"])?.expect(0, "inspect")?;
    need(&done.stdout, &["Process"])?;
    victim.verify()
}

/// What `check` estimates is near what a dump makes.
fn size_to_expect() -> Outcome {
    let victims = [("plain", 80, 120), ("threads8", 80, 120), ("tree", 60, 150), ("big", 95, 105)];
    for (victim, low, high) in victims {
        let dir = directory("size")?;
        let mut command = Command::new(Victim::named(victim)?.program());
        command::as_user(&mut command, MODE.uid());
        command.current_dir(&dir).arg("32");
        let mut process = process::start(command, Kind::Pipes, &dir)?;
        process.expect("READY")?;
        let pid = process.pid.to_string();
        let check = dumper(&dir, &["check", &pid, "--json"])?.expect(0, "check")?;
        let dump = dumper(&dir, &[&pid, "-o", "x.elf", "--json", "--leave-running"])?;
        let dump = dump.expect(0, "dump")?;
        let bytes = |text: &str| json(text).map(|value| value["bytes"].as_u64().unwrap_or(0));
        let (guess, real) = (bytes(&check.stdout)?, bytes(&dump.stdout)?);
        let percent = guess * 100 / real.max(1);
        println!("{victim}: {guess} bytes estimated, {real} made");
        if !(low..=high).contains(&percent) {
            return Err(format!("{victim}: {guess} bytes estimated, {real} made"));
        }
        process.end()?;
    }
    Ok(())
}

/// `--no-verify` passes over damage in memory, of inspect and of the image; without it that is found.
fn damage_passed_over() -> Outcome {
    let dir = directory("damage")?;
    let image = dir.join("resume.elf");
    let mut command = Command::new(Victim::named("big")?.program());
    command::as_user(&mut command, MODE.uid());
    command.arg("8").current_dir(&dir);
    let mut process = process::start(command, Kind::Pipes, &dir)?;
    process.expect("READY")?;
    command::dump(process.pid, &image, MODE.uid(), &[])?;
    command::gone(&mut process)?;
    let mut bytes = fs::read(&image).map_err(|e| e.to_string())?;
    // The ninth word of the victim's memory, which is a known function of its place.
    let page: Vec<u8> = (0..512).flat_map(|i| mix(i).to_le_bytes()).collect();
    let at = process::find(&bytes, &page).ok_or("the victim's memory is not in the image")?;
    bytes[at + 64] ^= 1;
    fs::write(&image, bytes).map_err(|e| e.to_string())?;

    let inspect = |options: &[&str]| dumper(&dir, &[&["inspect", "resume.elf"], options].concat());
    need(&inspect(&[])?.expect(1, "inspect")?.stderr, &["checksum"])?;
    need(&inspect(&["--no-verify"])?.expect(0, "inspect --no-verify")?.stdout, &["Process"])?;
    let run = |options: &[&str]| {
        let mut command = Command::new(&image);
        command::as_user(&mut command, MODE.uid());
        command.args(options).current_dir(&dir);
        process::start(command, Kind::Pipes, &dir)
    };
    let mut refused = run(&["--new-pid"])?;
    refused.expect("damaged")?;
    refused.exit_code(125)?;
    refusals::nobody_left(&dir)?;
    let mut resumed = run(&["--new-pid", "--no-verify"])?;
    resumed.ping()?;
    // It runs, and finds the damage itself.
    resumed.send("verify")?;
    match resumed.expect("OK") {
        Err(told) if told.contains("the victim says") => Ok(()),
        other => Err(format!("the damage was not there: {other:?}")),
    }
}

/// What victims fill memory with: `mix` in victim.h.
fn mix(word: u64) -> u64 {
    let x = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
