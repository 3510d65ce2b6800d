//! What one connection makes of the files of another.

use std::fs;
use std::sync::Arc;

use super::named::{grounds, settle};
use super::pressure::{LIMIT, Walked};
use super::{Served, flags, name};
use crate::Errno;
use crate::host::OpenFd;
use crate::host::handle::Handle;
use crate::host::names::{Known, rename, unlink};
use crate::server::{Quota, RenameFlags};

/// Whoever has moved it may go, and everything of theirs with them.
#[test]
fn what_others_move_is_found_by_a_descriptor_of_its_own_connection() {
    for mut served in grounds() {
        served.directories(2);
        fs::write(served.path("d0/another"), "d0").unwrap();
        settle(&served.path("d0/another"));
        let (root, quota) = served.limited(LIMIT);
        let (other, others) = served.limited(LIMIT);
        let directory = root.child("d0").unwrap();
        let [file, another] = ["file", "another"].map(|name| directory.child(name).unwrap());
        let (from, to) = (other.child("d0").unwrap(), other.child("d1").unwrap());
        let move_it = |file: &Walked, (from, old), (to, new): (&Walked, _)| {
            let (moved, replaced) = (Some(&file.node), None);
            let known = Known { moved, replaced };
            let (from, none): (&Walked, _) = (from, RenameFlags::empty());
            rename(&from.handle, name(old), &to.handle, name(new), none, known).unwrap();
        };
        let before = quota.used();
        move_it(&file, (&from, "file"), (&from, "renamed"));
        assert_eq!(quota.used(), before, "it is where it was");
        move_it(&file, (&from, "renamed"), (&to, "moved"));
        move_it(&another, (&from, "another"), (&to, "another"));
        assert_eq!(quota.used(), before + 1, "one for both");
        drop((from, to, other));
        assert_eq!(others.used(), 0);
        for file in [file, another] {
            file.handle.give_up();
            assert_eq!(file.handle.stat().unwrap().size, 2);
            assert_eq!(served.content(&file.handle), Ok("d0".to_owned()));
        }
        // The directory that was opened for them is closed when they are.
        drop(directory);
        assert_eq!(quota.used(), 1, "the root");
    }
}

/// Sorting what somebody else knows into directories must not keep them from opening files.
#[test]
fn what_others_move_takes_half_of_the_descriptors_at_most_and_gives_them_back() {
    const FILES: usize = 10;
    for mut served in grounds() {
        served.directories(3);
        let names: Vec<_> = (0..FILES).map(|number| format!("f{number}")).collect();
        for file in &names {
            let path = served.path(&format!("d0/{file}"));
            fs::write(&path, "known").unwrap();
            settle(&path);
        }
        let (root, quota) = served.limited(LIMIT);
        let (other, _others) = served.limited(LIMIT);
        let directory = root.child("d0").unwrap();
        let known: Vec<_> = names
            .iter()
            .map(|name| directory.child(name).unwrap())
            .collect();
        let target = |number: usize| if number.is_multiple_of(2) { "d1" } else { "d2" };
        for (number, (file, moved)) in known.iter().zip(&names).enumerate() {
            let (from, to) = (
                other.child("d0").unwrap(),
                other.child(target(number)).unwrap(),
            );
            let (old, new) = ((&from.handle, name(moved)), (&to.handle, name(moved)));
            let (moved, replaced) = (Some(&file.node), None);
            let known = Known { moved, replaced };
            rename(old.0, old.1, new.0, new.1, RenameFlags::empty(), known).unwrap();
        }
        assert!(quota.used() <= LIMIT / 2, "{} are used", quota.used());
        let found = known.iter().filter(|file| file.handle.stat().is_ok());
        assert!(found.count() > 0);
        let open = || served.host.open_file(&root.handle, flags(libc::O_RDONLY));
        let opened: Vec<_> = (0..LIMIT / 2).map(|_| open().unwrap()).collect();
        drop(opened);
        // A walk finds them, and what was opened for them is no longer needed.
        for (number, (file, moved)) in known.iter().zip(&names).enumerate() {
            let to = root.child(target(number)).unwrap();
            let mut found = to.child(moved).unwrap().handle;
            file.node.add(&mut found);
            assert_eq!(found.stat().unwrap().size, 5);
            found.give_up();
            to.handle.give_up();
        }
        directory.handle.give_up();
        assert_eq!(quota.used(), 1, "the root");
    }
}

#[test]
fn what_others_move_is_lost_where_its_connection_has_no_descriptor_unless_it_is_open() {
    for mut served in grounds() {
        served.directories(2);
        fs::write(served.path("d0/open"), "open").unwrap();
        settle(&served.path("d0/open"));
        let (root, quota) = served.limited(LIMIT);
        let (other, _others) = served.limited(LIMIT);
        let directory = root.child("d0").unwrap();
        let [file, open] = ["file", "open"].map(|name| directory.child(name).unwrap());
        assert_eq!(served.content(&open.handle), Ok("open".to_owned()));
        let open_file = || served.host.open_file(&open.handle, flags(libc::O_RDONLY));
        let _in_use = open.handle.reach(|| Ok(None)).unwrap();
        let taken: Vec<_> = std::iter::from_fn(|| open_file().ok()).collect();
        assert_eq!(quota.used(), LIMIT);
        for (file, moved) in [(&file, "file"), (&open, "open")] {
            let (moved_node, replaced) = (Some(&file.node), None);
            let known = Known {
                moved: moved_node,
                replaced,
            };
            let none = RenameFlags::empty();
            let (from, to) = (other.child("d0").unwrap(), other.child("d1").unwrap());
            rename(
                &from.handle,
                name(moved),
                &to.handle,
                name(moved),
                none,
                known,
            )
            .unwrap();
        }
        drop(taken);
        assert_eq!(file.handle.stat().err(), Some(Errno::ESTALE));
        assert_eq!(served.content(&file.handle), Err(Errno::ESTALE));
        assert_eq!(open.handle.stat().unwrap().size, 4);
        assert!(!open.handle.give_up());
    }
}

/// One who has only what is set aside for it, as others hold all the rest.
fn left_with_the_reserve(served: &mut Served) -> (Walked, Arc<Quota>) {
    let pool = Quota::new(LIMIT);
    let quota = Quota::within(&pool, LIMIT, 100 * LIMIT).unwrap();
    (served.counted(&quota), quota)
}

/// Files of one connection, by their names, which are taken away by another.
struct Taken {
    other: Walked,
    directory: Walked,
    known: Vec<(String, Walked)>,
}

impl Taken {
    /// `count` of them, in `d0`.
    fn new(served: &mut Served, root: &Walked, count: usize) -> Taken {
        let names: Vec<_> = (0..count).map(|number| format!("f{number}")).collect();
        for file in &names {
            fs::write(served.path(&format!("d0/{file}")), "known").unwrap();
        }
        let last = names.last().unwrap();
        settle(&served.path(&format!("d0/{last}")));
        let directory = root.child("d0").unwrap();
        let known = |name: String| {
            let file = directory.child(&name).unwrap();
            (name, file)
        };
        let known = names.into_iter().map(known).collect();
        let (other, _) = served.limited(100);
        Taken {
            other,
            directory,
            known,
        }
    }

    /// Moves them into others, to and fro: what is opened for one is of no use to the next.
    fn sort(&self) {
        for (number, (old, file)) in self.known.iter().enumerate() {
            let to = if number.is_multiple_of(2) { "d1" } else { "d2" };
            let [from, to] = ["d0", to].map(|name| self.other.child(name).unwrap());
            let known = Known {
                moved: Some(&file.node),
                replaced: None,
            };
            let (old, none) = (name(old), RenameFlags::empty());
            rename(&from.handle, old, &to.handle, old, none, known).unwrap();
        }
    }

    fn remove(&self, by: &Walked) {
        let from = by.child("d0").unwrap();
        for (old, file) in &self.known {
            unlink(&from.handle, name(old), false, Some(&file.node)).unwrap();
        }
    }

    fn found(&self) -> usize {
        let found = |(_, file): &&(String, Walked)| file.handle.stat().is_ok();
        self.known.iter().filter(found).count()
    }
}

/// Opens as many files as go.
fn opened(served: &Served, root: &Walked) -> Vec<OpenFd> {
    let open = || served.host.open_file(&root.handle, flags(libc::O_RDONLY));
    std::iter::from_fn(|| open().ok()).collect()
}

#[test]
fn what_others_move_leaves_half_of_what_is_set_aside() {
    for mut served in grounds() {
        served.directories(3);
        let (root, quota) = left_with_the_reserve(&mut served);
        let taken = Taken::new(&mut served, &root, 4 * LIMIT);
        taken.sort();
        assert!(taken.found() > LIMIT / 2, "as long as there is room");
        // One of its half is the root.
        let opened = opened(&served, &root);
        assert!(opened.len() >= LIMIT / 2 - 1, "{}", opened.len());
        assert!(taken.found() > 0);
        drop((opened, taken));
        assert_eq!(quota.used(), 1, "the root");
    }
}

/// Its directory cannot be opened: whatever could be closed for it is in use.
#[test]
fn what_is_open_when_others_move_it_leaves_half_of_what_is_set_aside() {
    for mut served in grounds() {
        served.directories(3);
        let (root, quota) = left_with_the_reserve(&mut served);
        let taken = Taken::new(&mut served, &root, LIMIT - 2);
        let open = |file: &Handle| file.reach(|| file.reserve().map(Some)).map(drop);
        let files = || taken.known.iter().map(|(_, file)| &file.handle);
        files().for_each(|file| open(file).unwrap());
        let in_use = files().chain([&taken.directory.handle]);
        let in_use: Vec<_> = in_use
            .map(|file| file.reach(|| Ok(None)).unwrap())
            .collect();
        assert_eq!(quota.used(), LIMIT);
        taken.sort();
        drop(in_use);
        assert_eq!(taken.found(), LIMIT - 2, "as long as there is room");
        let opened = opened(&served, &root);
        assert!(opened.len() >= LIMIT / 2 - 1, "{}", opened.len());
        assert_eq!(taken.found(), LIMIT / 2);
    }
}

#[test]
fn what_others_remove_leaves_half_of_what_is_set_aside() {
    for mut served in grounds() {
        served.directories(1);
        let (root, quota) = left_with_the_reserve(&mut served);
        let taken = Taken::new(&mut served, &root, 4 * LIMIT);
        taken.remove(&taken.other);
        let kept = taken.found();
        assert!(kept > LIMIT / 2, "{kept} as long as there is room");
        let opened = opened(&served, &root);
        assert_eq!(opened.len(), LIMIT / 2 - 1);
        assert_eq!(taken.found(), LIMIT / 2);
        drop((opened, taken));
        assert_eq!(quota.used(), 1, "the root");
    }
}

/// What it removes itself it keeps, and goes without other files.
#[test]
fn what_a_client_removes_itself_is_not_lost_for_want_of_descriptors() {
    for mut served in grounds() {
        served.directories(1);
        let (root, _quota) = left_with_the_reserve(&mut served);
        let taken = Taken::new(&mut served, &root, LIMIT);
        taken.remove(&root);
        let kept = taken.found();
        let _opened = opened(&served, &root);
        assert_eq!(taken.found(), kept);
        assert!(kept > LIMIT / 2, "{kept}");
    }
}
