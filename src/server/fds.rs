//! The ids of a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use foldhash::fast::RandomState;
use parking_lot::RwLock;
use smallvec::SmallVec;

use super::backend::ServerImpl;
use super::fd::{BoundSocketFd, ControlFd, OpenFd};
use super::quota::{Quota, Share};
use super::slack::Shrinking;
use super::unwind;
use crate::Errno;
use crate::observe::rarely;
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
    ids: Arc<Quota>,
    /// What ids stand for, and what lives on without one: an open file keeps the ControlFd that it
    /// was opened from. Without a limit of its own if the back end counts descriptors: there are at most
    /// two for each id then, and those of running requests.
    objects: Arc<Quota>,
    /// The connection has ended: nothing gets an id any more.
    closed: AtomicBool,
}

/// Hashed with a secret seed: a client picks which ids to keep, but not where they land.
type Shard<S> = Shrinking<u64, (Fd<S>, Share), RandomState>;

impl<S: ServerImpl> FdTable<S> {
    /// A table for as many ids at a time as `ids` permits, and objects as `objects` does.
    pub(super) fn new(ids: Arc<Quota>, objects: Arc<Quota>) -> FdTable<S> {
        FdTable {
            shards: Default::default(),
            next: AtomicU64::new(1),
            ids,
            objects,
            closed: AtomicBool::new(false),
        }
    }

    /// The number of ids in use, those about to be published included.
    pub(super) fn len(&self) -> usize {
        self.ids.used()
    }

    /// The number of objects, with an id or without.
    pub(super) fn object_count(&self) -> usize {
        self.objects.used()
    }

    /// The share of an object that gets no id.
    ///
    /// # Errors
    /// EMFILE when the connection holds as many as it may.
    pub(super) fn share(&self) -> Result<Share, Errno> {
        self.objects.take()
    }

    fn shard(&self, id: u64) -> Option<&RwLock<Shard<S>>> {
        let index = usize::try_from(id).ok()? % SHARDS;
        self.shards.get(index).map(|shard| &**shard)
    }

    /// # Errors
    /// EBADF for an unknown id.
    pub(super) fn get(&self, id: FdId) -> Result<Fd<S>, Errno> {
        let shard = self.shard(id.0).ok_or(Errno::EBADF)?;
        let shard = shard.read();
        shard
            .get(&id.0)
            .map(|(fd, _)| fd.clone())
            .ok_or(Errno::EBADF)
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
            fds: SmallVec::new(),
        }
    }

    /// Gives the client's reference up. Unknown ids are ignored.
    pub(super) fn close(&self, id: FdId) {
        // Bound to a variable, so that the lock is released before the object is dropped.
        let _closed = self
            .shard(id.0)
            .and_then(|shard| shard.write().remove(&id.0));
    }

    /// Closes all ids for good: what a request that was stuck makes later is dropped at once.
    pub(super) fn clear(&self) {
        self.closed.store(true, Ordering::Release);
        for shard in &self.shards {
            let closed = core::mem::take(&mut *shard.write());
            // One at a time: a map that is dropped keeps what is behind a panic, and the end of a
            // connection has more to do than this.
            if unwind::for_each(closed.into_map(), drop).is_err() {
                rarely!(
                    error,
                    "a back end panicked while a file was closed, please report it"
                );
            }
        }
    }

    fn insert(&self, id: FdId, fd: Fd<S>, share: Share) {
        let Some(shard) = self.shard(id.0) else {
            return;
        };
        let mut shard = shard.write();
        // Looked at with the lock held, which `clear` takes after it has closed the table.
        if !self.closed.load(Ordering::Acquire) {
            shard.insert(id.0, (fd, share));
        }
    }

    fn reserve(&self) -> Result<(FdId, Share), Errno> {
        let share = self.ids.take()?;
        let id = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |id| id.checked_add(1))
            .map_err(|_| Errno::EMFILE)?;
        Ok((FdId(id), share))
    }
}

/// Ids that a request has made and that nobody can look up until they are published. Dropping it
/// unpublished forgets them.
///
/// The ids come from private memory to the end: nothing that a peer can write decides what is
/// published or dropped.
pub(super) struct Pending<'t, S: ServerImpl> {
    table: &'t FdTable<S>,
    /// Most requests make one or two.
    fds: SmallVec<[(FdId, Slot<S>); 2]>,
}

/// What has become of a reserved id.
enum Slot<S: ServerImpl> {
    Reserved(Share),
    Filled(Fd<S>, Share),
    Published,
}

impl<S: ServerImpl> Pending<'_, S> {
    /// Reserves an id and an object, before anything is done for which they will stand.
    ///
    /// # Errors
    /// EMFILE when the connection has as many ids or objects as it may.
    pub(super) fn reserve(&mut self) -> Result<(FdId, Share), Errno> {
        let object = self.table.objects.take()?;
        let (id, share) = self.table.reserve()?;
        self.fds.push((id, Slot::Reserved(share)));
        Ok((id, object))
    }

    /// Says what the reserved `id` stands for. An id that stands for nothing is not published.
    pub(super) fn fill(&mut self, id: FdId, fd: Fd<S>) {
        let reserved = self
            .fds
            .iter_mut()
            .rev()
            .find(|(reserved, _)| *reserved == id);
        if let Some((_, slot)) = reserved {
            *slot = match core::mem::replace(slot, Slot::Published) {
                Slot::Reserved(share) | Slot::Filled(_, share) => Slot::Filled(fd, share),
                Slot::Published => Slot::Published,
            };
        }
    }

    /// Makes the ids known.
    pub(super) fn publish(&mut self) {
        for (id, slot) in &mut self.fds {
            if let Slot::Filled(fd, share) = core::mem::replace(slot, Slot::Published) {
                self.table.insert(*id, fd, share);
            }
        }
    }

    /// Takes the ids back: the client will not hear of them.
    pub(super) fn withdraw(&mut self) {
        for (id, _) in self.fds.drain(..) {
            self.table.close(id);
        }
    }
}

#[cfg(all(test, feature = "host"))]
mod tests {
    use super::*;
    use crate::host::HostFs;

    #[test]
    fn the_last_id_is_given_once() {
        let table = FdTable::<HostFs>::new(Quota::new(100), Quota::new(100));
        table.next.store(u64::MAX - 2, Ordering::Relaxed);
        let mut pending = table.pending();
        let mut given = Vec::new();
        let refused = loop {
            match pending.reserve() {
                Ok((id, _object)) => given.push(id.0),
                Err(errno) => break errno,
            }
        };
        assert_eq!(refused, Errno::EMFILE);
        assert_eq!(given, [u64::MAX - 2, u64::MAX - 1]);
        assert_eq!(pending.reserve().err(), Some(Errno::EMFILE));
        drop(pending);
        assert_eq!((table.len(), table.object_count()), (0, 0));
    }
}
