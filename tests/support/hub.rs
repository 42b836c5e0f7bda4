//! A server on loopback that answers as a hub of models does, and a second one for what such a hub keeps
//! elsewhere: with redirects, etags, ranges, and faults on demand.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

/// The commit of everything here.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong with a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends after so many bytes of an answer, this often.
    Breaks { after: usize, times: usize },
    /// This status, this often.
    Status { code: u16, times: usize },
    /// Other bytes of the same length.
    Wrong,
    /// More bytes than are stated.
    Long,
    /// Neither a length nor chunks: the end of the connection is the end of the file.
    NoLength,
    /// Ranges are ignored.
    NoRanges,
    /// A pause before each byte.
    Slow,
    /// The hub states a smaller size than the file has.
    StatesLess,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `hub`, or `store` for the other server.
    pub server: &'static str,
    pub method: String,
    pub path: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    /// `OWNER/NAME` and the file's name, its bytes, and whether LFS keeps it.
    files: BTreeMap<(String, String), (Vec<u8>, bool)>,
    faults: BTreeMap<String, Fault>,
    /// Repositories that only this token may read.
    gated: Option<(String, String)>,
    asked: Vec<Asked>,
    /// Whether the hub leads to itself first, by a relative redirect.
    moved: bool,
    /// Whether it answers as a plain web server does.
    is_plain: bool,
    store: String,
}

/// The two servers; they end with the process.
#[derive(Clone, Debug)]
pub struct Hub {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Hub {
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let [url, store] = ["hub", "store"].map(|server| serve(server, &state));
        state.lock().unwrap().store = store;
        Self { url, state }
    }

    /// Adds a file; LFS keeps those that are not texts.
    pub fn add(&self, repo: &str, name: &str, bytes: impl Into<Vec<u8>>) -> &Self {
        let is_lfs = name.ends_with(".safetensors") || name.ends_with(".bin");
        let file = (bytes.into(), is_lfs);
        let key = (repo.to_owned(), name.to_owned());
        self.state.lock().unwrap().files.insert(key, file);
        self
    }

    /// From now on a file's bytes come so.
    pub fn fault(&self, name: &str, fault: Fault) -> &Self {
        let mut state = self.state.lock().unwrap();
        state.faults.insert(name.to_owned(), fault);
        self
    }

    pub fn mend(&self) -> &Self {
        self.state.lock().unwrap().faults.clear();
        self
    }

    pub fn gate(&self, repo: &str, token: &str) -> &Self {
        self.state.lock().unwrap().gated = Some((repo.to_owned(), token.to_owned()));
        self
    }

    pub fn move_all(&self) -> &Self {
        self.state.lock().unwrap().moved = true;
        self
    }

    pub fn be_plain(&self) -> &Self {
        self.state.lock().unwrap().is_plain = true;
        self
    }

    /// What was asked since the last time.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    let sum = Sha256::digest(bytes);
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn serve(server: &'static str, state: &Arc<Mutex<State>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let state = Arc::clone(state);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, state) = (stream.unwrap(), Arc::clone(&state));
            // Whoever went away needs no answer.
            thread::spawn(move || answer(server, stream, &state).unwrap_or(()));
        }
    });
    url
}

fn answer(
    server: &'static str,
    mut stream: TcpStream,
    state: &Mutex<State>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let mut asked = Asked {
        server,
        method: method.to_owned(),
        path: path.to_owned(),
        authorization: None,
        range: None,
    };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        match &*name.to_lowercase() {
            "authorization" => asked.authorization = Some(value.to_owned()),
            "range" => asked.range = Some(value.to_owned()),
            _ => {}
        }
    }
    let is_head = method == "HEAD";
    let reply = {
        let mut state = state.lock().unwrap();
        state.asked.push(asked.clone());
        match server {
            "hub" => of_hub(&asked, &mut state),
            _ => of_store(&asked, &mut state),
        }
    };
    let Reply {
        status,
        headers,
        body,
        fault,
    } = reply;
    write!(
        stream,
        "HTTP/1.1 {status} x\r\nconnection: close\r\n{headers}"
    )?;
    if fault != Some(Fault::NoLength) {
        write!(stream, "content-length: {}\r\n", body.len())?;
    }
    write!(stream, "\r\n")?;
    if is_head {
        return Ok(());
    }
    match fault {
        Some(Fault::Breaks { after, .. }) => stream.write_all(&body[..after.min(body.len())])?,
        Some(Fault::Slow) => {
            for byte in body {
                stream.write_all(&[byte])?;
                thread::sleep(Duration::from_millis(20));
            }
        }
        _ => stream.write_all(&body)?,
    }
    stream.flush()?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // A connection that is closed while something is unread is reset.
    let _ = stream.read(&mut [0; 64]);
    Ok(())
}

#[derive(Default)]
struct Reply {
    status: u16,
    headers: String,
    body: Vec<u8>,
    fault: Option<Fault>,
}

fn refusal(status: u16, code: &str, more: &str) -> Reply {
    Reply {
        status,
        headers: match code {
            "" => more.to_owned(),
            code => format!("x-error-code: {code}\r\n{more}"),
        },
        ..Reply::default()
    }
}

/// `/OWNER/NAME/resolve/REVISION/FILE`.
fn of_hub(asked: &Asked, state: &mut State) -> Reply {
    let path = asked.path.trim_start_matches('/');
    if let Some(rest) = path.strip_prefix("api/models/") {
        let repo = rest.split("/revision/").next().unwrap();
        let names = state.files.keys().filter(|(of, _)| of == repo);
        let names: Vec<String> = names
            .map(|(_, name)| format!("{{\"rfilename\": {name:?}}}"))
            .collect();
        let body = format!(
            "{{\"sha\": {COMMIT:?}, \"siblings\": [{}]}}",
            names.join(",")
        );
        return Reply {
            status: 200,
            body: body.into_bytes(),
            ..Reply::default()
        };
    }
    let Some((repo, rest)) = path.split_once("/resolve/") else {
        return refusal(404, "", "");
    };
    let (revision, name) = rest.split_once('/').unwrap();
    if state.moved && !repo.starts_with("moved/") {
        let to = format!("location: /moved/{path}\r\n");
        return refusal(307, "", &to);
    }
    let repo = repo.strip_prefix("moved/").unwrap_or(repo);
    if let Some((gated, token)) = &state.gated
        && gated == repo
        && asked.authorization.as_deref() != Some(&format!("Bearer {token}"))
    {
        let status = if asked.authorization.is_some() {
            403
        } else {
            401
        };
        return refusal(status, "GatedRepo", "");
    }
    if !state.files.keys().any(|(known, _)| known == repo) {
        return refusal(401, if state.is_plain { "" } else { "RepoNotFound" }, "");
    }
    if !["main", "refs%2Fpr%2F1", COMMIT].contains(&revision) {
        return refusal(404, "RevisionNotFound", "");
    }
    let commit = format!("x-repo-commit: {COMMIT}\r\n");
    let key = (repo.to_owned(), name.to_owned());
    let Some((bytes, is_lfs)) = state.files.get(&key).cloned() else {
        return refusal(404, "EntryNotFound", &commit);
    };
    if state.is_plain {
        return Reply {
            status: 200,
            ..Reply::default()
        };
    }
    let sum = sha256(&bytes);
    if is_lfs {
        let less = state.faults.get(name) == Some(&Fault::StatesLess);
        let size = bytes.len() - usize::from(less);
        let to = format!("{}/{repo}/{name}?signature=secret", state.store);
        let headers = format!(
            "{commit}x-linked-etag: \"{sum}\"\r\nx-linked-size: {size}\r\nlocation: {to}\r\n"
        );
        return refusal(302, "", &headers);
    }
    let mut reply = of_bytes(asked, name, &bytes, state);
    reply.headers += &format!("{commit}etag: W/\"{}\"\r\n", &sum[..40]);
    reply
}

fn of_store(asked: &Asked, state: &mut State) -> Reply {
    let path = asked.path.trim_start_matches('/');
    let path = path.split('?').next().unwrap();
    let (repo, name) = path.rsplit_once('/').unwrap();
    let key = (repo.to_owned(), name.to_owned());
    match state.files.get(&key).cloned() {
        Some((bytes, _)) => of_bytes(asked, name, &bytes, state),
        None => refusal(404, "", ""),
    }
}

fn of_bytes(asked: &Asked, name: &str, bytes: &[u8], state: &mut State) -> Reply {
    let mut fault = state.faults.get(name).copied();
    if asked.method == "GET" {
        match state.faults.get_mut(name) {
            Some(Fault::Breaks { times: 0, .. } | Fault::Status { times: 0, .. }) => fault = None,
            Some(Fault::Breaks { times, .. }) => *times -= 1,
            Some(Fault::Status { times, code }) => {
                *times -= 1;
                return refusal(*code, "", "");
            }
            _ => {}
        }
    } else {
        fault = None;
    }
    let mut body = bytes.to_vec();
    match fault {
        Some(Fault::Wrong) => body[0] ^= 1,
        Some(Fault::Long) => body.extend_from_slice(b"and more"),
        _ => {}
    }
    let start = asked
        .range
        .as_deref()
        .filter(|_| fault != Some(Fault::NoRanges));
    let start = start.map(|range| {
        let range = range.trim_start_matches("bytes=").trim_end_matches('-');
        range.parse::<usize>().unwrap()
    });
    let total = body.len();
    match start {
        Some(start) if start >= total => refusal(416, "", ""),
        Some(start) => Reply {
            status: 206,
            headers: format!("content-range: bytes {start}-{}/{total}\r\n", total - 1),
            body: body.split_off(start),
            fault,
        },
        None => Reply {
            status: 200,
            headers: String::new(),
            body,
            fault,
        },
    }
}
