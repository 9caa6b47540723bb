//! TCP connections whose other end was on this machine and has been closed by all who had it.
//!
//! Where that end was the tree's own, nothing shows it any more but the kernel's list of sockets, in
//! which it is for a minute without an inode (FIN_WAIT2 of nobody, TIME_WAIT), and then gone.

use super::link::Endpoint;
use super::raw;
use nix::sys::socket::{recv, send, MsgFlags};
use std::io;
use std::os::fd::AsRawFd;

const NETLINK_SOCK_DIAG: u32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
/// Length of struct nlmsghdr, of struct inet_diag_req_v2, of struct inet_diag_msg.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const ANSWER: usize = 72;
/// Where its state and its inode are.
const STATE: usize = 1;
const INODE: usize = 68;
const LISTEN: u8 = 10;
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// Whether the other end of the connection `here` to `there`, which has ended its side, is nobody's.
/// Where that cannot be told, and of another machine, it is somebody's.
pub fn is_forsaken(here: Endpoint, there: Endpoint) -> bool {
    let local = here.0 == there.0 || is_loopback(there.0);
    // The own end shows whether the kernel answers such questions at all.
    local && has_owner(here, there) == Some(true) && has_owner(there, here) == Some(false)
}

fn is_loopback(ip: [u8; 16]) -> bool {
    let ip = std::net::Ipv6Addr::from(ip);
    ip.to_ipv4_mapped().map_or_else(|| ip.is_loopback(), |four| four.is_loopback())
}

/// Whether a process has the socket that is at `here` and connected with `there`.
fn has_owner(here: Endpoint, there: Endpoint) -> Option<bool> {
    match ask(here, there) {
        Ok(answer) => {
            let inode = answer.get(INODE..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))?;
            // Where there is none, the kernel shows who listens at this address.
            Some(inode != 0 && *answer.get(STATE)? != LISTEN)
        }
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Some(false),
        Err(_) => None,
    }
}

/// struct inet_diag_msg of a socket.
fn ask(here: Endpoint, there: Endpoint) -> io::Result<Vec<u8>> {
    let channel = raw::socket(libc::AF_NETLINK as u32, libc::SOCK_RAW as u32, NETLINK_SOCK_DIAG)?;
    let four = here.0.starts_with(&MAPPED) && there.0.starts_with(&MAPPED);
    let family = if four { libc::AF_INET } else { libc::AF_INET6 } as u8;
    let mut request = Vec::with_capacity(HEADER + REQUEST);
    request.extend_from_slice(&((HEADER + REQUEST) as u32).to_ne_bytes());
    request.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    request.extend_from_slice(&[family, libc::IPPROTO_TCP as u8, 0, 0]);
    let all_states = u32::MAX;
    request.extend_from_slice(&all_states.to_ne_bytes());
    for (_, port) in [here, there] {
        request.extend_from_slice(&port.to_be_bytes());
    }
    for (ip, _) in [here, there] {
        let mut at = ip;
        if four {
            at.copy_within(12.., 0);
            at[4..].fill(0);
        }
        request.extend_from_slice(&at);
    }
    let (any_device, any_cookie) = (0u32, u32::MAX);
    for word in [any_device, any_cookie, any_cookie] {
        request.extend_from_slice(&word.to_ne_bytes());
    }
    send(channel.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut answer = vec![0; 4096];
    let length = recv(channel.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let answer = &answer[..length];
    let short = || io::Error::from(io::ErrorKind::InvalidData);
    let body = answer.get(HEADER..).ok_or_else(short)?;
    let kind = answer.get(4..).and_then(|b| b.first_chunk()).map(|b| u16::from_ne_bytes(*b));
    if kind == Some(libc::NLMSG_ERROR as u16) {
        let errno = body.first_chunk().map(|b| i32::from_ne_bytes(*b)).ok_or_else(short)?;
        return Err(io::Error::from_raw_os_error(-errno));
    }
    body.get(..ANSWER).map(<[u8]>::to_vec).ok_or_else(short)
}

#[cfg(test)]
mod tests {
    use super::super::link::endpoint;
    use super::*;
    use std::io::Read;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn nobody_has_what_was_closed() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(door) = TcpListener::bind(at) else { continue };
            let client = TcpStream::connect(door.local_addr().unwrap()).unwrap();
            let (server, _) = door.accept().unwrap();
            let ends = |s: &TcpStream| {
                let name = endpoint(&raw::name(s.as_fd()).unwrap()).unwrap();
                (name, endpoint(&raw::peer(s.as_fd()).unwrap()).unwrap())
            };
            let (here, there) = ends(&server);
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!((&server).read(&mut [0]).unwrap(), 0);
            assert!(!is_forsaken(here, there), "{at}: its client is there");
            drop(client);
            assert!(is_forsaken(here, there), "{at}: its client is gone");
            // One that is not on this machine.
            let far = (std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets(), 80);
            assert!(!is_forsaken(here, far));
        }
    }
}
