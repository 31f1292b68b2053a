//! What the hub says of a model: the commit that a revision stands for, and its files.

use std::time::Duration;

use hf_hub::api::sync::ApiRepo;
use serde::Deserialize;
use unlearn::models::checkpoint::Limits;
use ureq::http::StatusCode;

use super::{GATED, Hub, Id};
use crate::error::{Exit, Failure};
use crate::run::artefact::MASK;

pub(super) const CONFIG: &str = "config.json";
pub(super) const PREPROCESSOR: &str = "preprocessor_config.json";
/// The weights, the better format first.
pub(super) const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
/// All that may be read.
pub(super) const READ: [&str; 5] = [CONFIG, PREPROCESSOR, MASK, WEIGHTS[0], WEIGHTS[1]];
/// A list of files is some kilobytes; ten thousand files are a megabyte.
const LONGEST: u64 = 8 << 20;
const LONGEST_CONFIG: u64 = 16 << 20;
const TRIES: u32 = 3;

/// One commit of a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Info {
    #[serde(rename = "sha")]
    pub(super) commit: String,
    #[serde(rename = "siblings")]
    files: Vec<Sibling>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Sibling {
    #[serde(rename = "rfilename")]
    name: String,
    size: Option<u64>,
    /// git's name of the content; of a large file, that of a note which stands for it.
    #[serde(rename = "blobId")]
    blob: Option<String>,
    /// Of large files only.
    lfs: Option<Large>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Large {
    sha256: String,
}

/// A file to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) bytes: u64,
    /// Where the hub says it.
    pub(super) sha256: Option<String>,
    /// git's name of the content, where the hub says that instead.
    pub(super) blob: Option<String>,
}

/// Why a try ended.
enum Break {
    Again(String),
    For(Failure),
}

impl Info {
    /// Asks the hub.
    pub(super) fn ask(hub: &Hub, id: &Id, repo: &ApiRepo) -> Result<Self, Failure> {
        let mut last = String::new();
        for number in 0..TRIES {
            if number > 0 {
                tracing::warn!("{last}; trying again ({} of {TRIES})", number + 1);
                std::thread::sleep(hub.pause);
            }
            match Self::attempt(hub.stall, id, repo) {
                Ok(info) => return Ok(info),
                Err(Break::For(failure)) => return Err(failure),
                Err(Break::Again(why)) => last = why,
            }
        }
        let mend = "check the network and HF_ENDPOINT and run the same command again; HF_HUB_OFFLINE=1 takes what is in \
                    the cache";
        Err(refused(id, format!("{last}, after {TRIES} tries"), mend))
    }

    fn attempt(stall: Duration, id: &Id, repo: &ApiRepo) -> Result<Self, Break> {
        let request = repo.info_request().query("blobs", "true").config();
        let request = request
            .http_status_as_error(false)
            .timeout_resolve(Some(stall))
            .timeout_connect(Some(stall))
            .timeout_recv_response(Some(stall))
            .timeout_per_read(Some(stall))
            .build();
        let mut response = request.call().map_err(|e| Break::Again(format!("no answer ({e})")))?;
        let status = response.status();
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                let mend = "check the name and the revision; a folder of that name is not there either";
                return Err(Break::For(refused(id, "no such model, or no such revision of it", mend)));
            }
            // The hub does not say of a private model whether it is there.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let got = format!("the answer {status}: no such model, or one that is not for everybody");
                return Err(Break::For(refused(id, got, &format!("check the name; or {GATED}"))));
            }
            _ if status.is_server_error()
                || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status) =>
            {
                return Err(Break::Again(format!("the hub answered {status}")));
            }
            _ => {
                let got = format!("the answer {status}");
                return Err(Break::For(refused(id, got, "check HF_ENDPOINT")));
            }
        }
        let body = response.body_mut().with_config().limit(LONGEST).read_to_vec();
        let body = body.map_err(|e| match e {
            ureq::Error::BodyExceedsLimit(_) => {
                Break::For(refused(id, format!("over {LONGEST} bytes"), "check HF_ENDPOINT"))
            }
            other => Break::Again(format!("the answer broke off ({other})")),
        })?;
        let info: Self = serde_json::from_slice(&body).map_err(|e| {
            Break::For(refused(
                id,
                format!("an answer that is no description of it ({e})"),
                "check HF_ENDPOINT",
            ))
        })?;
        // It becomes the name of a folder.
        let is_hexadecimal = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
        let mend = if id.commit().is_some_and(|commit| !info.commit.eq_ignore_ascii_case(&commit)) {
            "check HF_ENDPOINT: this is not the commit that was asked for"
        } else if is_hexadecimal(&info.commit) && (7..=64).contains(&info.commit.len()) {
            return Ok(info);
        } else {
            "check HF_ENDPOINT"
        };
        let got = format!("the commit {:?}", info.commit.chars().take(80).collect::<String>());
        Err(Break::For(refused(id, got, mend)))
    }

    /// The files that a vision transformer is read from, weights last. Nothing else of the model is fetched.
    pub(super) fn wanted(&self, id: &Id) -> Result<Vec<Wanted>, Failure> {
        let find = |name: &str| self.files.iter().find(|file| file.name == name);
        let missing = |file: &str, mend: &str| {
            let got = format!("no {file}");
            Failure::new(
                "E_FOREIGN_FILE",
                Exit::Checkpoint,
                id.to_string(),
                got,
                format!("{file} in it"),
                mend,
            )
        };
        let config = find(CONFIG)
            .ok_or_else(|| missing(CONFIG, "name a model that ViTForImageClassification opens"))?;
        let weights = WEIGHTS.iter().find_map(|name| find(name)).ok_or_else(|| {
            let mend = "weights in several files, or of another library, are to be saved as one first (save_pretrained)";
            missing(WEIGHTS[0], mend)
        })?;
        let mut wanted = Vec::new();
        for (file, most) in [
            (Some(config), LONGEST_CONFIG),
            // Small, and without it the pictures would be scaled by other constants than in training.
            (find(PREPROCESSOR), LONGEST_CONFIG),
            // What `export --for transformers --masks` leaves beside the weights; without it they would be dense.
            (find(MASK), Limits::default().max_bytes),
            (Some(weights), Limits::default().max_bytes),
        ] {
            let Some(file) = file else { continue };
            let bytes = file.size.filter(|bytes| *bytes <= most).ok_or_else(|| {
                let got = file.size.map_or("no length".into(), |bytes| format!("{bytes} bytes"));
                Failure::new(
                    "E_TOO_LARGE",
                    Exit::Checkpoint,
                    format!("{id}: {}", file.name),
                    got,
                    format!("at most {most} bytes"),
                    "name a smaller model",
                )
            })?;
            let sha256 = file.lfs.as_ref().map(|large| large.sha256.to_ascii_lowercase());
            let is_sha1 = |id: &&String| id.len() == 40 && id.bytes().all(|b| b.is_ascii_hexdigit());
            let blob = file.blob.as_ref().filter(is_sha1).map(|id| id.to_ascii_lowercase());
            let blob = blob.filter(|_| sha256.is_none());
            wanted.push(Wanted { name: file.name.clone(), bytes, sha256, blob });
        }
        Ok(wanted)
    }
}

fn refused(id: &Id, got: impl Into<String>, mend: &str) -> Failure {
    let expected = "a model of the hub, or a folder";
    Failure::new("E_DOWNLOAD", Exit::Environment, id.to_string(), got, expected, mend)
}
