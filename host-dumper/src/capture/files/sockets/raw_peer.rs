//! Whom a raw socket is connected with.
//!
//! getpeername(2) has no answer for a peer without a port (inet_getname in net/ipv4/af_inet.c),
//! and protocols of raw sockets have none; the lists in /proc/net do (proc(5)).

use std::net::{Ipv4Addr, Ipv6Addr};

/// The address it is connected with, in the form of the kernel; the port in it is 0.
pub fn of(family: u32, kind: u32, inode: u64) -> Option<Vec<u8>> {
    let list = match (kind == libc::SOCK_RAW as u32, family == libc::AF_INET6 as u32) {
        (true, false) => "raw",
        (true, true) => "raw6",
        (false, false) => "icmp",
        (false, true) => "icmp6",
    };
    find(&std::fs::read_to_string(format!("/proc/self/net/{list}")).ok()?, inode)
}

/// The peer in a list: columns are a number, own address, peer, state, queues, timers,
/// retransmissions, uid, timeout, inode.
fn find(list: &str, inode: u64) -> Option<Vec<u8>> {
    let columns = |line: &str| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let line = list
        .lines()
        .skip(1)
        .map(columns)
        .find(|line| line.get(9).and_then(|text| text.parse().ok()) == Some(inode))?;
    let (ip, _) = line.get(2)?.split_once(':')?;
    // Words of the address as numbers of this machine.
    let word = |at: usize| {
        let number = u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(number.to_ne_bytes())
    };
    let mut address = Vec::new();
    if ip.len() == 8 {
        let ip = Ipv4Addr::from(word(0)?);
        address.extend((libc::AF_INET as u16).to_ne_bytes());
        address.extend([0; 2]);
        address.extend(ip.octets());
        address.extend([0; 8]);
        (!ip.is_unspecified()).then_some(address)
    } else {
        let words = [word(0)?, word(1)?, word(2)?, word(3)?];
        let ip = Ipv6Addr::from(<[u8; 16]>::try_from(words.as_flattened()).ok()?);
        address.extend((libc::AF_INET6 as u16).to_ne_bytes());
        address.extend([0; 6]);
        address.extend(ip.octets());
        address.extend([0; 4]);
        (!ip.is_unspecified()).then_some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::find;

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when";

    fn list(peer: &str, own: &str) -> String {
        let tail = "07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0";
        format!(
            "{HEAD}\n  1: {own}:0001 {own}:0000 {}\n  1: {own}:0001 {peer}:0000 {tail}\n",
            tail.replace("4711", "4710")
        )
    }

    #[test]
    fn peers_of_both_families() {
        let four = u32::from_ne_bytes([127, 0, 0, 1]);
        let list_four = list(&format!("{four:08X}"), "00000000");
        let mut wanted = vec![0; 16];
        wanted[..2].copy_from_slice(&2u16.to_ne_bytes());
        wanted[4..8].copy_from_slice(&[127, 0, 0, 1]);
        assert_eq!(find(&list_four, 4711), Some(wanted));
        assert_eq!(find(&list_four, 4710), None, "not connected");
        assert_eq!(find(&list_four, 4709), None, "not in the list");

        let last = u32::from_ne_bytes([0, 0, 0, 1]);
        let zeros = "0".repeat(32);
        let list_six = list(&format!("{}{last:08X}", "0".repeat(24)), &zeros);
        let mut wanted = vec![0; 28];
        wanted[..2].copy_from_slice(&10u16.to_ne_bytes());
        wanted[23] = 1;
        assert_eq!(find(&list_six, 4711), Some(wanted));
        assert_eq!(find(&list_six, 4710), None);
    }

    #[test]
    fn nonsense_is_no_peer() {
        for text in ["", "x", "head\n1: a b c d e f g h 4711", "head\n1 2 zz:1 4 5 6 7 8 9 4711"] {
            assert_eq!(find(text, 4711), None);
        }
    }
}
