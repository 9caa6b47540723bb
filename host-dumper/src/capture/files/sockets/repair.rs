//! The state of a TCP connection, read in repair mode (TCP_REPAIR, net/ipv4/tcp.c) through a
//! duplicate of the process's descriptor, while the process stands still and packets are held back.
//!
//! In repair mode a socket neither sends nor tells its program what waits; a program that met one
//! would see errors. So the mode lasts for a few system calls only, or from the end of the process
//! on. Leaving it clears SO_REUSEADDR, which is set again.

use super::link::Facts;
use super::{netlock, raw};
use crate::capture::files::borrow::{borrow, pidfd};
use crate::capture::proc::Proc;
use image_format::model::Connection;
use linker::netfilter::Flow;
use netlock::{NetLock, TableName};
use nix::sys::stat::fstat;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const TCP: i32 = libc::IPPROTO_TCP;
const TCP_REPAIR_WINDOW: i32 = 29;
const ON: i32 = 1;
/// Left without a probe of the other end's window.
const OFF_QUIETLY: i32 = -1;
const RECEIVE_QUEUE: i32 = 1;
const SEND_QUEUE: i32 = 2;
/// SO_BUF_LOCK.
const SO_BUF_LOCK: i32 = 72;
/// Bytes of a segment that was acknowledged in part are still in the queue.
const SLACK: usize = 128 << 10;
/// Length of struct tcp_repair_window.
const WINDOW: usize = 20;

/// Repair mode, left whatever happens.
struct Repair<'a> {
    fd: BorrowedFd<'a>,
    reuse: i32,
}

impl<'a> Repair<'a> {
    fn enter(fd: BorrowedFd<'a>) -> io::Result<Self> {
        let reuse = raw::number(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
        raw::set_number(fd, TCP, libc::TCP_REPAIR, ON)?;
        Ok(Self { fd, reuse })
    }
}

impl Drop for Repair<'_> {
    fn drop(&mut self) {
        leave(self.fd, self.reuse);
    }
}

fn leave(fd: BorrowedFd<'_>, reuse: i32) {
    // Whoever entered the mode may leave it.
    let _ = raw::set_number(fd, TCP, libc::TCP_REPAIR, OFF_QUIETLY);
    let _ = raw::set_number(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, reuse);
}

fn number(fd: BorrowedFd<'_>, name: i32) -> io::Result<u32> {
    raw::number(fd, TCP, name).map(|n| n as u32)
}

/// Reads everything but what waits to be received.
pub fn read(fd: BorrowedFd<'_>, facts: &Facts, table: Option<TableName>) -> io::Result<Connection> {
    let info = raw::option(fd, TCP, libc::TCP_INFO)?;
    let info = |at: usize| u32::from(info.get(at).copied().unwrap_or(0));
    let size = |name| raw::number(fd, libc::SOL_SOCKET, name).map(|n| n as u32);
    let buffers = [size(libc::SO_SNDBUF)?, size(libc::SO_RCVBUF)?];
    let locked = size(SO_BUF_LOCK).unwrap_or(0);
    let repair = Repair::enter(fd)?;
    let queue = |queue| raw::set_number(fd, TCP, libc::TCP_REPAIR_QUEUE, queue);
    queue(RECEIVE_QUEUE)?;
    let receive_end = number(fd, libc::TCP_QUEUE_SEQ)?;
    let waiting = raw::incoming(fd)?;
    queue(SEND_QUEUE)?;
    let send_end = number(fd, libc::TCP_QUEUE_SEQ)?;
    let (mut sent, unsent) = send_queue(fd)?;
    let unsent = sent.split_off(sent.len().saturating_sub(unsent));
    let mut window = [0; WINDOW / 4];
    let words = raw::option_of(fd, TCP, TCP_REPAIR_WINDOW, WINDOW)?;
    for (word, bytes) in window.iter_mut().zip(words.chunks_exact(4)) {
        *word = bytes.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
    }
    let connection = Connection {
        peer: facts.peer.clone().unwrap_or_default().into(),
        table: table.map(|table| table.to_string().into_bytes()).unwrap_or_default().into(),
        send_seq: send_end.wrapping_sub((sent.len() + unsent.len()) as u32),
        receive_seq: receive_end.wrapping_sub(waiting as u32),
        mss: number(fd, libc::TCP_MAXSEG)?,
        // struct tcp_info: the options agreed on, then the two window scales, four bits each.
        agreed: info(5),
        scales: [info(6) & 15, info(6) >> 4],
        timestamp: number(fd, libc::TCP_TIMESTAMP)?,
        window,
        sent: sent.into(),
        unsent: unsent.into(),
        buffers,
        locked,
    };
    drop(repair);
    Ok(connection)
}

/// What is in the send queue and not acknowledged, and how many bytes at its end were never sent.
fn send_queue(fd: BorrowedFd<'_>) -> io::Result<(Vec<u8>, usize)> {
    let (queued, unsent) = (raw::outgoing(fd)?, raw::not_sent(fd)?);
    if queued == 0 {
        return Ok((Vec::new(), 0));
    }
    let found = raw::peek(fd, queued + SLACK)?.map_or_else(Vec::new, |found| found.data);
    let surplus = found.len().checked_sub(queued).ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((found[surplus..].to_vec(), unsent))
}

/// Connections that were read and that go on in the image or here.
#[derive(Debug)]
pub struct Live {
    sockets: Vec<(OwnedFd, i32)>,
    lock: NetLock,
}

impl Live {
    /// Packets are held back by `lock`.
    pub fn new(lock: NetLock) -> Self {
        Self { sockets: Vec::new(), lock }
    }

    /// Takes a duplicate of the process's descriptor.
    pub fn add(&mut self, socket: OwnedFd) {
        let reuse = raw::number(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR).unwrap_or(0);
        self.sockets.push((socket, reuse));
    }

    /// Has packets held back even when this program has ended; gives the number of connections.
    pub fn last(&mut self, name: TableName) -> io::Result<usize> {
        self.lock.last(name)
    }

    /// From now on the connections end without a word.
    pub fn silence(&self) {
        for (socket, _) in &self.sockets {
            let _ = raw::set_number(socket.as_fd(), TCP, libc::TCP_REPAIR, ON);
        }
    }

    /// The process could not be ended.
    pub fn revive(&self) {
        self.sockets.iter().for_each(|(socket, reuse)| leave(socket.as_fd(), *reuse));
    }

    /// The process has ended: the resume removes the table.
    pub fn hand_over(mut self) {
        self.sockets.clear();
        self.lock.hand_over();
    }
}

/// The two ends of a connection.
pub fn flow(facts: &Facts) -> Flow {
    Flow { own: facts.name.clone(), peer: facts.peer.clone().unwrap_or_default() }
}

/// SO_REUSEADDR of sockets by inode, as it was before a dump.
#[derive(Debug, Default)]
pub struct Before(BTreeMap<u64, i32>);

impl Before {
    /// Notes the sockets of a process.
    pub fn note(&mut self, proc: &Proc) {
        each_tcp(proc, |socket, inode, repair| {
            if !repair {
                let reuse = raw::number(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR);
                self.0.insert(inode, reuse.unwrap_or(0));
            }
        });
    }

    /// Leaves repair mode in a process whose dumper was killed.
    pub fn heal(&self, proc: &Proc) {
        each_tcp(proc, |socket, inode, repair| {
            if repair {
                leave(socket, self.0.get(&inode).copied().unwrap_or(0));
            }
        });
    }
}

/// The TCP sockets of a process: each with its inode, and whether it is in repair mode.
fn each_tcp(proc: &Proc, mut what: impl FnMut(BorrowedFd<'_>, u64, bool)) {
    let Ok(owner) = pidfd(proc.pid()) else { return };
    for fd in proc.numbers("fd").unwrap_or_default() {
        let Some(socket) = borrow(&owner, fd) else { continue };
        let (Ok(on), Ok(stat)) = (number(socket.as_fd(), libc::TCP_REPAIR), fstat(&socket)) else {
            continue;
        };
        what(socket.as_fd(), stat.st_ino, on == 1);
    }
}
