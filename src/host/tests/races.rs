//! Names that change while their files are in use.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::named::{grounds, node, settle};
use super::{Ended, Served, name};
use crate::Errno;
use crate::host::handle::place::NodeFiles;
use crate::host::handle::{self, Handle};
use crate::host::names::{Known, rename, unlink};
use crate::server::{RenameFlags, ServerImpl};
use crate::wire::Statx;

/// A rename in one directory, however long the machine keeps somebody who has a file in use from going on.
pub(super) fn rename_patiently(
    at: &Handle,
    old: &str,
    new: &str,
    flags: RenameFlags,
    known: Known<'_>,
) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let try_it = || rename(at, name(old), at, name(new), flags, known);
    let is_over = |result: &Result<_, Errno>| {
        result.as_ref().err() != Some(&Errno::EBUSY) || Instant::now() > deadline
    };
    let result = std::iter::repeat_with(try_it).find(is_over);
    result.unwrap().unwrap();
}

/// Whoever opens or looks at a file while it is renamed finds it all the same.
#[test]
fn renames_are_never_seen_half_done() {
    for served in grounds() {
        let (a, b) = (served.file("a"), served.file("b"));
        let inodes = [&a, &b].map(|handle| handle.stat().unwrap().ino);
        let (of_a, of_b) = (node(&[&a]), node(&[&b]));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for nodes in [[&of_a, &of_b], [&of_b, &of_a]] {
                        let known = Known {
                            moved: Some(nodes[0]),
                            replaced: Some(nodes[1]),
                        };
                        let exchange = RenameFlags::EXCHANGE;
                        rename_patiently(served.root(), "a", "b", exchange, known);
                        let known = Known {
                            moved: Some(nodes[1]),
                            replaced: None,
                        };
                        for (old, new) in [("a", "c"), ("c", "a")] {
                            let none = RenameFlags::empty();
                            rename_patiently(served.root(), old, new, none, known);
                        }
                    }
                }
            });
            let _ended = Ended(&done);
            for round in 0..20_000 {
                let (handle, inode) = [(&a, inodes[0]), (&b, inodes[1])][round % 2];
                let reached = handle
                    .reach(|| Ok(None))
                    .and_then(|reached| handle::stat(reached.as_fd()));
                assert_eq!(reached.map(|stat: Statx| stat.ino), Ok(inode));
            }
        });
        assert!(a.is_named() && b.is_named());
    }
}

/// Two look at a file and read it while a third one removes it, or puts another one in its place,
/// through the server: it is the same file before, after and meanwhile.
#[test]
fn what_is_removed_or_replaced_meanwhile_is_never_lost() {
    for served in grounds() {
        (0..6).for_each(|number| served.removes_and_replaces(&format!("d{number}")));
    }
}

impl Served {
    fn removes_and_replaces(&self, directory: &str) {
        const FILES: usize = 100;
        let path = self.path(directory);
        fs::create_dir(&path).unwrap();
        let names: Vec<_> = (0..FILES).map(|number| format!("file{number}")).collect();
        for name in &names {
            fs::write(path.join(name), name).unwrap();
            fs::write(path.join(format!("new-{name}")), "another").unwrap();
        }
        settle(&path.join(&names[FILES - 1]));
        let directory = self.walk(directory);
        let known: Vec<(Handle, u64, NodeFiles)> = names
            .iter()
            .map(|known| {
                let (handle, stat) = directory.walk(name(known)).unwrap();
                assert!(handle.is_named());
                let node = node(&[&handle]);
                (handle, stat.ino, node)
            })
            .collect();
        // How many files are gone, and how many looks at one of them have begun for the first time.
        let (gone, begun) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let reader = |looks: bool| {
            self.host.thread_started().unwrap();
            for (round, (handle, inode, _)) in known.iter().enumerate() {
                begun.fetch_add(1, Ordering::Release);
                let mut is_last = false;
                while !is_last {
                    is_last = gone.load(Ordering::Acquire) > round;
                    // So that it is looked for by its name as often as can be.
                    handle.give_up();
                    thread::yield_now();
                    if looks {
                        assert_eq!(handle.stat().map(|stat| stat.ino), Ok(*inode));
                    } else {
                        assert_eq!(self.content(handle).as_ref(), Ok(&names[round]));
                    }
                }
            }
        };
        let remove = |round: usize, known: Option<&NodeFiles>| {
            let old = name(&names[round]);
            if round.is_multiple_of(2) {
                return unlink(&directory, old, false, known);
            }
            let (moved, replaced) = (None, known);
            let known = Known { moved, replaced };
            let new = format!("new-{}", names[round]);
            let none = RenameFlags::empty();
            rename(&directory, name(&new), &directory, old, none, known).map(drop)
        };
        thread::scope(|scope| {
            let readers = [true, false].map(|looks| scope.spawn(move || reader(looks)));
            let fails = || readers.iter().any(|reader| reader.is_finished());
            for (round, (_, _, node)) in known.iter().enumerate() {
                while begun.load(Ordering::Acquire) < 2 * (round + 1) && !fails() {
                    thread::yield_now();
                }
                let removed = remove(round, Some(node));
                gone.store(round + 1, Ordering::Release);
                assert_eq!(removed, Ok(()));
            }
        });
        for (handle, inode, _) in &known {
            let stat = handle.stat().unwrap();
            assert_eq!((stat.ino, stat.nlink), (*inode, 0));
        }
    }

    /// Uses `files` while somebody the server knows nothing of makes a change and takes it back, which is
    /// what `change` is called for in turn: each answers as what was walked to, which is what its content
    /// says, or not at all.
    fn withstands(&self, files: &[(&Handle, &str)], change: impl Fn(Step) + Sync) {
        const ROUNDS: usize = 2000;
        let deadline = Instant::now() + Duration::from_secs(60);
        let inodes: Vec<_> = files
            .iter()
            .map(|(file, _)| file.stat().unwrap().ino)
            .collect();
        let done = AtomicBool::new(false);
        let (mut found, mut stale, mut rounds) = (0, 0, 0);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // Where both share a CPU, the files are looked at only when this one lets go of it.
                    for step in [Step::Change, Step::TakeBack] {
                        change(step);
                        thread::yield_now();
                    }
                }
            });
            let _ended = Ended(&done);
            while rounds < ROUNDS || found == 0 || stale == 0 {
                assert!(Instant::now() < deadline, "{found} found, {stale} stale");
                for ((file, content), inode) in files.iter().zip(&inodes) {
                    file.give_up();
                    let looked = file.stat().map(|stat| assert_eq!(stat.ino, *inode));
                    let read = self.content(file);
                    let read = read.map(|read| assert_eq!(read, *content));
                    file.give_up();
                    let changed = self.host.chmod(file, 0o640);
                    for answer in [looked, read, changed] {
                        match answer {
                            Ok(()) => found += 1,
                            Err(errno) => {
                                assert_eq!(errno, Errno::ESTALE);
                                stale += 1;
                            }
                        }
                    }
                }
                rounds += 1;
            }
        });
        eprintln!("{found} found, {stale} stale");
    }
}

/// What an outsider does to names, again and again.
#[derive(Clone, Copy)]
enum Step {
    Change,
    TakeBack,
}

fn permissions(served: &Served, name: &str) -> u32 {
    let metadata = fs::metadata(served.path(name)).unwrap();
    metadata.permissions().mode() & 0o7777
}

#[test]
fn files_that_an_outsider_exchanges_are_not_taken_for_each_other() {
    for served in grounds() {
        let a = served.file("a");
        fs::write(served.path("b"), "other").unwrap();
        fs::set_permissions(served.path("b"), fs::Permissions::from_mode(0o600)).unwrap();
        let exchange = |_| served.rename("a", "b", RenameFlags::EXCHANGE, Known::default());
        served.withstands(&[(&a, "a")], exchange);
        assert_eq!(fs::read_to_string(served.path("b")).unwrap(), "other");
        assert_eq!(permissions(&served, "b"), 0o600);
        // Both known.
        let b = served.walk("b");
        served.withstands(&[(&a, "a"), (&b, "other")], exchange);
    }
}

#[test]
fn a_name_that_an_outsider_gives_to_links_of_two_files_is_of_the_known_one_or_stale() {
    for served in grounds() {
        let known = served.file("known");
        let [path, mine, other] = ["known", "mine", "other"].map(|name| served.path(name));
        fs::hard_link(&path, &mine).unwrap();
        fs::write(&other, "other").unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
        served.withstands(&[(&known, "known")], |step| {
            let link = match step {
                Step::Change => &other,
                Step::TakeBack => &mine,
            };
            fs::remove_file(&path).unwrap();
            fs::hard_link(link, &path).unwrap();
        });
        assert_eq!(permissions(&served, "other"), 0o600);
        assert_eq!(served.content(&known), Ok("known".to_owned()));
    }
}
