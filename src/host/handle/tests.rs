//! What takes the inside of a handle to bring about.

use std::fs::File as Opened;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use tempfile::TempDir;

use super::descriptors::Closing;
use super::moving::lock;
use super::place::PATIENCE;
use super::*;
use crate::server::Quota;
use crate::server::guarantee::LOCK_DEADLINE;

/// The handle of a directory, and its attributes in so far as they make an identity.
fn directory() -> (TempDir, Handle, Attributes) {
    let directory = tempfile::tempdir().unwrap();
    let root = Opened::open(directory.path()).unwrap();
    let handle = Handle::root(root.into(), &Descriptors::new(Quota::new(8))).unwrap();
    let mut attributes = handle.with_fd(look).unwrap();
    // As on a file system that is good for it, whatever this one is.
    attributes.stat.mask |= Identity::MASK;
    attributes.stat.btime.sec = 0;
    (directory, handle, attributes)
}

impl Handle {
    fn below(&self, attributes: &Attributes) -> Handle {
        self.below_for(&self.0.descriptors, attributes)
    }

    fn below_for(&self, descriptors: &Arc<Descriptors>, attributes: &Attributes) -> Handle {
        let remembering = FileSystem {
            remembers: true,
            ..self.0.filesystem
        };
        let identity = Identity::of(attributes);
        let place = Place::new(self, Name::new(b"d").unwrap());
        Handle::new(
            FileType::Directory,
            remembering,
            identity,
            descriptors,
            None,
            Some(place),
        )
    }
}

#[test]
fn a_chain_of_any_length_is_released_on_a_small_stack() {
    let (_directory, root, attributes) = directory();
    let mut deepest = root.clone();
    for _ in 0..100_000 {
        deepest = deepest.below(&attributes);
    }
    let released = thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(move || drop(deepest))
        .unwrap();
    released.join().unwrap();
    assert_eq!(Arc::strong_count(&root.0), 1);
}

#[test]
fn a_rename_waits_so_long_for_who_is_stuck_and_no_longer() {
    let (path, root, attributes) = directory();
    let fd = Opened::open(path.path()).unwrap();
    let handles = [(); 2].map(|()| root.below(&attributes));
    let [free, stuck] = &handles;
    let looking = stuck.0.place.read();
    let start = Instant::now();
    assert_eq!(lock(&handles, &root, fd.as_fd()).err(), Some(Errno::EBUSY));
    assert!(start.elapsed() >= PATIENCE);
    // Nothing stays locked.
    assert!(free.0.place.try_write().is_some());
    drop(looking);
    assert_eq!(lock(&handles, &root, fd.as_fd()).unwrap().len(), 2);
}

/// And what is below it, if that has to be opened again.
#[test]
fn what_is_being_renamed_is_waited_for_and_not_for_ever() {
    let (_directory, root, attributes) = directory();
    let moved = root.below(&attributes);
    let below = moved.below(&attributes);
    let renaming = moved.0.place.write();
    assert_eq!(moved.stat().err(), Some(Errno::EBUSY));
    assert_eq!(below.with_fd(look).err(), Some(Errno::EBUSY));
    drop(renaming);
    for handle in [moved, below] {
        assert_eq!(handle.with_fd(look).err(), Some(Errno::ESTALE));
    }
}

/// Whoever looks often, or walks through, has more than one way to go on, all of which lead there.
#[test]
fn what_is_being_renamed_is_waited_for_once() {
    let (_directory, root, attributes) = directory();
    let moved = root.below(&attributes);
    let inner = moved.below(&attributes);
    let node = NodeFiles::default();
    let mut child = inner.below(&attributes);
    node.add(&mut child);
    let _renaming = moved.0.place.write();
    moved.0.looks.store(u8::MAX, Ordering::Relaxed);
    let start = Instant::now();
    assert_eq!(moved.stat().err(), Some(Errno::EBUSY));
    assert!(start.elapsed() < 2 * LOCK_DEADLINE);
    let start = Instant::now();
    let walked = inner.walk_through(Name::new(b"d").unwrap(), Some(&node));
    assert_eq!(walked.err(), Some(Errno::EBUSY));
    assert!(start.elapsed() < 2 * LOCK_DEADLINE);
}

/// However many connections know a file there: none of them keeps others from removing it.
#[test]
fn those_who_are_about_to_lose_a_name_wait_together() {
    let (_directory, root, attributes) = directory();
    let node = NodeFiles::default();
    let moved = connections(&root, &attributes, 4);
    let below = |(connection, moved): &(_, Handle)| moved.below_for(connection, &attributes);
    let mut known: Vec<_> = moved.iter().map(below).collect();
    known.iter_mut().for_each(|handle| node.add(handle));
    let _renaming: Vec<_> = moved
        .iter()
        .map(|(_, moved)| moved.0.place.write())
        .collect();
    let start = Instant::now();
    let leaving = node.hold_all();
    assert!((LOCK_DEADLINE..3 * LOCK_DEADLINE).contains(&start.elapsed()));
    leaving.gone(&root);
    for lost in &known {
        assert_eq!(lost.stat().err(), Some(Errno::ESTALE));
    }
}

/// A link that cannot be kept is removed, and what others have put in its place meanwhile is not.
#[test]
fn what_was_linked_is_identified_before_there_may_be_no_room_for_it() {
    let (path, _, _) = directory();
    std::fs::write(path.path().join("file"), "").unwrap();
    let root = Opened::open(path.path()).unwrap();
    let root = Handle::root(root.into(), &Descriptors::new(Quota::new(1))).unwrap();
    let file = Opened::open(path.path().join("file")).unwrap();
    let (name, mut identified) = (Name::new(b"file").unwrap(), None);
    // Either it can be known by its name, or there is no room, and it is identified all the same.
    let linked = root.linked(name, file.as_fd(), |stat| identified = Some(stat.ino));
    assert!(linked.is_ok() || linked.err() == Some(Errno::EMFILE));
    assert_eq!(identified, Some(stat(file.as_fd()).unwrap().ino));
}

/// So many connections, each with a handle of the same file.
fn connections(
    root: &Handle,
    attributes: &Attributes,
    count: usize,
) -> Vec<(Arc<Descriptors>, Handle)> {
    let connections = (0..count).map(|_| Descriptors::new(Quota::new(8)));
    let handle = |descriptors| {
        let handle = root.below_for(&descriptors, attributes);
        (descriptors, handle)
    };
    connections.map(handle).collect()
}

#[test]
fn each_connection_has_one_handle_of_a_file_on_a_node() {
    let (path, root, attributes) = directory();
    let fd = Opened::open(path.path()).unwrap();
    let node = NodeFiles::default();
    let mut known = connections(&root, &attributes, 20);
    known.iter_mut().for_each(|(_, handle)| node.add(handle));
    for (connection, handle) in known.iter().rev() {
        for _ in 0..3 {
            let mut another = root.below_for(connection, &attributes);
            assert!(!Arc::ptr_eq(&another.0, &handle.0));
            node.add(&mut another);
            assert!(Arc::ptr_eq(&another.0, &handle.0));
            node.add(&mut another);
        }
        let directory = node.directory(connection).unwrap();
        assert!(Arc::ptr_eq(&directory.0, &handle.0));
    }
    assert_eq!((node.len(), node.handles().len()), (20, 20));
    assert_eq!(lock(&node.handles(), &root, fd.as_fd()).unwrap().len(), 20);
    // Another connection knows nothing of it.
    let other = Descriptors::new(Quota::new(8));
    assert!(node.directory(&other).is_none());
}

/// Also if another one was there meanwhile.
#[test]
fn a_directory_that_comes_back_is_shared_again() {
    let (_directory, root, mut attributes) = directory();
    let node = NodeFiles::default();
    let mut known = Vec::new();
    for number in 0..3 {
        attributes.stat.ino = 1_000_000 + number;
        let (mut handle, other) = (root.below(&attributes), connections(&root, &attributes, 1));
        node.add(&mut handle);
        other
            .into_iter()
            .for_each(|(_, mut handle)| node.add(&mut handle));
        known.push((handle, attributes));
    }
    let shared = || node.directory(&root.0.descriptors).unwrap();
    for number in [0, 2, 1, 1] {
        let (handle, attributes) = &known[number];
        node.add(&mut root.below(attributes));
        assert!(Arc::ptr_eq(&shared().0, &handle.0));
    }
    // They are closed in turn, and the last one of those that are left is shared.
    known.remove(1);
    while let Some((handle, _)) = known.last() {
        assert!(Arc::ptr_eq(&shared().0, &handle.0));
        known.pop();
    }
    assert!(node.directory(&root.0.descriptors).is_none());
}

/// However many are held: who comes and goes again and again must not have all of them looked at each
/// time.
#[test]
fn those_that_are_gone_are_looked_for_rarely() {
    let (_directory, root, attributes) = directory();
    let node = NodeFiles::default();
    let mut held = connections(&root, &attributes, 63);
    held.iter_mut().for_each(|(_, handle)| node.add(handle));
    let mut gone = connections(&root, &attributes, 1000);
    let full = gone.drain(..).map(|(connection, mut handle)| {
        let is_full = node.room() == 0;
        node.add(&mut handle);
        // There are no others where this one was as long as it is there.
        (connection, is_full)
    });
    let full: Vec<_> = full.collect();
    let full = full.iter().filter(|(_, is_full)| *is_full).count();
    assert!((1..=2 * 1000 / held.len()).contains(&full), "{full}");
}

/// Others put one file after the other there, all of which the client holds.
#[test]
fn a_node_knows_few_files_of_a_connection_and_the_next_are_open_or_lost() {
    let (_directory, root, mut attributes) = directory();
    let node = NodeFiles::default();
    let mut held = Vec::new();
    for number in 0..100 {
        attributes.stat.ino = 1_000_000 + number;
        let mut handle = root.below(&attributes);
        node.add(&mut handle);
        held.push(handle);
    }
    assert_eq!(node.len(), 8);
    for lost in &held[8..] {
        assert_eq!(lost.with_fd(look).err(), Some(Errno::ESTALE));
        assert_eq!(lost.stat().err(), Some(Errno::ESTALE));
        // It does not keep what is above.
        assert!(lost.0.place.read().is_none());
    }
    drop(held);
    node.add(&mut root.below(&attributes));
    assert_eq!(node.len(), 1);
}

/// The handle of a directory that exists in one that is known by its identity; `None`, and a word
/// about it, where there is no file system for that.
fn closable() -> Option<(TempDir, Handle, Handle, Tick)> {
    let path = tempfile::tempdir().unwrap();
    let root = Opened::open(path.path()).unwrap();
    let root = Handle::root(root.into(), &Descriptors::new(Quota::new(8))).unwrap();
    let before = Tick::now();
    std::fs::create_dir(path.path().join("d")).unwrap();
    let (child, _) = root.walk_open(Name::new(b"d").unwrap()).unwrap();
    if child.0.identity.is_none() {
        crate::host::tests::skip("no file system here has birth times to go by");
        return None;
    }
    Some((path, root, child, before))
}

/// A tick after the birth of the file, whatever becomes of the clock meanwhile.
fn later(file: &Handle) -> Tick {
    let identity = file.0.identity.unwrap();
    std::iter::repeat_with(Tick::now)
        .find(|now| identity.outlasts(*now))
        .unwrap()
}

#[test]
fn a_file_is_closed_once_it_can_be_told_from_what_comes_after_it() {
    let Some((_path, root, child, before)) = closable() else {
        return;
    };
    assert!(matches!(child.0.close(before, Of::Placed), Closing::NotNow));
    let now = later(&child);
    assert!(matches!(child.0.close(now, Of::Placed), Closing::Done(_)));
    assert!(matches!(child.0.close(now, Of::Placed), Closing::Never));
    assert!(matches!(root.0.close(now, Of::Placed), Closing::Never));
    child.with_fd(look).unwrap();
    assert!(matches!(child.0.close(now, Of::Placed), Closing::Done(_)));
}

#[test]
fn what_is_in_use_or_held_is_not_closed() {
    let Some((_path, _root, child, _)) = closable() else {
        return;
    };
    let now = later(&child);
    child
        .with_fd(|_| {
            assert!(matches!(child.0.close(now, Of::Placed), Closing::NotNow));
            Ok(())
        })
        .unwrap();
    child.hold().unwrap();
    assert!(matches!(child.0.close(now, Of::Placed), Closing::Never));
    assert!(!child.is_named());
}

/// The directory into which others have moved `child`, which was opened for that.
fn moved_by_others(root: &Handle, child: &Handle) -> Handle {
    let directory = root.duplicate(&root.0.descriptors).unwrap();
    directory.0.stays.store(ADRIFT, Ordering::Relaxed);
    *child.0.place.write() = Some(Place::new(&directory, Name::new(b"d").unwrap()));
    directory
}

/// And that directory is closed for want of descriptors.
#[test]
fn what_would_be_lost_is_not_closed_before_what_is_found_again() {
    let Some((_path, root, child, _)) = closable() else {
        return;
    };
    let now = later(&child);
    let directory = moved_by_others(&root, &child);
    assert!(matches!(directory.0.close(now, Of::Any), Closing::Done(_)));
    assert!(matches!(child.0.close(now, Of::Placed), Closing::NotNow));
    assert!(child.stat().is_ok());
    assert!(matches!(child.0.close(now, Of::Any), Closing::Done(_)));
    assert_eq!(child.stat().err(), Some(Errno::ESTALE));
}

/// Whoever opens it then has its lock and wants the ring, which is locked by who closes.
#[test]
fn closing_waits_for_nobody_who_opens_the_directory() {
    let Some((_path, root, child, _)) = closable() else {
        return;
    };
    let now = later(&child);
    let directory = moved_by_others(&root, &child);
    let opening = directory.0.opened.write();
    let (told, closed) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| told.send(child.0.close(now, Of::Placed)));
        let closed = closed.recv_timeout(lisafs_patience::PATIENCE);
        drop(opening);
        assert!(matches!(closed, Ok(Closing::Done(_))));
    });
}

/// As many of these as a client likes are on one id, or else each holds the next above it.
#[test]
fn what_is_lost_with_its_name_keeps_no_directory() {
    let Some((_path, root, mut child, _)) = closable() else {
        return;
    };
    let node = NodeFiles::default();
    node.add(&mut child);
    assert!(matches!(
        child.0.close(later(&child), Of::Placed),
        Closing::Done(_)
    ));
    let taken: Vec<_> = std::iter::from_fn(|| root.reserve().ok()).collect();
    // It can be opened for a moment, but not kept.
    child.with_fd(look).unwrap();
    node.hold_all().gone(&root);
    drop(taken);
    assert!(child.0.place.read().is_none());
    assert_eq!(child.with_fd(look).err(), Some(Errno::ESTALE));
    assert_eq!(child.stat().err(), Some(Errno::ESTALE));
}

/// The id that a walk has just given out must not be one that leads to the old place.
#[test]
fn what_is_found_elsewhere_is_kept_though_somebody_is_stuck_where_it_was() {
    let Some((path, root, _, _)) = closable() else {
        return;
    };
    let [old, new] = ["old", "new"].map(|name| {
        std::fs::create_dir(path.path().join(name)).unwrap();
        root.walk_open(Name::new(name.as_bytes()).unwrap())
            .unwrap()
            .0
    });
    std::fs::create_dir(path.path().join("old/d")).unwrap();
    let name = Name::new(b"d").unwrap();
    let (mut known, stat) = old.walk_open(name).unwrap();
    let node = NodeFiles::default();
    node.add(&mut known);
    assert!(matches!(
        known.0.close(later(&known), Of::Placed),
        Closing::Done(_)
    ));
    std::fs::rename(path.path().join("old/d"), path.path().join("new/d")).unwrap();
    let walk = || {
        let (mut found, _) = new.walk(name).unwrap();
        assert!(found.is_named());
        node.add(&mut found);
        found
    };
    let looking = known.0.place.read();
    let found = walk();
    assert_eq!(found.stat().map(|stat| stat.ino), Ok(stat.ino));
    assert!(!Arc::ptr_eq(&found.0, &known.0) && !found.is_named());
    drop(looking);
    // And then they are one again.
    assert_eq!(known.stat().err(), Some(Errno::ESTALE));
    assert!(Arc::ptr_eq(&walk().0, &known.0));
    assert_eq!(known.stat().map(|stat| stat.ino), Ok(stat.ino));
}

#[test]
fn a_ring_does_not_grow_with_what_is_gone() {
    let Some((_path, root, _, _)) = closable() else {
        return;
    };
    for _ in 0..1000 {
        let (mut child, _) = root.walk_open(Name::new(b"d").unwrap()).unwrap();
        NodeFiles::default().add(&mut child);
    }
    let descriptors = &root.0.descriptors;
    assert!(descriptors.listed() <= 16, "{}", descriptors.listed());
}
