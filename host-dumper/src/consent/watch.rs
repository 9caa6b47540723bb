//! A limit of time for looks at the memory of another process.
//!
//! Where that memory is under userfaultfd(2), or of a file whose file system does not answer, a look ends
//! when somebody else wants it to, and nothing but the end of this process ends it before. So a thread of its
//! own keeps the time, and has the last word should it be over.

use super::error::{ConsentError, Who};
use crate::capture::name_of;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::Duration;

/// Between two looks at the looks.
const TICK: Duration = Duration::from_millis(50);
/// Less than this is no time for a machine that has much to do.
const LEAST: Duration = Duration::from_secs(1);

/// Odd while a look goes on; changes with each.
static LOOKS: AtomicU64 = AtomicU64::new(0);
/// At whose memory.
static WHOSE: AtomicU32 = AtomicU32::new(0);
/// What has the last word.
type LastWord = Box<dyn Fn(ConsentError) + Send>;
/// The limit and the last word, until the first look.
static ASKED_FOR: Mutex<Option<(Duration, LastWord)>> = Mutex::new(None);
static STARTED: Once = Once::new();

/// Has looks that last longer than `limit` end in `last_word`, which must end the process.
pub fn limit(limit: Duration, last_word: impl Fn(ConsentError) + Send + 'static) {
    if let Ok(mut asked_for) = ASKED_FOR.lock() {
        *asked_for = Some((limit.max(LEAST), Box::new(last_word)));
    }
}

/// Starts the thread: where there is nothing to look at, there is none.
fn start() {
    let asked_for = ASKED_FOR.lock().ok().and_then(|mut asked_for| asked_for.take());
    let Some((limit, last_word)) = asked_for else { return };
    // Without it looks have no limit; there is nothing better to do.
    let _ = std::thread::Builder::new().spawn(move || watch(limit, &last_word));
}

fn watch(limit: Duration, last_word: &LastWord) {
    let (mut before, mut waited) = (0, Duration::ZERO);
    loop {
        std::thread::sleep(TICK);
        let now = LOOKS.load(Ordering::Acquire);
        // Counted in ticks, not by the clock: time in which nobody got a processor proves nothing.
        waited = if now % 2 == 1 && now == before { waited + TICK } else { Duration::ZERO };
        before = now;
        if waited >= limit {
            let pid = WHOSE.load(Ordering::Relaxed);
            let who = Who { pid, name: name_of(pid) };
            last_word(ConsentError::Stuck { who, after: limit });
        }
    }
}

/// Looks at the memory of `pid`; one at a time.
pub fn within<T>(pid: u32, look: impl FnOnce() -> T) -> T {
    STARTED.call_once(start);
    WHOSE.store(pid, Ordering::Relaxed);
    LOOKS.fetch_add(1, Ordering::Release);
    let seen = look();
    LOOKS.fetch_add(1, Ordering::Release);
    seen
}
