//! A hyperparameter that is a number or switched off. TOML has no null, so a recipe says `"none"`.

use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(untagged, expecting = "a number, or \"none\"")]
enum Given {
    Number(f64),
    Word(Off),
    Null(()),
}

#[derive(Deserialize)]
enum Off {
    #[serde(rename = "none")]
    None,
}

/// A number, or nothing for `"none"` and null.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Ok(match Given::deserialize(deserializer)? {
        Given::Number(number) => Some(number),
        Given::Word(Off::None) | Given::Null(()) => None,
    })
}
