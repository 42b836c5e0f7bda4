//! The variables of the environment by which Python's tools find hub, cache and token.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::HubError;
use crate::transfer::http::{HeaderValue, Uri};

const HUGGING_FACE: &str = "https://huggingface.co";

/// Where the hub and its cache are, and who asks.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address of the hub, without a slash at its end.
    pub(super) endpoint: String,
    /// Folder of the cache.
    pub(super) cache: PathBuf,
    pub(super) token: Option<Token>,
    /// The variable that forbids connections, if one does.
    pub(super) offline: Option<&'static str>,
    /// Whether a file of a snapshot may be a link.
    pub(super) symlinks: bool,
    /// The pause before a second try; each further one is twice as long.
    pub(super) pause: Duration,
}

/// What proves to the hub who asks.
#[derive(Clone)]
pub(super) struct Token {
    /// The value of the header.
    pub(super) header: HeaderValue,
    /// Where it comes from, for messages.
    pub(super) from: &'static str,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a token from {}", self.from)
    }
}

impl Settings {
    /// As the environment has them: `HF_ENDPOINT`; `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else in
    /// `XDG_CACHE_HOME` or `~/.cache`; `HF_TOKEN`, else the file `HF_TOKEN_PATH` or `token` in `HF_HOME`;
    /// `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`; `HF_HUB_DISABLE_SYMLINKS`.
    ///
    /// # Errors
    ///
    /// [`HubError::Variable`].
    pub fn from_env() -> Result<Self, HubError> {
        Self::of(&|name| env::var_os(name), env::home_dir())
    }

    /// As `variable` has them.
    pub(super) fn of(
        variable: &dyn Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
    ) -> Result<Self, HubError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = home.unwrap_or_else(|| PathBuf::from("."));
        let path = |name: &str| set(name).map(|value| below_home(Path::new(&value), &home));
        let is_true = |name: &str| {
            let value = set(name).and_then(|value| value.into_string().ok());
            let value = value.unwrap_or_default().to_uppercase();
            ["1", "ON", "YES", "TRUE"].contains(&&*value)
        };
        let hf_home = path("HF_HOME").unwrap_or_else(|| {
            let caches = path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
            caches.join("huggingface")
        });
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .unwrap_or_else(|| hf_home.join("hub"));
        // As Python has it: the second counts where the first is not set.
        let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"];
        let offline = offline.into_iter().find(|name| set(name).is_some());
        Ok(Self {
            endpoint: endpoint(set("HF_ENDPOINT"))?,
            cache,
            token: match is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
                true => None,
                false => token(&set, &|name| path(name), &hf_home)?,
            },
            offline: offline.filter(|name| is_true(name)),
            symlinks: !is_true("HF_HUB_DISABLE_SYMLINKS"),
            pause: Duration::from_secs(1),
        })
    }

    /// Folder of the cache.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The hub without its scheme, for messages.
    pub(super) fn host(&self) -> &str {
        let scheme = self.endpoint.find("://").map_or(0, |at| at + 3);
        &self.endpoint[scheme..]
    }
}

/// A path whose first part may be `~`.
fn below_home(path: &Path, home: &Path) -> PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) => home.join(rest),
        Err(_) => path.to_owned(),
    }
}

fn endpoint(set: Option<OsString>) -> Result<String, HubError> {
    let Some(value) = set else {
        return Ok(HUGGING_FACE.to_owned());
    };
    let value = value.to_string_lossy().into_owned();
    let address = value.trim_end_matches('/');
    let host = ["https://", "http://"]
        .iter()
        .find_map(|scheme| address.strip_prefix(scheme));
    let is_address = |host: &str| {
        !host.is_empty()
            && !host.contains(['?', '#', '@', '\\'])
            && !host.contains(char::is_whitespace)
    };
    match host.is_some_and(is_address) && address.parse::<Uri>().is_ok() {
        true => Ok(address.to_owned()),
        false => Err(HubError::Variable {
            variable: "HF_ENDPOINT",
            value,
            expected: "an address such as https://huggingface.co",
        }),
    }
}

fn token(
    set: &dyn Fn(&str) -> Option<OsString>,
    path: &dyn Fn(&str) -> Option<PathBuf>,
    hf_home: &Path,
) -> Result<Option<Token>, HubError> {
    let typed = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]
        .into_iter()
        .find_map(|name| Some((name, set(name)?.to_string_lossy().into_owned())));
    let stored = || {
        let (name, file) = match path("HF_TOKEN_PATH") {
            Some(file) => ("HF_TOKEN_PATH", file),
            None => ("HF_HOME/token", hf_home.join("token")),
        };
        // Nobody logged in where there is none.
        Some((name, fs::read_to_string(file).ok()?))
    };
    let Some((from, text)) = typed.or_else(stored) else {
        return Ok(None);
    };
    let text: String = text.chars().filter(|c| !"\r\n".contains(*c)).collect();
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let is_token = text.bytes().all(|byte| byte.is_ascii_graphic());
    match HeaderValue::from_str(&format!("Bearer {text}")) {
        Ok(mut header) if is_token => {
            header.set_sensitive(true);
            Ok(Some(Token { header, from }))
        }
        _ => Err(HubError::Variable {
            variable: from,
            value: "not shown".to_owned(),
            expected: "a token, which has no spaces and nothing but ASCII",
        }),
    }
}
