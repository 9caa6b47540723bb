//! Page contents: every chunk verified, the pages of the process copied in place.
//!
//! A block is hashed and copied while it lies in the processor's cache; threads take chunks in
//! turn. The destination was mapped writable by the plan.

use crate::arch;
use crate::chain::{Chunk, Runs};
use crate::hash::hash_data;
use crate::huge::{self, Mover, HUGE};
use crate::image::Image;
use crate::options::Options;
use crate::report::{Advice, Fault, Outcome};
use crate::shared::Shared;
use crate::sys::{self, clone, nr, Errno};
use crate::window::Window;
use crate::{text, verbose, verify};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use image_format::container::HASH_BLOCK;
use image_format::plan::PlanHeader;

/// Below this many bytes a further thread costs more than it brings.
const WORTH_A_WORKER: u64 = 1 << 20;
const MOST_WORKERS: u32 = 4;
const STACK: u64 = 64 << 10;

/// What the threads share.
struct Job<'a> {
    image: &'a Image,
    options: &'a Options,
    window: &'a Window,
    shared: &'a Shared,
    owner: u32,
    mover: Option<Mover>,
    next: AtomicU32,
    /// 1 + index of a chunk that is not good.
    failed: AtomicU32,
    what: AtomicU32,
    copied: AtomicU64,
}

mod trouble {
    pub const DAMAGED: u32 = 1;
    pub const PLACE: u32 = 2;
    pub const MEMORY: u32 = 3;
}

/// Verifies and copies the pages of process `owner`; several threads verify the other chunks, too.
pub fn fill(
    image: &Image,
    options: &Options,
    window: &Window,
    shared: &Shared,
    owner: u32,
) -> Outcome<()> {
    let mut job = Job {
        image,
        options,
        window,
        shared,
        owner,
        mover: None,
        next: AtomicU32::new(0),
        failed: AtomicU32::new(0),
        what: AtomicU32::new(0),
        copied: AtomicU64::new(0),
    };
    let copied = image.chain.chunks.iter().filter(|c| job.is_copied(c));
    job.mover = Mover::prepare(copied.map(|c| (c, c.parts(image.bytes).0)));
    let workers = workers(image, options);
    let crew = Crew::start(&job, workers.saturating_sub(1))?;
    if workers > 1 {
        job.work();
    } else {
        job.copy_chunks();
    }
    crew.wait();
    let moved = job.mover.take().is_some();
    let failed = job.failed.load(Ordering::Acquire);
    if failed == 0 {
        let copied = job.copied.load(Ordering::Relaxed) >> 10;
        let huge = if moved { "true" } else { "false" };
        verbose!(
            options,
            copied,
            " KiB of memory in place, ",
            workers,
            " threads, huge pages: ",
            huge
        );
        return Ok(());
    }
    let chunk = &image.chain.chunks[failed as usize - 1];
    let object = chunk.name();
    Err(match job.what.load(Ordering::Relaxed) {
        trouble::PLACE => {
            Fault::new("pages would overwrite the restorer", object, Advice::DumpAgain)
        }
        trouble::DAMAGED => verify::damaged(chunk),
        _ => Fault::new("no memory for the resume", object, Advice::FreeMemory),
    })
}

fn workers(image: &Image, options: &Options) -> u32 {
    if options.workers != 0 {
        return options.workers;
    }
    let bytes: u64 = image.chain.chunks.iter().map(|c| c.header.data_len).sum();
    let worth = (bytes / WORTH_A_WORKER).min(u64::from(MOST_WORKERS)) as u32;
    if worth < 4 {
        return 1;
    }
    worth.min(cpus()).max(1)
}

/// Number of CPUs that we may run on.
pub fn cpus() -> u32 {
    let mut mask = [0u64; 128];
    let args = [0, size_of_val(&mask), mask.as_mut_ptr() as usize];
    // SAFETY: the kernel writes at most the given number of bytes into `mask`.
    match unsafe { sys::call(nr::SCHED_GETAFFINITY, &args) } {
        Ok(n) => mask[..(n / 8).min(mask.len())].iter().map(|w| w.count_ones()).sum(),
        Err(_) => 1,
    }
}

/// Threads at work beside this one.
struct Crew {
    /// The kernel clears each when its thread has ended.
    running: Vec<AtomicU32>,
}

impl Crew {
    fn start(job: &Job<'_>, count: u32) -> Outcome<Self> {
        let running: Vec<_> = (0..count).map(|_| AtomicU32::new(1)).collect();
        for word in &running {
            let stack = job.window.memory(STACK, "a worker's stack")?;
            let flags = clone::VM | clone::FS | clone::FILES | clone::SIGHAND | clone::THREAD;
            let flags = flags | clone::SYSVSEM | clone::CHILD_CLEARTID;
            let place = word.as_ptr() as u64;
            let args = [flags, 0, place, 0, 0, stack as u64, STACK, 0, 0, 0, 0];
            // SAFETY: the stack was just mapped for this thread alone; `wait` is called before
            // `job` and `running` go.
            let started = unsafe { arch::start_thread(&args, worker, &raw const *job as usize) };
            if started.is_err() {
                // One thread fewer; the others take its part.
                word.store(0, Ordering::Release);
            }
        }
        Ok(Self { running })
    }

    fn wait(&self) {
        for word in &self.running {
            while word.load(Ordering::Acquire) != 0 {
                sys::futex_wait(word, 1);
            }
        }
    }
}

extern "C" fn worker(job: usize) -> ! {
    // SAFETY: `Crew::start` passes a job that outlives this thread.
    let job = unsafe { &*(job as *const Job<'_>) };
    job.work();
    arch::exit_thread()
}

impl Job<'_> {
    fn work(&self) {
        self.copy_chunks();
        verify::work(self.image, self.options, self.shared);
    }

    fn copy_chunks(&self) {
        let mut tools = Tools::default();
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(chunk) = self.image.chain.chunks.get(index as usize) else {
                return;
            };
            if self.failed.load(Ordering::Relaxed) != 0 {
                return;
            }
            if !self.is_copied(chunk) {
                continue;
            }
            if let Err(what) = self.chunk(chunk, &mut tools) {
                self.what.store(what, Ordering::Relaxed);
                self.failed.store(index + 1, Ordering::Release);
            }
        }
    }

    fn is_copied(&self, chunk: &Chunk) -> bool {
        verify::is_copied(chunk, self.owner)
    }

    fn chunk(&self, chunk: &Chunk, tools: &mut Tools) -> Result<(), u32> {
        let (runs, data) = chunk.parts(self.image.bytes);
        let verify = !self.options.no_verify;
        if runs.clone().any(|r| self.window.overlaps(r.address, r.pages * 4096)) {
            return Err(trouble::PLACE);
        }
        let mut hash = 0;
        let mut cursor = Cursor::new(runs, self, tools);
        for block in data.chunks(HASH_BLOCK) {
            if verify {
                hash = hash_data(block, hash);
            }
            cursor.copy(block)?;
        }
        self.copied.fetch_add(data.len() as u64, Ordering::Relaxed);
        if verify && hash != chunk.header.data_hash {
            return Err(trouble::DAMAGED);
        }
        Ok(())
    }
}

/// What a thread works with.
#[derive(Default)]
struct Tools {
    /// Its staging area, once it needed one.
    staging: Option<u64>,
}

/// Where the next bytes go.
struct Cursor<'a, 'b> {
    runs: Runs<'a>,
    at: u64,
    left: u64,
    /// The dense blocks of the present run.
    dense: (u64, u64),
    job: &'b Job<'a>,
    tools: &'b mut Tools,
}

impl<'a, 'b> Cursor<'a, 'b> {
    fn new(runs: Runs<'a>, job: &'b Job<'a>, tools: &'b mut Tools) -> Self {
        Self { runs, at: 0, left: 0, dense: (0, 0), job, tools }
    }

    fn copy(&mut self, mut bytes: &[u8]) -> Result<(), u32> {
        while !bytes.is_empty() {
            if self.left == 0 {
                let Some(run) = self.runs.next() else {
                    return Ok(());
                };
                (self.at, self.left) = (run.address, run.pages * 4096);
                if let Some(mover) = &self.job.mover {
                    self.dense = mover.part(run.address, run.pages);
                }
            }
            let mut n = (bytes.len() as u64).min(self.left);
            let mut to = self.at;
            let dense = (self.dense.0..self.dense.1).contains(&self.at);
            if dense {
                n = n.min(HUGE - self.at % HUGE);
                to = self.staging()? + self.at % HUGE;
            } else if self.at < self.dense.0 {
                n = n.min(self.dense.0 - self.at);
            }
            let (now, rest) = bytes.split_at(n as usize);
            // SAFETY: the plan mapped the run's pages writable, outside the window (checked), so
            // that nothing of ours is overwritten. Were they not mapped, the fault handler says
            // so. A staging area is this thread's own.
            unsafe { core::ptr::copy_nonoverlapping(now.as_ptr(), to as *mut u8, now.len()) };
            self.at += n;
            self.left -= n;
            bytes = rest;
            if dense && self.at.is_multiple_of(HUGE) {
                self.deliver(self.at - HUGE)?;
            }
        }
        Ok(())
    }

    fn staging(&mut self) -> Result<u64, u32> {
        if self.tools.staging.is_none() {
            self.tools.staging = huge::staging(self.job.window);
        }
        self.tools.staging.ok_or(trouble::MEMORY)
    }

    fn deliver(&mut self, to: u64) -> Result<(), u32> {
        let staging = self.staging()?;
        let mover = self.job.mover.as_ref().ok_or(trouble::MEMORY)?;
        mover.deliver(staging, to).map_err(|_| trouble::MEMORY)
    }
}

/// What is free now, in bytes, and whether `need` fits into it.
pub fn memory_suffices(need: u64, header: &PlanHeader) -> Result<(), u64> {
    let need = need + header.memory_need;
    // struct sysinfo: uptime, loads[3], totalram, freeram, sharedram, bufferram, totalswap,
    // freeswap: words; then procs (16 bits) ... mem_unit at byte 104.
    let mut info = [0u64; 14];
    // SAFETY: the kernel writes 112 bytes into `info`.
    if unsafe { sys::call(nr::SYSINFO, &[info.as_mut_ptr() as usize]) }.is_err() {
        return Ok(());
    }
    let unit = (info[13] as u32).max(1);
    let free = (info[5] + info[7] + info[9]) * u64::from(unit);
    if need <= free {
        return Ok(());
    }
    // Page cache can be given up; only /proc/meminfo tells how much of it.
    match available() {
        Ok(available) if need > available + info[9] * u64::from(unit) => Err(available),
        _ => Ok(()),
    }
}

fn available() -> Result<u64, Errno> {
    let fd = sys::openat(sys::AT_FDCWD, c"/proc/meminfo", sys::O_CLOEXEC, 0)?;
    let mut text = [0u8; 512];
    let n = sys::read(fd, &mut text);
    sys::close(fd);
    let mut words = text::words(&text[..n?]);
    words
        .find(|word| *word == b"MemAvailable:")
        .and_then(|_| text::number(words.next()?))
        .map(|kib| kib << 10)
        .ok_or(Errno::EINVAL)
}
