//! The model compiled into a plan.
//!
//! The order of a process' steps, and why:
//!
//! 0. control groups; in the first process what several share; then children, session and group;
//! 1. vdso: while the address space is empty, nothing is in its way;
//! 2. mappings, writable; 3. page contents; 4. final protections and advice;
//! 5. the stub; 6. mm fields (heap, arguments);
//! 7. descriptors, by absolute paths, then working directory and root;
//! 8. handlers, limits and other process attributes that need privilege;
//! 9. threads, while their ids may still be chosen; then timers, which may aim at threads;
//! 10. pending signals; 11. connections that live on are let go on: what cannot be undone;
//! 12. FINISH, which runs the leader's own steps, credentials among them.

mod builder;
mod cgroups;
mod compare;
mod credentials;
mod descriptors;
mod family;
mod hugetlb;
mod memory;
mod mqueue;
mod numbers;
mod objects;
mod opening;
mod own_files;
mod owners;
mod pidfds;
mod process;
mod redirects;
mod relations;
mod segments;
mod sessions;
mod shared;
mod sockets;
mod sysv;
mod terminals;
mod threads;

use crate::arch::x86_64 as arch;
use crate::info::{info_text, HELP};
use crate::last::last;
use crate::{Layout, LinkError};
use builder::{Builder, Object};
use family::Family;
use image_format::arch::x86_64::{needed, needed_state, RARE};
use image_format::model::{Cpu, FileObject, Process, Tree};
use image_format::plan::{
    op, plan_flag, CpuNeed, CpuPlan, Expect, PlanHeader, ProcessPlan, XsavePlace,
};
use image_format::PAGE_SIZE;
use numbers::Numbers;
pub use sessions::{session_obstacles, Kin, SessionObstacle};
pub use sockets::address_text;
pub(crate) use sockets::endpoint;
use sockets::Places;
use std::collections::{BTreeMap, BTreeSet};

/// What to do at resume with a file whose contents changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnChanged {
    /// An error (the default).
    #[default]
    Refuse,
    /// Take it as it is.
    Accept,
    /// The embedded contents take its place.
    Embed,
}

/// Choices of the dump that the plan carries.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlanOptions {
    /// `--on-changed`.
    pub on_changed: OnChanged,
    /// Instructions of [`image_format::arch::x86_64::RARE`] were found.
    pub rare: bool,
}

/// Where pages went while they were written.
#[derive(Debug, Clone, Default)]
pub struct ImageMap {
    /// For each process: runs in PAGES_MAPPED chunks.
    pub mapped: Vec<Vec<MappedRun>>,
    /// For each process: start addresses of the mappings of which any page was stored in a PAGES
    /// chunk. The others get their final protection at once.
    pub filled: Vec<BTreeSet<u64>>,
    /// For each embedded file: where its pieces lie.
    pub embedded: BTreeMap<u32, Vec<EmbeddedPiece>>,
}

/// A piece of an embedded file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedPiece {
    /// Offset in the embedded file in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// Place in the image in bytes.
    pub file_offset: u64,
}

/// Pages that lie in the file one after another and are mapped from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedRun {
    /// Address of the first page.
    pub address: u64,
    /// Number of pages.
    pub pages: u64,
    /// File offset of the first page in bytes.
    pub file_offset: u64,
}

/// Numbers from the first that the tree does not use, which steps use meanwhile.
const TEMPORARIES: u32 = 8;

/// Compiles `tree` into the payload of the PLAN chunk.
pub fn compile(
    tree: &Tree,
    layout: &Layout,
    map: &ImageMap,
    options: &PlanOptions,
) -> Result<Vec<u8>, LinkError> {
    let mut b = Builder::new();
    let family = Family::of(tree)?;
    let root = tree.processes.first().ok_or(LinkError::Model { pid: 0, what: "no process" })?;
    let numbers = Numbers::of(tree);
    let first_temporary = numbers.first;
    let places = Numbers::places(tree, first_temporary);
    let mut header = PlanHeader {
        scratch_fd: places.end() + held(tree),
        scratch_end: numbers.end,
        max_pid: max_pid(tree, &family),
        monotonic_ns: tree.source.monotonic_ns,
        boottime_ns: tree.source.boottime_ns,
        realtime_ns: tree.source.realtime_ns,
        memory_need: memory_need(tree),
        euid: root.credentials.uids[1],
        egid: root.credentials.gids[1],
        generation: tree.source.generation,
        stopped: if terminals::leads_alone(tree) {
            // Its group cannot be had before its session.
            0
        } else {
            tree.processes.iter().map(|p| p.stopped).max().unwrap_or(0)
        },
        flags: flags(tree),
        ..PlanHeader::default()
    };
    header.cpu_off = processor(&mut b, &tree.source.cpu, options.rare);
    let info = info_text(tree);
    (header.info_off, header.info_len) = (b.data(info.as_bytes()), info.len() as u32);
    header.help_off = b.path(HELP.as_bytes());
    header.exe_off = b.path(program(tree));
    header.name_off = b.text(&root.threads.first().map_or_else(String::new, |t| t.name.text()));
    if let Some(terminal) = tree.terminals.iter().find(|t| t.pair.is_none()) {
        header.termios_off = b.data(&terminal.termios.0);
        header.winsize = terminal.winsize;
    }
    let numbers = root.descriptors.iter().map(|d| u64::from(d.fd) | u64::from(u32::MAX) << 32);
    header.fds_off = b.words(&numbers.collect::<Vec<u64>>());
    header.fds_count = root.descriptors.len() as u32;

    for index in 0..family.0.len() {
        let own = tree.processes.get(index);
        let mut c = ProcessCompiler {
            b: &mut b,
            tree,
            process: own.unwrap_or(root),
            index,
            layout,
            map,
            options,
            first_temporary,
            scratch_end: header.scratch_end,
            places: places.clone(),
            redirected: header.fds_off,
            patient: BTreeSet::new(),
            reused: BTreeSet::new(),
            unlink: BTreeMap::new(),
        };
        let plan = if own.is_some() { c.compile(&family)? } else { c.ended(&family, index) };
        b.processes.push(plan);
    }
    (header.files_off, header.files_count) = b.embedded_table();
    (header.needs_off, header.needs_count) = b.needs_table();
    b.finish(header)
}

/// One process on its way into the plan.
struct ProcessCompiler<'a> {
    b: &'a mut Builder,
    tree: &'a Tree,
    process: &'a Process,
    index: usize,
    layout: &'a Layout,
    map: &'a ImageMap,
    options: &'a PlanOptions,
    first_temporary: u32,
    /// [`PlanHeader::scratch_end`].
    scratch_end: u32,
    /// Where sockets are while the plan runs.
    places: Places,
    /// Data: [`PlanHeader::fds_off`].
    redirected: u32,
    /// Descriptors that wait only a while for room to send.
    patient: BTreeSet<u32>,
    /// Descriptors that were given SO_REUSEADDR.
    reused: BTreeSet<u32>,
    /// Sockets whose name is to be removed, and the word that tells whether it was given.
    unlink: BTreeMap<u32, u32>,
}

impl ProcessCompiler<'_> {
    fn compile(&mut self, family: &Family) -> Result<ProcessPlan, LinkError> {
        let stub = *self
            .layout
            .stubs
            .get(self.index)
            .ok_or(LinkError::Model { pid: self.process.pid, what: "no place for its stub" })?;
        let last = last(self.tree, self.process, stub.address, stub.slots)?;
        let (first_thread, thread_count) = self.threads(&stub, &last)?;
        let first_step = self.b.begin_steps();
        self.control_groups();
        if self.index == 0 {
            self.shared_memory();
            self.sysv_objects();
            if is_family(self.tree) {
                self.objects()?;
            }
        }
        let processes = self.tree.processes.len() as u64;
        self.relations(family, self.index);
        self.vdso()?;
        self.mappings()?;
        if is_family(self.tree) && (shared::is_sealed(self.tree) || segments::are_there(self.tree))
        {
            // Seals may forbid what the others still have to map, and a segment's mode or end what
            // they still have to attach.
            self.b.verb(op::BARRIER, "the other processes", [2, processes, 0, 0, 0, 0]);
        }
        if self.index == 0 {
            self.settle_segments();
        }
        self.b.verb(op::FILL, "memory contents", [self.index as u64, 0, 0, 0, 0, 0]);
        self.protections();
        self.stub(&stub, &last)?;
        self.mm_fields()?;
        self.descriptors()?;
        self.release_held();
        // A process loses its locks on a file with the first descriptor of it that it closes.
        self.process_locks();
        self.directories();
        self.actions();
        self.attributes();
        self.control_blocks();
        for thread in 1..thread_count {
            let tid = self.process.threads[thread as usize].tid;
            self.b.verb(
                op::THREAD,
                &format!("thread {tid}"),
                [u64::from(first_thread + thread), 0, 0, 0, 0, 0],
            );
        }
        self.timers();
        self.pending()?;
        self.seals();
        self.thaw()?;
        let finish = [family.lasting(), 0, 0, 0, 0, 0];
        self.b.verb(op::FINISH, "the way back into the program", finish);
        Ok(ProcessPlan {
            pid: self.process.pid,
            parent: self.process.parent.unwrap_or(u32::MAX),
            first_step,
            step_count: self.b.steps_since(first_step),
            first_thread,
            thread_count,
            stub_address: stub.address,
            stub_len: stub.len,
            stopped: family.stop_signal(self.index, self.process.stopped),
            awaited: family::awaited_stop(self.process),
        })
    }

    fn must(&mut self, object: &(impl Object + ?Sized), nr: u32, args: [u64; 6]) {
        self.b.syscall(object, nr, args, Expect::Success);
    }

    fn note(&mut self, object: &(impl Object + ?Sized), nr: u32, args: [u64; 6]) {
        self.b.syscall(object, nr, args, Expect::Note);
    }
}

/// What the source's processor means for the target's; gives the data offset of the [`CpuPlan`].
fn processor(b: &mut Builder, cpu: &Cpu, rare: bool) -> u32 {
    let needs = needed(cpu).filter(|f| rare || !RARE.contains(&f.name)).map(|f| {
        let mut name = [0; 22];
        // The longest name known has 16 bytes; a longer one would be cut in a message.
        let n = f.name.len().min(name.len());
        name[..n].copy_from_slice(&f.name.as_bytes()[..n]);
        CpuNeed { leaf: f.leaf, subleaf: f.subleaf, reg: f.reg, bit: f.bit, name }
    });
    let places = cpu.xsave.iter().map(|c| XsavePlace { id: c.id, offset: c.offset, size: c.size });
    let (needs_off, needs_count) = b.records(needs);
    let (places_off, places_count) = b.records(places);
    b.record(CpuPlan { xcr0: needed_state(cpu), needs_off, needs_count, places_off, places_count })
}

/// Number of open file descriptions that are held open where there are several processes, until
/// each has taken its own.
fn held(tree: &Tree) -> u32 {
    if is_family(tree) {
        tree.files.len() as u32
    } else {
        0
    }
}

/// The program that a process of the tree means by /proc/self/exe: which process it is cannot be told
/// from within the image, so that all must have the same.
fn program(tree: &Tree) -> &[u8] {
    let mut all = tree.processes.iter().map(|p| p.memory.exe.0.as_slice());
    let first = all.next().unwrap_or_default();
    if all.all(|other| other == first) {
        first
    } else {
        b""
    }
}

/// Whether there is more than one process.
fn is_family(tree: &Tree) -> bool {
    tree.processes.len() + tree.zombies.len() > 1
}

fn max_pid(tree: &Tree, family: &Family) -> u32 {
    let tids = tree.processes.iter().flat_map(|p| &p.threads).map(|t| t.tid);
    tids.chain(family.0.iter().map(|m| m.pid)).max().unwrap_or(0)
}

fn flags(tree: &Tree) -> u32 {
    let mut flags = 0;
    let used = |i: usize| {
        tree.files
            .iter()
            .any(|f| matches!(f.object, FileObject::Tty { terminal } if terminal as usize == i))
    };
    for (i, terminal) in tree.terminals.iter().enumerate().filter(|(_, t)| t.pair.is_none()) {
        if terminal.controlling || used(i) {
            flags |= plan_flag::TERMINAL;
        }
        if terminal.controlling && terminal.leader {
            flags |= plan_flag::LEADER;
        }
        if terminal.foreground {
            flags |= plan_flag::FOREGROUND;
        }
    }
    if tree.processes.iter().any(|p| p.locks_held) {
        flags |= plan_flag::LOCKS_HELD;
    }
    flags
}

/// Memory besides the pages of the chunks: the stubs' frames and the kernel's own per thread.
fn memory_need(tree: &Tree) -> u64 {
    tree.processes.iter().flat_map(|p| &p.threads).map(|_| 8 * PAGE_SIZE).sum()
}
