//! More files than descriptors.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::named::{grounds, node, settle};
use super::races::rename_patiently;
use super::{Ended, Served, flags, name};
use crate::Errno;
use crate::host::handle::Handle;
use crate::host::handle::place::NodeFiles;
use crate::host::names::{Known, rename, unlink};
use crate::server::{Quota, RenameFlags, RenameOutcome, ServerImpl};

pub(super) const LIMIT: usize = 8;

/// What a client knows: a handle and the node that it is on.
pub(super) struct Walked {
    pub(super) handle: Handle,
    pub(super) node: NodeFiles,
}

impl Walked {
    pub(super) fn at(handle: Handle) -> Walked {
        let node = node(&[&handle]);
        Walked { handle, node }
    }

    pub(super) fn child(&self, child: &str) -> Result<Walked, Errno> {
        let (handle, _) = self.handle.walk(name(child))?;
        Ok(Walked::at(handle))
    }
}

impl Served {
    /// The root of a connection that may have so many descriptors.
    pub(super) fn limited(&mut self, limit: usize) -> (Walked, Arc<Quota>) {
        let quota = Quota::new(limit);
        (self.counted(&quota), quota)
    }

    /// The root of a connection whose descriptors are counted there.
    pub(super) fn counted(&mut self, quota: &Arc<Quota>) -> Walked {
        assert!(self.host.count_descriptors(quota));
        let root = self.host.mount_at(b"/").unwrap().control.handle().clone();
        Walked::at(root)
    }

    /// Directories with a file in each, which says which directory it is in.
    pub(super) fn directories(&self, count: usize) -> Vec<String> {
        let names: Vec<_> = (0..count).map(|number| format!("d{number}")).collect();
        for name in &names {
            fs::create_dir(self.path(name)).unwrap();
            fs::write(self.path(name).join("file"), name).unwrap();
        }
        if let Some(last) = names.last() {
            settle(&self.path(last).join("file"));
        }
        names
    }
}

#[test]
fn directories_beyond_the_limit_are_walked_through_all_the_same() {
    for count in [LIMIT - 1, LIMIT, LIMIT + 1, 10 * LIMIT] {
        for mut served in grounds() {
            let names = served.directories(count);
            let (root, quota) = served.limited(LIMIT);
            let known: Vec<_> = names
                .iter()
                .map(|name| {
                    let directory = root.child(name).unwrap();
                    let file = directory.child("file").unwrap();
                    assert!(quota.used() <= LIMIT);
                    (name, directory, file)
                })
                .collect();
            for (name, directory, file) in known.iter().rev() {
                assert_eq!(served.content(&file.handle).as_ref(), Ok(*name));
                assert_eq!(
                    served
                        .content(&directory.child("file").unwrap().handle)
                        .as_ref(),
                    Ok(*name)
                );
                // The root of the server, which is not of this connection.
                assert!(served.open_descriptors() <= 1 + LIMIT);
                assert!(quota.used() <= LIMIT);
            }
            drop((known, root));
            assert_eq!(quota.used(), 0);
        }
    }
}

#[test]
fn what_is_used_all_the_time_stays_open() {
    for mut served in grounds() {
        let names = served.directories(10 * LIMIT);
        let (root, _quota) = served.limited(LIMIT);
        let hot = root.child("d0").unwrap();
        let mut others = Vec::new();
        for name in &names[1..] {
            hot.child("file").unwrap();
            assert!(!hot.handle.is_named());
            let other = root.child(name).unwrap();
            other.child("file").unwrap();
            others.push(other);
        }
        assert!(
            others
                .iter()
                .filter(|other| !other.handle.is_named())
                .count()
                < LIMIT
        );
    }
}

#[test]
fn open_files_can_take_all_descriptors_and_no_more() {
    for mut served in grounds() {
        let names = served.directories(2 * LIMIT);
        let (root, quota) = served.limited(LIMIT);
        let files: Vec<_> = names
            .iter()
            .map(|name| root.child(name).unwrap().child("file").unwrap())
            .collect();
        let mut open = Vec::new();
        for (opened, file) in files.iter().enumerate() {
            let result = served.host.open_file(&file.handle, flags(libc::O_RDONLY));
            // All but the one of the root, which has to stay.
            if opened < LIMIT - 1 {
                open.push(result.unwrap());
            } else {
                assert_eq!(result.err(), Some(Errno::EMFILE));
            }
            assert!(quota.used() <= LIMIT);
        }
        // What needs none for longer than a moment goes on.
        let last = &files[2 * LIMIT - 1];
        assert_eq!(
            last.handle.stat().unwrap().size,
            names[2 * LIMIT - 1].len() as u64
        );
        served.host.chmod(&last.handle, 0o640).unwrap();
        assert_eq!(quota.used(), LIMIT);
        open.pop();
        assert_eq!(
            served.content(&last.handle).as_ref(),
            Ok(&names[2 * LIMIT - 1])
        );
    }
}

/// Every directory on the way is closed again and again, and opened from the root down.
#[test]
fn deep_below_directories_that_are_closed_files_are_found_on_a_small_stack() {
    const DEPTH: usize = 300;
    for mut served in grounds() {
        let (root, quota) = served.limited(LIMIT);
        let mut deepest = served.directory.path().to_owned();
        (0..DEPTH).for_each(|_| deepest.push("d"));
        fs::create_dir_all(&deepest).unwrap();
        fs::write(deepest.join("file"), "deep").unwrap();
        settle(&deepest.join("file"));
        let mut chain = vec![root];
        for _ in 0..DEPTH {
            let next = chain.last().unwrap().child("d").unwrap();
            chain.push(next);
        }
        let file = chain.last().unwrap().child("file").unwrap();
        for closed in chain.iter().chain([&file]) {
            closed.handle.give_up();
        }
        assert!(chain.iter().skip(1).all(|walked| walked.handle.is_named()));
        std::thread::scope(|scope| {
            let reading = std::thread::Builder::new().stack_size(128 << 10);
            let read = reading.spawn_scoped(scope, || {
                assert_eq!(file.handle.stat().unwrap().size, 4);
                assert_eq!(served.content(&file.handle), Ok("deep".to_owned()));
            });
            read.unwrap().join().unwrap();
        });
        assert!(quota.used() <= LIMIT);
    }
}

#[test]
fn what_was_closed_follows_renames_of_itself_and_of_what_is_above() {
    for served in grounds() {
        served.directories(2);
        let root = Walked::at(served.root().clone());
        let (one, two) = (root.child("d0").unwrap(), root.child("d1").unwrap());
        let file = one.child("file").unwrap();
        assert_eq!(served.content(&file.handle), Ok("d0".to_owned()));
        let move_by_us = |from: &Walked, old: &str, to: &Walked, new: &str, moved: &NodeFiles| {
            let known = Known {
                moved: Some(moved),
                replaced: None,
            };
            let none = RenameFlags::empty();
            rename(&from.handle, name(old), &to.handle, name(new), none, known).unwrap();
            for walked in [&one, &two, &file] {
                walked.handle.give_up();
                assert!(walked.handle.is_named());
            }
            assert_eq!(served.content(&file.handle), Ok("d0".to_owned()));
        };
        move_by_us(&one, "file", &two, "moved", &file.node);
        move_by_us(&root, "d1", &one, "inside", &two.node);
        move_by_us(&root, "d0", &root, "top", &one.node);
        move_by_us(&two, "moved", &root, "file", &file.node);
    }
}

#[test]
fn what_is_unlinked_or_replaced_here_is_opened_first_and_not_closed_again() {
    for served in grounds() {
        served.directories(1);
        let root = Walked::at(served.root().clone());
        let directory = root.child("d0").unwrap();
        for by_rename in [false, true] {
            fs::write(served.path("d0/file"), "old").unwrap();
            settle(&served.path("d0/file"));
            let file = directory.child("file").unwrap();
            assert_eq!(served.content(&file.handle), Ok("old".to_owned()));
            assert!(file.handle.give_up());
            if by_rename {
                fs::write(served.path("new"), "new").unwrap();
                let known = Known {
                    moved: None,
                    replaced: Some(&file.node),
                };
                let (from, to) = (&root.handle, &directory.handle);
                rename(
                    from,
                    name("new"),
                    to,
                    name("file"),
                    RenameFlags::empty(),
                    known,
                )
                .unwrap();
            } else {
                unlink(&directory.handle, name("file"), false, Some(&file.node)).unwrap();
            }
            assert!(!file.handle.give_up());
            assert_eq!(file.handle.stat().unwrap().nlink, 0);
            assert_eq!(served.content(&file.handle), Ok("old".to_owned()));
        }
        fs::remove_file(served.path("d0/file")).unwrap();
        assert!(directory.handle.give_up());
        unlink(&root.handle, name("d0"), true, Some(&directory.node)).unwrap();
        assert!(!directory.handle.give_up());
        assert_eq!(directory.handle.stat().unwrap().nlink, 0);
    }
}

/// However often a client has walked to a file: it is held once.
#[test]
fn what_is_known_many_times_takes_one_descriptor_when_its_name_goes() {
    for mut served in grounds() {
        served.directories(1);
        let (root, quota) = served.limited(LIMIT);
        let directory = root.child("d0").unwrap();
        for by_rename in [false, true] {
            fs::write(served.path("d0/file"), "old").unwrap();
            settle(&served.path("d0/file"));
            let node = NodeFiles::default();
            let walk = |round| {
                let (mut handle, _) = directory.handle.walk(name("file")).unwrap();
                node.add(&mut handle);
                // Some are closed, and then others are open.
                assert!(round % 40 > 0 || handle.is_named() || handle.give_up());
                handle
            };
            let known: Vec<_> = (0..100 * LIMIT).map(walk).collect();
            let before = quota.used();
            assert!(known[0].is_named() || known[0].give_up());
            if by_rename {
                fs::write(served.path("new"), "new").unwrap();
                let (moved, replaced) = (None, Some(&node));
                let known = Known { moved, replaced };
                let (from, to, none) = (&root.handle, &directory.handle, RenameFlags::empty());
                rename(from, name("new"), to, name("file"), none, known).unwrap();
            } else {
                unlink(&directory.handle, name("file"), false, Some(&node)).unwrap();
            }
            for handle in &known {
                assert_eq!(handle.stat().unwrap().nlink, 0);
                assert_eq!(served.content(handle), Ok("old".to_owned()));
            }
            assert!(quota.used() <= before + 1);
        }
    }
}

#[test]
fn what_a_walk_has_opened_is_used_by_those_who_knew_the_file() {
    for mut served in grounds() {
        fs::write(served.path("file"), "file").unwrap();
        settle(&served.path("file"));
        let (root, quota) = served.limited(LIMIT);
        let node = NodeFiles::default();
        let (mut first, _) = root.handle.walk(name("file")).unwrap();
        node.add(&mut first);
        assert!(first.is_named());
        let before = quota.used();
        for _ in 0..3 {
            let (mut again, _) = root.handle.walk_open(name("file")).unwrap();
            node.add(&mut again);
            assert!(!first.is_named());
            assert_eq!(quota.used(), before + 1);
        }
        assert!(first.give_up());
        assert_eq!(quota.used(), before);
    }
}

/// What was opened lest it be lost with its name can be closed again where the name has not gone.
#[test]
fn what_could_not_be_unlinked_or_replaced_makes_room_as_before() {
    for mut served in grounds() {
        let names = served.directories(2 * LIMIT);
        fs::write(served.path("new"), "new").unwrap();
        fs::hard_link(served.path("new"), served.path("same")).unwrap();
        settle(&served.path("new"));
        let (root, quota) = served.limited(LIMIT);
        let top = &root.handle;
        let replace = |old: &str, replaced: &Walked, new: &str| {
            let (moved, replaced) = (None, Some(&replaced.node));
            let known = Known { moved, replaced };
            let none = RenameFlags::empty();
            rename(top, name(old), top, name(new), none, known)
        };
        let mut known = Vec::new();
        for number in &names {
            let directory = root.child(number).unwrap();
            let node = Some(&directory.node);
            let refused = unlink(top, name(number), false, node);
            assert_eq!(refused.err(), Some(Errno::EISDIR));
            let refused = unlink(top, name(number), true, node);
            assert_eq!(refused.err(), Some(Errno::ENOTEMPTY));
            let refused = replace("new", &directory, number);
            assert_eq!(refused.err(), Some(Errno::EISDIR));
            known.push(directory);
        }
        for _ in 0..2 * LIMIT {
            let same = root.child("same").unwrap();
            assert_eq!(replace("new", &same, "same"), Ok(RenameOutcome::SameFile));
            known.push(same);
        }
        // All descriptors but that of the root.
        let open: Vec<_> = (1..LIMIT)
            .map(|_| {
                let directory = flags(libc::O_RDONLY);
                served.host.open_file(&known[0].handle, directory).unwrap()
            })
            .collect();
        assert_eq!(quota.used(), LIMIT);
        drop(open);
        for walked in &known {
            walked.handle.stat().unwrap();
        }
    }
}

#[test]
fn what_an_outsider_takes_away_while_it_is_closed_is_stale() {
    for served in grounds() {
        served.directories(1);
        let root = Walked::at(served.root().clone());
        let directory = root.child("d0").unwrap();
        let file = directory.child("file").unwrap();
        assert_eq!(served.content(&file.handle), Ok("d0".to_owned()));
        assert!(directory.handle.give_up() && file.handle.give_up());
        fs::rename(served.path("d0"), served.path("away")).unwrap();
        let stale = || {
            assert_eq!(directory.handle.stat().err(), Some(Errno::ESTALE));
            assert_eq!(directory.child("file").err(), Some(Errno::ESTALE));
            assert_eq!(file.handle.stat().err(), Some(Errno::ESTALE));
            assert_eq!(served.content(&file.handle), Err(Errno::ESTALE));
        };
        stale();
        fs::create_dir(served.path("d0")).unwrap();
        fs::write(served.path("d0/file"), "another").unwrap();
        stale();
        fs::remove_dir_all(served.path("d0")).unwrap();
        std::os::unix::fs::symlink("away", served.path("d0")).unwrap();
        stale();
        fs::remove_file(served.path("d0")).unwrap();
        fs::rename(served.path("away"), served.path("d0")).unwrap();
        assert_eq!(served.content(&file.handle), Ok("d0".to_owned()));
    }
}

/// A directory that is open where an outsider has put it is not looked for where it was.
#[test]
fn a_directory_that_is_shared_is_found_where_it_was_walked_to_last() {
    for served in grounds() {
        served.directories(2);
        let root = Walked::at(served.root().clone());
        let old = root.child("d0").unwrap();
        fs::create_dir(served.path("d0/inner")).unwrap();
        settle(&served.path("d0/inner"));
        let inner = old.child("inner").unwrap();
        inner.handle.with_fd(crate::host::handle::stat).unwrap();
        fs::rename(served.path("d0/inner"), served.path("d1/inner")).unwrap();
        let new = root.child("d1").unwrap();
        let walked = new.handle.walk(name("inner")).unwrap().0;
        let through = new
            .handle
            .walk_through(name("inner"), Some(&inner.node))
            .unwrap()
            .0;
        let ino = fs::metadata(served.path("d1/inner")).unwrap().ino();
        inner.handle.give_up();
        for mut handle in [walked, through] {
            inner.node.add(&mut handle);
            handle.give_up();
            assert_eq!(handle.stat().unwrap().ino, ino);
        }
    }
}

/// Some look, some open, one renames, and all of them have each other's descriptors closed.
#[test]
fn under_pressure_and_renames_everybody_finds_their_files() {
    const DIRECTORIES: usize = 6;
    for mut served in grounds() {
        let names = served.directories(DIRECTORIES);
        let (root, quota) = served.limited(4);
        let known: Vec<_> = names
            .iter()
            .map(|name| {
                let directory = root.child(name).unwrap();
                let file = directory.child("file").unwrap();
                (name, directory, file)
            })
            .collect();
        let done = AtomicBool::new(false);
        let (served, known, root, done) = (&served, &known, &root, &done);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let none = RenameFlags::empty();
                served.host.thread_started().unwrap();
                while !done.load(Ordering::Relaxed) {
                    for (name_of, directory, file) in known {
                        let here = name_of.as_str();
                        for (old, new) in [(here, "x"), ("x", here)] {
                            let (moved, replaced) = (Some(&directory.node), None);
                            let known = Known { moved, replaced };
                            rename_patiently(&root.handle, old, new, none, known);
                        }
                        for (old, new) in [("file", "y"), ("y", "file")] {
                            let (moved, replaced) = (Some(&file.node), None);
                            let known = Known { moved, replaced };
                            rename_patiently(&directory.handle, old, new, none, known);
                        }
                    }
                }
            });
            let _ended = Ended(done);
            let readers: Vec<_> = (0..2)
                .map(|start| {
                    scope.spawn(move || {
                        served.host.thread_started().unwrap();
                        for round in 0..3000 {
                            let (name, directory, file) = &known[(start + round) % DIRECTORIES];
                            assert!(directory.handle.stat().is_ok());
                            assert_eq!(file.handle.stat().unwrap().size, name.len() as u64);
                            match served.content(&file.handle) {
                                Ok(content) => assert_eq!(content, **name),
                                // All may be in use at the moment.
                                Err(errno) => assert_eq!(errno, Errno::EMFILE),
                            }
                        }
                    })
                })
                .collect();
            readers
                .into_iter()
                .for_each(|reader| reader.join().unwrap());
        });
        assert!(quota.used() <= 4);
    }
}
