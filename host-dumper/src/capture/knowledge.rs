//! What is known about a stopped thread, for judging its interrupted system call.

use super::files::{Descriptor, Kind};
use super::mem;
use super::syscalls::remaining::Waiting;
use super::syscalls::Knowledge;
use image_format::model::SigInfo;
use std::time::Instant;

/// `mov $imm32, %eax` as it stands before most system calls: opcode, number, `syscall`.
const MOV_EAX: u8 = 0xb8;
const MOV_LEN: u64 = 5;
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// A stopped thread.
pub(super) struct ThreadKnowledge<'a> {
    pub tid: u32,
    pub sigmask: u64,
    pub pending: &'a [SigInfo],
    pub shared: &'a [SigInfo],
    pub waiting: Option<&'a Waiting>,
    pub stopped_at: Instant,
    pub descriptors: &'a [Descriptor],
}

impl Knowledge for ThreadKnowledge<'_> {
    fn signal_due(&self) -> bool {
        self.pending.iter().chain(self.shared).any(|info| {
            let number = info.raw.0.first_chunk::<4>().map_or(0, |b| u32::from_le_bytes(*b));
            (1..=64).contains(&number) && self.sigmask >> (number - 1) & 1 == 0
        })
    }

    fn timespec(&self, address: u64) -> Option<u64> {
        let bytes = mem::read(self.tid, address, 16).ok()?;
        let (secs, nanos) = bytes.split_at(8);
        let word = |b: &[u8]| b.try_into().ok().map(i64::from_le_bytes);
        let secs = u64::try_from(word(secs)?).ok()?;
        let nanos = u64::try_from(word(nanos)?).ok()?;
        Some(secs.saturating_mul(1_000_000_000).saturating_add(nanos))
    }

    fn elapsed(&self, nr: i64, args: &[u64; 6]) -> Option<u64> {
        let w = self.waiting.filter(|w| w.args == *args)?;
        if w.nr != nr && w.nr != libc::SYS_restart_syscall {
            return None;
        }
        let since = self.stopped_at.saturating_duration_since(w.seen).as_nanos() as u64;
        Some(w.elapsed + since)
    }

    fn number_before(&self, rip: u64) -> Option<i64> {
        let from = rip.checked_sub(MOV_LEN + SYSCALL.len() as u64)?;
        let code = mem::read(self.tid, from, MOV_LEN as usize + SYSCALL.len()).ok()?;
        let (opcode, rest) = code.split_first()?;
        let (number, syscall) = rest.split_first_chunk::<4>()?;
        (*opcode == MOV_EAX && *syscall == SYSCALL).then(|| i64::from(i32::from_le_bytes(*number)))
    }

    fn blocking_stream(&self, fd: u64) -> bool {
        self.descriptors.iter().any(|d| {
            u64::from(d.fd) == fd
                && (matches!(
                    d.kind,
                    Kind::Pipe
                        | Kind::PipeOutside { .. }
                        | Kind::Socket
                        | Kind::SocketLive { .. }
                        | Kind::Outside { .. }
                ) || d.is_terminal())
                && d.flags() & libc::O_NONBLOCK as u32 == 0
        })
    }
}
