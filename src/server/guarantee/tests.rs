//! Waits for locks that others hold, pass on or come by: without a host, by the nodes of a tree.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use lisafs_patience::{Ended, eventually};
use parking_lot::RwLockWriteGuard;
use tempfile::TempDir;

use super::*;
use crate::host::{HostFs, HostOptions};
use crate::server::tree::Tree;

/// Longer than a wait in which nothing moves.
const STEPS: u32 = 6;
const STEP: Duration = Duration::from_millis(500);

struct Scene {
    _directory: TempDir,
    server: HostFs,
    tree: Tree<HostFs>,
}

impl Scene {
    fn new() -> Scene {
        let directory = tempfile::tempdir().unwrap();
        Scene {
            server: HostFs::open(directory.path(), HostOptions::default()).unwrap(),
            tree: Tree::new(),
            _directory: directory,
        }
    }

    fn root(&self) -> &Arc<Node<HostFs>> {
        self.tree.root()
    }

    fn make(&self) -> Result<(), Errno> {
        let mut stable = self.tree.locks().stable();
        stable.write(&self.server, self.root(), |_| Ok(()))
    }

    fn unlink(&self, name: Name<'_>) -> Result<(), Errno> {
        let mut stable = self.tree.locks().stable();
        stable.write_entry(&self.server, self.root(), name, |_| Ok(()))
    }

    fn link(&self, target: &Node<HostFs>) -> Result<(), Errno> {
        let mut stable = self.tree.locks().stable();
        stable.write_link(&self.server, self.root(), target, |_, _| Ok(()))
    }

    /// Has the lock of the root pass from one to the next for a while, and never to anybody else.
    fn pass_on(&self, held: RwLockWriteGuard<'_, ()>) {
        for _ in 0..STEPS {
            thread::sleep(STEP);
            self.root().contention().count();
        }
        drop(held);
    }
}

fn name() -> Name<'static> {
    Name::new(b"f").unwrap()
}

fn end<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap()
}

/// Also while nobody is to wait for it but in looks.
#[test]
fn a_queue_that_moves_is_waited_for() {
    let scene = Scene::new();
    let held = scene.root().operation_lock().write();
    scene.root().contention().begin(2 * STEPS * STEP);
    thread::scope(|scope| {
        let making = scope.spawn(|| scene.make());
        scene.pass_on(held);
        assert_eq!(end(making), Ok(()));
    });
}

/// And no longer than it moves.
#[test]
fn a_queue_that_has_come_to_a_stop_is_given_up_in_time() {
    // A machine that holds this thread up may do so once and again.
    assert!((0..5).any(|_| is_given_up_in_time()), "late each time");
}

fn is_given_up_in_time() -> bool {
    let scene = Scene::new();
    let _held = scene.root().operation_lock().write();
    thread::scope(|scope| {
        let making = scope.spawn(|| scene.make());
        let contention = scene.root().contention();
        eventually("it waits", || !contention.left().is_zero());
        contention.count();
        let since = Instant::now();
        assert_eq!(end(making), Err(Errno::EBUSY));
        since.elapsed() < LOCK_DEADLINE * 3 / 2
    })
}

/// They are asked for at any time, and are no reason to refuse what waits for the directory.
#[test]
fn readers_of_the_child_that_come_and_go_do_not_end_a_wait() {
    let scene = Scene::new();
    let child = scene.root().child(name());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ended = Ended(&over);
        let first = child.operation_lock().read();
        let unlinking = scope.spawn(|| scene.unlink(name()));
        let contention = child.contention();
        eventually("it waits for the child", || !contention.left().is_zero());
        let held = scene.root().operation_lock().write();
        scope.spawn(|| {
            while !over.load(SeqCst) {
                let _reader = child.operation_lock().read();
                thread::sleep(Duration::from_micros(100));
            }
        });
        drop(first);
        scene.pass_on(held);
        assert_eq!(end(unlinking), Ok(()));
    });
}

/// However much else is done in the directory: that is no other time for the child.
#[test]
fn a_child_that_is_never_given_back_is_given_up() {
    assert!((0..3).any(|_| child_is_given_up()), "late each time");
}

fn child_is_given_up() -> bool {
    let scene = Scene::new();
    let child = scene.root().child(name());
    let _held = child.operation_lock().read();
    thread::scope(|scope| {
        let unlinking = scope.spawn(|| scene.unlink(name()));
        let contention = child.contention();
        eventually("it waits for the child", || !contention.left().is_zero());
        scene.pass_on(scene.root().operation_lock().write());
        let since = Instant::now();
        assert_eq!(end(unlinking), Err(Errno::EBUSY));
        // After a rest and a window.
        since.elapsed() < LOCK_DEADLINE / 2
    })
}

/// However many of them there are.
#[test]
fn targets_that_are_never_given_back_leave_the_directory_to_others() {
    const TARGETS: usize = 8;
    let scene = Scene::new();
    let names = (0..TARGETS).map(|number| number.to_string());
    let targets: Vec<_> = names
        .map(|name| scene.root().child(Name::new(name.as_bytes()).unwrap()))
        .collect();
    let _held: Vec<_> = targets
        .iter()
        .map(|target| target.operation_lock().write())
        .collect();
    let over = AtomicBool::new(false);
    let (mut free, mut kept) = (0_u32, 0_u32);
    thread::scope(|scope| {
        let _ended = Ended(&over);
        let mut later = Duration::ZERO;
        for target in &targets {
            later += Duration::from_millis(60);
            let (scene, over) = (&scene, &over);
            scope.spawn(move || {
                thread::sleep(later);
                while !over.load(SeqCst) {
                    assert_eq!(scene.link(target), Err(Errno::EBUSY));
                }
            });
        }
        let since = Instant::now();
        while since.elapsed() < 2 * LOCK_DEADLINE {
            let is_free = scene.root().operation_lock().try_read().is_some();
            *(if is_free { &mut free } else { &mut kept }) += 1;
            thread::sleep(Duration::from_millis(1));
        }
        over.store(true, SeqCst);
    });
    // It is looked at for microseconds; the rest is for how badly that is measured.
    assert!(kept < free / 4, "free {free} times, kept {kept} times");
}

/// What has the type of a file may be the node of a directory by now.
#[test]
fn a_directory_is_not_linked_into_itself() {
    let scene = Scene::new();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ended = Ended(&over);
        scope.spawn(|| {
            while !over.load(SeqCst) {
                scene.make().unwrap();
            }
        });
        let linking = scope.spawn(|| scene.link(scene.root()));
        eventually("it is refused", || linking.is_finished());
        assert_eq!(end(linking), Err(Errno::EBUSY));
    });
}
