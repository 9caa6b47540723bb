//! The dumper's part of the protocol, played in the same process.
#![allow(dead_code, reason = "each test program uses a part of it")]

use image_format::control::{
    answer, next_round, offset, outcome, round_of, text_from, text_of, value_of, word, ControlBlock,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static TAKEN: AtomicBool = AtomicBool::new(false);

/// One test at a time: a process has one block. (A mutex's guard may not go to another thread.)
struct Alone;

impl Drop for Alone {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Release);
    }
}

/// The control block as the dumper sees it.
pub struct Dumper {
    at: u64,
    round: u32,
    _alone: Alone,
}

impl Dumper {
    /// Finds the block by its name.
    pub fn new() -> Dumper {
        while TAKEN.swap(true, Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Dumper { at: find().expect("a control block"), round: 0, _alone: Alone }
    }

    pub fn block(&self) -> ControlBlock {
        // SAFETY: the block stays mapped; its words are read as the dumper reads them, from
        // outside of any rule of the language, and one by one.
        let bytes: [u8; ControlBlock::SIZE] =
            unsafe { std::ptr::read_volatile(self.at as *const [u8; ControlBlock::SIZE]) };
        ControlBlock::read(&bytes).expect("a sound block")
    }

    fn put(&self, at: u64, value: u32) {
        // SAFETY: a word of the block, which is the dumper's to write.
        unsafe { std::ptr::write_volatile((self.at + at) as *mut u32, value) }
    }

    /// Writes a request and sends the signal to a process.
    pub fn ask(&mut self, to: i32) {
        self.request();
        // SAFETY: the library has a handler.
        unsafe { libc::kill(to, self.block().suspend_signal as i32) };
    }

    /// Writes a request and sends the signal to a thread of this process.
    pub fn ask_thread(&mut self, tid: i32) {
        self.request();
        let signal = self.block().suspend_signal as i32;
        // SAFETY: as above.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, signal) };
        assert_eq!(sent, 0);
    }

    fn request(&mut self) {
        self.round = next_round(round_of(self.block().request));
        self.put(offset::OUTCOME, word(self.round, outcome::OPEN));
        self.put(offset::TIMEOUT_MS, 1234);
        self.put(offset::REQUEST, word(self.round, 0));
    }

    pub fn beat(&self) {
        self.put(offset::BEAT, self.block().beat + 1);
    }

    /// The answer of this round.
    pub fn answer(&self) -> Option<u32> {
        let answer = self.block().answer;
        (round_of(answer) == self.round).then_some(value_of(answer))
    }

    /// Waits for an answer.
    pub fn await_answer(&self, wanted: u32) {
        let begin = Instant::now();
        while self.answer() != Some(wanted) {
            assert!(begin.elapsed() < Duration::from_secs(20), "stays at {:?}", self.answer());
            self.beat();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn reason(&self) -> String {
        String::from_utf8_lossy(text_of(&self.block().reason)).into_owned()
    }

    /// Ends the round.
    pub fn end(&self, how: u32, text: &str) {
        let text = text_from(text.as_bytes());
        // SAFETY: as in `put`.
        unsafe { std::ptr::write_volatile((self.at + offset::TEXT) as *mut [u8; 256], text) };
        if how == outcome::RESUMED {
            self.put(offset::RESUMES, self.block().resumes + 1);
            // SAFETY: as in `put`.
            unsafe {
                std::ptr::write_volatile((self.at + offset::RANDOM) as *mut [u8; 16], [7; 16]);
            };
        }
        self.put(offset::OUTCOME, word(self.round, how));
        // SAFETY: the library has a handler.
        unsafe { libc::kill(libc::getpid(), self.block().resume_signal as i32) };
    }

    /// Ends the round and waits until the program has been told.
    pub fn end_and_wait(&self, how: u32, text: &str) {
        self.end(how, text);
        self.await_answer(answer::DONE);
    }
}

/// Address of the block, by the map of this process.
pub fn find() -> Option<u64> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|l| l.contains("/memfd:suspend-control"))?;
    u64::from_str_radix(line.split('-').next()?, 16).ok()
}
