//! End-to-end tests: real processes are dumped, resumed and asked to verify themselves.
//!
//! Run as root, as some modes need it; as another user those are left out, and said so (on a CI
//! machine, where `CI` is set, that is a failure). `DUMPER_SOAK=1` turns short counts into long.

mod cgroups;
mod chaos;
mod cli;
mod command;
mod confined;
mod connections;
mod consent;
mod example;
mod filters;
mod hugetlb;
mod ipc;
mod keyrings;
mod library;
mod luck;
mod medium;
mod messages;
mod mounts;
mod multiplexers;
mod narrower;
mod network;
mod options;
mod pauses;
mod policies;
mod process;
mod processors;
mod programs;
mod random;
mod reaper;
mod refusals;
mod rehearsal;
mod removable;
mod run;
mod runtimes;
mod sandbox;
mod scratch;
mod servers;
mod slow_shell;
mod sockets;
mod sudden;
mod surroundings;
mod terminal;
mod trees;
mod users;
mod victims;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use libtest_mimic::{Arguments, Failed, Trial};

use victims::Victim;

/// A test that is no victim's.
pub struct Case {
    name: String,
    needs_root: bool,
    body: Box<dyn Fn() -> process::Outcome + Send>,
}

impl Case {
    /// A case of this name.
    pub fn new(
        name: impl Into<String>,
        needs_root: bool,
        body: impl Fn() -> process::Outcome + Send + 'static,
    ) -> Case {
        Case { name: name.into(), needs_root, body: Box::new(body) }
    }
}

/// Whether long counts are wanted.
pub fn soak() -> bool {
    std::env::var_os("DUMPER_SOAK").is_some()
}

/// Runs that wait more than they compute; two CPUs are kept busy by about four.
const THREADS: usize = 4;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    keep_descriptors_to_ourselves();
    hear_the_keys();
    arguments.test_threads.get_or_insert(THREADS);
    let root = scratch::is_root();
    if !root && std::env::var_os("CI").is_some() {
        eprintln!("e2e: not root, so most modes cannot be tried; run as root");
        return ExitCode::FAILURE;
    }
    let victims = Victim::all();
    let mut trials = Vec::new();
    for victim in &victims {
        for (mode, name) in victim.modes() {
            let victim = victim.clone();
            let title = format!("victim::{}::{name}", victim.name);
            let trial = Trial::test(title, move || victim.try_in(mode).map_err(Failed::from));
            trials.push(trial.with_ignored_flag(mode.needs_root() && !root));
        }
    }
    let cases = [
        refusals::cases(),
        rehearsal::cases(),
        removable::cases(),
        slow_shell::cases(),
        users::cases(),
        luck::cases(),
        sudden::cases(),
        confined::cases(),
        cgroups::cases(),
        keyrings::cases(),
        terminal::cases(),
        processors::cases(),
        programs::cases(),
        servers::cases(),
        trees::cases(),
        chaos::cases(),
        multiplexers::cases(),
        cli::cases(),
        run::cases(),
        if soak() { runtimes::cases() } else { Vec::new() },
        policies::cases(),
        medium::cases(),
        messages::cases(),
        narrower::cases(),
        sockets::cases(),
        connections::cases(),
        options::cases(),
        pauses::cases(),
        ipc::cases(),
        hugetlb::cases(),
        sandbox::cases(),
        consent::cases(),
        example::cases(),
    ];
    for case in cases.into_iter().flatten() {
        let trial = Trial::test(case.name, move || (case.body)().map_err(Failed::from));
        trials.push(trial.with_ignored_flag(case.needs_root && !root));
    }
    if arguments.list {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    if !root {
        eprintln!("e2e: not root: what needs root is left out (shown as ignored)");
    }
    if let Err(why) = prepare(&victims, &arguments) {
        eprintln!("e2e: {why}");
        return ExitCode::FAILURE;
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(text) = chaos::summary() {
        println!("{text}");
    }
    let left = left_behind();
    if conclusion.has_failed() || !left.is_empty() {
        for (pid, name) in left {
            eprintln!("e2e: process {pid} ({name}) was left behind");
        }
        end_the_rest();
        return ExitCode::FAILURE;
    }
    scratch::clean();
    ExitCode::SUCCESS
}

/// Processes that the tests made and that did not end: all of them come to us in the end.
fn left_behind() -> Vec<(i32, String)> {
    let children = || -> Vec<(i32, String)> {
        process::children(std::process::id() as i32)
            .into_iter()
            .filter_map(|pid| {
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
                // A victim's own outsider, which sleeps for a while.
                (name != "outsider\n").then(|| (pid, name.trim_end().to_owned()))
            })
            .collect()
    };
    let _ = victims::until("the last processes to end", || children().is_empty());
    children().into_iter().map(|(pid, name)| (pid, name + &whereabouts(pid))).collect()
}

/// Ends what a failed test left, however fast it breeds: orphans come to us.
fn end_the_rest() {
    let _ = victims::until("what was left behind to end", || {
        let all = process::children(std::process::id() as i32);
        for pid in &all {
            let pid = nix::unistd::Pid::from_raw(*pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        all.is_empty()
    });
}

/// What tells the test that a process is of: its program, directory and descendants.
fn whereabouts(pid: i32) -> String {
    let link = |name: &str| {
        let path = std::fs::read_link(format!("/proc/{pid}/{name}")).unwrap_or_default();
        path.strip_prefix(scratch::root()).unwrap_or(&path).display().to_string()
    };
    let mut text = format!(", of {} in {}", link("exe"), link("cwd"));
    for child in process::children(pid) {
        let name = std::fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
        let _ = write!(text, ", above {child} ({}{})", name.trim_end(), whereabouts(child));
    }
    text
}

/// Descriptors that whoever started us left open are none of the victims' business.
fn keep_descriptors_to_ourselves() {
    // SAFETY: only the close-on-exec flags change.
    unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
}

/// A shell without job control starts what runs in the background with ^C and ^\ ignored, and
/// every victim would inherit that.
fn hear_the_keys() {
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: the default action has no handler.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Builds the victims, then becomes the reaper of everything that follows.
fn prepare(victims: &[Victim], arguments: &Arguments) -> Result<(), String> {
    std::fs::create_dir_all(scratch::root().join("victims")).map_err(|e| e.to_string())?;
    scratch::dumper();
    let wanted: Vec<&Victim> = victims
        .iter()
        .filter(|v| {
            let filter = arguments.filter.as_deref().unwrap_or_default();
            !filter.starts_with("victim::")
                || format!("victim::{}::", v.name).contains(filter)
                || filter.contains(&v.name)
        })
        .collect();
    let next = AtomicUsize::new(0);
    let results: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| loop {
                    let Some(victim) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) else {
                        return Ok(());
                    };
                    victim.build()?;
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().unwrap_or(Err("panic".into()))).collect()
    });
    results.into_iter().collect::<Result<(), String>>()?;
    if !arguments.filter.as_deref().unwrap_or_default().starts_with("victim::") {
        example::prepare();
    }
    reaper::start().map_err(|e| format!("becoming a subreaper: {e}"))
}
