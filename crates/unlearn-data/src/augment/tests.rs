use super::*;

const SHAPE: ImageShape = ImageShape { channels: 3, height: 8, width: 6 };
const SIZE: [usize; 2] = [8, 6];

fn image() -> Vec<u8> {
    (0..SHAPE.len()).map(|i| (i + 1) as u8).collect()
}

fn apply(seed: u64, epoch: u64, index: usize) -> Vec<f32> {
    let mut out = Vec::new();
    Augment::CropFlip.apply(&image(), (SHAPE, SIZE), Seed(seed), epoch, index, &mut out);
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
        (ImageShape { channels: 3, height: 1, width: 1 }, [1, 1]),
        Seed(0),
        0,
        0,
        &mut out,
    );
    assert_eq!(out, [9.0, 0.0, 0.2, 1.0]);
}

#[test]
fn a_size_is_given_after_the_augmentation() {
    let size = [5, 9];
    let sized = |augment: Augment, index| {
        let mut out = Vec::new();
        augment.apply(&image(), (SHAPE, size), Seed(1), 0, index, &mut out);
        out
    };
    for index in 0..20 {
        let mut expected = Vec::new();
        resize(&apply(1, 0, index), SHAPE, Region::of(SHAPE), size, false, &mut expected);
        assert_eq!(sized(Augment::CropFlip, index), expected);
    }
    let plain: Vec<f32> = image().iter().map(|&b| f32::from(b) / 255.0).collect();
    let mut expected = Vec::new();
    resize(&plain, SHAPE, Region::of(SHAPE), size, false, &mut expected);
    assert_eq!(sized(Augment::None, 0), expected);
}

#[test]
fn random_parts_are_parts_of_the_allowed_size_and_shape() {
    let shape = ImageShape { channels: 3, height: 32, width: 32 };
    let (mut areas, mut flat, mut corners) = (Vec::new(), 0, std::collections::BTreeSet::new());
    for index in 0..4000 {
        let region = random_region(shape, &mut Seed(3).rng(Stream::Augment, 0, index));
        let Region { top, left, height, width } = region;
        assert!(height >= 1 && width >= 1 && top + height <= 32 && left + width <= 32, "{region:?}");
        // Sides are rounded to whole pixels.
        let ratio = width as f64 / height as f64;
        let slack = 1.0 + 1.0 / height.min(width) as f64;
        assert!(ratio <= 4.0 / 3.0 * slack && ratio >= 3.0 / 4.0 / slack, "{region:?}");
        areas.push((height * width) as f64 / 1024.0);
        flat += usize::from(width > height);
        corners.insert((top, left));
    }
    let least = areas.iter().copied().fold(1.0, f64::min);
    let mean = areas.iter().sum::<f64>() / 4000.0;
    assert!((0.06..0.12).contains(&least), "{least}");
    // Uniform from 8 % to 100 %, but for the largest ones of which some ratios do not fit.
    assert!((0.46..0.54).contains(&mean), "{mean}");
    assert!((1600..2400).contains(&flat), "{flat}");
    assert!(corners.len() > 300, "{}", corners.len());
}

/// No part of a hair has an allowed ratio; the middle is taken.
#[test]
fn a_picture_too_long_gives_its_middle() {
    let tall = ImageShape { channels: 1, height: 40, width: 1 };
    let region = random_region(tall, &mut Seed(3).rng(Stream::Augment, 0, 0));
    assert_eq!(region.width, 1);
    assert!(region.height <= 2, "{region:?}");
    let long = ImageShape { channels: 1, height: 3, width: 90 };
    let middle = (0..200).map(|i| random_region(long, &mut Seed(3).rng(Stream::Augment, 0, i)));
    assert!(middle.filter(|r| *r == Region { top: 0, left: 43, height: 3, width: 4 }).count() > 0);
}

#[test]
fn random_resized_crops_depend_on_seed_epoch_and_sample_only() {
    let sized = |seed, epoch, index| {
        let mut out = Vec::new();
        Augment::RandomResizedCrop.apply(&image(), (SHAPE, [4, 4]), Seed(seed), epoch, index, &mut out);
        assert_eq!(out.len(), 48);
        out
    };
    assert_eq!(sized(1, 2, 3), sized(1, 2, 3));
    let many = |seed, epoch| (0..20).map(|i| sized(seed, epoch, i)).collect::<Vec<_>>();
    assert_ne!(many(1, 0), many(2, 0));
    assert_ne!(many(1, 0), many(1, 1));
    let name = serde_json::to_string(&Augment::RandomResizedCrop).unwrap();
    assert_eq!(name, "\"random-resized-crop\"");
}
