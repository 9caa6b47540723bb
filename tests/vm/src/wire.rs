//! What went over the bus: QEMU's packet file, reduced to the command and
//! status wrappers of Bulk-Only Transport.

use crate::failure::{ensure, Outcome};

/// One command as the stick saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Echoed by the status.
    pub tag: u32,
    /// Bytes of the data phase.
    pub len: u32,
    /// First byte of the command block.
    pub opcode: u8,
    /// The command block.
    pub cdb: [u8; 16],
    /// Its status came before the next command.
    pub answered: bool,
}

impl Command {
    /// READ of any size.
    pub fn is_read(&self) -> bool {
        matches!(self.opcode, 0x28 | 0x88)
    }

    /// WRITE of any size.
    pub fn is_write(&self) -> bool {
        matches!(self.opcode, 0x2a | 0x8a)
    }

    /// SYNCHRONIZE CACHE.
    pub fn is_flush(&self) -> bool {
        matches!(self.opcode, 0x35 | 0x91)
    }
}

/// The commands in a capture (pcap of Linux usbmon packets), in their order.
pub fn commands(capture: &[u8]) -> Outcome<Vec<Command>> {
    ensure(capture.len() >= 24, || "the wire capture is empty".to_owned())?;
    let mut found: Vec<Command> = Vec::new();
    let mut at = 24;
    while let Some(header) = capture.get(at..at + 16) {
        let len = u32_at(header, 8) as usize;
        at += 16;
        let Some(packet) = capture.get(at..at + len) else {
            break;
        };
        at += len;
        // The usbmon header is 64 bytes; the data follows it.
        let Some(data) = packet.get(64..) else {
            continue;
        };
        if data.starts_with(b"USBC") && data.len() == 31 {
            let tag = u32_at(data, 4);
            if found.last().is_some_and(|last| last.tag == tag) {
                continue;
            }
            let mut cdb = [0; 16];
            cdb.copy_from_slice(&data[15..31]);
            found.push(Command { tag, len: u32_at(data, 8), opcode: cdb[0], cdb, answered: false });
        } else if data.starts_with(b"USBS") && data.len() == 13 {
            if let Some(last) = found.last_mut() {
                last.answered |= last.tag == u32_at(data, 4);
            }
        }
    }
    Ok(found)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}
