//! Language runtimes with threads, schedulers and collectors of their own: four walkers each, which
//! every "ping" sends further, are dumped in their way, twice. `cargo xtask soak` alone tries them.
//!
//! The programs are in tests/runtimes. A walker starts at its number, 1 to 4, and a step leads from x
//! to x * 1664525 + 1013904223, modulo 2^32; "verify" has them print the sum of where they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Kind, Outcome};
use crate::programs::Stage;
use crate::scratch;
use crate::victims::Mode;
use crate::Case;

/// One way to run one program.
struct Runtime {
    name: &'static str,
    source: &'static str,
    /// The source is compiled by `go build`, and run as it is.
    compiled: bool,
    /// The program, then its arguments before the name of the source.
    words: &'static [&'static str],
    /// Steps for a "ping", some seconds' work on two processors.
    steps: u32,
}

const fn interpreted(
    name: &'static str,
    words: &'static [&'static str],
    source: &'static str,
    steps: u32,
) -> Runtime {
    Runtime { name, source, compiled: false, words, steps }
}

const JAVA: &str = "/usr/bin/java";

const RUNTIMES: &[Runtime] = &[
    interpreted("node", &["/usr/bin/node"], "counter.js", 500_000_000),
    interpreted("java_g1", &[JAVA, "-XX:+UseG1GC"], "Counter.java", 100_000_000),
    interpreted("java_serial", &[JAVA, "-XX:+UseSerialGC"], "Counter.java", 100_000_000),
    interpreted("java_parallel", &[JAVA, "-XX:+UseParallelGC"], "Counter.java", 100_000_000),
    interpreted("java_z", &[JAVA, "-XX:+UseZGC", "-Xmx256m"], "Counter.java", 100_000_000),
    interpreted("java_shenandoah", &[JAVA, "-XX:+UseShenandoahGC"], "Counter.java", 100_000_000),
    Runtime { name: "go", source: "counter.go", compiled: true, words: &[], steps: 100_000_000 },
    interpreted("ruby", &["/usr/bin/ruby"], "counter.rb", 8_000_000),
    interpreted("perl", &["/usr/bin/perl"], "counter.pl", 10_000_000),
    interpreted("php", &["/usr/bin/php"], "counter.php", 20_000_000),
    interpreted("guile", &["/usr/bin/guile", "--no-auto-compile"], "counter.scm", 2_000_000),
    interpreted("erlang", &["/usr/bin/escript"], "counter.erl", 15_000_000),
    interpreted(
        "sbcl",
        &[
            "/usr/bin/sbcl",
            "--noinform",
            "--disable-debugger",
            "--eval",
            "(require :sb-concurrency)",
            "--load",
        ],
        "counter.lisp",
        400_000_000,
    ),
];

/// All cases.
pub fn cases() -> Vec<Case> {
    let modes = [("root", Mode::Root), ("user", Mode::User), ("newpid", Mode::NewPid)];
    let mut all = Vec::new();
    for runtime in RUNTIMES {
        for (user, mode) in modes {
            let title = format!("runtime::{}::{user}", runtime.name);
            all.push(Case::new(title, mode.needs_root(), move || travels(runtime, mode)));
        }
    }
    all
}

fn travels(runtime: &Runtime, mode: Mode) -> Outcome {
    let mut stage = Stage::new(runtime.name, mode)?;
    let source = stage.dir.join(runtime.source);
    let kept = scratch::sources().join("tests/runtimes").join(runtime.source);
    fs::copy(&kept, &source).map_err(|e| format!("{}: {e}", kept.display()))?;
    let mut words: Vec<&str> = runtime.words.to_vec();
    let program =
        if runtime.compiled { build(&source, &stage.dir)? } else { words.remove(0).into() };
    if !runtime.compiled {
        words.push(runtime.source);
    }
    let steps = runtime.steps.to_string();
    words.push(&steps);
    let mut process = stage.start(&program, &words, Kind::Pipes)?;
    process.expect("READY")?;
    process.ping()?;
    for round in 1..=2 {
        process = stage.travel(process, Kind::Pipes).map_err(|e| format!("round {round}: {e}"))?;
        process.ping().map_err(|e| format!("round {round}: {e}"))?;
    }
    process.send("verify")?;
    let sum: u64 = (1..=4).map(|x| u64::from(walked(x, 3 * u64::from(runtime.steps)))).sum();
    process.expect(&format!("SUM {sum}\n"))?;
    process.exit_code(0)
}

/// Where a walker is after so many steps: those of a power of two are one multiplication and one
/// addition as well.
fn walked(mut x: u32, mut steps: u64) -> u32 {
    let (mut factor, mut term) = (1_664_525u32, 1_013_904_223u32);
    while steps > 0 {
        if steps & 1 == 1 {
            x = x.wrapping_mul(factor).wrapping_add(term);
        }
        term = factor.wrapping_mul(term).wrapping_add(term);
        factor = factor.wrapping_mul(factor);
        steps >>= 1;
    }
    x
}

fn build(source: &Path, dir: &Path) -> Outcome<PathBuf> {
    let program = dir.join("counter");
    let mut command = Command::new("go");
    command.args(["build", "-o"]).arg(&program).arg(source).env("GOCACHE", dir.join("cache"));
    let done = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if done.status.success() {
        return Ok(program);
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&done.stderr)))
}
