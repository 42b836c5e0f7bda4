//! A repository's configuration and weights, from the cache or from the hub.

use std::fs;

use super::cache::RepoFolder;
use super::card::licence_of;
use super::client::{Answer, Client, Metadata};
use super::error::HubError;
use super::event::{Event, Snapshot};
use super::fetch::Wanted;
use super::index::shards_of;
use super::repo::Repo;
use super::settings::Settings;
use crate::stop::Stop;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const CONFIG: &str = "config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";
const CARD: &str = "README.md";

/// Endings of weights that are pickles, or that hold objects of a program as well.
const PICKLES: [&str; 8] = [
    ".bin", ".pth", ".pt", ".ckpt", ".pkl", ".h5", ".msgpack", ".pickle",
];

/// Whether the cache is good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// What the cache has of the revision, without a question; the hub only for what it lacks.
    Cached,
    /// What the hub has now.
    Latest,
}

/// Makes a repository's weights and configuration a folder of the cache: `model.safetensors`, or
/// `model.safetensors.index.json` and its shards; and, where the repository has them, `config.json`,
/// `preprocessor_config.json` and `README.md`.
///
/// # Errors
///
/// [`HubError`]; what has arrived of a file stays, and another call continues there.
pub fn open(
    repo: &Repo,
    settings: &Settings,
    want: Want,
    stop: &Stop,
    listen: &mut dyn FnMut(Event<'_>),
) -> Result<Snapshot, HubError> {
    let opening = Opening {
        repo,
        folder: RepoFolder::new(&settings.cache, repo),
        client: Client { settings, stop },
    };
    let snapshot = match (settings.offline, want) {
        (Some(variable), _) => opening.offline(variable)?,
        (None, Want::Cached) => match opening.cached()? {
            Some(snapshot) => opening.with_preprocessor(snapshot, listen)?,
            None => opening.latest(listen)?,
        },
        (None, Want::Latest) => opening.latest(listen).map_err(|error| match error {
            HubError::Unreachable {
                repo, host, reason, ..
            } if matches!(opening.cached(), Ok(Some(_))) => HubError::Unreachable {
                repo,
                cache: None,
                host,
                reason,
            },
            error => error,
        })?,
    };
    if snapshot.fetched > 0 {
        listen(Event::Fetched(&snapshot));
    }
    if snapshot.preprocessor_unknown {
        listen(Event::Unprepared(&snapshot));
    }
    Ok(snapshot)
}

struct Opening<'a> {
    repo: &'a Repo,
    folder: RepoFolder,
    client: Client<'a>,
}

impl Opening<'_> {
    /// The cache's files of the revision, if it has all weights of it.
    fn cached(&self) -> Result<Option<Snapshot>, HubError> {
        let Some(commit) = self.folder.commit(self.repo.revision()) else {
            return Ok(None);
        };
        let weights = match (
            self.folder.file(&commit, WEIGHTS),
            self.folder.file(&commit, INDEX),
        ) {
            (Some(_), _) => vec![WEIGHTS.to_owned()],
            (None, Some(index)) => {
                let shards = shards_of(&index)?;
                if !shards
                    .iter()
                    .all(|shard| self.folder.file(&commit, shard).is_some())
                {
                    return Ok(None);
                }
                [vec![INDEX.to_owned()], shards].concat()
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(self.snapshot(&commit, weights, 0)))
    }

    fn offline(&self, variable: &'static str) -> Result<Snapshot, HubError> {
        if let Some(snapshot) = self.cached()? {
            return Ok(snapshot);
        }
        // Python's tools may have fetched what is not opened here.
        let commit = self.folder.commit(self.repo.revision());
        let files = commit.map(|commit| fs::read_dir(self.folder.snapshot(&commit)));
        let files = files.into_iter().flatten().flatten().flatten();
        let files = files.map(|file| file.file_name().to_string_lossy().into_owned());
        let pickles: Vec<String> = files.filter(|file| is_pickle(file)).collect();
        match pickles.is_empty() {
            true => Err(HubError::Offline {
                repo: self.repo.clone(),
                cache: self.client.settings.cache.clone(),
                variable,
            }),
            false => Err(HubError::OnlyPickles {
                repo: self.repo.clone(),
                files: pickles,
            }),
        }
    }

    /// Adds what Python's tools leave out of the cache where they read only a model.
    fn with_preprocessor(
        &self,
        mut snapshot: Snapshot,
        listen: &mut dyn FnMut(Event<'_>),
    ) -> Result<Snapshot, HubError> {
        if !snapshot.preprocessor_unknown {
            return Ok(snapshot);
        }
        match self.optional(&snapshot.commit, PREPROCESSOR, listen) {
            Ok(fetched) => {
                let files = snapshot.files.into_iter().map(|(name, _)| name).collect();
                Ok(self.snapshot(&snapshot.commit, files, fetched))
            }
            Err(HubError::Stopped) => Err(HubError::Stopped),
            // The weights are here, and nobody may be reachable.
            Err(_) => {
                snapshot.preprocessor_unknown = true;
                Ok(snapshot)
            }
        }
    }

    /// The hub's files of the revision, of which the cache may have some.
    fn latest(&self, listen: &mut dyn FnMut(Event<'_>)) -> Result<Snapshot, HubError> {
        let revision = self.repo.revision();
        let (metadata, name) = match self.client.look(self.repo, revision, WEIGHTS)? {
            Answer::File(metadata) => (metadata, WEIGHTS),
            Answer::Absent { commit } => {
                if let Some(commit) = &commit {
                    self.folder.note_absent(commit, WEIGHTS);
                }
                match self.client.look(self.repo, revision, INDEX)? {
                    Answer::File(metadata) => (metadata, INDEX),
                    Answer::Absent { .. } => return Err(self.no_weights()),
                }
            }
        };
        let commit = metadata.commit.clone();
        self.folder
            .note_commit(revision, &commit)
            .map_err(HubError::cache(self.folder.snapshot(&commit), "write"))?;
        let mut fetched = 0;
        for name in [CONFIG, PREPROCESSOR, CARD] {
            fetched += self.optional(&commit, name, listen)?;
        }
        fetched += self.fetch(&commit, name, metadata, listen)?;
        let mut files = vec![name.to_owned()];
        if name == INDEX {
            for shard in shards_of(&self.folder.snapshot(&commit).join(INDEX))? {
                match self.client.look(self.repo, &commit, &shard)? {
                    Answer::File(metadata) => {
                        fetched += self.fetch(&commit, &shard, metadata, listen)?;
                    }
                    Answer::Absent { .. } => {
                        return Err(HubError::Index {
                            path: self.folder.snapshot(&commit).join(INDEX),
                            reason: format!("it names {shard}, which {} has not", self.repo),
                        });
                    }
                }
                files.push(shard);
            }
        }
        Ok(self.snapshot(&commit, files, fetched))
    }

    /// Fetches a file that need not be there.
    fn optional(
        &self,
        commit: &str,
        name: &str,
        listen: &mut dyn FnMut(Event<'_>),
    ) -> Result<u64, HubError> {
        if self.folder.file(commit, name).is_some() || self.folder.lacks(commit, name) {
            return Ok(0);
        }
        match self.client.look(self.repo, commit, name)? {
            Answer::File(metadata) => self.fetch(commit, name, metadata, listen),
            Answer::Absent { .. } => {
                self.folder.note_absent(commit, name);
                Ok(0)
            }
        }
    }

    fn fetch(
        &self,
        commit: &str,
        name: &str,
        metadata: Metadata,
        listen: &mut dyn FnMut(Event<'_>),
    ) -> Result<u64, HubError> {
        let wanted = Wanted {
            repo: self.repo,
            folder: &self.folder,
            commit,
            name,
        };
        wanted.fetch(&self.client, metadata, listen)
    }

    fn no_weights(&self) -> HubError {
        let files = self.client.files(self.repo, self.repo.revision());
        let (safe, unsafe_): (Vec<String>, Vec<String>) = files
            .into_iter()
            .filter(|file| file.ends_with(".safetensors") || is_pickle(file))
            .partition(|file| file.ends_with(".safetensors"));
        match safe.is_empty() && !unsafe_.is_empty() {
            true => HubError::OnlyPickles {
                repo: self.repo.clone(),
                files: unsafe_,
            },
            false => HubError::NoWeights {
                repo: self.repo.clone(),
                files: safe,
            },
        }
    }

    fn snapshot(&self, commit: &str, weights: Vec<String>, fetched: u64) -> Snapshot {
        let folder = self.folder.snapshot(commit);
        let optional = [CONFIG, PREPROCESSOR, CARD].map(str::to_owned);
        let mut files: Vec<(String, u64)> = Vec::new();
        for name in optional.into_iter().chain(weights) {
            if files.iter().all(|(known, _)| *known != name)
                && let Ok(found) = fs::metadata(folder.join(&name))
            {
                files.push((name, found.len()));
            }
        }
        Snapshot {
            repo: self.repo.at(commit),
            licence: licence_of(&folder.join(CARD)),
            commit: commit.to_owned(),
            files,
            fetched,
            preprocessor_unknown: self.folder.file(commit, PREPROCESSOR).is_none()
                && !self.folder.lacks(commit, PREPROCESSOR)
                && !self.is_prepared_by_config(commit),
            folder,
        }
    }

    /// Whether `config.json` itself says how pictures are prepared, as timm's does.
    fn is_prepared_by_config(&self, commit: &str) -> bool {
        let path = self.folder.snapshot(commit).join(CONFIG);
        fs::read_to_string(path).is_ok_and(|config| config.contains("\"pretrained_cfg\""))
    }
}

fn is_pickle(file: &str) -> bool {
    // Beside weights, a tokenizer's or a trainer's.
    let other = ["training_args.bin", "optimizer.", "scheduler."];
    PICKLES.iter().any(|ending| file.ends_with(ending))
        && !other.iter().any(|other| file.contains(other))
}
