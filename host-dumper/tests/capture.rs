//! Captures small programs and lets them go on.

use host_dumper::capture::{check, CaptureError, Options, Session};
use image_format::model::{ArgPatch, FileObject, Process, Tree};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that is ended with the test.
struct Victim {
    /// Where its program was compiled.
    #[allow(dead_code, reason = "kept until the end")]
    dir: Option<tempfile::TempDir>,
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Victim {
    fn start(command: &mut Command) -> Self {
        // SAFETY: close_range is async-signal-safe and touches descriptors of the child only.
        unsafe {
            // What the test runner left open must not be in the victim.
            command.pre_exec(|| {
                libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
                Ok(())
            });
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { dir: None, child, lines }
    }

    /// Compiles and starts a C program of victims/, and waits for its READY.
    fn c(name: &str, args: &[&str]) -> Self {
        let source = format!("{}/tests/victims/{name}.c", env!("CARGO_MANIFEST_DIR"));
        let dir = tempfile::tempdir().unwrap();
        let exe = dir.path().join(name);
        let mut cc = Command::new("cc");
        let status = cc.args(["-O1", "-pthread", "-o"]).arg(&exe).arg(source).status().unwrap();
        assert!(status.success());
        let mut victim = Self::start(Command::new(exe).args(args));
        victim.dir = Some(dir);
        assert_eq!(victim.line(), "READY");
        victim
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn say(&mut self, text: &str) {
        // In one write: it may read a part and end.
        self.child.stdin.as_mut().unwrap().write_all(format!("{text}\n").as_bytes()).unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn capture(pid: u32) -> Tree {
    timed_capture(pid).0
}

/// Also how long the process stood.
fn timed_capture(pid: u32) -> (Tree, Duration) {
    let begin = Instant::now();
    let mut session = Session::seize(pid, &Options::default()).unwrap();
    let seized = begin.elapsed();
    let captured = session.capture().unwrap();
    let frozen = session.stopped_at().elapsed();
    session.release().unwrap();
    eprintln!("seized after {seized:?}, frozen for {frozen:?}");
    (captured.tree, frozen)
}

fn process(tree: &Tree) -> &Process {
    &tree.processes[0]
}

#[test]
fn a_sleeping_program_goes_on() {
    let victim = Victim::start(Command::new("sleep").arg("100"));
    std::thread::sleep(Duration::from_millis(100));
    let tree = capture(victim.pid());
    let p = process(&tree);
    assert_eq!(p.pid, victim.pid());
    assert_eq!(p.threads.len(), 1);
    assert_eq!(p.threads[0].name.0, b"sleep");
    assert!(p.memory.vdso.is_some());
    assert!(p.memory.layout.brk > p.memory.layout.start_brk);
    assert!(p.threads[0].clear_tid != 0);
    let stdin = &tree.files[p.descriptors[0].file as usize].object;
    assert!(matches!(stdin, FileObject::Inherited { stdio: 0, .. }));
    for _ in 0..3 {
        // A second stop meets the call that the kernel restarted after the first.
        let again = capture(victim.pid());
        let (a, b) = (&p.threads[0], &process(&again).threads[0]);
        assert_eq!((a.regs.rsp, a.regs.rip, a.sigmask), (b.regs.rsp, b.regs.rip, b.sigmask));
        let reissue = b.reissue.as_ref().unwrap();
        assert_eq!(reissue.nr, libc::SYS_clock_nanosleep as u64);
        let [ArgPatch::Timespec { arg: 2, ns }] = reissue.patches[..] else {
            panic!("{reissue:?}")
        };
        assert!((80_000_000_000..100_000_000_000).contains(&ns), "{ns}");
    }
}

#[test]
fn threads_go_on_as_if_nothing_had_been() {
    let mut victim = Victim::c("threads", &[]);
    std::thread::sleep(Duration::from_millis(50));
    for _ in 0..20 {
        let tree = capture(victim.pid());
        let p = process(&tree);
        assert_eq!(p.threads.len(), 7);
        let usr1 = p.actions.iter().find(|a| a.signal == libc::SIGUSR1 as u32).unwrap();
        assert_eq!(usr1.mask, 1 << (libc::SIGUSR2 - 1));
        assert_eq!(usr1.flags & libc::SA_ONSTACK as u64, libc::SA_ONSTACK as u64);
        let pipe = p.actions.iter().find(|a| a.signal == libc::SIGPIPE as u32).unwrap();
        assert_eq!(pipe.handler, 1);
        assert_eq!(p.threads[0].pending.len(), 1);
        assert_eq!(p.threads[0].sigmask, 1 << (libc::SIGUSR2 - 1));
        assert_eq!(p.threads[0].altstack.size, 65536);
        assert!(p.itimers[0][1] > 900_000_000, "{:?}", p.itimers);
        assert_eq!((p.timers.len(), p.timers[0].value & 0xff), (1, 7));
        assert_eq!(p.timers[0].interval_ns, 5_000_000_000);
        assert!(p.threads.iter().all(|t| t.rseq.is_some() && t.clear_tid != 0));
    }
    victim.say("go");
    assert_eq!(victim.line(), "GOOD");
}

#[test]
fn what_cannot_be_dumped_is_named() {
    let error = |pid| match check(pid, &Options::default()) {
        Err(e @ CaptureError::Target { .. }) => e.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(error(std::process::id()).contains("dumper itself"));
    assert!(error(u32::MAX >> 2).contains("no such process"));
    assert!(error(std::os::unix::process::parent_id()).contains("ancestor"));
}

/// Not a test of its own: run again by others as a program that captures without end.
#[test]
fn capturing_without_end() {
    let Ok(pid) = std::env::var("CAPTURE_WITHOUT_END") else { return };
    let pid = pid.parse().unwrap();
    println!();
    println!("LOOPING");
    loop {
        let mut session = Session::seize(pid, &Options::default()).unwrap();
        session.capture().unwrap();
        session.release().unwrap();
    }
}

#[test]
fn a_killed_tracer_leaves_no_trace() {
    let mut victim = Victim::c("threads", &[]);
    let rounds = std::env::var("CAPTURE_KILLS").map_or(30, |n| n.parse().unwrap());
    let mut seed = u64::from(victim.pid());
    for round in 0..rounds {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "capturing_without_end", "--nocapture"]);
        again.env("CAPTURE_WITHOUT_END", victim.pid().to_string());
        let mut tracer = Victim::start(&mut again);
        while tracer.line() != "LOOPING" {}
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        std::thread::sleep(Duration::from_micros((seed >> 33) % 60_000));
        assert!(tracer.child.try_wait().unwrap().is_none(), "round {round}: the tracer ended");
        drop(tracer);
        let status = std::fs::read_to_string(format!("/proc/{}/status", victim.pid())).unwrap();
        assert!(status.contains("TracerPid:\t0"), "round {round}: {status}");
        assert!(victim.child.try_wait().unwrap().is_none(), "round {round}: the victim ended");
    }
    victim.say("go");
    assert_eq!(victim.line(), "GOOD");
}

/// Every kind of call, stopped several times, takes its time and returns what it should.
#[test]
fn no_call_shows_the_stop() {
    let mut victim = Victim::c("calls", &[]);
    std::thread::sleep(Duration::from_millis(300));
    // What remains of a call's time is counted from the stop, and does not run while the process
    // stands, which is long where the machine is busy.
    let mut stood = Duration::ZERO;
    for _ in 0..4 {
        stood += timed_capture(victim.pid()).1;
        std::thread::sleep(Duration::from_millis(200));
    }
    loop {
        let line = victim.line();
        if line == "END" {
            break;
        }
        let (name, ms) = line.split_once(' ').unwrap();
        let ms: u64 = ms.parse().unwrap_or_else(|_| panic!("{line}"));
        // Those with a timeout in memory begin anew each time (docs/syscalls.md).
        let longest = if ["sigtimedwait", "semtimedop"].contains(&name) { 6500 } else { 3900 };
        let longest = longest + stood.as_millis() as u64;
        assert!((2990..longest).contains(&ms), "{line}");
    }
}

/// A program that is refused was stopped all the same, when the obstacle came between.
#[test]
fn a_release_without_capture_hides_the_stop() {
    let victim = Victim::start(Command::new("sleep").arg("2"));
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(100));
        Session::seize(victim.pid(), &Options::default()).unwrap().release().unwrap();
    }
    let mut victim = victim;
    assert!(victim.child.wait().unwrap().success());
}

#[test]
fn no_signal_is_lost() {
    let mut victim = Victim::c("signals", &[]);
    let pid = victim.pid();
    let signal = libc::SIGRTMIN() + 1;
    let sender = std::thread::spawn(move || {
        for _ in 0..2000 {
            // SAFETY: kill takes numbers only.
            unsafe { libc::kill(pid as i32, signal) };
            std::thread::sleep(Duration::from_micros(100));
        }
    });
    while !sender.is_finished() {
        capture(pid);
    }
    sender.join().unwrap();
    victim.say("go");
    assert_eq!(victim.line(), "2000");
}

#[test]
fn a_stopped_process_stays_stopped() {
    let victim = Victim::c("threads", &[]);
    let pid = victim.pid();
    // SAFETY: kill takes numbers only.
    unsafe { libc::kill(pid as i32, libc::SIGSTOP) };
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().chars().next().unwrap()
    };
    std::thread::sleep(Duration::from_millis(50));
    for _ in 0..3 {
        let tree = capture(pid);
        assert_eq!(process(&tree).stopped, libc::SIGSTOP as u32);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(state(), 'T');
    }
    // SAFETY: kill takes numbers only.
    unsafe { libc::kill(pid as i32, libc::SIGCONT) };
    let mut victim = victim;
    victim.say("go");
    assert_eq!(victim.line(), "GOOD");
}

#[test]
fn a_process_can_be_ended_where_it_stands() {
    let mut victim = Victim::c("threads", &[]);
    let mut session = Session::seize(victim.pid(), &Options::default()).unwrap();
    session.capture().unwrap();
    session.kill().unwrap();
    // This test is its parent as well as its tracer, and so has collected it already.
    assert!(victim.child.wait().is_err());
    assert!(!std::path::Path::new(&format!("/proc/{}", victim.pid())).exists());
}
