//! TCP connections that live on, to the outside mostly: put together by TCP_REPAIR, which sends nothing
//! (net/ipv4/tcp.c). Their packets are held back by a table of the packet filter since the dump.
//!
//! The order is the kernel's: sequence numbers while the socket is closed; then connect, which in
//! repair mode only enters the state; what both ends agreed on before anything is put into a
//! queue; the window last. A socket in repair mode vanishes without a word should the resume fail.
//! At the very end (`thaw`), the table goes, repair mode is left, which asks the other end for
//! its window, and what was never sent is written as usual.

use super::super::arch::nr;
use super::super::builder::Arg;
use super::super::ProcessCompiler;
use super::{name, AF_NETLINK, SOCK_RAW};
use crate::{netfilter, LinkError};
use image_format::model::{Connection, FileObject, Socket, SocketLink};
use image_format::plan::{op, Expect};
use std::collections::BTreeSet;

const SOL_SOCKET: u32 = 1;
const SO_REUSEADDR: u32 = 2;
const SO_SNDBUFFORCE: u32 = 32;
const SO_RCVBUFFORCE: u32 = 33;
const SO_BUF_LOCK: u32 = 72;
const IPPROTO_TCP: u32 = 6;
const TCP_REPAIR: u32 = 19;
const TCP_REPAIR_QUEUE: u32 = 20;
const TCP_QUEUE_SEQ: u32 = 21;
const TCP_REPAIR_OPTIONS: u32 = 22;
const TCP_TIMESTAMP: u32 = 24;
const TCP_REPAIR_WINDOW: u32 = 29;
const RECEIVE_QUEUE: u32 = 1;
const SEND_QUEUE: u32 = 2;
/// TCPI_OPT_ bits, and the TCPOPT_ numbers that stand for them.
const AGREED_TIMESTAMPS: u32 = 1;
const AGREED_SACK: u32 = 2;
const AGREED_SCALES: u32 = 4;
const OPTION_MSS: u32 = 2;
const OPTION_SCALES: u32 = 3;
const OPTION_SACK: u32 = 4;
const OPTION_TIMESTAMPS: u32 = 8;
const NETLINK_NETFILTER: u32 = 12;

/// Room in a buffer while it is filled: the kernel counts more than the bytes.
fn room(before: u32, bytes: usize) -> u32 {
    (u64::from(before) + 2 * bytes as u64).min(i32::MAX as u64 / 2) as u32
}

impl ProcessCompiler<'_> {
    /// Makes a connection as it was, without a packet.
    pub(super) fn repair(&mut self, i: u32) -> Result<(), LinkError> {
        let socket = self.socket_at(i)?;
        let SocketLink::Live { connection: c } = &socket.link else { return Ok(()) };
        let fd = self.places.home(i);
        let waiting: usize = socket.queue.iter().map(|m| m.data.0.len()).sum();
        let [send, receive] = c.buffers;
        let send = room(send, c.sent.0.len() + c.unsent.0.len());
        self.number(socket, fd, SOL_SOCKET, SO_SNDBUFFORCE, send, Expect::Ignore);
        let receive = room(receive, waiting);
        self.number(socket, fd, SOL_SOCKET, SO_RCVBUFFORCE, receive, Expect::Ignore);
        self.number(socket, fd, IPPROTO_TCP, TCP_REPAIR, 1, Expect::Success);
        for (queue, sequence) in [(SEND_QUEUE, c.send_seq), (RECEIVE_QUEUE, c.receive_seq)] {
            self.number(socket, fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue, Expect::Success);
            self.number(socket, fd, IPPROTO_TCP, TCP_QUEUE_SEQ, sequence, Expect::Success);
        }
        let what = format!("{}, connected with {}", name(socket), super::address_text(&c.peer.0));
        for (call, address) in [(nr::BIND, &socket.name.0), (nr::CONNECT, &c.peer.0)] {
            let at = self.b.data(address);
            let args = [Arg::fd(fd), Arg::data(at), Arg::value(address.len() as u64)];
            self.b.call(&what, call, &args, Expect::Success);
        }
        let options: Vec<u8> = agreed(c).into_iter().flatten().flat_map(u32::to_le_bytes).collect();
        self.set(socket, fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, &options, Expect::Success);
        if c.agreed & AGREED_TIMESTAMPS != 0 {
            self.number(socket, fd, IPPROTO_TCP, TCP_TIMESTAMP, c.timestamp, Expect::Success);
        }
        let received = socket.queue.iter().map(|m| &m.data.0[..]);
        let pieces =
            received.map(|data| (RECEIVE_QUEUE, data)).chain([(SEND_QUEUE, &c.sent.0[..])]);
        for (queue, data) in pieces.filter(|(_, data)| !data.is_empty()) {
            self.number(socket, fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue, Expect::Success);
            self.fill_queue(socket, fd, data);
        }
        let window: Vec<u8> = c.window.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.set(socket, fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, Expect::Success);
        Ok(())
    }

    /// Lets the connections go on whose sockets no earlier process has.
    pub(in super::super) fn thaw(&mut self) -> Result<(), LinkError> {
        let mut own: Vec<(u32, u32)> = Vec::new();
        for d in &self.process.descriptors {
            let FileObject::Socket { socket } = self.file_at(d.file)?.object else { continue };
            let live = matches!(self.socket_at(socket)?.link, SocketLink::Live { .. });
            let known = own.iter().any(|(known, _)| *known == socket);
            if live && !known && self.is_first_user(d.file) {
                own.push((socket, d.fd));
            }
        }
        let mut tables = BTreeSet::new();
        for &(i, _) in &own {
            let SocketLink::Live { connection: c } = &self.socket_at(i)?.link else { continue };
            if !c.table.0.is_empty() {
                tables.insert(String::from_utf8_lossy(&c.table.0).into_owned());
            }
        }
        for table in &tables {
            self.let_through(table);
        }
        for (i, fd) in own {
            let socket = self.socket_at(i)?;
            if let SocketLink::Live { connection } = &socket.link {
                self.go_on(socket, connection, fd);
            }
        }
        Ok(())
    }

    /// Removes a table of the packet filter; it may be gone, or have been on another machine.
    fn let_through(&mut self, table: &str) {
        let what = format!("packet filter {table}");
        // No descriptor, until there is one.
        let channel = self.b.words(&[u64::from(u32::MAX)]);
        let args = [AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER].map(|n| Arg::value(u64::from(n)));
        self.b.call(&what, nr::SOCKET, &args, Expect::Ignore);
        self.b.keep_result(channel);
        let message = netfilter::let_through(table);
        let length = Arg::value(message.len() as u64);
        let message = Arg::data(self.b.data(&message));
        let none = Arg::value(0);
        let args = [Arg::load(channel), message, length, none, none, none];
        self.b.call(&what, nr::SENDTO, &args, Expect::Ignore);
        self.b.call(&what, nr::CLOSE, &[Arg::load(channel)], Expect::Ignore);
    }

    fn go_on(&mut self, socket: &Socket, c: &Connection, fd: u32) {
        self.number(socket, fd, IPPROTO_TCP, TCP_REPAIR, 0, Expect::Success);
        if !c.unsent.0.is_empty() {
            self.fill_queue(socket, fd, &c.unsent.0);
        }
        // Repair mode takes it away.
        let reuse = socket.options.iter().find(|o| (o.level, o.name) == (SOL_SOCKET, SO_REUSEADDR));
        if let Some(reuse) = reuse {
            self.set(socket, fd, SOL_SOCKET, SO_REUSEADDR, &reuse.value.0, Expect::Note);
        }
        for (option, size) in [SO_SNDBUFFORCE, SO_RCVBUFFORCE].into_iter().zip(c.buffers) {
            // The kernel doubles what it is told.
            self.number(socket, fd, SOL_SOCKET, option, size / 2, Expect::Ignore);
        }
        self.number(socket, fd, SOL_SOCKET, SO_BUF_LOCK, c.locked, Expect::Ignore);
    }

    fn fill_queue(&mut self, socket: &Socket, fd: u32, data: &[u8]) {
        let at = self.b.data(data);
        let what = format!("contents of {}", name(socket));
        let args = [u64::from(fd), u64::from(at), data.len() as u64, 0, 0, 0];
        self.b.verb(op::WRITE_ALL, &what, args);
    }

    fn number(&mut self, socket: &Socket, fd: u32, level: u32, option: u32, value: u32, e: Expect) {
        self.set(socket, fd, level, option, &value.to_le_bytes(), e);
    }
}

/// struct tcp_repair_opt: number and value.
fn agreed(c: &Connection) -> Vec<[u32; 2]> {
    let mut all = vec![[OPTION_MSS, c.mss]];
    if c.agreed & AGREED_SCALES != 0 {
        all.push([OPTION_SCALES, c.scales[0] | c.scales[1] << 16]);
    }
    if c.agreed & AGREED_SACK != 0 {
        all.push([OPTION_SACK, 0]);
    }
    if c.agreed & AGREED_TIMESTAMPS != 0 {
        all.push([OPTION_TIMESTAMPS, 0]);
    }
    all
}
