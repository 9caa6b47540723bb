//! Deadlines that count only time in which this program could look.

use std::time::{Duration, Instant};

/// What a single pause between two looks counts at most: whoever waits that long for a processor,
/// or on a virtual machine that was halted, has learned nothing about what it waits for.
const LONGEST_TICK: Duration = Duration::from_millis(50);

/// Runs out after a time of looking. A thread that gets no processor must not be taken for one that
/// does not stop, and a machine that was halted must not end a dump.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    counted: Duration,
    last: Instant,
}

impl Patience {
    /// Lasts for `limit`, from now on.
    pub fn new(limit: Duration) -> Self {
        Self { limit, counted: Duration::ZERO, last: Instant::now() }
    }

    /// Notes a look at this moment; tells whether the time is over.
    pub fn is_over(&mut self) -> bool {
        let now = Instant::now();
        let tick = now.saturating_duration_since(self.last);
        self.last = now;
        self.counted += tick.min(LONGEST_TICK);
        self.counted > self.limit
    }

    /// The time counted so far.
    pub fn spent(&self) -> Duration {
        self.counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_halt_of_the_machine_does_not_count() {
        let mut patience = Patience::new(Duration::from_secs(1));
        // As if the last look had been an hour ago.
        patience.last = Instant::now().checked_sub(Duration::from_secs(3600)).unwrap();
        assert!(!patience.is_over());
        assert_eq!(patience.spent(), LONGEST_TICK);
    }

    #[test]
    fn looking_long_enough_counts() {
        let mut patience = Patience::new(LONGEST_TICK * 3);
        let mut looks = 0;
        while !patience.is_over() {
            patience.last = patience.last.checked_sub(LONGEST_TICK).unwrap();
            looks += 1;
        }
        assert!((2..=4).contains(&looks), "{looks}");
    }
}
