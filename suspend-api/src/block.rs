//! The control block of this process ([`image_format::control`]).

use crate::sys::{self, Errno};
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicU8, Ordering};
use image_format::control::{
    round_of, value_of, word, ControlBlock, CONTROL_LEN, CONTROL_MAGIC, CONTROL_VERSION, TEXT_LEN,
};

/// The name as memfd_create(2) wants it; [`image_format::control::CONTROL_NAME`].
const NAME: &core::ffi::CStr = c"suspend-control";

/// [`ControlBlock`] as it is shared: the words that change are atomic.
#[repr(C)]
pub struct Block {
    magic: [u8; 16],
    version: u32,
    length: u32,
    cookie: u64,
    cookie_address: u64,
    suspend_signal: u32,
    resume_signal: u32,
    mode: u32,
    /// See [`ControlBlock::service_tid`], and so on.
    pub service_tid: AtomicU32,
    pub pid: AtomicU32,
    pub callbacks: AtomicU32,
    answer: AtomicU32,
    pub hold_ms: AtomicU32,
    reserved1: [u32; 14],
    pub request: AtomicU32,
    pub outcome: AtomicU32,
    pub beat: AtomicU32,
    pub timeout_ms: AtomicU32,
    dumper: AtomicU32,
    pub gave_up: AtomicU32,
    reserved2: [u32; 10],
    pub resumes: AtomicU32,
    reserved3: u32,
    random: [AtomicU8; 16],
    reserved4: [u32; 10],
    reason: [AtomicU8; TEXT_LEN],
    text: [AtomicU8; TEXT_LEN],
}

const _: () = assert!(size_of::<Block>() == ControlBlock::SIZE);
const _: () = assert!(offset_of!(Block, cookie) == offset_of!(ControlBlock, cookie));
const _: () = assert!(offset_of!(Block, mode) == offset_of!(ControlBlock, mode));
const _: () = assert!(offset_of!(Block, answer) == offset_of!(ControlBlock, answer));
const _: () = assert!(offset_of!(Block, request) == offset_of!(ControlBlock, request));
const _: () = assert!(offset_of!(Block, outcome) == offset_of!(ControlBlock, outcome));
const _: () = assert!(offset_of!(Block, gave_up) == offset_of!(ControlBlock, gave_up));
const _: () = assert!(offset_of!(Block, resumes) == offset_of!(ControlBlock, resumes));
const _: () = assert!(offset_of!(Block, random) == offset_of!(ControlBlock, random));
const _: () = assert!(offset_of!(Block, reason) == offset_of!(ControlBlock, reason));
const _: () = assert!(offset_of!(Block, text) == offset_of!(ControlBlock, text));

/// The block; null before the start and after a fork.
static BLOCK: AtomicPtr<Block> = AtomicPtr::new(core::ptr::null_mut());

/// What a block is made with.
pub struct Parts {
    /// Signal of the question.
    pub suspend_signal: u32,
    /// Signal of the outcome.
    pub resume_signal: u32,
    /// One of [`image_format::control::mode`].
    pub mode: u32,
}

/// The block of this process. None before the start, and in a child that does not have its own:
/// fork hands the mapping on, but not the cookie.
pub fn own() -> Option<&'static Block> {
    // SAFETY: a block stays mapped as long as its address is here.
    let block = unsafe { BLOCK.load(Ordering::Acquire).as_ref() }?;
    block.is_ours().then_some(block)
}

/// Whether there is a block, be it the parent's.
pub fn exists() -> bool {
    !BLOCK.load(Ordering::Relaxed).is_null()
}

/// Makes the block.
pub fn make(parts: &Parts) -> Result<&'static Block, Errno> {
    let at = map_named()?;
    let cookie_at = sys::map_private(CONTROL_LEN as usize)?;
    // SAFETY: the advice concerns the page that was just mapped.
    let wiped = unsafe { libc::madvise(cookie_at, CONTROL_LEN as usize, libc::MADV_WIPEONFORK) };
    if wiped != 0 {
        return Err(sys::errno());
    }
    let mut random = [0; 8];
    sys::random(&mut random);
    let cookie = u64::from_ne_bytes(random) | 1;
    // SAFETY: the page is mapped, ours, and aligned.
    unsafe { cookie_at.cast::<u64>().write(cookie) };
    let block = at.cast::<Block>();
    // SAFETY: the mapping is zero, which is a value of every field, longer than the structure, and
    // nobody else knows it yet. The magic comes last: what is found has everything else.
    unsafe {
        (*block).version = CONTROL_VERSION;
        (*block).length = size_of::<Block>() as u32;
        (*block).cookie = cookie;
        (*block).cookie_address = cookie_at as u64;
        (*block).suspend_signal = parts.suspend_signal;
        (*block).resume_signal = parts.resume_signal;
        (*block).mode = parts.mode;
        (*block).pid = AtomicU32::new(sys::pid());
        core::sync::atomic::fence(Ordering::SeqCst);
        (*block).magic = CONTROL_MAGIC;
        BLOCK.store(block, Ordering::Release);
        Ok(&*block)
    }
}

fn map_named() -> Result<*mut core::ffi::c_void, Errno> {
    // SAFETY: the name is a constant; a non-negative result is a fresh descriptor of ours.
    let fd = unsafe { libc::memfd_create(NAME.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(sys::errno());
    }
    // SAFETY: the descriptor is ours.
    let sized = unsafe { libc::ftruncate(fd, CONTROL_LEN as i64) };
    let at = if sized == 0 { sys::map_shared(CONTROL_LEN as usize, fd) } else { Err(sys::errno()) };
    // SAFETY: the mapping keeps the memory.
    unsafe { libc::close(fd) };
    at
}

/// In a child after fork: the parent's block is none of its business.
pub fn forget() {
    let block = BLOCK.swap(core::ptr::null_mut(), Ordering::AcqRel);
    if !block.is_null() {
        // SAFETY: only this thread lives in a fresh child, and it holds no reference.
        unsafe { libc::munmap(block.cast(), CONTROL_LEN as usize) };
    }
}

impl Block {
    /// It is not the block of a process that this one was forked from.
    pub fn is_ours(&self) -> bool {
        let at = self.cookie_address as *const AtomicU64;
        // SAFETY: the page was mapped when the block was made and is never unmapped.
        unsafe { (*at).load(Ordering::Relaxed) == self.cookie }
    }

    /// The round that is open: asked, and without an outcome.
    pub fn open_round(&self) -> Option<u32> {
        let request = self.request.load(Ordering::Acquire);
        let round = round_of(request);
        (round != 0 && self.outcome.load(Ordering::Acquire) == word(round, 0)).then_some(round)
    }

    /// The answer that was given last, if it is about this round.
    pub fn answered(&self, round: u32) -> Option<u32> {
        let answer = self.answer.load(Ordering::Relaxed);
        (round_of(answer) == round).then_some(value_of(answer))
    }

    /// Answers.
    pub fn answer(&self, round: u32, value: u32) {
        self.answer.store(word(round, value), Ordering::SeqCst);
    }

    /// The outcome of this round; none while it is open or another round has begun.
    pub fn outcome_of(&self, round: u32) -> Option<u32> {
        let outcome = self.outcome.load(Ordering::SeqCst);
        (round_of(outcome) == round && value_of(outcome) != 0).then_some(value_of(outcome))
    }

    /// Sets the reason of a refusal, to be seen once the answer says REFUSED.
    pub fn set_reason(&self, text: &[u8]) {
        let n = text.iter().position(|&b| b == 0).unwrap_or(text.len()).min(TEXT_LEN - 1);
        for (to, from) in self.reason.iter().zip(text[..n].iter().chain(&[0])) {
            to.store(*from, Ordering::Relaxed);
        }
    }

    /// What the dumper says.
    pub fn text(&self) -> [u8; TEXT_LEN] {
        let mut text = [0; TEXT_LEN];
        for (to, from) in text.iter_mut().zip(&self.text) {
            *to = from.load(Ordering::Relaxed);
        }
        text[TEXT_LEN - 1] = 0;
        text
    }

    /// Why the program itself refused.
    pub fn reason(&self) -> [u8; TEXT_LEN] {
        core::array::from_fn(|i| self.reason[i].load(Ordering::Relaxed))
    }

    /// Random bits of the last resume.
    pub fn random(&self) -> [u8; 16] {
        core::array::from_fn(|i| self.random[i].load(Ordering::Relaxed))
    }

    /// Signal of the question.
    pub fn suspend_signal(&self) -> core::ffi::c_int {
        self.suspend_signal as core::ffi::c_int
    }

    /// Signal of the outcome.
    pub fn resume_signal(&self) -> core::ffi::c_int {
        self.resume_signal as core::ffi::c_int
    }

    /// One of [`image_format::control::mode`].
    pub fn mode(&self) -> u32 {
        self.mode
    }
}
