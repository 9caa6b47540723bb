//! As fast as the kernel's own driver: the same stick with both in turn, in one boot.

use super::{Scenario, MIB};
use crate::bench::{Bench, Stick};
use crate::failure::{ensure, Failure, Outcome};
use std::fmt::Write as _;
use std::time::Duration;

/// Of each measurement.
const PIECES: u64 = 32;
/// Of what dd reaches through usb-storage.
const AT_LEAST: f64 = 1.0;
/// The same where dd asks for direct access, in which nothing is copied: emulated, a copy costs as
/// much as a transfer.
const AT_LEAST_OF_DIRECT: f64 = 0.5;

pub fn scenarios() -> Vec<Scenario> {
    vec![Scenario { number: 26, name: "as-fast-as-usb-storage", run: race }]
}

/// One way of reading or writing: the words of `guest pace`, and the times it took.
struct Lane {
    name: &'static str,
    ours: bool,
    write: bool,
    direct: bool,
    micros: Vec<u64>,
}

impl Lane {
    fn new(name: &'static str, ours: bool, write: bool, direct: bool) -> Self {
        Self { name, ours, write, direct, micros: Vec::new() }
    }

    fn run(&mut self, bench: &mut Bench) -> Outcome<()> {
        let direction = if self.write { "write" } else { "read" };
        let node = if self.ours { "/dev/pen0" } else { "/dev/sda" };
        let mode = if self.direct { "direct" } else { "" };
        let said = bench.machine.sh(&format!(
            "echo 3 > /proc/sys/vm/drop_caches; guest pace {direction} {node} {PIECES} {mode}"
        ))?;
        let micros = said.trim().parse().map_err(|_| Failure(format!("guest pace: {said}")))?;
        self.micros.push(micros);
        Ok(())
    }

    /// MiB a second, at the median.
    fn speed(&self) -> f64 {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(u64::MAX);
        Duration::from_secs(PIECES).as_secs_f64() / Duration::from_micros(median).as_secs_f64()
    }
}

fn race(bench: &mut Bench) -> Outcome<String> {
    let rounds = if bench.soak { 21 } else { 7 };
    let mut lanes = [
        Lane::new("pen write", true, true, false),
        Lane::new("pen read", true, false, false),
        Lane::new("usb-storage write", false, true, false),
        Lane::new("usb-storage read", false, false, false),
        Lane::new("usb-storage direct write", false, true, true),
        Lane::new("usb-storage direct read", false, false, true),
    ];
    bench.machine.sh("insmod /later/usb_storage.ko")?;
    bench.insmod("")?;
    let mut stick = Stick::new("speed", 64 * MIB);
    stick.recorded = false;
    bench.plug(&stick)?;
    for round in 0..=rounds {
        for ours in [true, false] {
            hand_over(bench, ours)?;
            for lane in lanes.iter_mut().filter(|lane| lane.ours == ours) {
                lane.run(bench)?;
            }
        }
        // The first round fills the backing file and the host's caches.
        if round == 0 {
            for lane in &mut lanes {
                lane.micros.clear();
            }
        }
    }
    bench.unplug("speed")?;
    let counts = count(bench)?;
    bench.machine.sh("rmmod usb_storage")?;
    let mut said = format!("{rounds} rounds of {PIECES} MiB, medians in MiB/s: ");
    for lane in &lanes {
        let _ = write!(said, "{} {:.0}, ", lane.name, lane.speed());
    }
    let _ = write!(said, "{counts}");
    let [pen_write, pen_read, write, read, direct_write, direct_read] = lanes.map(|l| l.speed());
    for (what, ours, theirs, bound) in [
        ("write", pen_write, write, AT_LEAST),
        ("read", pen_read, read, AT_LEAST),
        ("direct write", pen_write, direct_write, AT_LEAST_OF_DIRECT),
        ("direct read", pen_read, direct_read, AT_LEAST_OF_DIRECT),
    ] {
        ensure(ours >= bound * theirs, || {
            format!("{what}: {ours:.0} MiB/s against {theirs:.0} of usb-storage; {said}")
        })?;
    }
    Ok(said)
}

fn hand_over(bench: &mut Bench, ours: bool) -> Outcome<()> {
    // The first time nobody but usb-storage can have it.
    bench.machine.wait_for("test -b /dev/sda || test -c /dev/pen0", Duration::from_secs(30))?;
    if ours {
        bench.machine.sh("pen take 46f4:0001")?;
        bench.wait_node("pen0")
    } else {
        bench.machine.sh("pen give 46f4:0001")?;
        bench.machine.wait_for("test -b /dev/sda", Duration::from_secs(30))
    }
}

/// Commands that each driver sends for the same pieces, from the wire.
fn count(bench: &mut Bench) -> Outcome<String> {
    let mut said = Vec::new();
    let mut of_ours = Vec::new();
    for ours in [true, false] {
        for write in [true, false] {
            // A capture begins anew with each plugging.
            bench.plug(&Stick::new("speed", 64 * MIB))?;
            bench.machine.wait_for("test -b /dev/sda", Duration::from_secs(30))?;
            if ours {
                hand_over(bench, true)?;
            }
            let before = moves(bench, write)?;
            Lane::new("", ours, write, !ours).run(bench)?;
            let commands = moves(bench, write)? - before;
            said.push(format!(
                "{commands} {} of {}",
                if write { "WRITE" } else { "READ" },
                if ours { "ours" } else { "usb-storage" }
            ));
            if ours {
                of_ours.push(commands);
            }
            bench.unplug("speed")?;
            bench.machine.wait_for("! test -e /dev/sda", Duration::from_secs(30))?;
        }
    }
    // Two windows are read ahead of the reader.
    ensure(of_ours[0] == PIECES && of_ours[1] <= PIECES + 2, || {
        format!("more than one command for each MiB: {said:?}")
    })?;
    Ok(said.join(", "))
}

fn moves(bench: &mut Bench, write: bool) -> Outcome<u64> {
    let commands = bench.wire("speed")?;
    let wanted = |c: &&crate::wire::Command| if write { c.is_write() } else { c.is_read() };
    Ok(commands.iter().filter(wanted).count() as u64)
}
