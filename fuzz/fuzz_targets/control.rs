//! Control blocks, which a program may fill with anything: an odd first byte makes the rest a block by
//! itself, an even one makes it a list of changes to a good one.
#![no_main]

use image_format::control::{
    next_round, round_of, text_from, text_of, value_of, word, ControlBlock, CONTROL_MAGIC,
    CONTROL_VERSION, SIGNALS, TEXT_LEN,
};
use libfuzzer_sys::fuzz_target;
use scroll::{Pwrite, LE};

/// Version, length, cookie and its address, signals and mode, from offset 16 on.
fn good() -> Vec<u8> {
    let mut bytes = vec![0; ControlBlock::SIZE];
    bytes[..16].copy_from_slice(&CONTROL_MAGIC);
    for (at, value) in [
        (16, CONTROL_VERSION),
        (20, ControlBlock::SIZE as u32),
        (24, 7),
        (32, 0x1000),
        (40, 10),
        (44, 12),
        (48, 2),
    ] {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// Changes of four bytes each: two of a place, two that go there.
fn changed(changes: &[u8]) -> Vec<u8> {
    let mut bytes = good();
    for change in changes.chunks_exact(4) {
        let place = usize::from(u16::from_le_bytes([change[0], change[1]])) % (bytes.len() - 1);
        bytes[place..place + 2].copy_from_slice(&change[2..]);
    }
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let bytes = if first & 1 == 1 { rest.to_vec() } else { changed(rest) };
    let Ok(block) = ControlBlock::read(&bytes) else { return };
    // Of what passed, the dumper takes these for granted.
    for signal in [block.suspend_signal, block.resume_signal] {
        assert!((1..=SIGNALS).contains(&signal) && !matches!(signal, 9 | 19));
    }
    assert_ne!(block.suspend_signal, block.resume_signal);
    assert_ne!(block.cookie, 0);
    let round = round_of(block.request);
    let next = next_round(round);
    assert!(next != 0 && next != round && round_of(word(next, 0)) == next);
    assert_eq!(word(round_of(block.answer), value_of(block.answer)), block.answer);
    for text in [&block.reason, &block.text] {
        let found = text_of(text);
        assert!(found.len() <= TEXT_LEN && !found.contains(&0));
        let cut = text_from(found);
        assert!(found.starts_with(text_of(&cut)) && cut[TEXT_LEN - 1] == 0);
    }
    // Nothing of it is lost.
    let mut again = [0; ControlBlock::SIZE];
    again.pwrite_with(block, 0, LE).expect("room for a block");
    assert_eq!(again[..], bytes[..ControlBlock::SIZE]);
});
