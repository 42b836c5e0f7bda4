//! The client against a server on loopback that behaves as a hub does.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use self::hub::{COMMIT, Fault, Hub, sha256};
use super::cache::{RepoFolder, name_of_etag};
use super::error::HubError;
use super::event::{Event, Snapshot};
use super::known::KNOWN;
use super::listing::cached;
use super::open::{Want, open};
use super::repo::Repo;
use super::settings::Settings;
use crate::stop::Stop;
use crate::whole_file;

#[path = "../../tests/support/hub.rs"]
mod hub;

const REPO: &str = "timm/vit_x.y_in1k";

fn repo() -> Repo {
    Repo::parse(&format!("hf:{REPO}")).unwrap()
}

/// A hub with a model of a few bytes, and an empty cache.
struct Place {
    hub: Hub,
    folder: tempfile::TempDir,
    variables: BTreeMap<&'static str, OsString>,
}

impl Place {
    fn new() -> Self {
        let hub = Hub::start();
        hub.add(
            REPO,
            "config.json",
            r#"{"architecture": "vit_x", "pretrained_cfg": {}}"#,
        )
        .add(REPO, "README.md", "---\nlicense: apache-2.0\n---\n")
        .add(REPO, "model.safetensors", "weights");
        let folder = tempfile::tempdir().unwrap();
        let variables = [
            ("HF_ENDPOINT", hub.url.clone().into()),
            ("HF_HUB_CACHE", folder.path().into()),
        ];
        Self {
            hub,
            folder,
            variables: variables.into(),
        }
    }

    fn settings(&self) -> Settings {
        let variable = |name: &str| self.variables.get(name).cloned();
        let mut settings = Settings::of(&variable, Some(self.path(""))).unwrap();
        settings.pause = Duration::from_millis(1);
        settings
    }

    fn open(&self, want: Want) -> Result<Snapshot, HubError> {
        open(
            &repo(),
            &self.settings(),
            want,
            &Stop::default(),
            &mut |_| (),
        )
    }

    fn said(&self) -> String {
        self.open(Want::Cached).unwrap_err().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path("models--timm--vit_x.y_in1k").join(name)
    }

    fn host(&self) -> &str {
        self.hub.url.strip_prefix("http://").unwrap()
    }
}

#[test]
fn a_repository_becomes_a_snapshot_in_the_layout_of_python() {
    let place = Place::new();
    let mut told = Vec::new();
    let snapshot = open(
        &repo(),
        &place.settings(),
        Want::Cached,
        &Stop::default(),
        &mut |event| match event {
            Event::Arrived {
                file, bytes, of, ..
            } => told.push(format!("{file} {bytes} {of:?}")),
            Event::Waits { file, .. } => told.push(format!("waits for {file}")),
            Event::Fetched(snapshot) => told.push(format!("{} bytes", snapshot.fetched)),
            Event::Unprepared(snapshot) => told.push(format!("unprepared {}", snapshot.repo)),
        },
    )
    .unwrap();
    assert_eq!(snapshot.commit, COMMIT);
    assert_eq!(snapshot.repo.to_string(), format!("hf:{REPO}@{COMMIT}"));
    assert_eq!(snapshot.licence.as_deref(), Some("apache-2.0"));
    assert_eq!(snapshot.folder, place.at("snapshots").join(COMMIT));
    let names: Vec<&str> = snapshot.files.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["config.json", "README.md", "model.safetensors"]);
    assert!(!snapshot.preprocessor_unknown);
    assert!(
        told.contains(&"model.safetensors 7 Some(7)".to_owned()),
        "{told:?}"
    );
    assert_eq!(told.last().unwrap(), "82 bytes");
    let sum = sha256(b"weights");
    let read = |path: PathBuf| fs::read_to_string(path).unwrap();
    assert_eq!(read(place.at("refs/main")), COMMIT);
    assert_eq!(read(place.at("blobs").join(&sum)), "weights");
    let link = snapshot.folder.join("model.safetensors");
    assert_eq!(read(link.clone()), "weights");
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(link).unwrap(),
        Path::new("../../blobs").join(&sum)
    );
    let absent = format!(".no_exist/{COMMIT}/preprocessor_config.json");
    assert_eq!(read(place.at(&absent)), "");
    assert!(place.path("CACHEDIR.TAG").exists());
    let locks = place.path(".locks/models--timm--vit_x.y_in1k");
    assert!(locks.join(format!("{sum}.lock")).exists());
}

#[test]
fn what_the_cache_has_is_not_asked_for() {
    let place = Place::new();
    place.open(Want::Cached).unwrap();
    place.hub.asked();
    assert_eq!(place.open(Want::Cached).unwrap().fetched, 0);
    assert_eq!(place.hub.asked().len(), 0);
    // The latest is asked for, and nothing is fetched again.
    assert_eq!(place.open(Want::Latest).unwrap().fetched, 0);
    let asked = place.hub.asked();
    assert!(!asked.is_empty());
    assert!(
        asked.iter().all(|asked| asked.method == "HEAD"),
        "{asked:?}"
    );
    // By its commit, too, and by another name of it, whose blobs are there.
    let by_commit = repo().at(COMMIT);
    let opened = |repo: &Repo| {
        open(
            repo,
            &place.settings(),
            Want::Cached,
            &Stop::default(),
            &mut |_| (),
        )
    };
    opened(&by_commit).unwrap();
    assert_eq!(place.hub.asked().len(), 0);
    let branch = Repo::parse(&format!("hf:{REPO}@refs/pr/1")).unwrap();
    assert_eq!(opened(&branch).unwrap().fetched, 0);
    assert_eq!(
        fs::read_to_string(place.at("refs/refs/pr/1")).unwrap(),
        COMMIT
    );
}

#[test]
fn offline_nothing_is_sent() {
    let mut place = Place::new();
    place.variables.insert("HF_HUB_OFFLINE", "1".into());
    let cache = place.path("").display().to_string();
    let cache = cache.trim_end_matches('/');
    assert_eq!(
        place.said(),
        format!("hf:{REPO} is not in the cache {cache}, and HF_HUB_OFFLINE allows no connection")
    );
    place.variables.clear();
    place
        .variables
        .insert("HF_ENDPOINT", place.hub.url.clone().into());
    place
        .variables
        .insert("HF_HUB_CACHE", place.folder.path().into());
    assert_eq!(place.hub.asked().len(), 0);
    place.open(Want::Cached).unwrap();
    place.hub.asked();
    for (name, value) in [("HF_HUB_OFFLINE", "yes"), ("TRANSFORMERS_OFFLINE", "ON")] {
        place.variables.insert(name, value.into());
        assert_eq!(place.open(Want::Latest).unwrap().fetched, 0);
        place.variables.remove(name);
    }
    assert_eq!(place.hub.asked().len(), 0);
}

#[test]
fn a_cache_without_links_holds_files() {
    let mut place = Place::new();
    place
        .variables
        .insert("HF_HUB_DISABLE_SYMLINKS", "1".into());
    let snapshot = place.open(Want::Cached).unwrap();
    let path = snapshot.folder.join("model.safetensors");
    assert!(path.symlink_metadata().unwrap().is_file());
    assert!(!place.at("blobs").join(sha256(b"weights")).exists());
    place.hub.asked();
    assert_eq!(place.open(Want::Latest).unwrap().fetched, 0);
    assert!(place.hub.asked().iter().all(|asked| asked.method == "HEAD"));
    // A blob of another commit is copied, not taken away.
    fs::write(place.at("blobs").join(sha256(b"weights")), "weights").unwrap();
    fs::remove_file(&path).unwrap();
    place.open(Want::Latest).unwrap();
    assert!(path.symlink_metadata().unwrap().is_file());
    assert!(place.at("blobs").join(sha256(b"weights")).exists());
}

#[test]
fn a_token_goes_to_the_hub_alone_and_into_no_message() {
    let mut place = Place::new();
    place.hub.gate(REPO, "hf_secret").move_all();
    let page = format!("{}/{REPO}", place.hub.url);
    assert_eq!(
        place.said(),
        format!(
            "hf:{REPO} is only for those who accepted its licence on {page}, and no token was sent"
        )
    );
    place.variables.insert("HF_TOKEN", "hf_wrong".into());
    assert_eq!(
        place.said(),
        format!(
            "hf:{REPO} is only for those who accepted its licence on {page}, and the token of HF_TOKEN is of nobody who may read it"
        )
    );
    place.variables.insert("HF_TOKEN", " hf_secret\n".into());
    place.hub.asked();
    place.open(Want::Cached).unwrap();
    let asked = place.hub.asked();
    let (hub, store): (Vec<_>, Vec<_>) = asked.iter().partition(|asked| asked.server == "hub");
    let token = Some("Bearer hf_secret".to_owned());
    assert!(
        hub.iter().all(|asked| asked.authorization == token),
        "{hub:?}"
    );
    assert!(!store.is_empty() && store.iter().all(|asked| asked.authorization.is_none()));
    assert!(!format!("{:?}", place.settings()).contains("secret"));
    place.variables.insert("HF_TOKEN", "a b".into());
    let variable = |name: &str| place.variables.get(name).cloned();
    let error = Settings::of(&variable, None).unwrap_err().to_string();
    assert_eq!(
        error,
        "HF_TOKEN is not shown: expected a token, which has no spaces and nothing but ASCII"
    );
}

#[test]
fn what_is_not_there_is_told_apart() {
    let place = Place::new();
    let said = |name: &str| {
        let repo = Repo::parse(name).unwrap();
        let opened = open(
            &repo,
            &place.settings(),
            Want::Cached,
            &Stop::default(),
            &mut |_| (),
        );
        opened.unwrap_err().to_string()
    };
    let host = place.host();
    assert_eq!(
        said("hf:no/body"),
        format!("{host} knows no repository no/body, or it is private and no token was sent")
    );
    assert_eq!(
        said(&format!("hf:{REPO}@v9")),
        format!("{REPO} has no branch, tag or commit v9")
    );
    place
        .hub
        .add("a/pickle", "pytorch_model.bin", "x")
        .add("a/pickle", "training_args.bin", "x");
    assert_eq!(
        said("hf:a/pickle"),
        "hf:a/pickle has weights only as pytorch_model.bin, which can run code when they are read and are not opened: expected model.safetensors"
    );
    place
        .hub
        .add("a/other", "open_clip_model.safetensors", "x")
        .add("a/other", "x.bin", "x");
    assert_eq!(
        said("hf:a/other"),
        "hf:a/other has neither model.safetensors nor model.safetensors.index.json; it has open_clip_model.safetensors"
    );
    place.hub.be_plain();
    let error = said(&format!("hf:{REPO}@main"));
    assert!(
        error.ends_with("does not answer as a hub does: it states no x-repo-commit"),
        "{error}"
    );
}

#[test]
fn shards_come_with_their_list() {
    let place = Place::new();
    let index = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    place
        .hub
        .add("a/large", "model.safetensors.index.json", index);
    let open = || {
        let repo = Repo::parse("hf:a/large").unwrap();
        open(
            &repo,
            &place.settings(),
            Want::Cached,
            &Stop::default(),
            &mut |_| (),
        )
    };
    let error = open().unwrap_err().to_string();
    assert!(
        error.ends_with("it names model-1.safetensors, which hf:a/large has not"),
        "{error}"
    );
    place
        .hub
        .add("a/large", "model-1.safetensors", "1")
        .add("a/large", "model-2.safetensors", "2");
    let snapshot = open().unwrap();
    assert_eq!(
        fs::read_to_string(snapshot.folder.join("model-2.safetensors")).unwrap(),
        "2"
    );
    place.hub.asked();
    // Nothing says how its pictures are prepared, and that is known.
    assert!(!open().unwrap().preprocessor_unknown);
    assert_eq!(place.hub.asked().len(), 0);
    fs::remove_file(snapshot.folder.join("model-2.safetensors")).unwrap();
    open().unwrap();
    assert!(
        place.hub.asked().iter().all(|asked| asked.method == "HEAD"),
        "the blob is there"
    );
}

#[test]
fn a_model_that_python_fetched_alone_gets_its_preprocessing() {
    let place = Place::new();
    place
        .hub
        .add("a/vit", "config.json", "{}")
        .add("a/vit", "model.safetensors", "weights");
    let repo = Repo::parse("hf:a/vit").unwrap();
    let told = std::cell::Cell::new(0);
    let open = |settings: &Settings| {
        let mut listen = |event: Event<'_>| {
            if matches!(event, Event::Unprepared(_)) {
                told.set(told.get() + 1);
            }
        };
        open(&repo, settings, Want::Cached, &Stop::default(), &mut listen)
    };
    let snapshot = open(&place.settings()).unwrap();
    fs::remove_dir_all(place.path("models--a--vit/.no_exist")).unwrap();
    assert_eq!(told.get(), 0);
    // Nobody there: the weights are, and it is said what is not.
    let mut away = place.settings();
    away.endpoint = "http://127.0.0.1:1".to_owned();
    assert!(open(&away).unwrap().preprocessor_unknown);
    assert_eq!(told.get(), 1);
    place.hub.add("a/vit", "preprocessor_config.json", "{}");
    assert!(!open(&place.settings()).unwrap().preprocessor_unknown);
    assert!(snapshot.folder.join("preprocessor_config.json").is_file());
    assert_eq!(told.get(), 1);
}

#[test]
fn a_connection_that_breaks_is_continued() {
    let place = Place::new();
    place
        .hub
        .fault("model.safetensors", Fault::Breaks { after: 2, times: 3 });
    place.open(Want::Cached).unwrap();
    let ranges: Vec<_> = place
        .hub
        .asked()
        .into_iter()
        .filter_map(|asked| asked.range)
        .collect();
    assert_eq!(ranges, ["bytes=2-", "bytes=4-", "bytes=6-"]);
}

#[test]
fn a_connection_that_always_breaks_leaves_what_arrived() {
    let place = Place::new();
    place.hub.fault(
        "model.safetensors",
        Fault::Breaks {
            after: 0,
            times: 99,
        },
    );
    let part = place
        .at("blobs")
        .join(format!("{}.incomplete", sha256(b"weights")));
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, "wei").unwrap();
    let error = place.said();
    assert!(
        error.contains("/model.safetensors: broke off after 3 of 7 bytes ("),
        "{error}"
    );
    assert!(!error.contains("secret"), "{error}");
    assert_eq!(fs::read_to_string(&part).unwrap(), "wei");
    place.hub.mend().asked();
    assert!(place.open(Want::Cached).is_ok());
    let ranges: Vec<_> = place
        .hub
        .asked()
        .into_iter()
        .filter_map(|asked| asked.range)
        .collect();
    assert_eq!(ranges, ["bytes=3-"]);
    assert!(!part.exists());
}

#[test]
fn what_passes_is_tried_again_and_what_stays_is_said() {
    let place = Place::new();
    place.hub.fault(
        "config.json",
        Fault::Status {
            code: 503,
            times: 3,
        },
    );
    place.open(Want::Cached).unwrap();
    let place = Place::new();
    place.hub.fault(
        "model.safetensors",
        Fault::Status {
            code: 429,
            times: 99,
        },
    );
    let error = place.said();
    assert!(
        error.ends_with("/model.safetensors: the server answered 429 Too Many Requests"),
        "{error}"
    );
    place.hub.mend().fault(
        "model.safetensors",
        Fault::Status {
            code: 418,
            times: 99,
        },
    );
    place.hub.asked();
    assert!(place.said().contains("418"));
    let gets = place
        .hub
        .asked()
        .into_iter()
        .filter(|asked| asked.method == "GET");
    assert_eq!(gets.count(), 1);
}

#[test]
fn other_bytes_than_the_published_are_not_kept() {
    for (fault, said) in [
        (Fault::Wrong, "SHA-256 is "),
        (Fault::Long, "more than 7 bytes arrived"),
        (Fault::StatesLess, "more than 6 bytes arrived"),
    ] {
        let place = Place::new();
        place.hub.fault("model.safetensors", fault);
        let error = place.said();
        assert!(error.contains(said) && !error.contains("secret"), "{error}");
        let blobs = fs::read_dir(place.at("blobs")).unwrap();
        let left: Vec<_> = blobs.map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "config and card: {left:?}");
        assert!(
            !place
                .at("snapshots")
                .join(COMMIT)
                .join("model.safetensors")
                .exists()
        );
    }
}

#[test]
fn a_file_without_a_length_or_ranges_arrives() {
    for fault in [Fault::NoLength, Fault::NoRanges] {
        let place = Place::new();
        place
            .hub
            .fault("model.safetensors", fault)
            .fault("config.json", fault);
        let part = place
            .at("blobs")
            .join(format!("{}.incomplete", sha256(b"weights")));
        fs::create_dir_all(part.parent().unwrap()).unwrap();
        fs::write(&part, "wei").unwrap();
        let snapshot = place.open(Want::Cached).unwrap();
        let weights = fs::read_to_string(snapshot.folder.join("model.safetensors"));
        assert_eq!(weights.unwrap(), "weights");
    }
}

#[test]
fn a_part_that_is_too_long_starts_over() {
    let place = Place::new();
    let part = place
        .at("blobs")
        .join(format!("{}.incomplete", sha256(b"weights")));
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, "something longer").unwrap();
    assert!(place.open(Want::Cached).is_ok());
    // One that is whole needs its checksum only.
    let place = Place::new();
    fs::create_dir_all(place.at("blobs")).unwrap();
    let part = place
        .at("blobs")
        .join(format!("{}.incomplete", sha256(b"weights")));
    fs::write(&part, "weights").unwrap();
    place.open(Want::Cached).unwrap();
    let asked = place.hub.asked();
    assert!(asked.iter().all(|asked| asked.server == "hub"), "{asked:?}");
}

#[test]
fn a_text_of_any_size_is_not_taken() {
    let place = Place::new();
    place
        .hub
        .add(REPO, "config.json", vec![b' '; (64 << 20) + 1]);
    let error = place.said();
    assert!(
        error.ends_with("has 67108865 bytes: expected at most 67108864 for this file"),
        "{error}"
    );
}

#[test]
fn a_stop_leaves_what_arrived_and_is_no_failure() {
    let place = Place::new();
    place.hub.fault("model.safetensors", Fault::Slow);
    let stop = Stop::default();
    let mut listen = |event: Event<'_>| {
        if let Event::Arrived {
            file: "model.safetensors",
            bytes: 2..,
            ..
        } = event
        {
            stop.request();
        }
    };
    let error = open(&repo(), &place.settings(), Want::Cached, &stop, &mut listen);
    assert!(matches!(error, Err(HubError::Stopped)), "{error:?}");
    let part = place
        .at("blobs")
        .join(format!("{}.incomplete", sha256(b"weights")));
    assert!(fs::metadata(&part).unwrap().len() >= 2);
    place.hub.mend();
    place.open(Want::Cached).unwrap();
}

#[test]
fn two_at_once_fetch_a_file_once() {
    let place = Place::new();
    place.hub.fault("model.safetensors", Fault::Slow);
    let results: Vec<_> = thread::scope(|scope| {
        let open = || place.open(Want::Cached).map(|snapshot| snapshot.fetched);
        let both = [scope.spawn(open), scope.spawn(open)];
        both.map(|one| one.join().unwrap()).into()
    });
    let fetched: Vec<u64> = results.into_iter().map(Result::unwrap).collect();
    assert_eq!(fetched.iter().sum::<u64>(), 82, "{fetched:?}");
    let stored = place
        .hub
        .asked()
        .into_iter()
        .filter(|asked| asked.server == "store");
    assert_eq!(stored.count(), 1);
}

#[test]
fn a_wait_for_another_process_ends_when_asked() {
    let place = Place::new();
    let lock = RepoFolder::new(place.folder.path(), &repo()).lock(&sha256(b"weights"));
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let _held = whole_file::hold(&lock).unwrap().unwrap();
    let stop = Stop::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            stop.request();
        });
        let mut waits = 0;
        let mut listen =
            |event: Event<'_>| waits += u32::from(matches!(event, Event::Waits { .. }));
        let error = open(&repo(), &place.settings(), Want::Cached, &stop, &mut listen);
        assert!(matches!(error, Err(HubError::Stopped)), "{error:?}");
        assert_eq!(waits, 1);
    });
}

#[test]
fn nobody_there_is_said_with_the_cache() {
    let mut place = Place::new();
    place
        .variables
        .insert("HF_ENDPOINT", "http://127.0.0.1:1/".into());
    let error = place.said();
    let cache = place.path("").display().to_string();
    let start = format!(
        "hf:{REPO} is not in the cache {}, and 127.0.0.1:1 cannot be reached (",
        cache.trim_end_matches('/')
    );
    assert!(error.starts_with(&start), "{error}");
    place
        .variables
        .insert("HF_ENDPOINT", place.hub.url.clone().into());
    place.open(Want::Cached).unwrap();
    place
        .variables
        .insert("HF_ENDPOINT", "http://127.0.0.1:1/".into());
    place.open(Want::Cached).unwrap();
    let error = place.open(Want::Latest).unwrap_err().to_string();
    assert!(
        error.starts_with("127.0.0.1:1 cannot be reached ("),
        "{error}"
    );
}

#[test]
#[cfg(unix)]
fn a_link_in_place_of_a_part_or_a_lock_is_not_written_through() {
    let sum = sha256(b"weights");
    for link in [
        format!("models--timm--vit_x.y_in1k/blobs/{sum}.incomplete"),
        format!(".locks/models--timm--vit_x.y_in1k/{sum}.lock"),
    ] {
        let place = Place::new();
        let (other, link) = (place.path("other"), place.path(&link));
        fs::write(&other, "precious").unwrap();
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&other, &link).unwrap();
        let error = place.said();
        assert!(
            error.contains("it is a link, which vitrine never makes there"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
    }
}

#[test]
fn the_variables_are_those_of_python() {
    let of = |variables: &[(&str, &str)]| {
        let variables: BTreeMap<String, OsString> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
            .collect();
        let variable = |name: &str| variables.get(name).cloned();
        Settings::of(&variable, Some(PathBuf::from("/home/me")))
    };
    for (variables, cache) in [
        (&[][..], "/home/me/.cache/huggingface/hub"),
        (&[("XDG_CACHE_HOME", "/x")][..], "/x/huggingface/hub"),
        (
            &[("HF_HOME", "~/h"), ("XDG_CACHE_HOME", "/x")][..],
            "/home/me/h/hub",
        ),
        (
            &[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HOME", "/h")][..],
            "/old",
        ),
        (
            &[("HF_HUB_CACHE", "/c"), ("HUGGINGFACE_HUB_CACHE", "/old")][..],
            "/c",
        ),
        (
            &[("HF_HUB_CACHE", ""), ("HF_HOME", "")][..],
            "/home/me/.cache/huggingface/hub",
        ),
    ] {
        assert_eq!(
            of(variables).unwrap().cache(),
            Path::new(cache),
            "{variables:?}"
        );
    }
    assert_eq!(of(&[]).unwrap().endpoint, "https://huggingface.co");
    let mirror = of(&[("HF_ENDPOINT", "https://mirror.org/hub//")]).unwrap();
    assert_eq!(
        (&*mirror.endpoint, mirror.host()),
        ("https://mirror.org/hub", "mirror.org/hub")
    );
    for wrong in [
        "mirror.org",
        "ftp://x",
        "https://",
        "https://a@b",
        "https://a b",
    ] {
        let error = of(&[("HF_ENDPOINT", wrong)]).unwrap_err().to_string();
        let expected =
            format!("HF_ENDPOINT is {wrong}: expected an address such as https://huggingface.co");
        assert_eq!(error, expected);
    }
    let offline = |variables: &[(&str, &str)]| of(variables).unwrap().offline;
    assert_eq!(
        offline(&[("HF_HUB_OFFLINE", "true")]),
        Some("HF_HUB_OFFLINE")
    );
    assert_eq!(
        offline(&[("TRANSFORMERS_OFFLINE", "1")]),
        Some("TRANSFORMERS_OFFLINE")
    );
    // As in Python, a variable that is set says so for both.
    assert_eq!(
        offline(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]),
        None
    );
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), "hf_stored\n").unwrap();
    let home = folder.path().to_str().unwrap();
    let from = |variables: &[(&str, &str)]| of(variables).unwrap().token.map(|token| token.from);
    assert_eq!(from(&[("HF_HOME", home)]), Some("HF_HOME/token"));
    assert_eq!(
        from(&[("HF_TOKEN_PATH", &format!("{home}/token"))]),
        Some("HF_TOKEN_PATH")
    );
    assert_eq!(
        from(&[("HF_TOKEN", "hf_x"), ("HF_HOME", home)]),
        Some("HF_TOKEN")
    );
    let implicit = [("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
    assert_eq!(from(&implicit), None);
    assert_eq!(from(&[]), None);
}

#[test]
fn names_of_repositories_are_read_as_people_write_them() {
    for (name, shown) in [
        ("hf:a/b", "hf:a/b"),
        ("hf:gpt2", "hf:gpt2"),
        ("hf://a/b@v1", "hf:a/b@v1"),
        ("hf-hub:timm/vit.x@refs/pr/1", "hf:timm/vit.x@refs/pr/1"),
        ("https://huggingface.co/a/b", "hf:a/b"),
        ("https://huggingface.co/a/b/", "hf:a/b"),
        ("https://hf.co/a/b/tree/main?x=y", "hf:a/b@main"),
        (
            "https://huggingface.co/a/b/tree/refs/pr/1",
            "hf:a/b@refs/pr/1",
        ),
    ] {
        assert!(Repo::is_named(Path::new(name)), "{name}");
        assert_eq!(Repo::parse(name).unwrap().to_string(), shown);
    }
    assert!(!Repo::is_named(Path::new("./hf:a/b")));
    for (name, expected) in [
        ("hf:", "OWNER/NAME behind hf:"),
        ("hf:a/b/c", "OWNER/NAME behind hf:"),
        ("hf:/etc/passwd", "OWNER/NAME behind hf:"),
        ("hf:../b", "letters, digits,"),
        ("hf:a/..", "letters, digits,"),
        ("hf:a\\b", "letters, digits,"),
        ("hf:a/b\0", "letters, digits,"),
        ("hf:a/b c", "letters, digits,"),
        ("hf:a/b..c", "no two hyphens"),
        ("hf:a--b/c", "no two hyphens"),
        ("hf:a/b.git", "no two hyphens"),
        ("hf:a/b@", "a branch, tag or commit behind @"),
        ("hf:a/b@../x", "a branch, tag or commit behind @"),
        ("hf:a/b@/x", "a branch, tag or commit behind @"),
        ("hf:a/b@x\\y", "a branch, tag or commit behind @"),
        ("hf:a/b@x@{1}", "a branch, tag or commit behind @"),
        (
            "https://huggingface.co/a/b/blob/main/x",
            "the repository, not a file of it",
        ),
        (
            "https://huggingface.co/datasets/a/b",
            "the address of a model's page",
        ),
        ("a/b", "hf:OWNER/NAME, or hf:OWNER/NAME@REVISION"),
    ] {
        let error = Repo::parse(name)
            .map(|repo| repo.to_string())
            .unwrap_err()
            .to_string();
        assert!(error.contains(" is no repository: expected "), "{error}");
        assert!(error.contains(expected), "{name:?}: {error}");
    }
}

#[test]
fn the_names_worth_starting_from_are_names() {
    for known in KNOWN {
        let repo = Repo::parse(&format!("hf:{}", known.id)).unwrap();
        assert_eq!(repo.id(), known.id);
    }
}

#[test]
fn the_cache_is_listed_with_what_python_put_there() {
    let place = Place::new();
    assert!(cached(&place.path("nowhere")).unwrap().is_empty());
    place.open(Want::Cached).unwrap();
    for other in [
        "datasets--a--b",
        "models--..--x",
        "models--a--b/snapshots/not-a-commit",
        "x",
    ] {
        fs::create_dir_all(place.path(other)).unwrap();
    }
    let found = cached(place.folder.path()).unwrap();
    let [one] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!((&*one.id, &*one.commit), (REPO, COMMIT));
    assert_eq!(one.revisions, ["main"]);
    assert_eq!((one.files, one.bytes, one.has_weights), (3, 82, true));
}

proptest! {
    #[test]
    fn no_name_leads_out_of_the_cache(name in "(hf:|hf-hub:|https://hf.co/)([a./\\\\:-]{0,12}|[a-z]{1,3}/[a-z]{1,3})(@[a./\\\\:-]{0,8})?\\PC?") {
        let Ok(repo) = Repo::parse(&name) else { return Ok(()) };
        let folder = RepoFolder::new(Path::new("cache"), &repo);
        let snapshot = folder.snapshot(COMMIT);
        let parts: Vec<_> = snapshot.components().collect();
        prop_assert_eq!(parts.len(), 4);
        prop_assert!(parts.iter().all(|part| matches!(part, std::path::Component::Normal(_))));
        let mut revision = Path::new(repo.revision()).components();
        prop_assert!(revision.all(|part| matches!(part, std::path::Component::Normal(_))));
        let again = Repo::parse(&repo.to_string()).unwrap();
        prop_assert_eq!(again, repo);
    }

    #[test]
    fn no_etag_leads_out_of_the_blobs(etag in "(W/)?\"?[./\\\\a-f0-9\\PC]{0,70}\"?") {
        if let Some(name) = name_of_etag(&etag) {
            let folder = Path::new("blobs");
            let joined = folder.join(name);
            prop_assert_eq!(joined.parent(), Some(folder));
            prop_assert!(!name.starts_with('.'));
        }
    }
}
