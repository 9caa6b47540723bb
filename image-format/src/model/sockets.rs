//! Sockets and what waits in them.

use crate::codec::Bytes;
use crate::{record, variant};
use alloc::vec::Vec;

/// In place of the index of a socket that waited to be accepted when it was closed.
pub const CLOSED_CLIENT: u32 = u32::MAX;

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
        /// Multicast groups that it is a member of.
        pub memberships: Vec<Membership>,
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

record! {
    /// A membership of a multicast group.
    pub struct Membership {
        /// Name of the interface.
        pub interface: Bytes,
        /// IPPROTO_IP or IPPROTO_IPV6.
        pub level: u32,
        /// struct group_filter: group, mode, sources; its first word stands for the interface.
        pub filter: Bytes,
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
        3 => Gone {
            /// The address that it had; empty where it had none.
            name: Bytes,
            /// For an address that is a path: its file.
            file: Option<SocketFile>,
            /// Whether it had not read all: reading on ends with an error before the end.
            unread: bool,
        },
        /// Nothing: it waits for connections.
        4 => Listening {
            /// Backlog as given to listen(2).
            backlog: u32,
            /// The other ends of connections not yet accepted, the oldest first; [`CLOSED_CLIENT`] for
            /// one that was closed and had sent nothing.
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
        /// A TCP connection put together without its other end: something outside, or a socket of
        /// the tree that had no room for what it was sent.
        9 => Live {
            /// Its state.
            connection: Connection,
        },
        /// A TCP connection that was being made; the program sees that it was refused.
        10 => Refused,
    }
}

record! {
    /// A TCP connection as TCP_REPAIR tells and takes it (tcp(7), linux/tcp.h).
    pub struct Connection {
        /// Address of the other end.
        pub peer: Bytes,
        /// Name of the nftables table that holds its packets back until the resume; empty where
        /// both ends are in the tree.
        pub table: Bytes,
        /// Sequence number of the first byte of `sent`.
        pub send_seq: u32,
        /// Sequence number of the first byte that waits to be received.
        pub receive_seq: u32,
        /// Largest segment that the other end takes.
        pub mss: u32,
        /// TCPI_OPT_ bits: what both ends agreed on.
        pub agreed: u32,
        /// Window scales: of what is sent, of what is received.
        pub scales: [u32; 2],
        /// Clock of its timestamps.
        pub timestamp: u32,
        /// struct tcp_repair_window: snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup.
        pub window: [u32; 5],
        /// Sent and not acknowledged.
        pub sent: Bytes,
        /// Not sent yet.
        pub unsent: Bytes,
        /// Sizes of the buffers (SO_SNDBUF, SO_RCVBUF), which the kernel adjusts as it goes.
        pub buffers: [u32; 2],
        /// Which of them the program has set (SO_BUF_LOCK).
        pub locked: u32,
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
