//! Processes as those that may be asked before they are dumped.

use super::proc::maps::{self, Area};
use super::proc::Proc;
use image_format::control::{CONTROL_LEN, CONTROL_NAME};

/// A process of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The process, as this program sees it.
    pub pid: u32,
    /// Index of its parent among the candidates.
    pub parent: Option<u32>,
    /// Its name.
    pub name: String,
    /// Signals that it has handlers for.
    pub caught: u64,
    /// Addresses of what is called a control block.
    pub blocks: Vec<u64>,
}

/// The mapping is called a control block, and is writable shared memory of the right size.
pub(super) fn is_block(area: &Area) -> bool {
    area.shared
        && area.prot & 3 == 3
        && area.offset == 0
        && area.size() == CONTROL_LEN
        && area.path().0.strip_prefix(b"/memfd:") == Some(CONTROL_NAME.as_bytes())
}

/// Whether something that is called a control block is at this address of a process by now.
pub(crate) fn has_block(pid: u32, at: u64) -> bool {
    let text = Proc::open(pid).ok().and_then(|proc| proc.try_read("maps").ok());
    let areas = text.and_then(|text| maps::parse(&text)).unwrap_or_default();
    areas.iter().any(|area| area.start == at && is_block(area))
}

#[cfg(test)]
mod tests {
    use super::super::proc::maps::parse_line;
    use super::*;

    #[test]
    fn blocks_are_known_by_their_name() {
        let area = |perms: &str, name: &str| {
            let line = format!("7f0000000000-7f0000001000 {perms} 00000000 00:01 77 {name}");
            parse_line(line.as_bytes()).unwrap()
        };
        assert!(is_block(&area("rw-s", "/memfd:suspend-control (deleted)")));
        assert!(!is_block(&area("rw-p", "/memfd:suspend-control (deleted)")));
        assert!(!is_block(&area("r--s", "/memfd:suspend-control (deleted)")));
        assert!(!is_block(&area("rw-s", "/memfd:suspend-controls (deleted)")));
        assert!(!is_block(&area("rw-s", "/tmp/memfd:suspend-control (deleted)")));
    }
}
