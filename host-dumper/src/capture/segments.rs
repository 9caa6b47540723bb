//! Segments of System V shared memory: which there are, and whose.
//!
//! The kernel shows a segment's id as the inode of its mappings (ipc/shm.c, newseg), and counts its
//! mappings, so that those of processes outside can be told.

use super::error::Refusal;
use super::memory::Table;
use super::proc::maps::Area;
use super::proc::number::{decimal, lines, radix, signed, words};
use image_format::page_up;
use std::collections::BTreeMap;

/// All segments that the kernel shows to this IPC namespace.
const LIST: &str = "/proc/sysvipc/shm";
/// Mark of a segment that goes with the last process that has it attached.
const SHM_DEST: u32 = 0o1000;
/// Mark of SHM_LOCK.
const SHM_LOCKED: u32 = 0o2000;

/// What the kernel tells of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Segment {
    /// Key; 0 for none.
    pub key: u32,
    /// Permission bits.
    pub mode: u32,
    /// Marked for removal.
    pub destroyed: bool,
    /// Locked in memory.
    pub locked: bool,
    /// Size in bytes.
    pub size: u64,
    /// Mappings of it, of all processes.
    pub attached: u64,
    /// Mappings of it in the tree.
    pub own: u64,
    /// Owner: user and group.
    pub owner: [u32; 2],
    /// shm_ctime.
    pub changed: u64,
    /// Bytes in use, in memory or swapped.
    pub used: u64,
    /// A process that has all of it attached and may read it, and where.
    pub whole: Option<(u32, u64)>,
}

/// The segments that the tree has attached, by id.
#[derive(Debug, Default)]
pub(super) struct Segments(BTreeMap<u64, Segment>);

/// Whether a mapping is one of a segment.
pub(super) fn is_segment(area: &Area) -> bool {
    // On the kernel's own mount, which has no block device.
    area.shared && area.name.starts_with(b"/SYSV") && area.device.0 == 0
}

impl Segments {
    /// Those of the mappings of processes; nothing is asked where there are none.
    pub fn of(processes: &[(u32, &Table)]) -> Self {
        let mappings = || {
            let each = processes.iter().flat_map(|&(pid, t)| t.iter().map(move |(a, _)| (pid, a)));
            each.filter(|(_, area)| is_segment(area))
        };
        if mappings().next().is_none() {
            return Self::default();
        }
        let text = std::fs::read(LIST).unwrap_or_default();
        // The first line has the names of the columns.
        let all = lines(&text).skip(1).filter_map(parse);
        let ours = all.filter_map(|(id, segment)| {
            let mut own = mappings().filter(|(_, area)| area.inode == id).peekable();
            own.peek()?;
            let mut found = segment;
            for (pid, area) in own {
                found.own += 1;
                // Of huge pages there may be more.
                if area.prot & 1 == 1 && area.offset == 0 && area.size() >= page_up(segment.size) {
                    found.whole = Some((pid, area.start));
                }
            }
            Some((id, found))
        });
        Self(ours.collect())
    }

    /// The segment that a mapping shows.
    pub fn get(&self, area: &Area) -> Option<&Segment> {
        self.0.get(&area.inode).filter(|_| is_segment(area))
    }

    /// What of a process's segments stands in the way.
    pub fn refusals(&self, table: &Table) -> Vec<Refusal> {
        let mut all = Vec::new();
        for (area, _) in table.iter().filter(|(area, _)| is_segment(area)) {
            let name = String::from_utf8_lossy(&area.name);
            let object = format!("memory {:x}-{:x} ({name})", area.start, area.end);
            if self.get(area).is_none() {
                let reason = "is System V shared memory that /proc/sysvipc/shm does not show";
                all.push(Refusal::new(object, reason, "let the program detach it"));
            }
        }
        all
    }

    /// What a resume does about segments that others have attached, too.
    pub fn notes(&self, all: bool) -> Vec<String> {
        let shared = self.0.iter().filter(|(_, s)| s.is_outside());
        shared
            .map(|(id, segment)| {
                let fate = if segment.travels(all) {
                    "its contents travel along; where it still is, that one is used"
                } else {
                    "a resume needs it to be there still, or use --sysv-ipc"
                };
                format!(
                    "System V shared memory {id} (key {:#010x}) is attached by processes outside: \
                     {fate}",
                    segment.key
                )
            })
            .collect()
    }
}

impl Segment {
    /// Whether processes outside of the tree have it attached.
    pub fn is_outside(&self) -> bool {
        self.attached > self.own
    }

    /// Whether its contents travel along, with `--sysv-ipc` as `all`: who else uses it without a
    /// key can only have it from the tree.
    pub fn travels(&self, all: bool) -> bool {
        all || self.key == 0 || !self.is_outside()
    }
}

/// A line: key, id, mode, size, creator, last user, mappings, owner's user and group, creator's,
/// three times (attached, detached, changed), bytes in memory, bytes swapped.
fn parse(line: &[u8]) -> Option<(u64, Segment)> {
    let fields: Vec<&[u8]> = words(line).collect();
    let number = |at: usize| fields.get(at).copied().and_then(decimal);
    let mode = radix(fields.get(2)?, 8)? as u32;
    Some((
        number(1)?,
        Segment {
            key: signed(fields.first()?)? as u32,
            mode: mode & 0o777,
            destroyed: mode & SHM_DEST != 0,
            locked: mode & SHM_LOCKED != 0,
            size: number(3)?,
            attached: number(6)?,
            own: 0,
            whole: None,
            owner: [number(7)? as u32, number(8)? as u32],
            changed: number(13)?,
            used: number(14).unwrap_or(0).saturating_add(number(15).unwrap_or(0)),
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::super::proc::maps;
    use super::*;

    const LINE: &[u8] = b" -559038737      32769  1600                  5000  2094  2100      3 \
        1000  1001     0     0 1700000001 1700000002 1700000003                  4096   8192";

    #[test]
    fn a_line_of_the_list() {
        let (id, segment) = parse(LINE).unwrap();
        assert_eq!((id, segment.key, segment.mode), (32769, 0xdead_beef, 0o600));
        assert!(segment.destroyed && !segment.locked);
        assert_eq!((segment.size, segment.attached, segment.owner), (5000, 3, [1000, 1001]));
        assert_eq!((segment.changed, segment.used), (1_700_000_003, 12288));
        assert!(parse(b"key shmid perms").is_none());
    }

    #[test]
    fn segments_that_are_not_shown() {
        let text = "1000-2000 rw-s 00000000 00:01 7 /SYSV00000000 (deleted)\nVmFlags: rd wr sh\n\
             2000-3000 rw-s 00000000 fe:01 8 /SYSV00000000\nVmFlags: rd wr sh\n";
        let table = maps::parse_smaps(text.as_bytes()).unwrap();
        assert_eq!(Segments::default().refusals(&table).len(), 1, "the other is a file");
        let known = Segments([(7, Segment::default())].into());
        assert!(known.refusals(&table).is_empty());
    }
}
