//! Models of Hugging Face's hub: `ORG/NAME` or `ORG/NAME@REVISION` becomes a folder in the cache.
//!
//! ```text
//! ORG/NAME@REVISION ─► Id ─► what the hub says of it: commit, files, lengths, SHA-256
//!                              ─► CACHE/models--ORG--NAME/snapshots/COMMIT/{config.json, model.safetensors}
//!                                                         unlearn/COMMIT.json: length and SHA-256 of each
//! ```
//!
//! A commit that is named in full and is whole in the cache is taken from there, and nobody is asked.
//!
//! Names, addresses, cache and token are those of the `hf-hub` crate (`HF_ENDPOINT`, `HF_HOME`), so that what Python
//! has fetched is found and the other way round. The files come through [`Download`], because the last version of that
//! crate without an asynchronous runtime asks for compressed ranges, which servers of large files do not give.

mod id;
mod info;
mod lock;
mod record;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder};
use hf_hub::{Cache, Repo, RepoType};

pub(crate) use self::id::Id;
use self::info::{CONFIG, Info, PREPROCESSOR, WEIGHTS};
use self::lock::Lock;
use self::record::Record;
use crate::download::{Download, Known};
use crate::error::{Exit, Failure};

const GATED: &str =
    "accept the model's terms on its page, and set HF_TOKEN to a token of yours that may read it";

/// A model that is in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// The folder with its files.
    pub(crate) folder: PathBuf,
    /// The model, and the commit that the files are of.
    pub(crate) id: Id,
}

/// What `path` means: a folder that is there is itself, and what looks like a model of the hub and is no folder is
/// fetched. `None` stands for everything else.
pub(crate) fn resolve(path: &Path, quiet: bool) -> Result<Option<Fetched>, Failure> {
    // What cannot be looked at is left to whoever opens it, and so is what is named like a file: a mistyped path of this
    // machine is nobody else's business.
    let absent = path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    let file = path.extension().and_then(|end| end.to_str());
    let file = file.is_some_and(|end| ["pth", "pt", "tar", "bin", "safetensors"].contains(&end));
    if !absent || file {
        return Ok(None);
    }
    let Some(id) = path.to_str().and_then(Id::parse) else { return Ok(None) };
    Hub::from_env(quiet)?.fetch(&id).map(Some)
}

/// Where models are asked for and where they are kept.
struct Hub {
    api: Api,
    cache: Cache,
    token: Option<String>,
    /// Only the cache is looked at.
    offline: bool,
    stall: Duration,
    pause: Duration,
    /// How long another process that fetches the same model may make no progress.
    patience: Duration,
    quiet: bool,
}

impl Hub {
    /// As the environment says: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN`.
    fn from_env(quiet: bool) -> Result<Self, Failure> {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        if text("HF_HOME").is_none() && std::env::home_dir().is_none() {
            return Err(Failure::config(
                "HF_HOME",
                "absent, and there is no home folder",
                "a folder for what comes from the hub",
                "set HF_HOME to one",
            ));
        }
        let offline = text("HF_HUB_OFFLINE")
            .is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()));
        let cache = Cache::from_env();
        let token = text("HF_TOKEN").map(|token| token.trim().to_owned()).or_else(|| cache.token());
        Self::new(text("HF_ENDPOINT"), cache, token, offline, quiet)
    }

    fn new(
        endpoint: Option<String>,
        cache: Cache,
        token: Option<String>,
        offline: bool,
        quiet: bool,
    ) -> Result<Self, Failure> {
        let mut builder = ApiBuilder::from_cache(cache.clone()).with_progress(false);
        if let Some(endpoint) = endpoint {
            let endpoint = endpoint.trim().trim_end_matches('/').to_owned();
            if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
                return Err(Failure::config(
                    "HF_ENDPOINT",
                    endpoint,
                    "an address that begins with https:// or http://",
                    "correct it, or leave it out for the official one",
                ));
            }
            builder = builder.with_endpoint(endpoint);
        }
        let api = builder.with_token(token.clone()).build().map_err(|error| {
            Failure::new(
                "E_DOWNLOAD",
                Exit::Environment,
                "hub",
                error.to_string(),
                "a client for it",
                "check HF_ENDPOINT and HF_HOME",
            )
        })?;
        let (stall, pause) = (Duration::from_secs(30), Duration::from_secs(1));
        // Longer than the other waits itself: three stalls, and the hash of the largest file.
        let patience = Duration::from_mins(5);
        Ok(Self { api, cache, token, offline, stall, pause, patience, quiet })
    }

    /// The model in the cache, fetched as far as it is not there yet.
    fn fetch(&self, id: &Id) -> Result<Fetched, Failure> {
        if self.offline {
            return self.cached(id);
        }
        if let Some(commit) = id.commit()
            && let Some(fetched) = self.whole(id, &commit)?
        {
            return Ok(fetched);
        }
        let revision = Repo::with_revision(id.name.clone(), RepoType::Model, id.revision.clone());
        let info = Info::ask(self, id, &self.api.repo(revision.clone()))?;
        let fetched = match self.whole(id, &info.commit)? {
            Some(fetched) => fetched,
            None => self.download(id, &info)?,
        };
        let cached = self.cache.repo(revision);
        let named = cached.get(CONFIG).is_some_and(|file| file.parent() == Some(fetched.folder.as_path()));
        if info.commit != id.revision
            && !named
            && let Err(error) = cached.create_ref(&info.commit)
        {
            // The cache may not be ours to write. The name is asked for again next time.
            tracing::warn!(folder = %fetched.folder.display(), %error, "no name for the commit was kept");
        }
        tracing::info!(model = id.name, commit = info.commit, "in the cache");
        Ok(fetched)
    }

    /// Fetches what is missing of a commit, and keeps a record of it.
    fn download(&self, id: &Id, info: &Info) -> Result<Fetched, Failure> {
        let wanted = info.wanted(id)?;
        let folder = self.folder(id, &info.commit);
        std::fs::create_dir_all(&folder).map_err(|error| Failure::io(&folder, &error))?;
        // What another program has put there is only looked at: its cache may not be ours to write.
        let absent = wanted.iter().any(|file| !folder.join(&file.name).exists());
        let lock = self.beside(id, &info.commit, "lock");
        let _lock = if absent { Some(Lock::take(&lock, &folder, self.patience)?) } else { None };
        // Another process may have fetched it meanwhile.
        if absent && let Some(fetched) = self.whole(id, &info.commit)? {
            return Ok(fetched);
        }
        let path = self.beside(id, &info.commit, "json");
        let known = Record::read(&path);
        let repo = Repo::with_revision(id.name.clone(), RepoType::Model, info.commit.clone());
        let repo = self.api.repo(repo);
        for file in &wanted {
            let url = repo.url(&file.name);
            let sha256 = file.sha256.as_deref().or_else(|| known.as_ref()?.sha256(&file.name));
            let known = sha256.map(Known::Sha256).or_else(|| file.blob.as_deref().map(Known::GitBlob));
            let download = Download {
                known,
                token: self.token.as_deref(),
                setting: "HF_ENDPOINT",
                denied: Some(GATED),
                stall: self.stall,
                pause: self.pause,
                quiet: self.quiet,
                ..Download::new(&url, file.bytes, "")
            };
            download.to(&folder.join(&file.name))?;
        }
        let record = Record::of(&folder, wanted.into_iter().map(|file| file.name))?;
        if let Err(failure) = record.write(&path) {
            tracing::warn!("no record of what was fetched: {failure}");
        }
        Ok(Fetched { folder, id: id.at(info.commit.clone()) })
    }

    /// The commit as it is in the cache, when all of it is there as it was fetched.
    fn whole(&self, id: &Id, commit: &str) -> Result<Option<Fetched>, Failure> {
        let folder = self.folder(id, commit);
        let Some(record) = Record::read(&self.beside(id, commit, "json")) else { return Ok(None) };
        let missing = record.missing(&folder)?;
        Ok(missing.is_none().then(|| Fetched { folder, id: id.at(commit.to_owned()) }))
    }

    /// Where the files of a commit are.
    fn folder(&self, id: &Id, commit: &str) -> PathBuf {
        self.cache.model(id.name.clone()).pointer_path(commit)
    }

    /// A file of ours about a commit.
    fn beside(&self, id: &Id, commit: &str, ending: &str) -> PathBuf {
        let folder = Repo::model(id.name.clone()).folder_name();
        self.cache.path().join(folder).join("unlearn").join(format!("{commit}.{ending}"))
    }

    /// What is in the cache already.
    fn cached(&self, id: &Id) -> Result<Fetched, Failure> {
        let commit = id.commit().unwrap_or_else(|| id.revision.clone());
        let by_commit = Some(self.folder(id, &commit)).filter(|folder| folder.join(CONFIG).exists());
        let folder = by_commit.or_else(|| {
            let repo = Repo::with_revision(id.name.clone(), RepoType::Model, id.revision.clone());
            self.cache.repo(repo).get(CONFIG).and_then(|file| file.parent().map(Path::to_owned))
        });
        let folder = folder.filter(|folder| WEIGHTS.iter().any(|name| folder.join(name).exists()));
        let commit = folder.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
        let (Some(folder), Some(commit)) = (&folder, commit) else {
            return Err(absent(id, "neither a folder nor, with HF_HUB_OFFLINE set, a model in the cache"));
        };
        if let Some(record) = Record::read(&self.beside(id, commit, "json")) {
            if let Some(path) = record.missing(folder)? {
                let got = format!("with HF_HUB_OFFLINE set, a model in the cache without {}", path.display());
                return Err(absent(id, got));
            }
        } else {
            tracing::info!(model = id.name, "fetched by another program; not checked");
            if !folder.join(PREPROCESSOR).exists() {
                tracing::warn!(
                    model = id.name,
                    "no {PREPROCESSOR} in the cache: pictures are scaled to -1 and 1"
                );
            }
        }
        Ok(Fetched { folder: folder.clone(), id: id.at(commit.to_owned()) })
    }
}

fn absent(id: &Id, got: impl Into<String>) -> Failure {
    Failure::new(
        "E_DOWNLOAD",
        Exit::Environment,
        id.to_string(),
        got,
        "its config.json and weights there",
        "unset HF_HUB_OFFLINE to fetch it once, or name a folder",
    )
}

#[cfg(test)]
mod tests;
