//! File locks and leases as fdinfo words them.

use crate::capture::proc::number::{decimal, words};
use image_format::model::{lock, FileLock};

/// Reads "1: POSIX  ADVISORY  WRITE 359 00:13:11691 0 EOF" (fs/locks.c, lock_get_status); none for
/// what cannot be set again, such as a lease that is being broken.
pub(super) fn parse(text: &[u8]) -> Option<FileLock> {
    let mut fields = words(text).skip(1);
    let kind = match fields.next()? {
        b"FLOCK" => lock::FLOCK,
        b"POSIX" => lock::POSIX,
        b"OFDLCK" => lock::OFD,
        b"LEASE" => lock::LEASE,
        _ => return None,
    };
    let state = fields.next()?;
    if kind == lock::LEASE && state != b"ACTIVE" {
        return None;
    }
    let exclusive = match fields.next()? {
        b"READ" => false,
        b"WRITE" => true,
        _ => return None,
    };
    let start = decimal(fields.nth(2)?)?;
    let len = match fields.next()? {
        b"EOF" => 0,
        end => decimal(end)?.checked_sub(start)?.checked_add(1)?,
    };
    Some(FileLock { kind, exclusive, start, len })
}

/// Whether a write lease is among them: every opening of the file would break it.
pub(super) fn of_writing(locks: &[Vec<u8>]) -> bool {
    locks.iter().filter_map(|l| parse(l)).any(|l| l.kind == lock::LEASE && l.exclusive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds() {
        let flock = parse(b"1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF").unwrap();
        assert_eq!(flock, FileLock { kind: lock::FLOCK, exclusive: true, start: 0, len: 0 });
        let posix = parse(b"2: POSIX  ADVISORY  READ 359 00:13:11691 10 19").unwrap();
        assert_eq!(posix, FileLock { kind: lock::POSIX, exclusive: false, start: 10, len: 10 });
        assert_eq!(parse(b"3: OFDLCK ADVISORY  READ -1 0:1:2 0 0").unwrap().len, 1);
        assert!(parse(b"4: LEASE  ACTIVE    READ 359 fe:00:11691 0 EOF").is_some());
        let write = b"1: LEASE  ACTIVE    WRITE 359 fe:00:11691 0 EOF".to_vec();
        assert!(of_writing(&[b"2: FLOCK  ADVISORY  WRITE 359 00:13:1 0 EOF".to_vec(), write]));
        assert_eq!(parse(b"4: LEASE  BREAKING  READ 359 fe:00:11691 0 EOF"), None);
        assert_eq!(parse(b""), None);
    }
}
