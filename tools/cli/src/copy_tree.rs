//! Copying all that is below a directory, in either direction.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;

use crate::console::Console;
use crate::failure::{Stop, Why};
use crate::progress::Progress;

/// What becomes of a directory that its own copies would go into, for ever deeper.
pub(crate) const INTO_ITSELF: Why = Why::Said("left out: this is where the copies go");

/// A directory that is being copied.
pub(crate) struct Frame<F, T> {
    pub(crate) from: F,
    pub(crate) to: Arc<T>,
    /// What it is called in messages.
    pub(crate) path: PathBuf,
    /// What is left to be copied.
    pub(crate) names: Vec<OsString>,
}

/// What `C` makes of a directory.
type FrameOf<C> = Frame<<C as CopyTree>::From, <C as CopyTree>::To>;

/// What copies trees.
pub(crate) trait CopyTree {
    /// A directory to copy.
    type From;
    /// A directory to copy it into.
    type To;

    /// Copies what is called `name`; a directory is returned.
    fn entry(&mut self, dir: &FrameOf<Self>, name: &OsStr) -> Result<Option<FrameOf<Self>>, Why>;

    /// Gives a directory that is complete its permissions and its time.
    fn complete(&mut self, dir: &FrameOf<Self>) -> Result<(), Why>;

    fn progress(&mut self) -> &mut Progress;

    /// Copies all that is below a directory. What cannot be copied is complained about.
    fn tree(&mut self, top: FrameOf<Self>, console: &mut Console) -> Result<(), Stop> {
        let mut stack = vec![top];
        while let Some(dir) = stack.last_mut() {
            if let Some(name) = dir.names.pop() {
                match self.entry(dir, &name) {
                    Ok(below) => stack.extend(below),
                    Err(why) => {
                        let path = dir.path.join(&name);
                        self.progress().suspend(|| console.complain(path, why))?;
                    }
                }
                continue;
            }
            // Last, because all that is written into a directory changes its time.
            if let Err(why) = self.complete(dir) {
                self.progress()
                    .suspend(|| console.complain(&dir.path, why))?;
            }
            self.progress().add_directory();
            stack.pop();
        }
        Ok(())
    }
}
