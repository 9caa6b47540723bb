//! The other ends of sockets whose other end is closed: they are made, named, send what waits and
//! are closed again.

use super::super::arch::nr;
use super::super::builder::Arg;
use super::super::ProcessCompiler;
use super::connect::{AT_FDCWD, NOT_BOUND};
use super::messages::QUIETLY;
use super::{address, is_tcp, name, SOCK_DGRAM};
use crate::LinkError;
use image_format::codec::Bytes;
use image_format::model::{Socket, SocketFile, SocketLink};
use image_format::plan::Expect;

const SOL_SOCKET: u32 = 1;
const SO_SNDBUF: u32 = 7;
const SO_SNDBUFFORCE: u32 = 32;
/// What fits into the buffer that a Unix socket begins with, whatever pieces it comes in.
const FITS: usize = 64 << 10;

impl ProcessCompiler<'_> {
    /// Gives them their addresses, as far as these can be had. Those that are a path are unbound
    /// again at once, so that others can be bound to it, and come before all others; abstract
    /// ones go to the living first.
    pub(super) fn name_others(&mut self, paths: bool) -> Result<(), LinkError> {
        for i in 0..self.tree.sockets.len() as u32 {
            let socket = self.socket_at(i)?;
            let SocketLink::Gone { name: address, file, .. } = &socket.link else { continue };
            if address.0.is_empty() || file.is_some() != paths || self.visited(i)?.is_some() {
                continue;
            }
            let what = format!("other end of {}", name(socket));
            let other = self.places.other(i);
            let at = self.b.data(&address.0);
            let bind = [Arg::fd(other), Arg::data(at), Arg::value(address.0.len() as u64)];
            if let Some(file) = file {
                let stays = !file.unlinked && self.is_last_at(i, address);
                self.name_by_path(&bind, socket.kind, address, file, stays, &what);
            } else {
                self.b.call(&what, nr::BIND, &bind, Expect::Ignore);
            }
        }
        Ok(())
    }

    fn name_by_path(
        &mut self,
        bind: &[Arg],
        kind: u32,
        address: &Bytes,
        file: &SocketFile,
        stays: bool,
        what: &str,
    ) {
        self.enter_directory(Some(file), what);
        let path = self.b.path(address::path(&address.0).unwrap_or_default());
        // A file that nobody has open is replaced; where there is none, none is left behind.
        let was_there = self.b.words(&[NOT_BOUND]);
        if stays {
            let args = [Arg::value(AT_FDCWD), Arg::data(path), Arg::value(0)];
            self.b.call(what, nr::FACCESSAT, &args, Expect::Ignore);
            self.b.keep_result(was_there);
            self.make_room(kind, &address.0, what, Expect::Ignore);
        }
        let bound = self.b.words(&[NOT_BOUND]);
        self.b.call(what, nr::BIND, bind, Expect::Ignore);
        self.b.keep_result(bound);
        let stays = self.b.skip_if_equal(Arg::load(was_there), Arg::value(0));
        let args = [Arg::value(AT_FDCWD), Arg::data(path), Arg::load(bound)];
        self.b.call(what, nr::UNLINKAT, &args, Expect::Ignore);
        self.b.land([stays]);
    }

    /// Whether no other socket of the tree is going to be at this path.
    fn is_last_at(&self, i: u32, address: &Bytes) -> bool {
        let living =
            |s: &Socket| s.name == *address && s.file.as_ref().is_some_and(|f| !f.unlinked);
        let later = self.tree.sockets.iter().skip(i as usize + 1);
        let gone = |s: &Socket| matches!(&s.link, SocketLink::Gone { name, .. } if name == address);
        !self.tree.sockets.iter().any(living) && !later.into_iter().any(gone)
    }

    /// Lets a closed end send all that waits in `i`, which it was allowed to.
    pub(super) fn make_room_to_send(&mut self, i: u32) -> Result<(), LinkError> {
        let socket = self.socket_at(i)?;
        let total: usize = socket.queue.iter().map(|m| m.data.0.len()).sum();
        if is_tcp(socket) || total <= FITS {
            return Ok(());
        }
        let other = self.places.other(i);
        for option in [SO_SNDBUF, SO_SNDBUFFORCE] {
            // The kernel doubles it.
            let size = (total as u32).to_le_bytes();
            self.set(socket, other, SOL_SOCKET, option, &size, Expect::Ignore);
        }
        Ok(())
    }

    /// What the other end of `i` had not read when it was closed, if anything: the kernel then tells
    /// this end of an error.
    pub(super) fn leave_unread(&mut self, i: u32) -> Result<(), LinkError> {
        let socket = self.socket_at(i)?;
        if let SocketLink::Gone { unread: true, .. } = socket.link {
            if socket.kind != SOCK_DGRAM && !is_tcp(socket) {
                let byte = self.b.data(&[0]);
                let (home, one, none) = (self.places.home(i), Arg::value(1), Arg::value(0));
                let args = [Arg::fd(home), Arg::data(byte), one, Arg::value(QUIETLY), none, none];
                self.b.call(&name(socket), nr::SENDTO, &args, Expect::Note);
            }
        }
        Ok(())
    }
}
