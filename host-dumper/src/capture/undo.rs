//! What a process would undo at its end (semop(2), SEM_UNDO).
//!
//! No interface shows the adjustments, but their range is limited: an operation that would leave it
//! fails with ERANGE. So the process tries to move an adjustment by the whole range, which only one
//! of zero survives, in a list of operations whose last cannot be done: then the kernel takes all of
//! them back, and nothing ever happened (`perform_atomic_semop_slow` in ipc/sem.c).

use super::error::Result;
use super::footing::Code;
use super::mem;
use super::remote::{call_each, Call};
use super::sysv;
use super::thread::Thread;

/// Largest value of a semaphore, and of an adjustment; the smallest adjustment is one lower than
/// the negative.
const MOST: i32 = 32767;
const SEM_UNDO: i16 = 0x1000;
const NOWAIT: i16 = libc::IPC_NOWAIT as i16;
/// struct sembuf: number, operation, flags.
const OPERATION: usize = 6;
/// Semaphores that are tried at once: four operations each, and the last one, have room.
const AT_ONCE: usize = 10;

/// A semaphore: the id of its set, and its number there.
pub(super) type Semaphore = (u32, u32);

/// A direction in which an adjustment may differ from zero.
#[derive(Debug, Clone, Copy)]
enum Way {
    Up,
    Down,
}

/// Operations that move the adjustment of a semaphore of this value by the whole range, and leave
/// its value as it is: by way of a larger value or a smaller one, whichever has more room.
fn operations(number: u16, value: i32, way: Way) -> Vec<[i16; 3]> {
    let room = value.max(MOST - value);
    let total = match way {
        Way::Up => MOST,
        Way::Down => MOST + 1,
    };
    let mut all = Vec::with_capacity(4);
    for by in [room.min(total), total - room.min(total)] {
        // What is undone moves the adjustment the other way.
        let (counted, plain) = match way {
            Way::Up => (-by, by),
            Way::Down => (by, -by),
        };
        let mut pair = [(counted, NOWAIT | SEM_UNDO), (plain, NOWAIT)];
        let grows = MOST - value >= value;
        if (pair[0].0 > 0) != grows {
            pair.reverse();
        }
        all.extend(pair.map(|(by, flags)| [number as i16, by as i16, flags]));
    }
    all
}

/// The semaphores of which the process of these threads would undo something, or of which that
/// cannot be told. Threads may have lists of their own, though those of the C library have one.
pub(super) fn ask(threads: &mut [Thread], code: Code) -> Result<Vec<Semaphore>> {
    let mut found = Vec::new();
    if !sysv::has_semaphores() {
        return Ok(found);
    }
    let leader = threads.first().map_or(0, Thread::tid);
    for thread in threads {
        let tid = thread.tid();
        if sysv::has_undo_list(tid) && (tid == leader || !sysv::same_undo_list(leader, tid)) {
            for id in sysv::sets() {
                found.extend(ask_about(thread, code, id)?);
            }
        }
    }
    Ok(found)
}

fn ask_about(thread: &mut Thread, code: Code, id: u32) -> Result<Vec<Semaphore>> {
    let mut found = Vec::new();
    let values = sysv::values(id);
    for first in (0..values.len()).step_by(AT_ONCE) {
        let some: Vec<usize> = (first..values.len().min(first + AT_ONCE)).collect();
        if !is_moved(thread, code, id, &values, &some)? {
            continue;
        }
        for &index in &some {
            if is_moved(thread, code, id, &values, &[index])? {
                found.push((id, index as u32));
            }
        }
    }
    if !found.is_empty() || sysv::values(id) == values {
        return Ok(found);
    }
    // Others have used them meanwhile, so that the answers may be wrong.
    Ok((0..values.len()).map(|index| (id, index as u32)).collect())
}

/// Whether one of these semaphores has an adjustment.
fn is_moved(
    thread: &mut Thread,
    code: Code,
    id: u32,
    values: &[u16],
    some: &[usize],
) -> Result<bool> {
    let Some(scratch) = thread.undo.as_ref().map(|u| u.scratch) else { return Ok(true) };
    for way in [Way::Up, Way::Down] {
        let each = some
            .iter()
            .filter_map(|&i| Some(operations(i as u16, i32::from(*values.get(i)?), way)));
        // What no semaphore can give.
        let last = [some.first().map_or(0, |&i| i as i16), i16::MIN, NOWAIT];
        let all: Vec<[i16; 3]> = each.flatten().chain([last]).collect();
        let bytes: Vec<u8> = all.iter().flatten().flat_map(|half| half.to_ne_bytes()).collect();
        debug_assert_eq!(bytes.len(), all.len() * OPERATION);
        mem::write(thread.tid(), scratch, &bytes)?;
        let args = [u64::from(id), scratch, all.len() as u64];
        let call = Call::new("semop", libc::SYS_semop, &args);
        let result = call_each(std::slice::from_mut(thread), code, &[Some(call)])?;
        if result.first() == Some(&-i64::from(libc::ERANGE)) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel does it; gives the adjustment that would be, or none where it fails.
    fn perform(all: &[[i16; 3]], mut value: i32, mut adjustment: i32) -> Option<i32> {
        let before = value;
        for [_, by, flags] in all.iter().map(|o| o.map(i32::from)) {
            value += by;
            assert!((0..=MOST).contains(&value), "{value}");
            if flags & i32::from(SEM_UNDO) != 0 {
                adjustment -= by;
                if !(-MOST - 1..=MOST).contains(&adjustment) {
                    return None;
                }
            }
        }
        assert_eq!(value, before);
        Some(adjustment)
    }

    #[test]
    fn only_zero_survives_both_ways() {
        for value in [0, 1, 2, 16383, 16384, 32766, 32767] {
            for adjustment in [-32768, -32767, -5, -1, 0, 1, 7, 32767] {
                let up = perform(&operations(3, value, Way::Up), value, adjustment);
                let down = perform(&operations(3, value, Way::Down), value, adjustment);
                assert_eq!(up.is_none(), adjustment > 0, "{value} {adjustment}");
                assert_eq!(down.is_none(), adjustment < 0, "{value} {adjustment}");
            }
        }
    }
}
