//! Messages to the kernel's packet filter (nf_tables over netlink): packets of some TCP connections
//! are dropped while no socket stands for them, as the kernel would answer them by a reset.
//!
//! One table for each dump, with two chains (input, output) and a rule for each connection and
//! direction. Layouts and numbers: linux/netfilter/nf_tables.h, nfnetlink.h.

use crate::compile::endpoint;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8;
const DELTABLE: u16 = NEWTABLE | 2;
const NEWCHAIN: u16 = NEWTABLE | 3;
const NEWRULE: u16 = NEWTABLE | 6;
const GETGEN: u16 = NEWTABLE | 16;
/// Both IPv4 and IPv6.
const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const NF_INET_LOCAL_IN: u32 = 1;
const NF_INET_LOCAL_OUT: u32 = 3;
/// After address translation in either direction (at most 100): addresses are those of the socket.
const PRIORITY: u32 = 200;
const NFT_TABLE_F_OWNER: u32 = 2;
const NF_ACCEPT: u32 = 1;
const NF_DROP: u32 = 0;
const NLA_F_NESTED: u16 = 0x8000;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const IPPROTO_TCP: u8 = 6;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const REGISTER: u32 = 1;
const VERDICT: u32 = 0;

/// The two addresses of a connection, as bytes of the kernel's socket addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Ours.
    pub own: Vec<u8>,
    /// The other end's.
    pub peer: Vec<u8>,
}

/// Messages under construction.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
}

impl Batch {
    fn message(&mut self, kind: u16, flags: u16, family: u8, resource: u16, body: &[u8]) {
        self.sequence += 1;
        let length = 20 + body.len();
        self.bytes.extend((length as u32).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        // struct nfgenmsg: family, version, resource.
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn begin() -> Self {
        let mut batch = Self::default();
        batch.message(BATCH_BEGIN, 0, 0, NFNL_SUBSYS_NFTABLES, &[]);
        batch
    }

    fn end(mut self) -> Vec<u8> {
        self.message(BATCH_END, 0, 0, NFNL_SUBSYS_NFTABLES, &[]);
        self.bytes
    }
}

/// An attribute: length with its header, type, value, padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len() as u16;
    let mut out = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, &parts.concat())
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}

/// NFTA_LIST_ELEM with NFTA_EXPR_NAME and NFTA_EXPR_DATA.
fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[text(1, name), nested(2, data)])
}

fn meta(key: u32) -> Vec<u8> {
    expression("meta", &[number(1, REGISTER), number(2, key)])
}

fn payload(header: u32, offset: u32, length: usize) -> Vec<u8> {
    let place = [number(2, header), number(3, offset), number(4, length as u32)];
    expression("payload", &[number(1, REGISTER), place.concat()])
}

/// Goes on only where the register holds this value.
fn equal(value: &[u8]) -> Vec<u8> {
    let value = nested(3, &[attribute(1, value)]);
    expression("cmp", &[number(1, REGISTER), number(2, 0), value])
}

fn drop_it() -> Vec<u8> {
    let verdict = nested(2, &[nested(2, &[number(1, NF_DROP)])]);
    expression("immediate", &[number(1, VERDICT), verdict])
}

/// Expressions of a rule for what goes from one address to another.
fn from_to(from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let ((from, from_port), (to, to_port)) = (endpoint(from)?, endpoint(to)?);
    let both = [from, to].map(std::net::Ipv6Addr::from);
    let [Some(from4), Some(to4)] = both.map(|ip| ip.to_ipv4_mapped()) else {
        let addresses = [from, to].concat();
        return Some(rule(NFPROTO_IPV6, 8, &addresses, from_port, to_port));
    };
    let addresses = [from4.octets(), to4.octets()].concat();
    Some(rule(NFPROTO_IPV4, 12, &addresses, from_port, to_port))
}

/// Source and destination address lie side by side in the header, and so do the ports.
fn rule(protocol: u8, offset: u32, addresses: &[u8], from: [u8; 2], to: [u8; 2]) -> Vec<u8> {
    let ports = [from, to].concat();
    let half = addresses.len() / 2;
    let mut all = vec![meta(META_NFPROTO), equal(&[protocol]), meta(META_L4PROTO)];
    all.push(equal(&[IPPROTO_TCP]));
    for (i, address) in addresses.chunks(half.max(1)).enumerate() {
        all.push(payload(NETWORK_HEADER, offset + (i * half) as u32, half));
        all.push(equal(address));
    }
    all.extend([payload(TRANSPORT_HEADER, 0, ports.len()), equal(&ports), drop_it()]);
    all.concat()
}

/// Drops what comes from and goes to the other ends. An `owned` table vanishes with the netlink
/// socket that made it. Every message but the frame asks for an acknowledgement.
#[must_use]
pub fn hold_back(table: &str, owned: bool, flows: &[Flow]) -> Vec<u8> {
    const CHAINS: [(&str, u32); 2] = [("input", NF_INET_LOCAL_IN), ("output", NF_INET_LOCAL_OUT)];
    let mut batch = Batch::begin();
    let new = NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK;
    let flags = if owned { NFT_TABLE_F_OWNER } else { 0 };
    let body = [text(1, table), number(2, flags)].concat();
    batch.message(NEWTABLE, new, NFPROTO_INET, 0, &body);
    for (chain, hook) in CHAINS {
        let hook = nested(4, &[number(1, hook), number(2, PRIORITY)]);
        let body = [text(1, table), text(3, chain), hook, number(5, NF_ACCEPT), text(7, "filter")];
        batch.message(NEWCHAIN, new, NFPROTO_INET, 0, &body.concat());
    }
    for flow in flows {
        let ways = [from_to(&flow.peer, &flow.own), from_to(&flow.own, &flow.peer)];
        for ((chain, _), rule) in CHAINS.iter().zip(ways) {
            let Some(rule) = rule else { continue };
            let body = [text(1, table), text(2, chain), nested(4, &[rule])].concat();
            let flags = NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK;
            batch.message(NEWRULE, flags, NFPROTO_INET, 0, &body);
        }
    }
    batch.end()
}

/// Removes the table.
#[must_use]
pub fn let_through(table: &str) -> Vec<u8> {
    let mut batch = Batch::begin();
    batch.message(DELTABLE, NLM_F_ACK, NFPROTO_INET, 0, &text(1, table));
    batch.end()
}

/// A question that only a kernel with nf_tables answers, and only to those who may change it.
#[must_use]
pub fn are_you_there() -> Vec<u8> {
    let mut batch = Batch::default();
    batch.message(GETGEN, 0, 0, 0, &[]);
    batch.bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths of the messages, which must fill the bytes.
    fn lengths(bytes: &[u8]) -> Vec<usize> {
        let (mut at, mut all) = (0, Vec::new());
        while at < bytes.len() {
            let length = u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            assert!(length >= 20 && at + length <= bytes.len());
            all.push(length);
            at += length.next_multiple_of(4);
        }
        all
    }

    fn four(last: u8, port: u16) -> Vec<u8> {
        let port = port.to_be_bytes();
        [2, 0, port[0], port[1], 10, 0, 0, last, 0, 0, 0, 0, 0, 0, 0, 0].to_vec()
    }

    #[test]
    fn messages_fill_the_batch() {
        let flow = Flow { own: four(1, 80), peer: four(2, 9000) };
        let bytes = hold_back("resume-1", true, &[flow.clone(), flow]);
        assert_eq!(lengths(&bytes).len(), 2 + 1 + 2 + 4);
        assert_eq!(lengths(&let_through("resume-1")).len(), 3);
        assert_eq!(lengths(&are_you_there()).len(), 1);
    }

    #[test]
    fn a_rule_holds_addresses_and_ports_in_the_order_of_the_header() {
        let rule = from_to(&four(1, 80), &four(2, 9000)).unwrap();
        let has = |bytes: &[u8]| rule.windows(bytes.len()).any(|w| w == bytes);
        assert!(has(&[0, 80, 9000u16.to_be_bytes()[0], 9000u16.to_be_bytes()[1]]));
        let place = |bytes: &[u8]| rule.windows(4).position(|w| w == bytes).unwrap();
        assert!(place(&[10, 0, 0, 1]) < place(&[10, 0, 0, 2]));
    }
}
