//! TCP connections whose other end was on this machine and has been closed by all who had it.
//!
//! Where that end was the tree's own, nothing shows it any more but the kernel's list of sockets, in
//! which it is for a minute without an inode (FIN_WAIT2 of nobody, TIME_WAIT), and then gone.

use super::diag::Diag;
use super::link::Endpoint;
use std::io;

/// Length of struct inet_diag_msg, and where state and inode are in it.
const ANSWER: usize = 72;
const STATE: usize = 1;
const INODE: usize = 68;
const LISTEN: u8 = 10;
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// Whether the other end of the connection `here` to `there`, which has ended its side, is nobody's.
/// Where that cannot be told, and of another machine, it is somebody's.
pub fn is_forsaken(diag: &mut Diag, here: Endpoint, there: Endpoint) -> bool {
    let local = here.0 == there.0 || is_loopback(there.0);
    // The own end shows whether the kernel answers such questions at all.
    local
        && has_owner(diag, here, there) == Some(true)
        && has_owner(diag, there, here) == Some(false)
}

fn is_loopback(ip: [u8; 16]) -> bool {
    let ip = std::net::Ipv6Addr::from(ip);
    ip.to_ipv4_mapped().map_or_else(|| ip.is_loopback(), |four| four.is_loopback())
}

/// Whether a process has the socket that is at `here` and connected with `there`.
fn has_owner(diag: &mut Diag, here: Endpoint, there: Endpoint) -> Option<bool> {
    match ask(diag, here, there) {
        Ok(answer) => {
            let inode = answer.get(INODE..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))?;
            // Where there is none, the kernel shows who listens at this address.
            Some(inode != 0 && *answer.get(STATE)? != LISTEN)
        }
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Some(false),
        Err(_) => None,
    }
}

/// struct inet_diag_msg of a socket, asked for by struct inet_diag_req_v2.
fn ask(diag: &mut Diag, here: Endpoint, there: Endpoint) -> io::Result<&[u8]> {
    let four = here.0.starts_with(&MAPPED) && there.0.starts_with(&MAPPED);
    let family = if four { libc::AF_INET } else { libc::AF_INET6 } as u8;
    let mut request = vec![family, libc::IPPROTO_TCP as u8, 0, 0];
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
    let answer = diag.answer(&request)?;
    answer.get(..ANSWER).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::super::{link::endpoint, raw};
    use super::*;
    use std::io::Read;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn nobody_has_what_was_closed() {
        let mut diag = Diag::open().unwrap();
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
            assert!(!is_forsaken(&mut diag, here, there), "{at}: its client is there");
            drop(client);
            assert!(is_forsaken(&mut diag, here, there), "{at}: its client is gone");
            // One that is not on this machine.
            let far = (std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets(), 80);
            assert!(!is_forsaken(&mut diag, here, far));
        }
    }
}
