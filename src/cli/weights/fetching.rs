//! What is said while weights are fetched, whichever command needs them.

use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::interrupt;
use crate::cli::output::{interactive, note};
use crate::hub::{Event, Snapshot};
use crate::report::text;

pub(super) fn licence(snapshot: &Snapshot) -> String {
    match &snapshot.licence {
        Some(licence) => format!("licence {licence}"),
        None => "whose card states no licence".to_owned(),
    }
}

pub(in crate::cli) fn megabytes(bytes: u64) -> String {
    match bytes {
        0..100_000 => format!("{} bytes", text::count(bytes)),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// The bar of the file that is being fetched, with the file's name.
static BAR: Mutex<Option<(String, ProgressBar)>> = Mutex::new(None);

/// The repository whose preprocessing is unknown, once that was said.
static UNPREPARED: Mutex<Option<String>> = Mutex::new(None);

/// Says what is fetched, whichever command needs it.
pub(in crate::cli) fn tell_of(event: Event<'_>) {
    let mut shown = BAR.lock().unwrap_or_else(PoisonError::into_inner);
    match event {
        Event::Arrived {
            repo,
            file,
            bytes,
            of,
        } => {
            interrupt::nothing_to_save(
                "stopped; what has arrived stays in the cache: the same command continues from there",
            );
            let is_new = shown.as_ref().is_none_or(|(known, _)| known != file);
            if is_new {
                if let Some((_, bar)) = shown.take() {
                    bar.finish_and_clear();
                }
                let size = of.map_or_else(String::new, |of| format!(", {}", megabytes(of)));
                let bar = match interactive() {
                    true => bar(of),
                    false => {
                        note(&format!("fetching {file} of {repo}{size}"));
                        ProgressBar::hidden()
                    }
                };
                bar.set_message(file.to_owned());
                *shown = Some((file.to_owned(), bar));
            }
            if let Some((_, bar)) = &*shown {
                bar.set_position(bytes);
            }
        }
        Event::Waits { repo, file } => {
            note(&format!(
                "another process fetches {file} of {repo}: waiting for it"
            ));
        }
        Event::Fetched(snapshot) => {
            if let Some((_, bar)) = shown.take() {
                bar.finish_and_clear();
            }
            note(&format!(
                "fetched {} of {}, {}",
                megabytes(snapshot.fetched),
                snapshot.repo,
                licence(snapshot)
            ));
            interrupt::nothing_to_save(
                "stopped; nothing was written: the same command begins again",
            );
        }
        Event::Unprepared(snapshot) => {
            let repo = snapshot.repo.to_string();
            let mut said = UNPREPARED.lock().unwrap_or_else(PoisonError::into_inner);
            // A command may open its weights more than once.
            if said.as_ref() != Some(&repo) {
                note(&format!(
                    "note: preprocessor_config.json of {repo} is not in the cache, and the hub could not be asked for it: pictures may not be prepared as the weights want them; `vitrine weights fetch {repo}` fetches it when the hub is reached"
                ));
                *said = Some(repo);
            }
        }
    }
}

fn bar(bytes: Option<u64>) -> ProgressBar {
    let bar = match bytes {
        Some(bytes) => ProgressBar::new(bytes),
        None => ProgressBar::no_length(),
    };
    let template = "{msg} [{wide_bar}] {bytes}/{total_bytes}, {bytes_per_sec}, ETA {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
