//! Packets of connections that live on, held back by the kernel's packet filter: while they are
//! read, and from the end of the process to the resume. A packet that finds no socket would be
//! answered by a reset (net/ipv4/tcp_ipv4.c, tcp_v4_rcv).
//!
//! While the process may still run on, the table belongs to this program's netlink socket and
//! vanishes with it, however this program ends. A second one with a name of its own stays.

use super::raw;
use linker::netfilter::{are_you_there, hold_back, let_through, Flow};
use nix::sys::socket::{recv, send, MsgFlags};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

const NETLINK_NETFILTER: u32 = 12;
const NLMSG_ERROR: u16 = 2;
/// Length of struct nlmsghdr.
const HEADER: usize = 16;
const ROOM: usize = 64 << 10;

/// Name of the table that stays between dump and resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableName(u64);

impl TableName {
    /// A name that no other dump has.
    pub fn random() -> Self {
        let mut bytes = [0; 8];
        // SAFETY: the kernel writes at most eight bytes to the buffer.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        debug_assert_eq!(got, 8);
        Self(u64::from_ne_bytes(bytes))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "resume-{:016x}", self.0)
    }
}

fn channel() -> io::Result<OwnedFd> {
    raw::socket(libc::AF_NETLINK as u32, libc::SOCK_RAW as u32, NETLINK_NETFILTER)
}

/// Sends messages and hears what became of them: the kernel has answered when it has taken them.
fn ask(channel: &OwnedFd, messages: &[u8]) -> io::Result<()> {
    send(channel.as_raw_fd(), messages, MsgFlags::empty())?;
    let (mut heard, mut answer) = (false, vec![0; ROOM]);
    loop {
        let length = match recv(channel.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => length,
            Err(nix::errno::Errno::EAGAIN) if heard => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        heard = true;
        let mut rest = &answer[..length.min(ROOM)];
        while let Some((kind, body, next)) = message(rest) {
            let errno = body.first_chunk().map_or(0, |b| i32::from_ne_bytes(*b));
            if kind == NLMSG_ERROR && errno != 0 {
                return Err(io::Error::from_raw_os_error(-errno));
            }
            rest = next;
        }
    }
}

/// The first message: its type, its body, and what follows.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or(&[])))
}

/// Whether there is a packet filter that this user may change.
pub fn available() -> io::Result<()> {
    ask(&channel()?, &are_you_there())
}

/// Removes the table of a dump.
pub fn release(name: TableName) {
    // One that is not there is what is wanted.
    let _ = channel().and_then(|channel| ask(&channel, &let_through(&name.to_string())));
}

/// Packets held back; let through when it is dropped, unless they were handed over to the resume.
#[derive(Debug)]
pub struct NetLock {
    /// Connections whose packets are held back until the resume.
    flows: Vec<Flow>,
    /// The temporary table belongs to it.
    _owner: OwnedFd,
    /// The table that stays, until it is known to be needed.
    lasting: Option<TableName>,
}

impl NetLock {
    /// Holds packets back as long as it lives: of connections that may have to wait for the resume,
    /// and of others.
    pub fn hold(lasting: Vec<Flow>, passing: &[Flow]) -> io::Result<Self> {
        let owner = channel()?;
        let name = format!("dumper-{}", TableName::random().0);
        ask(&owner, &hold_back(&name, true, &[&lasting, passing].concat()))?;
        Ok(Self { flows: lasting, _owner: owner, lasting: None })
    }

    /// Makes the table that stays when this program has ended; gives the number of connections.
    pub fn last(&mut self, name: TableName) -> io::Result<usize> {
        if !self.flows.is_empty() {
            ask(&channel()?, &hold_back(&name.to_string(), false, &self.flows))?;
            self.lasting = Some(name);
        }
        Ok(self.flows.len())
    }

    /// The resume will remove it.
    pub fn hand_over(&mut self) {
        self.lasting = None;
    }
}

impl Drop for NetLock {
    fn drop(&mut self) {
        self.lasting.into_iter().for_each(release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_end_early() {
        assert!(message(&[]).is_none());
        assert!(message(&[40, 0, 0, 0, 2, 0]).is_none());
        assert!(message(&[4, 0, 0, 0, 2, 0]).is_none());
    }
}
