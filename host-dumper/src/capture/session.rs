//! A tree of processes under capture, from the first look to its release or end.
//!
//! When the last process has stopped, all are read.

mod read;

use super::candidate::{self, Candidate};
use super::census::{self, add_descendants};
use super::error::{CaptureError, Refusal, Result};
use super::files::{self, Live};
use super::member::{Handled, Member, TakenBack};
use super::model;
use super::proc::Proc;
use super::segments::Segments;
use super::survey;
use super::target;
use super::undo::Semaphore;
use super::{kin, namespaces, sysv, Options};
use std::os::fd::OwnedFd;
use std::time::Instant;

/// Descriptors up to which they are looked at before the stop, too: of more, reading them twice
/// would double the time of the dump.
const FEW: usize = 64;

/// A tree under capture. Dropped, it lets every process go on as if nothing had been.
#[derive(Debug)]
pub struct Session {
    /// Parents before children; the first is the root.
    members: Vec<Member>,
    options: Options,
    stopped_at: Instant,
    /// TCP connections inside: closed without a word once the processes have ended.
    quiet: Vec<OwnedFd>,
    /// System V semaphores of which their ends would undo something.
    undo: Vec<Semaphore>,
    /// What is lost of memory that is shared with processes outside.
    apart: Vec<String>,
    /// What is lost of files without a path that they hold, as of the last look.
    held_outside: Vec<String>,
    /// TCP connections to the outside that live on.
    live: Option<Live>,
}

impl Session {
    /// Looks at the process and its descendants, then stops them.
    pub fn seize(pid: u32, options: &Options) -> Result<Self> {
        let mut session = Self::look(pid, options)?;
        session.prepare()?;
        session.stop()?;
        Ok(session)
    }

    /// Sees that nothing visible stands in the way, and does what is better done before the stop.
    pub fn prepare(&mut self) -> Result<()> {
        // Of several processes that run on, one may have been born or have ended between two
        // looks: whether the others can be carried shows when all stand.
        if self.members.len() == 1 && self.members[0].children.is_empty() {
            self.members[0].look_at_descriptors(FEW)?;
            let refusals = self.refusals()?;
            if !refusals.is_empty()
                && self.members[0].count_children(self.options.for_itself).is_empty()
            {
                return Err(CaptureError::Refused(refusals));
            }
        }
        self.apart = self.memory_notes();
        self.while_it_runs(|s| {
            let mut hint = None;
            s.members.iter_mut().try_for_each(|m| {
                m.get_ready(hint)?;
                hint = m.code;
                Ok(())
            })
        })
    }

    /// Does something that fails where a process has ended meanwhile, again without those that
    /// have.
    pub(super) fn while_it_runs<T>(&mut self, what: impl Fn(&mut Self) -> Result<T>) -> Result<T> {
        loop {
            let error = match what(self) {
                Err(error) => error,
                done => return done,
            };
            let before = self.members.len();
            let root = self.pid();
            self.members.retain(|m| m.pid() == root || !kin::is_gone(m.pid()));
            if self.members.len() == before {
                return Err(error);
            }
        }
    }

    /// Looks at the process and its descendants.
    pub fn look(pid: u32, options: &Options) -> Result<Self> {
        let mut members = vec![Member::open(target::open(pid, options.for_itself)?, None)?];
        add_descendants(&mut members, options.for_itself)?;
        Ok(Self {
            members,
            options: *options,
            stopped_at: Instant::now(),
            quiet: Vec::new(),
            undo: Vec::new(),
            apart: Vec::new(),
            held_outside: Vec::new(),
            live: None,
        })
    }

    /// Looks at all their threads and descriptors, too, of processes that run on.
    pub(super) fn look_closely(&mut self) -> Result<()> {
        self.members.iter_mut().try_for_each(|m| {
            m.look_at_descriptors(usize::MAX)?;
            m.look_at_threads()
        })
    }

    /// The processes.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The root process, as this program sees it.
    pub fn pid(&self) -> u32 {
        self.members.first().map_or(0, Member::pid)
    }

    /// All processes, as this program sees them, in the order of the model.
    pub fn pids(&self) -> Vec<i32> {
        self.members.iter().map(|m| m.pid() as i32).collect()
    }

    /// When the first thread was stopped.
    pub fn stopped_at(&self) -> Instant {
        self.stopped_at
    }

    /// What stands in the way, of all processes.
    pub(super) fn refusals(&mut self) -> Result<Vec<Refusal>> {
        let mut all = Vec::new();
        classify(&mut self.members, self.options.tcp_established.is_some())?;
        let resumed = self.members.first().is_some_and(|root| root.target.supervised)
            || self.members.iter().any(|m| m.stub.is_some());
        for member in &mut self.members {
            member.survey.look_at_directories(&member.target.proc)?;
        }
        for member in &self.members {
            let (target, survey) = (&member.target, &member.survey);
            let mut own = survey::refusals(target, survey, &member.statuses, &self.options);
            own.extend(model::directories(survey));
            self.of_process(member, &mut own);
            all.append(&mut own);
        }
        all.extend(namespaces::refusals(&self.members, resumed)?);
        let pids: Vec<u32> = self.members.iter().map(Member::pid).collect();
        let descriptors = self.members.iter().flat_map(|m| &m.survey.descriptors);
        let held = files::foreign_holders(&pids, descriptors.clone(), self.options.external_pipes);
        all.extend(held.refusals);
        self.held_outside = held.notes;
        let leased = files::leased(descriptors.clone());
        let sessions: Vec<u32> = self.members.iter().map(|m| m.survey.stat.session).collect();
        all.extend(files::terminal_refusals(descriptors, &sessions)?);
        all.extend(kin::refusals(&self.members));
        let segments = self.segments();
        for member in &self.members {
            let mut own = segments.refusals(&member.survey.table);
            own.extend(files::leased_refusals(&member.survey.table, &leased));
            self.of_process(member, &mut own);
            all.append(&mut own);
        }
        Ok(all)
    }

    /// What of the things watched stands in the way, of processes that run on.
    pub(super) fn watch_refusals(&self) -> Vec<Refusal> {
        let procs: Vec<&Proc> = self.members.iter().map(|m| &m.target.proc).collect();
        let all = self.members.iter().flat_map(|m| &m.survey.descriptors);
        files::watch_refusals(&procs, &all.collect::<Vec<_>>())
    }

    /// Says whose these are, in a tree.
    fn of_process(&self, member: &Member, refusals: &mut [Refusal]) {
        for refusal in refusals {
            let object = std::mem::take(&mut refusal.object);
            refusal.object = target::name_among(object, member.pid(), self.members.len());
        }
    }

    /// What becomes of memory and System V objects that others use as well, of processes that run on.
    pub(super) fn sharing_notes(&self) -> Vec<String> {
        let all = self.options.sysv_ipc;
        let mut notes = self.memory_notes();
        let held = self.held_outside.iter().filter(|note| !notes.contains(note));
        notes.extend(held.cloned().collect::<Vec<_>>());
        notes.append(&mut self.segments().notes(all));
        notes.append(&mut sysv::look(self.proc(), &self.pids(), all).notes);
        notes
    }

    /// What becomes of other memory that is shared with processes outside.
    fn memory_notes(&self) -> Vec<String> {
        let pids: Vec<u32> = self.members.iter().map(Member::pid).collect();
        files::notes_of_shared_memory(&pids, self.members.iter().map(|m| &m.survey.table))
    }

    /// The segments of System V shared memory that they have attached.
    fn segments(&self) -> Segments {
        let tables = self.members.iter().map(|m| (m.pid(), &m.survey.table));
        Segments::of(&tables.collect::<Vec<_>>())
    }

    /// Stops everyone, generation by generation.
    pub fn stop(&mut self) -> Result<()> {
        self.stopped_at = Instant::now();
        census::stop(&mut self.members, self.options.for_itself)
    }

    /// Looks anew at the processes, which have run on since, but for those that stand already.
    pub fn look_anew(&mut self) -> Result<()> {
        self.while_it_runs(|s| s.members.iter_mut().try_for_each(Member::look_anew))?;
        add_descendants(&mut self.members, self.options.for_itself)
    }

    /// The processes as those that may be asked.
    pub fn candidates(&self) -> Vec<Candidate> {
        let one = |(i, m): (usize, &Member)| {
            let areas = m.survey.table.iter().map(|(area, _)| area);
            Candidate {
                pid: m.pid(),
                parent: kin::parent_of(&self.members[..i], m),
                name: String::from_utf8_lossy(&m.survey.status.name).into_owned(),
                caught: m.survey.status.caught,
                blocks: areas.filter(|a| candidate::is_block(a)).map(|a| a.start).collect(),
            }
        };
        self.members.iter().enumerate().map(one).collect()
    }

    fn member_of(&mut self, pid: u32) -> Result<&mut Member> {
        let member = self.members.iter_mut().find(|m| m.pid() == pid);
        member.ok_or(CaptureError::Died { pid, during: "being asked" })
    }

    /// Sends a signal to a process and follows its handler.
    pub fn run_handler(
        &mut self,
        pid: u32,
        (signal, value): (i32, u64),
        send: impl FnOnce() -> Result<()>,
        patient: &mut dyn FnMut() -> bool,
    ) -> Result<Handled> {
        self.member_of(pid)?.run_handler(signal, value, send, patient)
    }

    /// Does something while a process stands: it becomes no other program meanwhile.
    pub fn standing<T>(&mut self, pid: u32, what: impl FnOnce() -> T) -> Result<T> {
        self.member_of(pid)?.standing(what)
    }

    /// Takes a signal back that nobody took.
    pub fn take_back(&mut self, pid: u32, signal: i32, value: u64) -> Result<TakenBack> {
        self.member_of(pid)?.take_back(signal, value)
    }

    /// Lets the processes go on as if nothing had been; children first, so that nobody waits for
    /// one that stands still.
    pub fn release(mut self) -> Result<()> {
        let mut outcome = Ok(());
        while let Some(member) = self.members.pop() {
            outcome = outcome.and(member.release());
        }
        outcome
    }

    /// Has packets of connections that live on held back until the resume; gives the number of
    /// connections. Let through again should the session be dropped.
    pub fn hold_packets(&mut self) -> Result<usize> {
        let (Some(live), Some(table)) = (&mut self.live, self.options.tcp_established) else {
            return Ok(0);
        };
        live.last(table).map_err(|source| CaptureError::File {
            path: "connections of the process".into(),
            what: "hold back packets of",
            source,
        })
    }

    /// Lets packets through again: the process runs on.
    pub fn let_packets_through(&mut self) {
        self.live = None;
    }

    /// Keeps the end of the processes from undoing what they did to System V semaphores (SEM_UNDO).
    /// To be called right before it; gives what could not be had.
    pub fn forget_undo(&self) -> Vec<String> {
        let doubtful = sysv::forget_undo(&self.undo, &self.pids());
        let said = doubtful.iter().map(|id| {
            format!(
                "System V semaphores {id} are used by processes outside as well: what the program \
                 would undo there at its end (SEM_UNDO) was undone"
            )
        });
        said.collect()
    }

    /// Ends the processes where they stand: they never run another instruction.
    pub fn kill(mut self) -> Result<()> {
        let live = self.live.take();
        if let Some(live) = &live {
            live.silence();
        }
        let mut outcome = Ok(());
        for member in &self.members {
            outcome = outcome.and(member.kill());
        }
        if let Some(live) = live {
            match &outcome {
                Ok(()) | Err(CaptureError::Died { .. }) => live.hand_over(),
                Err(_) => live.revive(),
            }
        }
        while let Some(member) = self.members.pop() {
            member.await_end();
        }
        files::close_quietly(std::mem::take(&mut self.quiet));
        outcome
    }

    /// /proc/PID of the root process, for reading its files.
    pub fn proc(&self) -> &Proc {
        &self.members[0].target.proc
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        while self.members.pop().is_some() {}
    }
}

/// Finds what the descriptors of all lead to, as one: the other end may be in another process.
pub(super) fn classify(members: &mut [Member], keep: bool) -> Result<()> {
    let mut all: Vec<_> =
        members.iter_mut().map(|m| std::mem::take(&mut m.survey.descriptors)).collect();
    let procs: Vec<&Proc> = members.iter().map(|m| &m.target.proc).collect();
    let outcome = files::classify(&procs, &mut all, keep);
    for (member, descriptors) in members.iter_mut().zip(all) {
        member.survey.descriptors = descriptors;
    }
    outcome
}
