//! The command as its user meets it: statuses, messages, what stays behind.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(30);

/// A process to be dumped, ended with the test.
struct Victim(Child);

impl Victim {
    fn start() -> Self {
        let mut command = Command::new("sleep");
        command.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // What runs the tests may have left descriptors open that nobody can carry.
        // SAFETY: close_range is async-signal-safe and touches descriptors only.
        unsafe {
            command.pre_exec(|| {
                libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32);
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let victim = Self(child);
        // It has to be beyond its execve.
        wait_for("the victim's start", || victim.status("Name:").as_deref() == Some("sleep"));
        wait_for("the victim's sleep", || {
            victim.status("State:").is_some_and(|s| s.starts_with('S'))
        });
        victim
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    fn status(&self, key: &str) -> Option<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).ok()?;
        text.lines().find_map(|line| line.strip_prefix(key)).map(|rest| rest.trim().to_string())
    }

    /// Runs as if nothing had been.
    fn assert_unharmed(&self) {
        wait_for("the victim to run on", || {
            self.status("TracerPid:").as_deref() == Some("0")
                && self.status("State:").is_some_and(|s| s.starts_with('S'))
        });
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < end, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn dumper() -> Command {
    Command::new(env!("CARGO_BIN_EXE_dumper"))
}

fn run(args: &[&str]) -> Output {
    dumper().args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn assert_status(output: &Output, status: i32) {
    assert_eq!(output.status.code(), Some(status), "stderr: {}", text(&output.stderr));
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The tracer process of a running `dumper`.
fn tracer_of(front: u32) -> Option<i32> {
    std::fs::read_dir("/proc").unwrap().find_map(|entry| {
        let entry = entry.ok()?;
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        (status.starts_with("Name:\tdumper-tracer\n") && parent.trim() == front.to_string())
            .then_some(pid)
    })
}

/// A dump into a pipe that nobody reads, once it has stopped the victim.
fn stalled_dump(victim: &Victim) -> Child {
    let child = dumper()
        .args([&victim.pid(), "-o", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the stop", || victim.status("State:").is_some_and(|s| s.starts_with('t')));
    child
}

fn signal(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

#[test]
fn wrong_arguments() {
    for args in [
        &[][..],
        &["1"],
        &["abc", "-o", "x"],
        &["1", "-o", "x", "--kill", "--leave-running"],
        &["1", "-o", "x", "--workers", "0"],
        &["1", "-o", "x", "--embed-files", "12X"],
        &["frobnicate"],
        &["run"],
    ] {
        let output = run(args);
        assert_status(&output, 2);
        assert!(text(&output.stderr).contains("--help"), "{args:?}: {}", text(&output.stderr));
    }
    assert_status(&run(&["--help"]), 0);
    assert_status(&run(&["--version"]), 0);
}

#[test]
fn a_pid_that_names_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.elf");
    let output = run(&["4194303", "-o", path.to_str().unwrap()]);
    assert_status(&output, 4);
    assert!(text(&output.stderr).contains("4194303"));
    assert!(names(dir.path()).is_empty());
    assert_status(&run(&["check", "4194303"]), 4);
}

#[test]
fn a_dump_ends_the_process_and_leaves_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.elf");
    let mut victim = Victim::start();
    let output = run(&[&victim.pid(), "-o", path.to_str().unwrap(), "--json"]);
    assert_status(&output, 0);
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["pid"], victim.0.id());
    assert_eq!(summary["name"], "sleep");
    assert_eq!(summary["threads"], 1);
    assert_eq!(summary["killed"], true);
    assert_eq!(summary["bytes"], path.metadata().unwrap().len());
    assert_eq!(victim.0.wait().unwrap().signal(), Some(9));
    assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o700);
    assert_eq!(names(dir.path()), ["x.elf"]);

    let shown = run(&["inspect", path.to_str().unwrap()]);
    assert_status(&shown, 0);
    assert!(text(&shown.stdout).contains("sleep"));
    let model = run(&["inspect", "--json", path.to_str().unwrap()]);
    let model: serde_json::Value = serde_json::from_slice(&model.stdout).unwrap();
    assert_eq!(model["model"]["processes"][0]["pid"], victim.0.id());
    assert_status(&run(&["inspect", "--plan", path.to_str().unwrap()]), 0);
}

#[test]
fn a_process_can_be_left_running() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.elf");
    let mut victim = Victim::start();
    for _ in 0..3 {
        let output =
            run(&[&victim.pid(), "-o", path.to_str().unwrap(), "--leave-running", "--force"]);
        assert_status(&output, 0);
        let line = text(&output.stdout);
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains("the process runs on"), "{line}");
        assert_eq!(text(&output.stderr), "");
        victim.assert_unharmed();
    }
    assert!(victim.0.try_wait().unwrap().is_none());
    let check = run(&["check", &victim.pid()]);
    assert_status(&check, 0);
}

#[test]
fn an_existing_file_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.elf");
    std::fs::write(&path, "mine").unwrap();
    let victim = Victim::start();
    let output = run(&[&victim.pid(), "-o", path.to_str().unwrap()]);
    assert_status(&output, 5);
    assert!(text(&output.stderr).contains("--force"));
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    victim.assert_unharmed();
    let output = run(&[&victim.pid(), "-o", path.to_str().unwrap(), "--force"]);
    assert_status(&output, 0);
    assert!(std::fs::read(&path).unwrap().starts_with(b"\x7fELF"));
}

#[test]
fn a_directory_that_does_not_exist() {
    let victim = Victim::start();
    let output = run(&[&victim.pid(), "-o", "/nonexistent/x.elf"]);
    assert_status(&output, 5);
    assert!(text(&output.stderr).contains("/nonexistent"));
    victim.assert_unharmed();
}

#[test]
fn a_limit_on_file_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let victim = Victim::start();
    let output = Command::new("sh")
        .args(["-c", "ulimit -f 100; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_dumper")])
        .args([&victim.pid(), "-o"])
        .arg(dir.path().join("x.elf"))
        .output()
        .unwrap();
    assert_status(&output, 5);
    assert!(text(&output.stderr).contains("EFBIG"), "{}", text(&output.stderr));
    assert!(names(dir.path()).is_empty());
    victim.assert_unharmed();
}

#[test]
fn an_interrupted_dump_lets_go() {
    use nix::sys::signal::Signal;
    for (sent, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let victim = Victim::start();
        let dump = stalled_dump(&victim);
        signal(dump.id() as i32, sent);
        // Its output stays unread until it has ended.
        let mut dump = dump;
        let ended = dump.wait().unwrap();
        let mut told = String::new();
        dump.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!(ended.code(), Some(status), "{told}");
        assert!(told.contains("interrupted"), "{told}");
        victim.assert_unharmed();
    }
}

#[test]
fn a_killed_dumper_lets_go() {
    let victim = Victim::start();
    let mut dump = stalled_dump(&victim);
    let tracer = tracer_of(dump.id()).unwrap();
    dump.kill().unwrap();
    dump.wait().unwrap();
    victim.assert_unharmed();
    wait_for("the tracer's end", || {
        // It may stay as a zombie where nobody reaps orphans.
        std::fs::read_to_string(format!("/proc/{tracer}/status"))
            .map_or(true, |status| status.contains("State:\tZ"))
    });
}

#[test]
fn a_killed_tracer_lets_go() {
    let victim = Victim::start();
    let mut dump = stalled_dump(&victim);
    let tracer = tracer_of(dump.id()).unwrap();
    signal(tracer, nix::sys::signal::Signal::SIGKILL);
    assert_eq!(dump.wait().unwrap().code(), Some(1));
    let mut told = String::new();
    dump.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("SIGKILL"), "{told}");
    victim.assert_unharmed();
}

#[test]
fn a_reader_that_goes_away() {
    let victim = Victim::start();
    let mut dump = stalled_dump(&victim);
    drop(dump.stdout.take());
    assert_eq!(dump.wait().unwrap().code(), Some(5));
    victim.assert_unharmed();
}

#[test]
fn an_image_through_a_pipe() {
    let mut victim = Victim::start();
    let output = run(&[&victim.pid(), "-o", "-"]);
    assert_status(&output, 0);
    assert!(text(&output.stderr).contains("the process runs on"));
    victim.assert_unharmed();
    let image = host_dumper::inspect::read(&output.stdout[..], true).unwrap();
    assert_eq!(image.size, output.stdout.len() as u64);
    let output = run(&[&victim.pid(), "-o", "-", "--kill", "-q"]);
    assert_status(&output, 0);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(victim.0.wait().unwrap().signal(), Some(9));
}

/// A device that takes nothing.
fn full() -> Stdio {
    Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap())
}

/// A pipe that nobody reads.
fn unheard() -> Stdio {
    Stdio::from(std::io::pipe().unwrap().1)
}

#[test]
fn standard_error_that_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for (name, stderr) in [("full.elf", full as fn() -> Stdio), ("unheard.elf", unheard)] {
        let path = dir.path().join(name);
        let mut victim = Victim::start();
        let mut dump = dumper();
        dump.args([&victim.pid(), "-v", "-o", path.to_str().unwrap()]).stderr(stderr());
        assert_eq!(dump.status().unwrap().code(), Some(0));
        assert!(path.exists());
        assert_eq!(victim.0.wait().unwrap().signal(), Some(9));
        let mut none = dumper();
        none.args(["4194303", "-o", dir.path().join("x").to_str().unwrap()]).stderr(stderr());
        assert_eq!(none.status().unwrap().code(), Some(4));
    }
}

#[test]
fn an_answer_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.elf");
    let path = path.to_str().unwrap();
    let victim = Victim::start();
    let mut dump = dumper();
    let dump = dump.args([&victim.pid(), "-o", path, "--leave-running"]).stdout(full());
    // The image is what was wanted.
    assert_status(&dump.output().unwrap(), 0);
    for args in [&["inspect", path][..], &["inspect", path, "--json"], &["check", &victim.pid()]] {
        let output = dumper().args(args).stdout(full()).output().unwrap();
        assert_status(&output, 5);
        assert!(text(&output.stderr).contains("standard output: ENOSPC"), "{args:?}");
        let output = dumper().args(args).stdout(unheard()).output().unwrap();
        assert_status(&output, 0);
        assert_eq!(text(&output.stderr), "");
    }
    victim.assert_unharmed();
}

#[test]
fn outputs_that_are_not_to_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let fifo = fifo.to_str().unwrap();
    let victim = Victim::start();
    for output in [fifo, "/dev/stdout", "/dev/fd/1"] {
        for force in [&[][..], &["--force"]] {
            let done = run(&[&[&victim.pid(), "-o", output][..], force].concat());
            assert_status(&done, 5);
            let told = text(&done.stderr);
            assert!(told.contains(output) && told.contains("-o - >"), "{told}");
        }
    }
    assert_eq!(names(dir.path()), ["fifo"]);
    victim.assert_unharmed();
}

/// The process is not ended for an image that nobody keeps.
#[test]
fn an_image_to_nowhere() {
    let victim = Victim::start();
    let arguments = [&victim.pid(), "-o", "-", "--kill"];
    let mut nowhere = dumper();
    let output = nowhere.args(arguments).stdout(Stdio::null()).output().unwrap();
    assert_status(&output, 5);
    assert!(text(&output.stderr).contains("keeps nothing"), "{}", text(&output.stderr));
    let mut closed = dumper();
    // SAFETY: close is async-signal-safe.
    unsafe {
        closed.pre_exec(|| {
            libc::close(1);
            Ok(())
        });
    }
    assert_status(&closed.args(arguments).output().unwrap(), 5);
    victim.assert_unharmed();
    let output = dumper().args(&arguments[..3]).stdout(Stdio::null()).output().unwrap();
    assert_status(&output, 0);
    victim.assert_unharmed();
}

#[test]
fn limits_on_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let victim = Victim::start();
    for limit in 4..10 {
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_dumper"), &victim.pid()]);
        let output =
            command.args(["--leave-running", "-o"]).arg(dir.path().join("x")).output().unwrap();
        victim.assert_unharmed();
        if output.status.success() {
            break;
        }
        assert!(matches!(output.status.code(), Some(1 | 5)), "{output:?}");
        assert!(text(&output.stderr).contains("ulimit -n"), "{}", text(&output.stderr));
        assert!(names(dir.path()).is_empty());
    }
}

#[test]
fn two_processes_at_once() {
    let output = run(&["1", "2", "-o", "x"]);
    assert_status(&output, 2);
    let told = text(&output.stderr);
    assert!(told.contains("unexpected argument '2'") && told.contains("--help"), "{told}");
}

#[test]
fn a_file_that_is_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    std::fs::write(&path, "nothing").unwrap();
    let output = run(&["inspect", path.to_str().unwrap()]);
    assert_status(&output, 1);
    assert!(text(&output.stderr).contains("not a resume image"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_status(&run(&["run", path.to_str().unwrap()]), 1);
    assert_status(&run(&["run", "/nonexistent"]), 1);
}
