//! Directories.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirEntryExt, MetadataExt, symlink};
use std::path::Path;

use nix::unistd::{Whence, lseek};
use rustix::fs::RawDir;

use crate::transcript::Transcript;

/// More than a message, or the kernel, takes at once.
const MANY: usize = 20_000;

fn fill(at: &Path, count: usize) {
    for number in 0..count {
        File::create(at.join(format!("file-{number}"))).unwrap();
    }
}

fn listed(at: &Path) -> Vec<String> {
    let entries = fs::read_dir(at).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

pub(crate) fn entries_are_all_there(at: &Path, found: &mut Transcript) {
    fill(at, MANY);
    fs::create_dir(at.join("dir")).unwrap();
    symlink("x", at.join("link")).unwrap();
    let names = listed(at);
    let different: BTreeSet<_> = names.iter().collect();
    found.note("names", (names.len(), different.len()));
    let mut types = [0; 3];
    for entry in fs::read_dir(at).unwrap() {
        let entry = entry.unwrap();
        let file_type = entry.file_type().unwrap();
        types[usize::from(file_type.is_dir()) + 2 * usize::from(file_type.is_symlink())] += 1;
        let name = entry.file_name();
        if name == "dir" || name == "link" || name == "file-7" {
            assert_eq!(entry.ino(), entry.metadata().unwrap().ino());
        }
    }
    found.note("types", types);
    for number in 0..MANY {
        fs::remove_file(at.join(format!("file-{number}"))).unwrap();
    }
    found.note("left", listed(at).into_iter().collect::<BTreeSet<_>>());
}

pub(crate) fn positions_in_a_directory_are_kept(at: &Path, found: &mut Transcript) {
    fill(at, 500);
    let dir = File::open(at).unwrap();
    let mut memory = [MaybeUninit::uninit(); 1024];
    let read = |memory: &mut [MaybeUninit<u8>]| {
        let mut seen = Vec::new();
        let mut entries = RawDir::new(dir.as_fd(), memory);
        while let Some(entry) = entries.next() {
            let entry = entry.unwrap();
            seen.push((entry.file_name().to_owned(), entry.next_entry_cookie()));
        }
        seen
    };
    let seen = read(&mut memory);
    found.note("entries", seen.len());
    let mut right = 0;
    for (place, (_, cookie)) in seen.iter().enumerate().step_by(97) {
        lseek(&dir, cookie.cast_signed(), Whence::SeekSet).unwrap();
        let rest = read(&mut memory);
        right += usize::from(rest == seen[place + 1..]);
    }
    found.note("right", right);
}

pub(crate) fn a_directory_is_listed_anew(at: &Path, found: &mut Transcript) {
    fill(at, 3);
    let mut dir = nix::dir::Dir::open(
        at,
        nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_DIRECTORY,
        nix::sys::stat::Mode::empty(),
    )
    .unwrap();
    // Each iteration begins at the first entry.
    let mut names = || {
        let names = dir
            .iter()
            .map(|entry| entry.unwrap().file_name().to_owned());
        names.collect::<BTreeSet<_>>()
    };
    found.note("at first", names());
    fs::remove_file(at.join("file-1")).unwrap();
    fs::create_dir(at.join("dir")).unwrap();
    found.note("then", names());
}
