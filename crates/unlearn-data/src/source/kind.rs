//! The name of a data set in recipes and on the command line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::synthetic::Synthetic;
use crate::DataError;
use crate::seed::Seed;

/// Which data set. In a recipe a table: `{ kind = "folder" }`,
/// `{ kind = "synthetic", train = 2000, test = 500, seed = 1, size = 32 }`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Table", into = "Table")]
#[non_exhaustive]
pub enum SourceKind {
    /// Whatever lies in the folder.
    #[default]
    Auto,
    /// CIFAR-10, binary or python layout.
    Cifar10,
    /// CIFAR-100 with its 100 fine classes, binary or python layout.
    Cifar100,
    /// Folders of pictures.
    Folder,
    /// One packed file.
    Packed,
    /// Drawn from a seed; no files.
    Synthetic(Synthetic),
}

const IDS: [&str; 6] = ["auto", "cifar10", "cifar100", "folder", "packed", "synthetic"];

impl SourceKind {
    /// The name without settings: `auto`, `cifar10`, `cifar100`, `folder`, `packed` or
    /// `synthetic`.
    pub fn id(&self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::Folder => "folder",
            Self::Packed => "packed",
            Self::Synthetic(_) => "synthetic",
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl FromStr for SourceKind {
    type Err = DataError;

    /// Reads the names of [`id`](Self::id); `synthetic` has its default settings.
    fn from_str(text: &str) -> Result<Self, DataError> {
        match text {
            "auto" => Ok(Self::Auto),
            "cifar10" => Ok(Self::Cifar10),
            "cifar100" => Ok(Self::Cifar100),
            "folder" => Ok(Self::Folder),
            "packed" => Ok(Self::Packed),
            "synthetic" => Ok(Self::Synthetic(Synthetic::default())),
            _ => Err(DataError::Invalid {
                what: "kind of data set".into(),
                got: format!("{text:?}"),
                expected: IDS.join(", "),
                mend: "use one of these names".into(),
            }),
        }
    }
}

/// The recipe's table: one flat list of keys, so that an unknown one is an error for every kind.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    train: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    test: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<Seed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<usize>,
}

impl TryFrom<Table> for SourceKind {
    type Error = DataError;

    fn try_from(table: Table) -> Result<Self, DataError> {
        let kind: Self = table.kind.parse()?;
        let given = [
            ("train", table.train.is_some()),
            ("test", table.test.is_some()),
            ("seed", table.seed.is_some()),
            ("size", table.size.is_some()),
        ];
        match kind {
            Self::Synthetic(default) => {
                let synthetic = Synthetic {
                    train: table.train.unwrap_or(default.train),
                    test: table.test.unwrap_or(default.test),
                    seed: table.seed.unwrap_or(default.seed),
                    size: table.size.unwrap_or(default.size),
                };
                synthetic.validate()?;
                Ok(Self::Synthetic(synthetic))
            }
            kind => match given.iter().find(|(_, given)| *given) {
                None => Ok(kind),
                Some((key, _)) => Err(DataError::Invalid {
                    what: format!("`{key}` of data set `{kind}`"),
                    got: "a value".into(),
                    expected: "none: only synthetic data have settings".into(),
                    mend: format!("remove `{key}` or use kind = \"synthetic\""),
                }),
            },
        }
    }
}

impl From<SourceKind> for Table {
    fn from(kind: SourceKind) -> Self {
        let id = kind.id().to_owned();
        match kind {
            SourceKind::Synthetic(Synthetic { train, test, seed, size }) => {
                Self { kind: id, train: Some(train), test: Some(test), seed: Some(seed), size: Some(size) }
            }
            _ => Self { kind: id, train: None, test: None, seed: None, size: None },
        }
    }
}
