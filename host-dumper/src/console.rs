//! What is told on standard error and answered on standard output.

use crate::failure::{errno_text, status, Failure};
use crate::words::printable;
use std::io::{self, Write};

/// Tells a line on standard error. Where nobody can be told (a full disk, a reader that has gone
/// away), what is being done goes on all the same: `eprintln!` would panic.
///
/// Names of processes and files may hold what drives a terminal: it is made visible.
pub fn tell(line: &str) {
    put(&format!("{}\n", printable(line)));
}

/// The same with a text that is no line, on a terminal.
pub fn put(text: &str) {
    // One write for all of it: standard error is not buffered.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Gives the answer that was asked for on standard output. A reader that closes early (`head`, `less`)
/// has seen enough; any other error is one, as the answer is all that was wanted.
pub fn answer(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            status::OUTPUT,
            format!("cannot write standard output: {}", errno_text(&error)),
            "the answer is not complete; have it written elsewhere",
        )),
        _ => Ok(()),
    }
}
