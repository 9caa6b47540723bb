//! Ids of users and groups as processes see them.

use super::proc::{number, Proc};

/// Lines of a map of a user namespace: (inside, outside, count).
type Map = Vec<[u64; 3]>;

/// The maps of a user namespace.
#[derive(Debug, Default)]
pub(super) struct IdMaps {
    users: Map,
    groups: Map,
}

impl IdMaps {
    /// Those of the namespace that a process is in.
    pub fn of(proc: &Proc) -> Self {
        Self { users: read(proc, "uid_map"), groups: read(proc, "gid_map") }
    }

    /// A user's id as the process sees it.
    pub fn user(&self, id: u32) -> u32 {
        inward(&self.users, id)
    }

    /// A group's id as the process sees it.
    pub fn group(&self, id: u32) -> u32 {
        inward(&self.groups, id)
    }
}

fn read(proc: &Proc, name: &str) -> Map {
    let text = proc.read_optional(name).unwrap_or_default();
    number::lines(&text)
        .filter_map(|line| {
            let mut fields = number::words(line).map_while(number::decimal);
            Some([fields.next()?, fields.next()?, fields.next()?])
        })
        .collect()
}

fn inward(map: &[[u64; 3]], id: u32) -> u32 {
    let id = u64::from(id);
    map.iter()
        .find(|[_, outside, count]| (*outside..outside.saturating_add(*count)).contains(&id))
        .map_or(id, |[inside, outside, _]| id - outside + inside) as u32
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
}
