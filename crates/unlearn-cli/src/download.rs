//! One file from the net whose length, and SHA-256 as a rule, are known: continued after a break, never longer
//! than it may be, and under its name only when it is the right one.

mod digest;
mod part;

use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

pub(crate) use self::digest::{Known, sha256};
use self::part::Part;
use crate::error::{Exit, Failure};
use crate::regular;

/// A file that is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Download<'a> {
    /// Where it lies. Over https it stays https, whatever the server redirects to.
    pub(crate) url: &'a str,
    /// Its exact length; what the server says is only compared with it.
    pub(crate) bytes: u64,
    /// What else is known of it; without it any content of this length is believed.
    pub(crate) known: Option<Known<'a>>,
    /// What the server is asked with; never sent on to another one.
    pub(crate) token: Option<&'a str>,
    /// What the user names another address with: `--url`.
    pub(crate) setting: &'static str,
    /// What to do when the server wants to know who asks.
    pub(crate) denied: Option<&'static str>,
    /// A try ends when no byte arrives for so long.
    pub(crate) stall: Duration,
    /// How often a break is taken up again.
    pub(crate) tries: u32,
    /// Rest between tries.
    pub(crate) pause: Duration,
    /// No progress bar.
    pub(crate) quiet: bool,
}

/// Why a try ended without the whole file.
enum Break {
    /// Another try may go on.
    Again(String),
    /// No other try will fare better.
    For(Box<Failure>),
}

impl From<Failure> for Break {
    fn from(failure: Failure) -> Self {
        Self::For(Box::new(failure))
    }
}

impl<'a> Download<'a> {
    /// With a time-out of 30 s and three tries.
    pub(crate) fn new(url: &'a str, bytes: u64, sha256: &'a str) -> Self {
        let (stall, pause) = (Duration::from_secs(30), Duration::from_secs(1));
        Self {
            url,
            bytes,
            known: Some(Known::Sha256(sha256)),
            token: None,
            setting: "--url",
            denied: None,
            stall,
            tries: 3,
            pause,
            quiet: false,
        }
    }

    /// Downloads to `file`. What has arrived lies in `file.part` until it is whole and its hash is
    /// right; a later call goes on from there.
    pub(crate) fn to(&self, file: &Path) -> Result<(), Failure> {
        if file.symlink_metadata().is_ok() {
            return self.check_existing(file);
        }
        let mut part = Part::open(file)?;
        let bar = self.bar();
        let mut last = String::new();
        for number in 0..self.tries {
            if number > 0 {
                tracing::warn!("{last}; trying again ({} of {})", number + 1, self.tries);
                std::thread::sleep(self.pause);
            }
            match self.attempt(&mut part, &bar) {
                Ok(()) => {
                    bar.finish_and_clear();
                    return part.become_whole(file);
                }
                Err(Break::Again(why)) => last = why,
                Err(Break::For(failure)) => return Err(*failure),
            }
        }
        Err(with_mend(
            self.failed(format!("{last}, after {} tries", self.tries)),
            "check the network and run the same command again: it goes on where this one ended",
        ))
    }

    fn attempt(&self, part: &mut Part, bar: &ProgressBar) -> Result<(), Break> {
        let mut have = part.len()?;
        if have > self.bytes {
            part.clear()?;
            have = 0;
        }
        let resumed = have > 0;
        if have < self.bytes {
            self.receive(part, have, bar)?;
        }
        let Some(known) = self.known else { return Ok(()) };
        let got = part.digest(known)?;
        if got == known.value() {
            return Ok(());
        }
        part.clear()?;
        if resumed {
            // The beginning may be from another day or mirror; a whole download decides.
            return Err(Break::Again("what had arrived before was of another file".into()));
        }
        part.remove()?;
        Err(Break::For(Box::new(Failure::new(
            "E_CHECKSUM",
            Exit::Data,
            self.url,
            format!("a file with {} {got}", known.name()),
            known.value(),
            format!(
                "this address serves another file: leave {} away or name a true mirror. Nothing was kept",
                self.setting
            ),
        ))))
    }

    /// Appends what is missing after `have` bytes.
    fn receive(&self, part: &mut Part, have: u64, bar: &ProgressBar) -> Result<(), Break> {
        let mut request = agent(self.url, self.stall).get(self.url);
        if let Some(token) = self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        let response = request.call().map_err(|e| self.network(&e))?;
        let start = self.place(&response, part, have)?;
        if let Some(length) = response.body().content_length()
            && start.checked_add(length) != Some(self.bytes)
        {
            return Err(self.failed(format!("a file of {} bytes", start.saturating_add(length))).into());
        }
        bar.set_position(start);
        // One byte more than may come shows a file that is too long.
        let mut body = response.into_body().into_reader().take(self.bytes - start + 1);
        let (mut buffer, mut at) = (vec![0; 1 << 16], start);
        while at < self.bytes + 1 {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Break::Again(self.broken(at, &e))),
            };
            at += read as u64;
            if at > self.bytes {
                part.remove()?;
                return Err(self.failed(format!("over {} bytes", self.bytes)).into());
            }
            part.append(&buffer[..read])?;
            bar.set_position(at);
        }
        if at < self.bytes {
            return Err(Break::Again(format!("the server ended after {at} of {} bytes", self.bytes)));
        }
        Ok(())
    }

    /// The byte that the answer begins with; the part file is made to end there.
    fn place(&self, response: &Response<Body>, part: &mut Part, have: u64) -> Result<u64, Break> {
        let status = response.status();
        match status {
            // The server does not continue downloads, or was not asked to.
            StatusCode::OK => {
                part.clear()?;
                Ok(0)
            }
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok());
                match range.and_then(content_range) {
                    Some((start, total)) if start == have && total.is_none_or(|t| t == self.bytes) => {
                        Ok(have)
                    }
                    Some((_, Some(total))) if total != self.bytes => {
                        Err(self.failed(format!("a file of {total} bytes")).into())
                    }
                    _ => {
                        part.clear()?;
                        let range = range.unwrap_or("none").escape_debug().to_string();
                        Err(Break::Again(format!("the answer has the range {range}, not {have}-")))
                    }
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                part.clear()?;
                Err(Break::Again("the server refused to continue".into()))
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(Break::Again(format!("the server answered {status}")))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let failure = self.failed(format!("the answer {status}"));
                Err(match self.denied {
                    Some(mend) => with_mend(failure, mend).into(),
                    None => failure.into(),
                })
            }
            _ if status.is_server_error() => Err(Break::Again(format!("the server answered {status}"))),
            _ => Err(self.failed(format!("the answer {status}")).into()),
        }
    }

    /// Errors before the body: some get better by themselves.
    fn network(&self, error: &ureq::Error) -> Break {
        use ureq::Error;
        match error {
            Error::RequireHttpsOnly(_) => {
                let failure = self.failed("a redirect away from https");
                with_mend(failure, format!("name an address that stays on https with {}", self.setting))
                    .into()
            }
            Error::BadUri(_) | Error::Http(_) => {
                let failure = self.failed("an address that is none");
                with_mend(failure, format!("name an http or https address with {}", self.setting)).into()
            }
            Error::TooManyRedirects | Error::RedirectFailed => self.failed("redirects without end").into(),
            Error::Timeout(_) => Break::Again(self.stalled()),
            Error::Io(e) => Break::Again(self.broken(0, e)),
            other => Break::Again(format!("no answer ({})", short(&other.to_string()))),
        }
    }

    fn broken(&self, at: u64, error: &io::Error) -> String {
        // ureq hands its own time-out through as an I/O error of another kind.
        let stalled = error.kind() == io::ErrorKind::TimedOut
            || error.get_ref().is_some_and(|e| e.to_string().contains("timeout"));
        if stalled {
            return self.stalled();
        }
        format!("the connection broke at byte {at} ({})", short(&error.to_string()))
    }

    fn stalled(&self) -> String {
        format!("no byte for {:.1} s", self.stall.as_secs_f64())
    }

    fn failed(&self, got: impl Into<String>) -> Failure {
        Failure::new(
            "E_DOWNLOAD",
            Exit::Environment,
            self.url,
            got,
            format!("the file of {} bytes", self.bytes),
            format!("name a mirror that has it with {}", self.setting),
        )
    }

    fn check_existing(&self, file: &Path) -> Result<(), Failure> {
        let io = |e| Failure::io(file, &e);
        let mut handle = regular::open(file).map_err(io)?;
        let length = handle.metadata().map_err(io)?.len();
        let (got, expected) = match self.known {
            Some(known) => (
                format!("{} {}", known.name(), known.of(&mut handle, self.bytes).map_err(io)?),
                format!("{} {}", known.name(), known.value()),
            ),
            None => (format!("{length} bytes"), format!("{} bytes", self.bytes)),
        };
        if got == expected {
            return Ok(());
        }
        Err(Failure::new(
            "E_CHECKSUM",
            Exit::Data,
            file.display().to_string(),
            got,
            expected,
            "delete the file and run the command again",
        ))
    }

    fn bar(&self) -> ProgressBar {
        if self.quiet {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        ProgressBar::new(self.bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }
}

fn with_mend(failure: Failure, mend: impl Into<String>) -> Failure {
    Failure { mend: mend.into(), ..failure }
}

fn agent(url: &str, stall: Duration) -> Agent {
    Agent::config_builder()
        // A repository that was renamed is elsewhere on the same server; its files may lie on another.
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .https_only(url.starts_with("https:"))
        .http_status_as_error(false)
        // The file itself, not a compressed form of it: ranges and lengths are of the file.
        .accept_encoding("identity")
        .timeout_resolve(Some(stall))
        .timeout_connect(Some(stall))
        .timeout_recv_response(Some(stall))
        .timeout_per_read(Some(stall))
        .timeout_per_write(Some(stall))
        .build()
        .into()
}

/// Start and total of `bytes 100-199/200`; the total may be `*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((start.trim().parse().ok()?, total))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn short(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
pub(crate) mod tests;
