//! A library that is registered and not asked costs nothing: told by what the kernel counts, as time
//! depends on what else runs.

mod dumper;

use dumper::Dumper;
use image_format::control::{answer, outcome};
use std::time::{Duration, Instant};
use suspend_api::Options;

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The library's thread.
struct Service(u32);

impl Service {
    /// It waits in futex(2) with the call's arguments, as the kernel tells them.
    fn call(&self) -> Vec<u64> {
        let text = read(&format!("/proc/self/task/{}/syscall", self.0));
        text.split_ascii_whitespace()
            .map_while(|word| {
                let hex = word.strip_prefix("0x");
                hex.map_or_else(|| word.parse().ok(), |h| u64::from_str_radix(h, 16).ok())
            })
            .collect()
    }

    fn sleeps(&self) -> bool {
        self.call().first() == Some(&(libc::SYS_futex as u64))
    }

    /// Nanoseconds on a processor, how often it was there, and how often it left it.
    fn counts(&self) -> (Vec<u64>, Vec<String>) {
        let numbers = read(&format!("/proc/self/task/{}/schedstat", self.0));
        let status = read(&format!("/proc/self/task/{}/status", self.0));
        let switches = status.lines().filter(|l| l.contains("ctxt_switches")).map(str::to_owned);
        let numbers = numbers.split_ascii_whitespace().map(|n| n.parse().unwrap());
        (numbers.collect(), switches.collect())
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::yield_now();
    }
}

/// One test: nothing else may run beside it in this process.
#[test]
fn idle_is_free() {
    sections_make_no_system_call();
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    Options::new().start().unwrap();
    let pairs: Vec<_> = (0..100).map(|_| suspend_api::register(|_| Ok(()), |_| ())).collect();
    let mut dumper = Dumper::new();
    assert_eq!(threads(), before + 1);
    until("the library's thread", || dumper.block().service_tid != 0);
    let service = Service(dumper.block().service_tid);
    until("it sleeps", || service.sleeps());

    // Nothing will wake it but a request: it waits without a limit of time, and there are no timers.
    let call = service.call();
    assert_eq!(call[2] & !128, libc::FUTEX_WAIT as u64, "{call:?}");
    assert_eq!(call[4], 0, "it waits with a limit of time: {call:?}");
    assert_eq!(read("/proc/self/timers"), "");

    let counts = service.counts();
    for _ in 0..1_000_000 {
        let _hold = suspend_api::hold();
    }
    std::thread::sleep(Duration::from_millis(200));
    drop(suspend_api::register(|_| Ok(()), |_| ()));
    assert_eq!(service.counts(), counts, "the library's thread has run");
    assert_eq!(service.call(), call);

    // These counts do tell when it runs; and afterwards it sleeps as before.
    dumper.ask(std::process::id() as i32);
    dumper.await_answer(answer::READY);
    dumper.end_and_wait(outcome::CONTINUED, "");
    until("it sleeps again", || service.sleeps());
    let (now, before) = (service.counts(), counts);
    assert!(now.0[0] > before.0[0] && now.0[2] > before.0[2], "{now:?}");
    let call = service.call();
    assert_eq!((call[2] & !128, call[4]), (libc::FUTEX_WAIT as u64, 0), "{call:?}");
    drop(pairs);
}

/// In a child that may do nothing but read, write, return from a handler and exit, or it is killed.
fn sections_make_no_system_call() {
    assert_eq!(jailed(|| ()), (None, Some(7)));
    let in_sections = || {
        for _ in 0..1_000_000 {
            let outer = suspend_api::hold();
            let inner = suspend_api::hold_for(Duration::ZERO, c"for nothing");
            drop((inner, outer));
            drop(suspend_api::try_hold());
        }
    };
    assert_eq!(jailed(in_sections), (None, Some(7)));
    // SAFETY: takes nothing.
    let call = || assert!(unsafe { libc::getppid() } > 0);
    assert_eq!(jailed(call), (Some(libc::SIGKILL), None), "the jail is open");
}

/// The signal or the status that `what` ends with in a program that opted in.
fn jailed(what: impl FnOnce()) -> (Option<i32>, Option<i32>) {
    // SAFETY: the child makes system calls only, but for what is tested.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            let started = Options::new().start_in_handler();
            // Its first section gives a thread its place.
            drop(suspend_api::hold());
            let jail = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT);
            if started.is_err() || jail != 0 {
                libc::_exit(1);
            }
            what();
            libc::syscall(libc::SYS_exit, 7);
        }
        let mut status = 0;
        libc::waitpid(child, &raw mut status, 0);
        let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
        (signal, libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)))
    }
}
