//! The `dumper` program.
fn main() {}
