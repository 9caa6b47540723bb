//! How a `resume.elf` lies on its medium.
//!
//! ```text
//! 0        +--------------------------------------------------+
//!          | ELF header, program headers                      |
//! 512      | Front: magic, version, lengths, hash             |  FRONT_OFFSET
//! 1024     | restorer blob                                    |  BLOB_OFFSET
//! blob_end +--------------------------------------------------+
//!          | chunk: header, run table | padding | data        |  each begins on a page
//!          | ...                                              |
//!          | chunk END                                        |
//!          +--------------------------------------------------+
//! ```
//!
//! Chunks form a chain: each header tells where the next begins, so that an image is
//! written front to back (file, device or pipe alike) and read without an index.
//! Every byte is under a checksum; bytes after END do no harm.

use crate::{page_up, PAGE_SIZE};
use core::fmt;
use scroll::{Pread, Pwrite, SizeWith, LE};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Version of the container, model and plan together.
///
/// 1: first.
pub const FORMAT_VERSION: u32 = 1;

/// Where [`Front`] begins in the file, bytes.
pub const FRONT_OFFSET: usize = 512;
/// Where the restorer begins, bytes; as much of the file lies in memory before its entry point.
pub const BLOB_OFFSET: usize = 1024;
/// First bytes of [`Front`].
pub const FRONT_MAGIC: [u8; 8] = *b"RESUMELF";
/// First word of [`ChunkHeader`] ("CHNK" in memory).
pub const CHUNK_MAGIC: u32 = u32::from_le_bytes(*b"CHNK");
/// Page data of one chunk, at most, in bytes: bounds the memory of writer and reader.
pub const CHUNK_DATA_MAX: u64 = 4 << 20;
/// Block that [`hash_data`] takes at a time, bytes: stays in the second-level cache.
pub const HASH_BLOCK: usize = 128 << 10;
/// Files up to this size in bytes are recognised by all their bytes.
pub const WHOLE_HASH_LIMIT: u64 = 64 << 20;
/// Number of blocks that recognise a larger file.
pub const SAMPLES: u64 = 64;
/// Size of one such block in bytes.
pub const SAMPLE_SIZE: u64 = 64 << 10;

/// The image's own header, at [`FRONT_OFFSET`]; 96 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith)]
#[repr(C)]
pub struct Front {
    /// [`FRONT_MAGIC`].
    pub magic: [u8; 8],
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// ELF machine number (62 is x86-64).
    pub machine: u32,
    /// Random; names this image.
    pub image_id: [u8; 16],
    /// File offset of the first chunk in bytes, a whole number of pages.
    pub blob_end: u64,
    /// First address of the hole that the restorer may use.
    pub window_base: u64,
    /// Its length in bytes.
    pub window_len: u64,
    /// Bytes from `window_base` that the loaded blob takes; free for the restorer beyond.
    pub blob_mem: u64,
    /// Wall-clock seconds of the dump.
    pub created: u64,
    /// Zero; for flags to come.
    pub flags: u64,
    /// Zero.
    pub reserved: u64,
    /// [`hash_data`] of the file's bytes before `blob_end`, with this field as zero.
    pub hash: u64,
}

const _: () = assert!(core::mem::size_of::<Front>() == 96);
const _: () = assert!(core::mem::offset_of!(Front, hash) == 88);

impl Front {
    /// Size in bytes.
    pub const SIZE: usize = 96;
    /// File offset of [`Front::hash`] in bytes.
    pub const HASH_OFFSET: usize = FRONT_OFFSET + core::mem::offset_of!(Front, hash);

    /// Reads and checks the header from the first page of an image.
    pub fn parse(first_page: &[u8]) -> Result<Self, ContainerError> {
        let front: Self =
            first_page.pread_with(FRONT_OFFSET, LE).map_err(|_| ContainerError::NotAnImage)?;
        front.check()
    }

    /// Checks a header as it was read.
    pub fn check(self) -> Result<Self, ContainerError> {
        if self.magic != FRONT_MAGIC {
            return Err(ContainerError::NotAnImage);
        }
        if self.version != FORMAT_VERSION {
            return Err(ContainerError::Version { found: self.version });
        }
        let sane = self.blob_end.is_multiple_of(PAGE_SIZE)
            && self.blob_end >= PAGE_SIZE
            && self.blob_end < (1 << 30)
            && self.window_base.is_multiple_of(PAGE_SIZE);
        if sane {
            Ok(self)
        } else {
            Err(ContainerError::Damaged { offset: FRONT_OFFSET as u64, what: "image header" })
        }
    }
}

/// What a chunk holds ([`ChunkHeader::kind`]).
pub mod kind {
    /// Pages of a process: run table ([`super::Run`]) and page data.
    pub const PAGES: u16 = 1;
    /// Like PAGES, but the plan maps them straight from the image; copied only with `--copy-all`.
    pub const PAGES_MAPPED: u16 = 2;
    /// Part of an embedded file; `owner` is its number, `offset` the place in it.
    pub const FILE: u16 = 3;
    /// The model ([`crate::model::Tree`], encoded).
    pub const MODEL: u16 = 4;
    /// The plan ([`crate::plan`]).
    pub const PLAN: u16 = 5;
    /// The last chunk: no data; its `offset` is the length of the image in bytes, END included.
    pub const END: u16 = 6;
}

/// Bits of [`ChunkHeader::flags`].
pub mod chunk_flag {
    /// Reserved for data in one LZ4 block, `raw_len` being its size when unpacked; refused.
    pub const LZ4: u16 = 1;
    /// Reserved for encryption; refused.
    pub const ENCRYPTED: u16 = 2;
}

/// Header of a chunk; 80 bytes, at the chunk's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith, Default)]
#[repr(C)]
pub struct ChunkHeader {
    /// [`CHUNK_MAGIC`].
    pub magic: u32,
    /// One of [`kind`].
    pub kind: u16,
    /// Bits of [`chunk_flag`].
    pub flags: u16,
    /// Position in the chain, from 0.
    pub seq: u32,
    /// Process index for pages, file number for FILE, else 0.
    pub owner: u32,
    /// FILE: offset in the file; END: length of the image; else 0.
    pub offset: u64,
    /// Number of [`Run`]s after the header.
    pub runs: u32,
    /// Bytes from the chunk's beginning to its data, whole pages; header and run table are inside.
    pub data_start: u32,
    /// Bytes of data as stored.
    pub data_len: u64,
    /// Bytes of data when unpacked.
    pub raw_len: u64,
    /// [`hash_data`] of the stored data, seeded with 0.
    pub data_hash: u64,
    /// `head_hash` of the chunk before, 0 for the first: chunks cannot change places.
    pub previous: u64,
    /// [`hash_data`] of the bytes before the data (this field as zero), run table and padding
    /// included, and continued over the padding after the data.
    pub head_hash: u64,
    /// Zero.
    pub reserved: u64,
}

const _: () = assert!(core::mem::size_of::<ChunkHeader>() == 80);
const _: () = assert!(core::mem::offset_of!(ChunkHeader, head_hash) == 64);

/// A run of pages; 16 bytes. The pages of all runs lie in the data one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith, Default)]
#[repr(C)]
pub struct Run {
    /// Address of the first page.
    pub address: u64,
    /// Number of pages.
    pub pages: u64,
}

const _: () = assert!(core::mem::size_of::<Run>() == 16);

impl Run {
    /// Size in bytes.
    pub const SIZE: usize = 16;
}

impl ChunkHeader {
    /// Size in bytes.
    pub const SIZE: usize = 80;
    /// Offset of [`ChunkHeader::head_hash`] in bytes.
    pub const HASH_OFFSET: usize = 64;

    /// Bytes from this chunk's beginning to the next one's.
    pub fn stride(&self) -> u64 {
        page_up(u64::from(self.data_start) + self.data_len)
    }

    /// Bytes that a header with `runs` runs takes before the data.
    pub fn data_start_for(runs: u32) -> u32 {
        page_up((Self::SIZE + runs as usize * Run::SIZE) as u64) as u32
    }

    /// Reads a header and checks what can be checked without the rest; `offset` is its place in
    /// the file, `seq` and `previous` what the chain so far demands.
    pub fn parse(
        head: &[u8],
        offset: u64,
        seq: u32,
        previous: u64,
    ) -> Result<Self, ContainerError> {
        let header: Self =
            head.pread_with(0, LE).map_err(|_| ContainerError::Truncated { offset })?;
        header.check(offset, seq, previous)
    }

    /// Checks a header as it was read; see [`ChunkHeader::parse`].
    pub fn check(self, offset: u64, seq: u32, previous: u64) -> Result<Self, ContainerError> {
        let damaged = |what| ContainerError::Damaged { offset, what };
        let header = self;
        if header.magic != CHUNK_MAGIC {
            return Err(damaged("chunk header"));
        }
        if header.seq != seq || header.previous != previous {
            return Err(damaged("chunk order"));
        }
        if header.flags & !chunk_flag::LZ4 != 0 {
            return Err(ContainerError::Unsupported { offset, what: "chunk flags" });
        }
        let start_ok = u64::from(header.data_start) % PAGE_SIZE == 0
            && (header.runs as usize)
                .checked_mul(Run::SIZE)
                .and_then(|n| n.checked_add(Self::SIZE))
                .is_some_and(|n| n <= header.data_start as usize);
        let data_ok = header.data_len < 1 << 40 && header.raw_len < 1 << 40;
        if start_ok && data_ok {
            Ok(header)
        } else {
            Err(damaged("chunk lengths"))
        }
    }

    /// Hash that [`ChunkHeader::head_hash`] must be. `head` is the chunk's first `data_start`
    /// bytes, `tail` the padding after the data.
    pub fn compute_head_hash(head: &[u8], tail: &[u8]) -> u64 {
        let hash = hash_without_word(head, Self::HASH_OFFSET);
        hash_data(tail, hash)
    }
}

/// Hashes `bytes` block by block, each block seeded with the hash so far: the value for a long
/// stretch can be computed as its pieces pass by, if every piece but the last is a whole number
/// of [`HASH_BLOCK`]s.
pub fn hash_data(bytes: &[u8], seed: u64) -> u64 {
    let mut hash = seed;
    for block in bytes.chunks(HASH_BLOCK) {
        hash = xxh3_64_with_seed(block, hash);
    }
    hash
}

/// Hashes `bytes` with the eight bytes at `at` taken as zero (the place of the hash itself).
pub fn hash_without_word(bytes: &[u8], at: usize) -> u64 {
    let (before, rest) = bytes.split_at(at.min(bytes.len()));
    let after = rest.get(8..).unwrap_or(&[]);
    let hash = hash_data(before, 0);
    let hash = hash_data(&[0; 8], hash);
    hash_data(after, hash)
}

/// Why an image cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerError {
    /// No image begins here.
    NotAnImage,
    /// A version that this program does not know.
    Version {
        /// The version found.
        found: u32,
    },
    /// The file ends too early.
    Truncated {
        /// Offset in bytes of the chunk that is not complete.
        offset: u64,
    },
    /// Bytes are not what was written.
    Damaged {
        /// Offset in bytes of the chunk concerned.
        offset: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// Written by a newer program with something this one cannot read.
    Unsupported {
        /// Offset in bytes of the chunk concerned.
        offset: u64,
        /// What is not supported.
        what: &'static str,
    },
}

/// A part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Text, with its blanks.
    Text(&'static str),
    /// A decimal number.
    Number(u64),
}

impl ContainerError {
    /// The message in parts, for a program that does without `core::fmt`.
    pub fn words(&self) -> [Word; 4] {
        use Word::{Number, Text};
        const NOTHING: Word = Text("");
        match *self {
            Self::NotAnImage => [Text("not a resume image"), NOTHING, NOTHING, NOTHING],
            Self::Version { found } => [
                Text("format version "),
                Number(found.into()),
                Text(", this program reads "),
                Number(FORMAT_VERSION.into()),
            ],
            Self::Truncated { offset } => {
                let text = Text("the image ends early, in the chunk at byte ");
                [text, Number(offset), NOTHING, NOTHING]
            }
            Self::Damaged { offset, what } => {
                [Text("the image is damaged: "), Text(what), Text(" at byte "), Number(offset)]
            }
            Self::Unsupported { offset, what } => {
                let text = Text("written by a newer version: ");
                [text, Text(what), Text(" at byte "), Number(offset)]
            }
        }
    }
}

impl fmt::Display for ContainerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.words().iter().try_for_each(|word| match word {
            Word::Text(text) => f.write_str(text),
            Word::Number(number) => write!(f, "{number}"),
        })
    }
}

impl core::error::Error for ContainerError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn hash_is_the_same_in_pieces() {
        let bytes: alloc::vec::Vec<u8> = (0..HASH_BLOCK * 3 + 17).map(|i| (i * 7) as u8).collect();
        let whole = hash_data(&bytes, 0);
        let (a, b) = bytes.split_at(HASH_BLOCK * 2);
        assert_eq!(hash_data(b, hash_data(a, 0)), whole);
    }

    #[test]
    fn every_bit_of_a_head_counts() {
        let mut head = vec![0u8; 4096];
        let header = ChunkHeader { magic: CHUNK_MAGIC, data_start: 4096, ..Default::default() };
        head.pwrite_with(header, 0, LE).unwrap();
        let hash = ChunkHeader::compute_head_hash(&head, &[]);
        for at in (0..head.len()).filter(|at| !(64..72).contains(at)) {
            for bit in 0..8 {
                head[at] ^= 1 << bit;
                assert_ne!(ChunkHeader::compute_head_hash(&head, &[]), hash, "byte {at}");
                head[at] ^= 1 << bit;
            }
        }
    }

    #[test]
    fn hostile_lengths_are_refused() {
        let mut head = vec![0u8; 80];
        let header = ChunkHeader {
            magic: CHUNK_MAGIC,
            data_start: 4096,
            runs: u32::MAX,
            ..Default::default()
        };
        head.pwrite_with(header, 0, LE).unwrap();
        assert!(ChunkHeader::parse(&head, 0, 0, 0).is_err());
        assert!(ChunkHeader::parse(&head[..10], 0, 0, 0).is_err());
    }
}
