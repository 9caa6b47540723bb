//! Threads: what each does in itself before it goes on.

use super::arch::{nr, slot, ucontext};
use super::builder::Arg;
use super::process::signal_of;
use super::ProcessCompiler;
use crate::last::Last;
use crate::layout::Stub;
use crate::LinkError;
use image_format::model::{Sched, Thread};
use image_format::plan::{arg, op, Expect, ThreadPlan};
use image_format::stub::{FRAME_STRIDE, SLOTS_OFFSET, SLOT_SIZE};

pub(super) const PR_SET_PDEATHSIG: u64 = 1;
const PR_SET_DUMPABLE: u64 = 4;
const PR_SET_NAME: u64 = 15;
const PR_SET_TIMERSLACK: u64 = 29;
const DEFAULT_SLACK_NS: u64 = 50_000;
const IOPRIO_WHO_PROCESS: u64 = 1;
const SS_DISABLE: u32 = 2;
/// Size of struct sched_attr in its first version (sched_setattr(2)), bytes.
const SCHED_ATTR_SIZE: u64 = 48;

impl ProcessCompiler<'_> {
    /// Plans every thread; gives the index of the first and their number.
    pub(super) fn threads(&mut self, stub: &Stub, last: &Last) -> Result<(u32, u32), LinkError> {
        let process = self.process;
        if process.threads.is_empty() {
            return Err(LinkError::Model { pid: process.pid, what: "no thread" });
        }
        let first = self.b.threads.len() as u32;
        let mut slots = 0;
        for (index, (thread, &last_calls)) in process.threads.iter().zip(&last.lists).enumerate() {
            let mut regs = thread.regs.clone();
            if thread.reissue.is_some() {
                let address = stub.address + SLOTS_OFFSET + slots * SLOT_SIZE;
                slots += 1;
                regs = slot(thread, address)
                    .ok_or(LinkError::Model {
                        pid: thread.tid,
                        what: "a system call to be issued anew",
                    })?
                    .1;
            }
            let context = ucontext(&regs, thread.sigmask, &thread.altstack);
            let ucontext_off = self.b.data(&context);
            let xsave_off = self.b.data(&thread.xsave.0);
            let first_step = self.b.begin_steps();
            self.thread_steps(thread, index == 0)?;
            let plan = ThreadPlan {
                tid: thread.tid,
                first_step,
                step_count: self.b.steps_since(first_step),
                ucontext_off,
                ucontext_len: context.len() as u32,
                xsave_off,
                xsave_len: thread.xsave.0.len() as u32,
                last_calls,
                frame_address: stub.address + stub.frames_offset() + index as u64 * FRAME_STRIDE,
                clear_tid: thread.clear_tid,
                fs_base: thread.regs.fs_base,
                gs_base: thread.regs.gs_base,
            };
            self.b.threads.push(plan);
        }
        Ok((first, process.threads.len() as u32))
    }

    fn thread_steps(&mut self, thread: &Thread, leader: bool) -> Result<(), LinkError> {
        let name = self.b.path(&thread.name.0);
        self.b.call(
            "name",
            nr::PRCTL,
            &[Arg::value(PR_SET_NAME), Arg::data(name)],
            Expect::Success,
        );
        let args = [thread.clear_tid, 0, 0, 0, 0, 0];
        self.must("address of the tid", nr::SET_TID_ADDRESS, args);
        if thread.robust_list[0] != 0 {
            let args = [thread.robust_list[0], thread.robust_list[1], 0, 0, 0, 0];
            self.must("robust list", nr::SET_ROBUST_LIST, args);
        }
        if thread.altstack.flags & SS_DISABLE == 0 && thread.altstack.size != 0 {
            let flags = u64::from(thread.altstack.flags & !1);
            let at = self.b.words(&[thread.altstack.sp, flags, thread.altstack.size]);
            let args = [Arg::data(at), Arg::value(0)];
            self.b.call("alternate signal stack", nr::SIGALTSTACK, &args, Expect::Success);
        }
        if let Some(rseq) = &thread.rseq {
            let args = [rseq.address, u64::from(rseq.size), 0, u64::from(rseq.signature), 0, 0];
            self.must("restartable sequences", nr::RSEQ, args);
        }
        self.groups_of_thread(thread);
        self.owned_by_thread(thread.tid);
        self.scheduling(&thread.sched);
        if thread.ioprio != 0 {
            let args = [IOPRIO_WHO_PROCESS, 0, u64::from(thread.ioprio), 0, 0, 0];
            self.note("I/O priority", nr::IOPRIO_SET, args);
        }
        if thread.timer_slack_ns != DEFAULT_SLACK_NS && thread.timer_slack_ns != 0 {
            let args = [PR_SET_TIMERSLACK, thread.timer_slack_ns, 0, 0, 0, 0];
            self.note("timer slack", nr::PRCTL, args);
        }
        self.credentials(thread, leader);
        if thread.parent_death_signal != 0 {
            // After the credentials: changing them clears it (prctl(2)).
            let args = [PR_SET_PDEATHSIG, u64::from(thread.parent_death_signal), 0, 0, 0, 0];
            self.must("parent-death signal", nr::PRCTL, args);
        }
        if leader {
            // Likewise cleared by a change of credentials, of any thread: so the leader's steps
            // come last.
            let value = u64::from(self.process.dumpable == 1);
            self.must("dumpable", nr::PRCTL, [PR_SET_DUMPABLE, value, 0, 0, 0, 0]);
        }
        for info in &thread.pending {
            let signal = signal_of(info, thread.tid)?;
            let at = self.b.data(&info.raw.0);
            let args =
                [Arg::kind(arg::PID), Arg::kind(arg::TID), Arg::value(signal), Arg::data(at)];
            let what = format!("pending signal {signal} of thread {}", thread.tid);
            self.b.call(&what, nr::RT_TGSIGQUEUEINFO, &args, Expect::Success);
        }
        Ok(())
    }

    /// Emitted in any case where the resuming command may differ: it may run at another nice
    /// value or under other affinity than the program did.
    fn scheduling(&mut self, sched: &Sched) {
        if sched.policy == 0 && sched.flags == 0 {
            // setpriority's `who` 0 is the calling thread (setpriority(2), C library/kernel
            // differences).
            self.note("nice value", nr::SETPRIORITY, [0, 0, sched.nice as i64 as u64, 0, 0, 0]);
        } else {
            let words = [
                SCHED_ATTR_SIZE | u64::from(sched.policy) << 32,
                sched.flags,
                u64::from(sched.nice as u32) | u64::from(sched.priority) << 32,
                sched.deadline[0],
                sched.deadline[1],
                sched.deadline[2],
            ];
            let at = self.b.words(&words);
            let args = [Arg::value(0), Arg::data(at), Arg::value(0)];
            self.b.call("scheduling policy", nr::SCHED_SETATTR, &args, Expect::Note);
        }
        if !sched.affinity.0.is_empty() {
            let mask = self.b.data(&sched.affinity.0);
            let args = [u64::from(mask), sched.affinity.0.len() as u64, 0, 0, 0, 0];
            self.b.verb(op::AFFINITY, "CPU affinity", args);
        }
    }
}
