//! Reads pages, drops zero pages, hashes, writes; by several threads.
//!
//! The order of the chunks is the order in which they were ready: only the place in the chain is
//! given under a lock, the writing itself goes on in parallel.

mod write;

use super::batch::{Batch, Batches, How, Part};
use super::clean::CleanFiles;
use super::code::{Found, Search};
use super::zero::is_zero;
use super::PageError;
use crate::sink::Sink;
use image_format::container::{hash_data, kind, Run, CHUNK_DATA_MAX, HASH_BLOCK};
use image_format::model::Mapping;
use image_format::PAGE_SIZE;
use linker::{ChainWriter, MappedRun};
use nix::sys::uio::{process_vm_readv, RemoteIoVec};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

const PAGE: usize = PAGE_SIZE as usize;

/// Whoever wants to know how far the copying is.
pub trait Progress: Sync {
    /// `bytes` more were looked at. False calls the dump off.
    fn advance(&self, bytes: u64) -> bool;
}

/// Where from, and with how many threads.
#[derive(Debug, Clone, Copy)]
pub struct CopyOptions {
    /// The process as it is called here.
    pub pid: i32,
    /// Its index in the model.
    pub owner: u32,
    /// Threads at most.
    pub workers: usize,
    /// Which pages.
    pub part: Part,
    /// Whether to look for instructions that only some processors know.
    pub search: bool,
}

/// Where the pages of a chunk are gathered.
#[derive(Debug, Default)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// Bytes that even the smallest dump needs.
    const SOON: usize = HASH_BLOCK;

    /// Room for a chunk.
    pub fn new() -> Self {
        Self(vec![0; CHUNK_DATA_MAX as usize])
    }

    /// Room for a chunk, the beginning of which is memory already: done before a process is
    /// stopped, it need not wait for our page faults.
    pub fn ready() -> Self {
        let mut buffer = Self::new();
        let first = buffer.0.as_mut_ptr().cast::<libc::c_void>();
        let aligned = first.wrapping_add(first.align_offset(PAGE));
        // SAFETY: the range lies inside the buffer, which is longer by far, and populating
        // changes no contents. Kernels before 5.14 refuse, which does no harm.
        unsafe { libc::madvise(aligned, Self::SOON, libc::MADV_POPULATE_WRITE) };
        buffer
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// What was stored.
#[derive(Debug, Default)]
pub struct Copied {
    /// Pages stored.
    pub pages: u64,
    /// Where pages that the plan maps straight from the image lie in it.
    pub mapped: Vec<MappedRun>,
    /// First addresses of the mappings of which any page is copied at the resume.
    pub filled: BTreeSet<u64>,
    /// Addresses of pages of file mappings that could not be read.
    pub unreadable: Vec<u64>,
    /// What the search found.
    pub code: Found,
}

/// Addresses kept of pages that could not be read.
const UNREADABLE_MAX: usize = 64;

struct Shared<'a> {
    batches: Mutex<Batches<'a>>,
    chain: &'a Mutex<ChainWriter>,
    sink: &'a dyn Sink,
    progress: &'a dyn Progress,
    failed: AtomicBool,
    copied: Mutex<Copied>,
    pid: i32,
    mappings: &'a [Mapping],
    clean: &'a CleanFiles,
    search: bool,
}

/// Copies the pages of one process into the image.
pub fn copy_pages(
    mappings: &[Mapping],
    clean: &CleanFiles,
    options: CopyOptions,
    buffer: &mut Buffer,
    chain: &Mutex<ChainWriter>,
    sink: &dyn Sink,
    progress: &dyn Progress,
) -> Result<Copied, PageError> {
    let pid = options.pid;
    let batches = Batches::new(mappings, options.owner, pid, options.part, clean)
        .map_err(|source| PageError::Scan { pid, source })?;
    let shared = Shared {
        batches: Mutex::new(batches),
        chain,
        sink,
        progress,
        failed: AtomicBool::new(false),
        copied: Mutex::new(Copied::default()),
        pid,
        mappings,
        clean,
        search: options.search,
    };
    let workers = if sink.parallel() { options.workers } else { 1 };
    let mut own = Worker::new(&shared, std::mem::take(buffer));
    own.alone = workers == 1 && sink.parallel();
    // The first chunk may be all that there is.
    if own.fetch()? {
        own.work()?;
    }
    let more = own.fetch()? && workers > 1 && {
        // A thread, and memory for its chunk, cost more than one chunk is worth.
        let over = lock(&shared.batches).is_over();
        !over.map_err(|source| PageError::Scan { pid, source })?
    };
    if more {
        std::thread::scope(|scope| {
            let mut handles = Vec::new();
            for _ in 1..workers {
                let shared = &shared;
                let spawned = std::thread::Builder::new()
                    .stack_size(256 << 10)
                    .spawn_scoped(scope, move || Worker::new(shared, Buffer::new()).run());
                match spawned {
                    Ok(handle) => handles.push(handle),
                    // One is enough, only slower.
                    Err(_) => break,
                }
            }
            let mut result = own.run();
            for handle in handles {
                let other = handle.join().unwrap_or_else(|_| {
                    Err(PageError::Thread { source: io::Error::other("a reading thread panicked") })
                });
                // Whoever stopped for the other's sake has nothing to say.
                if result.is_ok() || matches!(result, Err(PageError::Aborted)) && other.is_err() {
                    result = other;
                }
            }
            result
        })?;
    } else {
        own.run()?;
    }
    *buffer = own.buffer;
    let mut copied = shared.copied.into_inner().unwrap_or_else(PoisonError::into_inner);
    copied.mapped.sort_unstable_by_key(|run| run.address);
    Ok(copied)
}

struct Worker<'w, 'a> {
    shared: &'w Shared<'a>,
    batch: Batch,
    buffer: Buffer,
    /// Nobody else gives chunks their places, and they need not be written front to back.
    alone: bool,
    /// Where in the image the data goes while it is being read; none until all of it is.
    streamed: Option<u64>,
    filled: usize,
    hashed: usize,
    hash: u64,
    runs: Vec<Run>,
    mem: Option<File>,
    unreadable: Vec<u64>,
    search: Option<Search<'a>>,
}

impl<'w, 'a> Worker<'w, 'a> {
    fn new(shared: &'w Shared<'a>, buffer: Buffer) -> Self {
        Self {
            shared,
            batch: Batch::default(),
            buffer,
            alone: false,
            streamed: None,
            filled: 0,
            hashed: 0,
            hash: 0,
            runs: Vec::new(),
            mem: None,
            unreadable: Vec::new(),
            search: shared.search.then(|| Search::new(shared.mappings)),
        }
    }

    /// Works on the chunk that was fetched, if one was, and on others until there are no more.
    fn run(&mut self) -> Result<(), PageError> {
        loop {
            if self.shared.failed.load(Ordering::Relaxed) {
                return Err(PageError::Aborted);
            }
            match self.step() {
                Ok(true) => {}
                Ok(false) => {
                    self.end_search();
                    return Ok(());
                }
                Err(error) => {
                    self.shared.failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
    }

    /// One chunk; false when there are no more.
    fn step(&mut self) -> Result<bool, PageError> {
        if !self.fetch()? {
            return Ok(false);
        }
        self.work()?;
        Ok(true)
    }

    /// Finds out which pages make the next chunk, unless it is known; false when none do.
    fn fetch(&mut self) -> Result<bool, PageError> {
        let pid = self.shared.pid;
        if self.batch.runs.is_empty() {
            let mut batches = lock(&self.shared.batches);
            batches.next(&mut self.batch).map_err(|source| PageError::Scan { pid, source })?;
        }
        Ok(!self.batch.runs.is_empty())
    }

    /// Reads and writes the chunk that was fetched.
    fn work(&mut self) -> Result<(), PageError> {
        self.streamed = self.streaming_place();
        self.read()?;
        self.write()?;
        self.batch.runs.clear();
        if self.shared.progress.advance(self.batch.bytes) {
            Ok(())
        } else {
            Err(PageError::Aborted)
        }
    }

    /// Reads the batch's pages into the buffer, one after another, without zero pages.
    fn read(&mut self) -> Result<(), PageError> {
        self.filled = 0;
        self.hashed = 0;
        self.hash = 0;
        self.runs.clear();
        self.unreadable.clear();
        let mut at = Cursor { run: 0, page: 0 };
        while let Some(&(_, how)) = self.batch.runs.get(at.run) {
            let (remote, want) = self.piece(at, how);
            let got = match how {
                How::Plain => self.read_plain(&remote, want)?,
                How::Forced => self.read_forced(remote[0].base as u64, want)?,
                How::Clean => self.read_clean(remote[0].base as u64, want)?,
            } / PAGE;
            self.take(&mut at, got);
            if got * PAGE < want {
                self.skip_unreadable(&mut at);
            }
            self.hash_blocks(HASH_BLOCK);
            self.flush()?;
        }
        self.hash_blocks(1);
        self.flush()
    }

    /// The next stretches to be read in one go, and their length in bytes.
    fn piece(&self, at: Cursor, how: How) -> (Vec<RemoteIoVec>, usize) {
        let mut remote = Vec::new();
        let mut want = 0;
        let mut page = at.page;
        for (run, run_how) in &self.batch.runs[at.run..] {
            if *run_how != how || want == HASH_BLOCK || (how != How::Plain && want > 0) {
                break;
            }
            let len = ((run.pages - page) as usize * PAGE).min(HASH_BLOCK - want);
            remote.push(RemoteIoVec { base: (run.address + page * PAGE_SIZE) as usize, len });
            want += len;
            page = 0;
        }
        (remote, want)
    }

    fn read_plain(&mut self, remote: &[RemoteIoVec], want: usize) -> Result<usize, PageError> {
        let pid = self.shared.pid;
        let target = &mut self.buffer[self.filled..self.filled + want];
        loop {
            let read = process_vm_readv(Pid::from_raw(pid), &mut [IoSliceMut::new(target)], remote);
            return match read {
                Ok(read) => Ok(read),
                Err(nix::errno::Errno::EFAULT) => Ok(0),
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => Err(PageError::Read {
                    pid,
                    address: remote.first().map_or(0, |first| first.base as u64),
                    source: errno.into(),
                }),
            };
        }
    }

    fn read_forced(&mut self, address: u64, want: usize) -> Result<usize, PageError> {
        let pid = self.shared.pid;
        let error = |source| PageError::Read { pid, address, source };
        if self.mem.is_none() {
            self.mem = Some(File::open(format!("/proc/{pid}/mem")).map_err(error)?);
        }
        let Some(mem) = &self.mem else { return Ok(0) };
        let target = &mut self.buffer[self.filled..self.filled + want];
        match mem.read_at(target, address) {
            Ok(read) => Ok(read),
            Err(source) => match source.raw_os_error() {
                // Nothing readable there, beyond the end of a file for instance.
                Some(libc::EIO | libc::EFAULT) => Ok(0),
                _ => Err(error(source)),
            },
        }
    }

    fn read_clean(&mut self, address: u64, want: usize) -> Result<usize, PageError> {
        let target = &mut self.buffer[self.filled..self.filled + want];
        let read = self.shared.clean.read(address, target).map_err(|source| PageError::Read {
            pid: self.shared.pid,
            address,
            source,
        })?;
        // The last page of a file is zero beyond its end.
        let whole = read.next_multiple_of(PAGE);
        target[read..whole].fill(0);
        Ok(whole)
    }

    /// Keeps of `count` pages just read those that matter, and moves on.
    fn take(&mut self, at: &mut Cursor, count: usize) {
        let keep_all = self.batch.kind == kind::PAGES_MAPPED;
        let mut from = self.filled;
        for _ in 0..count {
            let Some(address) = at.address(&self.batch.runs) else {
                return;
            };
            let page = from..from + PAGE;
            from += PAGE;
            at.advance(&self.batch.runs);
            if !keep_all && is_zero(&self.buffer[page.clone()]) {
                continue;
            }
            if page.start != self.filled {
                self.buffer.copy_within(page, self.filled);
            }
            self.keep(address);
        }
    }

    fn keep(&mut self, address: u64) {
        let page = self.filled..self.filled + PAGE;
        self.filled += PAGE;
        if let Some(search) = &mut self.search {
            search.page(address, &self.buffer[page]);
        }
        match self.runs.last_mut() {
            Some(last) if last.address + last.pages * PAGE_SIZE == address => last.pages += 1,
            _ => self.runs.push(Run { address, pages: 1 }),
        }
    }

    fn end_search(&mut self) {
        if let Some(search) = self.search.take() {
            lock(&self.shared.copied).code.add(search.finish());
        }
    }

    fn skip_unreadable(&mut self, at: &mut Cursor) {
        let Some(address) = at.address(&self.batch.runs) else {
            return;
        };
        at.advance(&self.batch.runs);
        if self.unreadable.len() < UNREADABLE_MAX {
            self.unreadable.push(address);
        }
        if self.batch.kind == kind::PAGES_MAPPED {
            // The plan maps the whole stretch, so every page needs its place.
            self.buffer[self.filled..self.filled + PAGE].fill(0);
            self.keep(address);
        }
    }

    /// Hashes what is complete while it is still in the cache; `least` is 1 for the last piece.
    fn hash_blocks(&mut self, least: usize) {
        while self.filled - self.hashed >= least {
            let len = (self.filled - self.hashed).min(HASH_BLOCK);
            let block = &self.buffer[self.hashed..self.hashed + len];
            self.hash = hash_data(block, self.hash);
            self.hashed += len;
        }
    }
}

/// A page of a list of runs.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    run: usize,
    page: u64,
}

impl Cursor {
    fn address(self, runs: &[(Run, How)]) -> Option<u64> {
        let (run, _) = runs.get(self.run)?;
        Some(run.address + self.page * PAGE_SIZE)
    }

    fn advance(&mut self, runs: &[(Run, How)]) {
        self.page += 1;
        if runs.get(self.run).is_some_and(|(run, _)| self.page >= run.pages) {
            self.run += 1;
            self.page = 0;
        }
    }
}

/// A worker that panicked has not left anything half-done under a lock that matters: the dump
/// fails as a whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
