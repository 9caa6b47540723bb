//! What waits in sockets: sent anew, by whoever had sent it.

use super::super::arch::nr;
use super::super::builder::Arg;
use super::super::ProcessCompiler;
use super::options::is_stream;
use super::{address, name, AF_NETLINK, O_NONBLOCK};
use crate::LinkError;
use image_format::model::{FileObject, Message, Socket, SocketLink};
use image_format::plan::{op, Expect};

/// Neither waiting nor a signal.
pub(super) const QUIETLY: u64 = 0x40 | 0x4000;
const NOSIGNAL: u64 = 0x4000;
/// MSG_OOB, which no datagram socket takes; not flags of unlinkat(2) either.
const NOT_BOUND: u64 = 1;
const SOL_SOCKET: u32 = 1;
const SCM_RIGHTS: u32 = 1;

fn flags_of(needs: Option<u32>, otherwise: u64) -> (Arg, Expect) {
    match needs {
        Some(word) => (Arg::load(word), Expect::Note),
        None => (Arg::value(otherwise), Expect::Success),
    }
}

impl ProcessCompiler<'_> {
    /// Step 4.
    pub(super) fn fill(&mut self) -> Result<(), LinkError> {
        for i in 0..self.tree.sockets.len() as u32 {
            let socket = self.socket_at(i)?;
            let other = match socket.link {
                SocketLink::Peer { socket: j } => Some((self.places.home(j), self.socket_at(j)?)),
                SocketLink::Gone { .. } => {
                    self.make_room_to_send(i)?;
                    Some((self.places.other(i), socket))
                }
                // What came from outside: lost with the connection, or put back already.
                SocketLink::Reset | SocketLink::Refused | SocketLink::Live { .. } => continue,
                _ => None,
            };
            for message in &socket.queue {
                match other {
                    Some((fd, peer))
                        if message.from.0.is_empty()
                            || is_stream(socket)
                            || peer.name == message.from
                            || matches!(socket.link, SocketLink::Gone { .. }) =>
                    {
                        self.send(socket, fd, message, &[], None)?;
                    }
                    _ if socket.name.0.is_empty() || socket.family == AF_NETLINK => {
                        let text = self.b.text(&format!("what waited in {} is lost", name(socket)));
                        self.b.step(
                            op::NOTE,
                            "",
                            0,
                            &[Arg::value(u64::from(text))],
                            Expect::Success,
                        );
                        break;
                    }
                    _ => self.send_to(socket, message)?,
                }
            }
        }
        Ok(())
    }

    /// A datagram from a socket that is not the peer: one of the tree's, or one made for it.
    fn send_to(&mut self, socket: &Socket, message: &Message) -> Result<(), LinkError> {
        let from = &message.from.0;
        let sender = self.tree.sockets.iter().position(|s| {
            !from.is_empty()
                && (s.family, s.kind, s.protocol) == (socket.family, socket.kind, socket.protocol)
                && address::leads_to(&s.name.0, from)
        });
        if let Some(sender) = sender {
            let home = self.places.home(sender as u32);
            return self.send(socket, home, message, &socket.name.0, None);
        }
        let what = format!("sender of what waits in {}", name(socket));
        let temporary = self.helper();
        // It must not wait: what it is given as flags may come from the word below.
        let kind = socket.kind | O_NONBLOCK;
        let args = [socket.family, kind, socket.protocol].map(|n| Arg::value(u64::from(n)));
        let made = self.make(&what, nr::SOCKET, &args);
        self.move_to(Arg::load(made), temporary, &what);
        // A bind(2) that succeeds makes this zero. Until then it is flags with which sending
        // fails, so that nothing arrives from a wrong address, and unlinkat(2) as well.
        let bound = self.b.words(&[NOT_BOUND]);
        let needs = (!from.is_empty()).then_some(bound);
        if !from.is_empty() {
            let at = self.b.data(from);
            let args = [Arg::fd(temporary), Arg::data(at), Arg::value(from.len() as u64)];
            self.b.call(&what, nr::BIND, &args, Expect::Note);
            self.b.keep_result(bound);
        }
        self.send(socket, temporary, message, &socket.name.0, needs)?;
        if let Some(path) = address::path(from) {
            let path = self.b.path(path);
            let here = Arg::value(-100i64 as u64);
            let args = [here, Arg::data(path), Arg::load(bound)];
            self.b.call(&what, nr::UNLINKAT, &args, Expect::Ignore);
        }
        self.must(&what, nr::CLOSE, [u64::from(temporary), 0, 0, 0, 0, 0]);
        Ok(())
    }

    /// Sends a message through `fd`, to the address `to` or to its peer. Where it `needs` an
    /// address, that word of data has the flags.
    fn send(
        &mut self,
        socket: &Socket,
        fd: u32,
        message: &Message,
        to: &[u8],
        needs: Option<u32>,
    ) -> Result<(), LinkError> {
        let what = format!("contents of {}", name(socket));
        let data = self.b.data(&message.data.0);
        let length = message.data.0.len() as u64;
        if message.files.is_empty() && is_stream(socket) {
            self.lose_patience(socket, fd);
            let args = [u64::from(fd), u64::from(data), length, 0, 0, 0];
            self.b.verb(op::WRITE_ALL, &what, args);
            return Ok(());
        }
        let address = if to.is_empty() { Arg::value(0) } else { Arg::data(self.b.data(to)) };
        if message.files.is_empty() {
            let (flags, expect) = flags_of(needs, QUIETLY);
            let (bytes, size) = (Arg::value(length), Arg::value(to.len() as u64));
            let args = [Arg::fd(fd), Arg::data(data), bytes, flags, address, size];
            self.b.call(&what, nr::SENDTO, &args, expect);
            return Ok(());
        }
        let control = self.rights(message)?;
        let control_at = self.b.data(&control);
        let piece = self.b.words(&[0, length]);
        self.address_into(piece, data);
        // struct msghdr: address and length, pieces and their number, control data, flags.
        let header = [0, to.len() as u64, 0, 1, 0, control.len() as u64, 0];
        let header = self.b.words(&header);
        if !to.is_empty() {
            self.address_into(header, address.0 as u32);
        }
        self.address_into(header + 16, piece);
        self.address_into(header + 32, control_at);
        if is_stream(socket) {
            self.lose_patience(socket, fd);
        }
        let (flags, expect) = flags_of(needs, if is_stream(socket) { NOSIGNAL } else { QUIETLY });
        self.b.call(&what, nr::SENDMSG, &[Arg::fd(fd), Arg::data(header), flags], expect);
        Ok(())
    }

    /// Control data with the descriptors of a message.
    fn rights(&self, message: &Message) -> Result<Vec<u8>, LinkError> {
        let mut control = Vec::new();
        let length = 16 + 4 * message.files.len() as u64;
        control.extend_from_slice(&length.to_le_bytes());
        control.extend_from_slice(&SOL_SOCKET.to_le_bytes());
        control.extend_from_slice(&SCM_RIGHTS.to_le_bytes());
        for &file in &message.files {
            let number = if let FileObject::Socket { socket } = self.file_at(file)?.object {
                self.socket_at(socket)?;
                self.places.home(socket)
            } else {
                let what = "a message without its descriptor";
                let found = self.places.flights().find(|(f, _)| *f == file);
                found.ok_or(LinkError::Model { pid: self.process.pid, what })?.1
            };
            control.extend_from_slice(&number.to_le_bytes());
        }
        Ok(control)
    }
}
