//! Reads an image front to back. Its bytes may be hostile: every length is bounded, and nothing
//! is allocated that the input has not already shown to be there.

use image_format::codec::{decode_all, DecodeError};
use image_format::container::{
    hash_data, hash_without_word, kind, ChunkHeader, ContainerError, Front, Run, HASH_BLOCK,
};
use image_format::model::Tree;
use image_format::PAGE_SIZE;
use scroll::{Pread, LE};
use std::io::{self, Read};

/// A restorer larger than this is none.
const FRONT_MAX: u64 = 16 << 20;
/// Model and plan of the largest process imaginable; beyond it, damage is more likely.
const BLOB_MAX: u64 = 1 << 30;
/// A run table larger than this was not written by this program.
const HEAD_MAX: u64 = 64 << 20;

/// What an image holds, page contents aside.
#[derive(Debug)]
pub struct Image {
    /// The image's own header.
    pub front: Front,
    /// Size in bytes, END included.
    pub size: u64,
    /// Number of chunks.
    pub chunks: u32,
    /// Runs of stored pages, ascending.
    pub runs: Vec<StoredRun>,
    /// Files that travel along: number and bytes.
    pub files: Vec<(u32, u64)>,
    /// The model.
    pub tree: Tree,
    /// The plan, as it is.
    pub plan: Vec<u8>,
}

/// A run of stored pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredRun {
    /// Process index.
    pub owner: u32,
    /// Address of the first page.
    pub address: u64,
    /// Number of pages.
    pub pages: u64,
    /// Mapped straight from the image at the resume.
    pub mapped: bool,
}

/// Why an image cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The medium failed.
    #[error("cannot read it: {}", crate::failure::errno_text(.0))]
    Read(#[from] io::Error),
    /// The container is damaged or foreign.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The model is damaged.
    #[error("the model in the image is damaged: {0}")]
    Model(DecodeError),
    /// Something is missing.
    #[error("the image holds no {what}")]
    Missing {
        /// What.
        what: &'static str,
    },
    /// The plan is damaged.
    #[error(transparent)]
    Plan(#[from] linker::LinkError),
}

/// Reads an image. With `verify`, page data is checked against its hashes too.
pub fn read(mut input: impl Read, verify: bool) -> Result<Image, InspectError> {
    let mut parts = Parts::default();
    let walked = walk(&mut input, Depth { verify, keep: true }, &mut |header, head, data| {
        parts.add(header, head, data)
    })?;
    parts.finish(walked)
}

/// Checks every byte of an image and keeps none. Returns its length in bytes.
pub fn verify(mut input: impl Read) -> Result<u64, InspectError> {
    let depth = Depth { verify: true, keep: false };
    Ok(walk(&mut input, depth, &mut |_, _, _| Ok(()))?.size)
}

/// What becomes of the data of chunks.
#[derive(Debug, Clone, Copy)]
struct Depth {
    /// Pages and files are hashed; model and plan always are.
    verify: bool,
    /// Model and plan are kept.
    keep: bool,
}

#[derive(Clone, Copy)]
struct Walked {
    front: Front,
    size: u64,
    chunks: u32,
}

type Visit<'a> =
    &'a mut dyn FnMut(&ChunkHeader, &[u8], Vec<u8>) -> Result<(), DamagedOr<InspectError>>;

/// Goes through all chunks; `visit` gets each but END.
fn walk(input: &mut dyn Read, depth: Depth, visit: Visit<'_>) -> Result<Walked, InspectError> {
    let front = read_front(input)?;
    let mut offset = front.blob_end;
    let (mut seq, mut previous) = (0_u32, 0);
    loop {
        let damaged = |what| ContainerError::Damaged { offset, what };
        let (header, head) = read_head(input, offset, seq, previous)?;
        let data = read_data(input, offset, &header, depth)?;
        let padding = header.stride() - u64::from(header.data_start) - header.data_len;
        let tail = take(input, padding, offset)?;
        if ChunkHeader::compute_head_hash(&head, &tail) != header.head_hash {
            return Err(damaged("checksum of a chunk's header").into());
        }
        let next = offset.checked_add(header.stride()).ok_or(damaged("chunk lengths"))?;
        if header.kind == kind::END {
            if header.offset != next {
                return Err(damaged("length of the image").into());
            }
            return Ok(Walked { front, size: next, chunks: seq + 1 });
        }
        visit(&header, &head, data).map_err(|error| match error {
            DamagedOr::Damaged(what) => damaged(what).into(),
            DamagedOr::Other(error) => error,
        })?;
        previous = header.head_hash;
        seq = seq.checked_add(1).ok_or(damaged("number of chunks"))?;
        offset = next;
    }
}

/// Damage, whose place the caller knows, or another error.
enum DamagedOr<E> {
    Damaged(&'static str),
    Other(E),
}

#[derive(Default)]
struct Parts {
    runs: Vec<StoredRun>,
    files: Vec<(u32, u64)>,
    tree: Option<Tree>,
    plan: Option<Vec<u8>>,
}

impl Parts {
    fn add(
        &mut self,
        header: &ChunkHeader,
        head: &[u8],
        data: Vec<u8>,
    ) -> Result<(), DamagedOr<InspectError>> {
        match header.kind {
            kind::PAGES | kind::PAGES_MAPPED => {
                self.add_runs(header, head).map_err(DamagedOr::Damaged)?;
            }
            kind::FILE => match self.files.last_mut() {
                Some((number, size)) if *number == header.owner => {
                    *size = size.saturating_add(header.raw_len);
                }
                _ => self.files.push((header.owner, header.raw_len)),
            },
            kind::MODEL => {
                let tree = decode_all(&data);
                self.tree =
                    Some(tree.map_err(|error| DamagedOr::Other(InspectError::Model(error)))?);
            }
            kind::PLAN => self.plan = Some(data),
            _ => return Err(DamagedOr::Damaged("kind of a chunk")),
        }
        Ok(())
    }

    fn add_runs(&mut self, header: &ChunkHeader, head: &[u8]) -> Result<(), &'static str> {
        const DAMAGED: &str = "run table";
        let mut bytes = 0u64;
        for index in 0..header.runs as usize {
            let run: Run =
                head.pread_with(ChunkHeader::SIZE + index * Run::SIZE, LE).map_err(|_| DAMAGED)?;
            let len = run.pages.checked_mul(PAGE_SIZE).ok_or(DAMAGED)?;
            run.address.checked_add(len).ok_or(DAMAGED)?;
            bytes = bytes.checked_add(len).ok_or(DAMAGED)?;
            self.runs.push(StoredRun {
                owner: header.owner,
                address: run.address,
                pages: run.pages,
                mapped: header.kind == kind::PAGES_MAPPED,
            });
        }
        if bytes == header.raw_len {
            Ok(())
        } else {
            Err(DAMAGED)
        }
    }

    fn finish(mut self, walked: Walked) -> Result<Image, InspectError> {
        self.runs.sort_unstable();
        Ok(Image {
            front: walked.front,
            size: walked.size,
            chunks: walked.chunks,
            runs: self.runs,
            files: self.files,
            tree: self.tree.ok_or(InspectError::Missing { what: "model" })?,
            plan: self.plan.ok_or(InspectError::Missing { what: "plan" })?,
        })
    }
}

fn read_front(input: &mut dyn Read) -> Result<Front, InspectError> {
    let damaged = |what| ContainerError::Damaged { offset: 0, what };
    let mut bytes = Vec::new();
    input.take(PAGE_SIZE).read_to_end(&mut bytes)?;
    let front = Front::parse(&bytes)?;
    if front.blob_end > FRONT_MAX {
        return Err(damaged("length of the restorer").into());
    }
    input.take(front.blob_end.saturating_sub(PAGE_SIZE)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != front.blob_end {
        return Err(ContainerError::Truncated { offset: 0 }.into());
    }
    if hash_without_word(&bytes, Front::HASH_OFFSET) == front.hash {
        Ok(front)
    } else {
        Err(damaged("checksum of the restorer").into())
    }
}

fn read_head(
    input: &mut dyn Read,
    offset: u64,
    seq: u32,
    previous: u64,
) -> Result<(ChunkHeader, Vec<u8>), InspectError> {
    let mut head = take(input, PAGE_SIZE, offset)?;
    let header = ChunkHeader::parse(&head, offset, seq, previous)?;
    let len = u64::from(header.data_start);
    if !(PAGE_SIZE..=HEAD_MAX).contains(&len) {
        let what = "length of a run table";
        return Err(ContainerError::Damaged { offset, what }.into());
    }
    let rest = take(input, len - PAGE_SIZE, offset)?;
    head.extend_from_slice(&rest);
    Ok((header, head))
}

/// The data of model and plan; that of other chunks is only passed over.
fn read_data(
    input: &mut dyn Read,
    offset: u64,
    header: &ChunkHeader,
    depth: Depth,
) -> Result<Vec<u8>, InspectError> {
    let damaged = |what| ContainerError::Damaged { offset, what };
    let central = matches!(header.kind, kind::MODEL | kind::PLAN);
    let (keep, verify) = (central && depth.keep, central || depth.verify);
    if central && header.flags != 0 {
        let what = "packed model or plan";
        return Err(ContainerError::Unsupported { offset, what }.into());
    }
    if central && header.data_len > BLOB_MAX {
        return Err(damaged("length of model or plan").into());
    }
    let mut kept = Vec::new();
    let mut hash = 0;
    let mut left = header.data_len;
    let mut block = Vec::new();
    while left > 0 {
        let want = left.min(HASH_BLOCK as u64);
        block.clear();
        input.take(want).read_to_end(&mut block)?;
        if block.len() as u64 != want {
            return Err(ContainerError::Truncated { offset }.into());
        }
        if verify {
            hash = hash_data(&block, hash);
        }
        if keep {
            kept.extend_from_slice(&block);
        }
        left -= want;
    }
    if verify && hash != header.data_hash {
        return Err(damaged("checksum of a chunk's data").into());
    }
    Ok(kept)
}

/// Exactly `len` bytes; the buffer grows with what is there.
fn take(input: &mut dyn Read, len: u64, offset: u64) -> Result<Vec<u8>, InspectError> {
    let mut bytes = Vec::new();
    input.take(len).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == len {
        Ok(bytes)
    } else {
        Err(ContainerError::Truncated { offset }.into())
    }
}

impl Image {
    /// Bytes stored of the pages in `start..end` of process `owner`.
    pub fn stored(&self, owner: u32, start: u64, end: u64) -> u64 {
        // The list is ascending, and disjoint in every image that this program writes, so that
        // only the run before the first can reach in.
        let first = self.runs.partition_point(|run| (run.owner, run.address) < (owner, start));
        let before = first.saturating_sub(1);
        self.runs[before..]
            .iter()
            .skip_while(|run| run.owner < owner)
            .take_while(|run| run.owner == owner && run.address < end)
            .map(|run| {
                let stop = run.address.saturating_add(run.pages.saturating_mul(PAGE_SIZE));
                stop.min(end).saturating_sub(run.address.max(start))
            })
            .fold(0, u64::saturating_add)
    }
}
