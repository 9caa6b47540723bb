//! The same rules again, from the specifications, in the plainest way.

/// A status wrapper (Bulk-Only Transport 1.0, 5.2, 6.3, 6.6), in the order
/// in which a host must check it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Passed; bytes not processed.
    Good(u32),
    /// Failed; bytes not processed.
    Failed(u32),
    /// Phase error.
    Phase,
    /// Not 13 bytes.
    Length,
    /// Not the signature expected.
    Signature,
    /// Of another command.
    Tag,
    /// A status that does not exist.
    Reserved,
    /// More left over than there was.
    Residue,
}

impl Status {
    /// The number the C side gives it, and the residue.
    pub fn number(self) -> (u32, u32) {
        match self {
            Self::Good(rest) => (0, rest),
            Self::Failed(rest) => (1, rest),
            Self::Phase => (2, 0),
            Self::Length => (3, 0),
            Self::Signature => (4, 0),
            Self::Tag => (5, 0),
            Self::Reserved => (6, 0),
            Self::Residue => (7, 0),
        }
    }
}

/// Judges a status wrapper.
pub fn status(bytes: &[u8], signature: u32, tag: u32, len: u32) -> Status {
    let Ok(bytes) = <&[u8; 13]>::try_from(bytes) else {
        return Status::Length;
    };
    let field =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let rest = field(8);
    match bytes[12] {
        _ if field(0) != signature => Status::Signature,
        _ if field(4) != tag => Status::Tag,
        2 => Status::Phase,
        3.. => Status::Reserved,
        _ if rest > len => Status::Residue,
        0 => Status::Good(rest),
        _ => Status::Failed(rest),
    }
}

/// A command block wrapper (5.1).
pub fn command(tag: u32, len: u32, to_host: bool, lun: u8, cdb: &[u8]) -> Vec<u8> {
    let mut out = b"USBC".to_vec();
    out.extend(tag.to_le_bytes());
    out.extend(len.to_le_bytes());
    out.push(if to_host { 0x80 } else { 0 });
    out.push(lun % 16);
    out.push(cdb.len() as u8);
    out.extend(cdb);
    out.resize(31, 0);
    out
}

/// READ/WRITE (SBC): 10 bytes where the addresses and counts fit.
pub fn transfer(write: bool, lba: u64, blocks: u32, force16: bool) -> Vec<u8> {
    let last = u128::from(lba) + u128::from(blocks) - 1;
    if force16 || blocks > 0xffff || last > 0xffff_ffff {
        let mut cdb = vec![if write { 0x8a } else { 0x88 }, 0];
        cdb.extend(lba.to_be_bytes());
        cdb.extend(blocks.to_be_bytes());
        cdb.extend([0, 0]);
        cdb
    } else {
        let mut cdb = vec![if write { 0x2a } else { 0x28 }, 0];
        cdb.extend((lba as u32).to_be_bytes());
        cdb.push(0);
        cdb.extend((blocks as u16).to_be_bytes());
        cdb.push(0);
        cdb
    }
}

/// Sense data (SPC 4.5): (deferred, key, additional code, qualifier).
pub fn sense(bytes: &[u8]) -> Option<(bool, u8, u8, u8)> {
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    if bytes.len() < 3 {
        return None;
    }
    match at(0) & 0x7f {
        code @ (0x70 | 0x71) => Some((code == 0x71, at(2) & 15, at(12), at(13))),
        code @ (0x72 | 0x73) => Some((code == 0x73, at(1) & 15, at(2), at(3))),
        _ => None,
    }
}

/// A usable geometry: block sizes of 512 to 4096, offsets in 63 bits.
pub fn geometry(last: u64, block: u32) -> Option<(u64, u32)> {
    let fine = matches!(block, 512 | 1024 | 2048 | 4096);
    let bytes = (u128::from(last) + 1) * u128::from(block);
    (fine && bytes <= i64::MAX as u128).then(|| (last + 1, block))
}

/// What a host does about a command that failed, in the order of the C side's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The data is good.
    Done,
    /// The same again, counted.
    Retry,
    /// The same again: the stick was reset.
    RetryReset,
    /// It will be ready soon.
    Wait,
    /// It waits for START STOP UNIT.
    Start,
    /// Another medium may be in it.
    Changed,
    /// No medium is in it.
    NoMedium,
    /// It cannot be written.
    ReadOnly,
    /// It does not know the command, or a field of it.
    Unsupported,
    /// There is no such block.
    Range,
    /// Nothing helps.
    Fail,
}

/// The rules for sense data (SPC-4, 4.5.6 and annex D, and what Linux's own disk driver does about sticks).
pub fn action(key: u8, asc: u8, ascq: u8) -> Action {
    match key {
        // RECOVERED ERROR.
        1 => Action::Done,
        // NOT READY.
        2 => match (asc, ascq) {
            (0x3a, _) => Action::NoMedium,
            (0x28, _) => Action::Changed,
            (0x04, 2) => Action::Start,
            (0x04, 3 | 0x0b | 0x0c | 0x1b | 0x24 | 0x25) => Action::Fail,
            _ => Action::Wait,
        },
        // MEDIUM ERROR: what was read thrice inside of the stick will not be read a fourth time.
        3 if matches!(asc, 0x11 | 0x13 | 0x14) => Action::Fail,
        // ILLEGAL REQUEST.
        5 => match asc {
            0x21 => Action::Range,
            0x25 => Action::Retry,
            _ => Action::Unsupported,
        },
        // UNIT ATTENTION.
        6 => match (asc, ascq) {
            (0x28 | 0x3a, _) | (0x2a, 9) => Action::Changed,
            _ => Action::RetryReset,
        },
        // DATA PROTECT; a thin stick that is full says so with it, too.
        7 if (asc, ascq) == (0x27, 7) => Action::Range,
        7 => Action::ReadOnly,
        // MEDIUM ERROR, HARDWARE ERROR, ABORTED COMMAND.
        3 | 4 | 0xb => Action::Retry,
        // VOLUME OVERFLOW.
        0xd => Action::Range,
        _ => Action::Fail,
    }
}
