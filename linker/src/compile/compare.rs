//! Asking at the resume what is there: steps that are passed over unless it is as it was.

use super::arch::nr;
use super::builder::{Arg, Skip};
use super::descriptors::O_CLOEXEC;
use super::sysv::NONE;
use super::ProcessCompiler;
use image_format::plan::{op, Expect};

/// The two halves of a word, low first.
pub(super) fn halves(word: u64) -> [u64; 2] {
    [word & 0xffff_ffff, word >> 32]
}

impl ProcessCompiler<'_> {
    /// Skips that are taken unless all 32-bit words at these offsets of data have their values.
    pub(super) fn unless(&mut self, data: u32, words: &[(u32, u64)]) -> Vec<Skip> {
        let each = |&(at, value): &(u32, u64)| {
            self.b.skip_unless_equal(Arg::load(data + at), Arg::value(value))
        };
        words.iter().map(each).collect()
    }

    /// Skips that are taken unless the 64-bit word at this offset of data has this value.
    pub(super) fn unless_word(&mut self, data: u32, value: u64) -> Vec<Skip> {
        let [low, high] = halves(value);
        self.unless(data, &[(0, low), (4, high)])
    }

    /// Leaves the hash of `len` bytes at data offset `at` in the word at `word`.
    pub(super) fn hash(&mut self, what: &str, at: u32, len: usize, word: u32) {
        let args = [Arg::data(at), Arg::value(len as u64), Arg::value(u64::from(word))];
        self.b.step(op::HASH, what, 0, &args, Expect::Success);
    }

    /// Data offset of a word that is the hash of the first `len` bytes of the file there; of zeros
    /// where the file has no more, or is missing.
    pub(super) fn hash_of_file(&mut self, what: &str, path: &[u8], len: usize) -> u32 {
        let here = self.b.data(&vec![0; len]);
        // What a failed open leaves: 0 would be the program's input.
        let [word, fd] = [0, NONE].map(|value| self.b.words(&[value]));
        let path = self.b.path(path);
        let args = [Arg::data(path), Arg::value(u64::from(O_CLOEXEC)), Arg::value(0)];
        self.b.call(what, nr::OPEN, &args, Expect::Ignore);
        self.b.keep_result(fd);
        let args = [Arg::load(fd), Arg::data(here), Arg::value(len as u64)];
        self.b.call(what, nr::READ, &args, Expect::Ignore);
        self.b.call(what, nr::CLOSE, &[Arg::load(fd)], Expect::Ignore);
        self.hash(what, here, len, word);
        word
    }
}
