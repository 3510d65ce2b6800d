//! `put`, `get` and `cat`.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::fixture::{Fixture, done};
use crate::tree::{bytes, plant, tree, unlock};

const LARGE: usize = 5 << 20;

#[test]
fn a_file_comes_back_as_it_went() {
    let at = Fixture::new();
    let data = bytes(1, LARGE + 17);
    fs::write(at.path("here"), &data).unwrap();
    fs::set_permissions(at.path("here"), Permissions::from_mode(0o751)).unwrap();
    // With donated descriptors, and over the socket.
    for channels in ["2", "0"] {
        let (here, back) = (at.path("here"), at.path("back"));
        let channels = ["--channels", channels];
        let put = [channels[0], channels[1], "put", here.to_str().unwrap(), "/"];
        assert_eq!(at.text(&put), "");
        assert!(fs::read(at.served("here")).unwrap() == data);
        assert_eq!(at.served("here").metadata().unwrap().mode() & 0o7022, 0);
        let get = [
            channels[0],
            channels[1],
            "get",
            "here",
            back.to_str().unwrap(),
        ];
        assert_eq!(at.text(&get), "");
        assert!(fs::read(&back).unwrap() == data);
        fs::remove_file(at.served("here")).unwrap();
        fs::remove_file(back).unwrap();
    }
}

#[test]
fn holes_stay_holes() {
    let at = Fixture::new();
    // Data in the middle, and a hole at either end; data at both ends; nothing but a hole.
    for (number, pieces) in [&[64 << 20][..], &[0, (1 << 30) - 5], &[]]
        .iter()
        .enumerate()
    {
        let name = number.to_string();
        let here = File::create(at.path(&name)).unwrap();
        for offset in *pieces {
            here.write_all_at(b"data", *offset).unwrap();
        }
        here.set_len((1 << 30) + 17).unwrap();
        at.text(&["put", at.path(&name).to_str().unwrap(), "there"]);
        let back = at.path("back");
        at.text(&["get", "there", back.to_str().unwrap()]);
        for copy in [at.served("there"), back] {
            let file = File::open(&copy).unwrap();
            for offset in *pieces {
                let mut data = [0; 6];
                file.read_exact_at(&mut data, *offset).unwrap();
                assert_eq!(&data, b"data\0\0", "{number}");
            }
            let stat = file.metadata().unwrap();
            assert_eq!(stat.len(), (1 << 30) + 17, "{number}");
            assert!(stat.blocks() <= 1 << 10, "{number}: {}", stat.blocks());
            fs::remove_file(copy).unwrap();
        }
    }
}

#[test]
fn a_file_goes_through_pipes_as_it_is() {
    let at = Fixture::new();
    let data = bytes(2, LARGE);
    fs::write(at.path("here"), &data).unwrap();
    let mut put = at.command(&["--json", "put", "-", "there"]);
    let sum = done(put.stdin(File::open(at.path("here")).unwrap()));
    let [sum] = &crate::fixture::objects(&sum.success())[..] else {
        unreachable!("one object is printed");
    };
    assert_eq!(
        *sum,
        json!({ "files": 1, "directories": 0, "others": 0, "bytes": LARGE })
    );
    assert!(fs::read(at.served("there")).unwrap() == data);
    let (pipe, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"piped").unwrap();
    drop(writer);
    let mut put = at.command(&["put", "-r", "/dev/stdin", "piped"]);
    done(put.stdin(pipe)).success();
    assert_eq!(fs::read(at.served("piped")).unwrap(), b"piped");
    for arguments in [&["cat", "there"][..], &["get", "there", "-"]] {
        assert!(at.run(arguments).success() == data);
    }
    assert!(at.run(&["cat", "there", "/there"]).success().len() == 2 * LARGE);
}

#[test]
fn a_tree_comes_back_as_it_went() {
    let at = Fixture::new();
    let here = at.path("here");
    plant(&here);
    let before = tree(&here);
    let [sum] = &at.json(&["put", "-r", here.to_str().unwrap(), "there"])[..] else {
        unreachable!("one object is printed");
    };
    assert_eq!(sum["files"], 302);
    assert_eq!(sum["directories"], 18);
    assert_eq!(sum["others"], 2);
    assert!(tree(&at.served("there")) == before);
    let back = at.path("back");
    at.text(&["get", "-r", "there", back.to_str().unwrap()]);
    assert!(tree(&back) == before);
    // Once more, into a directory that exists, and over what is there already.
    at.text(&["put", "-r", here.to_str().unwrap(), "/"]);
    at.text(&["put", "-r", here.to_str().unwrap(), "/"]);
    assert!(tree(&at.served("here")) == before);
    at.text(&["get", "-r", "there/", back.to_str().unwrap()]);
    assert!(tree(&back.join("there")) == before);
    unlock(&back);
    unlock(&back.join("there"));
    unlock(&here);
    for served in ["here", "there"] {
        unlock(&at.served(served));
        at.text(&["rm", "-r", served]);
    }
}

#[test]
fn what_is_replaced_keeps_its_mode_and_links_to_it() {
    let at = Fixture::new();
    fs::write(at.served("old"), "old").unwrap();
    fs::set_permissions(at.served("old"), Permissions::from_mode(0o640)).unwrap();
    symlink("old", at.served("link")).unwrap();
    fs::write(at.path("new"), "new").unwrap();
    let new = at.path("new");
    at.text(&["put", new.to_str().unwrap(), "link"]);
    assert!(at.served("link").is_symlink());
    assert_eq!(fs::read(at.served("old")).unwrap(), b"new");
    let mode = at.served("old").metadata().unwrap().mode();
    assert_eq!(mode & 0o7777, 0o640);
}

#[test]
fn set_id_bits_are_not_kept() {
    let at = Fixture::new();
    let here = at.path("here");
    fs::create_dir(&here).unwrap();
    fs::write(here.join("su"), "").unwrap();
    fs::set_permissions(here.join("su"), Permissions::from_mode(0o4755)).unwrap();
    at.text(&["put", "-r", here.to_str().unwrap(), "there"]);
    let mode = at.served("there/su").metadata().unwrap().mode();
    assert_eq!(mode & 0o7777, 0o755);
    fs::set_permissions(at.served("there/su"), Permissions::from_mode(0o6755)).unwrap();
    let mut put = at.command(&["put", "-", "there/su"]);
    done(put.stdin(File::open(here.join("su")).unwrap())).success();
    let mode = at.served("there/su").metadata().unwrap().mode();
    assert_eq!(mode & 0o7777, 0o755);
    fs::set_permissions(at.served("there/su"), Permissions::from_mode(0o6755)).unwrap();
    let back = at.path("back");
    at.text(&["get", "-r", "there", back.to_str().unwrap()]);
    assert_eq!(back.join("su").metadata().unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn files_of_other_types_are_named_and_left_out() {
    let at = Fixture::new();
    let here = at.path("here");
    fs::create_dir(&here).unwrap();
    fs::write(here.join("file"), "data").unwrap();
    make_fifo(&here.join("fifo"));
    let _socket = UnixListener::bind(here.join("socket")).unwrap();
    let put = at.run(&["put", "-r", here.to_str().unwrap(), "there"]);
    assert_eq!(put.code, Some(1));
    let mut lines: Vec<_> = put.err.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].ends_with("here/fifo: left out: it is a FIFO"));
    assert!(lines[1].ends_with("here/socket: left out: it is a socket"));
    assert_eq!(fs::read(at.served("there/file")).unwrap(), b"data");

    make_fifo(&at.served("there/fifo"));
    let back = at.path("back");
    at.text(&["get", "-r", "there", back.to_str().unwrap()]);
    assert!(back.join("fifo").metadata().unwrap().file_type().is_fifo());
}

/// A server could call a file twice by one name, first as a link that leads out.
#[test]
fn a_link_in_the_way_is_not_followed() {
    let at = Fixture::new();
    fs::create_dir_all(at.served("there/sub")).unwrap();
    fs::write(at.served("there/sub/file"), "data").unwrap();
    let (back, outside) = (at.path("back"), at.path("outside"));
    fs::create_dir_all(back.join("there")).unwrap();
    fs::create_dir(&outside).unwrap();
    symlink(&outside, back.join("there/sub")).unwrap();
    let get = at.run(&["get", "-r", "there", back.to_str().unwrap()]);
    get.says_no("lisafs: there/sub: Not a directory\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_directory_fits_into_itself() {
    let at = Fixture::new();
    fs::write(at.served("file"), "data").unwrap();
    at.text(&["put", "-r", at.root().to_str().unwrap(), "below"]);
    assert_eq!(at.text(&["ls", "-R", "below"]), "below:\nfile\n");
    at.text(&["get", "-r", "/", at.served("again").to_str().unwrap()]);
    assert_eq!(at.text(&["ls", "again"]), "below\nfile\n");
}

#[test]
fn the_directory_that_copies_go_to_is_not_copied() {
    let at = Fixture::new();
    fs::create_dir(at.served("sub")).unwrap();
    fs::write(at.served("sub/file"), "data").unwrap();
    let root = at.root();
    let root = root.to_str().unwrap();
    let left_out = "left out: this is where the copies go\n";
    at.run(&["put", "-r", root, "sub/put"])
        .says_no(&format!("lisafs: {root}/sub/put: {left_out}"));
    assert_eq!(at.text(&["ls", "sub/put/sub"]), "file\n");
    at.text(&["rm", "-r", "sub/put"]);
    let get = at.served("sub/get");
    at.run(&["get", "-r", "/", get.to_str().unwrap()])
        .says_no(&format!("lisafs: /sub/get: {left_out}"));
    assert_eq!(at.text(&["ls", "sub/get/sub"]), "file\n");
    // Not even onto itself, where each file would replace itself.
    let sub = at.served("sub");
    let sub = sub.to_str().unwrap();
    at.run(&["put", "-r", sub, "/"])
        .says_no(&format!("lisafs: /sub: {left_out}"));
    at.run(&["get", "-r", "sub", root])
        .says_no(&format!("lisafs: sub: {left_out}"));
}

#[test]
fn an_error_is_said_of_the_file_that_it_is_about() {
    let at = Fixture::new();
    fs::create_dir(at.served("dir")).unwrap();
    fs::write(at.served("file"), "data").unwrap();
    for name in ["plain", "dir/.keep"] {
        fs::create_dir_all(at.path("dir")).unwrap();
        fs::write(at.path(name), "").unwrap();
    }
    symlink("nowhere", at.path("dangling")).unwrap();
    let path = |name: &str| at.path(name).to_str().unwrap().to_owned();
    let missing = "No such file or directory";
    for (remote, local, message) in [
        ("file", "missing/x", missing),
        ("file", "new/", missing),
        ("file", "dangling", missing),
        ("file", "plain/x", "Not a directory"),
        ("dir", "plain", "Not a directory"),
        ("dir", "missing/x", missing),
    ] {
        let local = path(local);
        at.run(&["get", "-r", remote, &local])
            .says_no(&format!("lisafs: {local}: {message}\n"));
    }
    assert!(!at.path("nowhere").exists());
    for (local, remote, message) in [
        ("plain", "missing/x", missing),
        ("plain", "missing/..", missing),
        ("plain", "file/x", "Not a directory"),
        ("dir", "file", "Not a directory"),
        ("dir", "missing/x", missing),
    ] {
        let put = at.run(&["put", "-r", &path(local), remote]);
        assert_eq!(put.code, Some(1));
        assert!(
            put.err.ends_with(&format!("{remote}: {message}\n")),
            "{}",
            put.err
        );
    }
    at.run(&["get", "-r", "dir", "-"])
        .says_no("lisafs: dir: Is a directory: it goes to a directory, not to stdout\n");
}

#[test]
fn what_cannot_be_copied_is_said() {
    let at = Fixture::new();
    fs::create_dir(at.served("dir")).unwrap();
    fs::write(at.path("file"), "data").unwrap();
    let (file, here) = (at.path("file"), at.path(""));
    let (file, here) = (file.to_str().unwrap(), here.to_str().unwrap());
    at.run(&["get", "dir"])
        .says_no("lisafs: dir: Is a directory: use -r\n");
    at.run(&["cat", "dir"])
        .says_no("lisafs: dir: Is a directory\n");
    at.run(&["put", here, "dir"])
        .says_no(&format!("lisafs: {here}: Is a directory: use -r\n"));
    at.run(&["get", "missing"])
        .says_no("lisafs: missing: No such file or directory\n");
    at.run(&["put", "/missing", "x"])
        .says_no("lisafs: /missing: No such file or directory\n");
    at.run(&["put", file, "no/x"])
        .says_no("lisafs: no/x: No such file or directory\n");
    at.run(&["put", file, "new/"])
        .says_no("lisafs: new/: No such file or directory\n");
    at.run(&["put", "-", "dir"])
        .says_no("lisafs: dir: Is a directory\n");
    assert_eq!(fs::read_dir(at.root()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(at.served("dir")).unwrap().count(), 0);
}

fn make_fifo(path: &std::path::Path) {
    let made = Command::new("mkfifo")
        .arg(path)
        .stdin(Stdio::null())
        .status();
    assert!(made.unwrap().success());
}
