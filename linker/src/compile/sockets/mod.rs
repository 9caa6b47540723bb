//! Sockets. Everything about them is ordinary system calls; what matters is their order:
//!
//! 1. all are made, at numbers of their own above the program's: pairs, single ones, and the other
//!    ends of those whose other end is closed; 2. options, addresses, listening; 3. connections
//!    through listening sockets, accepted at once; 4. what waits in them is sent, with descriptors;
//! 5. connections that nobody has accepted, and one-way ones; 6. what is closed is closed, halves
//!    are shut down, names that were removed are removed; 7. options that would have been in the
//!    way; 8. all go to their descriptors.

mod accepted;
mod address;
mod closed;
mod connect;
mod live;
mod messages;
mod options;

pub(crate) use address::endpoint;
pub use address::show as address_text;

use super::arch::nr;
use super::ProcessCompiler;
use crate::LinkError;
use image_format::model::{FileObject, Socket, SocketLink, Tree};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const SOCK_RAW: u32 = 3;
const IPPROTO_TCP: u32 = 6;
const O_NONBLOCK: u32 = 0o4000;
const F_SETFL: u64 = 4;
/// Larger than any backlog that is needed meanwhile.
const ROOMY: u64 = 4096;

/// Where sockets and descriptors in flight are while the plan runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    first: u32,
    sockets: u32,
    /// Files that travel in messages and are no sockets.
    flying: Vec<u32>,
}

impl Places {
    /// Gives numbers from `first` on.
    pub fn new(tree: &Tree, first: u32) -> Self {
        let is_socket = |file: u32| {
            let file = tree.files.get(file as usize);
            file.is_some_and(|f| matches!(f.object, FileObject::Socket { .. }))
        };
        let flying: BTreeSet<u32> = tree
            .sockets
            .iter()
            .flat_map(|s| &s.queue)
            .flat_map(|m| m.files.iter().copied())
            .filter(|file| !is_socket(*file))
            .collect();
        let sockets = tree.sockets.len() as u32;
        Self { first, sockets, flying: flying.into_iter().collect() }
    }

    /// First number after all of them.
    pub fn end(&self) -> u32 {
        self.first + 2 * self.sockets + self.flying.len() as u32
    }

    /// All of them.
    pub fn numbers(&self) -> RangeInclusive<u32> {
        self.first..=self.end() - 1
    }

    /// Of a socket.
    fn home(&self, socket: u32) -> u32 {
        self.first + 2 * socket
    }

    /// Of the other end of a socket, where that is to be closed in the end.
    fn other(&self, socket: u32) -> u32 {
        self.home(socket) + 1
    }

    /// Files that travel in messages, with their numbers.
    pub fn flights(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let first = self.first + 2 * self.sockets;
        self.flying.iter().copied().zip(first..)
    }
}

/// What messages call a socket.
fn name(socket: &Socket) -> String {
    let sort = match (socket.family, socket.kind) {
        (AF_UNIX, SOCK_STREAM) => "Unix socket",
        (AF_UNIX, SOCK_DGRAM) => "Unix datagram socket",
        (AF_UNIX, _) => "Unix packet socket",
        (AF_INET | AF_INET6, SOCK_STREAM) => "TCP socket",
        (AF_INET | AF_INET6, SOCK_RAW) => "raw socket",
        (AF_INET | AF_INET6, _) => "UDP socket",
        (AF_NETLINK, _) => "netlink socket",
        _ => "socket",
    };
    let listening = matches!(socket.link, SocketLink::Listening { .. });
    let address = address::show(&socket.name.0);
    match (address.is_empty(), listening) {
        (true, _) => format!("{sort} {}", socket.inode),
        (false, true) => format!("{sort} that listens at {address}"),
        (false, false) => format!("{sort} {} at {address}", socket.inode),
    }
}

fn is_tcp(socket: &Socket) -> bool {
    [AF_INET, AF_INET6].contains(&socket.family) && socket.protocol == IPPROTO_TCP
}

impl ProcessCompiler<'_> {
    /// Makes all sockets and puts them at the descriptors in `uses`.
    pub(super) fn sockets(
        &mut self,
        uses: &BTreeMap<u32, Vec<(u32, bool)>>,
    ) -> Result<(), LinkError> {
        let sockets = &self.tree.sockets;
        if sockets.is_empty() {
            return Ok(());
        }
        // A socket file that its own user may not write to can't be connected to; modes come later.
        self.must("file mode mask", nr::UMASK, [0; 6]);
        let all = 0..sockets.len() as u32;
        for i in all.clone() {
            self.create(i)?;
        }
        self.name_others(true)?;
        for i in all.clone() {
            if !self.is_accepted(i)? {
                self.socket_of_user(i)?;
                self.early_options(i)?;
                self.bind(i)?;
            }
        }
        self.name_others(false)?;
        self.connections()?;
        for i in all.clone() {
            if self.is_accepted(i)? {
                self.socket_of_user(i)?;
            }
        }
        self.fill()?;
        self.late_connections()?;
        for i in all.clone() {
            self.end_of_other(i)?;
        }
        for i in all.clone() {
            self.remove_name(i)?;
            self.late_options(i)?;
        }
        for (_, number) in self.places.clone().flights() {
            self.must("descriptor in a message", nr::CLOSE, [u64::from(number), 0, 0, 0, 0, 0]);
        }
        self.put_in_place(uses)
    }

    /// Before it is bound: with whom a port can be shared is decided there.
    fn socket_of_user(&mut self, i: u32) -> Result<(), LinkError> {
        let what = name(self.socket_at(i)?);
        self.belongs_to_user(self.places.home(i), &what);
        Ok(())
    }

    /// Puts every socket at its descriptors; those in flight are at none.
    fn put_in_place(&mut self, uses: &BTreeMap<u32, Vec<(u32, bool)>>) -> Result<(), LinkError> {
        let mut open: BTreeSet<u32> = (0..self.tree.sockets.len() as u32).collect();
        for (index, uses) in uses {
            let file = self.file_at(*index)?;
            let FileObject::Socket { socket } = file.object else { continue };
            self.socket_at(socket)?;
            let home = self.places.home(socket);
            if file.flags & O_NONBLOCK != 0 {
                let args = [u64::from(home), F_SETFL, u64::from(O_NONBLOCK), 0, 0, 0];
                self.must(&format!("flags of socket {socket}"), nr::FCNTL, args);
            }
            self.place(home, uses, &file);
            open.remove(&socket);
        }
        for socket in open {
            let home = u64::from(self.places.home(socket));
            self.must("socket in a message", nr::CLOSE, [home, 0, 0, 0, 0, 0]);
        }
        Ok(())
    }
}

impl<'a> ProcessCompiler<'a> {
    fn socket_at(&self, index: u32) -> Result<&'a Socket, LinkError> {
        let what = "a socket that is not there";
        self.tree
            .sockets
            .get(index as usize)
            .ok_or(LinkError::Model { pid: self.process.pid, what })
    }

    /// Number of a socket that only helps. Not the first of the temporary ones, which is the
    /// lowest that is free where the program's own have no gap: moving to itself is an error.
    fn helper(&self) -> u32 {
        self.first_temporary + super::TEMPORARIES - 1
    }
}
