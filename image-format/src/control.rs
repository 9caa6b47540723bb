//! The control block: what a program that wants to be asked shares with the dumper.
//!
//! It lies in the program's memory, in a memfd of the name [`CONTROL_NAME`] mapped MAP_SHARED, so
//! that it is found in /proc/PID/maps without symbols. docs/suspend-api.md has the protocol: who
//! writes which word when. What the dumper reads of it is a claim until [`ControlBlock::check`]
//! has looked at it.

use core::fmt;
use scroll::{Pread, Pwrite, SizeWith};

/// Name of the memfd.
pub const CONTROL_NAME: &str = "suspend-control";
/// First bytes of the block.
pub const CONTROL_MAGIC: [u8; 16] = *b"suspend control\0";
/// Version of the layout.
///
/// 1: first.
pub const CONTROL_VERSION: u32 = 1;
/// Bytes of the mapping.
pub const CONTROL_LEN: u64 = 4096;
/// Bytes of a text, its end included.
pub const TEXT_LEN: usize = 256;
/// [`ControlBlock::hold_ms`] of a section that may be waited for to its end.
pub const HOLD_TO_THE_END: u32 = u32::MAX;
/// Highest signal number.
pub const SIGNALS: u32 = 64;

/// The block; 768 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pread, Pwrite, SizeWith)]
#[repr(C)]
pub struct ControlBlock {
    /// [`CONTROL_MAGIC`].
    pub magic: [u8; 16],
    /// [`CONTROL_VERSION`].
    pub version: u32,
    /// Length of this structure in bytes.
    pub length: u32,
    /// Random, not 0.
    pub cookie: u64,
    /// Address of a copy of the cookie in memory that a fork wipes: tells whose block it is.
    pub cookie_address: u64,
    /// Tells that the process is about to be suspended.
    pub suspend_signal: u32,
    /// Tells that there is an outcome.
    pub resume_signal: u32,
    /// One of [`mode`].
    pub mode: u32,
    /// Thread of the library, as the process sees it; 0 for none.
    pub service_tid: u32,
    /// Process id as the process sees it.
    pub pid: u32,
    /// Number of registered pairs of callbacks.
    pub callbacks: u32,
    /// Round in the upper 24 bits, one of [`answer`] below.
    pub answer: u32,
    /// Milliseconds for which the held section may be waited for, from [`answer::HOLDING`] on.
    pub hold_ms: u32,
    /// Zero.
    pub reserved1: [u32; 14],
    /// Round in the upper 24 bits, bits of [`request_flag`] below.
    pub request: u32,
    /// Round in the upper 24 bits, one of [`outcome`] below.
    pub outcome: u32,
    /// Changes while the dumper waits.
    pub beat: u32,
    /// How long the dumper waits, milliseconds.
    pub timeout_ms: u32,
    /// The dumper's process id, as it sees it itself.
    pub dumper: u32,
    /// Exit status of a dumper that the program started itself, when it gave up without asking.
    pub gave_up: u32,
    /// Zero.
    pub reserved2: [u32; 10],
    /// How often the process was resumed.
    pub resumes: u32,
    /// Zero.
    pub reserved3: u32,
    /// New in every resume.
    pub random: [u8; 16],
    /// Zero.
    pub reserved4: [u32; 10],
    /// Why the program refuses, ended by a zero byte.
    pub reason: [u8; 256],
    /// Why the dumper called it off, ended by a zero byte.
    pub text: [u8; 256],
}

const _: () = assert!(core::mem::size_of::<ControlBlock>() == 768);
const _: () = assert!(core::mem::offset_of!(ControlBlock, cookie) == 24);
const _: () = assert!(core::mem::offset_of!(ControlBlock, suspend_signal) == 40);
const _: () = assert!(core::mem::offset_of!(ControlBlock, answer) == 64);
const _: () = assert!(core::mem::offset_of!(ControlBlock, request) == 128);
const _: () = assert!(core::mem::offset_of!(ControlBlock, outcome) == 132);
const _: () = assert!(core::mem::offset_of!(ControlBlock, gave_up) == 148);
const _: () = assert!(core::mem::offset_of!(ControlBlock, resumes) == 192);
const _: () = assert!(core::mem::offset_of!(ControlBlock, random) == 200);
const _: () = assert!(core::mem::offset_of!(ControlBlock, reason) == 256);
const _: () = assert!(core::mem::offset_of!(ControlBlock, text) == 512);

/// Offsets of words that are written one by one, bytes from the beginning of the block.
pub mod offset {
    use super::ControlBlock;
    use core::mem::offset_of;

    /// [`ControlBlock::answer`].
    pub const ANSWER: u64 = offset_of!(ControlBlock, answer) as u64;
    /// [`ControlBlock::request`].
    pub const REQUEST: u64 = offset_of!(ControlBlock, request) as u64;
    /// [`ControlBlock::outcome`].
    pub const OUTCOME: u64 = offset_of!(ControlBlock, outcome) as u64;
    /// [`ControlBlock::beat`].
    pub const BEAT: u64 = offset_of!(ControlBlock, beat) as u64;
    /// [`ControlBlock::timeout_ms`].
    pub const TIMEOUT_MS: u64 = offset_of!(ControlBlock, timeout_ms) as u64;
    /// [`ControlBlock::dumper`].
    pub const DUMPER: u64 = offset_of!(ControlBlock, dumper) as u64;
    /// [`ControlBlock::gave_up`].
    pub const GAVE_UP: u64 = offset_of!(ControlBlock, gave_up) as u64;
    /// [`ControlBlock::resumes`].
    pub const RESUMES: u64 = offset_of!(ControlBlock, resumes) as u64;
    /// [`ControlBlock::random`].
    pub const RANDOM: u64 = offset_of!(ControlBlock, random) as u64;
    /// [`ControlBlock::text`].
    pub const TEXT: u64 = offset_of!(ControlBlock, text) as u64;
}

/// Where callbacks run ([`ControlBlock::mode`]).
pub mod mode {
    /// In the signal handler.
    pub const HANDLER: u32 = 1;
    /// On a thread of the library.
    pub const THREAD: u32 = 2;
}

/// What the program says, in the lower 8 bits of [`ControlBlock::answer`].
pub mod answer {
    /// Nothing is going on.
    pub const IDLE: u32 = 0;
    /// The signal was taken.
    pub const HEARD: u32 = 1;
    /// Waits for the end of held sections.
    pub const HOLDING: u32 = 2;
    /// Suspend callbacks run.
    pub const CALLBACKS: u32 = 3;
    /// Consents, and waits for the outcome.
    pub const READY: u32 = 4;
    /// Refuses; [`super::ControlBlock::reason`] says why.
    pub const REFUSED: u32 = 5;
    /// Has heard nothing of the dumper and goes on.
    pub const WITHDRAWN: u32 = 6;
    /// Its callbacks were told the outcome.
    pub const DONE: u32 = 7;
}

/// Lower 8 bits of [`ControlBlock::request`].
pub mod request_flag {
    /// The process will run on afterwards.
    pub const LEAVE_RUNNING: u32 = 1;
}

/// How it ended, in the lower 8 bits of [`ControlBlock::outcome`].
pub mod outcome {
    /// Not yet.
    pub const OPEN: u32 = 0;
    /// The process was brought back; [`super::ControlBlock::random`] is new.
    pub const RESUMED: u32 = 1;
    /// The process runs on while its image is completed.
    pub const CONTINUED: u32 = 2;
    /// There will be no image.
    pub const CANCELLED: u32 = 3;
}

/// A round and a value as one word.
pub const fn word(round: u32, value: u32) -> u32 {
    round << 8 | value & 0xff
}

/// The round of a word.
pub const fn round_of(word: u32) -> u32 {
    word >> 8
}

/// The value of a word.
pub const fn value_of(word: u32) -> u32 {
    word & 0xff
}

/// The round after `round`; never 0.
pub const fn next_round(round: u32) -> u32 {
    let next = (round + 1) & 0xff_ffff;
    if next == 0 {
        1
    } else {
        next
    }
}

/// What is wrong with a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlError {
    /// Too short, or other bytes than a block begins with.
    NotABlock,
    /// A version that is not known here.
    Version(u32),
    /// A word has a value that it cannot have.
    Word(&'static str),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotABlock => f.write_str("it does not begin as one"),
            Self::Version(found) => {
                write!(f, "its version is {found}, and {CONTROL_VERSION} is the one known here")
            }
            Self::Word(what) => write!(f, "its {what} cannot be"),
        }
    }
}

impl core::error::Error for ControlError {}

impl ControlBlock {
    /// Size in bytes.
    pub const SIZE: usize = 768;

    /// Reads a block and checks what must hold at any time.
    pub fn read(bytes: &[u8]) -> Result<Self, ControlError> {
        let block: Self =
            bytes.pread_with(0, scroll::LE).map_err(|_: scroll::Error| ControlError::NotABlock)?;
        block.check().map(|()| block)
    }

    /// Checks what must hold at any time.
    pub fn check(&self) -> Result<(), ControlError> {
        /// Signals that no handler can be had for.
        const UNCATCHABLE: [u32; 2] = [9, 19];
        if self.magic != CONTROL_MAGIC {
            return Err(ControlError::NotABlock);
        }
        if self.version != CONTROL_VERSION {
            return Err(ControlError::Version(self.version));
        }
        let signal = |n: u32| (1..=SIGNALS).contains(&n) && !UNCATCHABLE.contains(&n);
        let sane = [
            (self.length as usize == Self::SIZE, "length"),
            (self.cookie != 0, "cookie"),
            (signal(self.suspend_signal), "suspend signal"),
            (signal(self.resume_signal), "resume signal"),
            (self.suspend_signal != self.resume_signal, "pair of signals"),
            (matches!(self.mode, mode::HANDLER | mode::THREAD), "mode"),
            (value_of(self.answer) <= answer::DONE, "answer"),
        ];
        match sane.iter().find(|(good, _)| !good) {
            Some((_, what)) => Err(ControlError::Word(what)),
            None => Ok(()),
        }
    }
}

/// The bytes of a text up to its end.
pub fn text_of(text: &[u8; TEXT_LEN]) -> &[u8] {
    let end = text.iter().position(|&b| b == 0).unwrap_or(text.len());
    &text[..end]
}

/// A text as it lies in the block, cut to what fits.
pub fn text_from(text: &[u8]) -> [u8; TEXT_LEN] {
    let mut out = [0; TEXT_LEN];
    let n = text.len().min(TEXT_LEN - 1);
    out[..n].copy_from_slice(&text[..n]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn good() -> ControlBlock {
        ControlBlock {
            magic: CONTROL_MAGIC,
            version: CONTROL_VERSION,
            length: 768,
            cookie: 7,
            cookie_address: 0x1000,
            suspend_signal: 10,
            resume_signal: 12,
            mode: mode::THREAD,
            service_tid: 0,
            pid: 1,
            callbacks: 0,
            answer: 0,
            hold_ms: 0,
            reserved1: [0; 14],
            request: 0,
            outcome: 0,
            beat: 0,
            timeout_ms: 0,
            dumper: 0,
            gave_up: 0,
            reserved2: [0; 10],
            resumes: 0,
            reserved3: 0,
            random: [0; 16],
            reserved4: [0; 10],
            reason: text_from(b"busy"),
            text: [0; TEXT_LEN],
        }
    }

    #[test]
    fn a_block_survives_its_bytes() {
        let mut bytes = vec![0; ControlBlock::SIZE];
        bytes.pwrite_with(good(), 0, scroll::LE).unwrap();
        assert_eq!(ControlBlock::read(&bytes), Ok(good()));
        assert_eq!(text_of(&good().reason), b"busy");
        assert_eq!(&bytes[256..261], b"busy\0");
        assert_eq!(ControlBlock::read(&bytes[..767]), Err(ControlError::NotABlock));
    }

    #[test]
    fn lies_are_noticed() {
        let says = |change: fn(&mut ControlBlock)| {
            let mut block = good();
            change(&mut block);
            block.check()
        };
        assert_eq!(says(|b| b.magic[0] = 0), Err(ControlError::NotABlock));
        assert_eq!(says(|b| b.version = 2), Err(ControlError::Version(2)));
        assert_eq!(says(|b| b.suspend_signal = 9), Err(ControlError::Word("suspend signal")));
        assert_eq!(says(|b| b.suspend_signal = 65), Err(ControlError::Word("suspend signal")));
        assert_eq!(says(|b| b.resume_signal = 0), Err(ControlError::Word("resume signal")));
        assert_eq!(says(|b| b.resume_signal = 10), Err(ControlError::Word("pair of signals")));
        assert_eq!(says(|b| b.mode = 3), Err(ControlError::Word("mode")));
        assert_eq!(says(|b| b.answer = 8), Err(ControlError::Word("answer")));
        assert_eq!(says(|b| b.cookie = 0), Err(ControlError::Word("cookie")));
    }

    #[test]
    fn rounds_go_round() {
        assert_eq!(next_round(0), 1);
        assert_eq!(next_round(0xff_ffff), 1);
        let w = word(0xab_cdef, answer::READY);
        assert_eq!((round_of(w), value_of(w)), (0xab_cdef, answer::READY));
    }

    #[test]
    fn texts_are_cut() {
        assert_eq!(text_of(&text_from(&[b'x'; 300])).len(), 255);
        assert_eq!(text_of(&[b'x'; TEXT_LEN]).len(), 256);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_block_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..900)) {
            let _ = ControlBlock::read(&bytes);
        }

        #[test]
        fn any_change_is_a_block_or_an_error(at in 0usize..768, byte in any::<u8>()) {
            let mut bytes = vec![0; ControlBlock::SIZE];
            bytes.pwrite_with(good(), 0, scroll::LE).unwrap();
            bytes[at] = byte;
            if let Ok(block) = ControlBlock::read(&bytes) {
                prop_assert!(block.check().is_ok());
            }
        }
    }
}
