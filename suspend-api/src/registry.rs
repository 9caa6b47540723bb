//! The registered pairs of callbacks, in order.
//!
//! The list is locked for the whole of a round: to register or unregister from another thread
//! waits for its end. The callbacks themselves run on the thread that has the lock, and may do
//! both: what they unregister is only marked, so that nothing that runs is freed.

use crate::sys::{self, Errno, Mask};
use crate::{block, hold};
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int, c_void};
use core::sync::atomic::{AtomicU32, Ordering};
use image_format::control::TEXT_LEN;

/// What a suspend callback is told, and where it puts its reason; struct suspend_request of
/// suspend.h.
#[repr(C)]
pub struct RawRequest {
    /// How long the dumper waits for all answers of this process, milliseconds.
    pub timeout_ms: u32,
    /// 1 if the process is to run on afterwards.
    pub leave_running: u32,
    /// Why the callback refuses, ended by 0.
    pub reason: [c_char; TEXT_LEN],
}

/// What a resume callback is told; struct suspend_outcome of suspend.h.
#[repr(C)]
pub struct RawOutcome {
    /// One of [`image_format::control::outcome`].
    pub event: u32,
    /// 1 on another machine.
    pub other_machine: u32,
    /// 1 under another process id.
    pub other_pid: u32,
    /// How often the process was resumed so far.
    pub resumes: u32,
    /// Wall-clock nanoseconds since it was suspended.
    pub elapsed_ns: u64,
    /// New in every resume.
    pub random: [u8; 16],
    /// Why it was cancelled, ended by 0.
    pub reason: [c_char; TEXT_LEN],
}

/// Refuses by a result other than 0.
pub type Suspend = unsafe extern "C" fn(*mut c_void, *mut RawRequest) -> c_int;
/// Is told the outcome.
pub type Resume = unsafe extern "C" fn(*mut c_void, *const RawOutcome);
/// Frees a context.
pub type Free = unsafe extern "C" fn(*mut c_void);

/// A registered pair.
#[derive(Clone, Copy)]
pub struct Pair {
    /// Runs before the suspension.
    pub suspend: Option<Suspend>,
    /// Runs after it.
    pub resume: Option<Resume>,
    /// Handed to both.
    pub context: *mut c_void,
    /// Frees it when the pair is unregistered.
    pub free: Option<Free>,
}

struct Entry {
    id: i32,
    pair: Pair,
    /// Its suspend callback ran in this round, or would have if it had one.
    ran: bool,
    dead: bool,
}

struct List(UnsafeCell<Vec<Entry>>);
// SAFETY: only `with` reaches it, under the lock or on the thread that has it.
unsafe impl Sync for List {}

static LIST: List = List(UnsafeCell::new(Vec::new()));
/// 0 free, 1 taken, 2 taken and awaited.
static LOCK: AtomicU32 = AtomicU32::new(0);
static LAST_ID: AtomicU32 = AtomicU32::new(0);

fn lock() {
    if LOCK.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
        return;
    }
    while LOCK.swap(2, Ordering::Acquire) != 0 {
        sys::wait(&LOCK, 2, None);
    }
}

fn unlock() {
    if LOCK.swap(0, Ordering::Release) == 2 {
        sys::wake(&LOCK);
    }
}

/// Reaches the list for a moment; nothing that is called meanwhile may reach it again.
fn with<T>(what: impl FnOnce(&mut Vec<Entry>) -> T) -> T {
    // SAFETY: the lock is held, by this thread or by the round that it conducts, and no callback
    // runs inside of `what`.
    what(unsafe { &mut *LIST.0.get() })
}

/// Does something with the list locked and the handler held off.
fn locked<T>(what: impl FnOnce(&mut Vec<Entry>) -> T) -> T {
    if hold::conducts() {
        return with(what);
    }
    let before = Mask::all_but(&[]).set();
    lock();
    let result = with(what);
    unlock();
    before.set();
    result
}

fn count(list: &[Entry]) {
    if let Some(block) = block::own() {
        let alive = list.iter().filter(|e| !e.dead).count();
        block.callbacks.store(alive as u32, Ordering::Relaxed);
    }
}

/// Adds a pair; gives its id, above 0. There may be as many as there is memory for.
pub fn add(pair: Pair) -> Result<i32, Errno> {
    let id = (LAST_ID.fetch_add(1, Ordering::Relaxed) & 0x3fff_ffff) as i32 + 1;
    locked(|list| {
        list.try_reserve(1).map_err(|_| libc::ENOMEM)?;
        list.push(Entry { id, pair, ran: false, dead: false });
        count(list);
        Ok(id)
    })
}

/// Takes a pair out. On return neither callback runs, unless it is one of them that asked.
pub fn remove(id: i32) -> Result<(), Errno> {
    let conducts = hold::conducts();
    let removed = locked(|list| {
        let at = list.iter().position(|e| e.id == id && !e.dead).ok_or(libc::ENOENT)?;
        let pair = list[at].pair;
        if conducts {
            list[at].dead = true;
        } else {
            list.remove(at);
        }
        count(list);
        Ok::<_, Errno>(pair)
    })?;
    if !conducts {
        free(removed);
    }
    Ok(())
}

fn free(pair: Pair) {
    if let Some(free) = pair.free {
        // SAFETY: whoever registered the pair gave the function for this context, and it is called
        // once: the entry is gone.
        unsafe { free(pair.context) };
    }
}

/// Locks the list for a round.
pub fn begin_round() {
    lock();
    with(|list| list.iter_mut().for_each(|e| e.ran = false));
}

/// Ends it.
pub fn end_round() {
    while let Some(pair) = with(|list| {
        let at = list.iter().position(|e| e.dead)?;
        Some(list.remove(at).pair)
    }) {
        free(pair);
    }
    unlock();
}

/// How the suspend callbacks answered.
pub enum Answer {
    /// All agree.
    Agreed,
    /// The request says why.
    Refused,
    /// A callback forked, and this is the child.
    Child,
}

/// Runs the suspend callbacks, last registered first.
pub fn ask(request: &mut RawRequest) -> Answer {
    let mut at = with(|list| list.len());
    while at > 0 {
        at -= 1;
        let pair = with(|list| {
            let entry = list.get_mut(at).filter(|e| !e.dead)?;
            entry.ran = true;
            Some(entry.pair)
        });
        let Some(Pair { suspend: Some(suspend), context, .. }) = pair else { continue };
        request.reason[0] = 0;
        // SAFETY: registered for this context; entries that die stay until the round ends.
        let refused = unsafe { suspend(context, request) } != 0;
        if block::own().is_none() {
            return Answer::Child;
        }
        if refused {
            // It knows that it refused.
            with(|list| list.get_mut(at).map(|e| e.ran = false));
            return Answer::Refused;
        }
    }
    Answer::Agreed
}

/// Tells those that were asked the outcome, first registered first.
pub fn tell(outcome: &RawOutcome) {
    let mut at = 0;
    while at < with(|list| list.len()) {
        let pair = with(|list| {
            let entry = list.get_mut(at).filter(|e| e.ran && !e.dead)?;
            entry.ran = false;
            Some(entry.pair)
        });
        if let Some(Pair { resume: Some(resume), context, .. }) = pair {
            // SAFETY: as in `ask`.
            unsafe { resume(context, outcome) };
        }
        at += 1;
    }
}

/// In a child after fork: nothing is registered in it. What was, stays allocated: the program's
/// objects that stand for it may live on.
pub fn forget() {
    LOCK.store(0, Ordering::Relaxed);
    with(|list| core::mem::forget(core::mem::take(list)));
}
