//! What /proc tells of a process that stands, besides its memory and its descriptors.

use super::error::Result;
use super::proc::{limits, number, Proc};

/// A map of a user namespace: (inside, outside, count).
pub(super) type IdMap = Vec<[u64; 3]>;

/// Rarely more than the defaults, and read of every process.
#[derive(Debug)]
pub(super) struct Particulars {
    /// Soft and hard, by resource number.
    pub limits: Vec<[u64; 2]>,
    pub oom_score_adj: i32,
    pub users: IdMap,
    pub groups: IdMap,
    /// The file cgroup, empty where a kernel has no control groups.
    pub cgroups: Vec<u8>,
    pub auxv: Vec<u64>,
    pub personality: u32,
    pub coredump_filter: u32,
    pub cwd: Vec<u8>,
    pub root: Vec<u8>,
}

/// What the kernel sets for a new process (MMF_DUMP_FILTER_DEFAULT).
const COREDUMP_FILTER: u32 = 0x33;

impl Particulars {
    /// Reads them.
    pub fn read(proc: &Proc) -> Result<Self> {
        let all = limits::parse(&proc.read_record("limits")?);
        let words = |bytes: Vec<u8>| {
            let word = |w: &[u8]| w.try_into().map_or(0, u64::from_le_bytes);
            bytes.chunks_exact(8).map(word).collect()
        };
        Ok(Self {
            limits: all.ok_or_else(|| proc.format("limits", "a limit is missing"))?,
            oom_score_adj: number::signed(proc.read("oom_score_adj")?.trim_ascii()).unwrap_or(0)
                as i32,
            users: id_map(proc, "uid_map"),
            groups: id_map(proc, "gid_map"),
            cgroups: proc.read_optional("cgroup").unwrap_or_default(),
            auxv: words(proc.read("auxv")?),
            personality: hex_file(proc, "personality").unwrap_or(0),
            coredump_filter: hex_file(proc, "coredump_filter").unwrap_or(COREDUMP_FILTER),
            cwd: proc.link("cwd")?,
            root: proc.link("root")?,
        })
    }
}

/// A map of the user namespace of a process.
pub(super) fn id_map(proc: &Proc, name: &str) -> IdMap {
    let text = proc.read_optional(name).unwrap_or_default();
    number::lines(&text)
        .filter_map(|line| {
            let mut fields = number::words(line).map_while(number::decimal);
            Some([fields.next()?, fields.next()?, fields.next()?])
        })
        .collect()
}

/// An id as the process sees it.
pub(super) fn inward(map: &[[u64; 3]], id: u32) -> u32 {
    let id = u64::from(id);
    map.iter()
        .find(|[_, outside, count]| (*outside..outside.saturating_add(*count)).contains(&id))
        .map_or(id, |[inside, outside, _]| id - outside + inside) as u32
}

fn hex_file(proc: &Proc, name: &str) -> Option<u32> {
    let text = proc.read_optional(name)?;
    number::hex(text.trim_ascii()).map(|n| n as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_through_a_map() {
        let map = [[1000, 65534, 1], [0, 100_000, 10]];
        assert_eq!(inward(&map, 65534), 1000);
        assert_eq!(inward(&map, 100_003), 3);
        assert_eq!(inward(&map, 5), 5);
    }

    #[test]
    fn own_ones() {
        let own = Particulars::read(&Proc::open(std::process::id()).unwrap()).unwrap();
        assert!(own.auxv.len() > 2 && own.limits.len() == 16);
        assert_eq!(own.cwd, std::env::current_dir().unwrap().as_os_str().as_encoded_bytes());
    }
}
