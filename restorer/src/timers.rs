//! POSIX timers under their old ids.

use crate::sys::{self, nr, Errno};
use image_format::plan::TimerPlan;

/// prctl(2): timer_create takes the id it is given (Linux 6.15).
const PR_TIMER_CREATE_RESTORE_IDS: usize = 77;
const SIGEV_THREAD_ID: u32 = 4;
/// Ids are given in ascending order; so many are tried for one that lies ahead.
const TRIES: u32 = 100_000;

/// Creates and arms a timer; `tids` are old and new tids of the threads that were started.
pub fn create(timer: &TimerPlan, tids: &[(u32, u32)]) -> Result<usize, Errno> {
    let thread = tids.iter().find(|(old, _)| *old == timer.thread).map_or_else(
        || {
            // The leader: whatever its id is now.
            sys::plain(nr::GETPID, &[]).unwrap_or(0) as u32
        },
        |(_, new)| *new,
    );
    let thread = if timer.notify & SIGEV_THREAD_ID != 0 { thread } else { 0 };
    // struct sigevent: value, signal, notify, tid.
    let event = [
        timer.value,
        u64::from(timer.signal) | u64::from(timer.notify) << 32,
        u64::from(thread),
        0,
        0,
        0,
        0,
        0,
    ];
    let mut id = timer.id;
    let make = |id: &mut u32| {
        let args = [timer.clock as usize, event.as_ptr() as usize, &raw mut *id as usize];
        // SAFETY: the kernel reads the event and writes the id.
        unsafe { sys::call(nr::TIMER_CREATE, &args) }
    };
    if sys::prctl(PR_TIMER_CREATE_RESTORE_IDS, &[1]).is_ok() {
        let made = make(&mut id);
        let _ = sys::prctl(PR_TIMER_CREATE_RESTORE_IDS, &[0]);
        made?;
    } else {
        for _ in 0..TRIES {
            make(&mut id)?;
            if id >= timer.id {
                break;
            }
            sys::plain(nr::TIMER_DELETE, &[id as usize])?;
        }
    }
    if id != timer.id {
        return Err(Errno::EEXIST);
    }
    let split = |ns: u64| [ns / 1_000_000_000, ns % 1_000_000_000];
    let ([is, in_], [rs, rn]) = (split(timer.interval_ns), split(timer.remaining_ns));
    let times = [is, in_, rs, rn];
    // SAFETY: the kernel reads 32 bytes.
    unsafe { sys::call(nr::TIMER_SETTIME, &[id as usize, 0, times.as_ptr() as usize, 0]) }
}
