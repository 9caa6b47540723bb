//! What the kernel tells of sockets over netlink (sock_diag), of Unix sockets above all (unix_diag).

use super::raw;
use nix::sys::socket::{recv, send, MsgFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

const NETLINK_SOCK_DIAG: u32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// TCP_ESTABLISHED.
const ESTABLISHED: u8 = 1;
/// Length of struct nlmsghdr, and of struct unix_diag_msg.
const HEADER: usize = 16;
/// Name, file, peer, waiting connections, queue lengths.
const SHOW: u32 = 1 | 2 | 4 | 8 | 16;
/// Attributes of the answer.
const NAME: u16 = 0;
const VFS: u16 = 1;
const PEER: u16 = 2;
const ICONS: u16 = 3;
const RQLEN: u16 = 4;
const SHUTDOWN: u16 = 6;

/// What is known of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnixSocket {
    /// TCP_ state, which these sockets use as well.
    pub state: u8,
    /// Inode and device of the file that it is bound to.
    pub file: Option<(u32, u32)>,
    /// Inode of its peer; 0 for a peer that was closed or not yet accepted.
    pub peer: Option<u64>,
    /// Inodes of those that wait to be accepted.
    pub waiting: Vec<u64>,
    /// Own address without the family.
    pub name: Vec<u8>,
    /// Bytes that wait to be received.
    pub received: u32,
    /// Backlog of a listening socket.
    pub backlog: u32,
    /// 1 receives no more, 2 sends no more.
    pub shutdown: u32,
}

/// Room for an answer: a listening socket lists all that wait.
const ROOM: usize = 64 << 10;

/// An open channel to ask by.
#[derive(Debug)]
pub struct Diag {
    channel: OwnedFd,
    answer: Vec<u8>,
    /// By inode.
    known: BTreeMap<u64, UnixSocket>,
}

impl Diag {
    /// Opens it.
    pub fn open() -> io::Result<Self> {
        let (family, kind) = (libc::AF_NETLINK as u32, libc::SOCK_RAW as u32);
        let channel = raw::socket(family, kind, NETLINK_SOCK_DIAG)?;
        Ok(Self { channel, answer: vec![0; ROOM], known: BTreeMap::new() })
    }

    /// Asks about all Unix sockets there are and keeps what is said of those with these inodes. The
    /// kernel goes through all of them for a question about one as well.
    pub fn look_at_all(&mut self, inodes: &BTreeSet<u64>) -> io::Result<()> {
        let mut known = BTreeMap::new();
        self.each(|message, found| {
            let inode = word(message, HEADER + 4).map(u64::from);
            if let Some(inode) = inode.filter(|inode| inodes.contains(inode)) {
                known.insert(inode, found);
            }
            true
        })?;
        self.known = known;
        Ok(())
    }

    /// Asks about the Unix socket with this inode.
    pub fn unix(&mut self, inode: u64) -> io::Result<UnixSocket> {
        if let Some(known) = self.known.get(&inode) {
            return Ok(known.clone());
        }
        self.ask(NLM_F_REQUEST, inode as u32)?;
        let len = recv(self.channel.as_raw_fd(), &mut self.answer, MsgFlags::empty())?;
        parse(&self.answer[..len])
    }

    /// Whether nothing waits in the sockets of this name that were not accepted before their client
    /// was closed. They have no inode yet, so that only a look at all sockets shows them.
    pub fn is_silent(&mut self, name: &[u8]) -> io::Result<bool> {
        let mut is_silent = true;
        self.each(|message, found| {
            let no_inode = word(message, HEADER + 4) == Some(0);
            let forsaken = no_inode && found.state == ESTABLISHED && found.peer == Some(0);
            let named = found.name.get(..) == name.get(2..);
            is_silent = !(forsaken && named && found.received > 0);
            is_silent
        })?;
        Ok(is_silent)
    }

    /// Shows all Unix sockets, until there is no interest.
    fn each(&mut self, mut show: impl FnMut(&[u8], UnixSocket) -> bool) -> io::Result<()> {
        self.ask(NLM_F_REQUEST | NLM_F_DUMP, 0)?;
        loop {
            let len = recv(self.channel.as_raw_fd(), &mut self.answer, MsgFlags::empty())?;
            let mut rest = &self.answer[..len];
            while let Some(length) = word(rest, 0) {
                let Some(message) = rest.get(..length as usize) else { break };
                if word(message, 4).is_some_and(|kind| kind as u16 == NLMSG_DONE) {
                    return Ok(());
                }
                if !show(message, parse(message)?) {
                    return Ok(());
                }
                rest = rest.get((length as usize).next_multiple_of(4).max(HEADER)..).unwrap_or(&[]);
            }
        }
    }

    fn ask(&self, flags: u16, inode: u32) -> io::Result<()> {
        let mut request = vec![libc::AF_UNIX as u8, 0, 0, 0];
        let (all_states, any_cookie) = (u32::MAX, u32::MAX);
        for word in [all_states, inode, SHOW, any_cookie, any_cookie] {
            request.extend_from_slice(&word.to_ne_bytes());
        }
        self.send(flags, &request)
    }

    /// The answer to one request (struct inet_diag_req_v2 and its like); an error of the kernel's is
    /// one of these.
    pub fn answer(&mut self, request: &[u8]) -> io::Result<&[u8]> {
        self.send(NLM_F_REQUEST, request)?;
        let len = recv(self.channel.as_raw_fd(), &mut self.answer, MsgFlags::empty())?;
        body(&self.answer[..len])
    }

    fn send(&self, flags: u16, request: &[u8]) -> io::Result<()> {
        let mut message = Vec::with_capacity(HEADER + request.len());
        message.extend_from_slice(&((HEADER + request.len()) as u32).to_ne_bytes());
        message.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&[0; 8]);
        message.extend_from_slice(request);
        send(self.channel.as_raw_fd(), &message, MsgFlags::empty())?;
        Ok(())
    }
}

/// What follows the header of a message.
fn body(message: &[u8]) -> io::Result<&[u8]> {
    let short = || io::Error::from(io::ErrorKind::InvalidData);
    if word(message, 4).ok_or_else(short)? as u16 == NLMSG_ERROR {
        let errno = word(message, HEADER).ok_or_else(short)? as i32;
        return Err(io::Error::from_raw_os_error(-errno));
    }
    message.get(HEADER..).ok_or_else(short)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn parse(answer: &[u8]) -> io::Result<UnixSocket> {
    let short = || io::Error::from(io::ErrorKind::InvalidData);
    body(answer)?;
    let state = *answer.get(HEADER + 2).ok_or_else(short)?;
    let mut found = UnixSocket { state, ..UnixSocket::default() };
    let mut rest = answer.get(2 * HEADER..).unwrap_or(&[]);
    while let Some(head) = word(rest, 0) {
        // struct nlattr: length with itself, type.
        let (len, kind) = (head as u16 as usize, (head >> 16) as u16);
        let Some(value) = rest.get(4..len) else { break };
        match kind {
            VFS => found.file = word(value, 0).zip(word(value, 4)),
            PEER => found.peer = word(value, 0).map(u64::from),
            ICONS => {
                let inodes = value.chunks_exact(4).filter_map(|b| word(b, 0));
                found.waiting = inodes.map(u64::from).collect();
            }
            // Of a listening socket: how many wait, and how many may.
            RQLEN => {
                found.received = word(value, 0).unwrap_or(0);
                found.backlog = word(value, 4).unwrap_or(0);
            }
            NAME => found.name = value.to_vec(),
            SHUTDOWN => found.shutdown = value.first().copied().map_or(0, u32::from),
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4).max(4)..).unwrap_or(&[]);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{socketpair, AddressFamily, SockFlag, SockType};
    use nix::sys::stat::fstat;

    #[test]
    fn a_pair_knows_its_peer_until_it_is_closed() {
        let (a, b) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::empty()).unwrap();
        let (ino_a, ino_b) = (fstat(&a).unwrap().st_ino, fstat(&b).unwrap().st_ino);
        let mut diag = Diag::open().unwrap();
        let found = diag.unix(ino_a).unwrap();
        assert_eq!((found.peer, found.shutdown, found.file), (Some(ino_b), 0, None));
        drop(b);
        let found = diag.unix(ino_a).unwrap();
        assert_eq!((found.peer, found.shutdown), (Some(0), 3));
    }

    #[test]
    fn all_at_once_tell_the_same() {
        let pair = || socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::empty());
        let pairs: Vec<_> = (0..300).map(|_| pair().unwrap()).collect();
        let inodes: BTreeSet<u64> = pairs.iter().map(|(a, _)| fstat(a).unwrap().st_ino).collect();
        let mut diag = Diag::open().unwrap();
        let one_by_one: Vec<_> = inodes.iter().map(|&inode| diag.unix(inode).unwrap()).collect();
        diag.look_at_all(&inodes).unwrap();
        assert_eq!(diag.known.keys().copied().collect::<BTreeSet<_>>(), inodes);
        assert_eq!(diag.known.values().cloned().collect::<Vec<_>>(), one_by_one);
    }

    #[test]
    fn answers_that_end_early() {
        assert!(parse(&[]).is_err());
        assert!(parse(&[0; 17]).is_err());
        let _ = parse(&[0xff; 50]);
    }
}
