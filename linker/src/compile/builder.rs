//! Steps and data of a plan under construction.

use crate::LinkError;
use image_format::plan::{
    arg, op, Expect, NeedPlan, PlanHeader, ProcessPlan, Step, ThreadPlan, PLAN_MAGIC,
};
use scroll::ctx::{SizeWith, TryIntoCtx};
use scroll::{Endian, Pwrite, LE};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;

/// An argument of a step: value and [`arg`] kind.
#[derive(Debug, Clone, Copy)]
pub struct Arg(pub u64, pub u32);

impl Arg {
    /// The value itself.
    pub fn value(value: u64) -> Self {
        Self(value, arg::CONST)
    }
    /// The address of data.
    pub fn data(offset: u32) -> Self {
        Self(u64::from(offset), arg::DATA)
    }
    /// The word at a data offset.
    pub fn load(offset: u32) -> Self {
        Self(u64::from(offset), arg::LOAD32)
    }
    /// A descriptor number.
    pub fn fd(fd: u32) -> Self {
        Self::value(u64::from(fd))
    }
    /// An argument without a number of its own, such as the image's descriptor.
    pub fn kind(kind: u32) -> Self {
        Self(0, kind)
    }
}

/// A step that passes over others, up to where it is told to land.
#[must_use]
pub struct Skip(usize);

/// What a step is about, in words.
pub trait Object {
    /// Puts the text into the plan and gives its data offset.
    fn put(&self, b: &mut Builder) -> u32;
}

impl Object for str {
    fn put(&self, b: &mut Builder) -> u32 {
        b.text(self)
    }
}

impl Object for String {
    fn put(&self, b: &mut Builder) -> u32 {
        b.text(self)
    }
}

/// A range of addresses and what is done with it. A plan has tens of thousands of them, each
/// once, so that looking for an equal text would be most of the work.
pub struct Range {
    /// What stands before the addresses.
    pub what: &'static str,
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
}

impl Object for Range {
    fn put(&self, b: &mut Builder) -> u32 {
        let at = b.data.len() as u32;
        // Writing to a vector cannot fail.
        let _ = write!(b.data, "{} {:x}-{:x}\0", self.what, self.start, self.end);
        b.data.resize(b.data.len().next_multiple_of(8), 0);
        at
    }
}

pub struct Builder {
    steps: Vec<Step>,
    data: Vec<u8>,
    texts: HashMap<String, u32>,
    embedded: Vec<[u32; 2]>,
    needs: Vec<NeedPlan>,
    /// Threads of all processes.
    pub threads: Vec<ThreadPlan>,
    /// Processes.
    pub processes: Vec<ProcessPlan>,
    /// Index of a segment of System V shared memory -> data offset of the word with its id, and of
    /// the word that tells whether it was made here.
    pub segments: BTreeMap<u32, [u32; 2]>,
    /// Bits of [`image_format::plan::when`] for the steps that follow.
    pub when: u16,
}

impl Builder {
    pub fn new() -> Self {
        Self {
            steps: Vec::new(),
            // Offset 0 means "none".
            data: vec![0; 8],
            texts: HashMap::new(),
            embedded: Vec::new(),
            needs: Vec::new(),
            threads: Vec::new(),
            processes: Vec::new(),
            segments: BTreeMap::new(),
            when: 0,
        }
    }

    /// Appends bytes at a multiple of 8 and gives their data offset.
    pub fn data(&mut self, bytes: &[u8]) -> u32 {
        let at = self.data.len() as u32;
        self.data.extend_from_slice(bytes);
        self.data.resize(self.data.len().next_multiple_of(8), 0);
        at
    }

    /// Appends 64-bit words.
    pub fn words(&mut self, words: &[u64]) -> u32 {
        self.data(&words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// Appends a structure.
    pub fn record<T>(&mut self, value: T) -> u32
    where
        T: TryIntoCtx<Endian, [u8], Error = scroll::Error> + SizeWith<Endian>,
    {
        let mut bytes = vec![0; T::size_with(&LE)];
        // Cannot fail: the buffer has the structure's own size.
        let written = bytes.pwrite_with(value, 0, LE);
        debug_assert!(written.is_ok());
        self.data(&bytes)
    }

    /// Appends structures one after another; gives the data offset of the first and their number.
    pub fn records<T>(&mut self, values: impl Iterator<Item = T>) -> (u32, u32)
    where
        T: TryIntoCtx<Endian, [u8], Error = scroll::Error> + SizeWith<Endian>,
    {
        let mut bytes = Vec::new();
        let mut count = 0;
        for value in values {
            let at = bytes.len();
            bytes.resize(at + T::size_with(&LE), 0);
            // Cannot fail: the buffer has the structure's own size.
            let written = bytes.pwrite_with(value, at, LE);
            debug_assert!(written.is_ok());
            count += 1;
        }
        (self.data(&bytes), count)
    }

    /// A path or other bytes, ended by a zero byte.
    pub fn path(&mut self, path: &[u8]) -> u32 {
        self.data(&[path, &[0]].concat())
    }

    /// A text for messages, ended by a zero byte; equal texts are kept once.
    pub fn text(&mut self, text: &str) -> u32 {
        if let Some(&at) = self.texts.get(text) {
            return at;
        }
        let at = self.path(text.replace('\0', " ").as_bytes());
        self.texts.insert(text.to_owned(), at);
        at
    }

    /// Notes that an embedded file is needed by the `FilePlan` at data offset `plan`.
    pub fn embedded(&mut self, number: u32, plan: u32) {
        self.embedded.push([number, plan]);
    }

    /// Notes what must be there on the target.
    pub fn need(&mut self, need: NeedPlan) {
        self.needs.push(need);
    }

    /// The table of what must be there: data offset and count.
    pub fn needs_table(&mut self) -> (u32, u32) {
        let needs = std::mem::take(&mut self.needs);
        self.records(needs.into_iter())
    }

    /// The table of embedded files: data offset and count.
    pub fn embedded_table(&mut self) -> (u32, u32) {
        let table = std::mem::take(&mut self.embedded);
        let bytes: Vec<u8> = table.iter().flatten().flat_map(|w| w.to_le_bytes()).collect();
        (self.data(&bytes), table.len() as u32)
    }

    /// Index of the next step.
    pub fn begin_steps(&self) -> u32 {
        self.steps.len() as u32
    }

    /// Steps since index `first`.
    pub fn steps_since(&self, first: u32) -> u32 {
        self.steps.len() as u32 - first
    }

    /// A step with arguments of any kind.
    pub fn step(
        &mut self,
        op: u16,
        object: &(impl Object + ?Sized),
        nr: u32,
        args: &[Arg],
        expect: Expect,
    ) {
        let object = object.put(self);
        let mut step =
            Step { op, when: self.when, expect: expect as u8, object, nr, ..Step::default() };
        for (i, a) in args.iter().enumerate().take(6) {
            step.args[i] = a.0;
            step.kinds |= a.1 << (4 * i);
        }
        self.steps.push(step);
    }

    /// A system call with constant arguments.
    pub fn syscall(
        &mut self,
        object: &(impl Object + ?Sized),
        nr: u32,
        args: [u64; 6],
        expect: Expect,
    ) {
        self.step(op::SYSCALL, object, nr, &args.map(Arg::value), expect);
    }

    /// A system call with arguments of any kind.
    pub fn call(&mut self, object: &str, nr: u32, args: &[Arg], expect: Expect) {
        self.step(op::SYSCALL, object, nr, args, expect);
    }

    /// The step added last leaves its result as 64-bit word at data offset `word`.
    pub fn keep_result(&mut self, word: u32) {
        if let Some(step) = self.steps.last_mut() {
            step.keep = word;
        }
    }

    /// A verb with constant arguments.
    pub fn verb(&mut self, op: u16, object: &(impl Object + ?Sized), args: [u64; 6]) {
        self.step(op, object, 0, &args.map(Arg::value), Expect::Success);
    }

    /// A step that passes over those between it and [`Builder::land`] if both are equal.
    pub fn skip_if_equal(&mut self, a: Arg, b: Arg) -> Skip {
        self.skip([a, b, Arg::value(0), Arg::value(0)])
    }

    /// The same if they differ.
    pub fn skip_unless_equal(&mut self, a: Arg, b: Arg) -> Skip {
        self.skip([a, b, Arg::value(0), Arg::value(1)])
    }

    /// The same in any case.
    pub fn skip_always(&mut self) -> Skip {
        self.skip([Arg::value(0); 4])
    }

    fn skip(&mut self, args: [Arg; 4]) -> Skip {
        let at = self.steps.len();
        self.step(op::SKIP, "the steps of another case", 0, &args, Expect::Success);
        Skip(at)
    }

    /// The next step is the first that is not passed over.
    pub fn land(&mut self, skips: impl IntoIterator<Item = Skip>) {
        let here = self.steps.len();
        for Skip(at) in skips {
            if let Some(step) = self.steps.get_mut(at) {
                step.args[2] = (here - at - 1) as u64;
            }
        }
    }

    /// Runs `add` with `when` set for the steps that it adds.
    pub fn only_when(&mut self, when: u16, add: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.when, when);
        add(self);
        self.when = before;
    }

    /// The whole plan.
    pub fn finish(self, header: PlanHeader) -> Result<Vec<u8>, LinkError> {
        let large = LinkError::TooLarge { what: "the plan" };
        let mut out = Vec::new();
        let mut header = header;
        let size = PlanHeader::size_with(&LE);
        out.resize(size.next_multiple_of(16), 0);
        header.magic = PLAN_MAGIC;
        (header.processes_off, header.process_count) = append(&mut out, &self.processes);
        (header.threads_off, header.thread_count) = append(&mut out, &self.threads);
        (header.steps_off, header.step_count) = append(&mut out, &self.steps);
        header.data_off = out.len() as u32;
        header.data_len = self.data.len() as u32;
        out.extend_from_slice(&self.data);
        if u32::try_from(out.len()).is_err() {
            return Err(large);
        }
        out.pwrite_with(header, 0, LE).map_err(|_| large)?;
        Ok(out)
    }
}

fn append<T>(out: &mut Vec<u8>, items: &[T]) -> (u32, u32)
where
    T: TryIntoCtx<Endian, [u8], Error = scroll::Error> + SizeWith<Endian> + Copy,
{
    let at = out.len();
    let size = T::size_with(&LE);
    out.resize(at + size * items.len(), 0);
    for (i, item) in items.iter().enumerate() {
        let written = out.pwrite_with(*item, at + i * size, LE);
        debug_assert!(written.is_ok());
    }
    out.resize(out.len().next_multiple_of(16), 0);
    (at as u32, items.len() as u32)
}
