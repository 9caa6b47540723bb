//! Whether a process is still being made by a resume.
//!
//! Until its last moments a resume has the whole image mapped in the process, from the image's first
//! byte; what a resumed program keeps of it begins further on. A dump in between would carry
//! half of the program and half of the restorer, and stopping the one keeps the other waiting.

use super::patience::Patience;
use super::proc::{maps, Proc};
use super::programs::is_image;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// How long a resume may take before a dump gives up on it.
const LIMIT: Duration = Duration::from_secs(10);
/// Pause between two looks: no event tells that a process has unmapped something.
const PAUSE: Duration = Duration::from_millis(1);

/// Waiting for a resume.
#[derive(Debug)]
pub(super) struct Resuming(Patience);

impl Resuming {
    /// From now on.
    pub fn begins() -> Self {
        Self(Patience::new(LIMIT))
    }

    /// Lets a moment pass; tells whether there is no point in waiting any longer.
    pub fn is_stuck(&mut self) -> bool {
        std::thread::sleep(PAUSE);
        self.0.is_over()
    }

    /// Seconds that were spent in waiting.
    pub fn seconds(&self) -> u64 {
        self.0.spent().as_secs()
    }
}

/// Whether the image is mapped in a process from its first byte on. A process whose program is no
/// image costs one read.
pub(super) fn has_whole_image(proc: &Proc) -> bool {
    let inode = || {
        let image = proc.file("exe").ok().filter(is_image)?;
        image.metadata().ok().map(|found| found.ino())
    };
    let Some(inode) = inode() else { return false };
    let Some(areas) = proc.read_optional("maps").and_then(|text| maps::parse(&text)) else {
        return false;
    };
    areas.iter().any(|area| area.inode == inode && area.offset == 0)
}
