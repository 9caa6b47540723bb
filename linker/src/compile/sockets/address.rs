//! Socket addresses, as bytes of the kernel's structures.

use super::{AF_INET, AF_INET6, AF_UNIX};

/// Family, which every address begins with.
fn family(address: &[u8]) -> u32 {
    address.first_chunk().map_or(0, |b| u32::from(u16::from_le_bytes(*b)))
}

/// Address and port, IPv4 in its mapped form; the wildcards of both are all zero.
pub(crate) fn endpoint(address: &[u8]) -> Option<([u8; 16], [u8; 2])> {
    let port = *address.get(2..)?.first_chunk()?;
    let mut ip = [0; 16];
    match family(address) {
        AF_INET => {
            let bytes = address.get(4..8)?;
            if bytes != [0; 4] {
                ip[10..12].copy_from_slice(&[0xff; 2]);
                ip[12..].copy_from_slice(bytes);
            }
        }
        AF_INET6 => ip.copy_from_slice(address.get(8..24)?),
        _ => return None,
    }
    Some((ip, port))
}

/// Whether what is sent to `to` arrives at a socket with the address `own`.
pub(super) fn leads_to(own: &[u8], to: &[u8]) -> bool {
    match (endpoint(own), endpoint(to)) {
        (Some((any, port)), Some((ip, wanted))) => port == wanted && (any == ip || any == [0; 16]),
        (None, None) => own == to,
        _ => false,
    }
}

/// The same internet address for a socket of another family; others as they are.
pub(super) fn for_family(address: &[u8], wanted: u32) -> Vec<u8> {
    let Some((ip, port)) = endpoint(address).filter(|_| family(address) != wanted) else {
        return address.to_vec();
    };
    let mut out = vec![0; if wanted == AF_INET6 { 28 } else { 16 }];
    out[0] = wanted as u8;
    out[2..4].copy_from_slice(&port);
    if wanted == AF_INET6 {
        out[8..24].copy_from_slice(&ip);
    } else {
        out[4..8].copy_from_slice(&ip[12..]);
    }
    out
}

/// The path of a Unix socket's address.
pub(super) fn path(address: &[u8]) -> Option<&[u8]> {
    let name = address.get(2..).filter(|_| family(address) == AF_UNIX)?;
    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    Some(&name[..end]).filter(|path| !path.is_empty())
}

/// An address on the loopback interface, any port, that a socket can be connected to: mapped
/// IPv4, where an IPv6 socket can do that.
pub(super) fn loopback(family: u32, v6_only: bool) -> Vec<u8> {
    let mut address = vec![0; if family == AF_INET6 { 28 } else { 16 }];
    address[0] = family as u8;
    match (family, v6_only) {
        (AF_INET6, true) => address[23] = 1,
        (AF_INET6, false) => address[18..24].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]),
        _ => address[4..8].copy_from_slice(&[127, 0, 0, 1]),
    }
    address
}

/// A socket address for people; empty where there is none.
pub fn show(address: &[u8]) -> String {
    if family(address) == AF_UNIX {
        return match (path(address), address.get(3..)) {
            (Some(path), _) => String::from_utf8_lossy(path).into_owned(),
            (None, Some(name)) => format!("@{}", String::from_utf8_lossy(name)),
            _ => String::new(),
        };
    }
    match endpoint(address) {
        Some((ip, port)) => {
            let ip = std::net::Ipv6Addr::from(ip);
            let port = u16::from_be_bytes(port);
            match ip.to_ipv4_mapped() {
                Some(ip) => format!("{ip}:{port}"),
                None if family(address) == AF_INET => format!("0.0.0.0:{port}"),
                None => format!("[{ip}]:{port}"),
            }
        }
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_takes_everything_at_its_port() {
        let any = [2, 0, 0x1f, 0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let one = [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(leads_to(&any, &one) && !leads_to(&one, &any));
        assert_eq!((show(&any), show(&one)), ("0.0.0.0:8080".into(), "127.0.0.1:8080".into()));
    }

    #[test]
    fn one_address_for_both_families() {
        let four = [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let six = for_family(&four, AF_INET6);
        assert_eq!(show(&six), "127.0.0.1:8080");
        assert_eq!(for_family(&six, AF_INET), four);
        assert_eq!(for_family(b"\x01\0x", AF_INET), b"\x01\0x");
    }

    #[test]
    fn names_of_unix_sockets() {
        assert_eq!(path(b"\x01\0/run/x\0"), Some(&b"/run/x"[..]));
        assert_eq!(path(b"\x01\0\0x"), None);
        assert_eq!(show(b"\x01\0\0x"), "@x");
        assert_eq!(show(&[]), "");
    }
}
