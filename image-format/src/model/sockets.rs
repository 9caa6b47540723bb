//! Sockets and what waits in them.

use crate::codec::Bytes;
use crate::{record, variant};
use alloc::vec::Vec;

record! {
    /// A socket of any family that can be carried.
    pub struct Socket {
        /// Inode number at the dump, for messages.
        pub inode: u64,
        /// AF_ value.
        pub family: u32,
        /// SOCK_ value.
        pub kind: u32,
        /// IPPROTO_ or NETLINK_ value.
        pub protocol: u32,
        /// Own address as getsockname(2) gives it; empty where it has none.
        pub name: Bytes,
        /// For a Unix socket whose name is a path: its file.
        pub file: Option<SocketFile>,
        /// Options that differ from those of a new socket, in the order in which to set them.
        pub options: Vec<SocketOption>,
        /// What it is connected with.
        pub link: SocketLink,
        /// Halves that are shut down: 1 receives no more, 2 sends no more.
        pub shutdown: u32,
        /// SO_PEEK_OFF; -1 is none.
        pub peek_offset: i32,
        /// What waits to be received, in order.
        pub queue: Vec<Message>,
    }
}

record! {
    /// The file of a Unix socket that is bound to a path.
    pub struct SocketFile {
        /// Where a relative name was resolved from; empty for an absolute one.
        pub directory: Bytes,
        /// The file was removed, or another has taken its place.
        pub unlinked: bool,
        /// Permission bits.
        pub mode: u32,
        /// Owner: user and group.
        pub owner: [u32; 2],
    }
}

record! {
    /// A socket option.
    pub struct SocketOption {
        /// SOL_ value.
        pub level: u32,
        /// Number.
        pub name: u32,
        /// Value, as getsockopt(2) gives it.
        pub value: Bytes,
    }
}

variant! {
    /// What a socket is connected with.
    pub enum SocketLink {
        /// Nothing.
        1 => None,
        /// Another socket of the tree, both ways.
        2 => Peer {
            /// Its index in [`super::Tree::sockets`].
            socket: u32,
        },
        /// A socket that was closed since: what it had sent can still be received.
        3 => Gone,
        /// Nothing: it waits for connections.
        4 => Listening {
            /// Backlog as given to listen(2).
            backlog: u32,
            /// The other ends of connections not yet accepted, the oldest first.
            pending: Vec<u32>,
        },
        /// An address that it sends to, or connects to anew at the resume.
        5 => Address {
            /// The address.
            address: Bytes,
        },
        /// Something outside; the program sees a connection that was reset.
        6 => Reset,
        /// The listening socket that has not accepted it yet.
        7 => Pending {
            /// Its index.
            listener: u32,
        },
        /// Another socket of the tree that is not connected back (datagrams).
        8 => OneWay {
            /// Its index.
            socket: u32,
        },
    }
}

record! {
    /// One message, or a piece of a stream.
    pub struct Message {
        /// The bytes.
        pub data: Bytes,
        /// Descriptors that travel with it: indices in [`super::Tree::files`].
        pub files: Vec<u32>,
        /// The sender's address; empty where it has none or where it is the peer.
        pub from: Bytes,
    }
}
