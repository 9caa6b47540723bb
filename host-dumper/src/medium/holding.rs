//! What lies on a medium, by its first bytes: whoever overwrites it is to know.
//!
//! Places and values are those that each format's own specification gives for telling it.

use image_format::container::{Front, FRONT_OFFSET};
use std::fmt;

/// Bytes from the beginning that decide: the superblock of btrfs lies the farthest behind.
pub const LOOK: usize = 0x10_040 + 8;

/// In the first page of a medium while an image is being written, at [`FRONT_OFFSET`]: what is
/// there is worth nothing, neither the old nor the new.
pub const UNFINISHED: [u8; 8] = *b"unfinish";

/// What a medium holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holding {
    /// Nothing: zeros, or the ones of erased flash.
    Nothing,
    /// An image whose writing was interrupted.
    Unfinished,
    /// An image.
    Image {
        /// Wall-clock seconds of its dump.
        created: u64,
    },
    /// Something that is known by name, such as "an ext4 file system".
    Known(&'static str),
    /// Something else.
    Unknown,
}

impl Holding {
    /// Whether nothing is lost when it is overwritten.
    pub fn is_free(&self) -> bool {
        matches!(self, Self::Nothing | Self::Unfinished)
    }
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Unfinished => f.write_str("an image whose writing was interrupted"),
            Self::Image { created } => write!(f, "an image made on {}", date(*created)),
            Self::Known(name) => f.write_str(name),
            Self::Unknown => f.write_str("data of an unknown kind"),
        }
    }
}

/// A name, and where which bytes tell it. The first that fits counts, so file systems stand
/// before partition tables: FAT and NTFS end their first sector as a partition table does.
const SIGNATURES: &[(&str, usize, &[u8])] = &[
    ("an ext2, ext3 or ext4 file system", 0x438, &[0x53, 0xef]),
    ("an XFS file system", 0, b"XFSB"),
    ("a btrfs file system", 0x10_040, b"_BHRfS_M"),
    ("an F2FS file system", 0x400, &[0x10, 0x20, 0xf5, 0xf2]),
    ("an EROFS file system", 0x400, &[0xe2, 0xe1, 0xf5, 0xe0]),
    ("an NTFS file system", 3, b"NTFS    "),
    ("an exFAT file system", 3, b"EXFAT   "),
    ("a FAT file system", 0x52, b"FAT32   "),
    ("a FAT file system", 0x36, b"FAT16   "),
    ("a FAT file system", 0x36, b"FAT12   "),
    ("a FAT file system", 0x36, b"FAT     "),
    ("an HFS+ file system", 0x400, b"H+\0\x04"),
    ("an HFS+ file system", 0x400, b"HX\0\x05"),
    ("an APFS container", 32, b"NXSB"),
    ("an encrypted volume (LUKS)", 0, b"LUKS\xba\xbe"),
    ("an LVM volume", 512 + 24, b"LVM2 001"),
    ("a member of a RAID", 4096, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("a member of a RAID", 0, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("swap space", 4096 - 10, b"SWAPSPACE2"),
    ("a squashfs file system", 0, b"hsqs"),
    ("a partition table (GPT)", 512, b"EFI PART"),
    ("a partition table (GPT)", 4096, b"EFI PART"),
    ("a CD image (ISO 9660)", 0x8001, b"CD001"),
    ("a UDF file system", 0x8001, b"BEA01"),
    ("a tar archive", 257, b"ustar"),
    ("an ELF executable", 0, b"\x7fELF"),
    ("gzip data", 0, &[0x1f, 0x8b, 8]),
    ("xz data", 0, &[0xfd, b'7', b'z', b'X', b'Z', 0]),
    ("a zip archive", 0, b"PK\x03\x04"),
];

/// Tells what begins with `bytes` ([`LOOK`] of them, or all that the medium has).
pub fn recognise(bytes: &[u8]) -> Holding {
    let at =
        |offset: usize, what: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(what));
    let first = bytes.first().copied().unwrap_or(0);
    if matches!(first, 0 | 0xff) && bytes.iter().all(|byte| *byte == first) {
        return Holding::Nothing;
    }
    if at(FRONT_OFFSET, &UNFINISHED) {
        return Holding::Unfinished;
    }
    if let Ok(front) = Front::parse(bytes) {
        return Holding::Image { created: front.created };
    }
    if let Some((name, ..)) = SIGNATURES.iter().find(|(_, offset, what)| at(*offset, what)) {
        return Holding::Known(name);
    }
    if has_partitions(bytes) {
        return Holding::Known("a partition table (MBR)");
    }
    Holding::Unknown
}

/// Whether the first sector is a partition table: its mark, and at least one of the four entries
/// of 16 bytes from 446 on in use, with a status byte that such tables have.
fn has_partitions(bytes: &[u8]) -> bool {
    let Some(sector) = bytes.get(..512) else {
        return false;
    };
    let entries = || sector[446..510].chunks_exact(16);
    sector[510..] == [0x55, 0xaa]
        && entries().all(|entry| matches!(entry[0], 0 | 0x80))
        && entries().any(|entry| entry[4] != 0)
}

/// The day of a wall-clock second, as 2026-11-24 (UTC).
fn date(seconds: u64) -> String {
    // Days are counted from March on, so that the leap day is a year's last.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era.saturating_mul(400) + year + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_795_478_399), "2026-11-23");
        assert_eq!(date(1_795_478_400), "2026-11-24");
        assert!(!date(u64::MAX).is_empty());
    }

    #[test]
    fn empty_media() {
        assert_eq!(recognise(&[]), Holding::Nothing);
        assert_eq!(recognise(&vec![0; LOOK]), Holding::Nothing);
        assert_eq!(recognise(&vec![0xff; LOOK]), Holding::Nothing);
        let mut bytes = vec![0; LOOK];
        bytes[LOOK - 1] = 1;
        assert_eq!(recognise(&bytes), Holding::Unknown);
    }

    #[test]
    fn every_signature_is_found() {
        for (name, offset, what) in SIGNATURES {
            let mut bytes = vec![0; LOOK];
            bytes[*offset..offset + what.len()].copy_from_slice(what);
            assert_eq!(recognise(&bytes), Holding::Known(name));
            assert!(!recognise(&bytes[..=*offset]).is_free());
        }
    }

    #[test]
    fn partition_tables_have_entries() {
        let mut bytes = vec![0; LOOK];
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(recognise(&bytes), Holding::Unknown);
        bytes[446 + 16 + 4] = 0x0c;
        assert_eq!(recognise(&bytes), Holding::Known("a partition table (MBR)"));
        bytes[446] = 7;
        assert_eq!(recognise(&bytes), Holding::Unknown);
    }

    #[test]
    fn an_unfinished_image_is_free() {
        let mut bytes = vec![0; LOOK];
        bytes[FRONT_OFFSET..FRONT_OFFSET + 8].copy_from_slice(&UNFINISHED);
        bytes[9000] = 7;
        assert!(recognise(&bytes).is_free());
    }
}
