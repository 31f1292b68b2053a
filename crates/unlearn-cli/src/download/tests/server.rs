//! A web server that misbehaves as it is told, one answer a connection.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a connection gets. After the last one every connection is served as it should be.
pub(crate) enum Answer {
    /// The right head, then so many bytes of what was asked for.
    Cut(usize),
    /// The whole file, whatever range was asked for.
    IgnoreRange,
    /// A range that begins so many bytes later than asked.
    ShiftedRange(usize),
    /// A status and headers with an empty body.
    Head(&'static str, &'static str),
    /// Status 200 with these headers and the file.
    Lie(&'static str),
    /// Bytes without a length, far more than the file has.
    Endless,
    /// Another file.
    Content(Vec<u8>),
    /// So many bytes, then nothing for two seconds.
    Stall(usize),
    /// Nothing at all for two seconds.
    Silence,
    /// These bytes instead of HTTP.
    Raw(&'static [u8]),
    /// To another address of the same server.
    Redirect,
}

pub(crate) struct Server {
    address: std::net::SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// One file, whatever is asked for.
    pub(crate) fn start(content: Vec<u8>, answers: Vec<Answer>) -> Self {
        Self::serving(BTreeMap::from([(String::new(), content)]), answers)
    }

    /// Files by their addresses, without the server's; under an empty one lies what is found everywhere else. Other
    /// addresses are not found.
    pub(crate) fn serving(files: BTreeMap<String, Vec<u8>>, answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        // It ends with the test process.
        std::thread::spawn(move || {
            let mut answers = VecDeque::from(answers);
            let files = Arc::new(files);
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read_head(&stream) else { continue };
                seen.lock().unwrap().push(request.clone());
                let (answer, files) = (answers.pop_front(), Arc::clone(&files));
                // A client that hangs up early is the point of many tests.
                std::thread::spawn(move || {
                    let asked = request.split(' ').nth(1).unwrap_or_default();
                    let (answer, content) = match files.get(asked).or_else(|| files.get("")) {
                        Some(content) => (answer, content.as_slice()),
                        None => (Some(Answer::Head("404 Not Found", "content-length: 0\r\n")), &[][..]),
                    };
                    drop(serve(&mut stream, &request, answer, content));
                });
            }
        });
        Self { address, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/set.tar.gz", self.endpoint())
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn read_head(stream: &TcpStream) -> Option<String> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

fn range_start(request: &str) -> Option<usize> {
    let lower = request.to_lowercase();
    let (_, rest) = lower.split_once("range: bytes=")?;
    rest.split('-').next()?.parse().ok()
}

fn serve(
    stream: &mut TcpStream,
    request: &str,
    answer: Option<Answer>,
    content: &[u8],
) -> std::io::Result<()> {
    let start = range_start(request);
    let rest = &content[start.unwrap_or(0)..];
    let ok =
        |length: usize| format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    let partial = |from: usize| {
        format!(
            "HTTP/1.1 206 Partial Content\r\nconnection: close\r\ncontent-length: {}\r\n\
             content-range: bytes {from}-{}/{}\r\n\r\n",
            content.len() - from,
            content.len() - 1,
            content.len()
        )
    };
    let head = start.map_or_else(|| ok(content.len()), partial);
    let two_seconds = Duration::from_secs(2);
    match answer {
        None => send(stream, &head, rest),
        Some(Answer::Cut(bytes)) => send(stream, &head, &rest[..bytes.min(rest.len())]),
        Some(Answer::IgnoreRange) => send(stream, &ok(content.len()), content),
        Some(Answer::ShiftedRange(by)) => {
            let from = start.unwrap_or(0) + by;
            send(stream, &partial(from), &content[from..])
        }
        Some(Answer::Head(status, headers)) => {
            let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n");
            send(stream, &head, b"")
        }
        Some(Answer::Lie(headers)) => {
            send(stream, &format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{headers}\r\n"), content)
        }
        Some(Answer::Endless) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
            for _ in 0..1_000 {
                stream.write_all(content)?;
            }
            Ok(())
        }
        Some(Answer::Content(other)) => send(stream, &ok(other.len()), &other),
        Some(Answer::Stall(bytes)) => {
            send(stream, &head, &rest[..bytes.min(rest.len())])?;
            std::thread::sleep(two_seconds);
            Ok(())
        }
        Some(Answer::Silence) => {
            std::thread::sleep(two_seconds);
            Ok(())
        }
        Some(Answer::Raw(bytes)) => stream.write_all(bytes),
        Some(Answer::Redirect) => {
            let head =
                "HTTP/1.1 302 Found\r\nconnection: close\r\ncontent-length: 0\r\nlocation: /there\r\n\r\n";
            send(stream, head, b"")
        }
    }
}

fn send(stream: &mut TcpStream, head: &str, body: &[u8]) -> std::io::Result<()> {
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    stream.flush()
}
