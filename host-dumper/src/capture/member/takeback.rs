//! A signal that nobody took is taken back: the process makes rt_sigtimedwait, and queues again what
//! came out with it of others.

use super::super::error::Result;
use super::super::footing;
use super::super::inside::SCRATCH;
use super::super::mem;
use super::super::outside;
use super::super::remote::{self, Call};
use super::super::source;
use super::super::stop::SIGINFO_SIZE;
use super::super::syscalls::judge;
use super::handler::is_ours;
use super::{CaptureError, Member, ThreadKnowledge};
use image_format::arch::x86_64::XSAVE_CARRIED;
use nix::errno::Errno;

/// Where things lie in the thread's room: the set of signals, a timeout of zero, a siginfo_t.
const TIMEOUT: u64 = 8;
const INFO: u64 = 24;
/// Bytes of the kernel's sigset_t.
const SIGSET: u64 = 8;
/// Signals of one number that are looked at.
const MOST: usize = 4096;

const _: () = assert!(INFO as usize + SIGINFO_SIZE <= SCRATCH as usize);

/// What became of a signal that was to be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenBack {
    /// It is gone as if it had never been sent.
    Gone,
    /// The process has taken it meanwhile.
    TooLate,
    /// It is still there.
    Stays,
}

impl Member {
    /// Stops the process and takes the signal that was sent with `value` out of its queue.
    pub fn take_back(&mut self, signal: i32, value: u64) -> Result<TakenBack> {
        self.stop()?;
        self.look_again(None)?;
        let waits = |member: &Self| -> Result<bool> {
            let pending = member.threads[0].stopped()?.pending(true)?;
            Ok(pending.iter().any(|info| is_ours(info, signal, value)))
        };
        if !waits(self)? {
            return Ok(TakenBack::TooLate);
        }
        // A call of ours might end a program under seccomp.
        if self.survey.status.seccomp != 0 {
            return Ok(TakenBack::Stays);
        }
        let outcome = self.take_out(signal, value);
        let undone = self.threads[0].restore();
        outcome.and(undone)?;
        Ok(if waits(self)? { TakenBack::Stays } else { TakenBack::Gone })
    }

    fn take_out(&mut self, signal: i32, value: u64) -> Result<()> {
        let tid = self.pid();
        let lacking = |reason| CaptureError::NoFooting { tid, reason };
        let code = self.code.ok_or(lacking("its text holds no system call to borrow"))?;
        let xsave = self.xsave(&mut Vec::new())?.swap_remove(0);
        let areas: Vec<_> = self.survey.table.iter().map(|(a, _)| a.clone()).collect();
        let leader = self.threads[0].stopped()?;
        let shared = outside::signals(&leader.pending(true)?);
        let pending = outside::signals(&leader.pending(false)?);
        let verdict = judge(
            &self.threads[0].regs,
            &ThreadKnowledge {
                tid,
                sigmask: self.threads[0].sigmask,
                pending: &pending,
                shared: &shared,
                waiting: self.waiting.get(&tid),
                stopped_at: self.stopped_at,
                descriptors: &[],
            },
        );
        self.threads[0].go_on_with(verdict.onward)?;
        self.judged = true;
        let rsp = self.threads[0].regs.rsp;
        let place = footing::on_stack(&areas, rsp, xsave.len(), SCRATCH)
            .or_else(|| footing::low_stack(&areas, xsave.len(), SCRATCH))
            .ok_or(lacking("no stack has room for a signal frame"))?;
        let xfeatures = source::cpu().xcr0 & XSAVE_CARRIED;
        let (leader, home) = (&mut self.threads[0], &verdict.home);
        remote::prepare(leader, code, place, home, &xsave, xfeatures, true)?;
        let scratch = place.scratch;
        let set = 1u64 << (signal - 1);
        let mut head = [0; INFO as usize];
        head[..SIGSET as usize].copy_from_slice(&set.to_le_bytes());
        let mut others = Vec::new();
        for _ in 0..MOST {
            mem::write(tid, scratch, &head)?;
            let args = [scratch, scratch + INFO, scratch + TIMEOUT, SIGSET];
            let wait = Call::new("rt_sigtimedwait", libc::SYS_rt_sigtimedwait, &args);
            match remote::call(&mut self.threads[0], code, wait) {
                Ok(_) => {}
                Err(CaptureError::Remote { errno: Errno::EAGAIN, .. }) => break,
                Err(e) => return Err(e),
            }
            let mut info = [0; SIGINFO_SIZE];
            mem::read_into(tid, scratch + INFO, &mut info)?;
            if is_ours(&info, signal, value) {
                break;
            }
            others.push(info);
        }
        let inner = self.survey.status.ns_tgid.last().copied().unwrap_or(tid);
        for info in others {
            mem::write(tid, scratch + INFO, &info)?;
            let args = [u64::from(inner), signal as u64, scratch + INFO];
            let queue = Call::new("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo, &args);
            remote::call(&mut self.threads[0], code, queue)?;
        }
        Ok(())
    }
}
