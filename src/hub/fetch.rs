//! One file of a repository, from the hub into the cache.

use std::fs;
use std::thread;
use std::time::Duration;

use super::cache::RepoFolder;
use super::client::{Answer, Client, Metadata, wait_for};
use super::error::HubError;
use super::event::Event;
use super::repo::Repo;
use crate::transfer::{self, Remote, TransferError};
use crate::whole_file;

/// Most bytes of a file that is a text, and of weights whose size nobody states.
pub(super) const MOST_TEXT: u64 = 64 << 20;

/// How often a connection may break without a byte more than before.
const TRIES: u32 = 4;

/// How often a wait for another process looks whether it should end.
const LOOK: Duration = Duration::from_millis(100);

/// A file that is to be in the cache.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) repo: &'a Repo,
    pub(super) folder: &'a RepoFolder,
    pub(super) commit: &'a str,
    pub(super) name: &'a str,
}

impl Wanted<'_> {
    /// Puts it there, and returns how many bytes were fetched: none where the cache has them.
    ///
    /// # Errors
    ///
    /// [`HubError`].
    pub(super) fn fetch(
        &self,
        client: &Client<'_>,
        metadata: Metadata,
        listen: &mut dyn FnMut(Event<'_>),
    ) -> Result<u64, HubError> {
        let Self {
            folder,
            commit,
            name,
            ..
        } = self;
        if folder.file(commit, name).is_some() {
            return Ok(0);
        }
        let etag = metadata.etag.clone();
        folder
            .make(commit)
            .map_err(HubError::cache(folder.snapshot(commit), "write"))?;
        let _held = self.hold(client, &etag, listen)?;
        let link = |is_new| {
            let symlinks = client.settings.symlinks;
            let linked = folder.link(&etag, commit, name, is_new, symlinks);
            linked.map_err(HubError::cache(folder.snapshot(commit).join(name), "write"))
        };
        if folder.blob(&etag).is_file() {
            link(false)?;
            return Ok(0);
        }
        // Another process may have put it there, and where there are no links, no blob is left.
        if folder.file(commit, name).is_some() {
            return Ok(0);
        }
        let fetched = self.transfer(client, metadata, listen)?;
        link(true)?;
        Ok(fetched)
    }

    /// Waits until no other process fetches it.
    fn hold(
        &self,
        client: &Client<'_>,
        etag: &str,
        listen: &mut dyn FnMut(Event<'_>),
    ) -> Result<fs::File, HubError> {
        let lock = self.folder.lock(etag);
        let mut is_told = false;
        loop {
            if client.stop.is_requested() {
                return Err(HubError::Stopped);
            }
            match whole_file::hold(&lock).map_err(HubError::cache(&lock, "write"))? {
                Some(held) => return Ok(held),
                None if is_told => thread::sleep(LOOK),
                None => {
                    listen(Event::Waits {
                        repo: self.repo,
                        file: self.name,
                    });
                    is_told = true;
                }
            }
        }
    }

    /// Fetches its bytes, compares them with what the hub states, and makes them a blob.
    fn transfer(
        &self,
        client: &Client<'_>,
        mut metadata: Metadata,
        listen: &mut dyn FnMut(Event<'_>),
    ) -> Result<u64, HubError> {
        let part = self.folder.part(&metadata.etag);
        let is_text = !self.name.ends_with(".safetensors");
        let at_most = match metadata.bytes {
            Some(_) if !is_text => u64::MAX,
            _ => MOST_TEXT,
        };
        let url = |metadata: &Metadata| {
            let url = metadata.location.split('?').next();
            url.unwrap_or_default().to_owned()
        };
        if let Some(found) = metadata.bytes.filter(|bytes| *bytes > at_most) {
            return Err(HubError::TooLarge {
                url: url(&metadata),
                found,
                expected: at_most,
            });
        }
        let bytes = metadata.bytes;
        let before = transfer::held(&part).map_err(HubError::cache(&part, "write"))?;
        let (mut arrived, mut best, mut tries) = (before, before, 0);
        // A part that is already complete needs its checksum verified, not the server.
        while bytes.is_none() || bytes != Some(arrived) {
            let remote = Remote {
                url: &metadata.location,
                authorization: client.authorization(metadata.is_hub),
                bytes,
                at_most,
            };
            let result = transfer::fetch(&remote, &part, client.stop, &mut |arrived| {
                listen(Event::Arrived {
                    repo: self.repo,
                    file: self.name,
                    bytes: arrived,
                    of: bytes,
                });
            });
            let error = match result {
                Ok(found) => {
                    arrived = found;
                    break;
                }
                Err(TransferError::File(source)) => {
                    return Err(HubError::cache(&part, "write")(source));
                }
                Err(error) => error,
            };
            let wait = match &error {
                TransferError::BrokeOff { arrived, .. } => {
                    if *arrived > best {
                        (best, tries) = (*arrived, 0);
                    }
                    Some(Duration::ZERO)
                }
                // The hub was there a moment ago.
                TransferError::Unreachable(_) => Some(Duration::ZERO),
                error => wait_for(error),
            };
            match wait {
                Some(wait) if tries < TRIES => client.pause(tries, wait)?,
                _ => return Err(client.failed(self.repo, &metadata.location, error)),
            }
            tries += 1;
            // An address that was signed for a while may have run out.
            if let Ok(Answer::File(again)) = client.look(self.repo, self.commit, self.name)
                && again.etag == metadata.etag
            {
                metadata = again;
            }
        }
        if arrived > bytes.unwrap_or(at_most) {
            remove(&part)?;
            return Err(HubError::TooLong {
                url: url(&metadata),
                expected: bytes.unwrap_or(at_most),
            });
        }
        if let Some(expected) = metadata.sha256() {
            let found = transfer::sha256_of(&part).map_err(HubError::cache(&part, "read"))?;
            if found != expected {
                remove(&part)?;
                return Err(HubError::Checksum {
                    url: url(&metadata),
                    found,
                    expected: expected.to_owned(),
                });
            }
        }
        let blob = self.folder.blob(&metadata.etag);
        whole_file::rename(&part, &blob).map_err(HubError::cache(&blob, "write"))?;
        Ok(arrived.saturating_sub(before))
    }
}

fn remove(part: &std::path::Path) -> Result<(), HubError> {
    fs::remove_file(part).map_err(HubError::cache(part, "write"))
}
