//! New vectors whose pieces are filled by all threads.
//!
//! `vec![0.0; len]` in memory that has been used before is one thread writing zeros to all of it while the others wait. Here
//! each piece is cleared by the thread that fills it, in its cache.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

/// A vector of `len` scalars in pieces of `size`, of which the last may be shorter: `one` gets each of them, zeros at
/// first, with its item.
///
/// # Panics
/// Unless `with` has an item for each piece.
pub(super) fn filled<I: IndexedParallelIterator>(
    len: usize,
    size: usize,
    with: I,
    one: impl Fn(&mut [f32], I::Item) + Send + Sync,
) -> Vec<f32> {
    let [filled] = filled_in(len, size, with, || (), |(), [piece], item| one(piece, item));
    filled
}

/// The same of `N` vectors at once, with a `room` that a thread works in.
pub(super) fn filled_in<const N: usize, W, I: IndexedParallelIterator>(
    len: usize,
    size: usize,
    with: I,
    room: impl Fn() -> W + Send + Sync,
    one: impl Fn(&mut W, [&mut [f32]; N], I::Item) + Send + Sync,
) -> [Vec<f32>; N] {
    let mut vectors: [Vec<f32>; N] = std::array::from_fn(|_| Vec::with_capacity(len));
    let mut cut = vectors.each_mut().map(|vector| vector.spare_capacity_mut()[..len].chunks_mut(size.max(1)));
    let count = len.div_ceil(size.max(1));
    let pieces: Vec<_> =
        (0..count).map(|_| cut.each_mut().map(|pieces| pieces.next().unwrap_or_default())).collect();
    assert!(cut.iter().all(|left| left.len() == 0), "all of it is in pieces");
    assert_eq!(with.len(), count, "an item for each piece");
    let done = AtomicUsize::new(0);
    pieces.into_par_iter().zip(with).for_each_init(room, |room, (pieces, item)| {
        one(room, pieces.map(cleared), item);
        done.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(done.into_inner(), count, "every piece is filled");
    for vector in &mut vectors {
        // SAFETY: the capacity is `len` at least. Each of these scalars lies in one of `pieces` (`chunks_mut` leaves none
        // out, and nothing is left in it), and as many as there are have been cleared, each once (both asserted above).
        // `for_each_init` has joined the threads that did it.
        #[allow(unsafe_code, reason = "see the head of this file")]
        unsafe {
            vector.set_len(len);
        }
    }
    vectors
}

fn cleared(piece: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    piece.fill(MaybeUninit::new(0.0));
    // SAFETY: the line above has written all of it.
    #[allow(unsafe_code, reason = "see the head of this file")]
    unsafe {
        piece.assume_init_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_zeros_first_and_has_its_item() {
        for (len, size) in [(0, 3), (7, 3), (9, 3), (2, 5)] {
            let items: Vec<usize> = (0..len).step_by(size).collect();
            let run = |seen: &mut usize, [a, b]: [&mut [f32]; 2], &first: &usize| {
                *seen += 1;
                assert!(a.len() == size.min(len - first) && a.iter().chain(&*b).all(|&x| x == 0.0));
                a.iter_mut().enumerate().for_each(|(i, a)| *a = (first + i) as f32);
                b.fill(*seen as f32);
            };
            let [a, b] = filled_in(len, size, items.par_iter(), || 0, run);
            assert_eq!(a, (0..len).map(|i| i as f32).collect::<Vec<_>>());
            assert!(b.len() == len && b.iter().all(|&b| b > 0.0));
        }
    }

    #[test]
    #[should_panic(expected = "an item for each piece")]
    fn items_that_do_not_suffice_are_refused() {
        filled(7, 3, [0, 1].par_iter(), |_, _| ());
    }
}
