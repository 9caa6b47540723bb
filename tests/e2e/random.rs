//! Random numbers for tests that pick moments and places.

/// Numbers that differ from run to run.
pub struct Random(u64);

impl Random {
    /// Seeded by the time.
    pub fn new() -> Random {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Random(now.map_or(1, |d| d.as_nanos() as u64) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}
