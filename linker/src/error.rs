//! Why an image cannot be composed.

/// An obstacle found while planning or laying out.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No hole of the address space is large enough for the restorer.
    #[error("the address space of process {pid} has no free stretch of {needed:#x} bytes for the restorer")]
    NoHole {
        /// The process.
        pid: u32,
        /// Bytes needed.
        needed: u64,
    },
    /// The restorer's ELF is not as its linker script promises: a defect of the build.
    #[error("the restorer built into this program is unusable: {what}")]
    Blob {
        /// What does not fit.
        what: &'static str,
    },
    /// The model contradicts itself.
    #[error("the model of process {pid} is inconsistent: {what}")]
    Model {
        /// The process.
        pid: u32,
        /// What does not fit.
        what: &'static str,
    },
    /// A plan cannot be read.
    #[error("the plan is damaged: {what}")]
    Plan {
        /// What does not fit.
        what: &'static str,
    },
    /// Something too large for the format's fields.
    #[error("{what} is too large for the image format")]
    TooLarge {
        /// What it is.
        what: &'static str,
    },
}
