//! For programs that want a say in their suspension by `dumper`.
//!
//! A program that has started this library is asked before it is suspended: its suspend callbacks run, last
//! registered first; one of them may refuse, with a reason that the user of `dumper` is shown.
//! When it is resumed (or when the suspension was called off) its resume callbacks run, first
//! registered first, and are told what has changed meanwhile.
//!
//! ```no_run
//! # fn main() -> Result<(), suspend_api::Error> {
//! suspend_api::Options::new().start()?;
//! let registration = suspend_api::register(
//!     |_request| if 2 > 1 { Ok(()) } else { Err("a transaction is open".into()) },
//!     |outcome| eprintln!("back after {} s", outcome.elapsed.as_secs()),
//! )?;
//! {
//!     let _hold = suspend_api::hold();
//!     // Not suspended in here.
//! }
//! # drop(registration);
//! # Ok(())
//! # }
//! ```
//!
//! `include/suspend.h` is the same for C and C++, `man/suspend.3` its manual, and
//! docs/suspend-api.md the protocol.
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "std")]
mod api;
mod block;
#[cfg(feature = "c-library")]
mod c;
mod fork;
mod handler;
mod hold;
mod machine;
mod own;
mod registry;
mod round;
mod service;
mod start;
mod sys;

#[cfg(feature = "std")]
pub use api::{
    hold, hold_for, register, suspend_self, try_hold, Error, Event, Hold, Options, Outcome,
    Refusal, Registration, Request, SelfOptions, Side,
};
