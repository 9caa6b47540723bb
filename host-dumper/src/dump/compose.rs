//! The image of a stopped process, written front to back.

use super::embeds::EmbedReader;
use crate::capture::Captured;
use crate::pages::{
    copy_pages, find_guards, Buffer, CleanFiles, Common, CopyOptions, Found, PageError, Part,
    Progress, Scanner, Want,
};
use crate::sink::Sink;
use image_format::arch::x86_64 as arch;
use image_format::codec::encode_all;
use image_format::container::{hash_data, kind, HASH_BLOCK};
use image_format::model::{Contents, FileObject, Tree};
use linker::{ChainWriter, ChunkHead, EmbeddedPiece, ImageMap, Layout, LinkError, PlanOptions};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Bytes of an embedded file that become a chunk; whole blocks, so that the hash of the file can
/// be computed on the way.
const PIECE: usize = 8 * HASH_BLOCK;

/// An image being written.
pub struct Composer<'a> {
    sink: &'a dyn Sink,
    layout: Layout,
    /// When the image was begun, seconds since the epoch.
    created: u64,
    /// What lies before the first chunk is still to be written.
    front_missing: bool,
    chain: Mutex<ChainWriter>,
    map: ImageMap,
    /// For each process: its mappings whose pages are a file's.
    clean: Vec<CleanFiles>,
    common: Common,
    /// For each process: whether it has instructions that only some processors know; empty where
    /// this one knows none such.
    code: Vec<Found>,
    buffer: Buffer,
    /// Pages stored so far.
    pub pages: u64,
}

impl<'a> Composer<'a> {
    /// Begins an image. What lies before the first chunk is the same length always, and where the
    /// sink allows it is written at the end: the process need not stand still for it.
    pub fn begin(
        sink: &'a dyn Sink,
        captured: &Captured,
        buffer: Buffer,
    ) -> Result<Self, PageError> {
        let layout = linker::layout(&captured.tree)?;
        let created = captured.tree.source.realtime_ns.max(0) as u64 / 1_000_000_000;
        let mut composer = Self {
            sink,
            layout,
            created,
            front_missing: true,
            chain: Mutex::new(ChainWriter::new(linker::front_len()?)),
            map: ImageMap::default(),
            clean: Vec::new(),
            common: Common::default(),
            code: if arch::is_rare(&captured.tree.source.cpu) {
                let processes = captured.tree.processes.iter();
                processes.map(|process| Found::before(&process.memory.mappings)).collect()
            } else {
                Vec::new()
            },
            buffer,
            pages: 0,
        };
        if !sink.parallel() {
            composer.front()?;
        }
        Ok(composer)
    }

    /// Writes what lies before the first chunk.
    fn front(&mut self) -> Result<(), PageError> {
        let front = linker::front(&self.layout, image_id()?, self.created)?;
        self.sink.write_at(0, &[&front])?;
        self.front_missing = false;
        Ok(())
    }

    /// Looks at the pages: finds the guard regions, and the mappings that show nothing but a file.
    /// Several processes' are stored once, and with `later` the files are opened, so that
    /// [`Part::Clean`] can be read when the processes run again.
    pub fn look(
        &mut self,
        captured: &mut Captured,
        pids: &[i32],
        later: bool,
    ) -> Result<(), PageError> {
        let each = pids.iter().zip(&mut captured.tree.processes).zip(&captured.mapped_files);
        for (owner, ((pid, process), files)) in each.enumerate() {
            let failed = |source| PageError::Scan { pid: *pid, source };
            let mut scanner = Scanner::open(*pid, Want::Guard, 0).map_err(failed)?;
            let mappings = &process.memory.mappings;
            process.memory.guards = find_guards(&mut scanner, mappings).map_err(failed)?;
            if !later && pids.len() == 1 {
                continue;
            }
            let mut clean = CleanFiles::look(&mut scanner, mappings);
            clean.share(owner, mappings, files, &mut self.common);
            if later {
                clean.open(*pid, mappings, files);
            }
            self.clean.push(clean);
        }
        Ok(())
    }

    /// Bytes of memory that are not stored a second time.
    pub fn spared(&self) -> u64 {
        self.common.spared()
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
            let search = !self.code.is_empty();
            let options = CopyOptions { pid: *pid, owner: owner as u32, workers, part, search };
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
            if let Some(code) = self.code.get_mut(owner) {
                code.add(copied.code);
            }
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
            let error = |source: std::io::Error| match source.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    PageError::FileChanged { what: embed.what.clone() }
                }
                _ => PageError::File { what: embed.what.clone(), source },
            };
            let mut contents = EmbedReader::open(embed).map_err(error)?;
            buffer.resize(embed.size.clamp(1, PIECE as u64) as usize, 0);
            let mut whole = 0;
            while let Some((offset, len)) = contents.next(&mut buffer).map_err(error)? {
                let piece = &buffer[..len];
                let hash = hash_data(piece, 0);
                whole = hash_data(piece, whole);
                let head = self.chain().file(embed.number, offset, len as u64, hash)?;
                let place =
                    EmbeddedPiece { offset, len: len as u64, file_offset: head.data_offset() };
                self.map.embedded.entry(embed.number).or_default().push(place);
                self.put(&head, piece)?;
                if !progress.advance(len as u64) {
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
        self.common.complete(&mut self.map.mapped);
        let options = PlanOptions { rare: self.code.iter().any(Found::is_rare), ..options };
        let plan = linker::compile(&captured.tree, &self.layout, &self.map, &options)?;
        let head = self.chain().blob(kind::PLAN, &plan)?;
        self.put(&head, &plan)?;
        let head = self.chain().end()?;
        self.put(&head, &[])?;
        if self.front_missing {
            self.front()?;
        }
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
