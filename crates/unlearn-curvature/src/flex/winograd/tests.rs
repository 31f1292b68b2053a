//! Every sum against plain loops in float64, on shapes with all kinds of edges.
//!
//! Tolerance: each sum is bounded by the same sum of absolute values through the same transforms, in float64. A value
//! that has been rounded k times on its way is off by at most k · 2⁻²⁴ of that: 2 times by Bᵀ d B, 4 by G g Gᵀ and by
//! Gᵀ u G, 2 by A y Aᵀ, 4 by Aᵀ m A, and once a product.

use burn::tensor::ops::ConvOptions;

use super::{
    forward, input_gradient, squares, suits, suits_back, suits_squares, suits_weights, weight_gradient,
};
use crate::flex::product::Cotangents;
use crate::flex::shape::ConvShape;
use crate::flex::{conv, gather, product};

type Matrix = Vec<Vec<f64>>;

const B: [[f64; 4]; 4] =
    [[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]];
const G: [[f64; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0.0, 0.0, 1.0]];
const A: [[f64; 4]; 2] = [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0]];

fn rows<const R: usize, const C: usize>(m: [[f64; C]; R]) -> Matrix {
    m.iter().map(|row| row.to_vec()).collect()
}

fn transposed(m: &Matrix) -> Matrix {
    (0..m[0].len()).map(|j| m.iter().map(|row| row[j]).collect()).collect()
}

/// m t mᵀ.
fn around(m: &Matrix, t: &Matrix) -> Matrix {
    let left = |m: &Matrix, t: &Matrix| -> Matrix {
        let entry = |row: &Vec<f64>, j: usize| row.iter().zip(t).map(|(a, t)| a * t[j]).sum();
        m.iter().map(|row| (0..t[0].len()).map(|j| entry(row, j)).collect()).collect()
    };
    transposed(&left(m, &transposed(&left(m, t))))
}

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

struct Case {
    n: usize,
    shape: ConvShape,
}

fn case(n: usize, [channels, outputs]: [usize; 2], size: [usize; 2], padding: [(usize, usize); 2]) -> Case {
    let options = ConvOptions::new_with_padding([1, 1], padding, [1, 1], 1);
    let shape = ConvShape::new([n, channels, size[0], size[1]], [outputs, channels, 3, 3], &options);
    Case { n, shape: shape.unwrap() }
}

fn cases() -> Vec<Case> {
    let one = [(1, 1); 2];
    vec![
        case(1, [1, 1], [2, 2], one),
        case(3, [5, 33], [6, 4], one),
        case(2, [17, 3], [4, 10], [(0, 0), (2, 2)]),
        case(2, [3, 70], [8, 6], [(2, 0), (0, 2)]),
        case(13, [20, 16], [4, 4], one),
        case(2, [4, 5], [4, 4], [(0, 0), (0, 0)]),
        case(1, [2, 3], [4, 102], one),
        case(3, [50, 18], [8, 8], one),
        case(2, [900, 3], [2, 2], one),
        // Sides that are odd before and even after; a border that is wider than the kernel.
        case(2, [3, 4], [7, 5], [(1, 2), (2, 1)]),
        case(2, [3, 4], [4, 6], [(4, 0), (0, 4)]),
    ]
}

/// Those whose input gradient is made of whole tiles, and one where only that is.
fn cases_back() -> Vec<Case> {
    let whole = |case: &Case| {
        let narrow = case.shape.padding.iter().all(|&(before, after)| before.max(after) <= 2);
        narrow && case.shape.input.iter().all(|side| side % 2 == 0)
    };
    let mut cases = cases();
    cases.retain(whole);
    cases.push(case(2, [3, 4], [8, 6], [(1, 0), (0, 1)]));
    cases
}

impl Case {
    fn tensors(&self) -> [Vec<f32>; 3] {
        let ConvShape { channels, outputs, input, .. } = self.shape;
        let x = numbers(self.n * channels * input[0] * input[1], 1);
        let output = self.n * self.shape.output_size();
        [x, numbers(outputs * channels * 9, 2), numbers(output, 3)]
    }

    /// Entry (y, x) of a plane of the input, zero outside, where the output's (0, 0) has its corner at (0, 0).
    fn inside(&self, plane: &[f32], y: usize, x: usize) -> f64 {
        let at =
            |a: usize, i: usize| i.checked_sub(self.shape.padding[a].0).filter(|&i| i < self.shape.input[a]);
        match (at(0, y), at(1, x)) {
            (Some(y), Some(x)) => f64::from(plane[y * self.shape.input[1] + x]),
            _ => 0.0,
        }
    }

    fn plane<'a>(&self, x: &'a [f32], sample: usize, channel: usize) -> &'a [f32] {
        let size = self.shape.plane();
        &x[(sample * self.shape.channels + channel) * size..][..size]
    }

    /// |Bᵀ| |d| |B| of a tile.
    fn input_size(&self, plane: &[f32], ty: usize, tx: usize) -> Matrix {
        let d = (0..4)
            .map(|y| (0..4).map(|x| self.inside(plane, 2 * ty + y, 2 * tx + x).abs()).collect())
            .collect();
        around(&rows(B), &d)
    }

    fn tiles(&self) -> impl Iterator<Item = (usize, usize)> {
        let [height, width] = self.shape.output;
        (0..height / 2).flat_map(move |y| (0..width / 2).map(move |x| (y, x)))
    }

    /// The convolution and what its size is bounded by.
    fn convolved(&self, x: &[f32], weight: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let ConvShape { channels, outputs, output: [_, width], .. } = self.shape;
        let length = self.n * self.shape.output_size();
        let (mut values, mut sizes) = (vec![0.0; length], vec![0.0; length]);
        for sample in 0..self.n {
            for output in 0..outputs {
                let base = (sample * outputs + output) * self.shape.positions();
                for channel in 0..channels {
                    let kernel = &weight[(output * channels + channel) * 9..][..9];
                    let plane = self.plane(x, sample, channel);
                    for (i, value) in values[base..][..self.shape.positions()].iter_mut().enumerate() {
                        for (k, &w) in kernel.iter().enumerate() {
                            *value += f64::from(w) * self.inside(plane, i / width + k / 3, i % width + k % 3);
                        }
                    }
                    let g = kernel
                        .chunks(3)
                        .map(|row| row.iter().map(|&w| f64::from(w).abs()).collect())
                        .collect();
                    let u = around(&rows(G), &g);
                    for (ty, tx) in self.tiles() {
                        let mut m = self.input_size(plane, ty, tx);
                        for (m, u) in m.iter_mut().zip(&u) {
                            m.iter_mut().zip(u).for_each(|(m, u)| *m *= u);
                        }
                        for (y, row) in around(&rows(A), &m).iter().enumerate() {
                            for (x, size) in row.iter().enumerate() {
                                sizes[base + (2 * ty + y) * width + 2 * tx + x] += size;
                            }
                        }
                    }
                }
            }
        }
        (values, sizes)
    }

    /// The weight gradient of one picture and what its size is bounded by.
    fn weights(&self, x: &[f32], gradient: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let ConvShape { channels, outputs, output: [_, width], .. } = self.shape;
        let (mut values, mut sizes) = (vec![0.0; outputs * channels * 9], vec![0.0; outputs * channels * 9]);
        for output in 0..outputs {
            let g = &gradient[output * self.shape.positions()..][..self.shape.positions()];
            for channel in 0..channels {
                let plane = self.plane(x, 0, channel);
                let base = (output * channels + channel) * 9;
                for (k, value) in values[base..][..9].iter_mut().enumerate() {
                    for (i, &g) in g.iter().enumerate() {
                        *value += f64::from(g) * self.inside(plane, i / width + k / 3, i % width + k % 3);
                    }
                }
                for (ty, tx) in self.tiles() {
                    let at = |y: usize, x: usize| f64::from(g[(2 * ty + y) * width + 2 * tx + x]).abs();
                    let y = (0..2).map(|y| (0..2).map(|x| at(y, x)).collect()).collect();
                    let mut u = self.input_size(plane, ty, tx);
                    for (u, m) in u.iter_mut().zip(around(&transposed(&rows(A)), &y)) {
                        u.iter_mut().zip(m).for_each(|(u, m)| *u *= m);
                    }
                    let back = around(&transposed(&rows(G)), &u);
                    sizes[base..][..9].iter_mut().zip(back.iter().flatten()).for_each(|(s, b)| *s += b);
                }
            }
        }
        (values, sizes)
    }

    /// Tiles of a picture.
    fn per_picture(&self) -> usize {
        self.shape.positions() / 4
    }
}

#[track_caller]
fn close(got: &[f32], expected: &[f64], sizes: &[f64], rounded: usize) {
    assert_eq!(got.len(), expected.len());
    // The second order in 2⁻²⁴ is less than one more rounding.
    let bound = (rounded + 1) as f64 * 2f64.powi(-24);
    for (i, ((&got, expected), size)) in got.iter().zip(expected).zip(sizes).enumerate() {
        assert!((f64::from(got) - expected).abs() <= bound * size, "{i}: {got} {expected}, of {size}");
    }
}

#[test]
fn the_forward_pass_is_the_convolution() {
    for case in cases() {
        let [x, weight, _] = case.tensors();
        let (expected, sizes) = case.convolved(&x, &weight);
        close(&forward(&case.shape, &x, &weight), &expected, &sizes, 10 + case.shape.channels);
    }
}

#[test]
fn the_input_gradient_is_the_convolution_with_the_kernel_turned_round() {
    for case in cases_back() {
        let [_, weight, gradient] = case.tensors();
        let ConvShape { channels, outputs, input, output, padding, .. } = case.shape;
        let around = padding.map(|(before, after)| (2 - before, 2 - after));
        let back = self::case(case.n, [outputs, channels], output, around);
        assert_eq!(back.shape.output, input);
        let turned: Vec<f32> = (0..weight.len())
            .map(|i| {
                let (channel, output, k) = (i / 9 / outputs, i / 9 % outputs, i % 9);
                weight[(output * channels + channel) * 9 + 8 - k]
            })
            .collect();
        let (expected, sizes) = back.convolved(&gradient, &turned);
        close(&input_gradient(&case.shape, &gradient, &weight), &expected, &sizes, 10 + outputs);
    }
}

#[test]
fn the_weight_gradient_is_the_sum_over_pictures() {
    for case in cases() {
        let [x, weight, gradient] = case.tensors();
        let (mut expected, mut sizes) = (vec![0.0; weight.len()], vec![0.0; weight.len()]);
        let pictures = x.chunks(x.len() / case.n).zip(gradient.chunks(gradient.len() / case.n));
        for (x, gradient) in pictures {
            let (values, more) = case.weights(x, gradient);
            expected.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            sizes.iter_mut().zip(more).for_each(|(sum, size)| *sum += size);
        }
        // A block's sum is rounded once more when it is added, and has a tile at least.
        let rounded = 8 + 2 * case.n * case.per_picture();
        close(&weight_gradient(&case.shape, &x, &gradient), &expected, &sizes, rounded);
    }
}

#[test]
fn squares_are_those_of_single_gradients() {
    for case in cases() {
        let [x, weight, _] = case.tensors();
        let (picture, output) = (x.len() / case.n, case.shape.output_size());
        for (columns, group) in [(1, 1), (3, 1), (2, case.n)] {
            let cotangents = numbers(case.n * columns * output, 4);
            let factors = numbers(case.n / group, 5);
            let all = Cotangents { values: &cotangents, columns, group, factors: Some(&factors) };
            let got = squares(&case.shape, &x, &all);
            let (mut expected, mut sizes) = (vec![0.0; weight.len()], vec![0.0; weight.len()]);
            for (unit, &factor) in factors.iter().enumerate() {
                for column in 0..columns {
                    let (mut g, mut size) = (vec![0.0; weight.len()], vec![0.0; weight.len()]);
                    for sample in unit * group..(unit + 1) * group {
                        let from = &cotangents[(sample * columns + column) * output..][..output];
                        let (values, more) = case.weights(&x[sample * picture..][..picture], from);
                        g.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                        size.iter_mut().zip(more).for_each(|(sum, size)| *sum += size);
                    }
                    let factor = f64::from(factor);
                    expected.iter_mut().zip(g).for_each(|(sum, g)| *sum += (factor * g).powi(2));
                    sizes.iter_mut().zip(size).for_each(|(sum, size)| *sum += (factor * size).powi(2));
                }
            }
            // (g + e)² with |e| ≤ bound · size: twice the roundings, of which the factor is one; the sum over units
            // and columns adds its own.
            let rounded = 2 * (9 + 2 * group * case.per_picture() + 1) + case.n * columns;
            close(&got, &expected, &sizes, rounded);
        }
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    let case = case(37, [40, 33], [8, 8], [(1, 1); 2]);
    let [x, weight, gradient] = case.tensors();
    assert!(suits(&case.shape) && suits_back(&case.shape) && suits_squares(&case.shape, 1));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let all = Cotangents { values: &gradient, columns: 1, group: 1, factors: None };
        pool.install(|| {
            [
                conv::forward(&case.shape, &x, &weight),
                conv::input_gradient(&case.shape, &gradient, &weight),
                conv::weight_gradient(&case.shape, &x, &gradient),
                conv::squares(&case.shape, &x, &all),
            ]
        })
    };
    let results = run(1);
    assert_eq!(results, run(3));
    let all = Cotangents { values: &gradient, columns: 1, group: 1, factors: None };
    let tiles = [
        forward(&case.shape, &x, &weight),
        input_gradient(&case.shape, &gradient, &weight),
        weight_gradient(&case.shape, &x, &gradient),
        squares(&case.shape, &x, &all),
    ];
    assert_eq!(results, tiles, "these sizes are for tiles");
}

#[test]
fn what_is_not_for_tiles_goes_one_product_after_the_other() {
    let shape = |size: [usize; 2], kernel: usize, stride: usize, dilation: usize, padding: usize| {
        let padding = [(padding, padding); 2];
        let options = ConvOptions::new_with_padding([stride; 2], padding, [dilation; 2], 1);
        ConvShape::new([1, 32, size[0], size[1]], [32, 32, kernel, kernel], &options).unwrap()
    };
    assert!(suits(&shape([8, 8], 3, 1, 1, 1)) && suits_back(&shape([8, 8], 3, 1, 1, 1)));
    for other in [
        shape([7, 8], 3, 1, 1, 1),
        shape([8, 8], 1, 1, 1, 0),
        shape([9, 9], 3, 2, 1, 1),
        shape([8, 8], 3, 1, 2, 2),
    ] {
        let any = suits(&other) || suits_back(&other) || suits_weights(&other) || suits_squares(&other, 1);
        assert!(!any, "{other:?}");
    }
    // The gradient of the input has a border of its own: none is left of three pixels.
    assert!(!suits_back(&shape([8, 8], 3, 1, 1, 3)));
    assert!(suits_squares(&shape([4, 4], 3, 1, 1, 1), 4) && !suits_squares(&shape([4, 4], 3, 1, 1, 1), 1));
    let narrow = case(2, [31, 64], [4, 4], [(1, 1); 2]);
    assert!(!suits(&narrow.shape));
    let [x, weight, gradient] = narrow.tensors();
    assert_eq!(conv::forward(&narrow.shape, &x, &weight), gather::forward(&narrow.shape, &x, &weight));
    let direct = product::weight_gradient(&narrow.shape, &x, &gradient);
    assert_eq!(conv::weight_gradient(&narrow.shape, &x, &gradient), direct);
}
