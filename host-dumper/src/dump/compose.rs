//! The image of a stopped process, written front to back.

use crate::capture::Captured;
use crate::pages::{copy_pages, Buffer, CleanFiles, CopyOptions, PageError, Part, Progress};
use crate::sink::Sink;
use image_format::codec::encode_all;
use image_format::container::{hash_data, kind, HASH_BLOCK};
use image_format::model::{Contents, FileObject, Tree};
use linker::{ChainWriter, ChunkHead, ImageMap, Layout, LinkError, PlanOptions};
use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

/// Bytes of an embedded file that become a chunk; whole blocks, so that the hash of the file can
/// be computed on the way.
const PIECE: usize = 8 * HASH_BLOCK;

/// An image being written.
pub struct Composer<'a> {
    sink: &'a dyn Sink,
    layout: Layout,
    chain: Mutex<ChainWriter>,
    map: ImageMap,
    /// For each process: files whose pages are read after it was let go.
    clean: Vec<CleanFiles>,
    buffer: Buffer,
    /// Pages stored so far.
    pub pages: u64,
}

impl<'a> Composer<'a> {
    /// Writes what lies before the first chunk.
    pub fn begin(
        sink: &'a dyn Sink,
        captured: &Captured,
        buffer: Buffer,
    ) -> Result<Self, PageError> {
        let layout = linker::layout(&captured.tree)?;
        let created = captured.tree.source.realtime_ns.max(0) as u64 / 1_000_000_000;
        let front = linker::front(&layout, image_id()?, created)?;
        sink.write_at(0, &[&front])?;
        Ok(Self {
            sink,
            layout,
            chain: Mutex::new(ChainWriter::new(front.len() as u64)),
            map: ImageMap::default(),
            clean: Vec::new(),
            buffer,
            pages: 0,
        })
    }

    /// Opens the files behind clean mappings, so that [`Part::Clean`] can be read when the
    /// processes run again.
    pub fn open_clean(&mut self, captured: &Captured, pids: &[i32]) {
        let each = pids.iter().zip(&captured.tree.processes);
        self.clean =
            each.map(|(pid, process)| CleanFiles::open(*pid, &process.memory.mappings)).collect();
    }

    /// Writes the pages of every process; `pids` are their names here. Returns notes.
    pub fn pages(
        &mut self,
        captured: &Captured,
        pids: &[i32],
        workers: usize,
        part: Part,
        progress: &dyn Progress,
    ) -> Result<Vec<String>, PageError> {
        let mut notes = Vec::new();
        let processes = captured.tree.processes.len();
        self.map.mapped.resize(processes, Vec::new());
        self.map.filled.resize(processes, BTreeSet::new());
        self.clean.resize_with(processes, CleanFiles::default);
        for (owner, (pid, process)) in pids.iter().zip(&captured.tree.processes).enumerate() {
            let mappings = &process.memory.mappings;
            let options = CopyOptions { pid: *pid, owner: owner as u32, workers, part };
            let copied = copy_pages(
                mappings,
                &self.clean[owner],
                options,
                &mut self.buffer,
                &self.chain,
                self.sink,
                progress,
            )?;
            self.pages += copied.pages;
            self.map.mapped[owner].extend(copied.mapped);
            self.map.filled[owner].extend(copied.filled);
            notes.extend(super::notes::unreadable(&captured.tree, owner, *pid, &copied.unreadable));
        }
        Ok(notes)
    }

    /// Writes the contents of files that travel along.
    pub fn files(&mut self, captured: &Captured, progress: &dyn Progress) -> Result<(), PageError> {
        let mut buffer = Vec::new();
        for embed in &captured.embeds {
            let error = |source| PageError::File { what: embed.what.clone(), source };
            let file = std::fs::File::open(&embed.open).map_err(error)?;
            // Holes need not be stored; a hash is of all bytes, though.
            let sparse = embed.hash.is_none();
            buffer.resize(PIECE, 0);
            let mut whole = 0;
            let mut offset = 0;
            let mut end = if sparse { 0 } else { embed.size };
            while offset < embed.size {
                if offset >= end {
                    let found = seek(&file, offset, libc::SEEK_DATA).map_err(error)?;
                    let Some(start) = found.filter(|&at| at < embed.size) else { break };
                    offset = start;
                    end = seek(&file, start, libc::SEEK_HOLE).map_err(error)?.unwrap_or(embed.size);
                    end = end.clamp(start + 1, embed.size);
                }
                let want = (end - offset).min(buffer.len() as u64) as usize;
                let piece = &mut buffer[..want];
                file.read_exact_at(piece, offset).map_err(|source| match source.kind() {
                    std::io::ErrorKind::UnexpectedEof => {
                        PageError::FileChanged { what: embed.what.clone() }
                    }
                    _ => error(source),
                })?;
                let hash = hash_data(piece, 0);
                whole = hash_data(piece, whole);
                let head = self.chain().file(embed.number, offset, want as u64, hash)?;
                self.put(&head, &buffer[..want])?;
                offset += want as u64;
                if !progress.advance(want as u64) {
                    return Err(PageError::Aborted);
                }
            }
            if expected_hash(&captured.tree, embed.number).is_some_and(|hash| hash != whole) {
                return Err(PageError::FileChanged { what: embed.what.clone() });
            }
        }
        Ok(())
    }

    /// Writes model and plan. Returns the size of the image.
    pub fn end(&mut self, captured: &Captured, options: PlanOptions) -> Result<u64, PageError> {
        let model = encode_all(&captured.tree);
        let head = self.chain().blob(kind::MODEL, &model)?;
        self.put(&head, &model)?;
        let plan = linker::compile(&captured.tree, &self.layout, &self.map, &options)?;
        let head = self.chain().blob(kind::PLAN, &plan)?;
        self.put(&head, &plan)?;
        let head = self.chain().end()?;
        self.put(&head, &[])?;
        Ok(self.chain().len())
    }

    fn chain(&self) -> std::sync::MutexGuard<'_, ChainWriter> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, head: &ChunkHead, data: &[u8]) -> Result<(), PageError> {
        let padding = vec![0; head.tail_padding];
        self.sink.write_at(head.offset, &[&head.bytes, data, &padding])?;
        Ok(())
    }
}

/// Where the next data or hole of a file begins, at or after `offset`, in bytes; none when no data
/// follows. A file system that does not know holes has data everywhere.
fn seek(file: &std::fs::File, offset: u64, whence: libc::c_int) -> std::io::Result<Option<u64>> {
    // SAFETY: takes numbers only. Nothing else uses the position of this descriptor.
    let at = unsafe { libc::lseek(file.as_raw_fd(), offset as libc::off_t, whence) };
    match nix::errno::Errno::result(at) {
        Ok(at) => Ok(Some(at as u64)),
        Err(nix::errno::Errno::EINVAL) if whence == libc::SEEK_DATA => Ok(Some(offset)),
        Err(nix::errno::Errno::ENXIO | nix::errno::Errno::EINVAL) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// What the capture found an embedded file's contents to be.
fn expected_hash(tree: &Tree, number: u32) -> Option<u64> {
    tree.files.iter().find_map(|file| match file.object {
        FileObject::Regular {
            contents: Contents::Whole { hash, embedded: Some(found) }, ..
        } if found == number => Some(hash),
        _ => None,
    })
}

fn image_id() -> Result<[u8; 16], LinkError> {
    let mut id = [0; 16];
    // SAFETY: `id` is a writable buffer of the length given.
    let got = unsafe { libc::getrandom(id.as_mut_ptr().cast(), id.len(), 0) };
    if got == id.len() as isize {
        Ok(id)
    } else {
        Err(LinkError::Model { pid: 0, what: "no random numbers from the kernel" })
    }
}
