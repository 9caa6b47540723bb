//! Socket options, in two portions: those that must be there before an address or a connection,
//! and those that would be in the way of what comes before the program runs.

use super::super::arch::nr;
use super::super::builder::Arg;
use super::super::ProcessCompiler;
use super::{name, AF_NETLINK, AF_UNIX, SOCK_DGRAM, SOCK_STREAM};
use crate::LinkError;
use image_format::model::{Membership, Socket, SocketLink, SocketOption};
use image_format::plan::{op, Expect};

const SOL_SOCKET: u32 = 1;
const SO_REUSEADDR: u32 = 2;
const SO_SNDBUF: u32 = 7;
const SO_RCVBUF: u32 = 8;
const SO_LINGER: u32 = 13;
const SO_PASSCRED: u32 = 16;
const SO_RCVLOWAT: u32 = 18;
const SO_RCVTIMEO: u32 = 20;
const SO_SNDTIMEO: u32 = 21;
const SO_BINDTODEVICE: u32 = 25;
const SO_ATTACH_FILTER: u32 = 26;
const SO_SNDBUFFORCE: u32 = 32;
const SO_RCVBUFFORCE: u32 = 33;
const SO_PEEK_OFF: u32 = 42;
const IPPROTO_TCP: u32 = 6;
const TCP_CORK: u32 = 3;
const TCP_DEFER_ACCEPT: u32 = 9;
const IPPROTO_UDP: u32 = 17;
const UDP_CORK: u32 = 1;
const SOL_NETLINK: u32 = 270;
const IPPROTO_IPV6: u32 = 41;
const IPV6_V6ONLY: u32 = 26;
const SIOCGIFINDEX: u64 = 0x8933;
const IFNAMSIZ: usize = 16;
const MCAST_JOIN_GROUP: u64 = 42;
const MCAST_MSFILTER: u64 = 48;
/// Lengths of struct group_req and of struct group_filter without sources; where its mode is, 0 for
/// all sources but those.
const GROUP_REQ: usize = 136;
const GROUP_FILTER: usize = 144;
const MODE: usize = 136;
/// How long sending what waits may take before the resume fails rather than hangs.
const PATIENCE: [u64; 2] = [10, 0];

fn is_late(socket: &Socket, option: &SocketOption) -> bool {
    match (option.level, option.name) {
        (SOL_SOCKET, SO_PASSCRED) => {
            // Sending a datagram would give it a name.
            socket.kind == SOCK_DGRAM && socket.name.0.is_empty()
        }
        (SOL_SOCKET, SO_BINDTODEVICE) => {
            matches!(socket.link, SocketLink::Reset | SocketLink::Refused)
        }
        // Groups can be joined at any time, and messages would come in.
        (SOL_SOCKET, SO_LINGER | SO_RCVLOWAT | SO_RCVTIMEO | SO_SNDTIMEO | SO_ATTACH_FILTER)
        | (IPPROTO_TCP, TCP_CORK | TCP_DEFER_ACCEPT)
        | (IPPROTO_UDP, UDP_CORK)
        | (SOL_NETLINK, _) => true,
        _ => false,
    }
}

impl ProcessCompiler<'_> {
    /// Sets what must be there before an address or a connection.
    pub(super) fn early_options(&mut self, i: u32) -> Result<(), LinkError> {
        let socket = self.socket_at(i)?;
        let home = self.places.home(i);
        // IPV6_V6ONLY comes from the listening socket, and can't be set where there is a port.
        let inherited = |o: &SocketOption| (o.level, o.name) == (IPPROTO_IPV6, IPV6_V6ONLY);
        let is_accepted = self.is_accepted(i)?;
        for option in socket.options.iter().filter(|o| !is_late(socket, o)) {
            if !(is_accepted && inherited(option)) {
                self.option(socket, home, option);
            }
        }
        Ok(())
    }

    /// Sets the rest.
    pub(super) fn late_options(&mut self, i: u32) -> Result<(), LinkError> {
        let socket = self.socket_at(i)?;
        let home = self.places.home(i);
        if self.patient.remove(&home) {
            self.set(socket, home, SOL_SOCKET, SO_SNDTIMEO, &[0; 16], Expect::Success);
        }
        if self.reused.remove(&home) {
            let before = socket
                .options
                .iter()
                .find(|o| (o.level, o.name) == (SOL_SOCKET, SO_REUSEADDR))
                .map_or(&[0; 4][..], |o| &o.value.0);
            self.set(socket, home, SOL_SOCKET, SO_REUSEADDR, before, Expect::Success);
        }
        for option in socket.options.iter().filter(|o| is_late(socket, o)) {
            self.option(socket, home, option);
        }
        for membership in &socket.memberships {
            self.join(socket, home, membership);
        }
        if socket.peek_offset >= 0 {
            let value = socket.peek_offset.to_le_bytes();
            self.set(socket, home, SOL_SOCKET, SO_PEEK_OFF, &value, Expect::Note);
        }
        Ok(())
    }

    /// Options that an accepted socket has from the listening one, and that the program took back.
    pub(super) fn options_not_inherited(&mut self, i: u32, listener: u32) -> Result<(), LinkError> {
        let (socket, parent) = (self.socket_at(i)?, self.socket_at(listener)?);
        if socket.family == AF_UNIX {
            return Ok(());
        }
        let home = self.places.home(i);
        let has = |o: &SocketOption| {
            socket.options.iter().any(|own| (own.level, own.name) == (o.level, o.name))
        };
        for option in parent.options.iter().filter(|o| o.value.0.len() == 4 && !has(o)) {
            let is_switch = option.value.0 == [1, 0, 0, 0];
            if is_switch && !is_late(socket, option) {
                self.set(socket, home, option.level, option.name, &[0; 4], Expect::Ignore);
            }
        }
        Ok(())
    }

    /// Sending through `fd` fails after a while rather than waits for ever.
    pub(super) fn lose_patience(&mut self, socket: &Socket, fd: u32) {
        if self.patient.insert(fd) {
            let value: Vec<u8> = PATIENCE.iter().flat_map(|w| w.to_le_bytes()).collect();
            self.set(socket, fd, SOL_SOCKET, SO_SNDTIMEO, &value, Expect::Success);
        }
    }

    /// Lets the address be taken although a connection of it is still known to the kernel.
    pub(super) fn reuse_address(&mut self, socket: &Socket, fd: u32) {
        self.reused.insert(fd);
        self.set(socket, fd, SOL_SOCKET, SO_REUSEADDR, &[1, 0, 0, 0], Expect::Success);
    }

    /// Joins a multicast group of an interface of the same name: struct ifreq, which the kernel
    /// fills with the interface's number, ends where struct group_filter begins with it.
    fn join(&mut self, socket: &Socket, fd: u32, membership: &Membership) {
        let interface = String::from_utf8_lossy(&membership.interface.0);
        let what = format!("multicast group of {} on {interface}", name(socket));
        let mut bytes = membership.interface.0.clone();
        bytes.resize(IFNAMSIZ, 0);
        // No interface has this number.
        bytes.extend(u32::MAX.to_le_bytes());
        let filter = &membership.filter.0;
        bytes.extend(filter.get(4..).unwrap_or_default());
        bytes.resize(bytes.len().max(IFNAMSIZ + GROUP_FILTER), 0);
        let request = self.b.data(&bytes);
        let args = [Arg::fd(fd), Arg::value(SIOCGIFINDEX), Arg::data(request)];
        self.b.call(&what, nr::IOCTL, &args, Expect::Ignore);
        let length = bytes.len() - IFNAMSIZ;
        let plain = length == GROUP_FILTER && filter.get(MODE) == Some(&0);
        let all = [(MCAST_JOIN_GROUP, GROUP_REQ), (MCAST_MSFILTER, length)];
        for (option, length) in all.into_iter().take(if plain { 1 } else { 2 }) {
            let args = [
                Arg::fd(fd),
                Arg::value(u64::from(membership.level)),
                Arg::value(option),
                Arg::data(request + IFNAMSIZ as u32),
                Arg::value(length as u64),
            ];
            self.b.call(&what, nr::SETSOCKOPT, &args, Expect::Note);
        }
    }

    fn option(&mut self, socket: &Socket, fd: u32, option: &SocketOption) {
        let value = &option.value.0;
        match (option.level, option.name) {
            (SOL_SOCKET, SO_SNDBUF | SO_RCVBUF) => {
                // The kernel doubles what it is told, and tells the double.
                let size = value.first_chunk().map_or(0, |b| u32::from_le_bytes(*b)) / 2;
                let force = if option.name == SO_SNDBUF { SO_SNDBUFFORCE } else { SO_RCVBUFFORCE };
                let size = size.to_le_bytes();
                self.set(socket, fd, SOL_SOCKET, option.name, &size, Expect::Note);
                // Beyond the system's limit it takes privilege.
                self.set(socket, fd, SOL_SOCKET, force, &size, Expect::Ignore);
            }
            (SOL_SOCKET, SO_ATTACH_FILTER) => {
                // struct sock_fprog: number of instructions, their address.
                let code = self.b.data(value);
                let program = self.b.words(&[value.len() as u64 / 8, 0]);
                self.address_into(program + 8, code);
                let number = [SOL_SOCKET, SO_ATTACH_FILTER].map(|n| Arg::value(u64::from(n)));
                let args = [Arg::fd(fd), number[0], number[1], Arg::data(program), Arg::value(16)];
                let what = format!("filter of {}", name(socket));
                self.b.call(&what, nr::SETSOCKOPT, &args, Expect::Note);
            }
            (level, number) => self.set(socket, fd, level, number, value, Expect::Note),
        }
    }

    pub(super) fn set(
        &mut self,
        socket: &Socket,
        fd: u32,
        level: u32,
        number: u32,
        value: &[u8],
        e: Expect,
    ) {
        let what = format!("option {level}:{number} of {}", name(socket));
        let at = self.b.data(value);
        let args = [
            Arg::fd(fd),
            Arg::value(u64::from(level)),
            Arg::value(u64::from(number)),
            Arg::data(at),
            Arg::value(value.len() as u64),
        ];
        self.b.call(&what, nr::SETSOCKOPT, &args, e);
    }

    /// A helping socket for one that speaks IPv6 alone must be like it.
    pub(super) fn v6_only(&mut self, socket: &Socket, fd: u32) {
        self.set(socket, fd, IPPROTO_IPV6, IPV6_V6ONLY, &[1, 0, 0, 0], Expect::Success);
    }

    /// Stores the address of data in a word of data.
    pub(super) fn address_into(&mut self, word: u32, data: u32) {
        let args = [Arg::value(u64::from(word)), Arg::data(data)];
        self.b.step(op::STORE, "an address", 0, &args, Expect::Success);
    }
}

/// Whether a socket has IPV6_V6ONLY.
pub(super) fn is_v6_only(socket: &Socket) -> bool {
    socket
        .options
        .iter()
        .any(|o| (o.level, o.name) == (IPPROTO_IPV6, IPV6_V6ONLY) && o.value.0.first() == Some(&1))
}

/// Whether a connection over it is a stream.
pub(super) fn is_stream(socket: &Socket) -> bool {
    socket.kind == SOCK_STREAM && socket.family != AF_NETLINK
}
