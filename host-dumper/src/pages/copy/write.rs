//! Chunks on their way out: as a whole when their pages are known, or piece by piece.

use super::{lock, Worker, UNREADABLE_MAX};
use crate::pages::PageError;
use image_format::container::{kind, ChunkHeader, Run};
use image_format::model::Mapping;
use image_format::PAGE_SIZE;
use linker::MappedRun;

impl Worker<'_, '_> {
    /// Where the data of the chunk that was fetched will lie, if that can be known before it is
    /// read: of what is mapped from the image every page is kept. It goes out piece by piece then,
    /// through few pages of memory that stay in the cache.
    pub(super) fn streaming_place(&self) -> Option<u64> {
        if !self.alone || self.batch.kind != kind::PAGES_MAPPED {
            return None;
        }
        let mut runs = 0;
        let mut end = None;
        for (run, _) in &self.batch.runs {
            runs += u32::from(end != Some(run.address));
            end = Some(run.address + run.pages * PAGE_SIZE);
        }
        Some(lock(self.shared.chain).len() + u64::from(ChunkHeader::data_start_for(runs)))
    }

    /// Writes what was hashed and makes room for more.
    pub(super) fn flush(&mut self) -> Result<(), PageError> {
        let Some(place) = self.streamed else { return Ok(()) };
        if self.hashed == 0 {
            return Ok(());
        }
        self.shared.sink.write_at(place, &[&self.buffer[..self.hashed]])?;
        self.streamed = Some(place + self.hashed as u64);
        self.buffer.copy_within(self.hashed..self.filled, 0);
        self.filled -= self.hashed;
        self.hashed = 0;
        Ok(())
    }

    /// Writes the chunk that was read, or its head where the data is out already.
    pub(super) fn write(&mut self) -> Result<(), PageError> {
        let pages: u64 = self.runs.iter().map(|run| run.pages).sum();
        if pages > 0 {
            let head = lock(self.shared.chain).pages(
                self.batch.kind,
                self.batch.owner,
                &self.runs,
                pages * PAGE_SIZE,
                self.hash,
                0,
            )?;
            let data = &self.buffer[..self.filled];
            let end = head.data_offset() + pages * PAGE_SIZE;
            debug_assert!(self.streamed.is_none_or(|written| written == end));
            self.shared.sink.write_at(head.offset, &[&head.bytes, data])?;
            let mut copied = lock(&self.shared.copied);
            copied.pages += pages;
            let mut offset = head.data_offset();
            for run in &self.runs {
                for part in by_mapping(self.shared.mappings, *run) {
                    if self.batch.kind == kind::PAGES_MAPPED {
                        copied.mapped.push(MappedRun {
                            address: part.run.address,
                            pages: part.run.pages,
                            file_offset: offset,
                        });
                    } else {
                        copied.filled.insert(part.mapping);
                    }
                    offset += part.run.pages * PAGE_SIZE;
                }
            }
        }
        if !self.unreadable.is_empty() {
            let mut copied = lock(&self.shared.copied);
            let room = UNREADABLE_MAX - copied.unreadable.len().min(UNREADABLE_MAX);
            copied.unreadable.extend(self.unreadable.drain(..).take(room));
        }
        Ok(())
    }
}

/// What of a run lies in one mapping.
struct Portion {
    /// First address of the mapping.
    mapping: u64,
    run: Run,
}

/// Cuts `run` at the borders of mappings: runs of adjacent ones were joined.
fn by_mapping(mappings: &[Mapping], run: Run) -> impl Iterator<Item = Portion> + '_ {
    let end = run.address + run.pages * PAGE_SIZE;
    let first = mappings.partition_point(|mapping| mapping.end <= run.address);
    mappings[first..].iter().take_while(move |mapping| mapping.start < end).map(move |mapping| {
        let start = mapping.start.max(run.address);
        let pages = (mapping.end.min(end) - start) / PAGE_SIZE;
        Portion { mapping: mapping.start, run: Run { address: start, pages } }
    })
}
