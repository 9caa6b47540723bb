//! One process under capture, from the first look to its release or end.

mod ask;
mod examine;
mod handler;
mod leave;
mod takeback;

pub(super) use examine::Examined;
pub use handler::{queued, Handled};
pub use takeback::TakenBack;

use super::error::{CaptureError, Result};
use super::files::{self, Condition, Descriptor};
use super::footing::{self, Code};
use super::outside::{self, Outside};
use super::source;
use super::stub::{self, Stub};
use super::survey::{self, Survey, ThreadStatus};
use super::syscalls::remaining::{self, Waiting};
use super::syscalls::{judge, Verdict};
use super::target::{self, Seen, Target};
use super::thread::Thread;
use crate::capture::knowledge::ThreadKnowledge;
use image_format::model::SigInfo;
use nix::errno::Errno;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::time::Instant;

/// A process under capture. Dropped, it lets the process go on as if nothing had been.
#[derive(Debug)]
pub(super) struct Member {
    pub target: Target,
    threads: Vec<Thread>,
    pub survey: Survey,
    /// Of the threads that were looked at.
    pub statuses: Vec<ThreadStatus>,
    pub stub: Option<Stub>,
    /// Its children when they were last counted, ended ones too.
    pub children: Vec<u32>,
    /// Where system calls can be made from.
    pub code: Option<Code>,
    waiting: BTreeMap<u32, Waiting>,
    stopped_at: Instant,
    /// It was decided how each thread goes on.
    judged: bool,
    /// A mapping of ours in the process: address and length.
    room: Option<(u64, u64)>,
}

impl Member {
    /// Looks at a process that still runs. Descriptors are not looked at now, and of many threads
    /// only the leader: to read all of them twice would double the time of the dump.
    pub fn open(target: Target, seen: Option<Seen>) -> Result<Self> {
        let survey = survey::begin(&target, seen)?;
        let statuses = survey::threads(&target, &survey, &[target.proc.pid()])?;
        let stub = stub::find(target.proc.pid(), &survey.table);
        Ok(Self {
            target,
            threads: Vec::new(),
            survey,
            statuses,
            stub,
            children: Vec::new(),
            code: None,
            waiting: BTreeMap::new(),
            stopped_at: Instant::now(),
            judged: false,
            room: None,
        })
    }

    /// Counts the children, of all threads: each may have made some. A dumper that the program started itself
    /// (`for_itself`) is none, though orphans may come to the program.
    pub fn count_children(&mut self, for_itself: bool) -> Vec<u32> {
        let proc = &self.target.proc;
        // The first thread last: orphans come to it while this looks.
        self.children = if self.threads.is_empty() {
            let tids = proc.threads().unwrap_or_default();
            target::children(proc, tids.into_iter().rev())
        } else {
            target::children(proc, self.threads.iter().rev().map(Thread::tid))
        };
        let us = [std::process::id(), std::os::unix::process::parent_id()];
        self.children.retain(|pid| !(for_itself && us.contains(pid)));
        self.children.clone()
    }

    /// Looks anew at a process that has run on since.
    pub fn look_anew(&mut self) -> Result<()> {
        let before = std::mem::take(&mut self.survey.table);
        self.survey = survey::look(&self.target, before, Condition::Running)?;
        self.statuses = survey::threads(&self.target, &self.survey, &[self.pid()])?;
        self.stub = stub::find(self.pid(), &self.survey.table);
        Ok(())
    }

    /// Looks at the descriptors of a process that runs on, unless it has more than `most`.
    pub fn look_at_descriptors(&mut self, most: usize) -> Result<()> {
        self.survey.descriptors = files::scan(&self.target.proc, most, Condition::Running)?;
        Ok(())
    }

    /// Looks at all threads of a process that runs on.
    pub fn look_at_threads(&mut self) -> Result<()> {
        let tids = self.target.proc.threads()?;
        self.statuses = survey::threads(&self.target, &self.survey, &tids)?;
        Ok(())
    }

    /// What is better done before the stop.
    pub fn get_ready(&mut self, hint: Option<Code>) -> Result<()> {
        let areas: Vec<_> = self.survey.table.iter().map(|(a, _)| a.clone()).collect();
        self.code = footing::find_code(self.pid(), &areas, hint);
        // The processor is asked before the stop: the instruction is slow in virtual machines.
        source::cpu();
        let tids = self.target.proc.threads()?;
        self.waiting = remaining::look(&self.target.proc, &tids);
        Ok(())
    }

    /// The process, as this program sees it.
    pub fn pid(&self) -> u32 {
        self.target.proc.pid()
    }

    /// Stops every thread: all are asked first, then waited for, until no new ones turn up.
    pub fn stop(&mut self) -> Result<()> {
        let pid = self.pid();
        self.stopped_at = Instant::now();
        // Some may be ours already: those of a process whose handler was followed.
        let mut new: Vec<usize> =
            (0..self.threads.len()).filter(|&i| self.threads[i].is_running()).collect();
        loop {
            for tid in self.target.proc.threads()? {
                if self.threads.iter().any(|t| t.tid() == tid) {
                    continue;
                }
                match Thread::seize(tid) {
                    Ok(thread) => {
                        self.threads.push(thread);
                        new.push(self.threads.len() - 1);
                    }
                    // A thread that ends is no loss; a process that does is.
                    Err(Errno::ESRCH) if tid != pid => {}
                    Err(e) => return Err(target::seize_failed(pid, e)),
                }
            }
            if new.is_empty() {
                break;
            }
            for &i in &new {
                ended_is_fine(pid, &self.threads[i], self.threads[i].interrupt())?;
            }
            for &i in &new {
                let outcome = self.threads[i].wait_event();
                let outcome = outcome.and_then(|signal| self.threads[i].note(signal));
                ended_is_fine(pid, &self.threads[i], outcome)?;
            }
            self.threads.retain(|t| !t.is_gone());
            new.clear();
        }
        // The leader first, then as the kernel lists them.
        self.threads.sort_by_key(|t| (t.tid() != pid, t.tid()));
        match self.threads.first() {
            Some(leader) if leader.tid() == pid => Ok(()),
            _ => Err(CaptureError::Died { pid, during: "being stopped" }),
        }
    }

    /// Looks again at the stopped process, whose parent has these descriptors; none where it is alone.
    pub fn look_again(&mut self, parent: Option<&[Descriptor]>) -> Result<()> {
        let (inherited, in_tree) = (parent.unwrap_or(&[]), parent.is_some());
        let standing = Condition::Standing { inherited, in_tree };
        let before = std::mem::take(&mut self.survey.table);
        self.survey = survey::look(&self.target, before, standing)?;
        self.stub = stub::find(self.pid(), &self.survey.table);
        let pid = self.pid();
        if !self.code.is_some_and(|code| footing::still_there(pid, code)) {
            // It has started another program since.
            let areas: Vec<_> = self.survey.table.iter().map(|(a, _)| a.clone()).collect();
            self.code = footing::find_code(pid, &areas, None);
        }
        while self.leave_code_of_ours()? {
            // What ran a moment may have closed a descriptor or mapped memory.
            let before = std::mem::take(&mut self.survey.table);
            self.survey = survey::look(&self.target, before, standing)?;
        }
        let tids: Vec<u32> = self.threads.iter().map(Thread::tid).collect();
        self.statuses = survey::threads(&self.target, &self.survey, &tids)?;
        if self.statuses.len() != tids.len() {
            return Err(CaptureError::Died { pid: self.pid(), during: "being read" });
        }
        Ok(())
    }

    fn judge(&mut self, outside: &[Outside], shared: &[SigInfo]) -> Result<Vec<Verdict>> {
        let pid = self.pid();
        let (stub, survey) = (self.stub.as_ref(), &self.survey);
        let mut verdicts = Vec::with_capacity(self.threads.len());
        for (t, out) in self.threads.iter_mut().zip(outside) {
            let knowledge = ThreadKnowledge {
                tid: t.tid(),
                sigmask: t.sigmask,
                pending: &out.pending,
                shared,
                waiting: self.waiting.get(&t.tid()),
                stopped_at: self.stopped_at,
                descriptors: &survey.descriptors,
            };
            let mut verdict = judge(&t.regs, &knowledge);
            if let Some(slot) = stub.map(|s| s.slot(pid, t.regs.rip)).transpose()?.flatten() {
                verdict = stub::translate(verdict, &slot, &t.regs);
            }
            if let Some(abort) = outside::rseq_abort(t.tid(), out.rseq.as_ref(), t.regs.rip)? {
                // Calls of ours make the kernel forget the section; so it is left here.
                verdict.regs.rip = abort;
                verdict.onward.rip = abort;
                verdict.home.rip = abort;
            }
            t.go_on_with(verdict.onward)?;
            verdicts.push(verdict);
        }
        self.judged = true;
        Ok(verdicts)
    }

    /// Hides the stop from system calls that it interrupted, where no capture came so far.
    fn hide_stop(&mut self) -> Result<()> {
        let Some(leader) = self.threads.first() else { return Ok(()) };
        let shared = outside::signals(&leader.stopped()?.pending(true)?);
        for t in &mut self.threads {
            let pending = outside::signals(&t.stopped()?.pending(false)?);
            let knowledge = ThreadKnowledge {
                tid: t.tid(),
                sigmask: t.sigmask,
                pending: &pending,
                shared: &shared,
                waiting: self.waiting.get(&t.tid()),
                stopped_at: self.stopped_at,
                descriptors: &[],
            };
            t.go_on_with(judge(&t.regs, &knowledge).onward)?;
        }
        Ok(())
    }

    /// Lets the process go on as if nothing had been.
    pub fn release(mut self) -> Result<()> {
        self.let_go()
    }

    /// Does something while the process stands, and lets it go on.
    pub fn standing<T>(&mut self, what: impl FnOnce() -> T) -> Result<T> {
        let done = self.stop().map(|()| what());
        let gone = self.let_go();
        let done = done?;
        gone.map(|()| done)
    }

    fn let_go(&mut self) -> Result<()> {
        // The process ending meanwhile is no failure of ours to let it go.
        let mut outcome = if self.judged { Ok(()) } else { self.hide_stop() };
        let mut stop_again = false;
        for thread in &mut self.threads {
            match thread.detach() {
                Ok(again) => stop_again |= again,
                Err(e) => outcome = outcome.and(Err(e)),
            }
        }
        self.threads.clear();
        if stop_again {
            // It arrived while signals were held back, and was to stop the process.
            let _ = kill(Pid::from_raw(self.pid() as i32), Signal::SIGSTOP);
        }
        outcome
    }

    /// Sends the signal that ends the process where it stands: it never runs another instruction.
    pub fn kill(&self) -> Result<()> {
        let pid = self.pid();
        match kill(Pid::from_raw(pid as i32), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(CaptureError::Ptrace { request: "kill", tid: pid, errno }),
        }
    }

    /// Waits for the end that [`Member::kill`] brought.
    pub fn await_end(mut self) {
        // Threads first: the leader's end is reported when it is the last.
        for thread in self.threads.drain(..).rev() {
            thread.wait_end();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Nobody is left to be told; every thread is let go whatever happened to the others.
        let _ = self.let_go();
    }
}

/// A thread other than the leader may end at any moment.
fn ended_is_fine(pid: u32, thread: &Thread, outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(CaptureError::Died { .. }) if thread.tid() != pid && thread.is_gone() => Ok(()),
        other => other,
    }
}
