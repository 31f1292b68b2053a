//! Work done ahead on other threads, handed out in order.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// An iterator over `make(first), make(first + 1), …, make(end − 1)`, computed ahead by worker
/// threads.
///
/// At most [`AHEAD`] items a worker are computed, or being computed, and not yet taken, so memory
/// stays bounded. Dropping the iterator ends the threads after the item they are at.
pub(crate) struct Prefetch<T, F> {
    shared: Arc<Shared<T, F>>,
    next: usize,
    threads: Vec<JoinHandle<()>>,
}

/// Items a worker that may be ready or in work.
const AHEAD: usize = 2;

struct Shared<T, F> {
    make: F,
    end: usize,
    ahead: usize,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// The item that the next idle worker takes on.
    claim: usize,
    /// The item that the consumer takes next.
    taken: usize,
    ready: BTreeMap<usize, T>,
    /// The consumer is gone, or a worker has died: no more work is begun.
    closed: bool,
}

impl<T: Send + 'static, F: Fn(usize) -> T + Send + Sync + 'static> Prefetch<T, F> {
    /// Starts `workers` threads; with none, items are made when they are asked for.
    pub(crate) fn new(first: usize, end: usize, workers: usize, make: F) -> Self {
        let workers = workers.min(end.saturating_sub(first));
        let state = State { claim: first, taken: first, ready: BTreeMap::new(), closed: false };
        let shared = Arc::new(Shared {
            make,
            end,
            ahead: AHEAD * workers,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let threads = (0..workers)
            .map_while(|number| {
                let shared = Arc::clone(&shared);
                // Where the system has no thread left, the work is done with fewer.
                std::thread::Builder::new().name(format!("loader-{number}")).spawn(move || shared.work()).ok()
            })
            .collect();
        Self { shared, next: first, threads }
    }
}

impl<T, F: Fn(usize) -> T> Shared<T, F> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        // Should `make` panic, the consumer must learn of it instead of waiting for ever.
        let _guard = CloseOnPanic(self);
        loop {
            let number = {
                let mut state = self.lock();
                while !state.closed && state.claim < self.end && state.claim >= state.taken + self.ahead {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if state.closed || state.claim >= self.end {
                    return;
                }
                state.claim += 1;
                state.claim - 1
            };
            let item = (self.make)(number);
            self.lock().ready.insert(number, item);
            self.changed.notify_all();
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

struct CloseOnPanic<'a, T, F: Fn(usize) -> T>(&'a Shared<T, F>);

impl<T, F: Fn(usize) -> T> Drop for CloseOnPanic<'_, T, F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close();
        }
    }
}

impl<T, F: Fn(usize) -> T> Iterator for Prefetch<T, F> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.next >= self.shared.end {
            return None;
        }
        let number = self.next;
        self.next += 1;
        if self.threads.is_empty() {
            return Some((self.shared.make)(number));
        }
        let mut state = self.shared.lock();
        loop {
            if let Some(item) = state.ready.remove(&number) {
                state.taken = number + 1;
                drop(state);
                self.shared.changed.notify_all();
                return Some(item);
            }
            if state.closed {
                drop(state);
                // A worker died over some item; if it was this one, it fails here, in sight.
                return Some((self.shared.make)(number));
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.shared.end.saturating_sub(self.next);
        (left, Some(left))
    }
}

impl<T, F: Fn(usize) -> T> ExactSizeIterator for Prefetch<T, F> {}

impl<T, F> Drop for Prefetch<T, F> {
    fn drop(&mut self) {
        // `close` needs `F: Fn`, which a `Drop` cannot ask for.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A worker's panic has been, or would be, shown by `next`; a drop must not panic.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn order_is_the_same_for_any_number_of_workers() {
        for workers in [0, 1, 2, 3, 5, 16] {
            for first in [0, 3, 40, 41] {
                let uneven = |i: usize| {
                    std::thread::sleep(Duration::from_micros((i * 37 % 11) as u64 * 30));
                    i * i
                };
                let got: Vec<_> = Prefetch::new(first, 40, workers, uneven).collect();
                assert_eq!(got, (first..40).map(|i| i * i).collect::<Vec<_>>(), "{workers} from {first}");
            }
        }
    }

    #[test]
    fn no_more_is_made_ahead_than_allowed() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let mut items = Prefetch::new(0, 1_000, 3, move |i| {
            count.fetch_add(1, Ordering::SeqCst);
            i
        });
        for taken in 1..=5 {
            items.next();
            std::thread::sleep(Duration::from_millis(30));
            let made = made.load(Ordering::SeqCst);
            assert!(made <= taken + 3 * AHEAD, "{made} made when {taken} were taken");
            assert!(made > taken, "nothing was made ahead");
        }
    }

    #[test]
    fn dropping_ends_the_threads() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let mut items = Prefetch::new(0, usize::MAX, 4, move |i| (i, Arc::strong_count(&held)));
        assert_eq!(items.next().map(|(i, _)| i), Some(0));
        drop(items);
        // Every thread owned a share of `held`; all are given back once the threads are gone.
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn a_panic_in_a_worker_reaches_the_consumer() {
        let mut items = Prefetch::new(0, 10, 2, |i| {
            assert!(i != 4, "item four");
            i
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            assert_eq!(items.by_ref().take(4).collect::<Vec<_>>(), [0, 1, 2, 3]);
            items.next()
        }));
        assert!(outcome.is_err(), "{outcome:?}");
    }
}
