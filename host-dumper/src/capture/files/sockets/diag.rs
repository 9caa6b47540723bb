//! What the kernel tells of Unix sockets over netlink (unix_diag).

use super::raw;
use nix::sys::socket::{recv, send, MsgFlags};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

const NETLINK_SOCK_DIAG: u32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
/// Length of struct nlmsghdr, and of struct unix_diag_msg.
const HEADER: usize = 16;
/// Name, file, peer, waiting connections, queue lengths.
const SHOW: u32 = 1 | 2 | 4 | 8 | 16;
/// Attributes of the answer.
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
}

impl Diag {
    /// Opens it.
    pub fn open() -> io::Result<Self> {
        let (family, kind) = (libc::AF_NETLINK as u32, libc::SOCK_RAW as u32);
        let channel = raw::socket(family, kind, NETLINK_SOCK_DIAG)?;
        Ok(Self { channel, answer: vec![0; ROOM] })
    }

    /// Asks about the Unix socket with this inode.
    pub fn unix(&mut self, inode: u64) -> io::Result<UnixSocket> {
        let mut request = Vec::with_capacity(HEADER + 24);
        request.extend_from_slice(&40u32.to_ne_bytes());
        request.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        request.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
        request.extend_from_slice(&[0; 8]);
        request.extend_from_slice(&[libc::AF_UNIX as u8, 0, 0, 0]);
        let any_cookie = u32::MAX;
        for word in [u32::MAX, inode as u32, SHOW, any_cookie, any_cookie] {
            request.extend_from_slice(&word.to_ne_bytes());
        }
        send(self.channel.as_raw_fd(), &request, MsgFlags::empty())?;
        let len = recv(self.channel.as_raw_fd(), &mut self.answer, MsgFlags::empty())?;
        parse(&self.answer[..len])
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn parse(answer: &[u8]) -> io::Result<UnixSocket> {
    let short = || io::Error::from(io::ErrorKind::InvalidData);
    let kind = word(answer, 4).ok_or_else(short)? as u16;
    if kind == NLMSG_ERROR {
        let errno = word(answer, HEADER).ok_or_else(short)? as i32;
        return Err(io::Error::from_raw_os_error(-errno));
    }
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
            RQLEN => found.backlog = word(value, 4).unwrap_or(0),
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
    fn answers_that_end_early() {
        assert!(parse(&[]).is_err());
        assert!(parse(&[0; 17]).is_err());
        let _ = parse(&[0xff; 50]);
    }
}
