use proptest::prelude::*;
use unlearn_curvature::ParamInfo;

use crate::select::{Target, prune_lowest};
use crate::{EmptyLayers, MaskSet, PruneError, Scope, Scores};

fn layer(path: &str, n: usize) -> ParamInfo {
    ParamInfo {
        path: path.into(),
        id: burn::module::ParamId::new(),
        shape: vec![n],
        layer: "Conv2d".into(),
        trainable: true,
    }
}

struct Case {
    layers: Vec<ParamInfo>,
    scores: Scores,
    mask: MaskSet,
}

/// Layers `a`, `b`, … with these scores, of which `gone` are pruned already.
fn case(scores: &[Vec<f32>], gone: impl Fn(usize, usize) -> bool) -> Case {
    let mut case = Case { layers: Vec::new(), scores: Scores::new(), mask: MaskSet::new() };
    for (l, values) in scores.iter().enumerate() {
        let path = char::from(b'a' + l as u8).to_string();
        case.layers.push(layer(&path, values.len()));
        case.scores.insert(path.as_str().into(), values.clone());
        let keep = (0..values.len()).map(|i| !gone(l, i)).collect();
        case.mask.insert(path.as_str(), vec![values.len()], keep).unwrap();
    }
    case
}

#[test]
fn scores_of_pruned_weights_may_be_anything() {
    let of = |gone: bool| case(&[vec![f32::NAN, 2.0, 1.0, f32::INFINITY]], move |_, i| gone && i % 3 == 0);
    let mask = of(true).prune(0.5, Scope::Global, EmptyLayers::Refuse).unwrap();
    assert_eq!(mask.get(&"a".into()).unwrap().keep(), [false, true, false, false]);
    let error = of(false).prune(0.5, Scope::Global, EmptyLayers::Refuse).unwrap_err();
    assert!(matches!(error, PruneError::NonFinite { count: 2, .. }), "{error}");
}

impl Case {
    fn prune(&self, rate: f64, scope: Scope, empty: EmptyLayers) -> Result<MaskSet, PruneError> {
        let mut mask = self.mask.clone();
        let target = Target { rate, part: 1, parts: 1 };
        prune_lowest(&mut mask, &self.mask, &self.scores, &self.layers, scope, target, empty)?;
        Ok(mask)
    }

    /// The slow twin: sort everything that is left by (score, path, place) and drop the first.
    fn sorted(&self, rate: f64, scope: Scope) -> MaskSet {
        let mut mask = self.mask.clone();
        let groups: Vec<Vec<&ParamInfo>> = match scope {
            Scope::Global => vec![self.layers.iter().collect()],
            Scope::PerLayer => self.layers.iter().map(|l| vec![l]).collect(),
        };
        for group in groups {
            let mut left = Vec::new();
            for layer in &group {
                let keep = self.mask.get(&layer.path).unwrap().keep();
                for (i, s) in self.scores.get(&layer.path).unwrap().iter().enumerate() {
                    if keep[i] {
                        left.push((*s, layer.path.clone(), i));
                    }
                }
            }
            left.sort_by(|x, y| x.partial_cmp(y).unwrap());
            let count = (rate * left.len() as f64).round_ties_even() as usize;
            for (_, path, i) in left.into_iter().take(count) {
                mask.get_mut(&path).unwrap().keep_mut()[i] = false;
            }
        }
        mask
    }
}

/// Few different values, so that ties are the rule; both zeros.
fn scores() -> impl Strategy<Value = Vec<Vec<f32>>> {
    let value = prop_oneof![Just(-0.0_f32), Just(0.0), Just(0.5), Just(-1.0), Just(2.0), -1.0_f32..1.0];
    prop::collection::vec(prop::collection::vec(value, 0..30), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]
    #[test]
    fn selection_agrees_with_sorting(scores in scores(), rate in 0.001_f64..0.999, skip in 2_usize..7, per_layer: bool) {
        let case = case(&scores, |l, i| (l + i) % skip == 0);
        let scope = if per_layer { Scope::PerLayer } else { Scope::Global };
        let fast = case.prune(rate, scope, EmptyLayers::Allow).unwrap();
        prop_assert_eq!(&fast, &case.sorted(rate, scope));
        let left = case.mask.kept();
        if scope == Scope::Global {
            let achieved = (left - fast.kept()) as f64;
            prop_assert!((achieved - rate * left as f64).abs() <= 0.5 + 1e-9);
        }
    }
}

#[test]
fn halves_go_to_even() {
    for (n, rate, expected) in
        [(5, 0.5, 2), (7, 0.5, 4), (3, 0.5, 2), (1, 0.5, 0), (10, 0.25, 2), (504, 0.2, 101)]
    {
        assert_eq!(Target { rate, part: 1, parts: 1 }.gone(n), expected, "{n} × {rate}");
    }
}

/// The counts that the published code gives for 504 weights at 0.2 a round.
#[test]
fn rounds_compound_as_published() {
    let mut case = case(&[(0..504).map(|i| (i * 37 % 504) as f32).collect()], |_, _| false);
    let mut left = Vec::new();
    for _ in 0..4 {
        case.mask = case.prune(0.2, Scope::Global, EmptyLayers::Refuse).unwrap();
        left.push(case.mask.kept());
    }
    assert_eq!(left, [403, 322, 258, 206]);
}

#[test]
fn an_emptied_layer_is_an_error_unless_allowed() {
    let case = case(&[vec![1.0, 8.0], vec![0.1], vec![5.0, 6.0, 7.0], vec![0.2, 0.3]], |_, _| false);
    let Err(PruneError::LayerEmpty { path, total, others }) =
        case.prune(0.5, Scope::Global, EmptyLayers::Refuse)
    else {
        panic!("not refused")
    };
    assert_eq!((path.as_str(), total, others), ("b", 1, 1));
    let mask = case.prune(0.5, Scope::Global, EmptyLayers::Allow).unwrap();
    assert_eq!(mask.get(&"b".into()).unwrap().kept(), 0);
    assert_eq!(mask.kept(), 4);
    // A layer that was empty before is nobody's fault.
    let again = Case { mask, ..case };
    again.prune(0.25, Scope::Global, EmptyLayers::Refuse).unwrap();
}

#[test]
fn scores_without_an_order_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let case = case(&[vec![1.0; 4], vec![1.0, bad, bad, 2.0]], |_, _| false);
        let error = case.prune(0.5, Scope::Global, EmptyLayers::Allow).unwrap_err();
        assert_eq!(error.code(), "E_SCORE_NONFINITE");
        assert!(error.to_string().contains("2 scores of `b`"), "{error}");
    }
    let mut case = case(&[vec![1.0; 4], vec![1.0; 4]], |_, _| false);
    case.scores.insert("b".into(), vec![1.0; 3]);
    let error = case.prune(0.5, Scope::Global, EmptyLayers::Allow).unwrap_err();
    assert_eq!(error.code(), "E_SCORE_SHAPE");
}
