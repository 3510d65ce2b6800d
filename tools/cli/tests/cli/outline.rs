//! `tree`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::fixture::Fixture;

fn populated() -> Fixture {
    let at = Fixture::new();
    fs::create_dir_all(at.served("a/b/c")).unwrap();
    fs::create_dir(at.served("z")).unwrap();
    fs::write(at.served("a/file"), "").unwrap();
    fs::write(at.served("a/.hidden"), "").unwrap();
    symlink("a/b", at.served("link")).unwrap();
    fs::write(at.served("z/last"), "").unwrap();
    at
}

#[test]
fn a_tree_is_drawn() {
    let at = populated();
    let whole = "\
.
├── a
│   ├── b
│   │   └── c
│   └── file
├── link -> a/b
└── z
    └── last

4 directories, 3 files
";
    assert_eq!(at.text(&["tree"]), whole);
    assert_eq!(at.text(&["tree", "-L", "9"]), whole);
    let flat = ".\n├── a\n├── link -> a/b\n└── z\n\n2 directories, 1 file\n";
    assert_eq!(at.text(&["tree", "-L", "1"]), flat);
    let dirs = "a\n└── b\n    └── c\n\n2 directories\n";
    assert_eq!(at.text(&["tree", "-d", "a"]), dirs);
    assert!(at.text(&["tree", "-a"]).contains("│   ├── .hidden\n"));
    // What is named is followed, and not counted.
    assert_eq!(
        at.text(&["tree", "link"]),
        "link\n└── c\n\n1 directory, 0 files\n"
    );
    assert_eq!(
        at.text(&["tree", "a/file"]),
        "a/file\n\n0 directories, 0 files\n"
    );
}

#[test]
fn a_tree_has_a_form_for_programs() {
    let at = populated();
    let objects = at.json(&["tree", "."]);
    assert_eq!(objects.len(), 8);
    assert_eq!(
        objects[2],
        json!({ "path": "./a/b/c", "name": "c", "type": "directory", "depth": 3 })
    );
    assert_eq!(
        objects[4],
        json!({
            "path": "./link", "name": "link", "type": "symlink", "depth": 1, "target": "a/b",
        })
    );
    assert_eq!(objects[7], json!({ "directories": 4, "files": 3 }));
    let odd = OsStr::from_bytes(b"z/\xff\n");
    fs::write(at.served(odd), "").unwrap();
    let objects = at.json(&["tree", "z"]);
    assert_eq!(objects[1]["name_hex"], "ff0a");
    assert_eq!(objects[1]["path_hex"], "7a2fff0a");
}

#[test]
fn what_is_missing_is_said_and_the_rest_is_drawn() {
    let at = populated();
    let done = at.run(&["tree", "missing", "z"]);
    assert_eq!(done.code, Some(1));
    assert_eq!(done.err, "lisafs: missing: No such file or directory\n");
    let drawn = "z\n└── last\n\n0 directories, 1 file\n";
    assert_eq!(String::from_utf8(done.out).unwrap(), drawn);
}
