//! Programs without the library that have handlers of their own.

use std::fs;
use std::process::Command;

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use super::{signals_of, Row, Stage, NO_ANSWER};
use crate::command;
use crate::filters::{self, equal, give, load};
use crate::process::{self, Outcome};
use crate::reaper::Exit;
use crate::victims::{until, Mode};

/// The cases.
pub const CASES: &[Row] = &[
    ("blocked_signal", false, || blocked("consent_handler", "auto")),
    ("blocked_signal_plain", false, || blocked("consent_plain", "require")),
    ("mere_handler_dd", false, || mere_handler(dd)),
    ("mere_handler_nginx", false, || mere_handler(nginx)),
    ("dd_consents", false, dd_consents),
    ("plain_program_dies", false, plain_dies),
];

fn blocked(victim: &str, policy: &str) -> Outcome {
    let mut stage = Stage::new(victim, &[])?;
    stage.ask("block", "DONE")?;
    let options = ["--consent", policy, "--consent-timeout", "200ms"];
    stage.fails(&options, NO_ANSWER, "signal")?;
    stage.ask("pending", "PENDING 0")?;
    // A signal of somebody else stays.
    kill(Pid::from_raw(stage.process.pid), Signal::SIGUSR1).map_err(|e| e.to_string())?;
    stage.ask("pending", "PENDING 1")?;
    stage.fails(&options, NO_ANSWER, "signal")?;
    stage.ask("pending", "PENDING 1")?;
    stage.process.ping()
}

/// Programs with a handler for SIGUSR1 that are not asked: dd prints its counts upon it, nginx opens its
/// logs anew. The dumper is killed should it send one of the two signals, or have ptrace do it.
fn mere_handler(start: fn() -> Outcome<Stage>) -> Outcome {
    let mut stage = start()?;
    let handles = |signal: i32| {
        signals_of(stage.process.pid).iter().any(|line| {
            let bits = line.strip_prefix("SigCgt:\t").map(|b| u64::from_str_radix(b, 16));
            bits.is_some_and(|b| b.is_ok_and(|b| b >> (signal - 1) & 1 == 1))
        })
    };
    until("it to handle SIGUSR1", || handles(libc::SIGUSR1))?;
    let mut dumper = stage.dumper(&["--leave-running"]);
    without_signals(&mut dumper);
    command::run(&mut dumper, &stage.dir)?.expect(0, "dump")?;
    let seen = stage.process.seen();
    if !seen.is_empty() {
        return Err(format!("it was sent a signal: {seen}"));
    }
    // Where consent is demanded its handler is asked, and the cage does hold.
    let mut dumper = stage.dumper(&["--leave-running", "--force", "--consent", "require"]);
    without_signals(&mut dumper);
    let caged = command::run(&mut dumper, &stage.dir)?;
    if caged.exit == Exit::Code(0) {
        return Err(format!("the cage is open: {}", caged.tell()));
    }
    stage.process.end()
}

fn dd() -> Outcome<Stage> {
    let mut command = Command::new("dd");
    command.args(["if=/dev/zero", "of=/dev/null", "bs=4096"]);
    Stage::of(Mode::User, "dd", command)
}

/// Its master and a worker, both with a handler.
fn nginx() -> Outcome<Stage> {
    let config = "daemon off; worker_processes 1; pid nginx.pid; error_log error.log;
        events { worker_connections 8; }
        http { access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f;
            uwsgi_temp_path u; scgi_temp_path s; server { listen unix:socket; } }";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "printf %s \"$0\" >nginx.conf; exec /usr/sbin/nginx -p . -c nginx.conf"]);
    command.arg(config);
    let stage = Stage::of(Mode::User, "nginx", command)?;
    until("a worker", || process::children(stage.process.pid).len() == 1)?;
    Ok(stage)
}

/// Has the kernel kill the command when it sends SIGUSR1 or SIGUSR2, by a call or by ptrace.
fn without_signals(command: &mut Command) {
    // Each with the number of the argument that has the signal.
    let calls = [
        (libc::SYS_kill, 1),
        (libc::SYS_tkill, 1),
        (libc::SYS_tgkill, 2),
        (libc::SYS_rt_sigqueueinfo, 1),
        (libc::SYS_rt_tgsigqueueinfo, 2),
        (libc::SYS_pidfd_send_signal, 1),
        (libc::SYS_ptrace, 3),
    ];
    let mut filter = Vec::new();
    for (call, argument) in calls {
        filter.extend([
            load(0),
            equal(call as u32, 0, 5),
            load(16 + 8 * argument),
            equal(libc::SIGUSR1 as u32, 2, 0),
            equal(libc::SIGUSR2 as u32, 1, 0),
            give(libc::SECCOMP_RET_ALLOW),
            give(libc::SECCOMP_RET_KILL_PROCESS),
        ]);
    }
    filter.push(give(libc::SECCOMP_RET_ALLOW));
    filters::install(command, filter);
}

/// dd prints its counts where it is asked.
fn dd_consents() -> Outcome {
    let mut stage = dd()?;
    until("it to handle SIGUSR1", || {
        signals_of(stage.process.pid).iter().any(|l| l == "SigCgt:\t0000000000000202")
    })?;
    stage.dump(&["--leave-running", "--consent", "require"])?.expect(0, "dump")?;
    stage.process.expect("records out")?;
    stage.process.end()
}

/// A dumper that is killed while a plain program is asked leaves it as it was.
fn plain_dies() -> Outcome {
    let mut stage = Stage::new("consent_plain", &[])?;
    stage.ask("block", "DONE")?;
    let options = ["--consent", "require"];
    let begun = command::begin(&mut stage.dumper(&options), &stage.dir)?;
    until("the signal to be sent", || {
        signals_of(stage.process.pid).iter().any(|l| l == "ShdPnd:\t0000000000000200")
    })?;
    for pid in [tracer_of(stage.process.pid), begun.pid] {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    begun.finish(process::LIMIT)?;
    stage.process.ping()
}

fn tracer_of(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("TracerPid:"));
    line.and_then(|l| l.trim().parse().ok()).unwrap_or(0)
}
