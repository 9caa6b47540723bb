//! Making sockets, giving them their addresses, connecting and closing them.

use super::super::arch::nr;
use super::super::builder::Arg;
use super::super::ProcessCompiler;
use super::options::is_v6_only;
use super::{
    address, is_tcp, name, AF_NETLINK, AF_UNIX, F_SETFL, O_NONBLOCK, ROOMY, SOCK_DGRAM, SOCK_STREAM,
};
use crate::LinkError;
use image_format::model::{Socket, SocketFile, SocketLink, CLOSED_CLIENT};
use image_format::plan::{op, Expect};

pub(super) const AT_FDCWD: u64 = -100i64 as u64;
/// A value that unlinkat(2) does not take for flags; a bind(2) that succeeds makes it zero.
pub(super) const NOT_BOUND: u64 = 0xffff_ffff;

impl ProcessCompiler<'_> {
    /// Step 1: the socket alone, or with its other end.
    pub(super) fn create(&mut self, i: u32) -> Result<(), LinkError> {
        let socket = self.socket_at(i)?;
        let (home, other) = (self.places.home(i), self.places.other(i));
        match socket.link {
            SocketLink::Peer { socket: j } => {
                self.socket_at(j)?;
                if self.is_accepted(i)? {
                    return Ok(());
                }
                if self.is_accepted(j)? {
                    self.single(socket, home);
                } else if i < j {
                    self.pair(socket, home, self.places.home(j));
                }
            }
            SocketLink::Gone { .. } if self.is_accepted(i)? => self.single(socket, other),
            SocketLink::Gone { .. } if !is_tcp(socket) && self.visited(i)?.is_none() => {
                self.pair(socket, home, other);
            }
            _ => self.single(socket, home),
        }
        Ok(())
    }

    pub(super) fn single(&mut self, socket: &Socket, home: u32) {
        let what = name(socket);
        let args = [socket.family, socket.kind, socket.protocol].map(|n| Arg::value(u64::from(n)));
        let made = self.make(&what, nr::SOCKET, &args);
        self.move_to(Arg::load(made), home, &what);
    }

    pub(super) fn pair(&mut self, socket: &Socket, one: u32, two: u32) {
        let what = name(socket);
        let both = self.b.words(&[0]);
        let mut args = [socket.family, socket.kind, socket.protocol]
            .map(|n| Arg::value(u64::from(n)))
            .to_vec();
        args.push(Arg::data(both));
        self.b.call(&what, nr::SOCKETPAIR, &args, Expect::Success);
        self.move_to(Arg::load(both), one, &what);
        self.move_to(Arg::load(both + 4), two, &what);
    }

    /// Step 2: own address, and listening.
    pub(super) fn bind(&mut self, i: u32) -> Result<(), LinkError> {
        let socket = self.socket_at(i)?;
        let home = self.places.home(i);
        // A connection that is over holds no port, and need not be from this machine.
        let later = match socket.link {
            SocketLink::Reset | SocketLink::Refused | SocketLink::Live { .. } => true,
            SocketLink::Gone { .. } => is_tcp(socket),
            _ => false,
        };
        if !socket.name.0.is_empty() && !later {
            match socket.family {
                AF_UNIX => self.bind_unix(i, socket, home),
                AF_NETLINK => self.bind_netlink(socket, home),
                _ => self.bind_inet(socket, home),
            }
        }
        if let SocketLink::Listening { backlog, pending } = &socket.link {
            let backlog = if pending.is_empty() { u64::from(*backlog) } else { ROOMY };
            self.must(&name(socket), nr::LISTEN, [u64::from(home), backlog, 0, 0, 0, 0]);
        }
        Ok(())
    }

    fn bind_unix(&mut self, i: u32, socket: &Socket, home: u32) {
        let what = name(socket);
        let connected = socket.kind != SOCK_DGRAM
            && matches!(socket.link, SocketLink::Peer { .. } | SocketLink::Gone { .. });
        let at = self.b.data(&socket.name.0);
        let args = [Arg::fd(home), Arg::data(at), Arg::value(socket.name.0.len() as u64)];
        let Some(file) = &socket.file else {
            // An abstract name; nobody can reach a connected socket by it.
            let expect = if connected { Expect::Note } else { Expect::Success };
            self.b.call(&what, nr::BIND, &args, expect);
            return;
        };
        self.enter_directory(Some(file), &what);
        if file.unlinked {
            let expect = if connected { Expect::Note } else { Expect::Success };
            let bound = self.b.words(&[NOT_BOUND]);
            self.b.call(&what, nr::BIND, &args, expect);
            self.b.keep_result(bound);
            self.unlink.insert(i, bound);
            return;
        }
        let path = self.make_room(socket.kind, &socket.name.0, &what, Expect::Success);
        self.b.call(&what, nr::BIND, &args, Expect::Success);
        self.mode_and_owner(path, file, &what);
    }

    /// What a relative name of a Unix socket is looked up from.
    pub(super) fn enter_directory(&mut self, file: Option<&SocketFile>, what: &str) {
        if let Some(file) = file.filter(|file| !file.directory.0.is_empty()) {
            let directory = self.b.path(&file.directory.0);
            self.b.call(what, nr::CHDIR, &[Arg::data(directory)], Expect::Note);
        }
    }

    /// Removes a socket file of which nobody has the socket; gives the path.
    pub(super) fn make_room(&mut self, kind: u32, name: &[u8], what: &str, expect: Expect) -> u32 {
        let at = self.b.data(name);
        let other = if kind == SOCK_DGRAM { SOCK_STREAM } else { SOCK_DGRAM };
        let kind = [AF_UNIX, other | O_NONBLOCK, 0].map(|n| Arg::value(u64::from(n)));
        let probe = Arg::load(self.make(what, nr::SOCKET, &kind));
        let path = self.b.path(address::path(name).unwrap_or_default());
        let length = Arg::value(name.len() as u64);
        let place = [Arg::data(at), length, probe, Arg::value(u64::from(path))];
        self.b.step(op::SOCKET_PATH, what, 0, &place, expect);
        self.b.call(what, nr::CLOSE, &[probe], Expect::Success);
        path
    }

    pub(super) fn mode_and_owner(&mut self, path: u32, file: &SocketFile, what: &str) {
        let args = [Arg::data(path), Arg::value(u64::from(file.mode))];
        self.b.call(&format!("mode of {what}"), nr::CHMOD, &args, Expect::Note);
        let ids = &self.process.credentials;
        // The program's own user has it already, unless root resumes, who may give it away.
        let own = file.owner == [ids.uids[1], ids.gids[1]];
        if own && file.owner == [0, 0] {
            return;
        }
        let owner = file.owner.map(|id| Arg::value(u64::from(id)));
        let args = [Arg::data(path), owner[0], owner[1]];
        let expect = if own { Expect::Ignore } else { Expect::Note };
        self.b.call(&format!("owner of {what}"), nr::LCHOWN, &args, expect);
    }

    fn bind_netlink(&mut self, socket: &Socket, home: u32) {
        // Its number may be taken, and then any other will do.
        let mut any = socket.name.0.clone();
        if let Some(number) = any.get_mut(4..8) {
            number.fill(0);
        }
        for address in [&socket.name.0, &any] {
            let at = self.b.data(address);
            let args = [Arg::fd(home), Arg::data(at), Arg::value(address.len() as u64)];
            self.b.call(&name(socket), nr::BIND, &args, Expect::Ignore);
        }
    }

    fn bind_inet(&mut self, socket: &Socket, home: u32) {
        // The kernel chose the address for the one that it sends to.
        let chosen = matches!(socket.link, SocketLink::Address { .. });
        let expect = if chosen { Expect::Note } else { Expect::Success };
        if matches!(socket.link, SocketLink::Peer { .. }) {
            self.reuse_address(socket, home);
        }
        let at = self.b.data(&socket.name.0);
        let args = [Arg::fd(home), Arg::data(at), Arg::value(socket.name.0.len() as u64)];
        self.b.call(&name(socket), nr::BIND, &args, expect);
    }

    /// Step 3: connections that are complete.
    pub(super) fn connections(&mut self) -> Result<(), LinkError> {
        for i in 0..self.tree.sockets.len() as u32 {
            let socket = self.socket_at(i)?;
            match socket.link {
                _ if self.is_accepted(i)? => self.accepted(i)?,
                SocketLink::Reset => self.over_loopback(i, true)?,
                SocketLink::Refused => self.refused(i)?,
                SocketLink::Gone { .. } if is_tcp(socket) => self.over_loopback(i, false)?,
                SocketLink::Live { .. } => self.repair(i)?,
                SocketLink::Gone { .. } => {
                    if let Some(listener) = self.visited(i)? {
                        self.visit(i, listener)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn connect(&mut self, fd: u32, address: &[u8], what: &str, expect: Expect) {
        let at = self.b.data(address);
        let args = [Arg::fd(fd), Arg::data(at), Arg::value(address.len() as u64)];
        self.b.call(what, nr::CONNECT, &args, expect);
    }

    pub(super) fn accept(&mut self, listening: Arg, to: u32, what: &str) {
        let args = [listening, Arg::value(0), Arg::value(0), Arg::value(0)];
        let made = self.make(what, nr::ACCEPT4, &args);
        self.move_to(Arg::load(made), to, what);
    }

    /// A connection whose other end is ours: reset at once, or closed when all was sent.
    fn over_loopback(&mut self, i: u32, reset: bool) -> Result<(), LinkError> {
        const SOL_SOCKET: u64 = 1;
        const SO_LINGER: u64 = 13;
        let socket = self.socket_at(i)?;
        let what = name(socket);
        let (temporary, to) = self.at_loopback(socket, true);
        let [at, bytes] = to;
        self.b.call(
            &what,
            nr::CONNECT,
            &[Arg::fd(self.places.home(i)), at, bytes],
            Expect::Success,
        );
        let other = self.places.other(i);
        self.accept(Arg::fd(temporary), other, &what);
        self.must(&what, nr::CLOSE, [u64::from(temporary), 0, 0, 0, 0, 0]);
        if reset {
            let at = self.b.words(&[1]);
            let numbers = [SOL_SOCKET, SO_LINGER].map(Arg::value);
            let args = [Arg::fd(other), numbers[0], numbers[1], Arg::data(at), Arg::value(8)];
            self.b.call(&what, nr::SETSOCKOPT, &args, Expect::Success);
            self.must(&what, nr::CLOSE, [u64::from(other), 0, 0, 0, 0, 0]);
        }
        Ok(())
    }

    /// A connection to where nobody listens, made without waiting: then the answer finds a call in
    /// progress, and whoever waits for that to end, or repeats it, is told (inet_stream_connect).
    fn refused(&mut self, i: u32) -> Result<(), LinkError> {
        let socket = self.socket_at(i)?;
        let what = name(socket);
        let home = u64::from(self.places.home(i));
        let (temporary, [at, bytes]) = self.at_loopback(socket, false);
        self.must(&what, nr::FCNTL, [home, F_SETFL, u64::from(O_NONBLOCK), 0, 0, 0]);
        self.b.call(&what, nr::CONNECT, &[Arg::value(home), at, bytes], Expect::Ignore);
        self.must(&what, nr::FCNTL, [home, F_SETFL, 0, 0, 0, 0]);
        self.must(&what, nr::CLOSE, [u64::from(temporary), 0, 0, 0, 0, 0]);
        Ok(())
    }

    /// A helper of the same sort, bound to the loopback address; gives its number, and its address.
    fn at_loopback(&mut self, socket: &Socket, listens: bool) -> (u32, [Arg; 2]) {
        let what = name(socket);
        let temporary = self.helper();
        self.single(socket, temporary);
        let place = address::loopback(socket.family, is_v6_only(socket));
        if is_v6_only(socket) {
            self.v6_only(socket, temporary);
        }
        let at = self.b.data(&place);
        let length = self.b.words(&[place.len() as u64]);
        let bytes = Arg::value(place.len() as u64);
        let args = [Arg::fd(temporary), Arg::data(at), bytes];
        self.b.call(&what, nr::BIND, &args, Expect::Success);
        if listens {
            self.must(&what, nr::LISTEN, [u64::from(temporary), 1, 0, 0, 0, 0]);
        }
        let args = [Arg::fd(temporary), Arg::data(at), Arg::data(length)];
        self.b.call(&what, nr::GETSOCKNAME, &args, Expect::Success);
        (temporary, [Arg::data(at), bytes])
    }

    /// Step 5: connections that wait to be accepted, and those that go one way.
    pub(super) fn late_connections(&mut self) -> Result<(), LinkError> {
        for i in 0..self.tree.sockets.len() as u32 {
            let socket = self.socket_at(i)?;
            let home = self.places.home(i);
            let what = name(socket);
            match &socket.link {
                SocketLink::Listening { backlog, pending } if !pending.is_empty() => {
                    self.enter_directory(socket.file.as_ref(), &what);
                    for &client in pending {
                        if client == CLOSED_CLIENT {
                            let passing = self.helper();
                            self.single(socket, passing);
                            self.connect(passing, &socket.name.0, &what, Expect::Success);
                            self.must(&what, nr::CLOSE, [u64::from(passing), 0, 0, 0, 0, 0]);
                            continue;
                        }
                        self.socket_at(client)?;
                        let from = self.places.home(client);
                        self.connect(from, &socket.name.0, &what, Expect::Success);
                    }
                    let args = [u64::from(home), u64::from(*backlog), 0, 0, 0, 0];
                    self.must(&what, nr::LISTEN, args);
                }
                SocketLink::OneWay { socket: to } => {
                    let to = self.socket_at(*to)?;
                    let expect = if to.name.0.is_empty() { Expect::Note } else { Expect::Success };
                    self.enter_directory(to.file.as_ref(), &what);
                    self.connect(home, &to.name.0, &what, expect);
                }
                SocketLink::Address { address } => {
                    let expect =
                        if socket.family == AF_UNIX { Expect::Success } else { Expect::Note };
                    let what = format!("{what}, connected with {}", address::show(&address.0));
                    self.connect(home, &address.0, &what, expect);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Step 6: closes the other end of what has none, and shuts halves down.
    pub(super) fn end_of_other(&mut self, i: u32) -> Result<(), LinkError> {
        let socket = self.socket_at(i)?;
        let what = name(socket);
        let gone = matches!(socket.link, SocketLink::Gone { .. });
        if gone {
            self.leave_unread(i)?;
            let other = u64::from(self.places.other(i));
            self.patient.remove(&self.places.other(i));
            self.must(&what, nr::CLOSE, [other, 0, 0, 0, 0, 0]);
        }
        let how = match socket.shutdown {
            _ if matches!(socket.link, SocketLink::Reset | SocketLink::Refused) => return Ok(()),
            _ if gone && !is_tcp(socket) && socket.kind != SOCK_DGRAM => return Ok(()),
            bits @ 1..=3 => u64::from(bits) - 1,
            _ => return Ok(()),
        };
        let args = [u64::from(self.places.home(i)), how, 0, 0, 0, 0];
        self.b.syscall(&what, nr::SHUTDOWN, args, Expect::Note);
        Ok(())
    }

    /// Removes a name that was removed at the dump, if it is ours.
    pub(super) fn remove_name(&mut self, i: u32) -> Result<(), LinkError> {
        let Some(bound) = self.unlink.remove(&i) else { return Ok(()) };
        let socket = self.socket_at(i)?;
        let path = self.b.path(address::path(&socket.name.0).unwrap_or_default());
        let args = [Arg::value(AT_FDCWD), Arg::data(path), Arg::load(bound)];
        self.b.call(&name(socket), nr::UNLINKAT, &args, Expect::Ignore);
        Ok(())
    }
}
