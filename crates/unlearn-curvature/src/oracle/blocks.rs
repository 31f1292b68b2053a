//! Work cut into fixed blocks, done on any number of threads, added up in one order.

use std::ops::Range;

use burn::module::Module;

use super::{Oracle, evaluation_copy};
use crate::CurvatureError;
use crate::watch::Counter;

impl<M: Module + Sync, F: Sync> Oracle<'_, M, F> {
    /// Runs `work` on blocks of `block` units of `0..units` and hands the results to `merge` in the
    /// order of the blocks. Where a block begins does not depend on the number of threads, so
    /// neither does the result, to the last bit. Whoever watches hears of `stage` between blocks.
    pub(super) fn in_blocks<T: Send>(
        &self,
        stage: &'static str,
        units: usize,
        block: usize,
        work: impl Fn(&M, Range<usize>) -> Result<T, CurvatureError> + Sync,
        mut merge: impl FnMut(T) -> Result<(), CurvatureError>,
    ) -> Result<(), CurvatureError> {
        let blocks: Vec<Range<usize>> =
            (0..units).step_by(block.max(1)).map(|start| start..(start + block.max(1)).min(units)).collect();
        let counter = Counter::new(self.watched);
        counter.begin(stage, units)?;
        let workers = self.workers.min(blocks.len()).max(1);
        if workers == 1 {
            return blocks.into_iter().try_for_each(|range| {
                merge(work(&self.core.model, range.clone())?)?;
                counter.add(range.len())
            });
        }
        // Each thread has parameters of its own: graphs of different threads share nothing.
        let mut copies: Vec<M> = (0..workers).map(|_| evaluation_copy(&self.core.model)).collect();
        for wave in blocks.chunks(workers) {
            let work = &work;
            let results: Vec<Result<T, CurvatureError>> = std::thread::scope(|scope| {
                let threads: Vec<_> = wave
                    .iter()
                    .zip(&mut copies)
                    .map(|(range, model)| scope.spawn(move || work(model, range.clone())))
                    .collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                    .collect()
            });
            results.into_iter().try_for_each(|result| merge(result?))?;
            counter.add(wave.iter().map(Range::len).sum())?;
        }
        Ok(())
    }
}
