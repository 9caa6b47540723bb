//! What only a stopped process shows.

use super::super::arch::x86_64::{foreign_state, trim_xsave};
use super::super::chain;
use super::super::error::{Refusal, Result};
use super::super::files;
use super::super::inside::ProcessAnswers;
use super::super::keyrings::Keys;
use super::super::model::ThreadParts;
use super::super::outside::{self, Outside};
use super::super::proc::timers;
use super::super::seccomp::{self, Sandbox};
use super::super::source;
use super::super::stop::XSAVE_MAX;
use super::ask::Questions;
use super::Member;
use image_format::model::SigInfo;

/// What only a stopped process shows, descriptors and memory aside.
#[derive(Debug)]
pub(in crate::capture) struct Examined {
    pub threads: Vec<ThreadParts>,
    pub answers: ProcessAnswers,
    pub pending: Vec<SigInfo>,
    pub stopped: u32,
    pub lock_future: u8,
}

impl Member {
    /// Asks the stopped process, which is as it was when it stopped afterwards.
    pub fn examine(
        &mut self,
        xsave: Vec<Vec<u8>>,
        sandboxes: Vec<Sandbox>,
        keys: &mut Keys,
    ) -> Result<Examined> {
        let chains =
            self.code.and_then(|code| chain::possible(code, &self.threads, &self.statuses));
        let outside: Vec<Outside> =
            self.threads.iter().map(|t| outside::look(t.stopped()?)).collect::<Result<_>>()?;
        let proc = &self.target.proc;
        let timers =
            timers::parse(&proc.read("timers")?).ok_or_else(|| proc.format("timers", "a line"))?;
        let leader = self.threads[0].stopped()?;
        let pending = outside::signals(&leader.pending(true)?);
        let stopped = self.threads[0].stop_signal as u32;
        let verdicts = self.judge(&outside, &pending)?;
        let statuses = std::mem::take(&mut self.statuses);
        // A thread's id as the process sees it, where that differs.
        let ids: Vec<u32> =
            statuses.iter().map(|(tid, s)| s.ns_pid.last().copied().unwrap_or(*tid)).collect();
        let table = std::mem::take(&mut self.survey.table);
        let status = self.survey.status.clone();
        if chains.is_none() {
            // A single call inside of the process takes longer than this.
            files::settle_inherited(&self.target.proc, &mut self.survey.descriptors)?;
        }
        let doubtful = files::doubtful(&self.survey.descriptors);
        let questions = Questions {
            keys: keys.may_have(status.uids[0]),
            status: &status,
            table: &table,
            verdicts: &verdicts,
            xsave: &xsave,
            timers: &timers,
            doubtful: &doubtful,
            ids: &ids,
            chains,
        };
        let outcome = self.ask(&questions);
        self.survey.table = table;
        let (answers, each, lock_future) = outcome?;
        files::settle_doubt(&mut self.survey.descriptors, &answers.open_at_exec);
        let mut threads = Vec::new();
        let all = self.threads.iter().zip(statuses).zip(ids).zip(verdicts).zip(xsave);
        for (((((t, (_, status)), tid), verdict), xsave), ((outside, answers), sandbox)) in
            all.zip(outside.into_iter().zip(each).zip(sandboxes))
        {
            threads.push(ThreadParts {
                tid,
                outer_tid: t.tid(),
                verdict,
                xsave,
                sigmask: t.sigmask,
                outside,
                answers,
                status,
                sandbox,
            });
        }
        Ok(Examined { threads, answers, pending, stopped, lock_future })
    }

    /// The XSAVE areas, trimmed to what can be carried.
    pub fn xsave(&self, refusals: &mut Vec<Refusal>) -> Result<Vec<Vec<u8>>> {
        let components = &source::cpu().xsave;
        let mut areas = Vec::with_capacity(self.threads.len());
        let mut buffer = vec![0; XSAVE_MAX];
        for t in &self.threads {
            if !t.is_64_bit() {
                refusals.push(Refusal::new(
                    format!("thread {}", t.tid()),
                    "runs 32-bit code",
                    "only 64-bit programs can be dumped",
                ));
            }
            let area = t.stopped()?.xsave(&mut buffer)?;
            let other = foreign_state(area, components);
            if other != 0 {
                refusals.push(Refusal::new(
                    format!("thread {}", t.tid()),
                    format!("uses processor state that cannot be carried ({})", state_names(other)),
                    "dump the program when it is not computing with it",
                ));
            }
            areas.push(trim_xsave(area, components));
        }
        Ok(areas)
    }

    /// What seccomp forbids each thread; until they are let go, nothing.
    pub fn sandboxes(&self, refusals: &mut Vec<Refusal>) -> Result<Vec<Sandbox>> {
        seccomp::read(&self.threads, &self.statuses, refusals)
    }
}

fn state_names(bits: u64) -> String {
    let name = |bit: u32| match bit {
        3 | 4 => "MPX".into(),
        17 | 18 => "AMX".into(),
        19 => "APX".into(),
        other => format!("XSAVE component {other}"),
    };
    let mut names: Vec<String> = (0..64).filter(|b| bits >> b & 1 == 1).map(name).collect();
    names.dedup();
    names.join(", ")
}
