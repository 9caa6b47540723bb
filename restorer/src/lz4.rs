//! Unpacking of one LZ4 block (the block format, without a frame), every length checked.

/// The packed bytes make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Unpacks `packed` into `out`, which it must fill exactly.
pub fn unpack(packed: &[u8], out: &mut [u8]) -> Result<(), Malformed> {
    let mut from = packed.iter();
    let mut at = 0;
    loop {
        let token = *from.next().ok_or(Malformed)?;
        let literals = length(usize::from(token >> 4), &mut from)?;
        let bytes = from.as_slice().get(..literals).ok_or(Malformed)?;
        out.get_mut(at..)
            .and_then(|o| o.get_mut(..literals))
            .ok_or(Malformed)?
            .copy_from_slice(bytes);
        at += literals;
        from = from.as_slice()[literals..].iter();
        let Some(low) = from.next() else {
            // The last sequence has no match.
            return if at == out.len() { Ok(()) } else { Err(Malformed) };
        };
        let back = usize::from(*low) | usize::from(*from.next().ok_or(Malformed)?) << 8;
        let len = length(usize::from(token & 15), &mut from)?.checked_add(4).ok_or(Malformed)?;
        if back == 0 || back > at || len > out.len() - at {
            return Err(Malformed);
        }
        if back >= len {
            out.copy_within(at - back..at - back + len, at);
        } else {
            // The match runs into what it produces: the pattern repeats.
            for i in at..at + len {
                out[i] = out[i - back];
            }
        }
        at += len;
    }
}

fn length(nibble: usize, from: &mut core::slice::Iter<'_, u8>) -> Result<usize, Malformed> {
    let mut len = nibble;
    if nibble == 15 {
        loop {
            let byte = *from.next().ok_or(Malformed)?;
            len = len.checked_add(usize::from(byte)).ok_or(Malformed)?;
            if byte != 255 {
                break;
            }
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn literals_and_an_overlapping_match() {
        // "ab", then 8 bytes from 2 back, then "c".
        let packed = [0x24, b'a', b'b', 2, 0, 0x10, b'c'];
        let mut out = [0; 11];
        assert_eq!(unpack(&packed, &mut out), Ok(()));
        assert_eq!(&out, b"ababababab c".replace_space().as_slice());
    }

    trait ReplaceSpace {
        fn replace_space(&self) -> alloc::vec::Vec<u8>;
    }
    impl ReplaceSpace for [u8; 12] {
        fn replace_space(&self) -> alloc::vec::Vec<u8> {
            self.iter().copied().filter(|b| *b != b' ').collect()
        }
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_back(seed: Vec<u8>, repeat in 1usize..50) {
            let data: Vec<u8> = seed.iter().copied().cycle().take(seed.len() * repeat).collect();
            let packed = lz4_flex::block::compress(&data);
            let mut out = vec![0; data.len()];
            prop_assert_eq!(unpack(&packed, &mut out), Ok(()));
            prop_assert_eq!(out, data);
        }

        #[test]
        fn hostile_bytes_do_not_panic(packed: Vec<u8>, len in 0usize..10_000) {
            let _ = unpack(&packed, &mut vec![0; len]);
        }
    }
}
