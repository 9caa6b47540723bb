//! `cargo xtask test`: everything that must hold before a change goes in, one after the other.

use crate::{cargo, packages, Failure};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Instant;

/// Checks that say only yes or no.
const CHECKS: &[(&str, &[&str])] = &[
    ("format", &["fmt", "--all", "--check"]),
    (
        "lints",
        &["clippy", "--locked", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"],
    ),
    // Never built for the host's tests, so the workspace's lints do not see the program itself.
    (
        "lints of the restorer",
        &[
            "clippy",
            "--locked",
            "--quiet",
            "--package",
            "restorer",
            "--bin",
            "restorer",
            "--features",
            "freestanding",
            "--profile",
            "restorer",
            "--",
            "-D",
            "warnings",
        ],
    ),
    ("documentation", &["doc", "--locked", "--quiet", "--workspace", "--no-deps"]),
];

const TESTS: &[&str] = &["test", "--locked", "--workspace", "--no-fail-fast"];

/// The virtual machines; arguments may follow.
pub const MACHINES: &[&str] = &["run", "--quiet", "--locked", "--package", "vm", "--"];
/// Their exit status where QEMU or a kernel's package cannot be had.
pub const NO_MACHINES: u8 = 77;

/// Passed and failed, of checks and of tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

impl Count {
    fn add(&mut self, other: Count) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs all of it and prints the sum as the last line.
pub fn run() -> Result<(), Failure> {
    packages::install(&[packages::COMPILERS, packages::VICTIMS])?;
    let mut sum = Count::default();
    let mut broken = Vec::new();
    for (name, words) in CHECKS {
        let started = Instant::now();
        println!("== {name}");
        let mut command = cargo::command(words);
        // A person's own flags must not decide what passes here.
        command.env("RUSTDOCFLAGS", "-D warnings");
        let good = command.stdin(Stdio::null()).status()?.success();
        println!(
            "== {name}: {} in {:.0} s",
            if good { "ok" } else { "FAILED" },
            started.elapsed().as_secs_f64()
        );
        sum.add(Count { passed: u64::from(good), failed: u64::from(!good) });
        if !good {
            broken.push(*name);
        }
    }
    let started = Instant::now();
    println!("== tests");
    let (tests, _) = test(TESTS)?;
    println!("== tests: {:.0} s", started.elapsed().as_secs_f64());
    if tests.failed > 0 {
        broken.push("tests");
    }
    sum.add(tests);
    let machines = machines()?;
    if machines.failed > 0 {
        broken.push("virtual machines");
    }
    sum.add(machines);
    if !broken.is_empty() {
        println!("failed: {}", broken.join(", "));
    }
    println!("{} passed, {} failed", sum.passed, sum.failed);
    if broken.is_empty() {
        Ok(())
    } else {
        // The sum stays the last line of standard output.
        Err("not everything passed".into())
    }
}

/// Another kernel, where one can be had: not every machine that tests has QEMU, and its absence
/// says nothing about what is tested.
fn machines() -> Result<Count, Failure> {
    let started = Instant::now();
    println!("== virtual machines");
    if let Err(why) = packages::install(&[packages::MACHINES]) {
        println!("== virtual machines: left out: {why}");
        return Ok(Count::default());
    }
    let mut words = MACHINES.to_vec();
    words.push("--short");
    let (count, status) = test(&words)?;
    if status == Some(i32::from(NO_MACHINES)) {
        println!("== virtual machines: left out, for the reason above");
        return Ok(Count::default());
    }
    println!("== virtual machines: {:.0} s", started.elapsed().as_secs_f64());
    Ok(count)
}

/// Runs test programs, showing their output as it comes and summing up their results; their exit
/// status beside it.
fn test(words: &[&str]) -> Result<(Count, Option<i32>), Failure> {
    let mut child = cargo::command(words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut sum = Count::default();
    if let Some(output) = child.stdout.take() {
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        let mut out = std::io::stdout().lock();
        while reader.read_until(b'\n', &mut line)? > 0 {
            out.write_all(&line)?;
            if let Some(count) = result_of(&String::from_utf8_lossy(&line)) {
                sum.add(count);
            }
            line.clear();
        }
    }
    let status = child.wait()?;
    // A test program that does not build, or that dies, prints no result.
    if !status.success() && sum.failed == 0 {
        sum.failed = 1;
    }
    Ok((sum, status.code()))
}

/// The counts in a test runner's closing line.
fn result_of(line: &str) -> Option<Count> {
    let (_, rest) = line.trim().split_once("test result: ")?;
    let number = |what: &str| {
        rest.split([';', '.']).find_map(|part| {
            let (number, name) = part.trim().split_once(' ')?;
            (name == what).then(|| number.parse::<u64>().ok()).flatten()
        })
    };
    Some(Count { passed: number("passed")?, failed: number("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_read() {
        let good = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
        assert_eq!(result_of(good), Some(Count { passed: 12, failed: 0 }));
        let bad = "test result: FAILED. 3 passed; 4 failed; 0 ignored";
        assert_eq!(result_of(bad), Some(Count { passed: 3, failed: 4 }));
        assert_eq!(result_of("test format::result ... ok"), None);
    }
}
