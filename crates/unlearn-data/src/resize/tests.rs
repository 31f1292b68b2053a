use super::*;

const SHAPE: ImageShape = ImageShape { channels: 1, height: 5, width: 7 };

fn picture() -> Vec<f32> {
    (0..SHAPE.len()).map(|i| (i * 37 % 101) as f32 / 100.0).collect()
}

/// As they were printed.
fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

#[track_caller]
fn near(got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        // Nine digits were written down, and pixels are float32.
        assert!((f64::from(*g) - e).abs() < 1e-7, "{i}: {g} but expected {e}");
    }
}

/// What torchvision 0.29.2 on torch 2.15.0 gives in float64:
/// `x = (torch.arange(105) * 37 % 101 / 100).reshape(3, 5, 7)[:1]`, then
/// `resize(x, [h, w], InterpolationMode.BILINEAR, antialias=True)` and
/// `resized_crop(x, 1, 2, 3, 4, [4, 2], InterpolationMode.BILINEAR, antialias=True)`.
#[test]
fn the_numbers_are_torchvisions() {
    let whole = |size| {
        let mut out = Vec::new();
        resize(&picture(), SHAPE, Region::of(SHAPE), size, false, &mut out);
        out
    };
    let shrunk = numbers(
        "0.417482993 0.506 0.373028571 0.525306122 0.430687831 0.562933333 0.471644444 0.627830688 \
        0.436258503 0.623714286 0.461885714 0.482244898",
    );
    near(&whole([3, 4]), &shrunk);
    let mixed = numbers(
        "0.294545455 0.441859504 0.614710744 0.587231405 0.509669421 0.394545455 0.33785124 0.406363636 \
        0.641818182 0.57677686 0.494545455 0.424545455 0.404917355 0.410826446 0.617066116 0.639669421 \
        0.524545455 0.46785124 0.448719008 0.479669421 0.560702479 0.624545455",
    );
    near(&whole([2, 11]), &mixed);
    let grown = whole([8, 9]);
    assert_eq!(grown.len(), 72);
    let first =
        numbers("0.0 0.246666667 0.534444444 0.597777778 0.1 0.387777778 0.675555556 0.626666667 0.2");
    near(&grown[..9], &first);
    let last =
        numbers("0.26 0.506666667 0.794444444 0.857777778 0.36 0.647777778 0.374444444 0.213333333 0.46");
    near(&grown[63..], &last);
    let mut crop = Vec::new();
    resize(&picture(), SHAPE, Region { top: 1, left: 2, height: 3, width: 4 }, [4, 2], false, &mut crop);
    near(&crop, &numbers("0.42 0.28 0.505714286 0.546071429 0.554464286 0.594821429 0.55 0.41"));
}

#[test]
fn the_same_size_changes_nothing_and_a_flip_mirrors() {
    let mut same = Vec::new();
    resize(&picture(), SHAPE, Region::of(SHAPE), [5, 7], false, &mut same);
    assert_eq!(same, picture());
    let mut mirrored = Vec::new();
    resize(&picture(), SHAPE, Region::of(SHAPE), [5, 7], true, &mut mirrored);
    for (line, twin) in same.chunks(7).zip(mirrored.chunks(7)) {
        assert_eq!(line.iter().rev().collect::<Vec<_>>(), twin.iter().collect::<Vec<_>>());
    }
}

/// Shares are shares, so that a plain wall stays plain, at any size and channel by channel.
#[test]
fn a_plain_picture_stays_plain() {
    let shape = ImageShape { channels: 2, height: 3, width: 4 };
    let image: Vec<f32> = [0.25; 12].into_iter().chain([0.75; 12]).collect();
    for size in [[1, 1], [2, 9], [30, 31]] {
        let mut out = Vec::new();
        resize(&image, shape, Region::of(shape), size, false, &mut out);
        let each = size[0] * size[1];
        assert!(out[..each].iter().all(|v| (v - 0.25).abs() < 1e-7), "{size:?}");
        assert!(out[each..].iter().all(|v| (v - 0.75).abs() < 1e-7), "{size:?}");
        assert_eq!(out.len(), 2 * each);
    }
}
