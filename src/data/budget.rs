//! The memory that pictures may take while they are read and decoded: one budget for all threads.
//!
//! A picture takes its share before memory is allocated for it: of [`ENCODED`] by what its file or archive says of its
//! bytes, then of [`DECODED`] by what its header says of its pixels. Where too little is left, it waits for those before
//! it. Nobody waits for the first while holding of the second, so that nobody waits for ever.
//!
//! What is held as long as the data set is open, archives that are compressed as a whole, is counted apart ([`Kept`]).

use std::cell::Cell;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use super::error::DataError;

/// The bytes of all pictures that are being read, as they are stored, and the most that one picture may have.
pub(crate) const ENCODED: u64 = 1 << 30;
/// The pixels of all pictures that are being decoded, with what their decoders need besides.
pub(crate) const DECODED: u64 = 2 << 30;
/// The most that is held of what must be unpacked as a whole.
pub(crate) const KEPT: u64 = 8 << 30;

/// Whatever is stated, so many times its packed size is believed, …
pub(crate) const RATIO: u64 = 64;
/// … and so much besides. Pictures are compressed already; only drawings, and copies of one picture, shrink so well.
pub(crate) const SLACK: u64 = 256 << 20;

/// Less is not counted: so little for each thread does no harm.
const NOT_COUNTED: u64 = 1 << 20;

/// What `packed` bytes may unpack to.
pub(super) fn justified(packed: u64) -> u64 {
    packed.saturating_mul(RATIO).saturating_add(SLACK).min(KEPT)
}

/// Checks what `packed` bytes at `path` are stated to unpack to, beside all that is kept already.
///
/// # Errors
///
/// [`DataError::Inflated`].
pub(super) fn check_unpacked(path: &Path, packed: u64, unpacked: u64) -> Result<(), DataError> {
    let most = Kept::most(packed);
    if unpacked <= most {
        return Ok(());
    }
    Err(DataError::Inflated {
        path: path.into(),
        packed,
        most,
    })
}

/// What of a picture a share is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Encoded,
    Decoded,
}

static POOLS: [Pool; 2] = [Pool::new(ENCODED), Pool::new(DECODED)];

thread_local! {
    /// What the picture that this thread is at has taken of each pool; `None` outside of [`one_picture`].
    static HELD: Cell<Option<[u64; 2]>> = const { Cell::new(None) };
}

/// Runs `work`, which reads, decodes and shrinks one picture. The shares that it takes are given back at its end.
pub(crate) fn one_picture<T>(work: impl FnOnce() -> T) -> T {
    struct GiveBack;
    impl Drop for GiveBack {
        fn drop(&mut self) {
            let held = HELD.take().unwrap_or_default();
            for (pool, bytes) in POOLS.iter().zip(held) {
                pool.give_back(bytes);
            }
        }
    }
    if HELD.get().is_some() {
        return work();
    }
    HELD.set(Some([0; 2]));
    let _give_back = GiveBack;
    work()
}

/// Takes a share for the picture that this thread is at, and waits until there is one. More than there is at all is all.
/// Gives what was taken, for [`give_back`].
pub(super) fn take(part: Part, bytes: u64) -> u64 {
    let Some(mut held) = HELD.get().filter(|_| bytes > NOT_COUNTED) else {
        return 0;
    };
    let part = part as usize;
    let bytes = bytes.min(POOLS[part].total);
    let may_wait = held[part..].iter().all(|&held| held == 0);
    POOLS[part].take(bytes, may_wait);
    held[part] += bytes;
    HELD.set(Some(held));
    bytes
}

/// Gives back a share before the picture's end: whoever takes another then waits for it.
pub(super) fn give_back(part: Part, bytes: u64) {
    let Some(mut held) = HELD.get() else {
        return;
    };
    let part = part as usize;
    held[part] -= bytes;
    HELD.set(Some(held));
    POOLS[part].give_back(bytes);
}

/// An amount of memory that threads share, first come, first served.
struct Pool {
    total: u64,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    taken: u64,
    /// How many have come, and how many of them have got their share.
    came: u64,
    served: u64,
}

impl Pool {
    const fn new(total: u64) -> Pool {
        let state = State {
            taken: 0,
            came: 0,
            served: 0,
        };
        Pool {
            total,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn take(&self, bytes: u64, may_wait: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if may_wait {
            let ticket = state.came;
            state.came += 1;
            while state.served != ticket || state.taken + bytes > self.total {
                let woken = self.changed.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
            }
            state.served += 1;
            self.changed.notify_all();
        }
        state.taken += bytes;
    }

    fn give_back(&self, bytes: u64) {
        if bytes > 0 {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.taken -= bytes;
            self.changed.notify_all();
        }
    }
}

/// What is unpacked and kept: packed and unpacked bytes of all of it. As long as this value lives, they count.
#[derive(Debug)]
pub(super) struct Kept {
    packed: u64,
    unpacked: u64,
}

static KEPT_NOW: Mutex<(u64, u64)> = Mutex::new((0, 0));

impl Kept {
    /// What `packed` bytes may still unpack to beside all that is kept already.
    pub(super) fn most(packed: u64) -> u64 {
        let (other_packed, other) = *KEPT_NOW.lock().unwrap_or_else(PoisonError::into_inner);
        justified(packed.saturating_add(other_packed)).saturating_sub(other)
    }

    pub(super) fn new(packed: u64, unpacked: u64) -> Kept {
        let mut now = KEPT_NOW.lock().unwrap_or_else(PoisonError::into_inner);
        now.0 += packed;
        now.1 += unpacked;
        Kept { packed, unpacked }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut now = KEPT_NOW.lock().unwrap_or_else(PoisonError::into_inner);
        now.0 -= self.packed;
        now.1 -= self.unpacked;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn never_more_is_taken_than_there_is_and_everybody_gets_a_share() {
        let pool = Pool::new(100);
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for thread in 0..8 {
                let (pool, now, most) = (&pool, &now, &most);
                scope.spawn(move || {
                    for turn in 0..200 {
                        let bytes = 1 + (thread * 37 + turn * 13) % 100;
                        pool.take(bytes, true);
                        let taken = now.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        most.fetch_max(taken, Ordering::SeqCst);
                        now.fetch_sub(bytes, Ordering::SeqCst);
                        pool.give_back(bytes);
                    }
                });
            }
        });
        assert!((1..=100).contains(&most.into_inner()));
    }

    #[test]
    fn a_picture_gives_back_what_it_took_whatever_happens() {
        let taken = || HELD.get();
        let failed = std::panic::catch_unwind(|| {
            one_picture(|| {
                take(Part::Encoded, 8 << 20);
                take(Part::Decoded, u64::MAX);
                // A second one of the same thread does not wait for the first.
                one_picture(|| take(Part::Decoded, u64::MAX));
                assert_eq!(taken(), Some([8 << 20, 2 * DECODED]));
                std::panic::resume_unwind(Box::new(()));
            })
        });
        assert!(failed.is_err());
        assert_eq!(taken(), None);
        take(Part::Decoded, DECODED);
        assert_eq!(taken(), None);
        one_picture(|| take(Part::Decoded, DECODED));
    }

    #[test]
    fn what_is_given_back_early_may_be_taken_again() {
        one_picture(|| {
            take(Part::Encoded, 8 << 20);
            let taken = take(Part::Decoded, 3 << 20);
            assert_eq!(HELD.get(), Some([8 << 20, 3 << 20]));
            give_back(Part::Decoded, taken);
            assert_eq!(HELD.get(), Some([8 << 20, 0]));
            // So little was not counted.
            give_back(Part::Decoded, take(Part::Decoded, 1));
            assert_eq!(HELD.get(), Some([8 << 20, 0]));
        });
        assert_eq!(HELD.get(), None);
    }

    #[test]
    fn what_is_kept_counts_together() {
        assert_eq!(justified(0), SLACK);
        assert_eq!(justified(1 << 20), SLACK + (64 << 20));
        assert_eq!(justified(u64::MAX), KEPT);
    }
}
