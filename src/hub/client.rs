//! What the hub says of a file, and what its refusals mean.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cache::{is_commit, name_of_etag};
use super::error::HubError;
use super::repo::Repo;
use super::settings::Settings;
use crate::stop::Stop;
use crate::transfer::http::{HeaderMap, HeaderValue, Response, StatusCode};
use crate::transfer::{self, Body, TransferError};

/// Most redirects on the way to a file.
const REDIRECTS: usize = 5;

/// How often what may pass is tried again.
const TRIES: u32 = 4;

/// The longest that a server may ask to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Most bytes of a list of files.
const LONGEST_LIST: u64 = 8 << 20;

/// A file as the hub knows it.
#[derive(Debug, Clone)]
pub(super) struct Metadata {
    /// Commit of the revision that was asked for.
    pub(super) commit: String,
    /// Its name among the blobs: the SHA-256 of what git LFS keeps, git's own hash of the rest.
    pub(super) etag: String,
    pub(super) bytes: Option<u64>,
    /// Where its bytes are.
    pub(super) location: String,
    /// Whether that is the hub itself, which may see the token.
    pub(super) is_hub: bool,
}

impl Metadata {
    /// Its SHA-256, where the etag is one.
    pub(super) fn sha256(&self) -> Option<&str> {
        let is_sum = self.etag.len() == 64 && self.etag.bytes().all(|b| b.is_ascii_hexdigit());
        is_sum.then_some(&*self.etag)
    }
}

/// What the hub answers to a question for a file.
#[derive(Debug)]
pub(super) enum Answer {
    File(Metadata),
    /// The commit, which the answer may state, has no such file.
    Absent {
        commit: Option<String>,
    },
}

/// Who asks.
#[derive(Debug)]
pub(super) struct Client<'a> {
    pub(super) settings: &'a Settings,
    pub(super) stop: &'a Stop,
}

impl Client<'_> {
    /// Asks for a file's metadata, again where what stands in the way may pass.
    pub(super) fn look(&self, repo: &Repo, revision: &str, file: &str) -> Result<Answer, HubError> {
        let mut tries = 0;
        loop {
            let (url, error) = match self.look_once(repo, revision, file)? {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            match wait_for(&error) {
                Some(wait) if tries < TRIES => self.pause(tries, wait)?,
                _ => return Err(self.failed(repo, &url, error)),
            }
            tries += 1;
        }
    }

    /// One question, with the address at which it failed.
    fn look_once(
        &self,
        repo: &Repo,
        revision: &str,
        file: &str,
    ) -> Result<Result<Answer, (String, TransferError)>, HubError> {
        let endpoint = &self.settings.endpoint;
        let (revision, name) = (encoded(revision), encoded(file));
        let mut url = format!("{endpoint}/{}/resolve/{revision}/{name}", repo.id());
        let mut commit = None;
        for _ in 0..=REDIRECTS {
            if self.stop.is_requested() {
                return Err(HubError::Stopped);
            }
            let is_hub = same_origin(&url, endpoint);
            let response = match transfer::head(&url, self.authorization(is_hub)) {
                Ok(response) => response,
                Err(error) => return Ok(Err((url, error))),
            };
            let text = |name: &str| transfer::text_of(response.headers(), name);
            if let Some(stated) = text("x-repo-commit") {
                if !is_commit(stated) {
                    return Err(no_hub(&url, format!("its x-repo-commit is {stated:?}")));
                }
                commit.get_or_insert_with(|| stated.to_owned());
            }
            let linked = text("x-linked-etag");
            if response.status().is_redirection() {
                let Some(target) = text("location") else {
                    return Err(no_hub(&url, "it redirects to nowhere".to_owned()));
                };
                let target = join(&url, target);
                if url.starts_with("https://") && !target.starts_with("https://") {
                    return Err(no_hub(
                        &url,
                        format!("it redirects to {target}, without TLS"),
                    ));
                }
                // What a file is, is said by the hub; who keeps its bytes need not know.
                if let (Some(commit), Some(etag), false) =
                    (&commit, linked, same_origin(&target, endpoint))
                {
                    let bytes = number(response.headers(), "x-linked-size");
                    return metadata(&url, commit, etag, bytes, target, false).map(Ok);
                }
                url = target;
                continue;
            }
            if response.status() == StatusCode::OK {
                let Some(commit) = commit else {
                    return Err(no_hub(&url, "it states no x-repo-commit".to_owned()));
                };
                let Some(etag) = linked.or_else(|| text("etag")) else {
                    return Err(no_hub(&url, "it states no etag".to_owned()));
                };
                let bytes = number(response.headers(), "x-linked-size")
                    .or_else(|| number(response.headers(), "content-length"));
                return metadata(&url, &commit, etag, bytes, url.clone(), is_hub).map(Ok);
            }
            return self.refused(repo, &url, &response, commit);
        }
        Err(no_hub(
            &url,
            format!("it redirects more than {REDIRECTS} times"),
        ))
    }

    /// The meaning of an answer that is no file.
    fn refused(
        &self,
        repo: &Repo,
        url: &str,
        response: &Response<Body>,
        commit: Option<String>,
    ) -> Result<Result<Answer, (String, TransferError)>, HubError> {
        let code = transfer::text_of(response.headers(), "x-error-code");
        let message = transfer::text_of(response.headers(), "x-error-message");
        let token = self.settings.token.as_ref().map(|token| token.from);
        let host = self.settings.host().to_owned();
        let bad_token = message.is_some_and(|message| message.starts_with("Invalid "));
        match (code, response.status(), token) {
            (Some("GatedRepo"), ..) => Err(HubError::Gated {
                page: format!("{}/{}", self.settings.endpoint, repo.id()),
                repo: repo.clone(),
                token,
            }),
            (Some("RevisionNotFound"), ..) => Err(HubError::NoRevision { repo: repo.clone() }),
            (Some("EntryNotFound"), ..) => Ok(Ok(Answer::Absent { commit })),
            (_, StatusCode::UNAUTHORIZED, Some(token)) if bad_token => {
                Err(HubError::Token { host, token })
            }
            // Of what nobody may see, the hub says that it is not there, or that one may not know.
            (Some("RepoNotFound"), ..)
            | (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
                Err(HubError::NoRepository {
                    repo: repo.clone(),
                    host,
                    token,
                })
            }
            (_, StatusCode::NOT_FOUND, _) => Ok(Ok(Answer::Absent { commit })),
            _ => Ok(Err((url.to_owned(), transfer::refused(response)))),
        }
    }

    /// The names of all files of a commit, as far as the hub tells.
    pub(super) fn files(&self, repo: &Repo, revision: &str) -> Vec<String> {
        let endpoint = &self.settings.endpoint;
        let url = format!(
            "{endpoint}/api/models/{}/revision/{}",
            repo.id(),
            encoded(revision)
        );
        let text = transfer::text(&url, self.authorization(true), LONGEST_LIST);
        let parsed = text.ok().and_then(|text| serde_json::from_str(&text).ok());
        let parsed: Value = parsed.unwrap_or_default();
        let files = parsed["siblings"].as_array().into_iter().flatten();
        files
            .filter_map(|file| file["rfilename"].as_str())
            .map(str::to_owned)
            .collect()
    }

    /// What goes to a server with a question: the token, to the hub alone.
    pub(super) fn authorization(&self, is_hub: bool) -> Option<&HeaderValue> {
        let token = self.settings.token.as_ref()?;
        is_hub.then_some(&token.header)
    }

    /// Waits before another try, `tries` after the first.
    pub(super) fn pause(&self, tries: u32, at_least: Duration) -> Result<(), HubError> {
        let ours = self.settings.pause * 2_u32.pow(tries);
        let end = Instant::now() + ours.max(at_least);
        while Instant::now() < end {
            if self.stop.is_requested() {
                return Err(HubError::Stopped);
            }
            thread::sleep(Duration::from_millis(50).min(end - Instant::now().min(end)));
        }
        Ok(())
    }

    /// A failure that stays, in words.
    pub(super) fn failed(&self, repo: &Repo, url: &str, error: TransferError) -> HubError {
        let url = url.split('?').next().unwrap_or_default().to_owned();
        match error {
            TransferError::Unreachable(reason) => HubError::Unreachable {
                repo: repo.clone(),
                cache: Some(self.settings.cache.clone()),
                host: host_of(&url).to_owned(),
                reason,
            },
            TransferError::Refused { status, wait } => HubError::Refused {
                url,
                status: status.to_string(),
                wait: wait.map_or_else(String::new, |wait| {
                    format!(", and asks to wait {} s", wait.as_secs())
                }),
            },
            TransferError::Stopped => HubError::Stopped,
            TransferError::File(source) => HubError::Cache {
                path: self.settings.cache.clone(),
                action: "write",
                source,
            },
            TransferError::BrokeOff { .. } => HubError::BrokeOff {
                url,
                reason: error.to_string(),
            },
        }
    }
}

/// How long to wait at least before another try; `None` where none would help.
pub(super) fn wait_for(error: &TransferError) -> Option<Duration> {
    match error {
        TransferError::Refused { status, wait } => {
            let passes = status.is_server_error()
                || *status == StatusCode::TOO_MANY_REQUESTS
                || *status == StatusCode::REQUEST_TIMEOUT;
            let wait = wait.unwrap_or_default();
            (passes && wait <= LONGEST_WAIT).then_some(wait)
        }
        _ => None,
    }
}

fn metadata(
    url: &str,
    commit: &str,
    etag: &str,
    bytes: Option<u64>,
    location: String,
    is_hub: bool,
) -> Result<Answer, HubError> {
    let Some(etag) = name_of_etag(etag) else {
        return Err(no_hub(url, format!("its etag is {etag:?}")));
    };
    Ok(Answer::File(Metadata {
        commit: commit.to_owned(),
        etag: etag.to_owned(),
        bytes,
        location,
        is_hub,
    }))
}

fn no_hub(url: &str, reason: String) -> HubError {
    HubError::NoHub {
        // What follows a question mark may be a signature.
        url: url.split('?').next().unwrap_or_default().to_owned(),
        reason,
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    transfer::text_of(headers, name)?.trim().parse().ok()
}

/// A part of an address, of which nothing is taken for anything else.
fn encoded(part: &str) -> String {
    let mut encoded = String::new();
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

/// Scheme and host with its port, in small letters.
fn origin(url: &str) -> Option<(String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_lowercase();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.to_lowercase();
    let default = if scheme == "https" { ":443" } else { ":80" };
    let host = host.strip_suffix(default).unwrap_or(&host).to_owned();
    Some((scheme, host))
}

fn same_origin(a: &str, b: &str) -> bool {
    let a = origin(a);
    a.is_some() && a == origin(b)
}

/// The host of an address, for messages.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

/// Where a redirect at `url` leads (RFC 3986, section 5.2, without `.` and `..`, which servers resolve).
fn join(url: &str, location: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return location.to_owned();
    };
    let host = rest.split('/').next().unwrap_or_default();
    if location.contains("://") && !location.starts_with(['/', '?']) {
        location.to_owned()
    } else if let Some(other) = location.strip_prefix("//") {
        format!("{scheme}://{other}")
    } else if location.starts_with('/') {
        format!("{scheme}://{host}{location}")
    } else {
        let path = rest.split(['?', '#']).next().unwrap_or_default();
        let folder = path.rfind('/').map_or(path, |at| &path[..at]);
        format!("{scheme}://{folder}/{location}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_a_browser_would_go() {
        let at = "https://hub/a/b/resolve/main/f?x=1";
        for (location, expected) in [
            ("https://cdn/f?sig=a://b", "https://cdn/f?sig=a://b"),
            ("//cdn/f", "https://cdn/f"),
            ("/c/f?to=https://x", "https://hub/c/f?to=https://x"),
            ("g", "https://hub/a/b/resolve/main/g"),
        ] {
            assert_eq!(join(at, location), expected);
        }
    }

    #[test]
    fn one_origin_is_scheme_host_and_port() {
        assert!(same_origin("https://Hub:443/x", "https://hub"));
        assert!(same_origin("http://127.0.0.1:80/x?y", "http://127.0.0.1"));
        for other in [
            "http://hub",
            "https://hub:444",
            "https://hub.evil",
            "https://hub@evil",
            "https://evil/https://hub",
            "hub",
        ] {
            assert!(!same_origin("https://hub/x", other), "{other}");
        }
    }

    #[test]
    fn a_part_of_an_address_stays_one() {
        assert_eq!(encoded("refs/pr/1"), "refs%2Fpr%2F1");
        assert_eq!(encoded("a b?é"), "a%20b%3F%C3%A9");
    }
}
