//! What the harness on the host and the agent in the guest have in common.

pub mod pattern;
