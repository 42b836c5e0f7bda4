//! Weights that are packed once for many inferences.

#[cfg(feature = "cpu")]
use std::{
    any::{Any, TypeId},
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, MutexGuard, PoisonError},
};

#[cfg(feature = "cpu")]
use super::cpu::tape;

/// Weights packed for the kernels, kept from their second use on.
///
/// A single inference gains nothing from keeping: it packs every layer into the memory that the one
/// before has freed, which is in the cache and needs no clearing by the kernel.
///
/// Only the processor's kernels pack; elsewhere it stays empty. What is kept holds on to the
/// weights it was made of, so it can never belong to others.
#[derive(Default)]
pub struct Prepared {
    #[cfg(feature = "cpu")]
    packed: std::sync::Mutex<HashMap<(usize, TypeId), Kept>>,
}

/// The weights that were packed once, and what became of them when they were packed again.
#[cfg(feature = "cpu")]
type Kept = (Vec<tape::Values>, Option<Arc<dyn Any + Send + Sync>>);

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

#[cfg(feature = "cpu")]
impl Prepared {
    /// What `pack` makes of the weights, from `prepared` where it is known already.
    pub(super) fn packed<P: Any + Send + Sync, const N: usize>(
        prepared: Option<&Self>,
        weights: [&tape::Values; N],
        pack: impl FnOnce([&[f32]; N]) -> P,
    ) -> Arc<P> {
        let slices = || weights.map(tape::Values::get::<f32>);
        let Some(prepared) = prepared else {
            return Arc::new(pack(slices()));
        };
        // One weight may be packed in two ways: alone, and with others beside it.
        let key = (slices()[0].as_ptr().addr(), TypeId::of::<(P, [(); N])>());
        let place = |of: &tape::Values| of.get::<f32>().as_ptr().addr();
        let same =
            |kept: &[tape::Values]| weights.into_iter().map(place).eq(kept.iter().map(place));
        let again = match prepared.lock().entry(key) {
            Entry::Vacant(entry) => {
                entry.insert((weights.map(Clone::clone).to_vec(), None));
                false
            }
            // The same weight with another bias.
            Entry::Occupied(mut entry) if !same(&entry.get().0) => {
                entry.insert((weights.map(Clone::clone).to_vec(), None));
                false
            }
            Entry::Occupied(entry) => match &entry.get().1 {
                Some(packed) => {
                    return Arc::clone(packed)
                        .downcast()
                        .expect("the key holds the type");
                }
                None => true,
            },
        };
        // Not under the lock: packing runs on the pool, and a thread of the pool that waits there may
        // take up another inference, which would wait for the lock that it holds itself.
        let packed = Arc::new(pack(slices()));
        if again && let Some((_, kept)) = prepared.lock().get_mut(&key) {
            let packed: Arc<dyn Any + Send + Sync> = Arc::<P>::clone(&packed);
            *kept = Some(packed);
        }
        packed
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(usize, TypeId), Kept>> {
        self.packed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
