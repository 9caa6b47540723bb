//! What must hold, each with the number it has in the driver's list of
//! failure scenarios.

mod basics;
mod evil;
mod handover;
mod installed;
mod media;
mod memory;
mod parameters;
mod power;
mod sleep;
mod speed;
mod unplug;

use crate::bench::Bench;
use crate::failure::Outcome;

/// One scenario; it returns a line of figures.
pub struct Scenario {
    /// Number in the list, 0 for what is no failure.
    pub number: u32,
    /// For the command line and the report.
    pub name: &'static str,
    /// Does it, in a guest without driver and sticks.
    pub run: fn(&mut Bench) -> Outcome<String>,
}

/// What the short form leaves out: a measurement, which wants a machine to itself.
pub const NOT_SHORT: [&str; 1] = ["as-fast-as-usb-storage"];

/// All of them, in the order they are run.
pub fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    all.extend(basics::scenarios());
    all.extend(unplug::scenarios());
    all.extend(media::scenarios());
    all.extend(sleep::scenarios());
    all.extend(power::scenarios());
    all.extend(memory::scenarios());
    all.extend(handover::scenarios());
    all.extend(parameters::scenarios());
    all.extend(evil::scenarios());
    all.extend(speed::scenarios());
    // It leaves a machine of another kind.
    all.extend(installed::scenarios());
    all
}

/// One mebibyte.
pub const MIB: u64 = 1 << 20;
