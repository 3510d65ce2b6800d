//! `touch`, `chown`, `xattr` and `statfs`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};

use serde_json::json;

use crate::fixture::{Fixture, done};

fn times(at: &Fixture, name: &str) -> [(i64, i64); 2] {
    let stat = at.served(name).metadata().unwrap();
    [
        (stat.atime(), stat.atime_nsec()),
        (stat.mtime(), stat.mtime_nsec()),
    ]
}

#[test]
fn files_are_made_and_their_times_set() {
    let at = Fixture::new();
    at.text(&["touch", "new", "/other"]);
    assert_eq!(at.served("new").metadata().unwrap().len(), 0);
    assert_eq!(at.served("new").metadata().unwrap().mode() & 0o7133, 0);
    at.text(&["touch", "-d", "2001-02-03 04:05:06.75", "new"]);
    let then = (981_173_106, 750_000_000);
    assert_eq!(times(&at, "new"), [then, then]);
    at.text(&["touch", "-a", "-d", "@5", "new"]);
    assert_eq!(times(&at, "new"), [(5, 0), then]);
    at.text(&["touch", "-m", "-d", "@-0.5", "new"]);
    assert_eq!(times(&at, "new"), [(5, 0), (-1, 500_000_000)]);
    at.text(&["touch", "-r", "new", "other", "third"]);
    assert_eq!(times(&at, "other"), times(&at, "new"));
    assert_eq!(times(&at, "third"), times(&at, "new"));
    at.text(&["touch", "new"]);
    assert!(times(&at, "new")[1].0 > then.0, "it is not the present");
    at.text(&["touch", "-c", "missing"]);
    assert!(!at.served("missing").exists());
    // A link leads to what is made.
    symlink("made", at.served("link")).unwrap();
    at.text(&["touch", "link"]);
    assert!(at.served("made").is_file());
    at.run(&["touch", "no/such", "-r", "new"])
        .says_no("lisafs: no/such: No such file or directory\n");
    at.run(&["touch", "-r", "missing", "new"])
        .says_no("lisafs: missing: No such file or directory\n");
}

#[test]
fn owners_are_changed_of_links_or_of_what_they_lead_to() {
    let at = Fixture::new();
    fs::write(at.served("file"), "").unwrap();
    symlink("file", at.served("link")).unwrap();
    let own = at.served("file").metadata().unwrap();
    let me = format!("{}:{}", own.uid(), own.gid());
    at.text(&["chown", &me, "file", "link"]);
    at.run(&["chown", &me, "missing"])
        .says_no("lisafs: missing: No such file or directory\n");
    let owner = |name: &str| {
        let stat = at.served(name).symlink_metadata().unwrap();
        (stat.uid(), stat.gid())
    };
    if !nix::unistd::geteuid().is_root() {
        at.run(&["chown", "0", "file"])
            .says_no("lisafs: file: Operation not permitted\n");
        return;
    }
    at.text(&["chown", "1234567:7654321", "link"]);
    assert_eq!(owner("file"), (1_234_567, 7_654_321));
    assert_eq!(owner("link"), (own.uid(), own.gid()));
    at.text(&["chown", "-h", ":11", "link"]);
    assert_eq!(owner("link"), (own.uid(), 11));
    at.text(&["chown", "root:root", "file"]);
    assert_eq!(owner("file"), (0, 0));
}

#[test]
fn attributes_are_set_shown_listed_and_removed() {
    let at = Fixture::new();
    fs::write(at.served("file"), "").unwrap();
    fs::write(at.served("other"), "").unwrap();
    at.text(&["xattr", "set", "file", "user.text", "-5 \u{e9}"]);
    let mut set = at.command(&["xattr", "set", "file", "user.bytes", "-"]);
    let mut value = tempfile::tempfile().unwrap();
    value.write_all(b"\xff\0\n").unwrap();
    std::io::Seek::rewind(&mut value).unwrap();
    done(set.stdin(value)).success();
    assert_eq!(
        at.run(&["xattr", "get", "file", "user.bytes"]).success(),
        b"\xff\0\n"
    );
    assert_eq!(
        at.text(&["xattr", "list", "file", "other"]),
        "file: user.bytes\nfile: user.text\n"
    );
    assert_eq!(at.text(&["xattr", "list", "other"]), "");
    assert_eq!(
        at.json(&["xattr", "list", "-l", "file"]),
        [
            json!({ "path": "file", "name": "user.bytes", "value_hex": "ff000a" }),
            json!({ "path": "file", "name": "user.text", "value": "-5 \u{e9}" }),
        ]
    );
    assert_eq!(
        at.json(&["xattr", "get", "file", "user.text"])[0]["value"],
        "-5 \u{e9}"
    );
    at.run(&["xattr", "set", "--create", "file", "user.text", "x"])
        .says_no("lisafs: file: user.text: File exists\n");
    at.run(&["xattr", "set", "--replace", "file", "user.x\u{1b}", "x"])
        .says_no("lisafs: file: user.x\\x1b: No data available\n");
    at.text(&["xattr", "rm", "file", "user.text", "user.bytes"]);
    at.run(&["xattr", "get", "file", "user.text"])
        .says_no("lisafs: file: user.text: No data available\n");
    at.run(&["xattr", "list", "missing"])
        .says_no("lisafs: missing: No such file or directory\n");
    let mut set = at.command(&["xattr", "set", "file", "user.large", "-"]);
    done(set.stdin(File::open("/dev/zero").unwrap()))
        .says_no("lisafs: file: user.large: Argument list too long\n");
}

#[test]
fn file_systems_are_shown() {
    let at = Fixture::new();
    let odd = OsStr::from_bytes(b"\xff");
    fs::create_dir(at.served(odd)).unwrap();
    let here = nix::sys::statfs::statfs(&at.root()).unwrap();
    let [root, below] = &at.json(&[OsStr::new("statfs"), OsStr::new("/"), odd])[..] else {
        panic!("there are two");
    };
    assert_eq!(root["blocks"], here.blocks());
    assert_eq!(root["files"], here.files());
    assert_eq!(root["block_size"], here.block_size());
    let magic = here.filesystem_type().0;
    assert_eq!(root["type"], format!("{magic:#x}"));
    assert_eq!(below["path_hex"], "ff");
    let text = at.text(&["statfs"]);
    let blocks = format!("in {} blocks of {}\n", here.blocks(), here.block_size());
    assert!(text.starts_with("     path: /\n     type: "), "{text}");
    assert!(text.contains(&blocks), "{text}");
    at.run(&["statfs", "missing"])
        .says_no("lisafs: missing: No such file or directory\n");
}
