//! The ids of a connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;
use foldhash::fast::RandomState;
use parking_lot::RwLock;

use super::backend::ServerImpl;
use super::fd::{BoundSocketFd, ControlFd, OpenFd};
use crate::Errno;
use crate::wire::FdId;

/// Ids are handed out one by one, so neighbours in time land in different shards.
const SHARDS: usize = 8;

/// What an id stands for.
pub(super) enum Fd<S: ServerImpl> {
    Control(Arc<ControlFd<S>>),
    Open(Arc<OpenFd<S>>),
    Bound(Arc<BoundSocketFd<S>>),
}

impl<S: ServerImpl> Clone for Fd<S> {
    fn clone(&self) -> Fd<S> {
        match self {
            Fd::Control(fd) => Fd::Control(Arc::clone(fd)),
            Fd::Open(fd) => Fd::Open(Arc::clone(fd)),
            Fd::Bound(fd) => Fd::Bound(Arc::clone(fd)),
        }
    }
}

/// The ids of a connection and what they stand for.
///
/// An id is never used twice: a stale one cannot reach another object. An object is taken out of
/// its shard before it is dropped, and dropped after the shard's lock is released.
pub(super) struct FdTable<S: ServerImpl> {
    shards: [CachePadded<RwLock<Shard<S>>>; SHARDS],
    next: AtomicU64,
    used: AtomicUsize,
    limit: usize,
}

/// Hashed with a secret seed: a client picks which ids to keep, but not where they land.
type Shard<S> = HashMap<u64, Fd<S>, RandomState>;

impl<S: ServerImpl> FdTable<S> {
    /// A table for at most `limit` ids at a time.
    pub(super) fn new(limit: usize) -> FdTable<S> {
        FdTable {
            shards: Default::default(),
            next: AtomicU64::new(1),
            used: AtomicUsize::new(0),
            limit,
        }
    }

    /// The number of ids in use, those about to be published included.
    pub(super) fn len(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn shard(&self, id: u64) -> Option<&RwLock<Shard<S>>> {
        let index = usize::try_from(id).ok()? % SHARDS;
        self.shards.get(index).map(|shard| &**shard)
    }

    /// # Errors
    /// EBADF for an unknown id.
    pub(super) fn get(&self, id: FdId) -> Result<Fd<S>, Errno> {
        let shard = self.shard(id.0).ok_or(Errno::EBADF)?;
        shard.read().get(&id.0).cloned().ok_or(Errno::EBADF)
    }

    /// # Errors
    /// EBADF for an unknown id, EINVAL for one of another kind.
    pub(super) fn control(&self, id: FdId) -> Result<Arc<ControlFd<S>>, Errno> {
        match self.get(id)? {
            Fd::Control(fd) => Ok(fd),
            Fd::Open(_) | Fd::Bound(_) => Err(Errno::EINVAL),
        }
    }

    /// # Errors
    /// As [`control`](Self::control).
    pub(super) fn open(&self, id: FdId) -> Result<Arc<OpenFd<S>>, Errno> {
        match self.get(id)? {
            Fd::Open(fd) => Ok(fd),
            Fd::Control(_) | Fd::Bound(_) => Err(Errno::EINVAL),
        }
    }

    /// # Errors
    /// As [`control`](Self::control).
    pub(super) fn bound(&self, id: FdId) -> Result<Arc<BoundSocketFd<S>>, Errno> {
        match self.get(id)? {
            Fd::Bound(fd) => Ok(fd),
            Fd::Control(_) | Fd::Open(_) => Err(Errno::EINVAL),
        }
    }

    /// Starts a set of ids that become known together.
    pub(super) fn pending(&self) -> Pending<'_, S> {
        Pending {
            table: self,
            fds: Vec::new(),
            published: false,
        }
    }

    /// Gives the client's reference up. Unknown ids are ignored.
    pub(super) fn close(&self, id: FdId) {
        let removed = self
            .shard(id.0)
            .and_then(|shard| shard.write().remove(&id.0));
        if removed.is_some() {
            self.release(1);
        }
    }

    /// Closes all ids.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let fds = core::mem::take(&mut *shard.write());
            self.release(fds.len());
        }
    }

    fn insert(&self, id: FdId, fd: Fd<S>) {
        if let Some(shard) = self.shard(id.0) {
            shard.write().insert(id.0, fd);
        }
    }

    fn reserve(&self) -> Result<u64, Errno> {
        let increment = |count: usize| (count < self.limit).then_some(count + 1);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, increment)
            .map_err(|_| Errno::EMFILE)?;
        let id = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |id| id.checked_add(1));
        id.map_err(|_| {
            self.release(1);
            Errno::EMFILE
        })
    }

    fn release(&self, count: usize) {
        self.used.fetch_sub(count, Ordering::Relaxed);
    }
}

/// Ids that a request has made and that nobody can look up until they are published. Dropping it
/// unpublished forgets them.
///
/// The ids come from private memory to the end: nothing that a peer can write decides what is
/// published or dropped.
pub(super) struct Pending<'t, S: ServerImpl> {
    table: &'t FdTable<S>,
    fds: Vec<(FdId, Option<Fd<S>>)>,
    published: bool,
}

impl<S: ServerImpl> Pending<'_, S> {
    /// Reserves an id, before anything is done for which it will stand.
    ///
    /// # Errors
    /// EMFILE when the connection has as many as it may.
    pub(super) fn reserve(&mut self) -> Result<FdId, Errno> {
        let id = FdId(self.table.reserve()?);
        self.fds.push((id, None));
        Ok(id)
    }

    /// Says what the reserved `id` stands for. An id that stands for nothing is not published.
    pub(super) fn fill(&mut self, id: FdId, fd: Fd<S>) {
        if let Some((_, slot)) = self
            .fds
            .iter_mut()
            .rev()
            .find(|(reserved, _)| *reserved == id)
        {
            *slot = Some(fd);
        }
    }

    /// Makes the ids known.
    pub(super) fn publish(&mut self) {
        let reserved = self.fds.len();
        self.fds.retain_mut(|(id, slot)| match slot.take() {
            Some(fd) => {
                self.table.insert(*id, fd);
                true
            }
            None => false,
        });
        self.table.release(reserved - self.fds.len());
        self.published = true;
    }

    /// Takes the ids back: the client will not hear of them.
    pub(super) fn withdraw(&mut self) {
        for (id, _) in &self.fds {
            self.table.close(*id);
        }
    }
}

impl<S: ServerImpl> Drop for Pending<'_, S> {
    fn drop(&mut self) {
        if !self.published {
            self.table.release(self.fds.len());
        }
    }
}
