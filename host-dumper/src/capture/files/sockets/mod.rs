//! Sockets: what each is connected with, whether it can be carried, and what is in it.
//!
//! Sockets are known by their inodes; the kernel tells which inode is whose peer. The other end of
//! a socket may be held by no process at all: in the queue of a listening socket, or in flight in
//! a message, which shows only when the queues are read.

mod diag;
mod forsaken;
mod gather;
mod groups;
mod link;
mod netlock;
mod options;
mod places;
mod queue;
mod raw;
mod raw_peer;
mod repair;

pub(super) use gather::{Gathered, Gatherer};
pub use netlock::{release, TableName};
pub(super) use places::Places;
pub(in crate::capture) use repair::{Before, Live};

use super::borrow::{borrow, pidfd};
use super::descriptor::{Descriptor, Kind};
use crate::capture::error::{CaptureError, Result};
use crate::capture::proc::{number, Proc};
use crate::capture::target::name_of;
use diag::Diag;
pub(super) use link::Facts;
use link::{Known, Link};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Netlink protocols that keep no state but their groups: routes, socket information, events of
/// devices, generic.
const NETLINK_PLAIN: [u32; 4] = [0, 4, 15, 16];

/// Sockets from which on all Unix sockets there are are looked at, rather than one after the other.
const MANY: usize = 16;

/// Closes connections whose program has ended, so that their addresses are free at once.
pub(in crate::capture) fn close_quietly(connections: Vec<OwnedFd>) {
    connections.into_iter().for_each(raw::reset);
}

/// What sockets are, by inode.
type Kinds = BTreeMap<u64, Kind>;
/// What the kernel tells of them.
type AllFacts = BTreeMap<u64, Arc<Facts>>;

/// One descriptor that leads to a socket, and a duplicate of it.
struct Holder<'a> {
    proc: &'a Proc,
    fd: u32,
    socket: Option<OwnedFd>,
}

/// What the sockets of some processes are, by inode: those of all of them together, since one may
/// hold another's peer. With `keep`, TCP connections to the outside live on.
pub(super) fn kinds(processes: &[(&Proc, &[Descriptor])], keep: bool) -> Result<(Kinds, AllFacts)> {
    let mut held: BTreeMap<u64, Holder<'_>> = BTreeMap::new();
    for &(proc, all) in processes {
        if !all.iter().any(Descriptor::is_socket) {
            continue;
        }
        let owner = pidfd(proc.pid())?;
        for d in all.iter().filter(|d| d.is_socket()) {
            let holder = || Holder { proc, fd: d.fd, socket: borrow(&owner, d.fd) };
            held.entry(d.stat.st_ino).or_insert_with(holder);
        }
    }
    if held.is_empty() {
        return Ok((Kinds::new(), AllFacts::new()));
    }
    let mut diag = Diag::open().map_err(|e| failed("ask about", &e))?;
    if held.len() > MANY && diag.look_at_all(&held.keys().copied().collect()).is_err() {
        // Answers may wait in the channel. They are asked about one by one.
        diag = Diag::open().map_err(|e| failed("ask about", &e))?;
    }
    let mut known = Known::default();
    let mut kinds = BTreeMap::new();
    for (inode, holder) in &held {
        match holder.socket.as_ref().map(|fd| Facts::of(&mut diag, fd.as_fd(), *inode)) {
            Some(Ok(facts)) => {
                known.0.insert(*inode, facts);
            }
            Some(Err(e)) => {
                // The kernel has nobody to answer (__sock_diag_cmd in net/core/sock_diag.c).
                let absent = e.kind() == io::ErrorKind::NotFound;
                let remedy = if absent { LOAD_IT } else { CLOSE_IT };
                let reason = format!("is a socket that does not tell what it is ({e})");
                kinds.insert(*inode, refused(reason, remedy));
            }
            None => {
                kinds.insert(
                    *inode,
                    refused("is a socket that may not be looked at", "try as root"),
                );
            }
        }
    }
    for (inode, Holder { proc, fd: first, socket }) in &held {
        let (Some(fd), Some(facts)) = (socket, known.0.get(inode)) else { continue };
        let kind = if keep && known.may_live(*inode) {
            live(facts, fd.as_fd())
        } else {
            judge(proc, &known, *inode, facts, fd.as_fd())
        };
        let kind = match kind {
            // One of standard input, output and error that leads outside.
            Kind::SocketOutside { .. }
            | Kind::SocketReset { .. }
            | Kind::SocketBegun
            | Kind::Refused { .. }
                if *first <= 2 && !keep =>
            {
                Kind::Outside { stdio: *first }
            }
            other => other,
        };
        kinds.insert(*inode, kind);
    }
    let facts = known.0.into_iter().map(|(inode, facts)| (inode, Arc::new(facts)));
    Ok((kinds, facts.collect()))
}

const LOAD_IT: &str =
    "load the kernel's module for it (modprobe unix_diag, for Unix sockets), or let the \
                       program close it";
const CLOSE_IT: &str = "let the program close it, or dump it before it opens it";

fn refused(reason: impl Into<String>, remedy: &'static str) -> Kind {
    Kind::Refused { reason: reason.into(), remedy }
}

fn failed(what: &'static str, error: &std::io::Error) -> CaptureError {
    CaptureError::File {
        path: "sockets of the process".into(),
        what,
        source: std::io::Error::new(error.kind(), error.to_string()),
    }
}

fn judge(proc: &Proc, known: &Known, inode: u64, facts: &Facts, fd: BorrowedFd<'_>) -> Kind {
    let stream = facts.kind == libc::SOCK_STREAM as u32;
    if stream && known.link(inode) != Link::Reset && raw::is_urgent(fd) {
        return refused(
            "has urgent data waiting (MSG_OOB), whose place in the stream would be lost",
            "let the program read it",
        );
    }
    match facts.family as i32 {
        libc::AF_UNIX => unix(proc, known, inode, facts, fd),
        libc::AF_INET | libc::AF_INET6 => {
            if !facts.is_plain() {
                let what = if facts.kind == libc::SOCK_RAW as u32 { "raw " } else { "" };
                let number = facts.protocol;
                return refused(
                    format!("is a {what}socket of internet protocol {number}"),
                    "it may hold state in the kernel that cannot be seen: let the program close it",
                );
            }
            if let Some(kind) = facts.is_raw().then(|| raw_socket(facts)).flatten() {
                return kind;
            }
            match known.link(inode) {
                Link::Reset => Kind::SocketReset {
                    peer: facts.peer.as_deref().map_or_else(|| "its peer".into(), show),
                },
                Link::Begun => Kind::SocketBegun,
                _ => Kind::Socket,
            }
        }
        // One without a number has never been used: the kernel gives it with the first message
        // (netlink_sendmsg).
        libc::AF_NETLINK if !NETLINK_PLAIN.contains(&facts.protocol) && !facts.name.is_empty() => {
            refused(
                format!("is a netlink socket of protocol {}", facts.protocol),
                "it may hold state in the kernel that cannot be seen: let the program close it",
            )
        }
        libc::AF_NETLINK if readable(fd) => refused(
            "is a netlink socket with messages that wait",
            "they can only be read by taking them: let the program read them",
        ),
        libc::AF_NETLINK => Kind::Socket,
        libc::AF_PACKET => refused("is a packet socket", CLOSE_IT),
        other => refused(format!("is a socket of address family {other}"), CLOSE_IT),
    }
}

/// Why a raw socket, or one for echoes, cannot be carried.
fn raw_socket(facts: &Facts) -> Option<Kind> {
    // One that routes multicast packets is a raw socket of ICMPv6 (net/ipv6/ip6mr.c). Which one
    // it is cannot be asked, but whether there is one: ip6mr_sk_init counts it here.
    const ROUTES: &str = "/proc/sys/net/ipv6/conf/all/mc_forwarding";
    let routes = || std::fs::read_to_string(ROUTES).is_ok_and(|count| count.trim() != "0");
    if facts.protocol == libc::IPPROTO_ICMPV6 as u32 && routes() {
        return Some(refused(
            "is a raw socket of ICMPv6, while one of them routes multicast packets on this system",
            "end what routes them (it may be this program)",
        ));
    }
    raw::socket(facts.family, facts.kind, facts.protocol).err().map(|e| {
        let reason = format!("is a raw socket, which you may not make again ({e})");
        refused(reason, "try as root")
    })
}

/// A TCP connection to the outside that is to live on.
fn live(facts: &Facts, fd: BorrowedFd<'_>) -> Kind {
    const WITHOUT: &str = "dump without --tcp-established: the program sees it reset";
    let peer = facts.peer.as_deref().map_or_else(|| "its peer".into(), show);
    if raw::is_urgent(fd) {
        return refused(
            format!("is connected with {peer}, which has sent urgent data (MSG_OOB)"),
            "let the program read it",
        );
    }
    if raw::option(fd, libc::IPPROTO_TCP, libc::TCP_ULP).is_ok_and(|name| !name.is_empty()) {
        return refused(format!("encrypts in the kernel what it sends to {peer}"), WITHOUT);
    }
    match netlock::available() {
        Ok(()) => Kind::SocketLive { peer },
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => refused(
            format!("is connected with {peer}, which takes CAP_NET_ADMIN to be kept"),
            "try as root, or dump without --tcp-established: the program sees it reset",
        ),
        Err(e) => refused(
            format!(
                "is connected with {peer}: to be kept, packets must be held back by nf_tables, \
                 which this kernel does not have ({e})"
            ),
            WITHOUT,
        ),
    }
}

fn readable(fd: BorrowedFd<'_>) -> bool {
    let mut asked = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut asked, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

fn unix(proc: &Proc, known: &Known, inode: u64, facts: &Facts, fd: BorrowedFd<'_>) -> Kind {
    let is_path = facts.name.get(2).is_some_and(|b| *b != 0);
    if is_path && proc.link("root").is_ok_and(|root| root != b"/") {
        return refused(
            format!("is bound to {} inside of a root directory of its own", show(&facts.name)),
            "this cannot be carried: run the program without chroot",
        );
    }
    match known.link(inode) {
        Link::Listening { pending, .. } => {
            let is_silent = |client: u64| client == 0 && silent(facts);
            let outsider =
                pending.iter().find(|client| !known.0.contains_key(client) && !is_silent(**client));
            match outsider {
                None => Kind::Socket,
                Some(0) => refused(
                    "has a connection waiting whose client is gone; what it sent cannot be read",
                    "let the program accept it",
                ),
                Some(client) => Kind::SocketOutside {
                    peer: format!(
                        "{}, which waits to be accepted",
                        holder(*client).unwrap_or_default()
                    ),
                },
            }
        }
        Link::Pending(_) if raw::outgoing(fd).is_ok_and(|n| n > 0) => refused(
            "waits to be accepted and has sent data already, which cannot be read yet",
            "let the program accept the connection",
        ),
        Link::Outside(None) => Kind::SocketOutside {
            peer: format!(
                "a socket outside that has not accepted it yet ({})",
                facts.peer.as_deref().map_or_else(String::new, show)
            ),
        },
        Link::Outside(Some(peer)) => match holder(peer) {
            Some(who) => {
                let name = facts.peer.as_deref().filter(|name| name.len() > 2);
                let at = name.map_or_else(String::new, |name| format!(" at {}", show(name)));
                Kind::SocketOutside { peer: format!("{who}{at}") }
            }
            // Perhaps in flight in a message of the process's own.
            None => Kind::Socket,
        },
        _ => Kind::Socket,
    }
}

/// Whether clients of a listening socket that are gone had sent nothing. Packets without a byte do
/// not show.
fn silent(listener: &Facts) -> bool {
    let stream = listener.kind == libc::SOCK_STREAM as u32;
    stream && Diag::open().and_then(|mut d| d.is_silent(&listener.name)).unwrap_or(false)
}

/// Which process holds the socket with this inode, in words; none that can be seen may.
fn holder(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]").into_bytes();
    let own = std::process::id();
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|e| number::decimal(e.file_name().as_encoded_bytes()));
    for pid in pids.map(|pid| pid as u32).filter(|pid| *pid != own) {
        let Ok(proc) = Proc::open(pid) else { continue };
        for fd in proc.numbers("fd").unwrap_or_default() {
            if proc.try_link(&format!("fd/{fd}")).is_ok_and(|link| link == wanted) {
                return Some(format!("process {pid} ({})", name_of(pid)));
            }
        }
    }
    None
}

/// A socket for people.
pub(super) fn text(facts: &Facts) -> String {
    let sort = match (facts.family as i32, facts.kind as i32) {
        (libc::AF_UNIX, libc::SOCK_STREAM) => "Unix socket",
        (libc::AF_UNIX, libc::SOCK_DGRAM) => "Unix datagrams",
        (libc::AF_UNIX, _) => "Unix packets",
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM) if facts.is_tcp() => "TCP",
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM) => "UDP",
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_RAW) => "raw socket",
        (libc::AF_NETLINK, _) => "netlink",
        (libc::AF_PACKET, _) => "packet socket",
        _ => "socket",
    };
    let own = linker::address_text(&facts.name);
    let peer = facts.peer.as_deref().map(linker::address_text).filter(|peer| !peer.is_empty());
    let listens = if facts.is_listening() { "listens at " } else { "" };
    match (own.is_empty(), peer) {
        (true, None) => sort.into(),
        (true, Some(peer)) => format!("{sort} to {peer}"),
        (false, None) => format!("{sort} {listens}{own}"),
        (false, Some(peer)) => format!("{sort} {own} to {peer}"),
    }
}

/// A socket address for people.
fn show(address: &[u8]) -> String {
    Some(linker::address_text(address)).filter(|t| !t.is_empty()).unwrap_or("no address".into())
}
