use super::*;

/// First draws and sums that NumPy gave.
#[test]
fn draws_are_numpys() {
    for (seed, n, k, first, sum) in [
        (1, 5_000, 500, [2764, 4767, 3814, 3499, 2735, 3922, 2701, 1179], 1_260_433),
        (2, 5_000, 500, [3566, 4252, 1918, 4111, 1471, 929, 1916, 3995], 1_210_566),
        (1, 45_000, 4_500, [25275, 12561, 24707, 25066, 33429, 44157, 40878, 23566], 102_444_727),
        (0, 45_000, 4_500, [44885, 10988, 26912, 7473, 32767, 7972, 28939, 43852], 100_874_819),
        (1, 45_000, 22_500, [25275, 12561, 24707, 25066, 33429, 44157, 40878, 23566], 504_806_531),
    ] {
        let drawn = NumpyRandom::new(seed).choice(n, k);
        assert_eq!(drawn[..8], first, "seed {seed}");
        assert_eq!(drawn.len(), k);
        assert_eq!(drawn.iter().sum::<usize>(), sum, "seed {seed}");
    }
}

#[test]
fn one_generator_goes_on_from_class_to_class() {
    for (seed, total, class1, class9) in [
        (1, 12_428_670, [473, 2932, 3982, 881], [4449, 3289, 4177, 801]),
        (2, 12_602_313, [1430, 1611, 92, 4033], [2320, 754, 4030, 4213]),
    ] {
        let mut generator = NumpyRandom::new(seed);
        let classes: Vec<_> = (0..10).map(|_| generator.choice(5_000, 500)).collect();
        assert_eq!(classes[1][..4], class1);
        assert_eq!(classes[9][..4], class9);
        assert_eq!(classes.iter().flatten().sum::<usize>(), total);
    }
}

#[test]
fn small_cases_are_whole() {
    assert!(NumpyRandom::new(0).choice(0, 0).is_empty());
    assert_eq!(NumpyRandom::new(0).choice(1, 1), [0]);
    let mut all = NumpyRandom::new(9).choice(100, 100);
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
}
