//! `mkdir`, `rm`, `mv`, `ln`, `readlink`, `chmod` and `truncate`.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use crate::fixture::Fixture;

#[test]
fn directories_are_made_and_removed() {
    let at = Fixture::new();
    at.text(&["mkdir", "one", "/two"]);
    let mode = at.served("two").metadata().unwrap().mode();
    assert_eq!(mode & 0o700, 0o700);
    at.text(&["mkdir", "three/"]);
    at.text(&["rm", "-r", "three"]);
    fs::write(at.served("plain"), "").unwrap();
    at.run(&["mkdir", "-p", "plain/x"])
        .says_no("lisafs: plain/x: Not a directory\n");
    at.run(&["mkdir", "-p", "plain"])
        .says_no("lisafs: plain: File exists\n");
    symlink("nowhere", at.served("dangling")).unwrap();
    at.run(&["mkdir", "-p", "dangling/x"])
        .says_no("lisafs: dangling/x: File exists\n");
    at.text(&["rm", "plain", "dangling"]);
    at.text(&["mkdir", "-p", "/", "one/.."]);
    at.run(&["mkdir", "one"])
        .says_no("lisafs: one: File exists\n");
    at.run(&["mkdir", "a/b"])
        .says_no("lisafs: a/b: No such file or directory\n");
    at.text(&["mkdir", "-p", "a/b/c", "one"]);
    assert!(at.served("a/b/c").is_dir());
    at.run(&["mkdir", "d/.."])
        .says_no("lisafs: d/..: No such file or directory\n");
    at.text(&["mkdir", "-p", "d/../e", "a/b/c"]);
    at.text(&["rm", "-r", "d", "e"]);
    at.run(&["rm", "a"])
        .says_no("lisafs: a: Is a directory: use -r\n");
    fs::write(at.served("a/b/file"), "").unwrap();
    symlink("/one", at.served("a/link")).unwrap();
    at.text(&["rm", "-r", "a", "two"]);
    assert_eq!(at.text(&["ls"]), "one\n");
    at.run(&["rm", "a"])
        .says_no("lisafs: a: No such file or directory\n");
}

#[test]
fn removing_a_link_leaves_what_it_leads_to() {
    let at = Fixture::new();
    fs::create_dir(at.served("dir")).unwrap();
    symlink("dir", at.served("link")).unwrap();
    at.text(&["rm", "-r", "link"]);
    assert_eq!(at.text(&["ls"]), "dir\n");
}

#[test]
fn files_are_renamed_moved_and_exchanged() {
    let at = Fixture::new();
    for name in ["a", "b"] {
        fs::write(at.served(name), name).unwrap();
    }
    fs::create_dir(at.served("dir")).unwrap();
    let contents = |name: &str| fs::read_to_string(at.served(name)).unwrap();
    at.run(&["mv", "--no-replace", "a", "b"])
        .says_no("lisafs: a -> b: File exists\n");
    at.text(&["mv", "--exchange", "a", "b"]);
    assert_eq!((contents("a"), contents("b")), ("b".into(), "a".into()));
    at.text(&["mv", "a", "b"]);
    assert_eq!(contents("b"), "b");
    at.text(&["mv", "b", "dir"]);
    assert_eq!(contents("dir/b"), "b");
    at.text(&["mv", "--exchange", "dir", "dir"]);
    at.run(&["mv", "missing", "dir"])
        .says_no("lisafs: missing: No such file or directory\n");
}

#[test]
fn links_are_made_and_read() {
    let at = Fixture::new();
    fs::write(at.served("file"), "").unwrap();
    fs::create_dir(at.served("dir")).unwrap();
    at.text(&["ln", "file", "hard"]);
    at.text(&["ln", "file", "dir"]);
    assert_eq!(at.served("file").metadata().unwrap().nlink(), 3);
    at.text(&["ln", "-s", "../any thing", "soft"]);
    assert_eq!(at.text(&["readlink", "soft"]), "../any thing\n");
    assert_eq!(at.json(&["readlink", "soft"])[0]["target"], "../any thing");
    at.run(&["ln", "-s", "x", "soft"])
        .says_no("lisafs: soft: File exists\n");
    at.run(&["ln", "file", "soft"])
        .says_no("lisafs: file -> soft: File exists\n");
    at.run(&["ln", "missing", "new"])
        .says_no("lisafs: missing: No such file or directory\n");
    at.run(&["readlink", "file"])
        .says_no("lisafs: file: Not a symbolic link\n");
}

#[test]
fn permissions_and_lengths_are_changed() {
    let at = Fixture::new();
    fs::write(at.served("file"), "12345").unwrap();
    let mode = || at.served("file").metadata().unwrap().mode() & 0o7777;
    at.text(&["chmod", "640", "file"]);
    assert_eq!(mode(), 0o640);
    at.text(&["chmod", "u+x,g-r", "file"]);
    assert_eq!(mode(), 0o700);
    at.text(&["chmod", "-x", "file"]);
    assert_eq!(mode(), 0o600);
    at.text(&["truncate", "-s", "2", "file"]);
    assert_eq!(fs::read(at.served("file")).unwrap(), b"12");
    at.text(&["truncate", "--size", "1K", "file"]);
    assert_eq!(at.served("file").metadata().unwrap().len(), 1024);
    at.run(&["truncate", "-s", "0", "missing"])
        .says_no("lisafs: missing: No such file or directory\n");
    at.run(&["chmod", "755", "missing"])
        .says_no("lisafs: missing: No such file or directory\n");
}
