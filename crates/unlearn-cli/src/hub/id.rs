//! The names of models on the hub.

use std::fmt;

/// A model of the hub and one of its revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Id {
    /// `ORG/NAME`.
    pub(crate) name: String,
    /// A branch, tag or commit.
    pub(crate) revision: String,
}

impl Id {
    /// Reads `ORG/NAME` or `ORG/NAME@REVISION`; the branch is `main` where none is named. `None` for what can only be
    /// a path: one that begins with a dot, a slash or a tilde, or has another number of parts.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (org, model) = name.split_once('/')?;
        // The name becomes part of an address and of a folder's name: nothing in it may lead elsewhere.
        let plain = |part: &str| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            part.len() <= 96
                && part.bytes().all(allowed)
                && part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
                && !part.contains("..")
                && !part.contains("--")
        };
        let good = plain(org) && plain(model) && revision.len() <= 200 && revision.split('/').all(plain);
        good.then(|| Self { name: name.to_owned(), revision: revision.to_owned() })
    }

    /// The commit, where the revision is one in full: it means the same for ever.
    pub(super) fn commit(&self) -> Option<String> {
        let whole = self.revision.len() == 40 && self.revision.bytes().all(|b| b.is_ascii_hexdigit());
        whole.then(|| self.revision.to_ascii_lowercase())
    }

    /// The same model at a commit.
    pub(super) fn at(&self, commit: String) -> Self {
        Self { name: self.name.clone(), revision: commit }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.revision)
    }
}
