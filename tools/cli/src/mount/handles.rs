//! Numbers for what is open.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fuser::FileHandle;
use parking_lot::RwLock;

use super::refusal::Refusal;

/// What is open, by the number that the kernel was given for it.
#[derive(Debug)]
pub(super) struct Handles<T> {
    next: AtomicU64,
    open: RwLock<HashMap<u64, Arc<T>>>,
}

impl<T> Handles<T> {
    pub(super) fn new() -> Handles<T> {
        Handles {
            next: AtomicU64::new(1),
            open: RwLock::default(),
        }
    }

    pub(super) fn insert(&self, what: T) -> FileHandle {
        let number = self.next.fetch_add(1, Relaxed);
        self.open.write().insert(number, Arc::new(what));
        FileHandle(number)
    }

    /// # Errors
    /// EBADF for a number that is not in use.
    pub(super) fn get(&self, handle: FileHandle) -> Result<Arc<T>, Refusal> {
        let open = self.open.read();
        open.get(&handle.0).map(Arc::clone).ok_or(Refusal::BAD_FILE)
    }

    /// # Errors
    /// EBADF for a number that is not in use.
    pub(super) fn remove(&self, handle: FileHandle) -> Result<Arc<T>, Refusal> {
        self.open.write().remove(&handle.0).ok_or(Refusal::BAD_FILE)
    }

    /// The first that `is_right`, if there is any; looks at all.
    pub(super) fn find(&self, is_right: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let open = self.open.read();
        open.values().find(|open| is_right(open)).map(Arc::clone)
    }
}
