//! A request to stop, which any thread can make and any thread can see.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request to stop. Clones are the same request; nothing takes it back.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks everyone who holds a clone to stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether someone asked.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

thread_local! {
    /// What [`give_up_if_asked`] on this thread goes by.
    static CURRENT: RefCell<Option<Stop>> = const { RefCell::new(None) };
}

/// What unwinds from [`give_up_if_asked`] to [`until`].
struct GivenUp;

/// Runs `work`, which must leave nothing half changed where it calls [`give_up_if_asked`]; `None` where it gave
/// up there.
///
/// An update of a large model takes minutes on a processor. It is given up by unwinding, since Burn's
/// backward pass calls operations from inside and knows no other way out.
pub(crate) fn until<T>(stop: &Stop, work: impl FnOnce() -> T) -> Option<T> {
    let outer = CURRENT.replace(Some(stop.clone()));
    let result = catch_unwind(AssertUnwindSafe(work));
    CURRENT.set(outer);
    match result {
        Ok(value) => Some(value),
        Err(payload) if payload.is::<GivenUp>() => None,
        Err(panic) => resume_unwind(panic),
    }
}

/// Ends the work of the [`until`] around this call, if there is one and its stop is requested.
pub(crate) fn give_up_if_asked() {
    let is_asked = CURRENT.with_borrow(|stop| stop.as_ref().is_some_and(Stop::is_requested));
    if is_asked {
        // Unlike `panic_any`, this prints nothing.
        resume_unwind(Box::new(GivenUp));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_given_up_only_inside_and_only_when_asked() {
        let stop = Stop::default();
        give_up_if_asked();
        let work = || {
            give_up_if_asked();
            7
        };
        assert_eq!(until(&stop, work), Some(7));
        stop.clone().request();
        assert_eq!(until(&stop, work), None);
        // Nothing is left behind for work that nobody may stop.
        give_up_if_asked();
        assert_eq!(until(&Stop::default(), work), Some(7));
        let panic = catch_unwind(AssertUnwindSafe(|| until(&stop, || panic!("a fault"))));
        assert!(panic.is_err_and(|fault| fault.is::<&str>()));
    }
}
