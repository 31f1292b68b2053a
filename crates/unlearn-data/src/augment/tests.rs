use super::*;

const SHAPE: ImageShape = ImageShape { channels: 3, height: 8, width: 6 };

fn image() -> Vec<u8> {
    (0..SHAPE.len()).map(|i| (i + 1) as u8).collect()
}

fn apply(seed: u64, epoch: u64, index: usize) -> Vec<f32> {
    let mut out = Vec::new();
    Augment::CropFlip.apply(&image(), SHAPE, Seed(seed), epoch, index, &mut out);
    out
}

/// The slow, obvious twin: pad, cut out, mirror, each on its own.
fn twin(top: usize, left: usize, flip: bool) -> Vec<f32> {
    let (height, width) = (SHAPE.height, SHAPE.width);
    let image = image();
    let mut padded = vec![vec![vec![0_u8; width + 8]; height + 8]; 3];
    for channel in 0..3 {
        for row in 0..height {
            for column in 0..width {
                padded[channel][row + 4][column + 4] = image[(channel * height + row) * width + column];
            }
        }
    }
    let mut out = Vec::new();
    for channel in &padded {
        for row in &channel[top..top + height] {
            let mut cut = row[left..left + width].to_vec();
            if flip {
                cut.reverse();
            }
            out.extend(cut.iter().map(|&v| f32::from(v) / 255.0));
        }
    }
    out
}

#[test]
fn every_offset_and_flip_is_drawn_and_right() {
    let mut left_over: Vec<(usize, usize, bool)> =
        (0..9).flat_map(|t| (0..9).flat_map(move |l| [(t, l, false), (t, l, true)])).collect();
    for index in 0..3_000 {
        let got = apply(1, 0, index);
        let mut rng = Seed(1).rng(Stream::Augment, 0, index as u64);
        let drawn = (rng.random_range(0..=8), rng.random_range(0..=8), rng.random());
        assert_eq!(got, twin(drawn.0, drawn.1, drawn.2), "{drawn:?}");
        left_over.retain(|case| *case != drawn);
    }
    assert!(left_over.is_empty(), "never drawn: {left_over:?}");
}

#[test]
fn the_draw_depends_on_seed_epoch_and_sample_only() {
    assert_eq!(apply(1, 2, 3), apply(1, 2, 3));
    let many = |seed, epoch| (0..20).map(|i| apply(seed, epoch, i)).collect::<Vec<_>>();
    assert_ne!(many(1, 0), many(2, 0));
    assert_ne!(many(1, 0), many(1, 1));
}

#[test]
fn none_only_scales() {
    let mut out = vec![9.0];
    Augment::None.apply(
        &[0, 51, 255],
        ImageShape { channels: 3, height: 1, width: 1 },
        Seed(0),
        0,
        0,
        &mut out,
    );
    assert_eq!(out, [9.0, 0.0, 0.2, 1.0]);
}
