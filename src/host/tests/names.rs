use std::fs;
use std::os::unix::fs::symlink;

use super::{Served, name};
use crate::Errno;
use crate::host::names::{Known, readlink, rename, unlink};
use crate::server::{RenameFlags, RenameOutcome};

fn moved(
    served: &Served,
    old: &str,
    new: &str,
    flags: RenameFlags,
) -> Result<RenameOutcome, Errno> {
    let root = served.root();
    rename(root, name(old), root, name(new), flags, Known::default())
}

#[test]
fn files_and_directories_are_removed_each_in_its_way() {
    let served = Served::new();
    fs::write(served.path("file"), "").unwrap();
    fs::create_dir(served.path("directory")).unwrap();
    symlink("directory", served.path("link")).unwrap();
    let root = served.root();
    assert_eq!(
        unlink(root, name("directory"), false, None),
        Err(Errno::EISDIR)
    );
    assert_eq!(unlink(root, name("file"), true, None), Err(Errno::ENOTDIR));
    assert_eq!(unlink(root, name("link"), true, None), Err(Errno::ENOTDIR));
    assert_eq!(unlink(root, name("link"), false, None), Ok(()));
    assert_eq!(served.names(), ["directory", "file"]);
    assert_eq!(unlink(root, name("file"), false, None), Ok(()));
    assert_eq!(unlink(root, name("directory"), true, None), Ok(()));
    assert_eq!(unlink(root, name("file"), false, None), Err(Errno::ENOENT));
    assert_eq!(served.names(), [""; 0]);
}

#[test]
fn renames_replace_refuse_or_exchange_as_asked() {
    let served = Served::new();
    fs::write(served.path("a"), "a").unwrap();
    fs::write(served.path("b"), "b").unwrap();
    let read = |path| fs::read_to_string(served.path(path)).ok();
    let refused = moved(&served, "a", "b", RenameFlags::NOREPLACE);
    assert_eq!(refused, Err(Errno::EEXIST));
    let exchanged = moved(&served, "a", "b", RenameFlags::EXCHANGE);
    assert_eq!(exchanged, Ok(RenameOutcome::Renamed));
    assert_eq!(
        (read("a").as_deref(), read("b").as_deref()),
        (Some("b"), Some("a"))
    );
    let replaced = moved(&served, "a", "b", RenameFlags::empty());
    assert_eq!(replaced, Ok(RenameOutcome::Renamed));
    assert_eq!((read("a"), read("b").as_deref()), (None, Some("b")));
    let missing = moved(&served, "a", "b", RenameFlags::empty());
    assert_eq!(missing, Err(Errno::ENOENT));
    let new = moved(&served, "b", "c", RenameFlags::NOREPLACE);
    assert_eq!(new, Ok(RenameOutcome::Renamed));
    assert_eq!(served.names(), ["c"]);
}

#[test]
fn flags_that_contradict_each_other_or_are_unknown_are_refused() {
    let served = Served::new();
    fs::write(served.path("a"), "").unwrap();
    fs::write(served.path("b"), "").unwrap();
    for flags in [
        RenameFlags::NOREPLACE | RenameFlags::EXCHANGE,
        RenameFlags::WHITEOUT,
        RenameFlags::WHITEOUT | RenameFlags::NOREPLACE,
        RenameFlags::from_bits_retain(8),
        RenameFlags::from_bits_retain(u32::MAX),
    ] {
        assert_eq!(
            moved(&served, "a", "b", flags),
            Err(Errno::EINVAL),
            "{flags:?}"
        );
    }
    assert_eq!(served.names(), ["a", "b"]);
}

#[test]
fn a_rename_between_two_names_of_one_file_is_told_apart() {
    let served = Served::new();
    fs::write(served.path("a"), "").unwrap();
    fs::hard_link(served.path("a"), served.path("b")).unwrap();
    for flags in [RenameFlags::empty(), RenameFlags::EXCHANGE] {
        assert_eq!(moved(&served, "a", "b", flags), Ok(RenameOutcome::SameFile));
        assert_eq!(served.names(), ["a", "b"]);
    }
    // A file with several names that really moves.
    assert_eq!(
        moved(&served, "a", "c", RenameFlags::empty()),
        Ok(RenameOutcome::Renamed)
    );
    assert_eq!(served.names(), ["b", "c"]);
    // Directories have several links as well.
    fs::create_dir_all(served.path("d/inside")).unwrap();
    assert_eq!(
        moved(&served, "d", "e", RenameFlags::empty()),
        Ok(RenameOutcome::Renamed)
    );
}

#[test]
fn only_symlinks_are_read_also_when_they_have_no_name_any_more() {
    let served = Served::new();
    fs::write(served.path("file"), "").unwrap();
    symlink("some/where", served.path("link")).unwrap();
    let link = served.walk("link");
    link.hold().unwrap();
    fs::remove_file(served.path("link")).unwrap();
    let mut target = Vec::new();
    readlink(&link, &mut target).unwrap();
    assert_eq!(target, b"some/where");
    let result = readlink(&served.walk("file"), &mut target);
    assert!(
        matches!(result, Err(Errno::EINVAL | Errno::ENOENT)),
        "{result:?}"
    );
    assert_eq!(target, b"some/where");
}
