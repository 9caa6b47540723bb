//! Groups, capabilities, affinity: as far as the resumer's rights and the target's means go.

use crate::say;
use crate::sys::{self, nr, Errno};
use alloc::vec;
use alloc::vec::Vec;

const SETGROUPS: usize = 116;
const GETGROUPS: usize = 115;
const PR_CAPBSET_DROP: usize = 24;
const PR_SET_SECUREBITS: usize = 28;
const PR_GET_SECUREBITS: usize = 27;
const PR_CAP_AMBIENT: usize = 47;
const AMBIENT_RAISE: usize = 2;
const AMBIENT_CLEAR_ALL: usize = 4;
/// _LINUX_CAPABILITY_VERSION_3.
const VERSION: u32 = 0x2008_0522;

/// Supplementary groups of this process.
pub fn groups() -> Vec<u32> {
    // More than almost any process has; the kernel says so where they do not fit.
    let mut groups = vec![0u32; 64];
    loop {
        let args = [groups.len(), groups.as_mut_ptr() as usize];
        // SAFETY: the kernel writes as many numbers as there is room for, or none.
        match unsafe { sys::call(GETGROUPS, &args) } {
            Err(Errno::EINVAL) => groups.resize(groups.len() * 4, 0),
            found => {
                groups.truncate(found.unwrap_or(0));
                return groups;
            }
        }
    }
}

/// setgroups(2), unless the resuming command had the same groups.
pub fn set_groups(wanted: &[u32], had: &[u32]) -> Result<usize, Errno> {
    if wanted == had {
        return Ok(0);
    }
    // SAFETY: the kernel reads the numbers.
    unsafe { sys::call(SETGROUPS, &[wanted.len(), wanted.as_ptr() as usize]) }
}

fn set_words(words: &[u32; 6]) -> Result<usize, Errno> {
    let header = [VERSION, 0];
    // SAFETY: the kernel reads header and two triples.
    unsafe { sys::call(nr::CAPSET, &[header.as_ptr() as usize, words.as_ptr() as usize]) }
}

/// Effective, permitted, inheritable set of this thread.
pub fn capabilities() -> [u64; 3] {
    let header = [VERSION, 0];
    let mut w = [0u32; 6];
    // SAFETY: the kernel reads the header and writes two triples.
    let _ = unsafe { sys::call(nr::CAPGET, &[header.as_ptr() as usize, w.as_mut_ptr() as usize]) };
    core::array::from_fn(|i| u64::from(w[i]) | u64::from(w[i + 3]) << 32)
}

/// Takes on the sets (inheritable, permitted, effective, bounding, ambient) and the securebits,
/// each as far as the rights at hand go.
pub fn set_capabilities(wanted: &[u64; 6]) -> Result<usize, Errno> {
    let [inheritable, permitted, effective, bounding, ambient, securebits] = *wanted;
    let [held_effective, held, held_inheritable] = capabilities();
    for cap in (0..64).filter(|cap| bounding >> cap & 1 == 0) {
        // EPERM: without CAP_SETPCAP the set stays wider, which gives nobody a right he had not.
        // EINVAL: beyond the last capability that there is.
        if sys::prctl(PR_CAPBSET_DROP, &[cap]).is_err() {
            break;
        }
    }
    if sys::prctl(PR_GET_SECUREBITS, &[]) != Ok(securebits as usize) {
        let _ = sys::prctl(PR_SET_SECUREBITS, &[securebits as usize]);
    }
    // The ambient set is a part of the inheritable one.
    if held_inheritable != 0 {
        let _ = sys::prctl(PR_CAP_AMBIENT, &[AMBIENT_CLEAR_ALL]);
    }
    let p = permitted & held;
    let e = effective & p;
    let i = inheritable & (held_inheritable | held);
    let low = |n: u64| n as u32;
    let high = |n: u64| (n >> 32) as u32;
    if [e, p, i] != [held_effective, held, held_inheritable] {
        set_words(&[low(e), low(p), low(i), high(e), high(p), high(i)])?;
    }
    for cap in (0..64).filter(|cap| ambient & p & i & 1 << cap != 0) {
        let _ = sys::prctl(PR_CAP_AMBIENT, &[AMBIENT_RAISE, cap]);
    }
    if permitted & !held != 0 {
        return Err(Errno::EPERM);
    }
    Ok(0)
}

/// Sets the CPUs, clipped to those that there are here.
pub fn set_affinity(mask: &[u8]) -> Result<usize, Errno> {
    let mut here = [0u8; 1024];
    let args = [0, here.len(), here.as_mut_ptr() as usize];
    // SAFETY: the kernel writes at most 1024 bytes.
    let len = unsafe { sys::call(nr::SCHED_GETAFFINITY, &args) }?;
    let here = &mut here[..len];
    let mut wanted = vec![0u8; len];
    let mut clipped = false;
    for (i, byte) in mask.iter().enumerate() {
        let there = here.get(i).copied().unwrap_or(0);
        clipped |= byte & !there != 0;
        if let Some(w) = wanted.get_mut(i) {
            *w = byte & there;
        }
    }
    if wanted == *here {
        return Ok(0);
    }
    if wanted.iter().all(|b| *b == 0) {
        say!("note: none of the program's CPUs may be used here; it gets all that may");
        return Ok(0);
    }
    if clipped {
        say!("note: some of the program's CPUs may not be used here");
    }
    // SAFETY: the kernel reads the mask.
    unsafe { sys::call(nr::SCHED_SETAFFINITY, &[0, wanted.len(), wanted.as_ptr() as usize]) }
}
