//! `ls`, `stat` and `info`.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use serde_json::json;

use crate::fixture::Fixture;
use crate::tree::plant;

fn populated() -> Fixture {
    let at = Fixture::new();
    fs::create_dir(at.served("dir")).unwrap();
    fs::write(at.served("dir/inner"), "123").unwrap();
    fs::write(at.served("file"), "12345").unwrap();
    fs::write(at.served(".hidden"), "").unwrap();
    symlink("dir/inner", at.served("link")).unwrap();
    symlink("dir", at.served("dirlink")).unwrap();
    at
}

#[test]
fn names_are_listed_in_order() {
    let at = populated();
    assert_eq!(at.text(&["ls"]), "dir\ndirlink\nfile\nlink\n");
    assert_eq!(
        at.text(&["ls", "-a", "/"]),
        ".hidden\ndir\ndirlink\nfile\nlink\n"
    );
    assert_eq!(at.text(&["ls", "dir"]), "inner\n");
    assert_eq!(at.text(&["ls", "dirlink"]), "inner\n");
    assert_eq!(at.text(&["ls", "file", "dir"]), "file\n\ndir:\ninner\n");
    assert_eq!(
        at.text(&["ls", "-R"]),
        ".:\ndir\ndirlink\nfile\nlink\n\n./dir:\ninner\n"
    );
    assert_eq!(at.text(&["ls", "../.."]), at.text(&["ls"]));
}

#[test]
fn attributes_are_listed_as_ls_lists_them() {
    let at = populated();
    fs::set_permissions(at.served("file"), Permissions::from_mode(0o4710)).unwrap();
    let text = at.text(&["ls", "-l"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 5);
    assert!(lines[0].starts_with("total "));
    assert!(lines[1].starts_with("drwx"), "{}", lines[1]);
    assert!(lines[3].starts_with("-rws--x--- 1 "), "{}", lines[3]);
    assert!(lines[3].ends_with(" +0000 file"), "{}", lines[3]);
    assert!(lines[4].starts_with("lrwxrwxrwx 1 "), "{}", lines[4]);
    assert!(lines[4].ends_with(" link -> dir/inner"), "{}", lines[4]);
    // The columns are as wide as the widest, so that all names are in one.
    let column = |line: &str| line.find(" +0000 ");
    assert!(
        lines[1..]
            .iter()
            .all(|line| column(line) == column(lines[1]))
    );
    // Of a link on the command line, the link.
    assert!(
        at.text(&["ls", "-l", "dirlink"])
            .ends_with("dirlink -> dir\n")
    );
}

#[test]
fn a_tree_is_listed_as_the_host_has_it() {
    let at = Fixture::new();
    plant(&at.served("tree"));
    let mut listed = 0;
    for object in at.json(&["ls", "-laR", "."]) {
        listed += 1;
        let path = match object["path_hex"].as_str() {
            Some(hex) => {
                let digits = (0..hex.len()).step_by(2);
                digits
                    .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                    .collect()
            }
            None => object["path"].as_str().unwrap().as_bytes().to_vec(),
        };
        let path = at.served(OsStr::from_bytes(&path));
        let found = fs::symlink_metadata(&path).unwrap();
        let file_type = match found.file_type() {
            kind if kind.is_file() => "file",
            kind if kind.is_dir() => "directory",
            _ => "symlink",
        };
        assert_eq!(object["type"], file_type);
        assert_eq!(object["mode"], format!("{:04o}", found.mode() & 0o7777));
        assert_eq!(object["nlink"], found.nlink());
        assert_eq!(object["uid"], found.uid());
        assert_eq!(object["gid"], found.gid());
        assert_eq!(object["size"], found.len());
        assert_eq!(object["ino"], found.ino());
        let mtime = json!({ "sec": found.mtime(), "nsec": found.mtime_nsec() });
        assert_eq!(object["mtime"], mtime);
        if file_type == "symlink" {
            let target = fs::read_link(&path).unwrap();
            assert_eq!(object["target"], target.to_str().unwrap());
        }
    }
    // The tree, and what is in it.
    assert_eq!(listed, 302 + 18 + 2);
    crate::tree::unlock(&at.served("tree"));
}

#[test]
fn odd_names_have_a_form_for_programs_and_are_themselves_in_pipes() {
    let at = Fixture::new();
    let odd = OsStr::from_bytes(b"\xff\n");
    fs::write(at.served(odd), "data").unwrap();
    fs::write(at.served("größe\u{1b}"), "").unwrap();
    let objects = at.json(&["ls"]);
    assert_eq!(objects[0]["name"], "größe\u{1b}");
    assert_eq!(objects[1]["name_hex"], "ff0a");
    assert_eq!(objects[1]["path_hex"], "2e2fff0a");
    assert_eq!(objects[1].get("name"), None);
    let text = at.run(&["ls"]).success();
    assert_eq!(text, b"gr\xc3\xb6\xc3\x9fe\x1b\n\xff\n\n");
    assert_eq!(at.run(&[OsStr::new("cat"), odd]).success(), b"data");
    // Messages go to people.
    let missing = OsStr::from_bytes(b"\xfe\x1b[2J");
    at.run(&[OsStr::new("cat"), missing])
        .says_no("lisafs: \\xfe\\x1b[2J: No such file or directory\n");
}

#[test]
fn attributes_are_shown_of_links_or_of_what_they_lead_to() {
    let at = populated();
    let stat = |arguments: &[&str]| at.json(arguments).remove(0);
    assert_eq!(stat(&["stat", "link"])["type"], "symlink");
    let followed = stat(&["stat", "-L", "link"]);
    let inner = at.served("dir/inner").metadata().unwrap();
    assert_eq!(followed["type"], "file");
    assert_eq!(followed["ino"], inner.ino());
    assert_eq!(followed["size"], 3);
    let text = at.text(&["stat", "file"]);
    assert!(text.contains("    size: 5 bytes"), "{text}");
    let some = at.run(&["stat", "missing", "file"]);
    assert_eq!(some.code, Some(1));
    assert!(!some.out.is_empty(), "the other file was forgotten");
}

#[test]
fn what_the_server_can_do_is_shown() {
    let at = Fixture::new();
    let info = at.json(&["info"]).remove(0);
    assert_eq!(info["max_message_size"], (2 << 20) - 4096);
    assert_eq!(info["channels"], 1);
    assert_eq!(info["root"]["type"], "directory");
    let messages = info["messages"].as_array().unwrap();
    assert!(messages.contains(&"RenameAt2".into()));
    assert!(!messages.contains(&"Flush".into()));
    assert_eq!(at.json(&["--channels", "0", "info"])[0]["channels"], 0);
    let text = at.text(&["info"]);
    assert!(text.contains("message limit: 2093056 bytes"), "{text}");
}

/// Deeper than a path can be long.
#[test]
fn depth_is_no_obstacle() {
    const LEVELS: usize = 120;
    let at = Fixture::new();
    let name = "d".repeat(50);
    let mut path = String::new();
    for _ in 0..LEVELS {
        at_depth(&at, &mut path, &name);
    }
    let listed = at.json(&["ls", "-R", "."]);
    assert_eq!(listed.len(), LEVELS);
    let deepest = listed.last().unwrap()["path"].as_str().unwrap();
    assert!(deepest.len() > 4096);
    let back = at.path("back");
    at.text(&["get", "-r", "/", back.to_str().unwrap()]);
    at.text(&["put", "-r", back.to_str().unwrap(), "/copy"]);
    assert_eq!(at.json(&["ls", "-R", "copy"]).len(), LEVELS);
    fs::remove_dir_all(back).unwrap();
    at.text(&["rm", "-r", &name, "copy"]);
    assert_eq!(at.text(&["ls", "-a"]), "");
}

fn at_depth(at: &Fixture, path: &mut String, name: &str) {
    path.push('/');
    path.push_str(name);
    if path.len() < 3000 {
        fs::create_dir(at.served(&path[1..])).unwrap();
    } else {
        at.text(&["mkdir", path.as_str()]);
    }
}
