//! How many samples and columns go through at once within a memory budget.

/// Bytes that a run may hold beside the parameters and the result, unless said otherwise: 1 GiB.
pub const DEFAULT_BUDGET: usize = 1 << 30;
/// Samples a batch unless said otherwise.
pub const DEFAULT_BATCH: usize = 64;
/// Temporaries of one layer never take more than this: larger ones leave the caches to no use.
const LARGEST_CHUNK: usize = 256 << 20;
/// Cotangents of one value that live at once: the result's, the input's, and a shortcut's.
const ALIVE: usize = 3;

/// What one sample costs, measured by recording one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Bytes that a recording keeps of a sample.
    pub recording: usize,
    /// Scalars of the widest value that a cotangent goes through.
    pub widest: usize,
    /// Classes, k.
    pub classes: usize,
}

/// How a run is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Samples recorded together.
    pub batch: usize,
    /// Columns carried back together.
    pub columns: usize,
    /// Bytes for the temporaries of one layer.
    pub chunk: usize,
}

impl Plan {
    /// For `columns` columns a sample, of which at most `at_once` go back together: the largest batch up to
    /// `batch` (a multiple of `group`), and for it the most columns that go back together, that keep batch ·
    /// (recording + 3 · columns · widest · 4 bytes) + chunk within `budget`; a sample's recording is counted with
    /// its cotangents of the logits, all columns of which are made on the host at once. A single unit with a
    /// single column always goes, whatever it costs.
    pub fn new(
        cost: Cost,
        (batch, group): (usize, usize),
        (columns, at_once): (usize, usize),
        budget: usize,
    ) -> Self {
        let chunk = (budget / 8).min(LARGEST_CHUNK);
        let room = budget - chunk;
        let column = ALIVE * cost.widest * size_of::<f32>();
        // Drawn in float64, handed over in float32.
        let host = columns.max(1) * cost.classes * (size_of::<f64>() + size_of::<f32>());
        let columns = columns.min(at_once);
        let sample = cost.recording + host;
        let bytes = |batch: usize, columns: usize| batch * (sample + columns * column);
        let batch = (batch / group).max(1) * group;
        let fits = room / bytes(1, 1).max(1);
        let batch = batch.min((fits / group).max(1) * group);
        let most = (room / batch).saturating_sub(sample) / column.max(1);
        let most = most.clamp(1, columns.max(1));
        // Parts of equal size rather than a full one and a remainder.
        let parts = columns.max(1).div_ceil(most);
        let plan = Self { batch, columns: columns.max(1).div_ceil(parts), chunk };
        let needed = bytes(plan.batch, plan.columns) + chunk;
        tracing::debug!(?cost, ?plan, needed, budget, "plan");
        if needed > budget {
            tracing::warn!(needed, budget, "one sample alone needs more memory than the budget");
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::{Cost, Plan};

    const COST: Cost = Cost { recording: 1000, widest: 100, classes: 10 };
    /// Bytes of a sample beside its columns on the device: 12 for each class and column on the host.
    const SAMPLE: usize = 1000 + 9 * 10 * 12;

    #[test]
    fn plans_keep_the_budget_and_use_it() {
        for budget in [8_000, 20_000, 64_000, 200_000, 10_000_000] {
            for group in [1, 4] {
                let plan = Plan::new(COST, (32, group), (9, 9), budget);
                let bytes = |batch: usize, columns: usize| batch * (SAMPLE + columns * 1200);
                assert!(
                    plan.batch.is_multiple_of(group) && plan.columns >= 1 && plan.columns <= 9,
                    "{plan:?}"
                );
                if plan.batch > group {
                    assert!(bytes(plan.batch, plan.columns) + plan.chunk <= budget, "{budget} {plan:?}");
                }
                if plan.batch < 32 {
                    assert!(bytes(plan.batch + group, 1) + plan.chunk > budget, "{budget} {plan:?}");
                }
            }
        }
        let roomy = Plan::new(COST, (32, 1), (9, 9), 10_000_000);
        assert_eq!((roomy.batch, roomy.columns), (32, 9));
    }

    #[test]
    fn many_classes_make_small_batches() {
        // 1000 classes: 999 columns of 1000 logits are 12 MB a sample on the host.
        let cost = Cost { classes: 1000, ..COST };
        for at_once in [1, 999] {
            let plan = Plan::new(cost, (64, 1), (999, at_once), 64 << 20);
            assert!((1..=4).contains(&plan.batch) && plan.columns <= at_once, "{plan:?}");
        }
    }

    #[test]
    fn one_unit_goes_whatever_the_budget() {
        assert_eq!(Plan::new(COST, (64, 1), (9, 9), 0), Plan { batch: 1, columns: 1, chunk: 0 });
        assert_eq!(Plan::new(COST, (1, 32), (10, 10), 0), Plan { batch: 32, columns: 1, chunk: 0 });
    }

    #[test]
    fn parts_of_columns_are_even() {
        // Room for 5 of 6 columns: two parts of three.
        let plan = Plan::new(COST, (4, 1), (6, 6), (4 * (1000 + 6 * 10 * 12 + 5 * 1200)) * 8 / 7 + 10);
        assert_eq!((plan.batch, plan.columns), (4, 3));
    }
}
