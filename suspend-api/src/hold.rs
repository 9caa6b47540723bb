//! Sections in which the process is not suspended.
//!
//! Each thread has a slot of its own, on a cache line of its own, so that threads do not disturb
//! each other. Between a thread that enters and a round that begins it is Dekker's game: each
//! writes its own word and then reads the other's. Entering therefore has one locked instruction
//! (the exchange of the depth), which no other thread competes for, and leaving has none: a round
//! that misses the end looks again a millisecond later.

use crate::sys;
use core::ffi::{c_char, c_void};
use core::ptr;
use core::sync::atomic::{compiler_fence, AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering};
use image_format::control::HOLD_TO_THE_END;

/// A thread's place.
#[repr(C, align(64))]
struct Slot {
    /// How many sections of this thread are open; written by the thread alone.
    depth: AtomicU32,
    /// How long the section may be waited for, milliseconds.
    wait_ms: AtomicU32,
    /// What is going on in it: an address of a C string, or null.
    reason: AtomicPtr<c_char>,
    /// A request came while it was held, in the handler, and is to be taken up at its end.
    deferred: AtomicBool,
    taken: AtomicBool,
}

/// Slots in one piece of memory.
const MANY: usize = 63;

#[repr(C, align(64))]
struct Chunk {
    slots: [Slot; MANY],
    next: AtomicPtr<Chunk>,
}

static FIRST: Chunk = Chunk {
    slots: [const {
        Slot {
            depth: AtomicU32::new(0),
            wait_ms: AtomicU32::new(0),
            reason: AtomicPtr::new(ptr::null_mut()),
            deferred: AtomicBool::new(false),
            taken: AtomicBool::new(false),
        }
    }; MANY],
    next: AtomicPtr::new(ptr::null_mut()),
};

#[repr(align(64))]
struct Line(AtomicU32);

/// 1 while nobody may enter.
static GATE: Line = Line(AtomicU32::new(0));
/// Changes when a section ends while the gate is closed.
static ENDED: Line = Line(AtomicU32::new(0));
/// The thread that closed the gate.
static CONDUCTOR: AtomicU32 = AtomicU32::new(0);
/// The pthread key under which a thread finds its slot; -1 before it is made, -2 meanwhile.
static KEY: AtomicI32 = AtomicI32::new(-1);

extern "C" fn thread_ends(slot: *mut c_void) {
    // SAFETY: the value under the key is a slot, and slots are never given back.
    let slot = unsafe { &*slot.cast::<Slot>() };
    // A section that was not ended ends here, and with it what waits for it.
    slot.depth.store(0, Ordering::Release);
    compiler_fence(Ordering::SeqCst);
    if slot.deferred.load(Ordering::Relaxed) {
        take_up(slot);
    }
    slot.taken.store(false, Ordering::Release);
}

/// Makes the key; before a thread can be interrupted by the handler.
pub fn prepare() -> Result<(), sys::Errno> {
    loop {
        match KEY.compare_exchange(-1, -2, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => break,
            Err(-2) => core::hint::spin_loop(),
            Err(_) => return Ok(()),
        }
    }
    let mut key = 0;
    // SAFETY: the key is ours to write; the destructor takes what is stored under it.
    let failed = unsafe { libc::pthread_key_create(&raw mut key, Some(thread_ends)) };
    KEY.store(if failed == 0 { key as i32 } else { -1 }, Ordering::Release);
    match failed {
        0 => Ok(()),
        errno => Err(errno),
    }
}

/// The calling thread's slot, if it has one.
#[inline]
fn known() -> Option<&'static Slot> {
    let key = KEY.load(Ordering::Relaxed);
    if key < 0 {
        return None;
    }
    // SAFETY: the key was made; the value under it is null or a slot, which is never given back.
    unsafe { libc::pthread_getspecific(key as libc::pthread_key_t).cast::<Slot>().as_ref() }
}

/// Gives the calling thread a slot. None where there is no memory for one.
#[cold]
fn take() -> Option<&'static Slot> {
    prepare().ok()?;
    let mut chunk = &FIRST;
    loop {
        let free = chunk.slots.iter().find(|s| !s.taken.swap(true, Ordering::AcqRel));
        if let Some(slot) = free {
            slot.depth.store(0, Ordering::Relaxed);
            slot.deferred.store(false, Ordering::Relaxed);
            let key = KEY.load(Ordering::Relaxed) as libc::pthread_key_t;
            // SAFETY: the key was made; thread_ends takes a slot.
            let failed = unsafe { libc::pthread_setspecific(key, ptr::from_ref(slot).cast()) };
            if failed != 0 {
                slot.taken.store(false, Ordering::Release);
                return None;
            }
            return Some(slot);
        }
        chunk = match next(chunk) {
            Some(next) => next,
            None => more(chunk)?,
        };
    }
}

fn next(chunk: &Chunk) -> Option<&'static Chunk> {
    // SAFETY: chunks are never given back.
    unsafe { chunk.next.load(Ordering::Acquire).as_ref() }
}

fn more(last: &Chunk) -> Option<&'static Chunk> {
    let made = sys::map_private(size_of::<Chunk>()).ok()?.cast::<Chunk>();
    // Zero is a chunk of free slots.
    let null = ptr::null_mut();
    match last.next.compare_exchange(null, made, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: mapped, zero, and never given back.
        Ok(_) => unsafe { made.as_ref() },
        Err(other) => {
            // SAFETY: nobody has seen it.
            unsafe { libc::munmap(made.cast(), size_of::<Chunk>()) };
            // SAFETY: another thread has just put it there.
            unsafe { other.as_ref() }
        }
    }
}

/// Whether the calling thread conducts a round: its own callbacks may enter sections.
pub fn conducts() -> bool {
    let conductor = CONDUCTOR.load(Ordering::Relaxed);
    conductor != 0 && conductor == sys::tid()
}

/// Whether some thread conducts a round.
pub fn is_conducted() -> bool {
    CONDUCTOR.load(Ordering::Acquire) != 0
}

/// Whether the calling thread is in a section.
pub fn is_inside() -> bool {
    known().is_some_and(|slot| slot.depth.load(Ordering::Relaxed) != 0)
}

/// Makes the calling thread the conductor of a round; false while another one is.
pub fn become_conductor() -> bool {
    CONDUCTOR.compare_exchange(0, sys::tid(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// The conductor's id is another one since a resume.
pub fn still_conductor() {
    CONDUCTOR.store(sys::tid(), Ordering::Release);
}

/// No round is conducted any more.
pub fn resign() {
    CONDUCTOR.store(0, Ordering::Release);
}

/// Enters a section; waits where a suspension is under way.
#[inline]
pub fn enter() {
    let Some(slot) = known().or_else(take) else { return };
    let depth = slot.depth.load(Ordering::Relaxed);
    if depth != 0 {
        slot.depth.store(depth + 1, Ordering::Relaxed);
        return;
    }
    slot.wait_ms.store(HOLD_TO_THE_END, Ordering::Relaxed);
    slot.depth.swap(1, Ordering::SeqCst);
    if GATE.0.load(Ordering::SeqCst) != 0 {
        enter_later(slot, true);
    }
}

/// Enters a section that may be waited for only so long; null or a C string that stays until its end.
/// In a section that is open already, the shorter time holds until the outermost ends.
pub fn enter_for(wait_ms: u32, reason: *const c_char) {
    enter();
    if let Some(slot) = known() {
        if wait_ms < slot.wait_ms.load(Ordering::Relaxed) {
            slot.reason.store(reason.cast_mut(), Ordering::Relaxed);
            slot.wait_ms.store(wait_ms, Ordering::Release);
            compiler_fence(Ordering::SeqCst);
            if slot.deferred.load(Ordering::Relaxed) {
                // The handler has answered by the longer time.
                crate::handler::answer_deferred();
            }
        }
    }
}

/// Enters a section unless a suspension is under way.
pub fn try_enter() -> bool {
    let Some(slot) = known().or_else(take) else { return true };
    let depth = slot.depth.load(Ordering::Relaxed);
    if depth != 0 {
        slot.depth.store(depth + 1, Ordering::Relaxed);
        return true;
    }
    slot.wait_ms.store(HOLD_TO_THE_END, Ordering::Relaxed);
    slot.depth.swap(1, Ordering::SeqCst);
    GATE.0.load(Ordering::SeqCst) == 0 || enter_later(slot, false)
}

#[cold]
fn enter_later(slot: &Slot, wait: bool) -> bool {
    loop {
        if conducts() {
            return true;
        }
        slot.depth.store(0, Ordering::SeqCst);
        ended();
        if slot.deferred.load(Ordering::Relaxed) {
            take_up(slot);
        }
        if !wait {
            return false;
        }
        while GATE.0.load(Ordering::Acquire) != 0 {
            sys::wait(&GATE.0, 1, None);
        }
        slot.depth.swap(1, Ordering::SeqCst);
        if GATE.0.load(Ordering::SeqCst) == 0 {
            return true;
        }
    }
}

/// Leaves a section. False outside of one.
#[inline]
pub fn leave() -> bool {
    let Some(slot) = known() else { return false };
    let depth = slot.depth.load(Ordering::Relaxed);
    if depth != 1 {
        if depth != 0 {
            slot.depth.store(depth - 1, Ordering::Relaxed);
        }
        return depth != 0;
    }
    slot.depth.store(0, Ordering::Release);
    // A handler that comes before this line has deferred the request to it, one after it has not.
    compiler_fence(Ordering::SeqCst);
    if slot.deferred.load(Ordering::Relaxed) {
        take_up(slot);
    } else if GATE.0.load(Ordering::Relaxed) != 0 {
        ended();
    }
    true
}

#[cold]
fn take_up(slot: &Slot) {
    slot.deferred.store(false, Ordering::Relaxed);
    crate::round::conduct();
}

#[cold]
fn ended() {
    ENDED.0.fetch_add(1, Ordering::Release);
    sys::wake(&ENDED.0);
}

/// In the handler: the interrupted thread is in a section, whose end will take the request up.
/// Gives how long that may last, and the reason.
pub fn defer() -> Option<(u32, *const c_char)> {
    let slot = known()?;
    if slot.depth.load(Ordering::Relaxed) == 0 {
        return None;
    }
    slot.deferred.store(true, Ordering::Relaxed);
    Some((slot.wait_ms.load(Ordering::Acquire), slot.reason.load(Ordering::Relaxed)))
}

/// The deferred request was refused.
pub fn undefer() {
    if let Some(slot) = known() {
        slot.deferred.store(false, Ordering::Relaxed);
    }
}

/// Nobody enters from now on.
pub fn close() {
    GATE.0.store(1, Ordering::SeqCst);
}

/// Everybody may enter.
pub fn open() {
    GATE.0.store(0, Ordering::SeqCst);
    sys::wake(&GATE.0);
}

/// The section of another thread that may be waited for least: for how long, and its reason.
pub fn open_section() -> Option<(u32, *const c_char)> {
    let own = known().map_or(ptr::null(), ptr::from_ref);
    let mut least: Option<(u32, *const c_char)> = None;
    let mut chunk = Some(&FIRST);
    while let Some(c) = chunk {
        for slot in c.slots.iter().filter(|s| !ptr::eq(*s, own)) {
            if slot.depth.load(Ordering::SeqCst) != 0 {
                let ms = slot.wait_ms.load(Ordering::Acquire);
                if least.is_none_or(|(l, _)| ms < l) {
                    // No reason belongs to a section without a limit: a stale one may be there.
                    let reason = if ms == HOLD_TO_THE_END {
                        ptr::null()
                    } else {
                        slot.reason.load(Ordering::Relaxed).cast_const()
                    };
                    least = Some((ms, reason));
                }
            }
        }
        chunk = next(c);
    }
    least
}

/// Waits for the end of some section, a moment.
pub fn await_end(millis: u32) -> bool {
    let seen = ENDED.0.load(Ordering::Acquire);
    if open_section().is_none() {
        return false;
    }
    sys::wait(&ENDED.0, seen, Some(millis))
}

/// In a child after fork: its only thread is the one that forked.
pub fn forget_others() {
    let own = known().map_or(ptr::null(), ptr::from_ref);
    let mut chunk = Some(&FIRST);
    while let Some(c) = chunk {
        for slot in c.slots.iter().filter(|s| !ptr::eq(*s, own)) {
            slot.depth.store(0, Ordering::Relaxed);
            slot.taken.store(false, Ordering::Relaxed);
        }
        chunk = next(c);
    }
    undefer();
    GATE.0.store(0, Ordering::Relaxed);
    CONDUCTOR.store(0, Ordering::Relaxed);
}
