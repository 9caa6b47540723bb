//! The chain of chunks: walked once, every head verified, the places noted.

use crate::hash::{hash_data, head_hash};
use crate::planfile::read;
use crate::text;
use alloc::vec::Vec;
use image_format::container::{kind, ChunkHeader, ContainerError, Run};

/// A chunk whose head was found good.
#[derive(Debug, Clone, Copy)]
pub struct Chunk {
    /// Place in the file, bytes.
    pub at: u64,
    /// Its header.
    pub header: ChunkHeader,
}

impl Chunk {
    /// The run table and the data as stored.
    pub fn parts<'a>(&self, image: &'a [u8]) -> (Runs<'a>, &'a [u8]) {
        let head = &image[self.at as usize..][..self.header.data_start as usize];
        let data_at = self.at + u64::from(self.header.data_start);
        let table = &head[ChunkHeader::SIZE..][..self.header.runs as usize * Run::SIZE];
        (Runs { table }, &image[data_at as usize..][..self.header.data_len as usize])
    }

    /// Whether the stored data is what was written.
    pub fn data_is_good(&self, image: &[u8]) -> bool {
        hash_data(self.parts(image).1, 0) == self.header.data_hash
    }

    /// What messages call it.
    pub fn name(&self) -> Vec<u8> {
        text!("chunk at byte ", self.at)
    }

    /// What to say when the data is not good.
    pub fn damaged(&self) -> ContainerError {
        ContainerError::Damaged { offset: self.at, what: "data" }
    }
}

/// The run table of a chunk.
#[derive(Debug, Clone)]
pub struct Runs<'a> {
    table: &'a [u8],
}

impl Iterator for Runs<'_> {
    type Item = Run;
    fn next(&mut self) -> Option<Run> {
        let run = read(self.table, 0)?;
        self.table = self.table.get(Run::SIZE..).unwrap_or(&[]);
        Some(run)
    }
}

/// The chunks of an image.
#[derive(Debug, Default)]
pub struct Chain {
    /// All but END, in order.
    pub chunks: Vec<Chunk>,
    /// Length of the image in bytes.
    pub len: u64,
    /// Bytes of page data that are copied.
    pub page_bytes: u64,
}

/// Walks from `blob_end` to END.
pub fn walk(image: &[u8], blob_end: u64) -> Result<Chain, ContainerError> {
    let mut chain = Chain::default();
    let mut at = blob_end;
    let mut previous = 0;
    for seq in 0.. {
        let truncated = ContainerError::Truncated { offset: at };
        let rest = usize::try_from(at).ok().and_then(|at| image.get(at..)).ok_or(truncated)?;
        let header: ChunkHeader = read(rest, 0).ok_or(truncated)?;
        let header = header.check(at, seq, previous)?;
        let data_start = header.data_start as usize;
        let data_end = data_start + header.data_len as usize;
        let stride = header.stride() as usize;
        // The last chunk's padding may be missing nowhere: writers pad it too.
        let (head, tail) =
            rest.get(..data_start).zip(rest.get(data_end..stride)).ok_or(truncated)?;
        if head_hash(head, tail) != header.head_hash {
            return Err(ContainerError::Damaged { offset: at, what: "chunk header" });
        }
        let chunk = Chunk { at, header };
        check(&chunk, image)?;
        at += header.stride();
        previous = header.head_hash;
        if header.kind == kind::END {
            if header.offset != at {
                return Err(ContainerError::Damaged { offset: chunk.at, what: "image length" });
            }
            chain.len = at;
            return Ok(chain);
        }
        if header.kind == kind::PAGES {
            chain.page_bytes += header.raw_len;
        }
        chain.chunks.push(chunk);
    }
    Err(ContainerError::Truncated { offset: at })
}

/// What lengths must agree for the chunk to be read without surprise.
fn check(chunk: &Chunk, image: &[u8]) -> Result<(), ContainerError> {
    let header = &chunk.header;
    let damaged = |what| Err(ContainerError::Damaged { offset: chunk.at, what });
    // No dumper writes packed chunks yet.
    if header.flags != 0 || header.raw_len != header.data_len {
        return damaged("data length");
    }
    if matches!(header.kind, kind::PAGES | kind::PAGES_MAPPED) {
        let (runs, _) = chunk.parts(image);
        let mut pages = 0u64;
        for run in runs {
            let end = run.pages.checked_mul(4096).and_then(|n| n.checked_add(run.address));
            if end.is_none() || run.address % 4096 != 0 {
                return damaged("run table");
            }
            pages = pages.saturating_add(run.pages);
        }
        if pages.saturating_mul(4096) != header.raw_len {
            return damaged("run table");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use image_format::container::CHUNK_MAGIC;
    use scroll::{Pwrite, LE};

    fn chunk(kind: u16, seq: u32, previous: u64, runs: &[Run], data: &[u8], end: u64) -> Vec<u8> {
        let mut header = ChunkHeader {
            magic: CHUNK_MAGIC,
            kind,
            seq,
            previous,
            runs: runs.len() as u32,
            data_start: 4096,
            data_len: data.len() as u64,
            raw_len: data.len() as u64,
            data_hash: hash_data(data, 0),
            offset: end,
            ..Default::default()
        };
        let mut bytes = vec![0; header.stride() as usize];
        bytes[4096..][..data.len()].copy_from_slice(data);
        for (i, run) in runs.iter().enumerate() {
            bytes.pwrite_with(*run, ChunkHeader::SIZE + i * Run::SIZE, LE).unwrap();
        }
        bytes.pwrite_with(header, 0, LE).unwrap();
        let (head, rest) = bytes.split_at(4096);
        header.head_hash = ChunkHeader::compute_head_hash(head, &rest[data.len()..]);
        bytes.pwrite_with(header, 0, LE).unwrap();
        bytes
    }

    fn image() -> Vec<u8> {
        let mut image = vec![0; 4096];
        let runs = [Run { address: 0x10000, pages: 1 }, Run { address: 0x30000, pages: 2 }];
        let first = chunk(kind::PAGES, 0, 0, &runs, &[5; 3 * 4096], 0);
        let hash = ChunkHeader::parse(&first, 0, 0, 0).unwrap().head_hash;
        image.extend(&first);
        let end = image.len() as u64 + 4096;
        image.extend(chunk(kind::END, 1, hash, &[], &[], end));
        image
    }

    #[test]
    fn walks_to_the_end() {
        let image = image();
        let chain = walk(&image, 4096).unwrap();
        assert_eq!((chain.chunks.len(), chain.page_bytes), (1, 3 * 4096));
        assert_eq!(chain.len, image.len() as u64);
        assert!(chain.chunks[0].data_is_good(&image));
        let runs: Vec<_> = chain.chunks[0].parts(&image).0.collect();
        assert_eq!((runs.len(), runs[1].address), (2, 0x30000));
    }

    #[test]
    fn every_flip_is_found_and_every_cut() {
        let good = image();
        for at in 4096..good.len() {
            let mut image = good.clone();
            image[at] ^= 0x10;
            let found = walk(&image, 4096)
                .is_ok_and(|chain| chain.chunks.iter().all(|c| c.data_is_good(&image)));
            assert!(!found, "byte {at}");
        }
        for len in (4096..good.len()).step_by(512) {
            assert!(walk(&good[..len], 4096).is_err());
        }
    }
}
