//! Options that differ from those of a new socket.

use super::link::Facts;
use super::raw;
use image_format::model::SocketOption;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

const SOL_SOCKET: i32 = libc::SOL_SOCKET;
const IP: i32 = libc::IPPROTO_IP;
const IPV6: i32 = libc::IPPROTO_IPV6;
const TCP: i32 = libc::IPPROTO_TCP;
const UDP: i32 = libc::IPPROTO_UDP;
const NETLINK: i32 = libc::SOL_NETLINK;

/// SO_BUF_LOCK: which buffer sizes were set by the program (1 sending, 2 receiving).
const SO_BUF_LOCK: i32 = 72;

/// Of every socket: in the order of asm-generic/socket.h.
const ANY: [i32; 19] = [
    libc::SO_REUSEADDR,
    libc::SO_DONTROUTE,
    libc::SO_BROADCAST,
    libc::SO_KEEPALIVE,
    libc::SO_OOBINLINE,
    libc::SO_NO_CHECK,
    libc::SO_PRIORITY,
    libc::SO_LINGER,
    libc::SO_REUSEPORT,
    libc::SO_PASSCRED,
    libc::SO_RCVLOWAT,
    libc::SO_RCVTIMEO,
    libc::SO_SNDTIMEO,
    libc::SO_TIMESTAMP,
    libc::SO_TIMESTAMPNS,
    libc::SO_PASSSEC,
    libc::SO_MARK,
    libc::SO_RXQ_OVFL,
    libc::SO_BUSY_POLL,
];

/// Those of them that mean anything to Unix sockets, or that programs may look at.
const OF_UNIX: [i32; 10] = [
    libc::SO_REUSEADDR,
    libc::SO_KEEPALIVE,
    libc::SO_PRIORITY,
    libc::SO_LINGER,
    libc::SO_PASSCRED,
    libc::SO_PASSSEC,
    libc::SO_RCVLOWAT,
    libc::SO_RCVTIMEO,
    libc::SO_SNDTIMEO,
    libc::SO_TIMESTAMP,
];

const OF_IP: [i32; 15] = [
    libc::IP_TOS,
    libc::IP_TTL,
    libc::IP_PKTINFO,
    libc::IP_MTU_DISCOVER,
    libc::IP_RECVERR,
    libc::IP_RECVTTL,
    libc::IP_RECVTOS,
    libc::IP_FREEBIND,
    libc::IP_TRANSPARENT,
    libc::IP_MULTICAST_IF,
    libc::IP_MULTICAST_TTL,
    libc::IP_MULTICAST_LOOP,
    libc::IP_BIND_ADDRESS_NO_PORT,
    libc::IP_MULTICAST_ALL,
    libc::IP_RECVORIGDSTADDR,
];

const OF_IPV6: [i32; 12] = [
    libc::IPV6_V6ONLY,
    libc::IPV6_UNICAST_HOPS,
    libc::IPV6_MULTICAST_IF,
    libc::IPV6_MULTICAST_HOPS,
    libc::IPV6_MULTICAST_LOOP,
    libc::IPV6_RECVPKTINFO,
    libc::IPV6_RECVHOPLIMIT,
    libc::IPV6_RECVTCLASS,
    libc::IPV6_TCLASS,
    libc::IPV6_MTU_DISCOVER,
    libc::IPV6_RECVERR,
    libc::IPV6_FREEBIND,
];

const OF_TCP: [i32; 13] = [
    libc::TCP_NODELAY,
    libc::TCP_CORK,
    libc::TCP_KEEPIDLE,
    libc::TCP_KEEPINTVL,
    libc::TCP_KEEPCNT,
    libc::TCP_SYNCNT,
    libc::TCP_LINGER2,
    libc::TCP_DEFER_ACCEPT,
    libc::TCP_CONGESTION,
    libc::TCP_USER_TIMEOUT,
    libc::TCP_FASTOPEN,
    libc::TCP_NOTSENT_LOWAT,
    libc::TCP_SAVE_SYN,
];

/// A stream may not set these, and an accepted one shows what came with its first packet.
const NOT_OF_STREAMS: [(i32, i32); 4] = [
    (IP, libc::IP_MULTICAST_IF),
    (IP, libc::IP_MULTICAST_TTL),
    (IPV6, libc::IPV6_MULTICAST_IF),
    (IPV6, libc::IPV6_MULTICAST_HOPS),
];

/// Headers of its own (both families), filters of ICMP messages (both), where to put a checksum.
const OF_RAW: [(i32, i32); 5] = [
    (IP, libc::IP_HDRINCL),
    (IPV6, libc::IPV6_HDRINCL),
    (libc::IPPROTO_RAW, 1),
    (libc::IPPROTO_ICMPV6, 1),
    (IPV6, libc::IPV6_CHECKSUM),
];

const OF_UDP: [i32; 3] = [libc::UDP_CORK, libc::UDP_SEGMENT, libc::UDP_GRO];

/// Packet information, broadcast errors, no ENOBUFS, all namespaces, short and long
/// acknowledgements, strict checks.
const OF_NETLINK: [i32; 7] = [3, 4, 5, 8, 10, 11, 12];
/// NETLINK_ADD_MEMBERSHIP, NETLINK_LIST_MEMBERSHIPS.
const ADD_MEMBERSHIP: i32 = 1;
const LIST_MEMBERSHIPS: i32 = 9;

fn names(facts: &Facts) -> Vec<(i32, i32)> {
    if facts.is_unix() {
        return OF_UNIX.map(|name| (SOL_SOCKET, name)).to_vec();
    }
    let mut all: Vec<_> = ANY.map(|name| (SOL_SOCKET, name)).to_vec();
    if facts.family == libc::AF_INET6 as u32 {
        all.extend(OF_IPV6.map(|name| (IPV6, name)));
    }
    if facts.is_inet() {
        all.extend(OF_IP.map(|name| (IP, name)));
        if facts.is_raw() {
            all.extend(OF_RAW);
        } else if facts.is_tcp() {
            all.extend(OF_TCP.map(|name| (TCP, name)));
        } else {
            all.extend(OF_UDP.map(|name| (UDP, name)));
        }
    } else if facts.family == libc::AF_NETLINK as u32 {
        all.extend(OF_NETLINK.map(|name| (NETLINK, name)));
    }
    if facts.is_tcp() {
        all.retain(|option| !NOT_OF_STREAMS.contains(option));
    }
    all
}

/// Options of new sockets, asked for once for each sort: family, type, protocol.
#[derive(Debug, Default)]
pub struct Usual(BTreeMap<[u32; 3], Values>);

type Values = BTreeMap<(i32, i32), Vec<u8>>;

impl Usual {
    fn of(&mut self, facts: &Facts) -> &Values {
        let sort = [facts.family, facts.kind, facts.protocol];
        self.0.entry(sort).or_insert_with(|| {
            let Ok(fresh) = raw::socket(facts.family, facts.kind, facts.protocol) else {
                return Values::new();
            };
            let value = |(level, name)| {
                Some(((level, name), raw::option(fresh.as_fd(), level, name).ok()?))
            };
            names(facts).into_iter().filter_map(value).collect()
        })
    }
}

/// The options of a socket that a new one of its sort would not have.
pub fn read(usual: &mut Usual, fd: BorrowedFd<'_>, facts: &Facts) -> Vec<SocketOption> {
    let usual = usual.of(facts);
    let mut all = Vec::new();
    let mut push = |level: i32, name: i32, value: Vec<u8>| {
        all.push(SocketOption { level: level as u32, name: name as u32, value: value.into() });
    };
    for (level, name) in names(facts) {
        // A kernel that does not know an option has no value to be kept.
        let Ok(value) = raw::option(fd, level, name) else { continue };
        let differs = match usual.get(&(level, name)) {
            Some(usual) => *usual != value,
            None => value.iter().any(|b| *b != 0),
        };
        if differs {
            push(level, name, value);
        }
    }
    let locked = raw::number(fd, SOL_SOCKET, SO_BUF_LOCK).unwrap_or(0);
    for (bit, name) in [(1, libc::SO_SNDBUF), (2, libc::SO_RCVBUF)] {
        if locked & bit != 0 {
            if let Ok(value) = raw::option(fd, SOL_SOCKET, name) {
                push(SOL_SOCKET, name, value);
            }
        }
    }
    if facts.is_inet() {
        if let Ok(device) = raw::option(fd, SOL_SOCKET, libc::SO_BINDTODEVICE) {
            if device.iter().any(|b| *b != 0) {
                push(SOL_SOCKET, libc::SO_BINDTODEVICE, device);
            }
        }
    }
    if let Ok(filter) = raw::filter(fd) {
        if !filter.is_empty() {
            push(SOL_SOCKET, libc::SO_ATTACH_FILTER, filter);
        }
    }
    if facts.family == libc::AF_NETLINK as u32 {
        for group in memberships(fd) {
            push(NETLINK, ADD_MEMBERSHIP, group.to_ne_bytes().to_vec());
        }
    }
    all
}

/// Groups that a netlink socket is a member of.
fn memberships(fd: BorrowedFd<'_>) -> Vec<u32> {
    let bits = raw::option(fd, NETLINK, LIST_MEMBERSHIPS).unwrap_or_default();
    (0..bits.len() as u32 * 8)
        .filter(|bit| bits[*bit as usize / 8] >> (bit % 8) & 1 != 0)
        .map(|bit| bit + 1)
        .collect()
}
