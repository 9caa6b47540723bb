//! Journeys between kernels and machines: dumped on one, resumed on another.

mod bag;
mod copies;
mod every;
mod guest;
mod hops;
mod obstacles;
mod pulled;
mod stick;
mod world;

pub use world::World;

use crate::failure::Outcome;

/// One journey; it returns a line of figures.
pub struct Journey {
    /// For the command line and the report.
    pub name: &'static str,
    /// Whether it belongs to the short form.
    pub short: bool,
    /// Makes it; the flag asks for the short form.
    pub run: fn(&World, bool) -> Outcome<String>,
}

/// All of them.
pub fn all() -> Vec<Journey> {
    let mut all = hops::journeys();
    all.extend(obstacles::journeys());
    all.extend(copies::journeys());
    all.extend(stick::journeys());
    all.extend(pulled::journeys());
    all.extend(every::journeys());
    all
}
