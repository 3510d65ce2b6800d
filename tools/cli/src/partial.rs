//! Files that are not complete yet, and so must not stay.
//!
//! They are made under another name and get their own when they are complete. If that does not
//! come to pass, they are removed again, also when a signal ends this program.

use std::ffi::{OsStr, OsString};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use lisafs::Errno;
use lisafs::client::ControlFile;
use nix::sys::signal::{SigSet, raise};

use crate::failure::{Stop, Why};
use crate::local::LocalDir;
use crate::signals::{hold_back, no_signals};

/// How many names to try.
const ATTEMPTS: u32 = 100;

/// The file that is being made, if there is one.
pub(crate) struct Unfinished {
    slot: Arc<Mutex<Option<Place>>>,
}

/// Where a file is made.
#[derive(Clone)]
pub(crate) enum Dir {
    Remote(Arc<ControlFile>),
    Local(Arc<LocalDir>),
}

struct Place {
    dir: Dir,
    name: OsString,
}

/// A file that is removed if it does not get its name.
#[must_use]
pub(crate) struct Partial<'u> {
    unfinished: &'u Unfinished,
    dir: Dir,
    name: OsString,
}

impl Unfinished {
    /// Has the signals that end a program remove what is not complete.
    ///
    /// To be called before there are other threads, which would get the signals otherwise.
    pub(crate) fn watch() -> Result<Unfinished, Stop> {
        let signals = hold_back()?;
        let unfinished = Unfinished {
            slot: Arc::default(),
        };
        let slot = Arc::clone(&unfinished.slot);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || end_by_signal(signals, &slot))
            .map_err(no_signals)?;
        Ok(unfinished)
    }

    /// Makes a file with `create`, which gets a name that it has to use.
    pub(crate) fn create<T>(
        &self,
        dir: Dir,
        mut create: impl FnMut(&OsStr) -> Result<T, Why>,
    ) -> Result<(T, Partial<'_>), Why> {
        let mut attempts = 0;
        loop {
            let name = temporary_name();
            // Held meanwhile, so that a signal sees the file either not made, or made and noted.
            let mut slot = lock(&self.slot);
            match create(&name) {
                Err(why) if why.is(Errno::EEXIST) && attempts < ATTEMPTS => attempts += 1,
                Err(why) => return Err(why),
                Ok(made) => {
                    let place = Place {
                        dir: dir.clone(),
                        name: name.clone(),
                    };
                    *slot = Some(place);
                    let partial = Partial {
                        unfinished: self,
                        dir,
                        name,
                    };
                    return Ok((made, partial));
                }
            }
        }
    }
}

impl Partial<'_> {
    /// Gives the file its name.
    pub(crate) fn finish(self, name: &OsStr) -> Result<(), Why> {
        match &self.dir {
            Dir::Remote(dir) => dir.rename(&self.name, dir, name, 0)?,
            Dir::Local(dir) => dir.rename(&self.name, name)?,
        }
        // Nothing has the old name any more, so there is nothing to remove.
        lock(&self.unfinished.slot).take();
        Ok(())
    }
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        // Before the lock is released: a signal waits for it.
        let mut slot = lock(&self.unfinished.slot);
        if let Some(place) = slot.take() {
            place.remove();
        }
    }
}

impl Place {
    /// Nobody is left to tell if that fails.
    fn remove(&self) {
        match &self.dir {
            Dir::Remote(dir) => drop(dir.unlink(&self.name, 0)),
            Dir::Local(dir) => drop(dir.remove_file(&self.name)),
        }
    }
}

fn lock(slot: &Mutex<Option<Place>>) -> MutexGuard<'_, Option<Place>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name that nothing has as a rule.
fn temporary_name() -> OsString {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Relaxed);
    format!(".lisafs-{:x}-{number:x}", process::id()).into()
}

/// Waits for a signal and dies of it, after what has to be done before.
fn end_by_signal(signals: SigSet, slot: &Mutex<Option<Place>>) {
    let Ok(signal) = signals.wait() else { return };
    // The next one need not wait for a server that does not answer.
    let _ = signals.thread_unblock();
    // Kept to the end: nothing is made any more.
    let slot = lock(slot);
    if let Some(place) = &*slot {
        place.remove();
    }
    let _ = raise(signal);
}
