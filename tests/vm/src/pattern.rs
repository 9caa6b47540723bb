//! Bytes that name their own place: each 8-byte word is a mix of a seed and
//! of its offset, so a block that lands anywhere else is noticed.

fn word(seed: u64, index: u64) -> u64 {
    // The finaliser of splitmix64.
    let mut z = (seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(seed << 1);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Fills `out` with the bytes that belong at `position`.
pub fn fill(seed: u64, position: u64, out: &mut [u8]) {
    for (i, byte) in out.iter_mut().enumerate() {
        let at = position + i as u64;
        *byte = word(seed, at / 8).to_le_bytes()[(at % 8) as usize];
    }
}

/// The first byte that is not the one that belongs there.
pub fn mismatch(seed: u64, position: u64, bytes: &[u8]) -> Option<u64> {
    let mut wanted = vec![0; bytes.len()];
    fill(seed, position, &mut wanted);
    (wanted != bytes).then(|| {
        let at = wanted.iter().zip(bytes).position(|(a, b)| a != b);
        position + at.unwrap_or(0) as u64
    })
}

/// A small random generator, the same for the same seed everywhere.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts a sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 up to, not including, `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        word(self.0, 1) % limit.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shifted_pattern_is_noticed() {
        let mut bytes = vec![0; 4096];
        fill(7, 1000, &mut bytes);
        assert_eq!(mismatch(7, 1000, &bytes), None);
        assert!(mismatch(7, 1512, &bytes).is_some());
        bytes[17] ^= 1;
        assert_eq!(mismatch(7, 1000, &bytes), Some(1017));
    }
}
