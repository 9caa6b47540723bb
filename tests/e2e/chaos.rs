//! Random trees with random shared objects, which verify each other: tests/victims/chaos.c.
//!
//! All follows from a seed: the tree, and here the way in which it travels. A seed is dumped and
//! resumed, changed, and dumped and resumed again; then it verifies itself to the end. Where it holds
//! something that is refused by design it says what the dumper will say.
//!
//! `DUMPER_SOAK=1` tries [`LONG`] seeds in place of [`SHORT`], `DUMPER_CHAOS=FROM-TO` those.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::command;
use crate::network;
use crate::process::{Kind, Outcome, Process};
use crate::programs::Stage;
use crate::victims::{resume_with, Mode, Victim};
use crate::{soak, Case};

/// Seeds that are tried with every change.
const SHORT: RangeInclusive<u64> = 1..=40;
/// Seeds that are tried by `cargo xtask soak`.
const LONG: RangeInclusive<u64> = 1..=300;
/// Seeds beyond the short ones that once found a fault. What they make changes with the generator, so
/// that each fault has a victim of its own as well: `forking_thread`, `groups_left`, `record_locks`.
const ONCE_FAILED: [u64; 10] = [41, 46, 47, 59, 67, 72, 79, 85, 101, 115];

/// Exit status of a dump that was refused.
const REFUSED: i32 = 3;

/// How the seeds came out.
#[derive(Default)]
struct Counts {
    verified: AtomicU32,
    refused: AtomicU32,
}

static COUNTS: Counts = Counts { verified: AtomicU32::new(0), refused: AtomicU32::new(0) };

/// What the seeds of this run came to; nothing if none was tried.
pub fn summary() -> Option<String> {
    let verified = COUNTS.verified.load(Ordering::Relaxed);
    let refused = COUNTS.refused.load(Ordering::Relaxed);
    (verified + refused > 0).then(|| {
        format!("chaos: {verified} trees verified after two resumes, {refused} first refused by name and verified after that")
    })
}

/// All cases.
pub fn cases() -> Vec<Case> {
    seeds()
        .into_iter()
        .map(|seed| {
            let way = Way::of(seed);
            let name = format!("chaos::{seed}::{}", way.name());
            Case::new(name, way.mode().needs_root(), move || network::alone(|| try_seed(seed, way)))
        })
        .collect()
}

fn seeds() -> Vec<u64> {
    let asked = std::env::var("DUMPER_CHAOS").ok();
    let parse = |text: &str| {
        let (from, to) = text.split_once('-')?;
        Some((from.parse().ok()?..=to.parse().ok()?).collect())
    };
    if let Some(all) = asked.as_deref().and_then(parse) {
        return all;
    }
    let mut all: Vec<u64> = if soak() { LONG } else { SHORT }.collect();
    all.extend(ONCE_FAILED.iter().filter(|seed| !all.contains(seed)).collect::<Vec<_>>());
    all
}

/// How a tree travels.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// As root, with its pids.
    Root,
    /// As an ordinary user, in namespaces.
    User,
    /// A single process, as an ordinary user, under new pids.
    NewPid,
    /// As root, left running and ended after that.
    Left,
}

impl Way {
    /// The numbers are drawn here, not in the victim, so that a tree can be tried in every way.
    fn of(seed: u64) -> Way {
        match seed % 10 {
            0 => Way::NewPid,
            3 => Way::Left,
            n if n % 2 == 0 => Way::User,
            _ => Way::Root,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Way::Root => "root",
            Way::User => "user",
            Way::NewPid => "newpid",
            Way::Left => "left",
        }
    }

    fn mode(self) -> Mode {
        match self {
            Way::Root => Mode::Root,
            Way::User => Mode::User,
            Way::NewPid => Mode::NewPid,
            Way::Left => Mode::Left,
        }
    }
}

fn try_seed(seed: u64, way: Way) -> Outcome {
    let mut stage = Stage::new(&format!("chaos-{seed}"), way.mode())?;
    let program = Victim::named("chaos")?.program();
    let text = seed.to_string();
    let mut arguments = vec![text.as_str()];
    match way {
        Way::NewPid => arguments.push("single"),
        Way::Left => arguments.push("left"),
        Way::Root | Way::User => {}
    }
    let mut process = stage.start(&program, &arguments, Kind::Pipes)?;
    let done = go(&mut stage, &mut process, way);
    if done.is_err() {
        // What still runs of the tree would outlive its root.
        let _ = process.end();
    }
    done.map_err(|why| format!("seed {seed}: {why}"))
}

fn go(stage: &mut Stage, process: &mut Process, way: Way) -> Outcome {
    let mut refused = false;
    for round in 1..=2 {
        let before = process.expect("READY")?;
        if let Some(why) = before.lines().find_map(|line| line.strip_prefix("REFUSE ")) {
            refused = true;
            refuse(stage, process, way, why)?;
        } else {
            travel(stage, process, way, round).map_err(|why| format!("round {round}: {why}"))?;
        }
        process.ping().map_err(|why| format!("round {round}: {why}"))?;
        process.send("verify")?;
    }
    process.expect("OK")?;
    process.exit_code(0)?;
    let count = if refused { &COUNTS.refused } else { &COUNTS.verified };
    count.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn travel(stage: &Stage, process: &mut Process, way: Way, round: u32) -> Outcome {
    let image = stage.dir.join(format!("resume{round}.elf"));
    let dump: &[&str] = if matches!(way, Way::Left) { &["--leave-running"] } else { &[] };
    command::dump(process.pid, &image, way.mode().uid(), dump)?;
    if matches!(way, Way::Left) {
        process.end()?;
    }
    command::gone(process)?;
    let resume: &[&str] = if matches!(way, Way::NewPid) { &["--new-pid"] } else { &[] };
    *process = resume_with(way.mode(), &image, &stage.dir, Kind::Pipes, resume)?;
    Ok(())
}

/// The dump has to name the reason, and the tree must go on as if nothing had been.
fn refuse(stage: &Stage, process: &Process, way: Way, why: &str) -> Outcome {
    let image = stage.dir.join("refused.elf");
    let mut command = command::dumper(way.mode().uid());
    command.arg(process.pid.to_string()).arg("-o").arg(&image).arg("--no-sync");
    command::run(&mut command, &stage.dir)?.expect(REFUSED, "the dump")?.says(why)?;
    if image.exists() {
        return Err("a refused dump left a file".into());
    }
    Ok(())
}
