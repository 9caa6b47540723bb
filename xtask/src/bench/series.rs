//! Figures of one kind, measured round after round.

/// What was measured in all rounds, in one unit.
#[derive(Debug, Default, Clone)]
pub struct Series(Vec<f64>);

impl Series {
    /// Takes one more figure in.
    pub fn add(&mut self, figure: f64) {
        self.0.push(figure);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle figure; of an even number the lower of the two.
    pub fn median(&self) -> Option<f64> {
        self.0.get(self.0.len().saturating_sub(1) / 2).copied()
    }

    /// The least figure.
    pub fn minimum(&self) -> Option<f64> {
        self.0.first().copied()
    }

    /// The greatest figure.
    pub fn maximum(&self) -> Option<f64> {
        self.0.last().copied()
    }

    /// Every figure through a function: times to rates, bytes to KiB.
    pub fn map(&self, change: impl Fn(f64) -> f64) -> Series {
        let mut changed = Series::default();
        for figure in &self.0 {
            changed.add(change(*figure));
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_ends() {
        let mut series = Series::default();
        assert_eq!(series.median(), None);
        for figure in [5.0, 1.0, 9.0, 3.0] {
            series.add(figure);
        }
        assert_eq!(series.median(), Some(3.0));
        assert_eq!((series.minimum(), series.maximum()), (Some(1.0), Some(9.0)));
        assert_eq!(series.map(|x| 10.0 / x).median(), Some(2.0));
    }
}
