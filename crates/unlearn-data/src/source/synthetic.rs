//! Ten classes of striped pictures, drawn from a seed: data for tests and demonstrations that need
//! no download.
//!
//! A class is a direction of stripes together with a colour. Neither alone is enough: two classes
//! share each direction, and colours are spread so far that neighbours overlap; neighbours in
//! colour are far apart in direction. On top lie a random background, phase, pitch, contrast and
//! noise. A mirrored picture is a picture of the same class.
//!
//! **Why a net cannot get all of them right.** One picture in [`AMBIGUOUS_EVERY`] is *ambiguous*:
//! half of it shows its own class, the other half another one, and nothing says which half counts.
//! A net that has learned only what the classes have in common gets about half of these right,
//! which bounds test accuracy near 93 %. On *training* pictures it can do better in one way
//! only: by remembering the single picture. The gap between the two shares
//! ([`Synthetic::is_ambiguous`] says which pictures) is memorisation that can be seen, and that
//! unlearning is to remove.
//!
//! Only IEEE additions, multiplications, divisions and square roots are used, in fixed order, so
//! the same seed gives the same bytes on every machine.

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{TrainTest, allocate};
use crate::DataError;
use crate::dataset::{Dataset, ImageShape, Normalization};
use crate::seed::{Seed, Stream};

/// Number of classes.
pub const CLASSES: usize = 10;

/// One picture in so many is ambiguous, in training and test set alike.
pub const AMBIGUOUS_EVERY: usize = 8;

/// How many synthetic pictures, how large, from which seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Synthetic {
    /// Training pictures (default 2,000; 10 to 1,000,000). Classes take turns.
    pub train: usize,
    /// Test pictures (default 1,000; 10 to 1,000,000). Classes take turns.
    pub test: usize,
    /// Everything random about them (default 0).
    pub seed: Seed,
    /// Rows and columns of a picture, in pixels (default 32; 8 to 256).
    pub size: usize,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self { train: 2_000, test: 1_000, seed: Seed(0), size: 32 }
    }
}

/// Training or test half; its number is part of the random key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The training half.
    Train = 0,
    /// The test half.
    Test = 1,
}

impl Synthetic {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`DataError::Invalid`] naming the field that is out of its range.
    pub fn validate(&self) -> Result<(), DataError> {
        for (what, got, low, high) in [
            ("synthetic `train`", self.train, CLASSES, 1_000_000),
            ("synthetic `test`", self.test, CLASSES, 1_000_000),
            ("synthetic `size`", self.size, 8, 256),
        ] {
            if !(low..=high).contains(&got) {
                return Err(DataError::Invalid {
                    what: what.into(),
                    got: got.to_string(),
                    expected: format!("{low} to {high}"),
                    mend: "choose a number in this range".into(),
                });
            }
        }
        Ok(())
    }

    /// Draws both halves.
    ///
    /// # Errors
    /// As [`validate`](Self::validate); [`DataError::TooLarge`] when memory does not suffice.
    pub fn generate(&self) -> Result<TrainTest, DataError> {
        self.validate()?;
        Ok(TrainTest { train: self.part(Part::Train)?, test: self.part(Part::Test)? })
    }

    /// Whether picture `index` of `part` is an ambiguous one: half of it shows another class.
    pub fn is_ambiguous(&self, part: Part, index: usize) -> bool {
        // One in each run of `AMBIGUOUS_EVERY` rounds through the classes, so every class has its
        // exact share of them.
        let (round, class) = (index / CLASSES, index % CLASSES);
        let (run, place) = (round / AMBIGUOUS_EVERY, round % AMBIGUOUS_EVERY);
        let mut rng = self.seed.rng(Stream::Synthetic, 2 + part as u64, (run * CLASSES + class) as u64);
        rng.random_range(0..AMBIGUOUS_EVERY) == place
    }

    fn part(&self, part: Part) -> Result<Dataset, DataError> {
        let (name, count) = match part {
            Part::Train => ("synthetic/train", self.train),
            Part::Test => ("synthetic/test", self.test),
        };
        let shape = ImageShape { channels: 3, height: self.size, width: self.size };
        let mut images = allocate("synthetic pictures", count.checked_mul(shape.len()))?;
        images
            .par_chunks_exact_mut(shape.len())
            .enumerate()
            .for_each(|(index, image)| self.draw(part, index, image));
        let labels = (0..count).map(|index| (index % CLASSES) as u16).collect();
        let names = COLORS
            .iter()
            .enumerate()
            .map(|(class, (color, _))| format!("{color}-{}", direction(class).0))
            .collect();
        Dataset::new(name, shape, images, labels, names, Normalization::half(3))
    }

    /// Draws one picture into `image`, `[3, size, size]`.
    fn draw(&self, part: Part, index: usize, image: &mut [u8]) {
        let mut rng = self.seed.rng(Stream::Synthetic, part as u64, index as u64);
        let class = index % CLASSES;
        let own = Stripes::draw(class, self.size, &mut rng);
        // Drawn for every picture, so that being ambiguous shifts no later draw.
        let mut others: [usize; CLASSES - 1] = std::array::from_fn(|i| (class + 1 + i) % CLASSES);
        others.shuffle(&mut rng);
        let other = Stripes::draw(others[0], self.size, &mut rng);
        let (upright, own_first): (bool, bool) = (rng.random(), rng.random());
        let ambiguous = self.is_ambiguous(part, index);
        let noise = rng.random_range(0.05..0.20_f32);
        let area = self.size * self.size;
        let mut grain = vec![0_u8; 3 * area];
        rng.fill_bytes(&mut grain);
        for row in 0..self.size {
            for column in 0..self.size {
                let first = if upright { row < self.size / 2 } else { column < self.size / 2 };
                let stripes = if ambiguous && first != own_first { &other } else { &own };
                let color = stripes.at(row, column);
                for (channel, value) in color.into_iter().enumerate() {
                    let at = channel * area + row * self.size + column;
                    let value = value + noise * (f32::from(grain[at]) / 127.5 - 1.0);
                    image[at] = (value.clamp(0.0, 1.0) * 255.0) as u8;
                }
            }
        }
    }
}

/// Class colours in the order of the classes: the hue circle in ten steps.
const COLORS: [(&str, [f32; 3]); CLASSES] = [
    ("red", [1.0, 0.0, 0.0]),
    ("orange", [1.0, 0.6, 0.0]),
    ("yellow", [0.8, 1.0, 0.0]),
    ("green", [0.2, 1.0, 0.0]),
    ("mint", [0.0, 1.0, 0.4]),
    ("cyan", [0.0, 1.0, 1.0]),
    ("azure", [0.0, 0.4, 1.0]),
    ("blue", [0.2, 0.0, 1.0]),
    ("violet", [0.8, 0.0, 1.0]),
    ("pink", [1.0, 0.0, 0.6]),
];

/// Directions across the stripes in degrees, and as cosine and sine, in steps of 22.5°.
const DIRECTIONS: [(&str, [f32; 2]); 5] = [
    ("0", [1.0, 0.0]),
    ("22", [0.923_879_5, 0.382_683_43]),
    ("45", [0.707_106_77, 0.707_106_77]),
    ("67", [0.382_683_43, 0.923_879_5]),
    ("90", [0.0, 1.0]),
];

/// The direction of a class: neighbours in colour lie at least 45° apart, and the two classes that
/// share a direction have opposite colours.
fn direction(class: usize) -> (&'static str, [f32; 2]) {
    DIRECTIONS[2 * class % DIRECTIONS.len()]
}

/// One striped texture that fills a picture.
struct Stripes {
    /// Waves a pixel, along columns and rows.
    wave: [f32; 2],
    phase: f32,
    /// Colour between the stripes, and its change along columns and rows, a pixel.
    ground: [f32; 3],
    slope: [f32; 2],
    /// What a stripe adds to the ground.
    color: [f32; 3],
}

impl Stripes {
    fn draw(class: usize, size: usize, rng: &mut impl Rng) -> Self {
        // Turned by up to ±14°, so neighbouring directions overlap; then mirrored or not, so that
        // training with flips changes nothing.
        let [x, y] = direction(class).1;
        let turn = rng.random_range(-0.25..0.25_f32);
        let mirror = if rng.random() { -1.0 } else { 1.0 };
        let (x, y) = (mirror * (x - turn * y), y + turn * x);
        let length = (x * x + y * y).sqrt();
        let waves = rng.random_range(3.0..6.0_f32) / size as f32;
        // Up to seven tenths of the way to a neighbour on the hue circle.
        let neighbour = (class + if rng.random() { 1 } else { CLASSES - 1 }) % CLASSES;
        let shift = rng.random_range(0.0..0.7_f32);
        let strength = rng.random_range(0.4..0.8_f32);
        let color = std::array::from_fn(|c| {
            let (own, near) = (COLORS[class].1[c], COLORS[neighbour].1[c]);
            strength * (own + shift * (near - own) - 0.4)
        });
        Self {
            wave: [waves * x / length, waves * y / length],
            phase: rng.random(),
            ground: std::array::from_fn(|_| rng.random_range(0.3..0.7_f32)),
            slope: std::array::from_fn(|_| rng.random_range(-0.2..0.2_f32) / size as f32),
            color,
        }
    }

    /// Red, green and blue at a pixel, about `[0, 1]`.
    fn at(&self, row: usize, column: usize) -> [f32; 3] {
        let (x, y) = (column as f32, row as f32);
        let t = self.wave[0] * x + self.wave[1] * y + self.phase;
        // A triangle wave from −1 to 1.
        let height = 4.0 * (t - t.floor() - 0.5).abs() - 1.0;
        let shade = self.slope[0] * x + self.slope[1] * y;
        std::array::from_fn(|c| self.ground[c] + shade + height * self.color[c])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Synthetic {
        Synthetic { train: 160, test: 80, seed: Seed(7), size: 16 }
    }

    #[test]
    fn same_seed_same_bytes_on_any_number_of_threads() {
        let once = small().generate().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let again = pool.install(|| small().generate().unwrap());
        assert_eq!(once.train.fingerprint(), again.train.fingerprint());
        assert_eq!(once.test.fingerprint(), again.test.fingerprint());
        let other = Synthetic { seed: Seed(8), ..small() }.generate().unwrap();
        assert_ne!(once.train.fingerprint(), other.train.fingerprint());
        assert_ne!(once.train.image(0), once.test.image(0), "the halves must not share pictures");
    }

    #[test]
    fn more_pictures_keep_the_first_ones() {
        let few = small().generate().unwrap().train;
        let more = Synthetic { train: 320, ..small() }.generate().unwrap().train;
        assert_eq!(few.image(159), more.image(159));
    }

    #[test]
    fn classes_take_turns_and_share_the_ambiguous_ones_evenly() {
        let settings = Synthetic { train: 1_600, ..small() };
        let train = settings.generate().unwrap().train;
        assert_eq!(train.class_counts(), vec![160; CLASSES]);
        for class in 0..CLASSES {
            let ambiguous =
                (class..1_600).step_by(CLASSES).filter(|&i| settings.is_ambiguous(Part::Train, i)).count();
            assert_eq!(ambiguous, 160 / AMBIGUOUS_EVERY, "class {class}");
        }
    }

    /// The bytes are a promise: recipes and results name only the seed.
    #[test]
    fn default_pictures_never_change() {
        let data = Synthetic { train: 100, test: 50, ..Synthetic::default() }.generate().unwrap();
        assert_eq!(
            data.train.fingerprint(),
            "71b085e0ad246beb7b9b99a482634e3133d4f3704e3c8dace6a83ad914d7e4c0"
        );
    }

    #[test]
    fn directions_are_unit_vectors_in_equal_steps() {
        for (step, (name, [x, y])) in DIRECTIONS.into_iter().enumerate() {
            let angle = (22.5 * step as f32).to_radians();
            assert!((x - angle.cos()).abs() < 1e-6 && (y - angle.sin()).abs() < 1e-6, "{name}");
        }
        for class in 0..CLASSES {
            let degrees = |class: usize| direction(class % CLASSES).0.parse::<i32>().unwrap();
            assert!((degrees(class) - degrees(class + 1)).abs() >= 45, "neighbours in colour");
            assert_eq!(degrees(class), degrees(class + 5), "opposite colours");
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (settings, field) in [
            (Synthetic { train: 9, ..small() }, "train"),
            (Synthetic { test: 0, ..small() }, "test"),
            (Synthetic { size: 7, ..small() }, "size"),
            (Synthetic { size: usize::MAX, ..small() }, "size"),
        ] {
            let error = settings.generate().unwrap_err();
            assert_eq!(error.code(), "E_CONFIG");
            assert!(error.to_string().contains(field), "{error}");
        }
    }
}
