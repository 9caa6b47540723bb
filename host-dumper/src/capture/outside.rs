//! What the kernel tells about a stopped thread without its help.

use super::error::{CaptureError, Result};
use super::mem;
use super::stop::Stopped;
use image_format::model::{Rseq, Sched, SigInfo};
use nix::errno::Errno;

const IOPRIO_WHO_PROCESS: libc::c_int = 1;
/// Bytes of an affinity mask asked for: 8192 CPUs, the most that the kernel can be built for.
const AFFINITY: usize = 1024;

/// A thread from outside.
#[derive(Debug, Clone)]
pub(super) struct Outside {
    pub pending: Vec<SigInfo>,
    pub robust_list: [u64; 2],
    pub locks_held: bool,
    pub rseq: Option<Rseq>,
    pub sched: Sched,
    pub ioprio: u32,
}

/// Signals as the model has them.
pub(super) fn signals(raw: &[[u8; 128]]) -> Vec<SigInfo> {
    raw.iter().map(|info| SigInfo { raw: info.to_vec().into() }).collect()
}

/// Reads a thread.
pub(super) fn look(thread: &Stopped) -> Result<Outside> {
    let tid = thread.tid();
    let robust_list = robust_list(tid)?;
    Ok(Outside {
        pending: signals(&thread.pending(false)?),
        robust_list,
        locks_held: locks_held(tid, robust_list[0]),
        rseq: thread.rseq()?,
        sched: sched(tid)?,
        ioprio: ioprio(tid),
    })
}

fn failed(request: &'static str, tid: u32) -> CaptureError {
    match Errno::last() {
        Errno::ESRCH => CaptureError::Died { pid: tid, during: "being read" },
        errno => CaptureError::Ptrace { request, tid, errno },
    }
}

fn robust_list(tid: u32) -> Result<[u64; 2]> {
    let mut list = [0u64; 2];
    let [head, len] = &mut list;
    // SAFETY: the call writes one pointer and one size, both 64 bits wide and ours.
    let result = unsafe {
        libc::syscall(
            libc::SYS_get_robust_list,
            tid,
            std::ptr::from_mut(head),
            std::ptr::from_mut(len),
        )
    };
    if result == 0 {
        Ok(list)
    } else {
        Err(failed("get_robust_list", tid))
    }
}

/// The list is not empty, or a lock is just being taken or released.
fn locks_held(tid: u32, head: u64) -> bool {
    if head == 0 {
        return false;
    }
    let Ok(bytes) = mem::read(tid, head, 24) else { return false };
    let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    // The lowest bit of an entry marks a priority-inheritance lock.
    word(0) & !1 != head || word(16) != 0
}

/// struct sched_attr.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    deadline: [u64; 3],
    util: [u32; 2],
}

fn sched(tid: u32) -> Result<Sched> {
    let mut attr = SchedAttr::default();
    let size = std::mem::size_of::<SchedAttr>();
    // SAFETY: the call writes at most `size` bytes into the structure, which is ours.
    let got = unsafe {
        libc::syscall(libc::SYS_sched_getattr, tid, std::ptr::from_mut(&mut attr), size, 0)
    };
    if got != 0 {
        return Err(failed("sched_getattr", tid));
    }
    let mut mask = vec![0u8; AFFINITY];
    // SAFETY: the call writes at most the mask's length.
    let got =
        unsafe { libc::syscall(libc::SYS_sched_getaffinity, tid, mask.len(), mask.as_mut_ptr()) };
    if got < 0 {
        return Err(failed("sched_getaffinity", tid));
    }
    mask.truncate(got as usize);
    Ok(Sched {
        policy: attr.policy,
        flags: attr.flags,
        nice: attr.nice,
        priority: attr.priority,
        deadline: attr.deadline,
        affinity: mask.into(),
    })
}

fn ioprio(tid: u32) -> u32 {
    // SAFETY: takes numbers only.
    let got = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid) };
    u32::try_from(got).unwrap_or(0)
}

/// Where the thread must go on if it stands in a restartable sequence: the sequence's abort
/// handler, as the kernel would do when it comes back to it.
pub(super) fn rseq_abort(tid: u32, rseq: Option<&Rseq>, rip: u64) -> Result<Option<u64>> {
    /// Offset of rseq_cs in struct rseq.
    const RSEQ_CS: u64 = 8;
    let Some(rseq) = rseq else { return Ok(None) };
    let section = mem::read_word(tid, rseq.address + RSEQ_CS)?;
    if section == 0 {
        return Ok(None);
    }
    // struct rseq_cs: version, flags (u32), start_ip, post_commit_offset, abort_ip (u64).
    let Ok(bytes) = mem::read(tid, section, 32) else { return Ok(None) };
    let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    let inside = rip.wrapping_sub(word(8)) < word(16);
    Ok(inside.then(|| word(24)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_this_thread() {
        let tid = nix::unistd::gettid().as_raw() as u32;
        assert!(sched(tid).unwrap().affinity.0.iter().any(|&b| b != 0));
        let list = robust_list(tid).unwrap();
        assert_ne!(list[0], 0);
        assert!(!locks_held(tid, list[0]));
    }

    #[test]
    fn a_section_is_left_by_its_abort_handler() {
        let pid = std::process::id();
        let section: [u64; 4] = [0, 0x1000, 0x10, 0x2000];
        let rseq: [u64; 2] = [0, section.as_ptr() as u64];
        let r = Rseq { address: rseq.as_ptr() as u64, size: 32, signature: 0 };
        let at = |rip| rseq_abort(pid, Some(&r), rip).unwrap();
        assert_eq!(at(0x1000), Some(0x2000));
        assert_eq!(at(0x100f), Some(0x2000));
        assert_eq!(at(0x1010), None);
        assert_eq!(rseq_abort(pid, None, 0x1000).unwrap(), None);
    }
}
