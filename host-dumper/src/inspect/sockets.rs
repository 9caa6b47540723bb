//! Sockets in words.

use image_format::model::{Connection, Socket, SocketLink, Tree};
use linker::address_text as address;

/// A socket of the tree, on one line.
pub fn line(tree: &Tree, index: u32) -> String {
    let Some(socket) = tree.sockets.get(index as usize) else {
        return String::from("socket (missing)");
    };
    let mut text = vec![format!("{} {index}", sort(socket))];
    if !socket.name.0.is_empty() {
        text.push(format!("at {}", address(&socket.name.0)));
    }
    text.push(match &socket.link {
        SocketLink::None => String::new(),
        SocketLink::Peer { socket } => format!("connected with socket {socket}"),
        SocketLink::Gone { name, .. } if name.0.is_empty() => "its other end is closed".into(),
        SocketLink::Gone { name, .. } => format!("its other end, {}, is closed", address(&name.0)),
        SocketLink::Listening { backlog, pending } if pending.is_empty() => {
            format!("listens (backlog {backlog})")
        }
        SocketLink::Listening { backlog, pending } => {
            format!("listens (backlog {backlog}, {} waiting)", pending.len())
        }
        SocketLink::Address { address: to } => format!("connected with {}", address(&to.0)),
        SocketLink::Reset => String::from("comes back as a connection that was reset"),
        SocketLink::Refused => String::from("comes back as a connection that was refused"),
        SocketLink::Live { connection: c } => {
            format!("lives on with {}, {}", address(&c.peer.0), to_send(c))
        }
        SocketLink::Pending { listener } => format!("waits for socket {listener} to accept it"),
        SocketLink::OneWay { socket } => format!("sends to socket {socket}"),
    });
    if !socket.queue.is_empty() {
        let bytes: usize = socket.queue.iter().map(|m| m.data.0.len()).sum();
        let files: usize = socket.queue.iter().map(|m| m.files.len()).sum();
        text.push(match files {
            0 => format!("{bytes} bytes waiting"),
            _ => format!("{bytes} bytes waiting with {files} descriptors"),
        });
    }
    text.push(String::from(match socket.shutdown & 3 {
        1 => "receives no more",
        2 => "sends no more",
        3 if !matches!(socket.link, SocketLink::Gone { .. }) => "shut down",
        _ => "",
    }));
    text.retain(|part| !part.is_empty());
    text.join(", ")
}

fn to_send(c: &Connection) -> String {
    format!("{} bytes to be acknowledged, {} to be sent", c.sent.0.len(), c.unsent.0.len())
}

fn sort(socket: &Socket) -> &'static str {
    match (socket.family as i32, socket.kind as i32) {
        (libc::AF_UNIX, libc::SOCK_STREAM) => "Unix socket",
        (libc::AF_UNIX, libc::SOCK_DGRAM) => "Unix datagram socket",
        (libc::AF_UNIX, _) => "Unix packet socket",
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM) => "TCP socket",
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_RAW) => "raw socket",
        (libc::AF_INET | libc::AF_INET6, _) => "UDP socket",
        (libc::AF_NETLINK, _) => "netlink socket",
        _ => "socket",
    }
}
