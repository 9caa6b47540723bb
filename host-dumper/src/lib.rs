//! The parts of the `dumper` program.
//!
//! * [`cli`]: the command line;
//! * [`capture`]: stops a process and reads it into the model;
//! * [`consent`]: asks programs that want a say first;
//! * [`pages`]: reads its memory into chunks;
//! * [`sink`]: where the image goes;
//! * [`medium`]: carries it by a stick;
//! * [`dump`]: the two processes that do all that in order;
//! * [`check`], [`inspect`], [`run`]: the other commands;
//! * [`failure`], [`words`], [`console`]: how errors, sizes and times are told, and where;
//! * [`abort`]: the wish to stop; [`bar`]: the progress bar.

pub mod abort;
pub mod bar;
pub mod capture;
pub mod check;
pub mod cli;
pub mod consent;
pub mod console;
pub mod dump;
pub mod failure;
pub mod inspect;
pub mod medium;
pub mod pages;
pub mod run;
pub mod sink;
pub mod words;
