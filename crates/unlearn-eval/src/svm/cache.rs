//! Kernel rows that were computed lately, in bounded memory.

/// A cache of kernel rows that forgets the row not used for longest.
pub(super) struct RowCache {
    n: usize,
    capacity: usize,
    /// Rows, each `[n]`.
    rows: Vec<Vec<f64>>,
    /// For each slot the sample whose row it holds, and when it was last asked for.
    held: Vec<(usize, u64)>,
    /// For each sample its slot.
    slot_of: Vec<Option<usize>>,
    clock: u64,
}

impl RowCache {
    /// Room for as many rows of `n` numbers as fit into `bytes`, but never fewer than the two that
    /// one step needs.
    pub(super) fn new(n: usize, bytes: usize) -> Self {
        let capacity = (bytes / (n.max(1) * size_of::<f64>())).clamp(2, n.max(2));
        Self { n, capacity, rows: Vec::new(), held: Vec::new(), slot_of: vec![None; n], clock: 0 }
    }

    /// The slot of row `i`, computed by `fill` when it is not held. The row in slot `keep` stays.
    pub(super) fn slot(&mut self, i: usize, keep: Option<usize>, fill: impl FnOnce(&mut [f64])) -> usize {
        self.clock += 1;
        if let Some(slot) = self.slot_of[i] {
            self.held[slot].1 = self.clock;
            return slot;
        }
        let slot = if self.rows.len() < self.capacity {
            self.rows.push(vec![0.0; self.n]);
            self.held.push((i, self.clock));
            self.rows.len() - 1
        } else {
            // At least two slots exist, so one is left besides `keep`.
            let oldest = (0..self.held.len())
                .filter(|slot| Some(*slot) != keep)
                .min_by_key(|&slot| self.held[slot].1)
                .unwrap_or_default();
            self.slot_of[self.held[oldest].0] = None;
            self.held[oldest] = (i, self.clock);
            oldest
        };
        self.slot_of[i] = Some(slot);
        fill(&mut self.rows[slot]);
        slot
    }

    /// The row in `slot`.
    pub(super) fn row(&self, slot: usize) -> &[f64] {
        &self.rows[slot]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_not_used_for_longest_goes_but_never_the_kept_one() {
        let mut cache = RowCache::new(4, 2 * 4 * 8);
        let mut filled = Vec::new();
        let mut ask = |i: usize, keep| {
            let mut computed = false;
            let slot = cache.slot(i, keep, |row| {
                computed = true;
                row.fill(i as f64);
            });
            assert_eq!(cache.row(slot), [i as f64; 4]);
            filled.push(computed);
            slot
        };
        let zero = ask(0, None);
        ask(1, Some(zero));
        ask(0, None);
        ask(2, None); // row 1 goes
        ask(0, None);
        ask(1, Some(zero)); // row 2 goes
        ask(3, Some(zero)); // row 1 goes, though row 0 is older
        ask(0, None);
        assert_eq!(filled, [true, true, false, true, false, true, true, false]);
    }
}
