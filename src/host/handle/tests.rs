//! What takes the inside of a handle to bring about.

use std::fs::File as Opened;
use std::time::Instant;

use tempfile::TempDir;

use super::descriptors::Closing;
use super::place::{PATIENCE, lock};
use super::*;
use crate::server::Quota;

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
            &self.0.descriptors,
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
    let released = std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(move || drop(deepest))
        .unwrap();
    released.join().unwrap();
    assert_eq!(Arc::strong_count(&root.0), 1);
}

#[test]
fn a_rename_waits_so_long_for_who_is_stuck_and_no_longer() {
    let (_directory, root, attributes) = directory();
    let handles = [(); 2].map(|()| root.below(&attributes));
    let [free, stuck] = &handles;
    let looking = stuck.0.place.read();
    let start = Instant::now();
    assert_eq!(lock(&handles).err(), Some(Errno::EBUSY));
    assert!(start.elapsed() >= PATIENCE);
    // Nothing stays locked.
    assert!(free.0.place.try_write().is_some());
    drop(looking);
    assert_eq!(lock(&handles).unwrap().len(), 2);
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

#[test]
fn a_handle_that_is_known_twice_is_locked_once() {
    let (_directory, root, attributes) = directory();
    let node = NodeFiles::default();
    let [one, other] = [(); 2].map(|()| root.below(&attributes));
    [&one, &other, &one]
        .into_iter()
        .for_each(|handle| node.add(handle));
    let handles = node.handles();
    assert_eq!(handles.len(), 2);
    assert_eq!(lock(&handles).unwrap().len(), 2);
}

/// However many are held: who holds them and walks to one more again and again must not have all of
/// them looked at each time.
#[test]
fn those_that_are_gone_are_looked_for_rarely() {
    let (_directory, root, attributes) = directory();
    let node = NodeFiles::default();
    let held = [(); 63].map(|()| root.below(&attributes));
    held.iter().for_each(|handle| node.add(handle));
    let full = (0..1000).filter(|_| {
        let is_full = node.room() == 0;
        node.add(&root.below(&attributes));
        is_full
    });
    let full = full.count();
    assert!((1..=2 * 1000 / held.len()).contains(&full), "{full}");
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
    assert!(matches!(child.0.close(before), Closing::NotNow));
    let now = later(&child);
    assert!(matches!(child.0.close(now), Closing::Done(_)));
    assert!(matches!(child.0.close(now), Closing::Never));
    assert!(matches!(root.0.close(now), Closing::Never));
    child.with_fd(look).unwrap();
    assert!(matches!(child.0.close(now), Closing::Done(_)));
}

#[test]
fn what_is_in_use_or_held_is_not_closed() {
    let Some((_path, _root, child, _)) = closable() else {
        return;
    };
    let now = later(&child);
    child
        .with_fd(|_| {
            assert!(matches!(child.0.close(now), Closing::NotNow));
            Ok(())
        })
        .unwrap();
    child.hold().unwrap();
    assert!(matches!(child.0.close(now), Closing::Never));
    assert!(!child.is_named());
}

#[test]
fn a_ring_does_not_grow_with_what_is_gone() {
    let Some((_path, root, _, _)) = closable() else {
        return;
    };
    for _ in 0..1000 {
        let (child, _) = root.walk_open(Name::new(b"d").unwrap()).unwrap();
        NodeFiles::default().add(&child);
    }
    let descriptors = &root.0.descriptors;
    assert!(descriptors.listed() <= 16, "{}", descriptors.listed());
}
