//! The table of docs/performance.md: figures beside what is to be reached.

use super::programs::Costs;
use super::series::Series;
use super::{Results, ANSWERED, TREES};
use std::fmt::Write as _;
use std::process::Command;

/// How a figure is shown and judged.
#[derive(Clone, Copy)]
enum Unit {
    Millis,
    Nanos,
    /// GiB in a second: the more the better.
    Rate,
    KiB,
    MiB,
}

impl Unit {
    fn show(self, figure: f64) -> String {
        match self {
            Unit::Millis => format!("{:.2} ms", figure / 1e3),
            Unit::Nanos => format!("{figure:.1} ns"),
            Unit::Rate => format!("{figure:.2} GiB/s"),
            Unit::KiB => format!("{:.1} KiB", figure / 1024.0),
            Unit::MiB => format!("{:.1} MiB", figure / (1024.0 * 1024.0)),
        }
    }
}

struct Row {
    what: String,
    unit: Unit,
    goal: Option<f64>,
    figures: Series,
}

impl Row {
    fn new(what: String, unit: Unit, goal: Option<f64>, figures: &Series) -> Row {
        Row { what, unit, goal, figures: figures.clone() }
    }

    fn text(&self) -> String {
        let more = matches!(self.unit, Unit::Rate);
        let best = if more { self.figures.maximum() } else { self.figures.minimum() };
        let (Some(median), Some(best)) = (self.figures.median(), best) else {
            return format!("| {} | | not measured | | |\n", self.what);
        };
        let (goal, reached) = match self.goal {
            None => (String::new(), ""),
            Some(goal) => {
                let sign = if more { ">=" } else { "<=" };
                let met = |figure: f64| if more { figure >= goal } else { figure <= goal };
                let reached = match (met(median), met(best)) {
                    (true, _) => "yes",
                    (false, true) => "at best",
                    (false, false) => "no",
                };
                (format!("{sign} {}", self.unit.show(goal)), reached)
            }
        };
        let (median, best) = (self.unit.show(median), self.unit.show(best));
        format!("| {} | {goal} | {median} | {best} | {reached} |\n", self.what)
    }
}

/// What is to be reached, in the units of [`Costs`].
#[derive(Default)]
struct Goals {
    dump: Option<f64>,
    stopped: Option<f64>,
    resume: Option<f64>,
    new_pid: Option<f64>,
    image: Option<f64>,
}

fn goals(name: &str) -> Goals {
    let both = |dump: f64, resume: f64| Goals {
        dump: Some(dump),
        resume: Some(resume),
        new_pid: Some(resume),
        ..Goals::default()
    };
    match name {
        "tiny" => Goals { stopped: Some(1e3), new_pid: Some(550.0), ..both(4e3, 700.0) },
        "threads64" => both(6e3, 3e3),
        "mappings10k" => both(70e3, 60e3),
        "touched1g" => Goals { dump: None, ..both(0.0, 220e3) },
        "tree50" => both(30e3, 25e3),
        "descriptors" => both(15e3, 10e3),
        // Stored once, and little else.
        "shared10" => Goals { image: Some(68.0 * 1024.0 * 1024.0), ..Goals::default() },
        _ => Goals::default(),
    }
}

fn rows(name: &str, title: &str, costs: &Costs) -> Vec<Row> {
    let goals = goals(name);
    let ms = |what: &str, goal, figures: &Series| {
        Row::new(format!("{title}: {what}"), Unit::Millis, goal, figures)
    };
    let mut rows = vec![ms("dump, whole command", goals.dump, &costs.dump)];
    if name == "touched1g" {
        let rate = costs.dump.map(|us| 1e6 / us);
        rows.push(Row::new(format!("{title}: dump"), Unit::Rate, Some(2.0), &rate));
    }
    rows.extend([
        ms("dump with --leave-running, whole command", None, &costs.leave),
        ms("not running meanwhile, seen by the program", goals.stopped, &costs.stopped),
        ms("not running meanwhile, told by dumper", None, &costs.frozen),
        ms("resume to the first instruction, original pid", goals.resume, &costs.resume),
    ]);
    if !TREES.contains(&name) {
        let what = "resume to the first instruction, --new-pid";
        rows.push(ms(what, goals.new_pid, &costs.new_pid));
    }
    if goals.image.is_some() {
        let image = single(costs.image_bytes as f64);
        rows.push(Row::new(format!("{title}: image"), Unit::MiB, goals.image, &image));
    }
    let peak = Row::new(
        format!("{title}: peak memory of dumper"),
        Unit::MiB,
        Some(32.0 * 1024.0 * 1024.0),
        &costs.peak,
    );
    rows.push(peak);
    rows
}

fn single(figure: f64) -> Series {
    let mut series = Series::default();
    series.add(figure);
    series
}

const HEAD: &str = "| | goal | median | best | reached |\n|---|---|---|---|---|\n";

/// The whole document.
pub fn text(results: &Results) -> String {
    let mut text = String::from("# Performance\n\n");
    let _ = writeln!(
        text,
        "Written by `cargo xtask bench`; do not edit. {} rounds after one that warms up, {} workers; \
         images on /dev/shm, without sync.\n",
        results.rounds, results.workers
    );
    text.push_str(&machine());
    text.push_str("\n## What the machine can do\n\n");
    text.push_str(HEAD);
    let floors = &results.floors;
    let gib = |series: &Series| series.map(|us| 1e6 / us);
    let threads = results.workers;
    for row in [
        Row::new(
            String::from("start and end of a static empty program"),
            Unit::Millis,
            None,
            &floors.exec,
        ),
        Row::new(
            format!("memcpy of 1 GiB to touched memory, {threads} threads"),
            Unit::Rate,
            None,
            &gib(&floors.memcpy),
        ),
        Row::new(
            format!("memcpy of 1 GiB to fresh memory, {threads} threads"),
            Unit::Rate,
            None,
            &gib(&floors.memcpy_fresh),
        ),
        Row::new(
            format!("write of 1 GiB to the page cache, {threads} threads"),
            Unit::Rate,
            None,
            &gib(&floors.write),
        ),
    ] {
        text.push_str(&row.text());
    }
    for (_, title, costs) in results.programs.iter().filter(|(name, ..)| ANSWERED.contains(name)) {
        let what = format!("{title}: the kernel's answers alone, each asked once");
        text.push_str(&Row::new(what, Unit::Millis, None, &costs.answers).text());
    }
    text.push_str("\n## What a dump and a resume cost\n\n");
    text.push_str(HEAD);
    for (name, title, costs) in &results.programs {
        for row in rows(name, title, costs) {
            text.push_str(&row.text());
        }
    }
    let asked = &results.consent;
    for (what, unit, goal, figures) in [
        ("suspend-api: hold and release", Unit::Nanos, 20.0, &asked.hold),
        ("suspend-api: hold and release, 16 threads at once", Unit::Nanos, 20.0, &asked.together),
        ("suspend-api: what asking adds to a dump", Unit::Millis, 1000.0, &asked.round),
    ] {
        text.push_str(&Row::new(String::from(what), unit, Some(goal), figures).text());
    }
    if let Some((_, _, costs)) = results.programs.first() {
        let restorer = single(costs.restorer_bytes as f64);
        let goal = Some(64.0 * 1024.0);
        let row =
            Row::new(String::from("the restorer's part of an image"), Unit::KiB, goal, &restorer);
        text.push_str(&row.text());
    }
    text.push_str("\n## What was measured\n\n| program | mappings | image |\n|---|---|---|\n");
    for (name, title, costs) in &results.programs {
        let _ = writeln!(
            text,
            "| {title} (tests/bench/{name}.c) | {} | {:.1} KiB |",
            costs.mappings,
            costs.image_bytes as f64 / 1024.0
        );
    }
    text.push_str(METHOD);
    text
}

const METHOD: &str = "
The programs read the processor's counter for ever and tell every pause in their readings. So a
stop is what the program itself saw of it, and a resume lasts from the counter read right before
execve of the image to the first reading after it: everything is verified and in place by then.
The counter is no clock of the kernel's, as those are shifted by the time namespace of a resume.
A whole command lasts from before its fork until it has been waited for. Peak memory is the
kernel's count (ru_maxrss) of the dumper and its tracer, the greater of both. The kernel's answers
alone are those that no dumper can do without, asked in turn with the dumps by a program that does
nothing else (tests/bench/floor_answers.c, which says what it leaves out); it is one command, too.
";

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let count = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let gib = memory("MemTotal").unwrap_or(0) as f64 / f64::from(1 << 30);
    format!(
        "{} processors ({model}), {gib:.0} GiB of memory, kernel {}, {}.\n",
        count,
        said(Command::new("uname").arg("-r")).split('-').next().unwrap_or_default(),
        said(Command::new("date").args(["-u", "+%Y-%m-%d"])),
    )
}

fn said(command: &mut Command) -> String {
    let output = command.output().map(|done| done.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}

/// A line of /proc/meminfo, in bytes.
pub fn memory(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}
