use super::*;

const SMALL: &str = r#"
name = "small"

[data]
kind = "synthetic"
train_per_class = 20
test_per_class = 10

[model]
name = "resnet"
width = 4
blocks = [1, 1, 1, 1]
classes = 10

[training]
epochs = 2
batch_size = 16
learning_rate = 0.1
augment = "crop-flip"
optimizer = { name = "sgd", momentum = 0.9, weight_decay = 5e-4 }
schedule = { name = "cosine" }

[[network]]
name = "dense"

[[network]]
name = "omp95"
pruning = { rate = 0.95 }

[forget]
spec = "class:0"

[[method]]
name = "retrain"

[[method]]
name = "gradient-ascent"
label = "ga-1e-3"
learning_rate = 1e-3
"#;

fn load(text: &str, sets: &[&str]) -> Result<Recipe, Failure> {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    Recipe::built_in("small.toml", text, &sets)
}

#[test]
fn defaults_are_filled_in_and_the_resolved_recipe_reads_back_equal() {
    let recipe = load(SMALL, &[]).unwrap();
    assert_eq!(recipe.split.rule, SplitKind::None);
    assert_eq!(recipe.seeds, Seeds::default());
    let pruning = recipe.network[1].pruning.as_ref().unwrap();
    assert_eq!(
        (pruning.score, pruning.rounds, pruning.rewind.to_string()),
        (ScoreKind::Magnitude, 1, "init".into())
    );
    assert_eq!(recipe.method[1].label(), "ga-1e-3");
    assert_eq!(recipe.method[1].parameters["learning_rate"], 1e-3);
    let again = load(&recipe.to_toml().unwrap(), &[]).unwrap();
    assert_eq!(recipe, again);
}

#[test]
fn the_resolved_recipe_has_the_methods_defaults_and_what_switches_them_off() {
    let text = format!("{SMALL}\n[[method]]\nname = \"fisher\"\nclass_row_variance = \"none\"\n");
    let recipe = load(&text, &[]).unwrap();
    let fisher = &recipe.method.last().unwrap().parameters;
    assert_eq!((&fisher["class_row_variance"], &fisher["vector_factor"]), (&"none".into(), &10.0.into()));
    assert_eq!(load(&recipe.to_toml().unwrap(), &[]).unwrap(), recipe);
    let wrong = load(&text, &["method.fisher.class_row_variance=no"]).unwrap_err();
    assert!(format!("{wrong}").contains("a number, or \"none\""), "{wrong}");
}

#[test]
fn set_wins_over_the_file_before_the_checks() {
    let recipe = load(SMALL, &["training.epochs=5", "method.ga-1e-3.learning_rate=0.5"]).unwrap();
    assert_eq!(recipe.training.epochs, 5);
    assert_eq!(recipe.method[1].parameters["learning_rate"], 0.5);
    assert_eq!(load(SMALL, &["training.epochs=0"]).unwrap_err().code, "E_CONFIG");
}

#[test]
fn unknown_keys_suggest_the_nearest_and_name_the_line() {
    for (from, to, near) in [
        ("epochs = 2", "epoch = 2", "epochs"),
        ("train_per_class = 20", "train_per_clas = 20", "train_per_class"),
        ("momentum = 0.9", "momentun = 0.9", "momentum"),
        ("rate = 0.95", "rat = 0.95", "rate"),
        ("[forget]", "[forgot]", "forget"),
        ("name = \"cosine\"", "name = \"cosine\", naem = 1", "name"),
    ] {
        let line = SMALL.split(from).next().unwrap().lines().count();
        let line = line + usize::from(SMALL.split(from).next().unwrap().ends_with('\n'));
        let failure = load(&SMALL.replacen(from, to, 1), &[]).unwrap_err();
        assert_eq!(failure.code, "E_KEY", "{to}: {failure}");
        assert!(failure.place.starts_with(&format!("small.toml:{line} ")), "{to}: {failure}");
        assert!(failure.mend.contains(near), "{to}: {failure}");
    }
}

#[test]
fn each_wrong_value_names_its_place() {
    for (set, code, place) in [
        ("training.epochs=0", "E_CONFIG", "training.epochs"),
        ("training.epochs=-1", "E_CONFIG", "training.epochs"),
        ("training.batch_size=0", "E_CONFIG", "training.batch_size"),
        ("training.learning_rate=0", "E_CONFIG", "training.learning_rate"),
        ("training.learning_rate=nan", "E_CONFIG", "training.learning_rate"),
        ("training.label_smoothing=1.0", "E_CONFIG", "training.label_smoothing"),
        ("training.clip_norm=-1.0", "E_CONFIG", "training.clip_norm"),
        ("training.first_weights=pytorch", "", ""),
        ("training.first_weights=torch", "E_CONFIG", "training.first_weights"),
        ("training.augment=crop", "E_CONFIG", "training.augment"),
        ("training.optimizer.name=adam", "E_CONFIG", "training.optimizer.name"),
        ("data.kind=cifar11", "E_CONFIG", "data.kind"),
        ("data.train_per_class=0", "E_CONFIG", "data.train_per_class"),
        ("data.dir=x", "E_CONFIG", "data.dir"),
        ("split.rule=stratified", "", ""),
        ("split={rule=\"stratified\",fraction=1.0}", "E_CONFIG", "split.fraction"),
        ("split={rule=\"none\",fraction=0.1}", "E_CONFIG", "split.fraction"),
        ("network.1.pruning.rate=1.0", "E_RATE", "network.1.pruning.rate"),
        ("network.1.pruning.rate=0", "E_RATE", "network.1.pruning.rate"),
        ("network.1.pruning.rounds=0", "E_CONFIG", "network.1.pruning.rounds"),
        ("network.1.pruning.rounds=4000000000", "E_CONFIG", "network.1.pruning.rounds"),
        ("network.1.pruning.score=size", "E_CONFIG", "network.1.pruning.score"),
        ("network.1.pruning.rewind=epoch:x", "E_CONFIG", "network.1.pruning.rewind"),
        ("network.1.pruning.rewind=epoch:2", "E_CONFIG", "network.1.pruning.rewind"),
        ("model.width=0", "E_CONFIG", "model.width"),
        ("model.name=vgg", "E_CONFIG", "model.name"),
        ("network.1.name=dense", "E_CONFIG", "network.1.name"),
        ("network.1.name=../x", "E_CONFIG", "network.1.name"),
        ("network=[]", "E_CONFIG", "network"),
        ("forget.spec=klass:0", "E_CONFIG", "forget.spec"),
        ("forget.spec=class:10", "E_CONFIG", "forget.spec"),
        ("forget.spec=random:x%", "E_CONFIG", "forget.spec"),
        ("method.1.label=retrain", "E_CONFIG", "method.1.label"),
        ("method.1.label=original", "E_CONFIG", "method.1.label"),
        ("name=", "E_CONFIG", "name"),
        ("evaluation.batch_size=0", "E_CONFIG", "evaluation.batch_size"),
    ] {
        match load(SMALL, &[set]) {
            Ok(_) => assert_eq!(code, "", "{set} was accepted"),
            Err(failure) => {
                assert_eq!(failure.code, code, "{set}: {failure}");
                assert!(failure.place.ends_with(place), "{set}: {failure}");
            }
        }
    }
}

#[test]
fn a_missing_key_is_named() {
    let failure = load(&SMALL.replacen("batch_size = 16\n", "", 1), &[]).unwrap_err();
    assert!(failure.got.contains("batch_size"), "{failure}");
    let failure = load(&SMALL.replacen("name = \"retrain\"", "label = \"x\"", 1), &[]).unwrap_err();
    assert!(failure.got.contains("name"), "{failure}");
}
