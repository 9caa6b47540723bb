//! How long an image is, from the headers of its chunks alone: media do not tell.

use crate::inspect::InspectError;
use image_format::container::{kind, ChunkHeader, ContainerError, Front};
use image_format::PAGE_SIZE;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The length of the image at the beginning of `file`, in bytes. Data is not looked at.
pub fn length(file: &File) -> Result<u64, InspectError> {
    let mut page = [0; PAGE_SIZE as usize];
    let mut offset = front(file, &mut page)?.blob_end;
    let (mut seq, mut previous) = (0_u32, 0);
    loop {
        let damaged = |what| ContainerError::Damaged { offset, what };
        read_at(file, offset, &mut page)?;
        let header = ChunkHeader::parse(&page, offset, seq, previous)?;
        let next = offset.checked_add(header.stride()).ok_or(damaged("chunk lengths"))?;
        if header.kind == kind::END {
            if header.offset != next {
                return Err(damaged("length of the image").into());
            }
            return Ok(next);
        }
        previous = header.head_hash;
        seq = seq.checked_add(1).ok_or(damaged("number of chunks"))?;
        offset = next;
    }
}

/// The image's own header; of an image that ends behind it, the end is the matter.
fn front(file: &File, page: &mut [u8]) -> Result<Front, InspectError> {
    let mut len = 0;
    while len < page.len() {
        match file.read_at(&mut page[len..], len as u64)? {
            0 => break,
            read => len += read,
        }
    }
    let front = Front::parse(&page[..len])?;
    if len < page.len() {
        return Err(ContainerError::Truncated { offset: 0 }.into());
    }
    Ok(front)
}

fn read_at(file: &File, offset: u64, page: &mut [u8]) -> Result<(), InspectError> {
    file.read_exact_at(page, offset).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ContainerError::Truncated { offset }.into(),
        _ => error.into(),
    })
}
