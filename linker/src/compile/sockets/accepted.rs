//! Sockets that come out of accept(2): which they are, and how they come back with their names.

use super::super::arch::nr;
use super::super::builder::Arg;
use super::super::ProcessCompiler;
use super::connect::{AT_FDCWD, NOT_BOUND};
use super::options::is_v6_only;
use super::{address, is_tcp, name, AF_UNIX, ROOMY, SOCK_DGRAM};
use crate::LinkError;
use image_format::codec::Bytes;
use image_format::model::{Socket, SocketFile, SocketLink};
use image_format::plan::Expect;

impl ProcessCompiler<'_> {
    /// A socket that comes out of accept(2).
    pub(super) fn is_accepted(&self, i: u32) -> Result<bool, LinkError> {
        Ok(self.server(i)?.is_some_and(|(server, _)| server == i))
    }

    /// Which end of the connection that `i` is an end of was accepted, and from which listening
    /// socket of the tree; none if it is a pair.
    fn server(&self, i: u32) -> Result<Option<(u32, Option<u32>)>, LinkError> {
        let socket = self.socket_at(i)?;
        let ends = match socket.link {
            SocketLink::Peer { socket: j } => vec![i.max(j), i.min(j)],
            SocketLink::Gone { .. } if !is_tcp(socket) => vec![i],
            _ => return Ok(None),
        };
        for &server in &ends {
            let accepted = self.socket_at(server)?;
            if let Some(listener) = self.listener(accepted, &accepted.name, accepted.file.as_ref())
            {
                return Ok(Some((server, Some(listener))));
            }
        }
        if is_tcp(socket) {
            return Ok(ends.first().map(|&server| (server, None)));
        }
        for server in ends {
            // A Unix socket connects to a name, which the accepted one gets from the listening one
            // without holding it: several have it, and the program may bind another to it.
            let accepted = self.socket_at(server)?;
            if accepted.family == AF_UNIX
                && accepted.kind != SOCK_DGRAM
                && !accepted.name.0.is_empty()
                && (self.has_nameless_peer(accepted)? || self.is_name_shared(server)?)
            {
                return Ok(Some((server, None)));
            }
        }
        Ok(None)
    }

    /// The listening socket of the tree that leads to the `name` of one like `socket`; at the same
    /// `file` before others, since relative names may be equal.
    fn listener(&self, socket: &Socket, name: &Bytes, file: Option<&SocketFile>) -> Option<u32> {
        if name.0.is_empty() {
            return None;
        }
        let listeners = self.tree.sockets.iter().enumerate().filter(|(_, l)| {
            matches!(l.link, SocketLink::Listening { .. })
                && (l.kind, l.protocol) == (socket.kind, socket.protocol)
                && address::leads_to(&l.name.0, &name.0)
        });
        let elsewhere = |l: &Socket| match (&l.file, file) {
            (Some(l), Some(file)) => l.directory != file.directory,
            _ => false,
        };
        listeners.min_by_key(|(_, l)| elsewhere(l)).map(|(listener, _)| listener as u32)
    }

    /// The listening socket that had accepted the closed other end of `i`.
    pub(super) fn visited(&self, i: u32) -> Result<Option<u32>, LinkError> {
        let socket = self.socket_at(i)?;
        Ok(match &socket.link {
            SocketLink::Gone { name, file, .. } if !self.is_accepted(i)? => {
                self.listener(socket, name, file.as_ref())
            }
            _ => None,
        })
    }

    /// Connects `i` through `listener`; the other end is to be closed.
    pub(super) fn visit(&mut self, i: u32, listener: u32) -> Result<(), LinkError> {
        let socket = self.socket_at(i)?;
        let through = self.socket_at(listener)?;
        let what = name(socket);
        self.enter_directory(through.file.as_ref(), &what);
        self.connect(self.places.home(i), &through.name.0, &what, Expect::Success);
        self.accept(Arg::fd(self.places.home(listener)), self.places.other(i), &what);
        Ok(())
    }

    fn has_nameless_peer(&self, socket: &Socket) -> Result<bool, LinkError> {
        Ok(match &socket.link {
            SocketLink::Peer { socket: j } => self.socket_at(*j)?.name.0.is_empty(),
            SocketLink::Gone { name, .. } => name.0.is_empty(),
            _ => false,
        })
    }

    fn is_name_shared(&self, i: u32) -> Result<bool, LinkError> {
        let socket = self.socket_at(i)?;
        let others = self.tree.sockets.iter().enumerate().filter(|(k, _)| *k != i as usize);
        Ok(others.into_iter().any(|(_, other)| {
            matches!(other.link, SocketLink::Peer { .. } | SocketLink::Gone { .. })
                && is_same_place(socket, other)
        }))
    }

    /// Connects the other end of `server` and accepts it.
    pub(super) fn accepted(&mut self, server: u32) -> Result<(), LinkError> {
        let socket = self.socket_at(server)?;
        let what = name(socket);
        let through = self.server(server)?.and_then(|(_, listener)| listener);
        if through.is_none() && !is_tcp(socket) {
            return self.accepted_by_nobody(server);
        }
        let (client, family) = self.client(server)?;
        let listening = if let Some(listener) = through {
            self.enter_directory(self.socket_at(listener)?.file.as_ref(), &what);
            self.places.home(listener)
        } else {
            self.helping_listener(socket, &what)
        };
        let address = address::for_family(&socket.name.0, family);
        self.connect(client, &address, &what, Expect::Success);
        self.accept(Arg::fd(listening), self.places.home(server), &what);
        if let Some(listener) = through {
            self.options_not_inherited(server, listener)?;
        } else {
            self.reused.insert(self.places.home(server));
            self.must(&what, nr::CLOSE, [u64::from(listening), 0, 0, 0, 0, 0]);
        }
        self.early_options(server)
    }

    /// Number and family of the socket that connects to `server`.
    fn client(&self, server: u32) -> Result<(u32, u32), LinkError> {
        let socket = self.socket_at(server)?;
        Ok(match socket.link {
            SocketLink::Peer { socket: j } => (self.places.home(j), self.socket_at(j)?.family),
            _ => (self.places.other(server), socket.family),
        })
    }

    /// A listening socket at the address of an accepted one whose own is closed.
    fn helping_listener(&mut self, socket: &Socket, what: &str) -> u32 {
        let temporary = self.helper();
        self.single(socket, temporary);
        self.reuse_address(socket, temporary);
        self.reused.remove(&temporary);
        if is_v6_only(socket) {
            self.v6_only(socket, temporary);
        }
        let at = self.b.data(&socket.name.0);
        let length = Arg::value(socket.name.0.len() as u64);
        let args = [Arg::fd(temporary), Arg::data(at), length];
        self.b.call(what, nr::BIND, &args, Expect::Success);
        self.must(what, nr::LISTEN, [u64::from(temporary), 1, 0, 0, 0, 0]);
        temporary
    }

    /// Unix sockets with the name of `first` whose listening socket is closed: one that helps takes
    /// its place. Where the name cannot be had they are pairs without it, by which nobody could
    /// have reached them.
    fn accepted_by_nobody(&mut self, first: u32) -> Result<(), LinkError> {
        let socket = self.socket_at(first)?;
        let mut members = Vec::new();
        for i in 0..self.tree.sockets.len() as u32 {
            if is_same_place(socket, self.socket_at(i)?) && self.server(i)? == Some((i, None)) {
                members.push(i);
            }
        }
        if members.first() != Some(&first) {
            return Ok(());
        }
        let what = name(socket);
        let own_name = &socket.name.0;
        let listening = self.helper();
        self.single(socket, listening);
        self.enter_directory(socket.file.as_ref(), &what);
        let path = self.b.path(address::path(own_name).unwrap_or_default());
        let file = socket.file.as_ref().filter(|file| !file.unlinked);
        if file.is_some() {
            self.make_room(socket.kind, own_name, &what, Expect::Ignore);
        }
        let bound = self.b.words(&[NOT_BOUND]);
        let at = self.b.data(own_name);
        let args = [Arg::fd(listening), Arg::data(at), Arg::value(own_name.len() as u64)];
        self.b.call(&what, nr::BIND, &args, Expect::Note);
        self.b.keep_result(bound);
        let not_bound = self.b.skip_unless_equal(Arg::load(bound), Arg::value(0));
        self.must(&what, nr::LISTEN, [u64::from(listening), ROOMY, 0, 0, 0, 0]);
        for &server in &members {
            let (client, _) = self.client(server)?;
            self.connect(client, own_name, &what, Expect::Success);
            self.accept(Arg::fd(listening), self.places.home(server), &what);
        }
        if let Some(file) = file {
            self.mode_and_owner(path, file, &what);
        } else if socket.file.is_some() {
            let args = [Arg::value(AT_FDCWD), Arg::data(path), Arg::value(0)];
            self.b.call(&what, nr::UNLINKAT, &args, Expect::Ignore);
        }
        let done = self.b.skip_always();
        self.b.land([not_bound]);
        for &server in &members {
            let (client, _) = self.client(server)?;
            let socket = self.socket_at(server)?;
            self.pair(socket, client, self.places.home(server));
            if let SocketLink::Peer { socket: j } = socket.link {
                self.early_options(j)?;
            }
        }
        self.b.land([done]);
        for &server in &members {
            self.early_options(server)?;
        }
        self.must(&what, nr::CLOSE, [u64::from(listening), 0, 0, 0, 0, 0]);
        Ok(())
    }
}

/// Whether two sockets got their names by the same bind(2), or could have.
pub(super) fn is_same_place(a: &Socket, b: &Socket) -> bool {
    let key = |s: &Socket| (s.family, s.kind, s.protocol);
    let file = |s: &Socket| s.file.as_ref().map(|f| (f.directory.clone(), f.unlinked));
    key(a) == key(b) && a.name == b.name && file(a) == file(b)
}
