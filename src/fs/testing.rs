//! Test support: file operations that run one at a time, each when a test allows it, on the test's own thread.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;

/// Returns a future that ends when the next operation may run.
pub(crate) type Pause = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

thread_local! {
    static PAUSE: RefCell<Option<Pause>> = const { RefCell::new(None) };
}

/// Makes file operations of this thread wait for `pause`, each before it runs.
pub(crate) fn pause_operations(pause: Option<Pause>) {
    PAUSE.set(pause);
}

pub(super) fn pause() -> Option<Pause> {
    PAUSE.with_borrow(Clone::clone)
}
