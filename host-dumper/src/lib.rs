//! The parts of the `dumper` program.
//!
//! * [`cli`]: the command line;
//! * [`capture`]: stops a process and reads it into the model;
//! * [`pages`]: reads its memory into chunks;
//! * [`sink`]: where the image goes;
//! * [`failure`], [`words`]: how errors, sizes and times are told;
//! * [`abort`]: the wish to stop.

pub mod abort;
pub mod capture;
pub mod cli;
pub mod failure;
pub mod pages;
pub mod sink;
pub mod words;
