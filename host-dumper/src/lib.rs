//! The parts of the `dumper` program.
//!
//! * [`capture`]: stops a process and reads it into the model.
pub mod capture;
