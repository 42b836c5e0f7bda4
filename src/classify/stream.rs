//! Many pictures at once: while the model computes one batch, the next is read and decoded.
//!
//! ```text
//! inputs → [read, decode, resize] → [model] → answers
//! ```
//!
//! Pictures are decoded on threads of their own, as many as the model computes on: those of the model would leave it waiting
//! while they decode, and wait themselves while it has little to do at once. Where one thread is all that is allowed, it is
//! both's.
//!
//! Each stage is a thread, and between two of them waits at most one batch, so memory does not grow with
//! the number of pictures. Answers come in the order of the inputs.

use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use thiserror::Error;

use super::classifier::{Classifier, Found, Wanted};
use super::error::ClassifyError;
use crate::checkpoint::CheckpointError;
use crate::data::{self, Dataset, Sample};
use crate::names;
use crate::panics::message;

/// What [`stream`] is given.
pub enum Input {
    /// A file. Several are read at once.
    File(PathBuf),
    /// A picture of a data set. Several are read at once.
    Sample {
        /// The data set.
        dataset: Arc<Dataset>,
        /// The picture.
        sample: Sample,
    },
    /// What is read when its turn comes, and after all before it have their answers: standard input or a
    /// named pipe, whose writer may wait for one.
    Pipe {
        /// What its answer is filed under.
        filename: PathBuf,
        /// What error messages call it.
        path: PathBuf,
        /// Opens it.
        open: Box<dyn FnOnce() -> io::Result<Box<dyn Read>> + Send>,
    },
    /// A name without a picture; it takes its place among the answers.
    Failed {
        /// What its answer is filed under.
        filename: PathBuf,
        /// What is wrong with it.
        error: ClassifyError,
    },
    /// The next input may be long in coming: those before it are answered now.
    Pause,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Sample { sample, .. } => f.debug_tuple("Sample").field(&sample.name).finish(),
            Self::Pipe { filename, .. } => f.debug_tuple("Pipe").field(filename).finish(),
            Self::Failed { error, .. } => f.debug_tuple("Failed").field(error).finish(),
            Self::Pause => f.write_str("Pause"),
        }
    }
}

/// The answer to one picture.
#[derive(Debug)]
pub struct Answer {
    /// The picture, as the input names it.
    pub filename: PathBuf,
    /// What was found of it, or why there is nothing.
    pub outcome: Result<Found, ClassifyError>,
}

/// How [`stream`] works.
#[derive(Debug, Clone, Copy)]
pub struct StreamOptions {
    /// Pictures that are classified at once.
    pub batch_size: usize,
    /// What is wanted of each.
    pub wanted: Wanted,
}

/// Why there are no further answers.
#[derive(Debug, Error)]
pub enum StreamError {
    /// The weights were changed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A thread could not be started, or failed.
    #[error("the thread that {task} failed: {reason}")]
    Thread {
        /// What it does.
        task: &'static str,
        /// The reason.
        reason: String,
    },
}

/// What [`Answers::wait`] got.
#[derive(Debug)]
pub enum Next {
    /// The next answers, in the order of the inputs.
    Answers(Vec<Answer>),
    /// None in that time.
    NotYet,
    /// There are no more.
    End,
}

/// The answers of [`stream`]. Dropping it does not wait for its threads, which end by themselves.
#[derive(Debug)]
pub struct Answers {
    /// Pictures that were decoded, or could not be.
    decoded: Arc<AtomicUsize>,
    answered: Receiver<Result<Vec<Answer>, CheckpointError>>,
    threads: Vec<(&'static str, JoinHandle<()>)>,
}

/// A picture that is ready for the model.
type Prepared = (PathBuf, Result<Vec<f32>, ClassifyError>);

/// Classifies `inputs` while they are still being read.
///
/// # Errors
///
/// [`StreamError::Thread`] where the system refuses a thread.
pub fn stream(
    classifier: &Arc<Classifier>,
    inputs: impl Iterator<Item = Input> + Send + 'static,
    options: StreamOptions,
) -> Result<Answers, StreamError> {
    let (send_prepared, prepared) = sync_channel(1);
    let (send_answers, answered) = sync_channel(1);
    let mut threads = Vec::new();
    let mut start = |task: &'static str, work: Box<dyn FnOnce() + Send>| {
        let thread = thread::Builder::new().name(task.to_owned()).spawn(work);
        let thread = thread.map_err(|error| StreamError::Thread {
            task,
            reason: error.to_string(),
        })?;
        threads.push((task, thread));
        Ok::<(), StreamError>(())
    };
    let decoded = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(classifier);
    let count = Arc::clone(&decoded);
    start(
        "reads pictures",
        Box::new(move || {
            let threads = rayon::current_num_threads();
            let pool = ThreadPoolBuilder::new().num_threads(threads);
            let pool = (threads > 1).then(|| pool.build().ok()).flatten();
            let size = options.batch_size;
            prepare(&own, inputs, size, pool.as_ref(), &count, &send_prepared);
        }),
    )?;
    let own = Arc::clone(classifier);
    start(
        "classifies",
        Box::new(move || answer(&own, &prepared, options.wanted, &send_answers)),
    )?;
    Ok(Answers {
        decoded,
        answered,
        threads,
    })
}

impl Answers {
    /// How many pictures are decoded, which takes most of the time, or failed to be: those with an answer, and
    /// some more.
    pub fn decoded(&self) -> usize {
        self.decoded.load(Ordering::Relaxed)
    }

    /// The next answers, if they come within `limit`.
    ///
    /// # Errors
    ///
    /// [`StreamError`]: the weights were changed, or a thread failed.
    pub fn wait(&mut self, limit: Duration) -> Result<Next, StreamError> {
        match self.answered.recv_timeout(limit) {
            Ok(answers) => Ok(Next::Answers(answers?)),
            Err(RecvTimeoutError::Timeout) => Ok(Next::NotYet),
            Err(RecvTimeoutError::Disconnected) => {
                for (task, thread) in self.threads.drain(..) {
                    thread.join().map_err(|panic| StreamError::Thread {
                        task,
                        reason: message(&*panic),
                    })?;
                }
                Ok(Next::End)
            }
        }
    }
}

/// The first stage. It ends when the inputs do, or when nobody takes what it makes.
fn prepare(
    classifier: &Classifier,
    inputs: impl Iterator<Item = Input>,
    batch_size: usize,
    pool: Option<&ThreadPool>,
    decoded: &AtomicUsize,
    send: &SyncSender<Vec<Prepared>>,
) {
    let mut batch = Vec::new();
    let send_all = |batch: &mut Vec<Input>| {
        if batch.is_empty() {
            return true;
        }
        let inputs = std::mem::take(batch);
        let one = |input| {
            let prepared = prepare_one(classifier, input);
            decoded.fetch_add(usize::from(prepared.is_some()), Ordering::Relaxed);
            prepared
        };
        let prepared: Vec<Option<Prepared>> = match inputs.len() {
            1 => inputs.into_iter().map(one).collect(),
            _ => {
                let all = || inputs.into_par_iter().map(one).collect();
                match pool {
                    Some(pool) => pool.install(all),
                    None => all(),
                }
            }
        };
        send.send(prepared.into_iter().flatten().collect()).is_ok()
    };
    for input in inputs {
        let is_pipe = matches!(input, Input::Pipe { .. });
        let is_pause = matches!(input, Input::Pause);
        if (is_pipe || is_pause) && !send_all(&mut batch) {
            return;
        }
        if is_pause {
            continue;
        }
        batch.push(input);
        if (is_pipe || batch.len() >= batch_size.max(1)) && !send_all(&mut batch) {
            return;
        }
    }
    send_all(&mut batch);
}

fn prepare_one(classifier: &Classifier, input: Input) -> Option<Prepared> {
    match input {
        Input::File(path) => {
            let values = classifier.prepare(&path);
            Some((path, values))
        }
        Input::Sample { dataset, sample } => {
            let values = classifier.prepare_sample(&dataset, &sample);
            Some((names::path(&sample.name), values))
        }
        Input::Pipe {
            filename,
            path,
            open,
        } => {
            let bytes = open().and_then(data::read_picture);
            let values = bytes
                .map_err(|source| ClassifyError::Read {
                    path: path.clone(),
                    source,
                })
                .and_then(|bytes| classifier.prepare_bytes(&path, &bytes));
            Some((filename, values))
        }
        Input::Failed { filename, error } => Some((filename, Err(error))),
        Input::Pause => None,
    }
}

/// The second stage.
fn answer(
    classifier: &Classifier,
    prepared: &Receiver<Vec<Prepared>>,
    wanted: Wanted,
    send: &SyncSender<Result<Vec<Answer>, CheckpointError>>,
) {
    while let Ok(batch) = prepared.recv() {
        let mut values = Vec::new();
        for (_, picture) in &batch {
            values.extend_from_slice(picture.as_deref().unwrap_or_default());
        }
        // Without a picture this still waits for the weights' hash: if they were changed, that is the
        // only error there is.
        let answers = classifier.answers(values, wanted).map(|found| {
            let mut found = found.into_iter();
            let paired = batch.into_iter().map(|(filename, picture)| {
                let outcome = picture.and_then(|_| {
                    let answer = found.next().expect("one answer per picture");
                    answer.ok_or_else(|| ClassifyError::NotFinite {
                        path: filename.clone(),
                    })
                });
                Answer { filename, outcome }
            });
            paired.collect()
        });
        let ends = answers.is_err();
        if send.send(answers).is_err() || ends {
            return;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::checkpoint::SHIPPED;

    /// Pictures in memory; the counter says how many were taken.
    fn pictures(count: usize, taken: &Arc<AtomicUsize>) -> impl Iterator<Item = Input> + use<> {
        let mut bytes = io::Cursor::new(Vec::new());
        image::RgbImage::from_pixel(3, 3, image::Rgb([9, 90, 200]))
            .write_to(&mut bytes, image::ImageFormat::Png)
            .unwrap();
        let bytes = bytes.into_inner();
        let taken = Arc::clone(taken);
        (0..count).map(move |i| {
            taken.fetch_add(1, Ordering::SeqCst);
            let bytes = bytes.clone();
            Input::Pipe {
                filename: format!("{i}").into(),
                path: format!("{i}").into(),
                open: Box::new(move || Ok(Box::new(io::Cursor::new(bytes)) as Box<dyn Read>)),
            }
        })
    }

    fn classifier() -> Arc<Classifier> {
        Arc::new(Classifier::of(&SHIPPED[1].file(), &Device::flex()).unwrap())
    }

    const OPTIONS: StreamOptions = StreamOptions {
        batch_size: 2,
        wanted: Wanted::Answers { top_k: 3 },
    };

    #[test]
    fn it_runs_ahead_of_its_reader_by_a_few_batches_only() {
        let taken = Arc::new(AtomicUsize::new(0));
        let mut answers = stream(&classifier(), pictures(100, &taken), OPTIONS).unwrap();
        let mut seen = 0;
        loop {
            // Long enough to run as far as it can.
            if seen < 3 {
                thread::sleep(Duration::from_millis(200));
            }
            let ahead = taken.load(Ordering::SeqCst) - seen;
            assert!(ahead <= 6, "{ahead} after {seen}");
            let decoded = answers.decoded();
            assert!(
                (seen..=seen + ahead).contains(&decoded) && decoded > 0,
                "{decoded} after {seen}"
            );
            match answers.wait(Duration::from_secs(60)).unwrap() {
                Next::Answers(part) => {
                    for answer in part {
                        assert_eq!(answer.filename, PathBuf::from(seen.to_string()));
                        assert_eq!(answer.outcome.unwrap().predictions.len(), 3);
                        seen += 1;
                    }
                }
                Next::NotYet => panic!("nothing in a minute"),
                Next::End => break,
            }
        }
        assert_eq!(seen, 100);
    }

    #[test]
    fn a_thread_that_fails_is_an_error_after_the_answers_before_it() {
        let taken = Arc::new(AtomicUsize::new(0));
        let inputs = pictures(4, &taken).map(|input| match &input {
            Input::Pipe { filename, .. } if filename == "2" => panic!("no third picture"),
            _ => input,
        });
        let mut answers = stream(&classifier(), inputs, OPTIONS).unwrap();
        let mut seen = 0;
        let error = loop {
            match answers.wait(Duration::from_secs(60)) {
                Ok(Next::Answers(part)) => seen += part.len(),
                Ok(other) => panic!("{other:?} after {seen}"),
                Err(error) => break error,
            }
        };
        let said = "the thread that reads pictures failed: no third picture";
        assert_eq!((seen, error.to_string().as_str()), (2, said));
    }
}
