//! The dump: two processes, so that the one that stops the target outlives a killed `dumper`.
//!
//! ```text
//! front process                           tracer process (own session)
//! -------------                           ---------------------------
//! opens the output, forks         ----->  stops the target, reads, writes
//! ^C, SIGTERM: asks to stop       ----->  looks between chunks, lets go
//! shows progress                  <-----
//! killed: end of the socket       ----->  lets go, or completes when past the commit
//! tidies up, reports              <-----  commits, ends the target, tells the result
//! ```
//!
//! * `front`: arguments, signals, progress, the last word;
//! * `tracer`: the order of the dump;
//! * `compose`: the bytes of the image;
//! * `wire`: what they tell each other.

mod compose;
mod embeds;
mod front;
mod meter;
mod notes;
mod tracer;
mod wire;

pub use front::dump;
pub use tracer::{capture_failure, refusal};
pub use wire::Summary;
