//! What takes the inside of a handle to bring about.

use std::fs::File as Opened;
use std::time::Instant;

use tempfile::TempDir;

use super::place::{PATIENCE, lock};
use super::*;

/// The handle of a directory, and its attributes in so far as they make an identity.
fn directory() -> (TempDir, Handle, Attributes) {
    let directory = tempfile::tempdir().unwrap();
    let root = Opened::open(directory.path()).unwrap();
    let handle = Handle::root(root.into(), Quota::new(8)).unwrap();
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
        Handle(Arc::new(File {
            file_type: FileType::Directory,
            filesystem: remembering,
            identity,
            quota: Arc::clone(&self.0.quota),
            opened: OnceLock::new(),
            looks: AtomicU8::new(0),
            ahead: AtomicU8::new(0),
            place: RwLock::new(Some(Place::new(self, Name::new(b"d").unwrap()))),
        }))
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
    let root = Handle::root(root.into(), Quota::new(1)).unwrap();
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
