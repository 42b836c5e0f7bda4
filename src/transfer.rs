//! One file from a server: asked for over HTTP, written to a part, which a later call continues.
//!
//! All of the program's traffic passes here. A part is only ever appended to, and is no file yet: whoever
//! asked for it compares it with what it should be, and gives it its name.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use thiserror::Error;
use ureq::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
pub(crate) use ureq::{Body, http};

use crate::stop::Stop;
use crate::whole_file;

/// Why nothing, or not all of a file, arrived.
#[derive(Debug, Error)]
pub(crate) enum TransferError {
    /// No connection, or no answer on it.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// An answer that is no file.
    #[error("the server answered {status}")]
    Refused {
        status: StatusCode,
        /// How long the server asks to wait.
        wait: Option<Duration>,
    },
    /// The connection ended too early; what has arrived stays in the part.
    #[error("broke off after {arrived} of {} bytes ({reason})", stated(*bytes))]
    BrokeOff {
        arrived: u64,
        /// As many as there should be, if anybody said so.
        bytes: Option<u64>,
        reason: String,
    },
    /// The part cannot be written.
    #[error(transparent)]
    File(io::Error),
    /// Someone asked to stop; what has arrived stays in the part.
    #[error("stopped on request")]
    Stopped,
}

fn stated(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string())
}

/// A file on a server.
#[derive(Debug)]
pub(crate) struct Remote<'a> {
    pub(crate) url: &'a str,
    /// For this server alone: it goes to no other one that it redirects to.
    pub(crate) authorization: Option<&'a HeaderValue>,
    /// Size in bytes, where it is known beforehand.
    pub(crate) bytes: Option<u64>,
    /// Largest size in bytes: of more than this only a little arrives.
    pub(crate) at_most: u64,
}

/// Asks for what a file is, without its bytes. Redirects are answers, and are not followed.
///
/// # Errors
///
/// [`TransferError::Unreachable`].
pub(crate) fn head(
    url: &str,
    authorization: Option<&HeaderValue>,
) -> Result<Response<Body>, TransferError> {
    let request = agent(url, 0).head(url);
    send(request, authorization, 0)
}

/// Asks for a short text of at most `at_most` bytes; redirects are followed.
///
/// # Errors
///
/// [`TransferError`]; a longer text is one that broke off.
pub(crate) fn text(
    url: &str,
    authorization: Option<&HeaderValue>,
    at_most: u64,
) -> Result<String, TransferError> {
    let response = send(agent(url, REDIRECTS).get(url), authorization, 0)?;
    if response.status() != StatusCode::OK {
        return Err(refused(&response));
    }
    let mut body = response.into_body();
    let read = body.with_config().limit(at_most).read_to_string();
    read.map_err(|error| TransferError::BrokeOff {
        arrived: 0,
        bytes: None,
        reason: error.to_string(),
    })
}

/// Downloads the rest of a file into `part`, which may hold its beginning; `progress` is called with the bytes
/// that it holds. Returns their number, which is that of the file if anybody stated one; it may be too many.
///
/// # Errors
///
/// [`TransferError`].
pub(crate) fn fetch(
    remote: &Remote<'_>,
    part: &Path,
    stop: &Stop,
    progress: &mut dyn FnMut(u64),
) -> Result<u64, TransferError> {
    let there = held(part).map_err(TransferError::File)?;
    let can_continue = there < remote.bytes.unwrap_or(remote.at_most);
    let get = |start| {
        let request = agent(remote.url, REDIRECTS).get(remote.url);
        send(request, remote.authorization, start)
    };
    let mut response = get(if can_continue { there } else { 0 })?;
    if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
        response = get(0)?;
    }
    let range = text_of(response.headers(), header::CONTENT_RANGE.as_str());
    let continues = range.is_some_and(|range| range.starts_with(&format!("bytes {there}-")));
    let append = match response.status() {
        StatusCode::PARTIAL_CONTENT if continues => true,
        // A server without ranges sends everything again.
        StatusCode::OK => false,
        _ => return Err(refused(&response)),
    };
    let mut arrived = if append { there } else { 0 };
    let length = text_of(response.headers(), header::CONTENT_LENGTH.as_str())
        .and_then(|length| length.parse::<u64>().ok());
    let bytes = remote
        .bytes
        .or_else(|| length.and_then(|length| length.checked_add(arrived)));
    let mut file = open_part(part).map_err(TransferError::File)?;
    file.set_len(arrived)
        .and_then(|()| file.seek(SeekFrom::End(0)))
        .map_err(TransferError::File)?;
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    let broke_off = |arrived: u64, reason: String| TransferError::BrokeOff {
        arrived,
        bytes,
        reason,
    };
    progress(arrived);
    loop {
        if stop.is_requested() {
            return Err(TransferError::Stopped);
        }
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broke_off(arrived, error.to_string())),
        };
        file.write_all(&buffer[..read])
            .map_err(TransferError::File)?;
        arrived += read as u64;
        progress(arrived);
        // A server that sends something else without end must not fill the disk.
        if arrived > bytes.unwrap_or(remote.at_most).min(remote.at_most) {
            break;
        }
    }
    file.sync_all().map_err(TransferError::File)?;
    if bytes.is_some_and(|bytes| arrived < bytes) {
        return Err(broke_off(
            arrived,
            "the server closed the connection".to_owned(),
        ));
    }
    Ok(arrived)
}

/// How many bytes of a file `part` holds: 0 where there is none.
///
/// # Errors
///
/// As for [`open_part`].
pub(crate) fn held(part: &Path) -> io::Result<u64> {
    match part.symlink_metadata() {
        Ok(_) => Ok(open_part(part)?.metadata()?.len()),
        Err(_) => Ok(0),
    }
}

/// Opens what has arrived of a file, to be written in place.
///
/// # Errors
///
/// As for [`whole_file::open_in_place`], and where the file has another name, too.
fn open_part(part: &Path) -> io::Result<File> {
    let file = whole_file::open_in_place(part)?;
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) > 1 {
        return Err(io::Error::other(
            "it is a hard link, whose other name would be written to as well; remove it",
        ));
    }
    Ok(file)
}

/// Most redirects that are followed.
const REDIRECTS: u32 = 10;

fn agent(url: &str, redirects: u32) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(redirects)
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(60)));
    // A proxy cannot reach this machine's loopback address.
    let is_loopback = url.starts_with("http://127.0.0.1") || url.starts_with("http://localhost");
    let config = if is_loopback {
        config.proxy(None)
    } else {
        config
    };
    config.build().new_agent()
}

fn send(
    mut request: ureq::RequestBuilder<ureq::typestate::WithoutBody>,
    authorization: Option<&HeaderValue>,
    start: u64,
) -> Result<Response<Body>, TransferError> {
    // With transfer compression, a .gz file would arrive unpacked, and ranges would mean other bytes.
    request = request.header(header::ACCEPT_ENCODING, "identity");
    if start > 0 {
        request = request.header(header::RANGE, format!("bytes={start}-"));
    }
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization.clone());
    }
    let answer = request.call();
    answer.map_err(|error| TransferError::Unreachable(error.to_string()))
}

/// The answer as a refusal.
pub(crate) fn refused(response: &Response<Body>) -> TransferError {
    let wait = text_of(response.headers(), header::RETRY_AFTER.as_str());
    TransferError::Refused {
        status: response.status(),
        wait: wait
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs),
    }
}

/// A header's text, if it is there and is one.
pub(crate) fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The SHA-256 of a file, in hexadecimal digits.
///
/// # Errors
///
/// The system's.
pub(crate) fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
