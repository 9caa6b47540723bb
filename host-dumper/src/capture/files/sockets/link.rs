//! What each socket is connected with, as far as the sockets that are known tell.

use super::diag::{Diag, UnixSocket};
use super::{forsaken, raw, raw_peer};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;

/// TCP_ states, which Unix sockets use as well.
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const CLOSE: u8 = 7;
/// The other side sends no more.
const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;
/// States in which the own side sends no more.
const SENT_FIN: [u8; 5] = [4, 5, 6, 9, 11];
/// Shut down both ways.
pub const BOTH: u32 = 3;

/// What the kernel tells of one socket.
#[derive(Debug, Clone)]
pub struct Facts {
    pub family: u32,
    pub kind: u32,
    pub protocol: u32,
    /// Own address; empty where it has none.
    pub name: Vec<u8>,
    /// The peer's address.
    pub peer: Option<Vec<u8>>,
    pub unix: UnixSocket,
    /// Connections that wait at a listening TCP socket.
    pub waiting: u32,
    /// Nobody has the other end of a TCP connection any more, and all that it sent is here.
    pub forsaken: bool,
}

/// What a socket is connected with; other sockets by their inodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    None,
    Peer(u64),
    Gone,
    Listening {
        backlog: u32,
        pending: Vec<u64>,
    },
    Address(Vec<u8>),
    OneWay(u64),
    Pending(u64),
    /// A Unix socket that is not among those known; its inode where it has one.
    Outside(Option<u64>),
    /// A TCP connection that leads outside, or was reset already.
    Reset,
    /// A TCP connection that is being made.
    Begun,
}

impl Facts {
    /// Asks about a socket.
    pub fn of(diag: &mut Diag, fd: BorrowedFd<'_>, inode: u64) -> io::Result<Self> {
        let number = |name| raw::number(fd, libc::SOL_SOCKET, name).map(|n| n as u32);
        let (family, kind) = (number(libc::SO_DOMAIN)?, number(libc::SO_TYPE)?);
        let mut facts = Self {
            family,
            kind,
            protocol: number(libc::SO_PROTOCOL)?,
            name: raw::name(fd)?,
            peer: raw::peer(fd),
            unix: UnixSocket::default(),
            waiting: 0,
            forsaken: false,
        };
        if facts.is_unix() {
            facts.unix = diag.unix(inode)?;
            if facts.name.len() <= 2 {
                facts.name.clear();
            }
        } else if facts.is_tcp() {
            let info = raw::option(fd, libc::IPPROTO_TCP, libc::TCP_INFO)?;
            facts.unix.state = info.first().copied().unwrap_or(0);
            // Of a listening socket, tcpi_sacked is the backlog, tcpi_unacked what is in it.
            let sacked = info.get(28..).and_then(|b| b.first_chunk());
            let unacked = info.get(24..).and_then(|b| b.first_chunk());
            facts.waiting = unacked.map_or(0, |b| u32::from_ne_bytes(*b));
            facts.unix.backlog = sacked.map_or(0, |b| u32::from_ne_bytes(*b));
            if SENT_FIN.contains(&facts.unix.state) {
                facts.unix.shutdown = 2;
            }
            if facts.unix.state == CLOSE_WAIT {
                let both = facts.ends();
                facts.forsaken = both.is_some_and(|(a, b)| forsaken::is_forsaken(diag, a, b));
            }
        }
        if facts.is_raw() && facts.peer.is_none() {
            facts.peer = raw_peer::of(family, kind, inode);
        }
        if facts.is_inet()
            && endpoint(&facts.name).is_some_and(|(ip, port)| ip == [0; 16] && port == 0)
        {
            facts.name.clear();
        }
        if facts.is_netlink() && facts.name.iter().skip(4).all(|&byte| byte == 0) {
            facts.name.clear();
        }
        Ok(facts)
    }

    pub fn is_unix(&self) -> bool {
        self.family == libc::AF_UNIX as u32
    }

    pub fn is_netlink(&self) -> bool {
        self.family == libc::AF_NETLINK as u32
    }

    pub fn is_inet(&self) -> bool {
        [libc::AF_INET as u32, libc::AF_INET6 as u32].contains(&self.family)
    }

    pub fn is_tcp(&self) -> bool {
        self.is_inet() && self.protocol == libc::IPPROTO_TCP as u32
    }

    /// TCP, UDP, and raw sockets that are nothing but their options; not those that may control
    /// multicast routing.
    pub fn is_plain(&self) -> bool {
        let protocol = self.protocol as i32;
        match self.kind as i32 {
            libc::SOCK_STREAM => protocol == libc::IPPROTO_TCP,
            libc::SOCK_DGRAM => protocol == libc::IPPROTO_UDP || self.is_raw(),
            libc::SOCK_RAW => self.is_raw(),
            _ => false,
        }
    }

    /// A socket for packets of a protocol that the kernel does not speak itself, or for echoes.
    pub fn is_raw(&self) -> bool {
        let protocol = self.protocol as i32;
        let echo = [libc::IPPROTO_ICMP, libc::IPPROTO_ICMPV6].contains(&protocol);
        let routing = [libc::IPPROTO_IGMP, libc::IPPROTO_PIM].contains(&protocol);
        self.is_inet() && (echo || self.kind == libc::SOCK_RAW as u32 && !routing)
    }

    /// Messages have boundaries.
    pub fn is_packets(&self) -> bool {
        self.kind != libc::SOCK_STREAM as u32
    }

    pub fn is_listening(&self) -> bool {
        self.unix.state == LISTEN
    }

    /// Where it is and with what it is connected.
    fn ends(&self) -> Option<(Endpoint, Endpoint)> {
        Some((endpoint(&self.name)?, endpoint(self.peer.as_ref()?)?))
    }
}

/// Address, IPv4 in its mapped form, and port.
pub type Endpoint = ([u8; 16], u16);

/// Those of an internet address.
pub fn endpoint(address: &[u8]) -> Option<Endpoint> {
    let family = u16::from_ne_bytes(*address.first_chunk()?);
    let port = u16::from_be_bytes(*address.get(2..)?.first_chunk()?);
    let mut ip = [0; 16];
    match i32::from(family) {
        libc::AF_INET => {
            let bytes = address.get(4..8)?;
            if bytes != [0; 4] {
                ip[10..12].copy_from_slice(&[0xff; 2]);
                ip[12..].copy_from_slice(bytes);
            }
        }
        libc::AF_INET6 => ip.copy_from_slice(address.get(8..24)?),
        _ => return None,
    }
    Some((ip, port))
}

/// The sockets that are known, by inode.
#[derive(Debug, Default)]
pub struct Known(pub BTreeMap<u64, Facts>);

impl Known {
    /// What the socket with this inode is connected with.
    pub fn link(&self, inode: u64) -> Link {
        let Some(facts) = self.0.get(&inode) else { return Link::None };
        if facts.is_unix() {
            self.unix(inode, facts)
        } else if facts.is_tcp() {
            self.tcp(facts)
        } else {
            facts.peer.clone().filter(|_| facts.is_inet()).map_or(Link::None, Link::Address)
        }
    }

    /// Whether it is a TCP connection to the outside that could live on.
    pub fn may_live(&self, inode: u64) -> bool {
        self.is_established(inode) && self.link(inode) == Link::Reset
    }

    /// Whether it is a TCP connection open both ways.
    pub fn is_established(&self, inode: u64) -> bool {
        self.0.get(&inode).is_some_and(|facts| {
            facts.is_tcp()
                && facts.kind == libc::SOCK_STREAM as u32
                && facts.unix.state == ESTABLISHED
                && facts.peer.is_some()
        })
    }

    fn unix(&self, inode: u64, facts: &Facts) -> Link {
        if facts.is_listening() {
            let pending = facts.unix.waiting.clone();
            return Link::Listening { backlog: facts.unix.backlog, pending };
        }
        let datagrams = facts.kind == libc::SOCK_DGRAM as u32;
        match facts.unix.peer {
            None => Link::None,
            Some(0) => {
                // One that waits may have shut itself down both ways, so this is looked at first.
                let listener = self.0.iter().find(|(_, l)| l.unix.waiting.contains(&inode));
                match listener {
                    Some((listener, _)) => Link::Pending(*listener),
                    None if datagrams || facts.unix.shutdown == BOTH => Link::Gone,
                    None => Link::Outside(None),
                }
            }
            Some(peer) => match self.0.get(&peer) {
                Some(other) if other.unix.peer == Some(inode) => Link::Peer(peer),
                Some(_) => Link::OneWay(peer),
                None => Link::Outside(Some(peer)),
            },
        }
    }

    fn tcp(&self, facts: &Facts) -> Link {
        match facts.unix.state {
            LISTEN => Link::Listening { backlog: facts.unix.backlog, pending: Vec::new() },
            CLOSE => Link::None,
            SYN_SENT => Link::Begun,
            _ if facts.forsaken => Link::Gone,
            _ => {
                let Some((here, there)) = facts.ends() else { return Link::Reset };
                let other =
                    self.0.iter().find(|(_, f)| f.is_tcp() && f.ends() == Some((there, here)));
                other.map_or(Link::Reset, |(inode, _)| Link::Peer(*inode))
            }
        }
    }
}
