//! What went wrong, in words; the harness has nobody to match on kinds.

/// A failed step of the harness or of a scenario.
#[derive(Debug)]
pub struct Failure(pub String);

/// Shorthand of the harness.
pub type Outcome<T> = Result<T, Failure>;

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// Adds what was being done.
pub trait Doing<T> {
    /// Names the action that failed.
    fn doing(self, what: impl FnOnce() -> String) -> Outcome<T>;
}

impl<T, E: std::fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|error| Failure(format!("{}: {error}", what())))
    }
}

/// Fails with a message unless `condition` holds.
pub fn ensure(condition: bool, message: impl FnOnce() -> String) -> Outcome<()> {
    if condition {
        Ok(())
    } else {
        Err(Failure(message()))
    }
}
