//! The guest's root: a cpio archive in the "newc" format.

use crate::failure::{Doing, Outcome};
use crate::tools;
use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Collects files.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    count: u32,
    /// Folders made for the sake of what is in them.
    folders: HashSet<String>,
}

impl Archive {
    /// Adds a folder.
    pub fn folder(&mut self, name: &str) {
        self.entry(name, 0o040_755, &[]);
    }

    /// Adds an executable file.
    pub fn file(&mut self, name: &str, contents: &[u8]) {
        self.entry(name, 0o100_755, contents);
    }

    /// Adds a symbolic link, after the folders that lead to it.
    pub fn link(&mut self, name: &str, target: &str) {
        self.parents(name);
        self.entry(name, 0o120_777, target.as_bytes());
    }

    /// Adds a file that is nobody's program, after the folders that lead to it.
    pub fn data(&mut self, name: &str, contents: &[u8]) {
        self.parents(name);
        self.entry(name, 0o100_644, contents);
    }

    /// Adds a file of the host with its permissions, after the folders that lead to it.
    pub fn copy(&mut self, name: &str, from: &Path) -> Outcome<()> {
        let about = std::fs::metadata(from).doing(|| format!("looking at {}", from.display()))?;
        let contents = tools::read(from)?;
        self.parents(name);
        self.entry(name, 0o100_000 | about.permissions().mode() & 0o777, &contents);
        Ok(())
    }

    /// Adds all files and links below a folder of the host.
    pub fn tree(&mut self, name: &str, from: &Path) -> Outcome<()> {
        let listing = || format!("listing {}", from.display());
        for entry in std::fs::read_dir(from).doing(listing)? {
            let entry = entry.doing(listing)?;
            let below = entry.file_name().to_string_lossy().into_owned();
            let inner = if name.is_empty() { below } else { format!("{name}/{below}") };
            let kind = entry.file_type().doing(listing)?;
            if kind.is_dir() {
                self.tree(&inner, &entry.path())?;
            } else if kind.is_symlink() {
                let target = std::fs::read_link(entry.path()).doing(listing)?;
                self.link(&inner, &target.to_string_lossy());
            } else {
                self.copy(&inner, &entry.path())?;
            }
        }
        Ok(())
    }

    fn parents(&mut self, name: &str) {
        let ends: Vec<_> = name.match_indices('/').map(|(at, _)| at).collect();
        for end in ends {
            if self.folders.insert(name[..end].to_owned()) {
                self.folder(&name[..end]);
            }
        }
    }

    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) {
        self.count += 1;
        let header = format!(
            "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
            self.count,
            0,
            0,
            1,
            0,
            contents.len(),
            0,
            0,
            0,
            0,
            name.len() + 1,
            0
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    /// The finished archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}
