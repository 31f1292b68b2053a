use unlearn_curvature::ParamInfo;

use super::net::TinyNet;
use crate::{Prunable, PrunableRule, PruneError};

fn paths(prunable: &Prunable) -> Result<Vec<String>, PruneError> {
    let chosen: Vec<ParamInfo> = prunable.select(&TinyNet::flex(1))?;
    Ok(chosen.into_iter().map(|p| p.path.to_string()).collect())
}

#[test]
fn the_rules_select_what_they_say() {
    let of = |rule: PrunableRule| paths(&rule.into()).unwrap();
    assert_eq!(of(PrunableRule::Conv), ["conv1.weight", "conv2.weight", "shortcut.weight"]);
    assert_eq!(of(PrunableRule::Dense), ["dense.weight"]);
    assert_eq!(of(PrunableRule::ReferenceDense), ["dense.weight"]);
    let all = ["conv1.weight", "conv2.weight", "dense.weight", "head.weight", "shortcut.weight"];
    assert_eq!(of(PrunableRule::AllWeights), all);
}

#[test]
fn patterns_add_and_take_away() {
    let with = |include: &[&str], exclude: &[&str]| {
        let own = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        paths(&Prunable { rule: PrunableRule::Conv, include: own(include), exclude: own(exclude) })
    };
    assert_eq!(with(&[], &["conv1.weight"]).unwrap(), ["conv2.weight", "shortcut.weight"]);
    assert_eq!(with(&[], &["conv*"]).unwrap(), ["shortcut.weight"]);
    assert_eq!(with(&["*d.weight"], &["*2.weight", "s*t.w*"]).unwrap(), ["conv1.weight", "head.weight"]);
    assert_eq!(with(&["dense.weight"], &["d*", "conv*"]).unwrap(), ["shortcut.weight"]);
    // What is not trained is nothing to prune: of `bn1`, only these two are.
    let norm = ["bn1.beta", "bn1.gamma", "conv1.weight", "conv2.weight", "shortcut.weight"];
    assert_eq!(with(&["bn1.*"], &[]).unwrap(), norm);
    assert_eq!(with(&["bn1.*"], &["*.running_*"]).unwrap(), norm);
    let statistics = with(&["*.running_var"], &[]).unwrap_err();
    assert_eq!(statistics.code(), "E_PRUNABLE", "{statistics}");
    for (include, exclude) in [(&["heads.weight"][..], &[][..]), (&[], &["conv1"][..]), (&["c*c"], &[])] {
        let error = with(include, exclude).unwrap_err();
        assert_eq!(error.code(), "E_PRUNABLE");
        assert!(error.to_string().contains("conv1.weight"), "{error}");
    }
    let error = with(&[], &["*weight"]).unwrap_err();
    assert!(matches!(error, PruneError::NothingPrunable { .. }), "{error}");
    assert!(error.to_string().contains("Conv2d"), "{error}");
}

#[test]
fn a_recipe_names_a_rule_or_gives_a_table() {
    let read = |json: &str| serde_json::from_str::<Prunable>(json);
    assert_eq!(read("\"dense\"").unwrap(), PrunableRule::Dense.into());
    let table = read(r#"{"rule":"all-weights","exclude":["head.*"]}"#).unwrap();
    assert_eq!((table.rule, table.exclude.len()), (PrunableRule::AllWeights, 1));
    assert_eq!(read("{}").unwrap(), Prunable::default());
    let back = serde_json::to_string(&table).unwrap();
    assert_eq!(read(&back).unwrap(), table);
    let error = read("\"convs\"").unwrap_err().to_string();
    assert!(error.contains("conv, dense, reference-dense or all-weights"), "{error}");
    assert!(read(r#"{"rules":"conv"}"#).unwrap_err().to_string().contains("rules"));
    for rule in PrunableRule::ALL {
        assert_eq!(rule.name().parse::<PrunableRule>().unwrap(), rule);
    }
}
