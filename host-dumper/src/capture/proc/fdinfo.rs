//! /proc/PID/fdinfo/N.

use super::number::{decimal, hex, lines, radix, words};

/// The fields that matter here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FdInfo {
    /// Offset in bytes.
    pub pos: u64,
    /// Status flags and access mode, with O_CLOEXEC for close-on-exec.
    pub flags: u32,
    /// Inode.
    pub inode: u64,
    /// Counter of an eventfd and whether it is a semaphore.
    pub eventfd: Option<(u64, bool)>,
    /// Locks and leases held through it, as the kernel words them.
    pub locks: Vec<Vec<u8>>,
}

/// Reads an fdinfo file.
pub fn parse(text: &[u8]) -> Option<FdInfo> {
    let mut info = FdInfo::default();
    let mut seen_flags = false;
    for line in lines(text) {
        let Some(colon) = line.iter().position(|&b| b == b':') else { continue };
        let value = &line[colon + 1..];
        let first = words(value).next();
        match &line[..colon] {
            // Some devices show a negative offset.
            b"pos" => info.pos = first.and_then(decimal).unwrap_or(0),
            b"flags" => {
                info.flags = radix(first?, 8)? as u32;
                seen_flags = true;
            }
            b"ino" => info.inode = first.and_then(decimal)?,
            b"eventfd-count" => {
                info.eventfd.get_or_insert_default().0 = hex(first?)?;
            }
            b"eventfd-semaphore" => {
                info.eventfd.get_or_insert_default().1 = decimal(first?)? != 0;
            }
            b"lock" => info.locks.push(value.trim_ascii().to_vec()),
            _ => {}
        }
    }
    seen_flags.then_some(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eventfd_and_a_lock() {
        let text = b"pos:\t12\nflags:\t02000002\nmnt_id:\t15\nino:\t1044\n\
            eventfd-count:               1f\neventfd-id: 4\neventfd-semaphore: 1\n\
            lock:\t1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF\n";
        let info = parse(text).unwrap();
        assert_eq!((info.pos, info.flags, info.inode), (12, 0o2000002, 1044));
        assert_eq!(info.eventfd, Some((0x1f, true)));
        assert_eq!(info.locks.len(), 1);
        assert_eq!(parse(b"pos:\t1\n"), None);
    }
}
