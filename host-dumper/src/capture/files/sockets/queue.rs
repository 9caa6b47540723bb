//! What waits to be received, seen without taking it.

use super::link::Facts;
use super::raw::{self, Peeked};
use super::readable;
use std::io;
use std::os::fd::BorrowedFd;

/// Room for one datagram: more than any send buffer allows. Untouched memory costs nothing.
const DATAGRAM: usize = 16 << 20;
/// More messages than any queue holds.
const MANY: usize = 1 << 20;

/// SO_PEEK_OFF of the process's socket, given back whatever happens.
struct Offset<'a> {
    fd: BorrowedFd<'a>,
    before: i32,
}

impl<'a> Offset<'a> {
    fn take(fd: BorrowedFd<'a>, before: i32) -> io::Result<Self> {
        let offset = Self { fd, before };
        offset.set(0)?;
        Ok(offset)
    }

    fn set(&self, at: usize) -> io::Result<()> {
        raw::set_number(self.fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, at as i32)
    }
}

impl Drop for Offset<'_> {
    fn drop(&mut self) {
        // Setting what was there before cannot fail.
        let _ = raw::set_number(self.fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, self.before);
    }
}

/// SO_PEEK_OFF; -1 is none.
pub fn peek_offset(fd: BorrowedFd<'_>) -> i32 {
    raw::number(fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF).unwrap_or(-1)
}

/// Everything that waits, in order.
pub fn read(fd: BorrowedFd<'_>, facts: &Facts) -> io::Result<Vec<Peeked>> {
    if facts.is_packets() {
        packets(fd, facts)
    } else {
        stream(fd)
    }
}

fn stream(fd: BorrowedFd<'_>) -> io::Result<Vec<Peeked>> {
    let total = raw::incoming(fd)?;
    if total == 0 {
        return Ok(Vec::new());
    }
    let before = peek_offset(fd);
    if before < 0 {
        // Mostly one look shows everything.
        let all = raw::peek(fd, total)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if all.data.len() == total && all.files.is_empty() {
            return Ok(vec![all]);
        }
    }
    let offset = Offset::take(fd, before)?;
    let look = |at: usize, room: usize| {
        offset.set(at)?;
        let found = raw::peek(fd, room)?.filter(|found| !found.data.is_empty());
        found.ok_or_else(|| io::Error::other("only a part of what waits can be seen"))
    };
    let (mut all, mut at) = (Vec::new(), 0);
    while at < total {
        let mut found = look(at, total - at)?;
        let end = found.data.len();
        if !found.files.is_empty() {
            offset.set(at)?;
            let without = raw::whole_pieces_before(fd, end)?;
            if without > 0 {
                let rest = found.data.split_off(without);
                let data = std::mem::replace(&mut found.data, rest);
                all.push(Peeked { data, files: Vec::new(), from: Vec::new() });
            }
        }
        at += end;
        all.push(found);
    }
    Ok(all)
}

fn packets(fd: BorrowedFd<'_>, facts: &Facts) -> io::Result<Vec<Peeked>> {
    let before = peek_offset(fd);
    let closed = facts.kind == libc::SOCK_SEQPACKET as u32 && facts.unix.shutdown & 1 != 0;
    // A look would mark an empty datagram as seen, and the next one would pass over it.
    if !readable(fd) {
        return Ok(Vec::new());
    }
    let total = raw::incoming(fd)?;
    let _offset = Offset::take(fd, before)?;
    let (mut all, mut seen) = (Vec::new(), 0);
    // Each look moves the offset on to the next message.
    while let Some(found) = raw::peek(fd, DATAGRAM)? {
        if (closed && seen >= total && found.data.is_empty()) || all.len() > MANY {
            // The end, not a message.
            break;
        }
        seen += found.data.len();
        all.push(found);
    }
    Ok(all)
}
