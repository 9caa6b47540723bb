//! Captures small programs and lets them go on.

use host_dumper::capture::{check, CaptureError, Options, Session};
use image_format::model::{ArgPatch, FileObject, Process, Tree};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that is ended with the test.
struct Victim {
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
        Self { child, lines }
    }

    /// Compiles and starts a C program of victims/, and waits for its READY.
    fn c(name: &str) -> Self {
        let source = format!("{}/tests/victims/{name}.c", env!("CARGO_MANIFEST_DIR"));
        let exe = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let mut cc = Command::new("cc");
        let status = cc.args(["-O1", "-pthread", "-o"]).arg(&exe).arg(source).status().unwrap();
        assert!(status.success());
        let mut victim = Self::start(&mut Command::new(exe));
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
        writeln!(self.child.stdin.as_mut().unwrap(), "{text}").unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn capture(pid: u32) -> Tree {
    let begin = Instant::now();
    let mut session = Session::seize(pid, &Options::default()).unwrap();
    let seized = begin.elapsed();
    let captured = session.capture().unwrap();
    let frozen = session.stopped_at().elapsed();
    session.release().unwrap();
    eprintln!("seized after {seized:?}, frozen for {frozen:?}");
    captured.tree
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
    let mut victim = Victim::c("threads");
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
