//! What is read together: stretches of pages that will be one chunk. Made on demand, so that
//! the lists stay small however large the process is.

use super::clean::CleanFiles;
use super::scan::{Scanner, Want};
use image_format::container::{kind, Run, CHUNK_DATA_MAX};
use image_format::model::{vma, Backing, Mapping};
use image_format::PAGE_SIZE;
use std::io;

/// Runs of one chunk at most: bounds the header.
const RUNS_MAX: usize = 2000;
/// Runs are cut at multiples of this, so that the restorer finds whole huge pages in a chunk.
const HUGE: u64 = 2 << 20;
/// How a run has to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// process_vm_readv reads it.
    Plain,
    /// The mapping is not readable: only /proc/PID/mem reads it.
    Forced,
    /// The pages are those of a file, which is open.
    Clean,
}

/// Which pages are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All that can only be read while the process stands still.
    Stopped,
    /// Those of [`CleanFiles`].
    Clean,
}

/// Pages of one chunk to be.
#[derive(Debug, Default)]
pub struct Batch {
    /// [`kind::PAGES`] or [`kind::PAGES_MAPPED`].
    pub kind: u16,
    /// Process index.
    pub owner: u32,
    /// The runs, ascending.
    pub runs: Vec<(Run, How)>,
    /// Their bytes.
    pub bytes: u64,
}

/// Yields batches of one process: first those that are copied at the resume, then those that
/// are mapped from the image.
#[derive(Debug)]
pub struct Batches<'a> {
    mappings: &'a [Mapping],
    owner: u32,
    part: Part,
    clean: &'a CleanFiles,
    kind: u16,
    index: usize,
    /// Next address to look at, if inside the mapping at `index`.
    at: u64,
    /// None for files, all of whose pages are wanted: by then the process runs, or has ended.
    scanner: Option<Scanner>,
    /// What was found by looking ahead.
    ahead: Option<Batch>,
}

impl<'a> Batches<'a> {
    /// The pages of `mappings` of process `owner`, which runs under `pid` here.
    pub fn new(
        mappings: &'a [Mapping],
        owner: u32,
        pid: i32,
        part: Part,
        clean: &'a CleanFiles,
    ) -> io::Result<Self> {
        let limit = mappings.last().map_or(0, |mapping| mapping.end);
        Ok(Self {
            mappings,
            owner,
            part,
            clean,
            kind: match part {
                Part::Stopped => kind::PAGES,
                Part::Clean => kind::PAGES_MAPPED,
            },
            scanner: match part {
                Part::Stopped => Some(Scanner::open(pid, Want::Held, limit)?),
                Part::Clean => None,
            },
            index: 0,
            at: 0,
            ahead: None,
        })
    }

    /// Whether there are no more pages.
    pub fn is_over(&mut self) -> io::Result<bool> {
        if self.ahead.is_none() {
            let mut batch = Batch::default();
            self.next(&mut batch)?;
            self.ahead = Some(batch);
        }
        Ok(self.ahead.as_ref().is_none_or(|batch| batch.runs.is_empty()))
    }

    /// Puts the next pages into `batch`; false when there are no more.
    pub fn next(&mut self, batch: &mut Batch) -> io::Result<bool> {
        if let Some(ahead) = self.ahead.take() {
            *batch = ahead;
            return Ok(!batch.runs.is_empty());
        }
        batch.runs.clear();
        batch.bytes = 0;
        loop {
            batch.kind = self.kind;
            batch.owner = self.owner;
            while let Some(mapping) = self.mappings.get(self.index) {
                if !self.take(mapping, batch)? {
                    return Ok(true);
                }
                self.index += 1;
            }
            if self.kind == kind::PAGES {
                self.kind = kind::PAGES_MAPPED;
                self.index = 0;
                self.at = 0;
                if batch.runs.is_empty() {
                    continue;
                }
                return Ok(true);
            }
            return Ok(!batch.runs.is_empty());
        }
    }

    /// Takes what fits of `mapping`; false when the batch is full.
    fn take(&mut self, mapping: &Mapping, batch: &mut Batch) -> io::Result<bool> {
        let from_image = is_mapped(mapping);
        let clean = from_image && self.clean.holds(mapping.start);
        if self.clean.is_elsewhere(mapping.start)
            || from_image != (self.kind == kind::PAGES_MAPPED)
            || clean != (self.part == Part::Clean)
            || mapping.flags & vma::DROPPABLE != 0
            || matches!(mapping.backing, Backing::Shared { .. } | Backing::Hugetlb { .. })
        {
            return Ok(true);
        }
        let every_page = matches!(mapping.backing, Backing::File { .. });
        let how = match self.part {
            Part::Clean => How::Clean,
            Part::Stopped if mapping.prot & 1 == 0 => How::Forced,
            Part::Stopped => How::Plain,
        };
        let step = if from_image { PAGE_SIZE } else { HUGE };
        loop {
            let from = self.at.max(mapping.start);
            let stretch = if every_page {
                (from < mapping.end).then_some((from, mapping.end))
            } else {
                match &mut self.scanner {
                    Some(scanner) => scanner.next(from, mapping.end)?,
                    None => None,
                }
            };
            let Some((start, end)) = stretch else {
                return Ok(true);
            };
            let room = CHUNK_DATA_MAX - batch.bytes;
            if room == 0 || batch.runs.len() == RUNS_MAX {
                self.at = start;
                return Ok(false);
            }
            let mut stop = end;
            if end - start > room {
                stop = (start + room) / step * step;
                if stop <= start {
                    // Less than a huge page would fit: leave it to the next chunk.
                    self.at = start;
                    return Ok(false);
                }
            }
            batch.bytes += stop - start;
            batch.runs.push((Run { address: start, pages: (stop - start) / PAGE_SIZE }, how));
            self.at = stop;
        }
    }
}

/// Whether the plan maps this mapping straight from the image.
pub fn is_mapped(mapping: &Mapping) -> bool {
    matches!(mapping.backing, Backing::File { from_image: true, .. })
}
