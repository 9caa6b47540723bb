//! From sockets to the model: their links, their queues, and what is in flight in them.

use super::diag::Diag;
use super::link::{Facts, Known, Link, BOTH};
use super::netlock::{self, NetLock, TableName};
use super::places::Places;
use super::repair::{self, Live};
use super::{failed, groups, options, queue, raw, show};
use crate::capture::error::{CaptureError, Refusal, Result};
use crate::capture::ExternalSockets;
use image_format::model::{Connection, Message, Socket, SocketLink, CLOSED_CLIENT};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long what was sent over TCP may take to be acknowledged.
const ACKNOWLEDGED: Duration = Duration::from_millis(400);

/// One socket on its way into the model.
#[derive(Debug)]
struct Entry {
    inode: u64,
    fd: OwnedFd,
    queue: Vec<Message>,
}

/// The sockets of the model under construction.
#[derive(Debug, Default)]
pub struct Gatherer {
    known: Known,
    entries: Vec<Entry>,
    index: BTreeMap<u64, u32>,
    /// TCP connections to the outside that live on, by inode.
    connections: BTreeMap<u64, Connection>,
    lock: Option<NetLock>,
}

/// What became of the sockets.
#[derive(Debug, Default)]
pub struct Gathered {
    pub sockets: Vec<Socket>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Connections whose two ends are in the tree, to be closed without a word on the wire once
    /// the process has ended.
    pub quiet: Vec<OwnedFd>,
    /// Connections that live on.
    pub live: Option<Live>,
}

/// Makes the index in the model's files of a descriptor that was found in a message.
pub type Resolve<'a> = dyn FnMut(&mut Gatherer, OwnedFd) -> Result<u32> + 'a;

impl Gatherer {
    /// No socket was met.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Index of the socket with this inode, if it was met.
    pub fn find(&self, inode: u64) -> Option<u32> {
        self.index.get(&inode).copied()
    }

    /// Takes a socket in and gives its index; `facts` are those known since the process stopped.
    pub fn add(&mut self, inode: u64, fd: BorrowedFd<'_>, facts: Option<&Facts>) -> Result<u32> {
        if let Some(index) = self.find(inode) {
            return Ok(index);
        }
        let cannot = |e: &std::io::Error| failed("ask about", e);
        let facts = if let Some(facts) = facts {
            facts.clone()
        } else {
            let mut diag = Diag::open().map_err(|e| cannot(&e))?;
            Facts::of(&mut diag, fd, inode).map_err(|e| cannot(&e))?
        };
        self.known.0.insert(inode, facts);
        let index = self.entries.len() as u32;
        let fd = fd.try_clone_to_owned().map_err(|e| cannot(&e))?;
        self.entries.push(Entry { inode, fd, queue: Vec::new() });
        self.index.insert(inode, index);
        Ok(index)
    }

    /// Reads connections that can only be put together in repair mode, with their packets held
    /// back: with a table, those to the outside; and those within of which one end has sent what
    /// the other has no room for.
    pub fn keep_connections(&mut self, table: Option<TableName>) -> Result<()> {
        let mut kept = Vec::new();
        for entry in self.entries.iter().filter(|e| self.known.is_established(e.inode)) {
            match self.known.link(entry.inode) {
                Link::Reset if table.is_some() => kept.push((entry, table)),
                Link::Peer(_) if raw::outgoing(entry.fd.as_fd()).is_ok_and(|n| n > 0) => {
                    kept.push((entry, None));
                }
                _ => {}
            }
        }
        let deadline = Instant::now() + ACKNOWLEDGED;
        kept.retain(|(entry, table)| table.is_some() || !acknowledged(entry.fd.as_fd(), deadline));
        self.with_their_peers(&mut kept);
        let facts = |e: &Entry| self.known.0.get(&e.inode);
        let (mut lasting, mut passing) = (Vec::new(), Vec::new());
        for (entry, table) in &kept {
            let flows = if table.is_some() { &mut lasting } else { &mut passing };
            flows.extend(facts(entry).map(repair::flow));
        }
        if kept.is_empty() || lasting.is_empty() && netlock::available().is_err() {
            return Ok(());
        }
        let lock =
            NetLock::hold(lasting, &passing).map_err(|e| failed("hold back packets of", &e))?;
        let mut connections = BTreeMap::new();
        for (entry, table) in kept {
            let Some(facts) = facts(entry) else { continue };
            let connection = repair::read(entry.fd.as_fd(), facts, table)
                .map_err(|e| failed("read the connections of", &e))?;
            connections.insert(entry.inode, connection);
        }
        (self.connections, self.lock) = (connections, Some(lock));
        Ok(())
    }

    /// Adds the other ends of connections within; those of which one end is half closed go.
    fn with_their_peers<'a>(&'a self, kept: &mut Vec<(&'a Entry, Option<TableName>)>) {
        let peer = |e: &Entry| match self.known.link(e.inode) {
            Link::Peer(peer) => Some(peer),
            _ => None,
        };
        kept.retain(|(e, _)| peer(e).is_none_or(|peer| self.known.is_established(peer)));
        let peers: Vec<u64> = kept.iter().filter_map(|(e, _)| peer(e)).collect();
        for entry in self.entries.iter().filter(|e| peers.contains(&e.inode)) {
            if !kept.iter().any(|(known, _)| known.inode == entry.inode) {
                kept.push((entry, None));
            }
        }
    }

    /// Reads all queues; sockets found in flight are taken in, and read as well.
    pub fn read_queues(&mut self, resolve: &mut Resolve<'_>) -> Result<()> {
        let mut next = 0;
        while let Some(entry) = self.entries.get(next) {
            let Some(facts) = self.known.0.get(&entry.inode).cloned() else { break };
            if facts.has_queue() {
                let found = queue::read(entry.fd.as_fd(), &facts)
                    .map_err(|e| failed("look into the queues of", &e))?;
                let mut messages = Vec::with_capacity(found.len());
                for peeked in found {
                    let mut files = Vec::with_capacity(peeked.files.len());
                    for fd in peeked.files {
                        files.push(resolve(self, fd)?);
                    }
                    let from = if peeked.from.len() > 2 { peeked.from } else { Vec::new() };
                    messages.push(Message { data: peeked.data.into(), files, from: from.into() });
                }
                self.entries[next].queue = messages;
            }
            next += 1;
        }
        Ok(())
    }

    /// The model's sockets.
    pub fn finish(self, places: &Places, external: ExternalSockets) -> Result<Gathered> {
        let mut out = Gathered::default();
        let mut refusals = Vec::new();
        let mut usual = options::Usual::default();
        let all: Vec<(Link, u64)> = self.entries.iter().map(|e| (self.link(e), e.inode)).collect();
        for (entry, (link, _)) in self.entries.iter().zip(&all) {
            let Some(facts) = self.known.0.get(&entry.inode) else { continue };
            let link = match self.model_link(places, entry, facts, link, external) {
                Ok(link) => link,
                Err((reason, remedy)) => {
                    let object = format!("socket:[{}]", entry.inode);
                    refusals.push(Refusal::new(object, reason, remedy));
                    continue;
                }
            };
            let is_peer = matches!(link, SocketLink::Peer { .. });
            let deadline = Instant::now() + ACKNOWLEDGED;
            if facts.is_tcp() && is_peer && !acknowledged(entry.fd.as_fd(), deadline) {
                refusals.push(Refusal::new(
                    format!("socket:[{}]", entry.inode),
                    "has sent data for which the other end has no room",
                    "try as root where the kernel has nf_tables, or let the program read it",
                ));
                continue;
            }
            if facts.is_tcp() && facts.is_listening() && facts.waiting > 0 {
                let (n, at) = (facts.waiting, show(&facts.name));
                out.warnings.push(format!("{n} connections that wait at {at} will be reset"));
            }
            if facts.is_raw() && raw::incoming(entry.fd.as_fd()).is_ok_and(|n| n > 0) {
                let inode = entry.inode;
                out.warnings.push(format!("packets that wait in raw socket {inode} are lost"));
            }
            let file = places.file(facts, entry.inode);
            // Of a closed one neither half goes on; the kernel does not list it.
            let over = facts.is_tcp() && !facts.forsaken;
            let over = over && matches!(link, SocketLink::Gone { .. });
            out.sockets.push(Socket {
                inode: entry.inode,
                family: facts.family,
                kind: facts.kind,
                protocol: facts.protocol,
                name: facts.name.clone().into(),
                file,
                options: options::read(&mut usual, entry.fd.as_fd(), facts),
                link,
                memberships: groups::read(entry.fd.as_fd(), facts),
                shutdown: if over { BOTH } else { facts.unix.shutdown },
                peek_offset: if facts.has_queue() {
                    queue::peek_offset(entry.fd.as_fd())
                } else {
                    -1
                },
                queue: entry.queue.clone(),
            });
        }
        if !refusals.is_empty() {
            return Err(CaptureError::Refused(refusals));
        }
        out.live = self.lock.map(Live::new);
        for (entry, (link, _)) in self.entries.into_iter().zip(all) {
            if let Some(live) = out.live.as_mut() {
                if self.connections.contains_key(&entry.inode) {
                    live.add(entry.fd);
                    continue;
                }
            }
            let tcp = self.known.0.get(&entry.inode).is_some_and(Facts::is_tcp);
            if tcp && matches!(link, Link::Peer(_)) {
                out.quiet.push(entry.fd);
            }
        }
        Ok(out)
    }

    fn link(&self, entry: &Entry) -> Link {
        let link = self.known.link(entry.inode);
        let tcp = self.known.0.get(&entry.inode).is_some_and(Facts::is_tcp);
        if tcp && link == Link::None {
            return closed_connection(entry.fd.as_fd());
        }
        link
    }

    fn model_link(
        &self,
        places: &Places,
        entry: &Entry,
        facts: &Facts,
        link: &Link,
        external: ExternalSockets,
    ) -> std::result::Result<SocketLink, (&'static str, &'static str)> {
        if let Some(connection) = self.connections.get(&entry.inode) {
            return Ok(SocketLink::Live { connection: connection.clone() });
        }
        let known = |inode: &u64| self.find(*inode);
        let missing = ("is connected with a socket that cannot be seen", "try as root");
        Ok(match link {
            Link::None => SocketLink::None,
            Link::Gone => gone(places, entry, facts),
            Link::Reset => SocketLink::Reset,
            Link::Begun => SocketLink::Refused,
            Link::Address(address) => SocketLink::Address { address: address.clone().into() },
            Link::Peer(peer) => SocketLink::Peer { socket: known(peer).ok_or(missing)? },
            Link::OneWay(peer) => SocketLink::OneWay { socket: known(peer).ok_or(missing)? },
            Link::Pending(listener) => {
                SocketLink::Pending { listener: known(listener).ok_or(missing)? }
            }
            Link::Listening { backlog, pending } => SocketLink::Listening {
                backlog: *backlog,
                // Those of others are closed with the dump, which the policy allowed.
                pending: pending
                    .iter()
                    .filter_map(
                        |client| if *client == 0 { Some(CLOSED_CLIENT) } else { known(client) },
                    )
                    .collect(),
            },
            Link::Outside(_) => match (external, &facts.peer) {
                (ExternalSockets::Refuse, _) => return Err(missing),
                (ExternalSockets::Close, _) => gone(places, entry, facts),
                (ExternalSockets::Reconnect, Some(name)) if name.len() > 2 => {
                    SocketLink::Address { address: name.clone().into() }
                }
                (ExternalSockets::Reconnect, _) => {
                    return Err((
                        "is connected with a socket outside that has no name to connect to",
                        "use --external-sockets close",
                    ))
                }
            },
        })
    }
}

impl Facts {
    /// What waits in it is carried.
    fn has_queue(&self) -> bool {
        !self.is_listening() && (self.is_unix() || self.is_inet() && !self.is_raw())
    }
}

/// A TCP socket in the closed state: never connected, at its end, or reset.
fn closed_connection(fd: BorrowedFd<'_>) -> Link {
    if has_error(fd) {
        return Link::Reset;
    }
    match raw::peek(fd, 1) {
        Ok(Some(_)) => Link::Gone,
        _ => Link::None,
    }
}

/// A socket whose other end is closed.
fn gone(places: &Places, entry: &Entry, facts: &Facts) -> SocketLink {
    let unread = facts.is_unix() && has_error(entry.fd.as_fd());
    let name = facts.peer.clone().filter(|name| facts.is_unix() && name.len() > 2);
    let name = name.unwrap_or_default();
    let file = places.file_of_other(&name, entry.inode);
    SocketLink::Gone { name: name.into(), file, unread }
}

/// Whether an error waits to be reported, which happens once: nobody may ask for it.
fn has_error(fd: BorrowedFd<'_>) -> bool {
    let mut asked = [PollFd::new(fd, PollFlags::empty())];
    let polled = poll(&mut asked, PollTimeout::ZERO);
    let events = asked[0].revents().unwrap_or(PollFlags::empty());
    polled.is_ok() && events.contains(PollFlags::POLLERR)
}

/// Whether the other end has taken everything; acknowledgements may be delayed.
fn acknowledged(fd: BorrowedFd<'_>, deadline: Instant) -> bool {
    while raw::outgoing(fd).is_ok_and(|n| n > 0) {
        if Instant::now() > deadline {
            return false;
        }
        // No event tells; the kernel's timer acknowledges within 40 ms.
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}
