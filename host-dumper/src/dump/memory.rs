//! What is to be known of the memory of each process before its pages are read.

use crate::pages::{find_guards, CleanFiles, PageError};
use image_format::model::{AddressRange, Backing, Mapping, Process, Tree};

/// The memory of one process.
#[derive(Debug)]
pub struct Outlook {
    /// Guard regions.
    pub guards: Vec<AddressRange>,
    /// Mappings that show nothing but a file; none where nobody asked.
    pub clean: CleanFiles,
    /// Bytes of page data to be expected.
    pub bytes: u64,
}

/// Looks at the memory of all processes of a stopped tree; with `files` at whose pages the mappings show.
pub fn look(tree: &Tree, pids: &[i32], files: bool) -> Result<Vec<Outlook>, PageError> {
    let each = pids.iter().zip(&tree.processes);
    let one = |(pid, process): (&i32, &Process)| {
        let (pid, mappings) = (*pid, process.memory.mappings.as_slice());
        let clean = if files { CleanFiles::look(pid, mappings) } else { CleanFiles::default() };
        let guards =
            find_guards(pid, mappings).map_err(|source| PageError::Scan { pid, source })?;
        Ok(Outlook { guards, clean, bytes: estimate(pid, mappings) })
    };
    each.map(one).collect()
}

/// From what the kernel counts: anonymous memory in memory and swap, and file mappings as a whole.
fn estimate(pid: i32, mappings: &[Mapping]) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let files = mappings.iter().filter(|m| matches!(m.backing, Backing::File { .. }));
    kib(&status, "RssAnon:")
        + kib(&status, "VmSwap:")
        + files.map(|mapping| mapping.end - mapping.start).sum::<u64>()
}

fn kib(status: &str, key: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        .map_or(0, |kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::kib;

    #[test]
    fn fields_of_status() {
        let status = "Name:\tx\nRssAnon:\t     128 kB\nVmSwap:\t0 kB\n";
        assert_eq!(kib(status, "RssAnon:"), 128 << 10);
        assert_eq!(kib(status, "VmSwap:"), 0);
        assert_eq!(kib("", "RssAnon:"), 0);
    }
}
