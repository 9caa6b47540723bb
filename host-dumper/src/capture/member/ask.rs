//! What a process is asked from inside: a place for each thread to stand on, the calls, and the way
//! back.

use super::Member;
use crate::capture::arch::x86_64::frame_len;
use crate::capture::chain::Chains;
use crate::capture::error::{CaptureError, Result};
use crate::capture::footing::{self, Code, Place};
use crate::capture::inside::{self, Known, ProcessAnswers, ThreadAnswers, SCRATCH};
use crate::capture::keyrings;
use crate::capture::memory::Table;
use crate::capture::proc::status::Status;
use crate::capture::proc::timers;
use crate::capture::remote::{self, Call};
use crate::capture::source;
use crate::capture::syscalls::Verdict;
use crate::capture::undo;
use image_format::arch::x86_64::XSAVE_CARRIED;

/// Bytes for one thread in a mapping made for the purpose.
const ROOM: u64 = 16 << 10;

/// What the process and its threads answered, and whether it locks future memory.
pub(super) type Answers = (ProcessAnswers, Vec<ThreadAnswers>, u8);

/// What is to be asked inside the process, and what is known about it.
pub(super) struct Questions<'a> {
    pub status: &'a Status,
    pub table: &'a Table,
    pub verdicts: &'a [Verdict],
    pub xsave: &'a [Vec<u8>],
    pub timers: &'a [timers::TimerEntry],
    pub doubtful: &'a [u32],
    pub ids: &'a [u32],
    /// Its user has keys.
    pub keys: bool,
    pub chains: Option<Chains>,
}

impl Member {
    /// System calls inside the process.
    pub(super) fn ask(&mut self, about: &Questions<'_>) -> Result<Answers> {
        let tid = self.pid();
        // That it is still there was seen since the process stood.
        let code = self.code.ok_or(CaptureError::NoFooting {
            tid,
            reason: "its text holds no system call to borrow (a program without a C library)",
        })?;
        let outcome = self.ask_with(code, about);
        // Whatever happened, every thread is put back where it stood.
        let mut undone = self.give_room_back(code);
        for thread in &mut self.threads {
            undone = undone.and(thread.restore());
        }
        let answers = outcome?;
        undone?;
        Ok(answers)
    }

    fn ask_with(&mut self, code: Code, about: &Questions<'_>) -> Result<Answers> {
        let Questions { verdicts, xsave, .. } = *about;
        let areas: Vec<_> = about.table.iter().map(|(a, _)| a.clone()).collect();
        let mut places: Vec<Option<Place>> = self
            .threads
            .iter()
            .zip(xsave)
            .map(|(t, x)| footing::on_stack(&areas, t.regs.rsp, x.len(), SCRATCH))
            .collect();
        let own: Vec<bool> = places.iter().map(Option::is_some).collect();
        if own.iter().any(|&o| !o) {
            let len = xsave.first().map_or(0, Vec::len);
            let first = own.iter().position(|&o| o).unwrap_or(0);
            let foot = match places[first] {
                Some(place) => place,
                None => {
                    footing::low_stack(&areas, len, SCRATCH).ok_or(CaptureError::NoFooting {
                        tid: self.threads[first].tid(),
                        reason: "no stack has room for a signal frame",
                    })?
                }
            };
            self.prepare(first, code, foot, verdicts, xsave, true)?;
            let base = self.make_room(first, code)?;
            for (i, place) in places.iter_mut().enumerate().filter(|(_, p)| p.is_none()) {
                if i != first {
                    *place = Place::below(base + (i as u64 + 1) * ROOM, frame_room(len), SCRATCH);
                }
            }
        }
        for i in 0..self.threads.len() {
            if self.threads[i].undo.is_none() {
                let place = places[i].ok_or(CaptureError::NoFooting {
                    tid: self.threads[i].tid(),
                    reason: "no stack has room for a signal frame",
                })?;
                self.prepare(i, code, place, verdicts, xsave, own[i])?;
            }
        }
        let chains = about.chains.as_ref();
        let &Questions { status, timers, doubtful, keys, .. } = about;
        let known = Known { status, timers, doubtful, keys };
        let told = inside::ask(&mut self.threads, code, chains, about.ids, &known)?;
        let (mut process, each) = (told.process, told.threads);
        process.keyrings = keyrings::ask(&mut self.threads, code, &each)?;
        process.undo = undo::ask(&mut self.threads, code)?;
        let proc = &self.target.proc;
        let lock_future = match about.status.locked {
            0 => 0,
            locked => inside::ask_lock_future(&mut self.threads[0], code, proc, locked)?,
        };
        Ok((process, each, lock_future))
    }

    fn prepare(
        &mut self,
        i: usize,
        code: Code,
        place: Place,
        verdicts: &[Verdict],
        xsave: &[Vec<u8>],
        borrowed: bool,
    ) -> Result<()> {
        let xfeatures = source::cpu().xcr0 & XSAVE_CARRIED;
        let home = &verdicts[i].home;
        remote::prepare(&mut self.threads[i], code, place, home, &xsave[i], xfeatures, borrowed)
    }

    /// Maps memory in the process for threads whose stacks are not known to be stacks.
    fn make_room(&mut self, i: usize, code: Code) -> Result<u64> {
        let len = ROOM * self.threads.len() as u64;
        let prot = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        let call = Call::new("mmap", libc::SYS_mmap, &[0, len, prot, flags, u64::MAX, 0]);
        let base = remote::call(&mut self.threads[i], code, call)?;
        self.room = Some((base, len));
        Ok(base)
    }

    /// Unmaps it again, from a thread that does not stand in it.
    pub(super) fn give_room_back(&mut self, code: Code) -> Result<()> {
        let Some((base, len)) = self.room.take() else { return Ok(()) };
        let inside = |frame: u64| (base..base + len).contains(&frame);
        for thread in &mut self.threads {
            if thread.undo.as_ref().is_some_and(|u| inside(u.frame)) {
                thread.restore()?;
            }
        }
        let outside = self.threads.iter_mut().find(|t| t.undo.is_some());
        let Some(thread) = outside else { return Ok(()) };
        remote::call(thread, code, Call::new("munmap", libc::SYS_munmap, &[base, len])).map(drop)
    }
}

fn frame_room(xsave: usize) -> usize {
    // The same for every thread: a place of ROOM bytes holds any frame.
    debug_assert!(frame_len(xsave) < ROOM as usize);
    xsave
}
