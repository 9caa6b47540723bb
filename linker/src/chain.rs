//! Headers and places of the chunks, in the order in which they are written.

use crate::LinkError;
use image_format::container::{hash_data, kind, ChunkHeader, Run, CHUNK_MAGIC};
use image_format::{page_up, PAGE_SIZE};
use scroll::{Pwrite, LE};

/// Gives each chunk its place and header. Only this needs an order; reading, hashing and
/// writing of the data can go on beside it.
#[derive(Debug)]
pub struct ChainWriter {
    next: u64,
    seq: u32,
    previous: u64,
}

/// What is to be written for a chunk: `bytes` at `offset`, the data at once after them, then
/// `tail_padding` zero bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkHead {
    /// Place in the file, bytes.
    pub offset: u64,
    /// Header, run table, padding up to the data.
    pub bytes: Vec<u8>,
    /// Zero bytes after the data.
    pub tail_padding: usize,
}

impl ChunkHead {
    /// Place of the chunk's data in the file, bytes.
    pub fn data_offset(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

impl ChainWriter {
    /// The first chunk lies at `first_offset` bytes (the length of [`crate::front`]).
    pub fn new(first_offset: u64) -> Self {
        Self { next: first_offset, seq: 0, previous: 0 }
    }

    /// Bytes of the file so far.
    pub fn len(&self) -> u64 {
        self.next
    }

    /// Whether nothing lies before the next chunk.
    pub fn is_empty(&self) -> bool {
        self.next == 0
    }

    /// A chunk of pages of process `owner`: `kind` is [`kind::PAGES`] or [`kind::PAGES_MAPPED`].
    /// `data_len` bytes are stored and hash to `data_hash`; unpacked they are the pages of `runs`.
    pub fn pages(
        &mut self,
        kind: u16,
        owner: u32,
        runs: &[Run],
        data_len: u64,
        data_hash: u64,
        flags: u16,
    ) -> Result<ChunkHead, LinkError> {
        let raw_len = runs.iter().map(|r| r.pages * PAGE_SIZE).sum();
        self.chunk(
            &ChunkHeader { kind, owner, flags, data_len, raw_len, data_hash, ..Default::default() },
            runs,
        )
    }

    /// A piece of embedded file `number` that begins at `offset` in the file.
    pub fn file(
        &mut self,
        number: u32,
        offset: u64,
        data_len: u64,
        data_hash: u64,
    ) -> Result<ChunkHead, LinkError> {
        let header = ChunkHeader {
            kind: kind::FILE,
            owner: number,
            offset,
            data_len,
            raw_len: data_len,
            data_hash,
            ..Default::default()
        };
        self.chunk(&header, &[])
    }

    /// The model or the plan ([`kind::MODEL`], [`kind::PLAN`]) with `data` as contents.
    pub fn blob(&mut self, kind: u16, data: &[u8]) -> Result<ChunkHead, LinkError> {
        let len = data.len() as u64;
        let data_hash = hash_data(data, 0);
        self.chunk(
            &ChunkHeader { kind, data_len: len, raw_len: len, data_hash, ..Default::default() },
            &[],
        )
    }

    /// The last chunk.
    pub fn end(&mut self) -> Result<ChunkHead, LinkError> {
        let total = self.next + u64::from(ChunkHeader::data_start_for(0));
        let data_hash = hash_data(&[], 0);
        self.chunk(
            &ChunkHeader { kind: kind::END, offset: total, data_hash, ..Default::default() },
            &[],
        )
    }

    fn chunk(&mut self, header: &ChunkHeader, runs: &[Run]) -> Result<ChunkHead, LinkError> {
        let large = |_| LinkError::TooLarge { what: "a chunk's run table" };
        let count = u32::try_from(runs.len())
            .map_err(|_| LinkError::TooLarge { what: "a chunk's run table" })?;
        let header = ChunkHeader {
            magic: CHUNK_MAGIC,
            seq: self.seq,
            previous: self.previous,
            runs: count,
            data_start: ChunkHeader::data_start_for(count),
            ..*header
        };
        let mut bytes = vec![0; header.data_start as usize];
        bytes.pwrite_with(header, 0, LE).map_err(large)?;
        let mut at = ChunkHeader::SIZE;
        for run in runs {
            at += bytes.pwrite_with(*run, at, LE).map_err(large)?;
        }
        let tail_padding = (page_up(header.data_len) - header.data_len) as usize;
        let hash = ChunkHeader::compute_head_hash(&bytes, &vec![0; tail_padding]);
        bytes.pwrite_with(hash, ChunkHeader::HASH_OFFSET, LE).map_err(large)?;
        let head = ChunkHead { offset: self.next, bytes, tail_padding };
        self.next += header.stride();
        self.seq += 1;
        self.previous = hash;
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_can_be_walked() {
        let mut chain = ChainWriter::new(8192);
        let data = [3u8; 8192];
        let mut file = vec![0u8; 8192];
        let hash = hash_data(&data, 0);
        let runs = [Run { address: 0x1000, pages: 1 }, Run { address: 0x9000, pages: 1 }];
        let heads = [
            (chain.pages(kind::PAGES, 0, &runs, 8192, hash, 0).unwrap(), &data[..]),
            (chain.blob(kind::MODEL, b"hello").unwrap(), &b"hello"[..]),
            (chain.end().unwrap(), &[][..]),
        ];
        for (head, data) in heads {
            assert_eq!(head.offset, file.len() as u64);
            file.extend_from_slice(&head.bytes);
            file.extend_from_slice(data);
            file.resize(file.len() + head.tail_padding, 0);
        }
        let (mut at, mut seq, mut previous) = (8192, 0, 0);
        loop {
            let header = ChunkHeader::parse(&file[at..], at as u64, seq, previous).unwrap();
            let data = at + header.data_start as usize;
            let end = data + header.data_len as usize;
            let next = at + header.stride() as usize;
            assert_eq!(hash_data(&file[data..end], 0), header.data_hash);
            assert_eq!(
                ChunkHeader::compute_head_hash(&file[at..data], &file[end..next]),
                header.head_hash
            );
            (seq, previous, at) = (seq + 1, header.head_hash, next);
            if header.kind == kind::END {
                assert_eq!(header.offset as usize, file.len());
                break;
            }
        }
        assert_eq!((seq, at), (3, file.len()));
    }
}
