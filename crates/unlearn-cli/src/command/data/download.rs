//! One file from the net whose length and SHA-256 are known: continued after a break, never longer
//! than it may be, and under its name only when it is the right one.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

use crate::error::{Exit, Failure};

/// A file that is wanted.
#[derive(Debug, Clone)]
pub(super) struct Download<'a> {
    /// Where it lies. Over https it stays https, whatever the server redirects to.
    pub(super) url: &'a str,
    /// Its exact length; what the server says is only compared with it.
    pub(super) bytes: u64,
    /// Its SHA-256 in lower-case hexadecimal.
    pub(super) sha256: &'a str,
    /// A try ends when no byte arrives for so long.
    pub(super) stall: Duration,
    /// How often a break is taken up again.
    pub(super) tries: u32,
    /// Rest between tries.
    pub(super) pause: Duration,
    /// No progress bar.
    pub(super) quiet: bool,
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
    pub(super) fn new(url: &'a str, bytes: u64, sha256: &'a str) -> Self {
        let (stall, pause) = (Duration::from_secs(30), Duration::from_secs(1));
        Self { url, bytes, sha256, stall, tries: 3, pause, quiet: false }
    }

    /// Downloads to `file`. What has arrived lies in `file.part` until it is whole and its hash is
    /// right; a later call goes on from there.
    pub(super) fn to(&self, file: &Path) -> Result<(), Failure> {
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
        let got = part.sha256()?;
        if got == self.sha256 {
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
            format!("a file with SHA-256 {got}"),
            self.sha256,
            "this address serves another file: leave --url away or name a true mirror. Nothing was kept",
        ))))
    }

    /// Appends what is missing after `have` bytes.
    fn receive(&self, part: &mut Part, have: u64, bar: &ProgressBar) -> Result<(), Break> {
        let mut request = agent(self.url, self.stall).get(self.url);
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
                with_mend(failure, "name an address that stays on https with --url").into()
            }
            Error::BadUri(_) | Error::Http(_) => {
                let failure = self.failed("an address that is none");
                with_mend(failure, "name an http or https address with --url").into()
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
            "name a mirror that has it with --url",
        )
    }

    fn check_existing(&self, file: &Path) -> Result<(), Failure> {
        let mut handle = File::open(file).map_err(|e| Failure::io(file, &e))?;
        let got = sha256(&mut handle, self.bytes).map_err(|e| Failure::io(file, &e))?;
        if got == self.sha256 {
            return Ok(());
        }
        Err(Failure::new(
            "E_CHECKSUM",
            Exit::Data,
            file.display().to_string(),
            format!("SHA-256 {got}"),
            self.sha256,
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

/// The file that grows. It is locked, so that two downloads never write into one another.
struct Part {
    path: PathBuf,
    file: File,
}

impl Part {
    fn open(whole: &Path) -> Result<Self, Failure> {
        let mut name = whole.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        // Not `append`: that cannot be truncated on every system.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| Failure::io(&path, &e))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path, file }),
            Err(TryLockError::WouldBlock) => Err(Failure::new(
                "E_LOCKED",
                Exit::Environment,
                path.display().to_string(),
                "a file that another download is writing",
                "a file of our own",
                "wait for the other download, or choose another folder with --out",
            )),
            Err(TryLockError::Error(e)) => Err(Failure::io(&path, &e)),
        }
    }

    fn io(&self, error: &io::Error) -> Failure {
        Failure::io(&self.path, error)
    }

    fn len(&self) -> Result<u64, Failure> {
        Ok(self.file.metadata().map_err(|e| self.io(&e))?.len())
    }

    fn clear(&self) -> Result<(), Failure> {
        self.file.set_len(0).map_err(|e| self.io(&e))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.file.seek(SeekFrom::End(0)).and_then(|_| self.file.write_all(bytes));
        written.map_err(|e| self.io(&e))
    }

    fn sha256(&mut self) -> Result<String, Failure> {
        let hashed = self.file.seek(SeekFrom::Start(0)).and_then(|_| sha256(&mut self.file, u64::MAX));
        hashed.map_err(|e| self.io(&e))
    }

    fn remove(&self) -> Result<(), Failure> {
        std::fs::remove_file(&self.path).map_err(|e| self.io(&e))
    }

    /// On disk first, then under its name.
    fn become_whole(self, name: &Path) -> Result<(), Failure> {
        self.file.sync_all().map_err(|e| self.io(&e))?;
        std::fs::rename(&self.path, name).map_err(|e| Failure::io(name, &e))?;
        #[cfg(unix)]
        if let Some(folder) = name.parent() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Failure::io(folder, &e))?;
        }
        Ok(())
    }
}

fn with_mend(failure: Failure, mend: &str) -> Failure {
    Failure { mend: mend.to_owned(), ..failure }
}

fn agent(url: &str, stall: Duration) -> Agent {
    Agent::config_builder()
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

/// Hash of what is left of `file`, of at most `cap` bytes and one.
fn sha256(file: &mut File, cap: u64) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = file.take(cap.saturating_add(1));
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    Ok(hex(&hash.finalize()))
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
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
mod tests;
