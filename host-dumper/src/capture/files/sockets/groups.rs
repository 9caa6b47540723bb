//! Multicast groups that a UDP socket is a member of. No list of them can be asked for; but the
//! kernel lists the groups of each interface (/proc/net/igmp, igmp6), and tells for each whether a
//! socket is a member, and with which filter of sources (MCAST_MSFILTER).

use super::link::Facts;
use super::raw;
use crate::capture::proc::number;
use image_format::model::Membership;
use std::os::fd::BorrowedFd;

const MCAST_MSFILTER: i32 = 48;
/// struct group_filter: interface at 0, group at 8, mode at 136, number of sources at 140, sources.
const GROUP: usize = 8;
const SOURCES: usize = 140;
const HEADER: usize = 144;
/// struct sockaddr_storage.
const ADDRESS: usize = 128;
/// More sources than the default limit (net.ipv4.igmp_max_msf) of 10, or any usual one.
const MANY: usize = 512;

/// A group of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    index: u32,
    device: Vec<u8>,
    /// Bytes of the address.
    address: Vec<u8>,
}

/// The memberships of a socket.
pub fn read(fd: BorrowedFd<'_>, facts: &Facts) -> Vec<Membership> {
    if !facts.is_inet() || facts.is_tcp() {
        return Vec::new();
    }
    let table = |name: &str| std::fs::read(format!("/proc/self/net/{name}")).unwrap_or_default();
    let mut all = Vec::new();
    for group in four(&table("igmp")) {
        all.extend(membership(fd, libc::IPPROTO_IP, libc::AF_INET, 4, &group));
    }
    if facts.family == libc::AF_INET6 as u32 {
        for group in six(&table("igmp6")) {
            all.extend(membership(fd, libc::IPPROTO_IPV6, libc::AF_INET6, 8, &group));
        }
    }
    all
}

/// Asks whether the socket is a member; `at` is where the address lies in a socket address.
fn membership(
    fd: BorrowedFd<'_>,
    level: i32,
    family: i32,
    at: usize,
    group: &Group,
) -> Option<Membership> {
    let mut filter = vec![0; HEADER + MANY * ADDRESS];
    filter[..4].copy_from_slice(&group.index.to_ne_bytes());
    filter[GROUP..GROUP + 2].copy_from_slice(&(family as u16).to_ne_bytes());
    let address = GROUP + at;
    filter.get_mut(address..address + group.address.len())?.copy_from_slice(&group.address);
    filter[SOURCES..HEADER].copy_from_slice(&(MANY as u32).to_ne_bytes());
    raw::exchange(fd, level, MCAST_MSFILTER, &mut filter).ok()?;
    let sources = filter[SOURCES..].first_chunk().map_or(0, |b| u32::from_ne_bytes(*b)) as usize;
    filter.truncate(HEADER + sources.min(MANY) * ADDRESS);
    let interface = group.device.clone().into();
    Some(Membership { interface, level: level as u32, filter: filter.into() })
}

/// /proc/net/igmp: a line for each interface, and below it one for each group.
fn four(text: &[u8]) -> Vec<Group> {
    let (mut all, mut current) = (Vec::new(), None);
    for line in number::lines(text) {
        let mut words = number::words(line);
        let (first, second) = (words.next(), words.next());
        if line.starts_with(b"\t") {
            let address = first.and_then(number::hex);
            if let (Some((index, device)), Some(address)) = (&current, address) {
                let address = (address as u32).to_ne_bytes().to_vec();
                all.push(Group { index: *index, device: Vec::clone(device), address });
            }
        } else {
            let index = first.and_then(number::decimal).map(|index| index as u32);
            current = index.zip(second.map(<[u8]>::to_vec));
        }
    }
    all
}

/// /proc/net/igmp6: index, interface, group and more on each line.
fn six(text: &[u8]) -> Vec<Group> {
    let group = |line| {
        let mut words = number::words(line);
        let index = number::decimal(words.next()?)? as u32;
        let device = words.next()?.to_vec();
        let digits = words.next()?;
        let address = digits.chunks(2).map(|two| number::hex(two).map(|n| n as u8));
        let address = address.collect::<Option<Vec<u8>>>().filter(|a| a.len() == 16)?;
        Some(Group { index, device, address })
    };
    number::lines(text).filter_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_groups() {
        let text = b"Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
            1\tlo        :     2      V3\n\t\t\t\t010203EF     1 0:00000000\t\t0\n\
            \t\t\t\t010000E0     1 0:00000000\t\t0\n4\teth0      :     0      V3\n";
        let group = |address: [u8; 4]| Group {
            index: 1,
            device: b"lo".to_vec(),
            address: address.to_vec(),
        };
        assert_eq!(four(text), [group([239, 3, 2, 1]), group([224, 0, 0, 1])]);
        let text = b"4    eth0            ff020000000000000000000000000001     1 0000000C 0\n";
        let all = six(text);
        assert_eq!((all[0].index, all[0].address[0], all[0].address[15]), (4, 0xff, 1));
        assert_eq!(six(b"x\n4 eth0 ff0\n"), []);
    }
}
